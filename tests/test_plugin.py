"""A package of a stranger's: installed, listed, trained and used through the command line alone; and a broken one."""

from __future__ import annotations

import importlib
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mmvae
from mmvae.modalities.registry import modalities

PLUGIN = Path(__file__).parent / "plugin"
SHARED = Path(os.environ.get("MMVAE_SHARED", Path(__file__).parents[2] / "shared"))
CHORALES = SHARED / "data" / "music" / "jsb-chorales-16th.json"  # made pieces where it is absent
SMALL = ["data.limit=48", "modalities.pianoroll.width=8", "latent.dim=8", "prior.fitted=2"]
SHORT = ["train.steps=20", "train.batch_size=16", "train.evaluate_every=20", "train.threads=1"]

SHORT_Z = """
from mmvae.core.objectives import ELBO


class Short(ELBO):
    class Config(ELBO.Config):
        length: float = 1.0

    def penalty(self, network, inferred, z, noise):
        return self.config.length * z.square().sum(1).mean()
"""


def run(site: Path, *words: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """`python -m words` with the packages in `site` installed."""
    result = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == status, result.stderr
    return result


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages: the piano rolls, an objective, and one whose import fails."""
    site = tmp_path_factory.mktemp("site")
    quiet = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
    run(site, "pip", "install", *quiet, "--target", site, PLUGIN)
    for module, code, entry in (
        (
            "broken",
            "raise ImportError('no library of holograms')\n",
            "[mmvae.modalities]\nhologram = broken:Hologram\n",
        ),
        ("short", SHORT_Z, "[mmvae.objectives]\nshort = short:Short\n"),
    ):
        (site / f"{module}.py").write_text(code)
        about = site / f"mmvae_{module}-1.2.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: mmvae-{module}\nVersion: 1.2\n")
        (about / "entry_points.txt").write_text(entry)
    return site


@pytest.fixture(scope="module")
def model(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model of piano rolls."""
    folder = tmp_path_factory.mktemp("model")
    run(site, "mmvae_pianoroll.data", folder / "chorales", *([CHORALES] if CHORALES.is_file() else []))
    path = f"data.path={folder / 'chorales'}"
    run(site, "mmvae", "train", PLUGIN / "chorales.toml", path, *SMALL, *SHORT, "--out", folder / "run")
    return folder / "run"


def test_it_is_listed_with_its_package(site: Path) -> None:
    listed = {item["name"]: item for item in json.loads(run(site, "mmvae", "modalities", "--json").stdout)}
    assert listed["pianoroll"]["origin"] == "mmvae-pianoroll 0.1.0"
    assert listed["image"]["origin"] == "built in"
    assert listed["hologram"]["origin"] == "mmvae-broken 1.2"
    assert "no library of holograms" in listed["hologram"]["about"]


def test_an_installed_objective_is_known_by_its_name(site: Path, tmp_path: Path) -> None:
    words = ["objective.kind=short", "objective.length=2", "data.limit=60", "modalities.image.widths=[4]", *SHORT]
    run(site, "mmvae", "train", "image/digits", *words, "--out", tmp_path / "run")
    run(site, "mmvae", "generate", tmp_path / "run", "-n", "2", "--out", tmp_path / "new")
    refused = run(site, "mmvae", "train", "image/digits", "objective.kind=shart", status=2)
    assert "unknown objective 'shart': did you mean 'short'?" in refused.stderr


def test_it_keeps_the_contract(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(site)
    kind: Any = modalities.get("pianoroll")
    compose = importlib.import_module("mmvae_pianoroll.data").compose
    for steps in (16, 13):
        mmvae.check_modality(kind(kind.Config(steps=steps, width=4)), [compose(seed)[:steps] for seed in range(5)])


def test_it_generates_midi_files(site: Path, model: Path, tmp_path: Path) -> None:
    run(site, "mmvae", "generate", model, "-n", "4", "--seed", "3", "--out", tmp_path / "new")
    files = sorted((tmp_path / "new").glob("*.mid"))
    assert len(files) == 4
    for file in files:
        _expect_midi(file.read_bytes())
    assert (tmp_path / "new" / "gallery.html").read_text().count("<svg") == 4
    # the files that it wrote are files that it reads
    run(site, "mmvae", "interpolate", model, files[0], files[1], "--steps", "5", "--out", tmp_path / "between")
    assert len(list((tmp_path / "between").glob("*.mid"))) == 5
    run(site, "mmvae", "reproduce", files[2], "--out", tmp_path / "again.mid")
    assert (tmp_path / "again.mid").read_bytes() == files[2].read_bytes()


def test_it_is_evaluated(site: Path, model: Path) -> None:
    figures = json.loads(run(site, "mmvae", "evaluate", model, "--split", "test", "--k", "2", "--json").stdout)
    assert figures["split"] == "test"
    assert figures["-ELBO (nats)"] > 0
    assert 0 <= figures[f"reconstruction, pianoroll: notes kept, N = {figures['rows']}"] <= 1


def test_it_is_trained_together_with_words(site: Path, model: Path, tmp_path: Path) -> None:
    run(site, "mmvae", "generate", model, "-n", "24", "--out", tmp_path / "pieces")
    names = sorted(file.name for file in (tmp_path / "pieces").glob("*.mid"))
    rows = [f"{name},{'a merry' if i % 2 else 'a sad'} piece" for i, name in enumerate(names)]
    (tmp_path / "pieces" / "metadata.csv").write_text("\n".join(["file_name,text", *rows[:-4]]) + "\n")
    recipe = tmp_path / "songs.toml"
    recipe.write_text(
        'name = "songs"\n[data]\npath = "pieces"\n[modalities.pianoroll]\nwidth = 4\n'
        '[modalities.text]\ntokenizer = "words"\nvocabulary = 260\nhidden = 8\nembedding = 8\n[latent]\ndim = 4\n'
        "[train]\nsteps = 4\nbatch_size = 8\nevaluate_every = 2\nthreads = 1\n"
    )
    path = f"data.path={tmp_path / 'pieces'}"
    run(site, "mmvae", "train", recipe, path, "--out", tmp_path / "songs")
    listed = run(
        site, "mmvae", "translate", tmp_path / "songs", "a sad piece", "-n", "2", "--out", tmp_path / "of-words"
    )
    assert "2 files" in listed.stdout
    made = sorted((tmp_path / "of-words").glob("*.mid"))
    _expect_midi(made[0].read_bytes())
    said = run(site, "mmvae", "translate", tmp_path / "songs", made[0], "--to", "text", "--out", tmp_path / "of-notes")
    assert "4 files" in said.stdout


def test_a_broken_plugin_is_named_when_asked_for(site: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "holograms.toml"
    recipe.write_text('name = "holograms"\n[data]\npath = "digits"\n[modalities.hologram]\n')
    stderr = run(site, "mmvae", "train", recipe, "--out", tmp_path / "run", status=2).stderr
    assert stderr.startswith("mmvae: ")
    assert stderr.count("\n") == 1
    assert "mmvae-broken 1.2" in stderr
    assert "no library of holograms" in stderr


def test_a_broken_plugin_harms_nobody_else(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(site)
    assert "hologram" in modalities.names()
    recipe = {
        "name": "digits",
        "data": {"path": "digits", "limit": 32},
        "modalities": {"image": {"widths": [4]}},
        "latent": {"dim": 4},
        "train": {"steps": 2, "batch_size": 8, "threads": 1},
    }
    model = mmvae.train(recipe, out=tmp_path / "run", progress=False)
    paths = model.generate(2).save(tmp_path / "new")
    assert len(paths) == 2
    assert json.loads(modalities.get("image").read_tag(paths[0]) or "")["verb"] == "generate"


def _expect_midi(data: bytes) -> None:
    """One track of notes that start and end, by the letter of the standard."""
    assert data[:14] == b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480)
    assert data[14:18] == b"MTrk"
    assert struct.unpack(">I", data[18:22])[0] == len(data) - 22
    assert data.endswith(b"\xff\x2f\x00")
    assert max(byte for byte in data[22:-3] if byte < 0x80) < 128
