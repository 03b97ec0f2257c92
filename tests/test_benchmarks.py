"""Every program of benchmarks/ runs from end to end, in small."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from mmvae.generation import VAE
from mmvae.recipe import Recipe

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TEXT = ["modalities.text.vocabulary=300", "modalities.text.embedding=8", "modalities.text.hidden=8"]
SHORT = ["train.batch_size=8", "train.steps=2", "train.evaluate_every=2", "latent.dim=4", "prior.fitted=0"]


def start(program: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """A benchmark, run."""
    return subprocess.run(
        [sys.executable, BENCHMARKS / f"{program}.py", *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )


def run(program: str, *words: str | Path) -> str:
    """What a benchmark prints."""
    done = start(program, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def trained(recipe: str, folder: Path, *overrides: str) -> Path:
    """A model that was hardly trained."""
    words = [recipe, "--out", str(folder), *SHORT, *overrides]
    subprocess.run([sys.executable, "-m", "mmvae", "train", *words], check=True, capture_output=True, timeout=200)
    return folder


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of sentences."""
    path = tmp_path_factory.mktemp("text") / "lines.txt"
    words = ["red", "green", "blue", "small", "large", "cat", "dog", "sat", "ran", "far"]
    path.write_text("\n".join(" ".join(words[(i * j) % 10] for j in range(1, 3 + i % 5)) for i in range(200)))
    return path


