"""Sequences of observations: how they are read, the prior over their latents, what is composed from it and measured."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from mmvae.core.noise import Noise
from mmvae.core.sequences import BACK, COMPONENTS, Mixture, SequencePrior
from mmvae.data.items import FEW
from mmvae.data.prepare import prepare
from mmvae.evaluation.evaluate import evaluate
from mmvae.evaluation.sequences import next_nll
from mmvae.fitting import refit
from mmvae.generation import ROWS, VAE
from mmvae.progress import Display
from mmvae.recipe import Recipe
from mmvae.reproducing import reproduce
from mmvae.samples import read_note
from mmvae.training import train

MakeVAE = Callable[..., VAE]
DIM = 4
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


def weeks(path: Path, documents: int = 60, length: int = 6) -> Path:
    """A table of documents in which each day is followed by the next one."""
    rows = [{"days": [DAYS[(start + i) % 7] for i in range(length)]} for start in range(documents)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def small(path: Path, **changes: Any) -> Recipe:
    return Recipe.load(
        {
            "name": "weeks",
            "data": {"path": str(path), "sequences": True},
            "modalities": {"text": {"column": "days", "embedding": 16, "hidden": 24, "max_tokens": 8}},
            "latent": {"dim": DIM},
            "prior": {"sequence": 24, "fitted": 2},
            "kl": {"weight": 0.1},
            "train": {"steps": 150, "batch_size": 32, "learning_rate": 1e-2, "threads": 1, "evaluate_every": 150},
        },
        [f"{key}={value}" for key, value in changes.items()],
    )


@pytest.fixture
def composer(vae_for: MakeVAE) -> MakeVAE:
    """A model with an untrained prior over sequences, whose next latent depends on what came before."""

    def make(*kinds: str) -> VAE:
        vae = vae_for(*kinds)
        vae.recipe = Recipe.load(vae.recipe, ["data.sequences=true", "prior.sequence=8"])
        torch.manual_seed(3)
        vae.sequence = SequencePrior(DIM, 8).eval()
        with torch.no_grad():
            vae.sequence.head.weight.normal_()
        return vae

    return make


# -- the density -----------------------------------------------------------------------------------------


def test_the_density_is_that_of_a_mixture_of_gaussians_of_which_one_is_given() -> None:
    torch.manual_seed(0)
    logits, mean, log_scale = torch.randn(5, 4), torch.randn(5, 4, DIM), torch.randn(5, 4, DIM)
    mean[:, 0], log_scale[:, 0] = 0.5, 0.1  # knows nothing of what came before
    parts = Independent(Normal(mean, log_scale.exp()), 1)
    theirs = MixtureSameFamily(Categorical(logits=logits), parts)
    z = torch.randn(7, 5, DIM)
    alone = Independent(Normal(torch.full((DIM,), 0.5), math.exp(0.1)), 1).log_prob(z)
    ours = Mixture(logits, mean[:, 1:], log_scale[:, 1:]).log_prob(z.transpose(0, 1), alone.T)
    torch.testing.assert_close(ours.T, theirs.log_prob(z))


def test_samples_have_the_moments_of_the_mixture() -> None:
    n = 20_000
    logits, mean, log_scale = (
        torch.tensor([0.0, 1.0, 0.5]),
        torch.tensor([[2.0], [-1.0]]),
        torch.tensor([[0.1], [-1.0]]),
    )
    mixture = Mixture(logits.expand(n, 3), mean.expand(n, 2, 1), log_scale.expand(n, 2, 1))
    drawn = mixture.sample(Noise(range(n)), torch.full((n, 1), 5.0))[:, 0]
    means, variances = torch.tensor([5.0, 2.0, -1.0]), torch.tensor([0.0, math.exp(0.2), math.exp(-2.0)])
    shares = torch.softmax(logits, 0)
    expected = (shares * means).sum()
    variance = (shares * (means**2 + variances)).sum() - expected**2
    assert drawn.mean().item() == pytest.approx(expected.item(), abs=0.04)
    assert drawn.var().item() == pytest.approx(variance.item(), rel=0.04)


def test_what_was_may_come_again() -> None:
    prior, means = SequencePrior(DIM, 8).eval(), torch.randn(2, BACK + 3, DIM)
    with torch.no_grad():
        prior.head.weight.zero_()
        prior.head.bias.zero_()
        prior.head.bias[1 + BACK - 3] = 50.0  # what was three before
        prior.again.fill_(-5.0)
    expected, nothing = prior(means), torch.full((2, DIM), 9.0)
    for place in range(3, BACK + 4):
        drawn = expected[:, place].sample(Noise([1, 2]), nothing)
        torch.testing.assert_close(drawn, means[:, place - 3], atol=0.05, rtol=0)
    shares = expected.logits[:, 2, 1:].softmax(-1)[:, :BACK].sum(-1)
    torch.testing.assert_close(shares, torch.full((2,), 2 / (2 + COMPONENTS)))  # only two were before
    assert torch.isneginf(expected.logits[:, 0, 1 : 1 + BACK]).all()


def test_what_is_expected_depends_on_what_came_before_only() -> None:
    prior, means = SequencePrior(DIM, 8).eval(), torch.randn(2, 6, DIM)
    whole = prior(means)
    assert whole.mean.shape == (2, 7, BACK + COMPONENTS, DIM)
    for length in range(6):
        part = prior(means[:, :length])
        torch.testing.assert_close(part.mean, whole.mean[:, : length + 1])
    changed = means.clone()
    changed[:, 2] += 1
    later = prior(changed)
    torch.testing.assert_close(later.mean[:, :3], whole.mean[:, :3])
    assert not torch.allclose(later.mean[:, 3], whole.mean[:, 3])


# -- data ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("cache")
def test_each_item_is_a_row_and_splits_are_made_of_whole_sequences(tmp_path: Path) -> None:
    prepared = prepare(small(weeks(tmp_path / "weeks.jsonl")))
    assert {name: len(split) for name, split in prepared.splits.items()} == {"train": 288, "validation": 36, "test": 36}
    for split in prepared.splits.values():
        for rows in split.sequences():
            days = [split.raw("text", row) for row in rows.tolist()]
            assert days == [DAYS[(DAYS.index(days[0]) + i) % 7] for i in range(6)]


@pytest.mark.usefixtures("cache")
def test_an_item_that_cannot_be_read_is_named_and_the_others_stay_in_order(tmp_path: Path) -> None:
    path = weeks(tmp_path / "weeks.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[4]["days"][2] = " "
    rows[7]["days"] = []
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepared = prepare(small(path))
    assert sorted(prepared.report.rejected) == [
        (f"{path.name}, row 5, item 3", "nothing in days"),
        (f"{path.name}, row 8, item 1", "nothing in days"),
    ]
    assert re.search(r"train 281 in 47 sequences", next(prepared.lines()))
    lengths = sorted(len(rows) for split in prepared.splits.values() for rows in split.sequences())
    assert lengths == [5] + [6] * 58


@pytest.mark.usefixtures("cache")
def test_the_lines_of_a_text_up_to_a_blank_one_or_its_end_are_a_sequence(tmp_path: Path) -> None:
    for index in range(20):
        later = f" \n\n{DAYS[2]}\n" if index % 2 else ""
        (tmp_path / f"{index}.txt").write_bytes(f"\ufeff\n{DAYS[0]}\r\n{DAYS[1]}\n{later}".encode())
    prepared = prepare(small(tmp_path))  # whose lines are the one column, whatever the recipe's is called
    documents = [
        [split.raw("text", row) for row in rows.tolist()]
        for split in prepared.splits.values()
        for rows in split.sequences()
    ]
    assert sorted(documents) == sorted([DAYS[:2]] * 20 + [DAYS[2:3]] * 10)
    files = [
        {split.rows.where(place).split(", text")[0] for place in range(len(split.rows))}
        for split in prepared.splits.values()
    ]
    assert sum(map(len, files)) == len(set().union(*files)) == 20  # those of one file are in one split
    split = prepared.splits["train"]
    assert re.search(r"\d+\.txt, text \d, item 1", split.rows.where(split.kept[0]))


@pytest.mark.usefixtures("cache")
def test_a_column_of_single_observations_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lines.csv"
    path.write_text("text\n" + "".join(f"{day}\n" for day in DAYS * 4))
    recipe = small(path, **{"modalities.text.column": "text"})
    with pytest.raises(ValueError, match=r"row \d+: 'text' holds one observation, not a list .* data.sequences"):
        prepare(recipe)


@pytest.mark.usefixtures("cache")
def test_the_files_of_a_folder_are_a_sequence(
    tmp_path: Path, picture_folder: Callable[..., Path], recipe_for: Callable[..., Recipe]
) -> None:
    for index in range(6):
        picture_folder(tmp_path / "films" / f"film {index}", 3 + index, seed=index)
    prepared = prepare(recipe_for("image", tmp_path / "films", {"sequences": True}))
    lengths = [len(rows) for split in prepared.splits.values() for rows in split.sequences()]
    assert sorted(lengths) == [3, 4, 5, 6, 7, 8]
    split = prepared.splits["train"]
    first = split.sequences()[0].tolist()
    names = [split.rows.where(split.kept[row]) for row in first]
    assert len({Path(name).parent for name in names}) == 1
    assert names == sorted(names)


def test_a_prior_over_sequences_needs_sequences(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"prior\.sequence: set data\.sequences or data\.pieces to true"):
        small(tmp_path / "weeks.jsonl", **{"data.sequences": "false"})


# -- composing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["image", "text", "audio"])
def test_sequences_are_made_again_from_their_notes_and_do_not_depend_on_their_number(
    kind: str, composer: MakeVAE, tmp_path: Path
) -> None:
    composer(kind).save(tmp_path / "model")
    vae = VAE.load(tmp_path / "model", device="cpu")
    samples = vae.compose(3, length=4, seed=5, temperature=1.0)
    assert samples.z.shape == (3, 4, DIM)
    torch.testing.assert_close(samples.z[:2], vae.compose(2, length=4, seed=5, temperature=1.0).z)
    for path in samples.save(tmp_path / "out"):
        written, _ = reproduce(path)
        again, before = (samples.modalities[kind].read(file) for file in (written, path))
        assert np.array_equal(again, before)


def test_what_comes_later_depends_on_what_was_drawn(composer: MakeVAE) -> None:
    vae = composer("text")
    short, long = vae.compose(2, 2, seed=1), vae.compose(2, 5, seed=1)
    torch.testing.assert_close(short.z, long.z[:, :2])
    others = [vae.compose(2, 5, [word], seed=1).z for word in ("cat", "dog ran far")]
    assert not torch.allclose(others[0], others[1])


def test_an_opening_comes_first_and_is_in_the_note(composer: MakeVAE, tmp_path: Path) -> None:
    composer("text").save(tmp_path / "model")
    vae = VAE.load(tmp_path / "model", device="cpu")
    samples = vae.compose(2, 3, ["the cat sat", "on a mat"], seed=1)
    assert all(text.startswith("the cat sat\non a mat\n") for text in samples["text"])
    (path, _) = samples.save(tmp_path / "out")
    assert read_note(path)["opening"] == [("the cat sat", ""), ("on a mat", "")]
    written, _ = reproduce(path)
    assert written.read_text() == path.read_text()


@pytest.mark.parametrize(("files", "apart"), [(2, False), (FEW, True)])
def test_documents_of_many_files_stay_in_the_split_of_their_file(files: int, apart: bool, tmp_path: Path) -> None:
    for number in range(files):
        (tmp_path / f"{number}.txt").write_text("\n\n".join(f"a {number}\nb" for _ in range(30)))
    recipe = Recipe.load("text/chapters", [f"data.path={tmp_path}", "modalities.text.vocabulary=300"])
    splits = prepare(recipe).splits
    held = [{split.raw("text", i) for i in range(0, len(split), 2)} for split in splits.values()]
    assert len(held) == 3
    assert (sum(map(len, held)) == files) == apart


def test_a_file_of_lines_is_as_many_observations_of_an_opening(composer: MakeVAE, tmp_path: Path) -> None:
    vae, path = composer("text"), tmp_path / "opening.txt"
    vae.recipe = vae.recipe.model_copy(update={"data": vae.recipe.data.model_copy(update={"sequences": True})})
    path.write_text("the cat sat\n\nand wrote to notes.txt\n")  # no file is meant
    lines = vae.compose(2, 3, ["the cat sat", "and wrote to notes.txt "], seed=1)
    whole = vae.compose(2, 3, [path], seed=1)
    assert [said.replace("txt ", "txt") for said in lines["text"]] == whole["text"]
    assert whole["text"][0].startswith("the cat sat\nand wrote to notes.txt\n")


def test_an_opening_that_has_changed_is_not_taken_for_the_one_of_the_note(
    composer: MakeVAE, picture_folder: Callable[..., Path], tmp_path: Path
) -> None:
    composer("image").save(tmp_path / "model")
    vae = VAE.load(tmp_path / "model", device="cpu")
    first, second = sorted(picture_folder(tmp_path / "pictures", 2).iterdir())
    (path,) = vae.compose(1, 2, [first]).save(tmp_path / "out")
    reproduce(path)[0].unlink()
    first.write_bytes(second.read_bytes())
    with pytest.raises(ValueError, match=r"the opening '.*000\.png' has changed since"):
        reproduce(path)
    first.unlink()
    with pytest.raises(FileNotFoundError, match="is not there any more"):
        reproduce(path)


def test_more_rows_than_are_decoded_at_once_are_composed(composer: MakeVAE) -> None:
    samples = composer("text").compose(ROWS + 1, 2, seed=1)
    assert len(samples) == len(samples["text"]) == len(samples.made) == ROWS + 1


def test_a_model_without_such_a_prior_says_what_to_train(vae_for: MakeVAE) -> None:
    with pytest.raises(ValueError, match=r"no prior over sequences: train it with prior.sequence = 256"):
        vae_for("text").compose(1, 2)


def test_what_cannot_be_composed_is_refused(composer: MakeVAE) -> None:
    vae = composer("text")
    for opening in ("the cat", {"text": ["the cat"]}, [np.zeros(3)]):
        with pytest.raises(ValueError, match="an opening is a list of sentences or files"):
            vae.compose(1, 2, opening)  # ty: ignore[invalid-argument-type]
    with pytest.raises(ValueError, match="a temperature is a number from 0"):
        vae.compose(1, 2, temperature=-1.0)
    with pytest.raises(ValueError, match="length from 1 to 1000"):
        vae.compose(1, 2000)


def test_a_damaged_prior_over_sequences_is_said_to_be_so(composer: MakeVAE, tmp_path: Path) -> None:
    vae = composer("text")
    assert vae.sequence is not None
    vae.sequence.head = torch.nn.Linear(8, 3)
    vae.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"does not fit the recipe in config\.json"):
        VAE.load(tmp_path / "model")


# -- measuring and fitting -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("cache")
def test_a_prior_that_expects_nothing_measures_as_that_of_single_latents(tmp_path: Path) -> None:
    path = weeks(tmp_path / "weeks.jsonl")
    vae = train(small(path, **{"train.steps": 2, "prior.sequence": 0}), out=tmp_path / "run", progress=False)
    vae.sequence = SequencePrior(DIM, 8).eval()
    with torch.no_grad():
        vae.sequence.head.weight.zero_()
        vae.sequence.head.bias.zero_()
        vae.sequence.head.bias[0] = 100.0  # the prior of single latents, whatever came before
    split = prepare(vae.recipe, vae.modalities, "test").splits["test"]
    found = next_nll(vae, split, k=8)
    assert found["NLL of the next, in view of those before, k = 8 (nats)"] == pytest.approx(
        found["NLL of the next, from the prior fitted, k = 8 (nats)"], abs=1e-4
    )


@pytest.mark.usefixtures("cache")
def test_what_follows_for_certain_is_foretold(tmp_path: Path) -> None:
    path = weeks(tmp_path / "weeks.jsonl")
    train(small(path), out=tmp_path / "run", progress=False)
    vae = VAE.load(tmp_path / "run")
    found = evaluate(vae, k=32)
    ahead = found["NLL of the next, in view of those before, k = 32 (nats)"]
    alone = found["NLL of the next, from the prior fitted, k = 32 (nats)"]
    assert alone > 0.8 * math.log(7)  # a day of seven
    assert ahead < 0.3 * alone
    weeks_of = [text.split("\n") for text in vae.compose(20, 4, ["monday"], temperature=0.0)["text"]]
    steps = [(day, after) for days in weeks_of for day, after in pairwise(days)]
    assert sum(DAYS[(DAYS.index(day) + 1) % 7] == after for day, after in steps) > 0.6 * len(steps)


@pytest.mark.usefixtures("cache")
def test_it_is_fitted_again_with_the_prior_of_single_latents_that_it_is_made_of(tmp_path: Path) -> None:
    path = weeks(tmp_path / "weeks.jsonl")
    before = train(small(path, **{"train.steps": 2}), out=tmp_path / "run", progress=False).sequence
    refit(tmp_path / "run", ["prior.fitted=3"], Display(False))
    after = VAE.load(tmp_path / "run").sequence
    assert before is not None
    assert after is not None
    assert not torch.equal(before.head.weight, after.head.weight)
