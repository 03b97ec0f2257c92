"""Disentanglement: codes that are the factors, mixtures of them, or neither; and a set whose factors are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmvae.data.generated import shapes
from mmvae.evaluation.disentanglement import disentanglement
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
