"""Sounds longer than a window: read in pieces that overlap, put together again without a seam, in constant memory."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from mmvae.data.items import FEW, STRETCH
from mmvae.data.prepare import prepare
from mmvae.generation import VAE
from mmvae.modalities.audio import Audio
from mmvae.modalities.contract import as_stream
from mmvae.recipe import Recipe
from mmvae.reproducing import reproduce
from mmvae.resynthesizing import resynthesize
from mmvae.training import train

RATE = 8000


def audio(**config: Any) -> Audio:
    settings = {"sample_rate": RATE, "seconds": 0.25, "fft": 256, "hop": 64, "power": 1.0, **config}
    modality = Audio(Audio.Config(**settings))
    modality.fit([np.ones((modality.config.channels, 100), np.float32)])
    return modality


def song(path: Path, seconds: float, rate: int = RATE, channels: int = 1) -> Path:
    """A gliding chord."""
    t = np.arange(round(seconds * rate)) / rate
    glide = sum(np.sin(2 * np.pi * (pitch * t + 20 * t**2)) for pitch in (220, 331, 512)) / 4
    soundfile.write(path, np.stack([glide * (0.9 - 0.3 * c) for c in range(channels)], 1), rate, subtype="FLOAT")
    return path


@pytest.mark.parametrize(("seconds", "count"), [(0.1, 1), (0.25, 1), (0.2501, 2), (0.436, 2), (0.4361, 3), (3.0, 16)])
def test_pieces_overlap_and_reach_the_end(tmp_path: Path, seconds: float, count: int) -> None:
    modality, path = audio(), song(tmp_path / "a.wav", seconds)
    assert modality.overlap == 512
    assert modality.pieces(path) == count
    whole, _ = soundfile.read(path, dtype="float32")
    for index in range(count):
        start = index * modality.step
        np.testing.assert_array_equal(modality.read_piece(path, index)[0], whole[start : start + modality.samples])
    assert start + modality.samples >= len(whole)
    assert not modality.notes


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
def test_pieces_of_a_compressed_file_are_those_of_the_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, soundfile.read(song(tmp_path / "a.wav", 5.3, 44100))[0], 44100)
    modality = audio(sample_rate=44100)
    whole, _ = soundfile.read(path, dtype="float32")
    count = modality.pieces(path)
    assert count > 20
    for index in (0, 1, count // 2, count - 1):
        start = index * modality.step
        known = whole[start : start + modality.samples]
        np.testing.assert_allclose(modality.read_piece(path, index)[0], known, atol=1e-4)


def test_pieces_of_a_file_of_another_rate_are_those_of_the_converted_file(tmp_path: Path) -> None:
    import soxr

    modality, path = audio(), song(tmp_path / "a.wav", 1.0, 2 * RATE)  # a start is a whole sample of the file's own
    whole = soxr.resample(soundfile.read(path, dtype="float32")[0], 2 * RATE, RATE)
    for index in range(modality.pieces(path)):
        start = index * modality.step
        piece = modality.read_piece(path, index)[0]
        assert len(piece) == min(modality.samples, len(whole) - start)
        np.testing.assert_allclose(piece, whole[start : start + len(piece)], atol=2e-3)


def test_a_file_that_does_not_say_its_length_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    song(tmp_path / "endless.wav", 1.0)
    endless = type("Info", (), {"frames": 2**63 - 1, "samplerate": RATE})()
    monkeypatch.setattr(soundfile, "info", lambda _: endless)
    with pytest.raises(ValueError, match="does not say how long it is"):
        audio().pieces(tmp_path / "endless.wav")


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [RATE, 11025])
def test_pieces_are_put_together_to_the_same_length_and_sound(tmp_path: Path, channels: int, rate: int) -> None:
    modality, path = audio(channels=channels), song(tmp_path / "a.wav", 1.7, rate, channels)
    out = tmp_path / "again.wav"
    count = modality.pieces(path)
    modality.assemble((modality.to_tensor(modality.read_piece(path, i)) for i in range(count)), path, out)
    again, found_rate = soundfile.read(out, dtype="float32", always_2d=True)
    assert found_rate == RATE
    assert again.shape == (round(soundfile.info(path).frames * RATE / rate), channels)
    wanted = modality.seen.analysis.spectrum(torch.from_numpy(np.stack([modality._read(path, 0, len(again))])[0])).abs()
    found = modality.seen.analysis.spectrum(torch.from_numpy(again.T.copy())).abs()
    assert 20 * math.log10((found - wanted).norm() / wanted.norm()) < -20
    # at no seam a jump larger than the sound's own
    jumps = np.abs(np.diff(again, axis=0)).max(1)
    seams = [i * modality.step + offset for i in range(1, count) for offset in (0, modality.overlap)]
    assert max(jumps[max(0, s - 2) : s + 2].max() for s in seams if s < len(jumps)) <= 1.2 * np.median(jumps) * 3


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    folder.mkdir()
    for index in range(5):
        song(folder / f"{index}.wav", 0.3 + 0.5 * index)
    return folder


@pytest.mark.usefixtures("cache")
def test_long_files_give_all_their_pieces_and_stretches_stay_together(
    recordings: Path, recipe_for: Callable[..., Recipe]
) -> None:
    sizes = {"sample_rate": RATE, "seconds": 0.1, "fft": 128, "hop": 32}
    prepared = prepare(recipe_for("audio", recordings, {"pieces": True}, **sizes))
    modality = as_stream(prepared.modalities["audio"])
    expected = sum(modality.pieces(path) for path in recordings.iterdir())
    assert sum(prepared.report.rows.values()) == expected > 5
    held = [
        [split.rows.where(split.kept[row]) for row in rows.tolist()]
        for split in prepared.splits.values()
        for rows in split.sequences()
    ]
    assert sorted(name for names in held for name in names) == sorted(
        f"{path}, piece {i + 1}" for path in recordings.iterdir() for i in range(modality.pieces(path))
    )
    for names in held:
        numbers = [int(name.split()[-1]) for name in names]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert len({name.split(",")[0] for name in names}) == 1
        assert len(numbers) <= STRETCH
    assert not prepared.report.notes  # nothing was cut


@pytest.mark.usefixtures("cache")
def test_many_long_files_are_sequences_each_in_one_split(recordings: Path, recipe_for: Callable[..., Recipe]) -> None:
    for index in range(5, FEW):
        song(recordings / f"{index}.wav", 2.3)
    sizes = {"sample_rate": RATE, "seconds": 0.1, "fft": 128, "hop": 32}
    prepared = prepare(recipe_for("audio", recordings, {"pieces": True}, **sizes))
    modality = as_stream(prepared.modalities["audio"])
    found = [
        {split.rows.where(split.kept[row]).split(",")[0] for row in rows.tolist()}
        for split in prepared.splits.values()
        for rows in split.sequences()
    ]
    assert sorted(path for paths in found for path in paths) == sorted(map(str, recordings.iterdir()))
    assert {len(paths) for paths in found} == {1}
    assert max(modality.pieces(path) for path in recordings.iterdir()) > STRETCH
    for split, paths in (("train", sorted(recordings.iterdir())[-1:]), ("test", sorted(recordings.iterdir())[:-1])):
        (recordings / split).mkdir()
        for path in paths:
            path.rename(recordings / split / path.name)
    rows = prepare(recipe_for("audio", recordings, {"pieces": True, "validation": 0.4}, **sizes)).splits
    assert all(len(split.sequences()) for split in rows.values())  # one file is cut, those to test on are whole
    assert len(rows["test"].sequences()) == FEW - 1


@pytest.mark.usefixtures("cache")
def test_a_damaged_file_among_long_ones_is_named(recordings: Path, recipe_for: Callable[..., Recipe]) -> None:
    (recordings / "5.wav").write_bytes(b"RIFF")
    recipe = recipe_for("audio", recordings, {"pieces": True, "max_rejected": 0.5}, sample_rate=RATE)
    report = prepare(recipe).report
    assert [where for where, _ in report.rejected] == [f"{recordings / '5.wav'}, piece 1"]


@pytest.mark.usefixtures("cache")
def test_tables_and_texts_have_no_pieces(tmp_path: Path, recipe_for: Callable[..., Recipe]) -> None:
    with pytest.raises(ValueError, match=r"data\.pieces: drums is a table"):
        prepare(recipe_for("audio", "drums", {"pieces": True}))
    (tmp_path / "lines.txt").write_text("a b\n" * 20)
    with pytest.raises(ValueError, match=r"files of Text are not made of pieces"):
        prepare(recipe_for("text", tmp_path / "lines.txt", {"pieces": True}))


@pytest.fixture
def small(recordings: Path, recipe_for: Callable[..., Recipe], tmp_path: Path) -> VAE:
    recipe = recipe_for("audio", recordings, {"pieces": True}, sample_rate=RATE, seconds=0.1, fft=128, hop=32)
    return train(recipe, ["train.steps=2", "train.batch_size=4"], tmp_path / "run", progress=False)


@pytest.mark.usefixtures("cache")
def test_a_long_file_goes_through_a_model_whole(small: VAE, recordings: Path, tmp_path: Path) -> None:
    out, files = tmp_path / "out.wav", sorted(recordings.iterdir())
    assert resynthesize(small, files[4], out) == out
    assert soundfile.info(out).frames == soundfile.info(files[4]).frames
    plain = soundfile.read(out)[0]

    def moved(other: Path, weight: float) -> float:
        path = resynthesize(small, files[4], tmp_path / f"{other.stem}-{weight}.wav", other, weight)
        return np.abs(soundfile.read(path)[0] - plain).max()

    assert moved(files[0], 0.0) < 1e-3
    assert moved(files[4], 0.7) < 1e-3
    assert moved(files[0], 1.0) > 1e-2
    assert sorted(path.name for path in tmp_path.glob(".*.part")) == []


@pytest.mark.usefixtures("cache")
def test_the_other_file_begins_anew_where_it_is_shorter(
    small: VAE, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, seen = Audio.read_piece, []

    def watched(modality: Audio, file: Path, index: int) -> np.ndarray:
        seen.append((file.stem, index))
        return read(modality, file, index)

    monkeypatch.setattr(Audio, "read_piece", watched)
    resynthesize(small, recordings / "4.wav", tmp_path / "out.wav", toward=recordings / "0.wav")
    modality = as_stream(small.modalities["audio"])
    count, other = (modality.pieces(recordings / name) for name in ("4.wav", "0.wav"))
    assert 1 < other < count
    assert [index for stem, index in seen if stem == "4"] == list(range(count))
    assert [index for stem, index in seen if stem == "0"] == [index % other for index in range(count)]


@pytest.mark.usefixtures("cache")
def test_what_cannot_be_taken_through_is_said(small: VAE, recordings: Path, tmp_path: Path) -> None:
    song_path, broken = recordings / "4.wav", tmp_path / "broken.wav"
    broken.write_bytes(song_path.read_bytes()[:-1000])
    for file, out, message in (
        (tmp_path / "none.wav", tmp_path / "o.wav", "no file '.*none.wav'"),
        (song_path, song_path, "exists already: name another file"),
        (song_path, tmp_path / "o.mp3", r"is written as \.wav"),
        (song_path, tmp_path / "nowhere" / "o.wav", "no folder"),
        (broken, tmp_path / "o.wav", r"broken\.wav, piece 1: the file is cut off"),
    ):
        with pytest.raises((ValueError, FileNotFoundError, FileExistsError), match=message):
            resynthesize(small, file, out)
        assert not (tmp_path / "o.wav").exists()
    with pytest.raises(ValueError, match="weight = 2"):
        resynthesize(small, song_path, tmp_path / "o.wav", toward=song_path, weight=2)


@pytest.fixture
def composer(recordings: Path, recipe_for: Callable[..., Recipe], tmp_path: Path) -> VAE:
    recipe = recipe_for("audio", recordings, {"pieces": True}, sample_rate=RATE, seconds=0.1, fft=128, hop=32)
    changes = ["train.steps=2", "train.batch_size=4", "prior.sequence=8"]
    return train(recipe, changes, tmp_path / "composer", progress=False)


@pytest.mark.usefixtures("cache")
def test_a_sound_longer_than_a_window_is_made_and_gone_on_from(composer: VAE, recordings: Path, tmp_path: Path) -> None:
    modality = as_stream(composer.modalities["audio"])
    assert isinstance(modality, Audio)
    new = composer.compose(2, length=5, seed=1)["audio"]
    assert [sound.shape for sound in new] == [(1, 5 * modality.step + modality.overlap)] * 2
    opening = recordings / "2.wav"
    known = soundfile.read(opening, dtype="float32")[0]
    samples = composer.compose(2, length=3, opening=[opening], seed=1)
    (first, second) = samples["audio"]
    assert first.shape == (1, len(known) + 3 * modality.step)
    kept = len(known) - modality.overlap
    for sound in (first, second):
        np.testing.assert_array_equal(sound[0, :kept], known[:kept])
    assert not np.array_equal(first[0, len(known) :], second[0, len(known) :])
    samples.save(tmp_path / "new")
    path, _ = reproduce(tmp_path / "new" / "001.wav")
    assert np.array_equal(soundfile.read(path)[0], soundfile.read(tmp_path / "new" / "001.wav")[0])
    whole, pieces = modality.opening(opening)
    np.testing.assert_array_equal(pieces[-1][0], whole[0, -modality.samples :])
    assert all(piece.shape == (1, modality.samples) for piece in pieces)


@pytest.mark.usefixtures("cache")
def test_an_opening_is_one_file_as_long_as_a_window(composer: VAE, recordings: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give one sound as the opening"):
        composer.compose(1, 2, opening=[recordings / "2.wav", recordings / "3.wav"])
    with pytest.raises(ValueError, match=r"it must last 0\.1 s at least"):
        composer.compose(1, 2, opening=[song(tmp_path / "short.wav", 0.05)])


@pytest.mark.usefixtures("cache")
def test_the_command_writes_one_file(small: VAE, recordings: Path, tmp_path: Path) -> None:
    line = ["resynthesize", str(small.folder), str(recordings / "4.wav"), "--toward", str(recordings / "0.wav")]
    ran = subprocess.run(
        [sys.executable, "-m", "mmvae", *line, "--out", "out.wav"], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "out.wav\n"
    assert re.search(r"4\.wav: [\d.]+ seconds, [\d,]+ Hz, \d channels\n(.*\n)*out\.wav: ", ran.stderr)
    assert soundfile.info(tmp_path / "out.wav").frames == soundfile.info(recordings / "4.wav").frames
