"""Priors fitted to a trained model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import mmvae
from mmvae.core.fitted import FittedMixture, FittedTree
from mmvae.core.learned_priors import Flow
from mmvae.fitting import refit
from mmvae.generation import VAE
from mmvae.progress import Display
from mmvae.training import train


@pytest.mark.usefixtures("cache")
def test_the_prior_of_a_trained_model_is_fitted_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    model = train(
        "image/digits",
        ["prior.fitted=2", "train.steps=4", "train.batch_size=32", "data.limit=200", "latent.dim=4"],
        folder,
        progress=False,
    )
    assert isinstance(model.fitted, FittedMixture)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    for settings, kind in (("flow", Flow), ("3", FittedMixture), ("0", type(None))):
        refit(folder, [f"prior.fitted={settings}"], Display(False))
        again = VAE.load(folder)
        assert type(again.fitted) is kind
        assert str(again.recipe.prior["fitted"]) == settings
        assert all(torch.equal(value, before[name]) for name, value in again.network.state_dict().items())
        assert len(again.generate(2)["image"]) == 2
    (folder / "evaluation-test.json").write_text("{}")
    refit(folder, ["prior.fitted=0"], Display(True))
    with pytest.raises(ValueError, match=r"fits no prior: say which, such as prior\.fitted=20"):
        refit(folder, [], Display(False))
    assert "measured with the prior before: evaluation-test.json" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"no fitted prior: mmvae fit-prior .*run prior\.fitted=10"):
        VAE.load(folder).generate(1, prior="fitted")
    with pytest.raises(ValueError, match=r"only prior\.fitted and prior\.sequence"):
        refit(folder, ["latent.dim=3"], Display(False))


@pytest.mark.usefixtures("cache")
def test_what_modalities_have_of_their_own_is_fitted_given_what_they_share(tmp_path: Path) -> None:
    few = ["train.steps=2", "train.batch_size=16", "data.limit=40", "data.variants=0", "prior.fitted=3"]
    model = train("joint/emoji", [*few, "modalities.italian.private=4"], tmp_path / "run", progress=False)
    assert isinstance(model.fitted, FittedTree)
    sizes = {"image": model.recipe.modalities["image"]["private"], "italian": 4}
    shared = model.network.latent.dim - sum(sizes.values())
    assert model.fitted.own == list(sizes.values())
    for (_, own), name in zip(model.fitted.parts(), sizes, strict=True):
        ours = model.network.latent.seen_by(name, torch.ones(model.network.latent.dim))
        assert ours[own].all()
        assert ours.sum() == shared + sizes[name]
    again = VAE.load(tmp_path / "run")
    z = torch.randn(5, model.network.latent.dim)
    assert torch.equal(again.prior().log_prob(z), model.prior().log_prob(z))
    words = {"text": ["red heart", "a dog"]}
    for name in ("image", "italian"):
        made = [each.translate(words, [name], n=2)[name] for each in (model, again)]
        assert all(np.array_equal(a, b) for a, b in zip(*made, strict=True))
    model.fitted = FittedTree(FittedMixture(3, 1), [FittedMixture(5, 1)])
    model.save_weights()
    with pytest.raises(
        ValueError, match=r"does not fit the recipe in .*its fitted prior is of 5 dimensions, latent\.dim"
    ):
        VAE.load(tmp_path / "run")


@pytest.mark.usefixtures("cache")
def test_a_model_that_knows_no_rows_of_its_data_is_fitted_too(tmp_path: Path) -> None:
    small = ["prior.fitted=2", "train.steps=2", "train.batch_size=32", "data.limit=200", "latent.dim=4"]
    train("image/digits", small, tmp_path / "run", progress=False).save(tmp_path / "copy")
    refit(tmp_path / "copy", ["prior.fitted=flow"], Display(False))
    assert isinstance(VAE.load(tmp_path / "copy").fitted, Flow)


@pytest.mark.usefixtures("cache")
def test_a_prior_fitted_to_few_rows_has_not_seen_the_noise_that_figures_are_drawn_with(tmp_path: Path) -> None:
    settings = ["prior.fitted=1", "train.steps=6", "train.batch_size=8", "data.limit=8", "latent.dim=24"]
    model = train("image/digits", settings, tmp_path / "run", progress=False)
    worth = []  # of the fitted prior, in nats: a posterior that says little is drawn all over N(0, I)
    for seed in range(4):
        figures = mmvae.evaluate(model, k=2, seed=seed)
        plain, fitted = (
            figures[f"{name}, k = 2 (nats)"] for name in ("NLL, importance-weighted", "NLL under the fitted prior")
        )
        worth.append(plain - fitted)
    assert worth[0] < max(worth[1:]) + 3


@pytest.mark.usefixtures("cache")
def test_varied_copies_are_no_more_rows_to_a_fitted_prior(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = ["train.steps=2", "train.batch_size=16", "data.limit=70", "data.variants=2", "prior.fitted=9"]
    monkeypatch.setattr("mmvae.fitting.ROWS", 64)  # draws of some rows and copies
    model = train("joint/emoji", few, tmp_path / "run", progress=False)
    assert isinstance(model.fitted, FittedTree)
    assert isinstance(model.fitted.trunk, FittedMixture)
    assert len(model.fitted.trunk.weights) == 64 // 16
