"""The verbs of a model: what each returns, and that the same call returns the same."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PIL

from mmvae.core.fitted import FittedMixture
from mmvae.core.latents import slerp
from mmvae.core.noise import Noise, mix
from mmvae.generation import ROWS, VAE
from mmvae.inputs import expand, to_batch, together
from mmvae.reproducing import reproduce
from mmvae.samples import Note, Samples, read_note

MakeVAE = Callable[..., VAE]
MakeRaws = Callable[..., list[Any]]
KINDS = ("image", "text", "audio")
every_kind = pytest.mark.parametrize("kind", KINDS)


def alike(ours: list[Any], theirs: list[Any]) -> bool:
    """The same observations, but for what kernels round differently for another number of rows."""
    if len(ours) != len(theirs):
        return False
    if all(isinstance(raw, str) for raw in ours):
        return ours == theirs
    off = [np.abs(a.astype(np.float64) - b.astype(np.float64)) for a, b in zip(ours, theirs, strict=True)]
    unit = 1 if ours[0].dtype == np.uint8 else 1e-3
    return all((difference <= unit).all() and (difference > 0.5 * unit).mean() < 0.02 for difference in off)


def same(ours: Samples, theirs: Samples) -> bool:
    """The same observations to the last bit."""
    return ours.raws.keys() == theirs.raws.keys() and all(
        all(np.array_equal(a, b) for a, b in zip(ours[name], theirs[name], strict=True)) for name in ours.raws
    )


# -- generate ---------------------------------------------------------------------------------------


@every_kind
def test_generated_observations_repeat_under_a_seed_and_differ_under_another(kind: str, vae_for: MakeVAE) -> None:
    vae = vae_for(kind)
    first, again, other = (vae.generate(4, seed=seed) for seed in (1, 1, 2))
    assert same(first, again)
    assert not same(first, other)
    assert len(first) == len(first[kind]) == 4


@every_kind
def test_an_observation_does_not_depend_on_how_many_are_generated(kind: str, vae_for: MakeVAE) -> None:
    vae = vae_for(kind)
    few, many = vae.generate(2, seed=3, temperature=1.0), vae.generate(5, seed=3, temperature=1.0)
    assert torch.equal(few.z, many.z[:2])
    assert alike(few[kind], many[kind][:2])


def test_observations_beyond_one_batch_go_on_where_it_ended(vae_for: MakeVAE) -> None:
    vae = vae_for("image")
    many = vae.generate(ROWS + 3, seed=0, temperature=1.0)
    assert len(many["image"]) == len(many.z) == len(many.made) == ROWS + 3
    assert [made["index"] for made in many.made] == list(range(ROWS + 3))
    assert len({raw.tobytes() for raw in many["image"]}) == ROWS + 3


def test_every_row_of_a_decoded_latent_has_a_draw_of_its_own(vae_for: MakeVAE) -> None:
    drawn = vae_for("image").decode(torch.zeros(ROWS + 2, 4), temperature=1.0)["image"]
    assert len({raw.tobytes() for raw in drawn}) == ROWS + 2


def test_generated_latents_are_draws_of_the_fitted_prior_where_there_is_one(vae_for: MakeVAE) -> None:
    vae, seeds = vae_for("image", fitted=True), [mix(7, "prior", i) for i in range(3)]
    assert vae.fitted is not None
    assert torch.equal(vae.generate(3, seed=7).z, vae.fitted.sample(Noise(seeds)))
    assert torch.equal(vae.generate(3, seed=7, prior="training").z, vae.network.prior.sample(Noise(seeds)))
    with pytest.raises(ValueError, match=r"no fitted prior: mmvae fit-prior MODEL prior\.fitted"):
        vae_for("image").generate(1, prior="fitted")


def test_temperature_zero_takes_the_mode(vae_for: MakeVAE) -> None:
    vae = vae_for("image")
    z = torch.randn(3, 4)
    with torch.inference_mode():
        mode = vae.network.decode(z)["image"].mode()
    for raw, tensor in zip(vae.decode(z, temperature=0.0)["image"], mode, strict=True):
        assert np.array_equal(raw, vae.modalities["image"].to_raw(tensor))
    assert not same(vae.decode(z, temperature=1.0), vae.decode(z, temperature=0.0))


def test_every_modality_is_decoded_from_one_latent(vae_for: MakeVAE) -> None:
    samples = vae_for("image", "text", "audio").generate(2)
    assert samples.raws.keys() == set(KINDS)
    assert all(len(column) == 2 for column in samples.raws.values())


def test_generating_leaves_torchs_generator_and_the_networks_mode_alone(vae_for: MakeVAE) -> None:
    vae = vae_for("text")
    before = torch.random.get_rng_state()
    vae.generate(2, temperature=1.0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not vae.network.training


# -- encode and reconstruct -------------------------------------------------------------------------


@every_kind
def test_reconstruction_is_deterministic(kind: str, vae_for: MakeVAE, raws_of: MakeRaws) -> None:
    vae, raws = vae_for(kind), raws_of(kind, 3)
    assert torch.equal(vae.encode(raws), vae.encode(raws))
    assert same(vae.reconstruct(raws), vae.reconstruct(raws))
    assert same(vae.reconstruct(raws, seed=1), vae.reconstruct(raws, seed=2))  # no draw is made


@every_kind
def test_a_row_is_encoded_the_same_alone_and_among_others(kind: str, vae_for: MakeVAE, raws_of: MakeRaws) -> None:
    vae, raws = vae_for(kind), raws_of(kind, 4)
    together = vae.encode(raws)
    alone = torch.cat([vae.encode([raw]) for raw in raws])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@every_kind
def test_a_file_is_encoded_as_what_is_in_it(kind: str, vae_for: MakeVAE, raws_of: MakeRaws, tmp_path: Path) -> None:
    vae, raws = vae_for(kind), raws_of(kind, 2)
    modality = vae.modalities[kind]
    paths = [tmp_path / f"{i}{modality.suffix}" for i in range(2)]
    for raw, path in zip(raws, paths, strict=True):
        modality.write(raw, path)
    expected = vae.encode(raws)
    torch.testing.assert_close(vae.encode(paths), expected, atol=0.02, rtol=0.02)  # sound is rounded to 16 bits
    torch.testing.assert_close(vae.encode([str(path) for path in paths]), vae.encode(paths), atol=0, rtol=0)


def test_the_latent_is_the_posterior_mean_of_what_each_row_has(vae_for: MakeVAE, raws_of: MakeRaws) -> None:
    vae, images, texts = vae_for("image", "text"), raws_of("image", 3), raws_of("text", 3)
    mixed = vae.encode({"image": [images[0], None, images[2]], "text": [texts[0], texts[1], None]})
    torch.testing.assert_close(mixed[1:2], vae.encode({"text": [texts[1]]}))
    torch.testing.assert_close(mixed[2:], vae.encode({"image": [images[2]]}))
    assert not torch.allclose(mixed[:1], vae.encode({"image": [images[0]]}))


def test_a_modality_that_no_row_has_may_be_given(vae_for: MakeVAE, raws_of: MakeRaws) -> None:
    vae, texts = vae_for("image", "text"), raws_of("text", 2)
    torch.testing.assert_close(vae.encode({"text": texts, "image": [None, None]}), vae.encode({"text": texts}))


def test_files_of_several_modalities_are_told_apart_by_their_suffixes(
    vae_for: MakeVAE, raws_of: MakeRaws, tmp_path: Path
) -> None:
    vae = vae_for("image", "text")
    (tmp_path / "a.txt").write_text("the cat sat")
    vae.modalities["image"].write(raws_of("image", 1)[0], tmp_path / "b.png")
    z = vae.encode([tmp_path / "a.txt", tmp_path / "b.png"])
    torch.testing.assert_close(z[:1], vae.encode({"text": ["the cat sat"]}))
    torch.testing.assert_close(z[:1], vae.encode(["the cat sat"]))  # a sentence is no picture
    with pytest.raises(ValueError, match="which modality is"):
        vae.encode([3.5])


def test_one_modality_is_translated_to_the_others(vae_for: MakeVAE, raws_of: MakeRaws) -> None:
    vae, (picture,) = vae_for("image", "text"), raws_of("image", 1)
    words = vae.translate({"image": [picture]}, n=3, seed=5)
    assert list(words.raws) == list(vae.translate({"image": [picture]}, "text").raws) == ["text"]
    assert len(words) == 3
    assert len({tuple(z.tolist()) for z in words.z}) == 3  # draws of z, not its mean
    both = vae.translate({"image": [picture], "text": ["the cat sat"]}, ["image", "text"])
    side_by_side = [re.findall(r'<div class="(cells.*?)">', samples._repr_html_()) for samples in (words, both)]
    assert side_by_side == [["cells"], ["cells rows"]]
    assert list(both.raws) == ["image", "text"]
    again = vae.translate({"image": [picture, picture]}, n=3, seed=5)
    torch.testing.assert_close(again.z[:3], words.z)
    assert again["text"][:3] == words["text"]
    with pytest.raises(ValueError, match="no modality 'sound'"):
        vae.translate({"image": [picture]}, ["sound"])
    with pytest.raises(ValueError, match="no modality 'sound': it has image, text"):
        vae.reconstruct({"image": [picture]}, to=["sound"])
    assert list(vae.reconstruct({"image": [picture]}, to="text").raws) == ["text"]
    with pytest.raises(ValueError, match="say with --to which are wanted"):
        vae.translate({"image": [picture], "text": ["the cat sat"]})
    mixed = vae.translate({"image": [picture, None], "text": [None, "the cat sat"]})
    assert {name: len(made) for name, made in mixed.raws.items()} == {"image": 2, "text": 2}


def test_what_is_given_to_a_command_in_several_modalities_is_one_row(vae_for: MakeVAE, tmp_path: Path) -> None:
    vae, picture = vae_for("image", "text"), str(tmp_path / "b.png")
    vae.modalities["image"].write(np.full((28, 28, 1), 80, np.uint8), Path(picture))
    batch, names = expand(vae.recipe, vae.modalities, [picture, "the cat sat"])
    assert (len(batch), names) == (1, [f"{picture} and the cat sat"])
    batch, names = expand(vae.recipe, vae.modalities, ["the cat sat", "a dog ran"])
    assert (len(batch), names) == (2, ["the cat sat", "a dog ran"])
    for item in ("seven.wav", "nothere.png"):  # no sentence, though the words could be read
        with pytest.raises(FileNotFoundError, match=f"no file '{item}'"):
            expand(vae.recipe, vae.modalities, [item])


def test_what_a_missing_modality_has_of_its_own_is_drawn_from_the_fitted_prior(
    vae_for: MakeVAE, raws_of: MakeRaws
) -> None:
    vae, (picture,) = vae_for("image", "text", fitted=True), raws_of("image", 1)
    vae.network.latent.attach({"image": 1, "text": 1})  # dimensions: two shared, one of the picture, one of the words
    assert isinstance(vae.fitted, FittedMixture)
    vae.fitted.means[:, 3], vae.fitted.factors[:, 3] = 100.0, torch.tensor([0.0, 0.0, 0.0, 1.0])
    z = vae.translate({"image": [picture]}, n=200, seed=5).z
    assert z[:, 3].mean().item() == pytest.approx(100, abs=0.3)
    assert z[:, 3].std().item() == pytest.approx(1, abs=0.2)
    assert z[:, :3].abs().max() < 10
    assert vae.interpolate("the cat sat", picture, steps=2).z[1, 3].item() == pytest.approx(100, abs=1e-3)
    whole = vae.translate({"image": [picture], "text": ["the cat sat"]}, ["image"], n=2)
    assert whole.z[:, 3].abs().max() < 10
    rows = to_batch(vae.modalities, {"image": [picture, picture], "text": [None, "the cat sat"]})
    mixed = vae.infer(rows, 2, seed=5)  # a row is what it is alone, whoever is beside it
    torch.testing.assert_close(mixed[:2], vae.infer(to_batch(vae.modalities, {"image": [picture]}), 2, seed=5))
    assert mixed[:2, 3].min() > 90
    assert mixed[2:, 3].abs().max() < 10


def test_inputs_of_one_modality_are_rows_and_those_of_several_a_row(vae_for: MakeVAE) -> None:
    modalities = vae_for("image", "text").modalities
    assert together(modalities, ["one", "two"]) == {"text": ["one", "two"]}
    assert together(modalities, ["one", "b.png"]) == {"text": ["one"], "image": ["b.png"]}
    with pytest.raises(ValueError, match="2 inputs are of text: give one of each modality, or all of one"):
        together(modalities, ["one", "two", "b.png"])
    with pytest.raises(ValueError, match="the model has no modality 'imge': did you mean 'image'"):
        together(modalities, [f"imge={__file__}"])
    with pytest.raises(ValueError, match="txt=a red circle: the model has no modality 'txt': did you mean 'text'"):
        together(modalities, ["txt=a red circle"])
    assert together(modalities, ["E=mc2"]) == {"text": ["E=mc2"]}
    with pytest.raises(ValueError, match="inputs of 'text' are a list of observations"):
        vae_for("image", "text").translate({"text": "seven"})
    bare: Any = {"image": PIL.new("L", (8, 8))}
    with pytest.raises(ValueError, match="inputs of 'image' are a list of observations"):
        vae_for("image", "text").translate(bare)
    with pytest.raises(ValueError, match="a dict from modalities to lists is no single input"):
        vae_for("image", "text").interpolate({"text": ["seven"]}, {"text": ["one"]})
    assert together(modalities, ["text=b.png", "image=b.png"]) == {"text": ["b.png"], "image": ["b.png"]}
    two = {"words": modalities["text"], "parole": modalities["text"]}
    assert together(two, ["words=a = b", "parole=uno"]) == {"words": ["a = b"], "parole": ["uno"]}
    with pytest.raises(ValueError, match=r"which modality is 'uno'\? words and parole read it: write NAME=INPUT"):
        together(two, ["uno"])


@pytest.mark.parametrize(
    ("inputs", "error", "words"),
    [
        ([], ValueError, "there are no inputs"),
        (["missing.png"], FileNotFoundError, r"no file 'missing\.png'"),
        ([Path("missing.png")], FileNotFoundError, r"no file 'missing\.png'"),
        ([3], ValueError, "an image is an array"),
        ({"sound": [1]}, ValueError, "the model has no modality 'sound': it has image"),
    ],
    ids=str,
)
def test_inputs_that_make_no_sense_are_refused(
    inputs: Any, error: type[Exception], words: str, vae_for: MakeVAE
) -> None:
    with pytest.raises(error, match=words):
        vae_for("image").encode(inputs)


def test_columns_of_unlike_length_are_refused(vae_for: MakeVAE, raws_of: MakeRaws) -> None:
    with pytest.raises(ValueError, match="rows"):
        vae_for("image", "text").encode({"image": raws_of("image", 2), "text": raws_of("text", 3)})


def test_a_file_of_another_kind_or_damaged_is_named(vae_for: MakeVAE, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "b.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"a\.csv: not a file the model reads \(\.png"):
        vae_for("image").encode([tmp_path / "a.csv"])
    with pytest.raises(ValueError, match=r"b\.png: not a readable image"):
        vae_for("image").encode([tmp_path / "b.png"])


# -- interpolate --------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("path", ["sphere", "line"])
def test_an_interpolation_ends_at_the_reconstructions(
    kind: str, path: str, vae_for: MakeVAE, raws_of: MakeRaws
) -> None:
    vae, ends = vae_for(kind), raws_of(kind, 2)
    way = vae.interpolate(*ends, steps=5, path="sphere" if path == "sphere" else "line")
    expected = vae.reconstruct(ends)
    torch.testing.assert_close(way.z[[0, -1]], expected.z)
    assert alike([way[kind][0], way[kind][-1]], expected[kind])


def test_an_interpolation_of_nothing_goes_between_two_draws_of_the_prior(vae_for: MakeVAE) -> None:
    vae = vae_for("image")
    way, drawn = vae.interpolate(steps=4, seed=5), vae.generate(2, seed=5)
    torch.testing.assert_close(way.z[[0, -1]], drawn.z)
    assert len(way) == 4


def test_an_interpolation_from_one_input_to_nothing_is_refused(vae_for: MakeVAE, raws_of: MakeRaws) -> None:
    with pytest.raises(ValueError, match="two inputs, or none"):
        vae_for("image").interpolate(raws_of("image", 1)[0])


vectors = st.lists(st.floats(-5, 5, width=32), min_size=3, max_size=3).map(torch.tensor)
WEIGHTS = torch.linspace(0, 1, 11)[:, None]


@settings(deadline=None)
@given(a=vectors, b=vectors)
def test_a_great_circle_is_finite_and_ends_at_its_ends(a: torch.Tensor, b: torch.Tensor) -> None:
    way = slerp(a, b, WEIGHTS)
    assert torch.isfinite(way).all()
    torch.testing.assert_close(way[[0, -1]], torch.stack([a, b]), atol=1e-3, rtol=1e-3)


def test_a_great_circle_keeps_the_length_and_turns_evenly() -> None:
    a, b = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 2.0])
    way = slerp(a, b, WEIGHTS)
    torch.testing.assert_close(way.norm(dim=1), torch.full((11,), 2.0))
    cosines = torch.nn.functional.cosine_similarity(way[1:], way[:-1])
    torch.testing.assert_close(cosines, torch.full((10,), math.cos(math.pi / 20)))


def test_a_way_leads_from_one_kind_to_another_and_shows_both(vae_for: MakeVAE, raws_of: MakeRaws) -> None:
    vae, (picture,), (sound,) = vae_for("image", "audio"), raws_of("image", 1), raws_of("audio", 1)
    way = vae.interpolate(sound, picture, steps=3)
    torch.testing.assert_close(way.z[0], vae.encode({"audio": [sound]})[0])
    torch.testing.assert_close(way.z[-1], vae.encode({"image": [picture]})[0])
    assert {name: len(column) for name, column in way.raws.items()} == {"image": 3, "audio": 3}


def test_lengths_are_interpolated_along_a_great_circle() -> None:
    way = slerp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0]), WEIGHTS)
    torch.testing.assert_close(way.norm(dim=1), torch.linspace(1, 3, 11))


def test_the_way_is_the_same_in_either_direction() -> None:
    a, b = torch.randn(5), torch.randn(5)
    torch.testing.assert_close(slerp(a, b, WEIGHTS), slerp(b, a, 1 - WEIGHTS))


@pytest.mark.parametrize("b", [[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], ids=str)
def test_between_ends_in_one_line_the_way_is_straight(b: list[float]) -> None:
    first, last = torch.tensor([1.0, 0.0]), torch.tensor(b)
    torch.testing.assert_close(slerp(first, last, WEIGHTS)[:, 1], torch.zeros(11), atol=1e-5, rtol=0)


# -- files that say how they were made ----------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_written_file_is_made_again_from_its_note(
    kind: str, temperature: float, vae_for: MakeVAE, tmp_path: Path
) -> None:
    vae_for(kind).save(tmp_path / "model")
    vae = VAE.load(tmp_path / "model", device="cpu")
    samples = vae.generate(3, seed=2, temperature=temperature)
    paths = samples.save(tmp_path / "out")
    for index, path in enumerate(paths):
        written, made = reproduce(path, out=tmp_path / f"again-{index}{path.suffix}")
        assert made["seed"] == 2
        assert made["index"] == index
        assert made == read_note(path) == read_note(written)
        ours, theirs = (samples.modalities[kind].read(file) for file in (path, written))
        assert alike([ours], [theirs])
        with pytest.raises(FileExistsError, match="name another file"):
            reproduce(path, out=written)


def test_a_file_of_another_model_is_refused(vae_for: MakeVAE, tmp_path: Path) -> None:
    for name, seed in (("model", 0), ("other", 1)):
        vae_for("image", seed=seed).save(tmp_path / name)
    (path,) = VAE.load(tmp_path / "model").generate(1).save(tmp_path / "out")
    with pytest.raises(ValueError, match=r"other is not the model that made the file"):
        reproduce(path, tmp_path / "other")


def test_a_file_without_a_note_is_refused(raws_of: MakeRaws, vae_for: MakeVAE, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    vae_for("image").modalities["image"].write(raws_of("image", 1)[0], path)
    with pytest.raises(ValueError, match=r"a\.png: holds no note of how it was made"):
        reproduce(path)
    with pytest.raises(FileNotFoundError, match="no file"):
        reproduce(tmp_path / "nowhere.png")


@pytest.mark.parametrize("note", ["not json", "[]", '{"z": 1}', "{", json.dumps(dict.fromkeys(Note.model_fields, 1))])
def test_a_note_of_somebody_else_is_refused(note: str, raws_of: MakeRaws, vae_for: MakeVAE, tmp_path: Path) -> None:
    path, modality = tmp_path / "a.png", vae_for("image").modalities["image"]
    modality.write(raws_of("image", 1)[0], path)
    modality.tag(path, note)
    with pytest.raises(ValueError, match="holds no note"):
        read_note(path)


def test_samples_are_saved_with_a_sheet_and_a_page_that_holds_everything(vae_for: MakeVAE, tmp_path: Path) -> None:
    samples = vae_for("image", "text").generate(2)
    paths = samples.save(tmp_path / "out")
    assert [path.name for path in paths] == ["000-image.png", "001-image.png", "000-text.txt", "001-text.txt"]
    assert all(json.dumps(read_note(path)) for path in paths)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"gallery.html", "sheet-image.png", "sheet-text.txt"} <= names
    page = (tmp_path / "out" / "gallery.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64") == 2
    assert "http" not in page


def test_samples_take_the_place_of_earlier_ones_and_of_nothing_else(vae_for: MakeVAE, tmp_path: Path) -> None:
    vae, out = vae_for("image"), tmp_path / "out"
    vae.generate(3).save(out)
    vae.generate(2).save(out)
    assert {path.name for path in out.iterdir()} == {"000.png", "001.png", "sheet.png", "gallery.html"}
    for name in ("808.wav", "sheet-metal.wav", "mine.png"):
        (out / name).write_bytes(b"mine")
        with pytest.raises(ValueError, match=f"holds other files, such as {name}: name another folder"):
            vae.generate(1).save(out)
        assert (out / name).read_bytes() == b"mine"
        assert (out / "001.png").is_file()
        (out / name).unlink()
    vae.generate(1).save(out)
    assert not (out / "001.png").exists()


def test_a_page_shows_what_each_was_made_of(vae_for: MakeVAE, raws_of: MakeRaws, tmp_path: Path) -> None:
    vae, (picture, other) = vae_for("image", "text"), raws_of("image", 2)
    words = vae.translate({"image": [picture, other]}, n=2)
    for of, raw in zip(words.given()["image"], [picture, picture, other, other], strict=True):
        assert of is not None
        assert np.array_equal(of, raw)
    words.save(tmp_path / "words")
    assert (tmp_path / "words" / "gallery.html").read_text().count("data:image/png;base64") == 4
    again = vae.reconstruct({"image": [picture, None], "text": [None, "the cat sat"]})
    assert again.given()["image"][1] is None
    assert again.given()["text"] == [None, "the cat sat"]
    again.save(tmp_path / "again")
    assert (tmp_path / "again" / "gallery.html").read_text().count("data:image/png;base64") == 3
    assert not vae.generate(2).given()


def test_a_note_of_a_modality_that_the_model_lacks_is_refused(vae_for: MakeVAE, tmp_path: Path) -> None:
    vae = vae_for("image")
    vae.save(tmp_path / "model")
    (path,) = vae.generate(1).save(tmp_path / "out")
    made = {**read_note(path), "modality": "text"}
    with pytest.raises(ValueError, match="is not the model that made the file"):
        vae.remake(made)


@pytest.mark.parametrize("z", [torch.zeros(4), torch.zeros(2, 3), torch.full((2, 4), torch.nan)])
def test_latents_of_another_shape_or_of_no_numbers_are_refused(z: torch.Tensor, vae_for: MakeVAE) -> None:
    with pytest.raises(ValueError, match=r"latents are \[n, 4\], all finite, not \["):
        vae_for("image").decode(z)


def test_a_large_input_is_encoded_in_parts(vae_for: MakeVAE, raws_of: MakeRaws) -> None:
    vae = vae_for("image", "text")
    rows = 2 * ROWS + 3
    pictures, words = raws_of("image", rows), raws_of("text", rows)
    inputs = {
        "image": [None if i % 5 == 0 else picture for i, picture in enumerate(pictures)],
        "text": [None if i % 3 == 0 else sentence for i, sentence in enumerate(words)],
    }
    whole = vae.encode(inputs)
    for i in (0, ROWS - 1, ROWS, rows - 1):
        alone = vae.encode({name: column[i : i + 1] for name, column in inputs.items()})
        torch.testing.assert_close(whole[i : i + 1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("one", ["a sentence", Path("a.png"), np.zeros((4, 4), np.uint8)], ids=["str", "path", "array"])
def test_one_observation_is_not_taken_for_a_list_of_them(one: Any, vae_for: MakeVAE) -> None:
    with pytest.raises(ValueError, match=r"for one, give \[x\]"):
        vae_for("image").encode(one)


def test_arguments_that_make_no_sense_are_refused(vae_for: MakeVAE) -> None:
    vae = vae_for("image", fitted=True)
    with pytest.raises(ValueError, match="nothing to generate"):
        vae.generate(0)
    with pytest.raises(ValueError, match="prior 'foo'"):
        vae.generate(1, prior="foo")  # ty: ignore[invalid-argument-type]
    with pytest.raises(ValueError, match="path 'foo'"):
        vae.interpolate(path="foo")  # ty: ignore[invalid-argument-type]
