"""Rows of several sets, paired by a key, and rows that lack something."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mmvae
from mmvae.checkpoint import read_tensors
from mmvae.data.pairing import Thinned, pair
from mmvae.data.prepare import prepare
from mmvae.data.rows import Rows, Selection
from mmvae.evaluation.evaluate import on_other_data
from mmvae.recipe import Recipe

WORDS = {0: ("zero", "null"), 1: ("one", "uno", "eins"), 2: ("two",)}


def numbers(count: int = 12) -> Selection:
    cells = [{"image": f"p{i}", "label": i % 4} for i in range(count)]
    return Rows(cells, ("image", "label"), "pictures").select(range(count))


def words() -> Selection:
    cells = [{"text": word, "label": str(digit)} for digit, all_of in WORDS.items() for word in all_of]
    return Rows(cells, ("text", "label"), "words").select(range(len(cells)))


def test_rows_of_a_key_stand_together_and_the_fewer_come_again() -> None:
    paired = pair({"": {"train": numbers()}, "text": {"train": words()}}, "label")["train"]
    assert paired.rows.columns == ("image", "label", "text: text", "text: label")
    rows = [
        (paired.cell(i, "label"), paired.cell(i, "image"), paired.cell(i, "text: text")) for i in range(len(paired))
    ]
    assert len(rows) == 12  # three of each digit
    assert all(word in WORDS.get(label, [None]) for label, _, word in rows)  # there is no word for 3
    assert {picture for _, picture, _ in rows} == {f"p{i}" for i in range(12)}
    counts = Counter(word for _, _, word in rows)
    assert counts == {"zero": 2, "null": 1, "one": 1, "uno": 1, "eins": 1, "two": 3, None: 3}
    assert paired.cell(0, "text: nothing") is None


def test_rows_without_a_partner_or_a_key_stand_alone() -> None:
    pictures = Rows([{"image": "p", "label": 0}, {"image": "q", "label": None}], ("image", "label"), "pictures")
    sounds = Rows(
        [{"audio": "a", "label": 7}, {"audio": "b", "label": 0}, {"audio": "c"}], ("audio", "label"), "sounds"
    )
    paired = pair({"": {"test": pictures.select([0, 1])}, "audio": {"test": sounds.select([0, 1, 2])}}, "label")["test"]
    rows = [tuple(paired.cell(i, column) for column in ("label", "image", "audio: audio")) for i in range(len(paired))]
    assert rows == [(0, "p", "b"), (7, None, "a"), (None, "q", None), (None, None, "c")]


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("limit", [None, 10])
def test_rows_that_are_named_by_their_key_stay_together_in_every_split(tmp_path: Path, limit: int | None) -> None:
    for name, count in (("a", 60), ("b", 50)):
        lines = "".join(f"{name}{i},{i}\n" for i in range(count))
        # two without a key are no reason to take the others for classes
        without = f"{name}x,\n{name}y,\n" if limit is None else ""
        (tmp_path / f"{name}.csv").write_text(f"text,id\n{lines}{without}")
    text = {"kind": "text", "column": "text", "tokenizer": "characters"}
    tables = {"a": text, "b": {**text, "path": str(tmp_path / "b.csv")}}
    data = {"path": str(tmp_path / "a.csv"), "pair": "id", "limit": limit}
    prepared = prepare(Recipe.load({"name": "pairs", "data": data, "modalities": tables}))
    whole = 0
    for split in prepared.splits.values():
        assert len(split) <= (limit or 64)
        there = split.store.complete().tolist()
        assert all(split.raw("a", i)[1:] == split.raw("b", i)[1:] for i in there)
        whole += len(there)
    assert sum(map(len, prepared.splits.values())) == (64 if limit is None else 22)
    assert whole == 50 if limit is None else whole >= 14
    told = re.search(r"train \d+ \((\d+) with a, (\d+) with b, (\d+) with all\)", next(prepared.lines()))
    if limit is None:  # some have one alone, and others the other
        assert told is not None
        assert int(told[3]) == len(prepared.splits["train"].store.complete()) < min(int(told[1]), int(told[2]))


@pytest.mark.usefixtures("cache")
def test_several_rows_of_one_set_go_with_one_of_another_into_a_split(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,id\n" + "".join(f"a{i},{i}\n" for i in range(100)))
    (tmp_path / "b.csv").write_text("text,id\n" + "".join(f"b{i % 100},{i % 100}\n" for i in range(300)))
    text = {"kind": "text", "column": "text", "tokenizer": "characters"}
    tables = {"a": text, "b": {**text, "path": str(tmp_path / "b.csv")}}
    data = {"path": str(tmp_path / "a.csv"), "pair": "id", "group": "id"}
    splits = prepare(Recipe.load({"name": "pairs", "data": data, "modalities": tables})).splits
    said = {name: {split.raw("a", i)[1:] for i in range(len(split))} for name, split in splits.items()}
    assert all(len(split.store.complete()) == len(split) for split in splits.values())
    assert sum(map(len, splits.values())) == 300
    assert len(set.union(*said.values())) == sum(map(len, said.values())) == 100  # none is in two splits
    (tmp_path / "c").mkdir()
    for split in ("train", "test"):
        (tmp_path / "c" / f"{split}.csv").write_text("text,id\n" + "".join(f"c{i},{i}\n" for i in range(50)))
    tables["b"]["path"] = str(tmp_path / "c")
    with pytest.raises(ValueError, match=r"data\.group: the paired sets declare other splits"):
        prepare(Recipe.load({"name": "pairs", "data": data, "modalities": tables}))


@pytest.mark.usefixtures("cache")
def test_what_would_bring_a_row_into_several_splits_is_refused(tmp_path: Path) -> None:
    text = {"kind": "text", "column": "text", "tokenizer": "characters"}

    def made(rows: int, keys: int, folder: str = "", **data: Any) -> Recipe:
        (tmp_path / "a.csv").write_text("text,id,by\n" + "".join(f"a{i},{i % keys},{i % 7}\n" for i in range(rows)))
        (tmp_path / "b.csv").write_text("text,id\n" + "".join(f"b{i},{i % keys}\n" for i in range(40)))
        tables = {"a": text, "b": {**text, "path": str(tmp_path / (folder or "b.csv"))}}
        return Recipe.load(
            {"name": "pairs", "data": {"path": str(tmp_path / "a.csv"), "pair": "id", **data}, "modalities": tables}
        )

    (tmp_path / "b").mkdir()
    for split, keys in (("train", range(30)), ("test", range(30, 40))):
        (tmp_path / "b" / f"{split}.csv").write_text("text,id\n" + "".join(f"b{i},{i}\n" for i in keys))
    with pytest.raises(
        ValueError, match=r"data\.pair = id, which names single rows: the paired sets declare other splits"
    ):
        prepare(made(40, 40, "b"))
    with pytest.raises(ValueError, match=r"data\.pair: .*a\.csv has no column 'key'; it has text, id, by"):
        prepare(made(40, 40, "b", pair="key"))
    with pytest.raises(ValueError, match=r"data\.group = by: rows of one 'id' have several.*set it to id"):
        prepare(made(80, 10, group="by"))
    prepared = prepare(made(80, 14, group="by"))  # each id has one
    assert len(prepared.splits) == 3
    with pytest.raises(ValueError, match=r"modalities\.b\.path declares no split 'test', so that what was trained on"):
        prepare(on_other_data(made(80, 10), "test", str(tmp_path / "a.csv")), split="test")
    others = on_other_data(made(40, 40, "b"), "test", str(tmp_path / "a.csv"))
    rows = prepare(others, prepared.modalities, "test").splits["test"]
    assert len(rows) == 40  # of which ten are in the other set's split
    assert len(rows.store.complete()) == 10


@pytest.mark.usefixtures("cache")
def test_rows_of_a_file_stay_together_when_sets_are_paired_before_they_are_split(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for i in range(30):
        Image.fromarray(np.full((4, 4, 3), 8 * i, np.uint8)).save(tmp_path / "pictures" / f"{i}.png")
    rows = [f"{i % 30}.png,{i}" for i in range(120)]
    (tmp_path / "pictures" / "metadata.csv").write_text("file_name,id\n" + "\n".join(rows) + "\n")
    # where the first set lacks a row, the second has no file to say what it belongs to
    (tmp_path / "words.csv").write_text("text,id\n" + "".join(f"word {i},{i}\n" for i in range(130)))
    words = {"path": str(tmp_path / "words.csv"), "tokenizer": "characters"}
    data = {"path": str(tmp_path / "pictures"), "pair": "id"}
    recipe = Recipe.load({"name": "x", "data": data, "modalities": {"image": {"size": 4}, "text": words}})
    splits = prepare(recipe).splits
    whole = {name: split.store.complete().tolist() for name, split in splits.items()}
    files = {name: {int(splits[name].raw("image", i)[0, 0, 0]) for i in rows} for name, rows in whole.items()}
    assert sum(map(len, whole.values())) == 120
    assert min(map(len, files.values())) > 0
    assert sum(map(len, files.values())) == len(set.union(*files.values())) == 30


def test_rows_that_either_set_has_in_one_file_are_held_together() -> None:
    def rows(name: str, files: list[int | None]) -> Selection:
        cells = [{name: i, "id": i} for i in range(len(files))]
        of = [None if file is None else Path(f"{name}{file}") for file in files]
        return Rows(cells, (name, "id"), name, origins=of).select()

    paired = pair(
        {"": {"train": rows("a", [0, 0, 1, 2, 3, None])}, "b": {"train": rows("b", [7, 8, 8, 9, 7, 9, 5])}}, "id"
    )["train"].rows
    origins = paired.origins
    assert origins is not None
    groups: dict[Path | None, set[int]] = {}
    for cells, origin in zip(paired.cells, origins, strict=True):
        groups.setdefault(origin, set()).add(cells["id"])
    assert sorted(map(sorted, groups.values())) == [[0, 1, 2, 4], [3, 5], [6]]


@pytest.mark.usefixtures("cache")
def test_a_file_that_cannot_be_read_is_named_where_it_is_paired(tmp_path: Path) -> None:
    for label in "01":
        (tmp_path / "cells" / label).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(tmp_path / "cells" / label / f"{i}.png")
    bad = tmp_path / "cells" / "0" / "3.png"
    bad.write_bytes(b"no picture")
    (tmp_path / "t.csv").write_text("label,text\n" + "".join(f"{i % 2},word {i}\n" for i in range(400)))
    image = {"path": str(tmp_path / "cells"), "size": 4}
    data = {"path": str(tmp_path / "t.csv"), "pair": "label", "max_rejected": 0.0}
    recipe = Recipe.load({"name": "x", "data": data, "modalities": {"text": {}, "image": image}})
    with pytest.raises(ValueError, match=rf"the first: .*t\.csv, row \d+ with {re.escape(str(bad))}: "):
        prepare(recipe)


@pytest.mark.usefixtures("cache")
def test_a_learned_prior_is_not_taught_by_rows_that_lack_what_is_private(tmp_path: Path) -> None:
    recipe = {
        "name": "pairs",
        "data": {"path": "digits", "pair": "label", "limit": 200},
        "modalities": {
            "image": {"widths": [4], "private": 2},
            "text": {"path": "number-words", "tokenizer": "characters", "max_tokens": 8, "hidden": 8, "embedding": 4},
        },
        "latent": {"dim": 6},
        "prior": {"kind": "mixture"},
        "train": {"steps": 2, "batch_size": 8},
    }
    mmvae.train(recipe, out=tmp_path / "whole", progress=False)
    lacking = Recipe.load(recipe, ["data.complete=0.5"])
    with pytest.raises(ValueError, match=r"\d+ of \d+ training rows lack a modality with private dimensions"):
        mmvae.train(lacking, out=tmp_path / "some", progress=False)
    for settings in (["modalities.image.private=0"], ["prior.kind=tree"]):
        mmvae.train(Recipe.load(lacking, settings), out=tmp_path / settings[0], progress=False)
    vae = mmvae.VAE.load(tmp_path / "prior.kind=tree")
    assert vae.fitted is None
    digits = prepare(vae.recipe, vae.modalities, "test").splits["test"]
    batch = digits.store.batch([0, 1])
    means = vae.place(batch.of(["text"]))
    torch.testing.assert_close(means[:, :4], vae.encode(batch.of(["text"]))[:, :4], atol=2e-3, rtol=0)
    assert (means[:, 4:] != 0).all()  # of what is the picture's own, as the prior has it
    figures = mmvae.evaluate(vae, k=4, limit=20)
    assert figures["rate (nats)"] > 0


def test_what_cannot_be_paired_is_said() -> None:
    with pytest.raises(ValueError, match="pictures has no column 'digit'; it has image, label"):
        pair({"": {"train": numbers()}, "text": {"train": words()}}, "digit")
    others = Rows([{"text": "x", "label": "9"}], ("text", "label"), "others").select([0])
    with pytest.raises(ValueError, match="no value of 'label' is in all sets, in the split train"):
        pair({"": {"train": numbers()}, "text": {"train": others}}, "label")


def test_rows_that_are_not_whole_keep_one_of_what_they_had() -> None:
    cells = [{"image": i, "text": None if i % 5 == 0 else str(i), "label": 1} for i in range(2000)]
    rows = Rows(cells, ("image", "text", "label"), "table").select(range(2000))
    thin = Thinned(rows.rows, rows.indices, ["image", "text"], 0.1, seed=0)
    there = [[c for c in ("image", "text") if thin.cell(i, c) is not None] for i in range(2000)]
    assert all(there)
    assert all(thin.cell(i, "label") == 1 for i in range(50))
    could = [i for i in range(2000) if i % 5]
    assert sum(len(there[i]) == 2 for i in could) / len(could) == pytest.approx(0.1, abs=0.03)
    assert sum(there[i] == ["text"] for i in could) / len(could) == pytest.approx(0.45, abs=0.04)


@pytest.mark.usefixtures("cache")
def test_pictures_and_words_of_digits_are_prepared_trained_and_translated(tmp_path: Path) -> None:
    table = tmp_path / "words.csv"
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    lines = [f"{word},{label}" for label, word in enumerate(names)] * 30
    table.write_text("text,label\n" + "\n".join(lines))
    recipe = Recipe.load(
        {
            "name": "pairs",
            "data": {"path": "digits", "pair": "label", "limit": 300, "complete": 0.5},
            "modalities": {
                "image": {"widths": [8]},
                "text": {
                    "path": str(table),
                    "tokenizer": "words",
                    "hidden": 16,
                    "embedding": 8,
                    "max_tokens": 4,
                    "weight": 20.0,
                },
            },
            "latent": {"dim": 4},
            "objective": {"subsets": "each"},
            "train": {"steps": 6, "batch_size": 8, "evaluate_every": 3},
        }
    )
    prepared = prepare(recipe)
    train = prepared.splits["train"]
    by_digit = dict(zip(map(str, range(10)), names, strict=True))
    whole = [i for i in range(len(train)) if all(train.store.columns[name].present[i] for name in ("image", "text"))]
    assert len(whole) / len(train) == pytest.approx(0.5, abs=0.1)
    for i in whole[:20]:
        assert by_digit[str(train.rows.cell(i, "label"))] == train.raw("text", i)
    validation = prepared.splits["validation"]
    digits = [validation.rows.cell(i, "label") for i in range(len(validation))]
    for column in validation.store.columns.values():  # only what is trained on is thinned
        has = {str(digit) for digit, there in zip(digits, column.present, strict=True) if there}
        assert all(there or str(digit) not in has for digit, there in zip(digits, column.present, strict=True))
    vae = mmvae.train(recipe, out=tmp_path / "run", progress=False)
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    scores = [
        each["validation/rate"] + each["validation/distortion/image"] + 20 * each["validation/distortion/text"]
        for each in entries
        if "validation/rate" in each
    ]
    _, about = read_tensors(tmp_path / "run" / "resume.safetensors")
    assert float(about["best"]) == pytest.approx(min(scores))  # the best by what is trained
    (word,) = vae.translate({"image": [prepared.splits["test"].raw("image", 0)]})["text"]
    assert isinstance(word, str)