def test_every_program_is_tried() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    assert [path.stem for path in BENCHMARKS.glob("*.py") if f'run("{path.stem}"' not in here] == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("audio_samples text", "text is a model of text: name one of audio alone"),
        ("text_samples image lines.txt", "image is a model of image: name one of text alone"),
        ("audio_samples nowhere", "no model folder 'nowhere'"),
        ("audio_phase --data definitions", "modalities.audio: which column of definitions?"),
        ("text_speed --data nowhere.txt", "no file or folder 'nowhere.txt'"),
        ("text_remedies --data nowhere.txt", "no file or folder 'nowhere.txt'"),
        ("methods --recipe nowhere", "no recipe 'nowhere'"),
    ],
)
def test_a_model_or_data_of_another_kind_are_refused_in_one_line(
    line: str, said: str, vae_for: Callable[..., VAE], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for kind in ("text", "image"):
        vae_for(kind).save(kind)
    done = start(*line.split())
    assert done.returncode == 2
    assert done.stderr.startswith("mmvae: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_phases() -> None:
    found = json.loads(run("audio_phase", "--limit", "2"))
    assert (
        found["integrated, 16 iterations"]["convergence (dB)"] < found["integrated, 0 iterations"]["convergence (dB)"]
    )


def test_samples_of_sounds(tmp_path: Path) -> None:
    model = trained("audio/drums", tmp_path / "drums", "modalities.audio.widths=[4]")
    assert 0 <= json.loads(run("audio_samples", model, "--n", "8"))["coverage"] <= 1


def test_drum_loops_are_made_of_the_built_in_drums(tmp_path: Path) -> None:
    assert run("loops", tmp_path, "--n", "10").startswith("10 loops")
    parts = {split: sorted((tmp_path / split).iterdir()) for split in ("train", "validation", "test")}
    assert [len(files) for files in parts.values()] == [8, 1, 1]
    samples, rate = soundfile.read(parts["test"][0])
    assert 4 * 4 * 60 / 140 <= len(samples) / rate <= 4 * 4 * 60 / 80  # four bars of four beats
    assert np.abs(samples).max() == pytest.approx(0.9, abs=1e-3)


def test_samples_of_texts(lines: Path, tmp_path: Path) -> None:
    model = trained("text/definitions", tmp_path / "text", f"data.path={lines}", *TEXT)
    found = json.loads(run("text_samples", model, lines, "--n", "60", "--steps", "2"))
    assert found["samples"] == 60
    assert found["reverse"] > 1


def test_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for the two programs of Debian, which put a page and fortunes where packages have them."""
    page = "<h1>Of cats</h1><p>The cat&rsquo;s hat was <b>red</b>. It cost $1,200.50 in 1990! Why?"
    jokes = "A dog is not a cat at all.\n%\nA dog is not a cat at all.\n"
    programs = {
        "apt-get": "touch all.deb",
        "dpkg-deb": 'mkdir -p "$3/usr/share/doc/anarchism/html" "$3/usr/share/games/fortunes"\n'
        f"printf '{page}' > \"$3/usr/share/doc/anarchism/html/cats.html\"\n"
        f"printf '{jokes.replace('%', '%%')}' > \"$3/usr/share/games/fortunes/dogs\"",
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert run("sentences", tmp_path / "set").startswith("train: 3 sentences")
    assert sorted((tmp_path / "set" / "train.txt").read_text().splitlines()) == [
        "a dog is not a cat at all",
        "it cost N in N",
        "the cat's hat was red",
    ]


@pytest.mark.parametrize("what", ["ours", "plain", "generation", "ours loss", "plain loss"])
def test_speed(what: str, lines: Path) -> None:
    loss = ["--loss", "2"] if "loss" in what else []
    found = json.loads(run("text_speed", "--data", lines, "--steps", "2", "--threads", "1", "--only", what, *loss))
    assert all(value > 0 for value in (found.values() if isinstance(found, dict) else [found]))


def test_remedies(lines: Path, tmp_path: Path) -> None:
    words = [
        "--data",
        lines,
        "--steps",
        "4",
        "--k",
        "2",
        "--out",
        tmp_path,
        "--only",
        "linear",
        "no latent",
        "target",
        "as Bowman",
    ]
    table = run("text_remedies", *words, "--set", *TEXT)
    assert table.count("\n| ") == 5
    assert table.count("nan") == 0


def test_the_page_of_methods_has_a_row_for_each() -> None:
    page = (BENCHMARKS.parent / "docs" / "methods.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| (?:–|`(.*?)`) \| [^|]+ \| [^|]+ \| [^|]+ \| [^|]+ \| [^|]+ \|$", page, re.M)
    module = runpy.run_path(str(BENCHMARKS / "methods.py"))
    assert dict(rows) == module["METHODS"]


def test_methods(tmp_path: Path) -> None:
    words = ["--steps", "2", "--k", "2", "--out", tmp_path, "--only", "VQ-VAE", "RAE-L2"]
    table = run("methods", *words, "--set", "data.limit=300", "modalities.image.widths=[4]")
    assert table.count("\n| ") == 2


def test_joint_methods(tmp_path: Path) -> None:
    words = ["--joint", "--steps", "2", "--k", "2", "--out", tmp_path, "--only", "MVAE", "MMVAE+"]
    table = run("methods", *words, "--set", "data.limit=300", "modalities.image.widths=[4]")
    assert table.count("\n| ") == 2
    assert "–" not in table


def test_joint_examples(tmp_path: Path) -> None:
    changes = "data.limit=60 data.variants=1 modalities.image.widths=[4] modalities.image.private=2"
    model = trained("joint/emoji", tmp_path / "joint", *changes.split())
    table = run("joint_examples", model, "--rows", "3", "--out", tmp_path / "examples.png")
    assert table.count("\n| ") == 4
    assert "text to image" in table
    with Image.open(tmp_path / "examples.png") as picture:
        assert picture.size == (3 * 64, 5 * 64)
    found = json.loads(run("joint_alone", model, "--k", "2", "--limit", "8", "--label", "group", "--out", tmp_path))
    assert found.keys() >= {"image", "text"}
    for each in found.values():
        (nats,) = (value for what, value in each.items() if what.startswith("NLL, k = 2, N = "))
        assert nats.keys() == {"joint", "alone"}
        assert np.isfinite([*nats.values()]).all()
        assert each["Frechet distance"].keys() == {"real", "joint", "alone"}


@pytest.mark.usefixtures("cache")
def test_modalities_alone_are_measured_on_rows_that_the_joint_model_has_not_seen(tmp_path: Path) -> None:
    module = runpy.run_path(str(BENCHMARKS / "joint_alone.py"))
    for name in "ab":
        rows = "".join(f"{name}{i},{i},{i % 3}\n" for i in range(60))
        (tmp_path / f"{name}.csv").write_text(f"text,id,label\n{rows}")
    text = {"kind": "text", "column": "text", "tokenizer": "characters"}
    tables = {"a": text, "b": {**text, "path": str(tmp_path / "b.csv")}}

    def check(**data: str) -> None:
        of = {"name": "x", "data": {"path": str(tmp_path / "a.csv"), **data}, "modalities": tables}
        recipe = Recipe.load(of)
        module["check"](recipe, {name: recipe.modality(name) for name in recipe.modalities})

    check(pair="label")
    for data in ({"pair": "id"}, {"pair": "label", "group": "label"}):
        with pytest.raises(ValueError, match=r"pairs the sets before they are split"):
            check(**data)


def test_nats_of_a_modality_alone_are_in_the_units_of_the_joint_model() -> None:
    stretch = runpy.run_path(str(BENCHMARKS / "joint_alone.py"))["stretch"]
    x = torch.randn(500, 8)
    of_x, of_twice = (-torch.distributions.Normal(0, scale).log_prob(scale * x).sum(1).mean() for scale in (1.0, 2.0))
    assert of_x + stretch(2 * x, x) == pytest.approx(of_twice.item(), abs=1e-4)
    assert stretch(torch.arange(4), torch.arange(4)) == 0


def test_joint_peers(tmp_path: Path) -> None:
    random, y = np.random.default_rng(0), np.arange(40) % 4
    x, c = (random.integers(0, 256, (40, *shape), dtype=np.uint8) for shape in ((8, 8), (3, 8, 8)))
    np.savez(tmp_path / "pairs.npz", x=x, c=c, y=y, x_test=x, c_test=c, y_test=y)
    table = run("joint_peers", tmp_path / "pairs.npz", "--epochs", "4", "--only", "MVAE")
    assert "| MVAE | mmvae |" in table


def test_audio_long() -> None:
    small = ["modalities.audio.widths=[4]", "data.limit=30"]
    found = json.loads(run("audio_long", *small, "--minutes", "0.05", "0.1"))
    assert list(found) == ["0.05 minutes", "0.1 minutes"]
    for minutes, each in zip((0.05, 0.1), found.values(), strict=True):
        assert each["samples in"] == each["samples out"] == minutes * 60 * 44100
        assert 0 < each["memory (MB)"] < 4000
