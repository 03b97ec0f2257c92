"""Traversals: one dimension moves, those in use come first, and the walks are shown as walks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from PIL import ImageSequence

import mmvae
from mmvae.generation import VAE
from mmvae.modalities.image import Image
from mmvae.traversing import traverse


@pytest.mark.parametrize("kind", ["image", "text", "audio"])
def test_one_dimension_after_another_moves_and_the_others_stay(
    kind: str, vae_for: Callable[..., VAE], raws_of: Callable[..., list[Any]]
) -> None:
    vae, (raw,) = vae_for(kind), raws_of(kind, 1)
    made = traverse(vae, raw, dims=3, steps=5, reach=1.0)
    ways = made.z.view(3, 5, 4)
    moved = [(way.std(0) > 1e-6).nonzero().flatten().tolist() for way in ways]
    assert all(len(dims) == 1 for dims in moved)
    assert len({dims[0] for dims in moved}) == 3
    start = vae.encode([raw])[0]
    for way, (dim,) in zip(ways, moved, strict=True):
        others = [other for other in range(4) if other != dim]
        assert torch.equal(way[:, others], start[others].expand(5, -1))
        assert way[-1, dim] > way[0, dim]
    assert made.dims == tuple(dim for (dim,) in moved)
    assert len(traverse(vae, steps=2)) == 2 * 4  # there are no more dimensions


def test_a_dimension_that_says_nothing_comes_last(vae_for: Callable[..., VAE]) -> None:
    vae = vae_for("image")
    with torch.no_grad():
        head: Any = vae.network.encoders["image"].get_submodule("network.head")
        head.weight[2], head.bias[2] = 0, 0.7  # its posterior mean is the same for all
        head.weight[[0, 1, 3]] *= 30
    ways = traverse(vae, dims=4, steps=3).z.view(4, 3, 4)
    assert ways[-1].std(0).argmax() == 2
    assert all(way.std(0).argmax() != 2 for way in ways[:-1])


def test_walks_are_rows_of_a_sheet_and_move_side_by_side(vae_for: Callable[..., VAE], tmp_path: Path) -> None:
    made = traverse(vae_for("image"), dims=2, steps=6)
    made.save(tmp_path)
    with Pillow.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (6 * 10 * 8, 2 * 10 * 8)
    with Pillow.open(tmp_path / "sheet.gif") as moving:
        assert len(list(ImageSequence.Iterator(moving))) == 10  # there and back
        moving.seek(0)
        assert moving.size == (2 * 8 * 8, 8 * 8)
        first = np.asarray(moving.convert("RGB"))[::8, ::8].astype(int)
    shown = np.concatenate([made["image"][0], made["image"][6]], axis=1)
    assert np.abs(first - shown).mean() < 12  # of a palette
    between = vae_for("image").interpolate(steps=3).save(tmp_path / "between")
    assert len(between) == 3
    assert (tmp_path / "between" / "sheet.gif").is_file()
    vae_for("image").generate(3).save(tmp_path / "between")
    assert not (tmp_path / "between" / "sheet.gif").exists()


def test_transparent_pictures_move_on_white_without_ghosts(tmp_path: Path) -> None:
    raws = []
    for place in range(3):
        raw = np.zeros((8, 8, 4), np.uint8)
        raw[:, 2 * place : 2 * place + 2] = 0, 0, 0, 255
        raws.append(raw)
    picture = Image(Image.Config())
    picture.fit(raws)
    picture.sheet(raws, tmp_path / "sheet", 3)
    with Pillow.open(tmp_path / "sheet.gif") as moving:
        for place, frame in zip((0, 1, 2, 1), ImageSequence.Iterator(moving), strict=True):
            dark = np.asarray(frame.convert("L"))[::8, ::8] < 128
            assert np.flatnonzero(dark.any(0)).tolist() == [2 * place, 2 * place + 1]


def test_walks_of_sentences_stand_apart(vae_for: Callable[..., VAE], tmp_path: Path) -> None:
    traverse(vae_for("text"), dims=2, steps=3).save(tmp_path)
    lines = (tmp_path / "sheet.txt").read_text().split("\n")
    assert len(lines) == 8
    assert lines[3] == ""


def test_what_cannot_be_walked_is_said(vae_for: Callable[..., VAE]) -> None:
    vae = vae_for("text")
    for wrong in ({"dims": 0}, {"steps": 1}, {"reach": 0.0}, {"reach": float("nan")}):
        (name,) = wrong
        with pytest.raises(ValueError, match=f"{name} = .*: it is "):
            traverse(vae, **wrong)  # ty: ignore[invalid-argument-type]
    for kind in ("none", "sphere", "vq"):
        vae.recipe.latent["kind"] = kind
        with pytest.raises(ValueError, match=f"latent.kind = {kind} has no dimension that can be moved"):
            traverse(vae)


def test_the_command_writes_walks_that_can_be_made_again(vae_for: Callable[..., VAE], tmp_path: Path) -> None:
    vae_for("image").save(tmp_path / "model")
    command = [sys.executable, "-m", "mmvae", "traverse", "model", "--dims", "2", "--steps", "3", "--json"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    files, dims = (json.loads(told.stdout)[key] for key in ("files", "dimensions"))
    assert len(set(dims)) == 2
    page = (tmp_path / "traversed" / "gallery.html").read_text()
    assert [f"{i}, dimension {dims[i // 3]}<" in page for i in range(6)] == [True] * 6
    said = subprocess.run(command[:-1], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert f"row by row, along dimension {dims[0]}, {dims[1]} of z, counted from 0" in said
    assert [Path(file).name for file in files] == [f"{i:03d}.png" for i in range(6)]
    again = [sys.executable, "-m", "mmvae", "reproduce", files[4], "--out", "again.png"]
    subprocess.run(again, cwd=tmp_path, capture_output=True, text=True, check=True)
    ours, theirs = (np.asarray(Pillow.open(tmp_path / name)) for name in ("again.png", files[4]))
    assert np.array_equal(ours, theirs)
    assert mmvae.traverse is traverse
