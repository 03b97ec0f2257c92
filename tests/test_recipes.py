"""Every shipped recipe trains for a few steps, on its real data where they are here and on small ones where not."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from mmvae import fitting
from mmvae.data.prepare import prepare
from mmvae.data.sources import BUILTIN
from mmvae.generation import VAE
from mmvae.recipe import Recipe
from mmvae.recipe_files import find_recipe, recipe_names
from mmvae.training import train

SHARED = Path(os.environ.get("MMVAE_SHARED", Path(__file__).parents[2] / "shared")) / "data"
README = Path(__file__).parents[1] / "README.md"
HUB = {"ylecun/mnist": "mnist"}  # hub names that stand in a folder of another name


def stand_in(kind: str, folder: Path, sequences: bool) -> Path:
    """Sixty small observations of a kind, or sequences of three."""
    random = np.random.default_rng(0)
    folder.mkdir()

    def words() -> str:
        return " ".join(random.choice(["day", "night", "and", "the", "light", "was"], 5))

    for index in range(60):
        if kind == "image":
            Image.fromarray(random.integers(0, 256, (28, 28), dtype=np.uint8)).save(folder / f"{index}.png")
        elif kind == "audio":
            soundfile.write(folder / f"{index}.wav", random.normal(0, 0.1, 4000).astype(np.float32), 8000)
        elif sequences:
            with (folder / "train.jsonl").open("a") as file:
                file.write(json.dumps({"sentences": [words() for _ in range(3)]}) + "\n")
        else:
            with (folder / "train.txt").open("a") as file:
                file.write(words() + "\n")
    return folder


def captions(folder: Path) -> Path:
    """Sixty pictures, of which fifty have a caption."""
    names = sorted(path.name for path in stand_in("image", folder, False).iterdir())
    rows = [f"{name},a picture of {name[0]}" for name in names[:50]]
    (folder / "metadata.csv").write_text("\n".join(["file_name,text", *rows]))
    return folder


def labelled_sounds(folder: Path) -> Path:
    """Sixty sounds of ten classes, as a table."""
    random, path = np.random.default_rng(0), folder / "sounds.jsonl"
    rows = ({"audio": random.normal(0, 0.1, 4000).round(4).tolist(), "label": i % 10} for i in range(60))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_it_is_said_how_many_pictures_have_a_caption(tmp_path: Path) -> None:
    recipe = Recipe.load("joint/captions", [f"data.path={captions(tmp_path / 'data')}", "data.test=0"])
    (line, *_) = prepare(recipe).lines()
    shown = re.findall(r"(\d+) \((\d+) with text\)", line)
    assert sum(int(rows) for rows, _ in shown) <= 60
    assert sum(int(with_text) for _, with_text in shown) <= 50 < sum(int(rows) for rows, _ in shown)


@pytest.mark.parametrize("name", recipe_names())
def test_the_recipe_trains(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "STEPS", fitting.EVERY)
    recipe = Recipe.load(name)
    path = recipe.data.path
    kinds = [table["kind"] for table in recipe.modalities.values()]
    limit = 12 if recipe.data.sequences else 80  # a chapter has dozens of sentences
    few = [
        f"data.limit={limit}",
        "train.steps=2",
        "train.batch_size=8",
        "train.evaluate_every=2",
        "train.threads=1",
    ]
    if path not in BUILTIN:
        local = SHARED / HUB.get(path, path)
        if len(kinds) > 1:
            apart = any(table["path"] for table in recipe.modalities.values())
            here = local if local.is_dir() else Path("digits") if apart else captions(tmp_path / "data")
        else:
            here = local if local.is_dir() else stand_in(kinds[0], tmp_path / "data", recipe.data.sequences)
        few.append(f"data.path={here}")
    for modality, table in recipe.modalities.items():
        if table["path"] and table["path"] not in BUILTIN:
            own = SHARED / table["path"]
            few.append(f"modalities.{modality}.path={own if own.is_dir() else labelled_sounds(tmp_path)}")
    train(name, few, tmp_path / "run", progress=False)
    vae = VAE.load(tmp_path / "run")
    assert len(vae.generate(2)) == 2
    if recipe.data.sequences:
        assert len(vae.compose(2, length=3)) == 2


@pytest.mark.parametrize("name", recipe_names())
def test_the_head_of_the_recipe_states_command_minutes_and_scores_as_the_readme_does(name: str) -> None:
    command, minutes, scores, *_ = find_recipe(name).read_text().splitlines()
    assert command.startswith(f"# mmvae train {name}")
    time = re.match(r"# ([\d.]+) minutes on 2 cores", minutes)
    measured = re.match(r"# -ELBO (-?[\d,.]*\d), NLL \(k = 64\) (-?[\d,.]*\d), rate [\d.]+ nats; ", scores)
    assert time
    assert measured
    (row,) = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}` |")]
    assert f"| {time[1]} | {measured[1]} | {measured[2]} |" in row
