"""Disentanglement: codes that are the factors, mixtures of them, or neither; and a set whose factors are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from mmvae.data.generated import shapes
from mmvae.data.prepare import Split
from mmvae.data.rows import Rows
from mmvae.evaluation.disentanglement import disentanglement, find_factors
from mmvae.evaluation.evaluate import evaluate
from mmvae.recipe import Recipe
from mmvae.training import train

N = 2000
RANDOM = np.random.default_rng(0)
X, Y = RANDOM.integers(0, 10, N), RANDOM.integers(0, 10, N)
KIND = RANDOM.choice(["red", "green", "blue"], N)
FACTORS = {"x": X, "y": 0.5 * Y, "kind": KIND}
OWN = np.stack([X, -2.0 * Y, np.unique(KIND, return_inverse=True)[1]], 1).astype(float)


def test_factors_themselves_score_1() -> None:
    found = disentanglement(OWN, FACTORS)
    assert all(value > 0.98 for value in found.values()), found


def test_another_order_sign_or_scale_of_the_dimensions_changes_nothing() -> None:
    other = disentanglement(OWN[:, ::-1] * [-3.0, 0.01, 100.0], FACTORS)
    assert other == pytest.approx(disentanglement(OWN, FACTORS), abs=0.02)


def test_every_factor_twice_has_no_gap_but_is_disentangled() -> None:
    found = disentanglement(np.concatenate([OWN, OWN], 1), FACTORS)
    assert found["MIG"] == pytest.approx(0, abs=1e-9)
    assert found["SAP"] == pytest.approx(0, abs=1e-9)
    assert found["DCI disentanglement"] > 0.98
    assert found["DCI completeness"] < 0.75


def test_dimensions_that_mix_two_factors_are_entangled_though_they_tell_all() -> None:
    mixed = np.stack([X + Y, X - Y], 1) + 0.01 * RANDOM.normal(size=(N, 2))
    found = disentanglement(mixed, {"x": X, "y": Y})
    assert found["MIG"] < 0.05 > found["SAP"]
    assert found["DCI disentanglement"] < 0.1
    assert found["DCI informativeness"] > 0.95


def test_a_collapsed_model_has_nothing() -> None:
    assert set(disentanglement(np.zeros((N, 3)), FACTORS).values()) == {0.0}


def test_noise_says_nothing() -> None:
    found = disentanglement(RANDOM.normal(size=(N, 3)), FACTORS)
    assert found["MIG"] < 0.02 > found["SAP"]
    assert found["DCI informativeness"] < 0.05


def test_the_shapes_are_all_combinations_of_their_factors_and_all_differ() -> None:
    cells = shapes()
    names = ("shape", "size", "angle", "x", "y")
    assert len({tuple(cell[name] for name in names) for cell in cells}) == len(cells) == 3 * 4 * 8 * 8 * 8
    assert len({cell["image"].tobytes() for cell in cells}) == len(cells)
    assert not any(cell["image"][[0, -1]].any() or cell["image"][:, [0, -1]].any() for cell in cells)  # none is cut
    for cell in cells[:: len(cells) // 50]:  # they are where they are said to be
        rows, columns = np.nonzero(cell["image"] > 127)
        assert abs(columns.mean() + 0.5 - cell["x"]) < 1
        assert abs(rows.mean() + 0.5 - cell["y"]) < 1


@pytest.mark.usefixtures("cache")
def test_evaluate_holds_dimensions_to_the_factors_named(tmp_path: Path, recipe_for: Callable[..., Recipe]) -> None:
    changes = ["train.steps=2", "data.path=shapes", "data.limit=600"]
    model = train(recipe_for("image"), changes, tmp_path / "run", progress=False)
    found = evaluate(model, k=1, factors=["shape", "x"])
    assert 0 <= found["MIG"] < 0.5
    assert found["DCI informativeness"] > 0.2  # rows and factors stand in the same order
    for columns, said in ((["shap"], "did you mean 'shape'"), (["image"], "holds no labels")):
        with pytest.raises(ValueError, match=said):
            evaluate(model, k=1, factors=columns)


def test_rows_that_lack_a_factor_are_left_out_and_counted(tmp_path: Path, recipe_for: Callable[..., Recipe]) -> None:
    for name, cut in (("few", 150), ("many", 40)):
        rows = [
            {"text": f"word {i % 7} {i % 5}", "seven": i % 7, "five": i % 5 if i > cut else None, "six": i % 6}
            for i in range(180)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model = train(
        recipe_for("text", tmp_path / "many.jsonl"),
        ["train.steps=2", "train.threads=1"],
        tmp_path / "run",
        progress=False,
    )
    found = evaluate(model, k=1, data=str(tmp_path / "many.jsonl"), factors=["seven", "five"])
    assert found["rows that lack a factor, left out of MIG, SAP and DCI"] == 41
    assert 0 <= found["MIG"] <= 1
    assert "rows that lack a factor, left out of MIG, SAP and DCI" not in evaluate(
        model, k=1, data=str(tmp_path / "many.jsonl"), factors=["seven", "six"]
    )
    with pytest.raises(ValueError, match=r"180 rows, of which 151 lack 'five': it takes 50 that have all factors"):
        evaluate(model, k=1, data=str(tmp_path / "few.jsonl"), factors=["seven", "five"])


def test_the_rows_left_out_are_those_that_lack_one(tmp_path: Path) -> None:
    cells = [{"a": i, "b": None if i % 3 == 0 else str(i % 2)} for i in range(90)]
    rows = Rows(cells, ("a", "b"), "x").select(range(90))
    known, whole = find_factors(Split(cast(Any, None), rows, list(range(90)), {}, {}), ["a", "b"])
    assert whole.tolist() == [i % 3 > 0 for i in range(90)]
    assert known["a"].tolist() == [i for i in range(90) if i % 3]


def test_a_factor_that_is_no_finite_number_is_lacking(tmp_path: Path) -> None:
    """Tables of text hold their numbers as words: "nan" is none, "1" and "1.0" are the same."""
    words = [{"a": "nan" if i % 3 == 0 else str(i % 2), "b": "1" if i % 2 else "1.0"} for i in range(90)]
    split = Split(cast(Any, None), Rows(words, ("a", "b"), "x").select(range(90)), list(range(90)), {}, {})
    known, whole = find_factors(split, ["a"])
    assert whole.tolist() == [i % 3 > 0 for i in range(90)]
    assert set(known["a"].tolist()) == {0.0, 1.0}
    with pytest.raises(ValueError, match=r"column 'b': a factor .* differs from row to row"):
        find_factors(split, ["b"])
