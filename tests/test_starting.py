"""Training that starts from a trained model: its weights and statistics, and what it says where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mmvae.data.prepare import prepare
from mmvae.generation import VAE
from mmvae.progress import Display
from mmvae.recipe import Recipe
from mmvae.resume import FILE, Interrupted
from mmvae.starting import started_modalities
from mmvae.training import Run, train
from tests.test_training import equal, recipe, stop_after

SMALL = [
    *("modalities.text.embedding=8", "modalities.text.hidden=8", "modalities.text.tokenizer=words"),
    *("latent.dim=4", "train.steps=6", "train.evaluate_every=3", "train.threads=1", "prior.fitted=0"),
]


def lines(path: Path, words: list[str], *overrides: str) -> Recipe:
    """A small recipe of text over a file that says each of some words thirty times."""
    path.write_text("\n".join(f"the {word} and the {word}" for word in words for _ in range(30)), encoding="utf-8")
    table = {"name": "words", "data": {"path": str(path)}, "modalities": {"text": {"frequent": 0}}}
    return Recipe.load(table, [*SMALL, *overrides])


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of digits, trained for a few steps."""
    folder = tmp_path_factory.mktemp("first") / "run"
    train(recipe(), out=folder, progress=False)
    return folder


def test_it_begins_with_the_weights_that_were_saved(first: Path, tmp_path: Path) -> None:
    run = Run(recipe(f"train.start={first}", "train.seed=7"), tmp_path / "run", False, Display(False))
    saved = VAE.load(first, "cpu").network.state_dict()
    for network in (run.network, run.averaged):
        assert all(torch.equal(value, saved[name]) for name, value in network.state_dict().items())
    assert not run.optimizer.state


def test_a_run_that_was_started_from_another_resumes_to_the_same_bits(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = tmp_path / "start"
    start.symlink_to(first)
    further = recipe(f"train.start={start}", "train.steps=12", "train.evaluate_every=3")
    train(further, out=tmp_path / "whole", progress=False)
    with monkeypatch.context() as patched:
        stop_after(patched, 5)
        with pytest.raises(Interrupted):
            train(further, out=tmp_path / "run", progress=False)
    start.unlink()  # a run holds all that it needs
    train(further, out=tmp_path / "run", resume=True, progress=False)
    assert equal(tmp_path / "run" / FILE, tmp_path / "whole" / FILE)


def test_on_other_data_words_keep_their_numbers(tmp_path: Path) -> None:
    before = lines(tmp_path / "first.txt", ["cat", "dog", "owl"])
    train(before, out=tmp_path / "first", progress=False)
    after = lines(tmp_path / "second.txt", ["owl", "emu"], f"train.start={tmp_path / 'first'}")
    vae = train(after, out=tmp_path / "second", progress=False)
    states = [json.loads((tmp_path / run / "text.json").read_text()) for run in ("first", "second")]
    assert states[0] == states[1]
    assert "emu" not in json.dumps(states[1])
    assert len(vae.generate(3)["text"]) == 3


@pytest.mark.usefixtures("cache")
def test_the_data_of_a_started_run_are_varied_as_any(first: Path) -> None:
    varied = recipe(f"train.start={first}", "data.variants=2")
    rows = {split: len(part) for split, part in prepare(varied, started_modalities(varied)).splits.items()}
    once = {split: len(part) for split, part in prepare(recipe()).splits.items()}
    assert rows == {**once, "train": 3 * once["train"]}


def test_what_a_training_prepared_is_not_prepared_again_for_its_model(cache: Path) -> None:
    prepared = prepare(recipe("data.variants=1"))
    again = prepare(recipe("data.variants=1"), prepared.modalities)
    assert len(list(cache.iterdir())) == 1
    values = [data.splits["train"].store.batch(range(4)).values["image"] for data in (prepared, again)]
    assert torch.equal(*values)
    prepare(recipe("data.variants=1"), prepared.modalities, "train")  # without variants
    assert len(list(cache.iterdir())) == 2


def test_it_says_what_does_not_fit(first: Path, tmp_path: Path) -> None:
    for override, words in (
        (
            "latent.dim=5",
            r"train\.start = .*run: its weights do not fit the recipe: latent\.dim is \d+ there and 5 here$",
        ),
        ("prior.kind=flow", r"its weights do not fit the recipe: prior\.kind is 'standard' there and 'flow' here$"),
        ("modalities.image.widths=[3]", r"modalities\.image\.widths is \[.*\] there and \[3\] here$"),
        ("train.start=nowhere", r"train\.start = nowhere: no model folder"),
        (
            "train.pretrain=3",
            r"train\.pretrain: the decoders that train\.start brings would be thrown away; set it to 0",
        ),
        ("modalities.image.size=16", r"modalities\.image\.size is None there and 16 here: make them alike"),
        ("modalities.image.channels=3", r"modalities\.image\.channels is 1 there and 3 here: make them alike"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            train(recipe(f"train.start={first}", override), out=tmp_path / "run", progress=False)
    text = lines(tmp_path / "lines.txt", ["cat", "dog", "owl"], f"train.start={first}")
    with pytest.raises(ValueError, match=r"modalities is \['image'\] there and \['text'\] here"):
        train(text, out=tmp_path / "run", progress=False)


def test_the_rows_of_a_vamp_prior_are_of_the_new_data(tmp_path: Path) -> None:
    vamp = ["prior.kind=vamp", "prior.components=5", "prior.fitted=0"]
    train(recipe(*vamp), out=tmp_path / "first", progress=False)
    began = recipe(*vamp, f"train.start={tmp_path / 'first'}", "data.seed=3", "prior.components=7")
    run = Run(began, tmp_path / "second", False, Display(False))
    assert len(run.network.prior.get_buffer("values_image")) == 7
