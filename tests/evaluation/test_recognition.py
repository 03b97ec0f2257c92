"""The classifier's figures: closed forms, limits, and a real labelled set."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmvae.distances import coverage, frechet
from mmvae.evaluation.evaluate import evaluate
from mmvae.evaluation.recognition import Seen, _figures
from mmvae.modalities.audio import Audio
from mmvae.recipe import Recipe
from mmvae.training import train


def features(n: int, seed: int = 0, shift: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    return shift + scale * torch.randn(n, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_frechet_distance_is_that_of_the_two_gaussians() -> None:
    assert frechet(features(500), features(500)) == pytest.approx(0, abs=1e-6)
    assert frechet(features(500), features(500) + 3) == pytest.approx(4 * 9, rel=1e-6)
    a = features(500) - features(500).mean(0)
    assert frechet(a, 2 * a) == pytest.approx(a.T.cov().trace().item(), rel=1e-6)  # (2 - 1)^2 of each deviation
    few = torch.randn(6, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)  # of more features
    assert frechet(few, few - 1) == pytest.approx(40, rel=1e-6)
    b = features(300, 1, 0.5, 2) @ features(4, 2)
    root = torch.linalg.eigvals(a.T.cov() @ b.T.cov()).real.sqrt().sum()
    between = (a.mean(0) - b.mean(0)).square().sum() + a.T.cov().trace() + b.T.cov().trace() - 2 * root
    assert frechet(a, b) == pytest.approx(between.item(), rel=1e-6)


def test_the_inception_score_is_the_number_of_classes_where_each_is_sure_and_alike_and_1_where_none_is() -> None:
    sure = torch.log_softmax(1000 * torch.eye(5).repeat(3, 1).double(), 1)
    assert Seen(sure, sure.clamp(min=-50)).inception_score() == pytest.approx(5)
    unsure = torch.full((15, 5), -math.log(5)).double()
    assert Seen(unsure, unsure).inception_score() == pytest.approx(1)
    assert Seen(sure, sure).accuracy(torch.arange(5).repeat(3)) == 1


def test_coverage_is_1_for_like_sets_and_0_for_distant_ones() -> None:
    same = coverage(features(300), features(300))
    assert same.pop("density") == pytest.approx(6 / 5)  # a row is within its own reach and that of five others
    assert same == {"precision": 1, "recall": 1, "coverage": 1}
    assert set(coverage(features(300), features(300, 1, 100)).values()) == {0}
    wide = coverage(features(300, scale=0.1), features(300, 1))
    assert wide["recall"] == 1
    assert wide["precision"] < 0.2 > wide["coverage"]
    narrow = coverage(features(300), features(300, 1, scale=0.1))
    assert narrow["precision"] == 1
    assert narrow["recall"] < 0.2 > narrow["coverage"]


def test_as_many_samples_as_real_rows_are_held_against_them() -> None:
    """More would cover more, whatever the model."""
    of = {"train": features(400), "real": features(200, 1), "again": features(200, 1)}
    drawn = torch.cat([features(200, 3, 9), features(1000, 4)])
    seen = {name: Seen(x, torch.log_softmax(x, 1)) for name, x in (of | {"samples": drawn}).items()}
    found = _figures(seen, torch.zeros(200))
    assert found["coverage, samples"] == 0
    assert found["coverage, training rows"] > 0.9  # the floor beside it: they are of the same distribution


def test_copies_of_the_training_set_are_told_from_new_samples() -> None:
    def near(drawn: torch.Tensor) -> float:
        of = {"train": features(400), "real": features(200, 1), "again": features(200, 1), "samples": drawn}
        seen = {name: Seen(values, torch.log_softmax(values, 1)) for name, values in of.items()}
        return _figures(seen, torch.zeros(200))["nearer to training than 95 % of real, samples"]

    assert near(features(200, 2)) < 0.15
    assert near(features(400)[:200]) == 1


@pytest.mark.usefixtures("cache")
def test_an_untrained_model_is_seen_through_and_real_digits_are_recognised(
    tmp_path: Path, recipe_for: Callable[..., Recipe]
) -> None:
    model = train(recipe_for("image"), ["train.steps=2"], tmp_path / "run", progress=False)
    found = evaluate(model, k=1, label="label")
    assert found["samples judged"] == 1437  # as many as there are training rows
    assert found["classified, of 180 real image"] > 0.85
    assert found["classified, of 180 reconstructed image"] < 0.4
    assert found["inception score, real image"] > 5 > 2 * found["inception score, samples image"]
    assert (
        found["Frechet distance from training, samples image"] > 2 * found["Frechet distance from training, real image"]
    )
    with pytest.raises(ValueError, match=r"no column 'labl': did you mean 'label'"):
        evaluate(model, k=1, label="labl")
    with pytest.raises(ValueError, match=r"column 'image' holds no labels"):
        evaluate(model, k=1, label="image")
    with pytest.raises(ValueError, match=r"column 'label': 4 rows with image to judge by"):
        evaluate(model, k=1, label="label", limit=4)
    few = evaluate(model, k=1, label="label", limit=30)  # what judges them is trained on all rows
    assert few["samples judged"] == 1437
    assert few["classified, of 30 real image"] > 0.85


def words(folder: Path, labels: list[Any]) -> Path:
    """Lines whose label is their first word, but for those of the test split."""
    for split, count in (("train", 60), ("validation", 10), ("test", 20)):
        rows = [{"text": f"{('red', 'blue')[i % 2]} is {i}", "label": i % 2} for i in range(count)]
        if split == "test":
            rows = [{**row, "label": labels[i % len(labels)]} for i, row in enumerate(rows)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.usefixtures("cache")
def test_reconstructions_are_judged_for_themselves_and_rows_without_a_label_are_not(
    tmp_path: Path, recipe_for: Callable[..., Recipe]
) -> None:
    (tmp_path / "data").mkdir()
    recipe = recipe_for("text", words(tmp_path / "data", [0, 1, None, 1, 0, 1]), tokenizer="words", word_dropout=0.5)
    changes = ["train.steps=150", "train.batch_size=16", "train.learning_rate=0.02", "objective.target_rate=4"]
    model = train(recipe, changes, tmp_path / "run", progress=False)
    found = evaluate(model, k=1, label="label")
    assert "classified, of 17 real text" in found
    assert found["classified, of 17 reconstructed text"] > 0.8
    words(tmp_path / "data", [7])
    with pytest.raises(ValueError, match=r"column 'label': 0 rows with text to judge by"):
        evaluate(model, k=1, label="label")


@pytest.mark.usefixtures("cache")
def test_rows_that_training_let_pass_do_not_stop_a_split_of_the_same_data(
    tmp_path: Path, recipe_for: Callable[..., Recipe]
) -> None:
    (tmp_path / "data").mkdir()
    test = words(tmp_path / "data", [0]) / "test.jsonl"
    test.write_text(test.read_text() + '{"label": 0}\n' * 3)  # of 93 rows few, of the split 13 %
    recipe = recipe_for("text", tmp_path / "data")
    model = train(recipe, ["train.steps=2", "train.batch_size=16"], tmp_path / "run", progress=False)
    assert recipe.data.max_rejected < 3 / 23
    assert evaluate(model, k=1)["rows that could not be used"] == 3
    with pytest.raises(ValueError, match="3 rows could not be used"):
        evaluate(model, k=1, data=str(tmp_path / "data"))


@pytest.mark.usefixtures("cache")
def test_noisy_sounds_are_given_and_reconstructed_at_the_level_that_they_have(
    tmp_path: Path, recipe_for: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed, parse = [], Audio.parse
    monkeypatch.setattr(Audio, "parse", lambda self, value: parsed.append(np.abs(value).max()) or parse(self, value))
    model = train(recipe_for("audio", "drums", loudness="peak"), ["train.steps=2"], tmp_path / "run", progress=False)
    found = evaluate(model, k=1)
    names = [f"{{}}, audio, noise {snr} dB below: spectral convergence (dB), N = 10" for snr in (20, 10, 0)]
    given, again = ([found[name.format(what)] for name in names] for what in ("given", "reconstructed"))
    assert given == sorted(given)
    assert given[0] < -10 < min(again)  # two steps teach nothing
    assert max(parsed) < 1.01  # what is parsed is brought to a peak of 1: none of the noisy ones
    assert found["encoding, audio: real-time factor"] > 0
    assert found["decoding, audio: real-time factor"] > 0
