"""Saved models: the same outputs after loading, plain data on the disk, and clear words for a damaged folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from mmvae import checkpoint
from mmvae.core.noise import Noise
from mmvae.data.store import digest
from mmvae.generation import VAE
from mmvae.recipe_files import read_config

MakeVAE = Callable[..., VAE]
KINDS = ("image", "text", "audio")


@pytest.fixture
def saved(vae_for: MakeVAE, tmp_path: Path) -> Path:
    """A model of text with a fitted prior, in a folder."""
    vae_for("text", fitted=True).save(tmp_path / "model")
    return tmp_path / "model"


def refused(folder: Path, words: str) -> None:
    """Loading fails with one line that holds the words."""
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        VAE.load(folder)
    assert len(str(caught.value).splitlines()) == 1


# -- there and back ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_model_encodes_and_decodes_as_the_saved_one(
    kind: str, vae_for: MakeVAE, raws_of: Callable[..., list[object]], tmp_path: Path
) -> None:
    vae = vae_for(kind)
    vae.save(tmp_path / "model")
    again = VAE.load(tmp_path / "model", device="cpu")
    raws = raws_of(kind, 3)
    assert torch.equal(again.encode(raws), vae.encode(raws))
    ours, theirs = (model.generate(3, seed=4, temperature=1.0) for model in (vae, again))
    tensors = zip(ours[kind], theirs[kind], strict=True)
    assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) if kind != "text" else a == b for a, b in tensors)
    assert again.recipe == vae.recipe


def test_every_weight_and_the_fitted_prior_come_back(saved: Path, vae_for: MakeVAE) -> None:
    vae, again = vae_for("text", fitted=True), VAE.load(saved, device="cpu")
    for name, tensor in vae.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor), name
    assert vae.fitted is not None
    assert again.fitted is not None
    assert torch.equal(again.fitted.sample(Noise([1])), vae.fitted.sample(Noise([1])))


def test_a_model_of_several_modalities_comes_back(vae_for: MakeVAE, tmp_path: Path) -> None:
    vae = vae_for("image", "text")
    vae.save(tmp_path / "model")
    ours, theirs = vae.generate(2, seed=1), VAE.load(tmp_path / "model", device="cpu").generate(2, seed=1)
    assert ours["text"] == theirs["text"]
    assert (ours["image"][1] == theirs["image"][1]).all()


def test_loading_draws_no_random_number(saved: Path) -> None:
    before = torch.random.get_rng_state()
    VAE.load(saved)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_saved_model_is_safetensors_and_json_and_nothing_else(saved: Path) -> None:
    assert {path.name for path in saved.iterdir()} == {"config.json", "text.json", "model.safetensors"}
    for path in saved.glob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))
    with safe_open(saved / "model.safetensors", "pt") as file:
        assert file.keys()
    for path in saved.iterdir():  # neither a zip archive (torch.save) nor a pickle
        assert not path.read_bytes().startswith((b"PK", b"\x80"))


def test_the_config_says_what_made_the_model(saved: Path) -> None:
    config = read_config(saved)
    assert config["format"] == checkpoint.FORMAT
    assert config["modalities"] == {"text": "built in"}
    assert config["recipe"]["latent"]["dim"] == 4


def test_saving_again_replaces_the_weights(saved: Path, vae_for: MakeVAE) -> None:
    before = digest(saved / checkpoint.WEIGHTS)
    vae_for("text", seed=9).save(saved)
    assert digest(saved / checkpoint.WEIGHTS) != before
    assert VAE.load(saved).fitted is None


def test_a_model_without_a_folder_says_so(vae_for: MakeVAE) -> None:
    with pytest.raises(ValueError, match="no folder yet: save it first"):
        vae_for("text").save_weights()


# -- files are there whole or not at all ------------------------------------------------------------


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write(aside: Path) -> None:
        aside.write_text("half of the n")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        checkpoint.write_whole(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_who_reads_the_old_file_reads_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old and long")
    with path.open() as reader:
        checkpoint.write_whole(path, lambda aside: aside.write_text("new"))
        assert reader.read() == "old and long"
    assert path.read_text() == "new"


def test_tensors_of_any_layout_and_type_come_back(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    tensors = {
        "turned": torch.arange(6).view(2, 3).T,
        "first": shared,
        "again": shared,
        "number": torch.tensor(3),
        "bf16": torch.ones(2, dtype=torch.bfloat16),
    }
    checkpoint.save_tensors(tmp_path / "a.safetensors", tensors, {"step": "7"})
    found, metadata = checkpoint.read_tensors(tmp_path / "a.safetensors")
    assert metadata == {"step": "7"}
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype


# -- what cannot be loaded ----------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "no model folder '.*nowhere'")


def test_a_folder_that_holds_no_model_is_named(tmp_path: Path) -> None:
    refused(tmp_path, r"not a model folder: it has no config\.json")


def test_a_model_without_weights_says_when_they_come(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    refused(saved, r"no model\.safetensors yet")


def test_a_model_without_the_state_of_a_modality_names_it(saved: Path) -> None:
    (saved / "text.json").unlink()
    refused(saved, "the state of 'text' could not be read")


@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, 0.99])
def test_truncated_weights_are_named(saved: Path, kept: float) -> None:
    path = saved / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    refused(saved, r"model\.safetensors: not a readable safetensors file")


def test_a_pickle_in_place_of_the_weights_is_refused_and_not_executed(saved: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "executed",)

    torch.save(Trap(), saved / "model.safetensors")
    refused(saved, "not a readable safetensors file")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', "null", "{}", '{"form": 1}'])
def test_a_config_that_is_none_is_named(saved: Path, text: str) -> None:
    (saved / "config.json").write_text(text)
    refused(saved, r"config\.json: not the config of a model")


def changed(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_another_format_is_named_with_the_version_that_wrote_it(saved: Path) -> None:
    changed(saved, format=99, mmvae="7.0")
    refused(saved, r"saved in format 99 by mmvae 7\.0; this is mmvae .*, format 2: train it anew")


def test_a_config_without_a_recipe_is_refused(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    del config["recipe"]
    (saved / "config.json").write_text(json.dumps(config))
    refused(saved, r"config\.json")


def test_a_recipe_that_no_longer_fits_the_weights_is_refused(saved: Path) -> None:
    recipe = json.loads((saved / "config.json").read_text())["recipe"]
    recipe["modalities"]["text"]["hidden"] = 9
    changed(saved, recipe=recipe)
    refused(saved, r"model\.safetensors: does not fit the recipe in config\.json")


def test_a_recipe_with_an_unknown_modality_is_refused(saved: Path) -> None:
    recipe = json.loads((saved / "config.json").read_text())["recipe"]
    recipe["modalities"]["text"]["kind"] = "pianoroll-of-nobody"
    changed(saved, recipe=recipe)
    refused(saved, "unknown modality 'pianoroll-of-nobody'")


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "null", '{"tokenizer": {}}', '{"tokenizer": 3}'])
def test_a_state_that_is_none_is_named(saved: Path, text: str) -> None:
    (saved / "text.json").write_text(text)
    refused(saved, "the state of 'text' could not be read")
