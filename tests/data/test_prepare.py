"""Preparation: each row read once, what cannot be read named and counted, and the cache renewed when it must be."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor

from mmvae.data.prepare import Prepared, prepare
from mmvae.modalities.image import Image
from mmvae.modalities.registry import modalities
from mmvae.modalities.text import Text
from mmvae.recipe import Recipe

pytestmark = pytest.mark.usefixtures("cache")

MakeRecipe = Callable[..., Recipe]
Folder = Callable[..., Path]


def sizes(prepared: Prepared) -> dict[str, int]:
    return {name: len(split) for name, split in prepared.splits.items()}


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sentences(path: Path, n: int = 30) -> Path:
    return lines(path, [{"text": f"the cat number {i} sat"} for i in range(n)])


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called, reading an observation fails the test."""

    def forbid() -> None:
        def read(*_: Any) -> Any:
            raise AssertionError("the source was read again")

        for kind, name in ((Image, "read"), (Image, "parse"), (Image, "to_tensor"), (Text, "parse")):
            monkeypatch.setattr(kind, name, read)

    return forbid


# -- rows -------------------------------------------------------------------------------------------


def test_tensors_are_those_of_the_files(recipe_for: MakeRecipe, picture_folder: Folder, tmp_path: Path) -> None:
    prepared = prepare(recipe_for("image", picture_folder(tmp_path / "set", 20)))
    assert sizes(prepared) == {"train": 16, "validation": 2, "test": 2}
    seen = set()
    for split in prepared.splits.values():
        values = split.store.batch(range(len(split))).values["image"]
        for index in range(len(split)):
            raw = split.raw("image", index)
            assert torch.equal(values[index], prepared.modalities["image"].to_tensor(raw))
            seen.add(raw.tobytes())
    assert len(seen) == 20


def test_modalities_are_fitted_to_the_training_split_only(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    for split, word in (("train", "cat"), ("test", "zebra")):
        lines(tmp_path / f"{split}.jsonl", [{"text": f"a {word}"}] * 20)
    prepared = prepare(recipe_for("text", tmp_path, tokenizer="words"))
    modality = prepared.modalities["text"]
    assert isinstance(modality, Text)
    assert modality.tokenizer.token_to_id("cat") is not None
    assert modality.tokenizer.token_to_id("zebra") is None


def test_fitted_modalities_are_kept_as_they_are(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    trained = prepare(recipe_for("text", sentences(tmp_path / "a.jsonl"), tokenizer="words")).modalities
    before = trained["text"].state()
    other = lines(tmp_path / "b.jsonl", [{"text": f"zebra {i} ran"} for i in range(20)])
    prepared = prepare(recipe_for("text", other, tokenizer="words"), trained)
    assert prepared.modalities["text"].state() == before
    assert prepare(recipe_for("text", other, tokenizer="words")).modalities["text"].state() != before


def test_rows_may_lack_a_modality_but_not_all(tmp_path: Path) -> None:
    rows = [
        {
            "text": f"number {i}" if i % 2 else None,
            "image": [[i, 0, 0], [0, i, 255], [0, 9, 9]] if i % 3 else None,
        }
        for i in range(60)
    ]
    recipe = Recipe.load(
        {
            "name": "pairs",
            "data": {"path": str(lines(tmp_path / "a.jsonl", rows)), "max_rejected": 0.2},
            "modalities": {"text": {}, "image": {}},
        }
    )
    prepared = prepare(recipe)
    assert sum(sizes(prepared).values()) == 50
    assert len(prepared.report.rejected) == 10
    assert all(reason == "nothing in text or image" for _, reason in prepared.report.rejected)
    split = prepared.splits["train"]
    batch = split.store.batch(range(len(split)))
    for name in ("text", "image"):
        assert len(batch.values[name]) == batch.present[name].sum()
    values = iter(batch.values["image"])
    for index in range(len(split)):
        if batch.present["image"][index]:
            assert np.array_equal(next(values).permute(1, 2, 0).numpy(), split.raw("image", index))


def test_a_row_whose_file_is_missing_is_rejected_as_one_that_cannot_be_read(
    recipe_for: MakeRecipe, picture_folder: Folder, tmp_path: Path
) -> None:
    names = sorted(path.name for path in picture_folder(tmp_path, 30).iterdir())
    rows = [f"{name},{label}" for label, name in enumerate([*names, "gone.png"])]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    (tmp_path / names[3]).write_bytes(b"no picture")
    prepared = prepare(recipe_for("image", tmp_path, data={"max_rejected": 0.07}))
    assert sum(sizes(prepared).values()) == 29
    rejected = dict(prepared.report.rejected)
    assert rejected.keys() == {str(tmp_path / names[3]), str(tmp_path / "gone.png")}
    assert rejected[str(tmp_path / "gone.png")] == "there is no file 'gone.png'"
    (tmp_path / names[3]).unlink()
    with pytest.raises(
        ValueError, match=r"2 rows could not be used, a share of 6% .*; the first: .*: there is no file '"
    ):
        prepare(recipe_for("image", tmp_path))
    Pillow.new("RGB", (8, 8)).save(tmp_path / "gone.png")
    assert sum(sizes(prepare(recipe_for("image", tmp_path))).values()) == 30


def test_a_column_of_the_recipe_is_taken_or_said_to_be_missing(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"quote": f"words {i}", "label": i} for i in range(20)])
    assert sum(sizes(prepare(recipe_for("text", path, column="quote"))).values()) == 20
    with pytest.raises(
        ValueError, match=r"modalities\.text\.column: a\.jsonl has no column 'quot'; it has quote, label"
    ):
        prepare(recipe_for("text", path, column="quot"))
    with pytest.raises(ValueError, match=r"nothing to train on in column 'label': .*a text is a string, not int"):
        prepare(recipe_for("text", path, column="label"))


def test_a_folder_of_files_has_no_columns(recipe_for: MakeRecipe, picture_folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its files have no columns"):
        prepare(recipe_for("image", picture_folder(tmp_path / "set", 9), column="picture"))


def test_an_unknown_split_is_named_with_those_there_are(recipe_for: MakeRecipe, tmp_path: Path) -> None:
    recipe = recipe_for("text", sentences(tmp_path / "a.jsonl"), data={"test": 0})
    prepared = prepare(recipe)
    assert len(prepared.splits["train"]) == 27
    with pytest.raises(ValueError, match=r"a\.jsonl: no split 'test': it has train, validation"):
        prepare(recipe, prepared.modalities, "test")
    assert list(prepare(recipe, prepared.modalities, "validation").splits) == ["validation"]


def test_a_folder_of_tests_alone_is_measured_but_not_trained_on(
    recipe_for: MakeRecipe, picture_folder: Folder, tmp_path: Path
) -> None:
    fitted = prepare(recipe_for("image", picture_folder(tmp_path / "a", 20))).modalities
    picture_folder(tmp_path / "b" / "test", 3)
    recipe = recipe_for("image", tmp_path / "b")
    assert len(prepare(recipe, fitted, "test").splits["test"]) == 3
    with pytest.raises(ValueError, match="no split 'train': it has test"):
        prepare(recipe)


class Pair(Image):
    """Pictures whose tensors are of another type where the first pixel is dark."""

    def to_tensor(self, raw: Any) -> Tensor:
        tensor = super().to_tensor(raw)
        return tensor.int() if raw.ravel()[0] < 40 else tensor


def test_a_row_that_one_modality_rejects_is_missing_in_all(tmp_path: Path, cache: Path) -> None:
    modalities.register("pair")(Pair)
    rows = [{"a": [[index, 200]], "b": [[200 if index != 5 else 0, index]]} for index in range(100, 130)]
    rows[5]["b"] = [[0, 105]]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = Recipe.load(
        {
            "name": "pairs",
            "data": {"path": str(tmp_path / "a.jsonl"), "validation": 0, "test": 0},
            "modalities": {"a": {"kind": "image"}, "b": {"kind": "pair"}},
        }
    )
    store = prepare(recipe).splits["train"].store
    batch = store.batch(range(len(store)))
    assert len(store) == 29
    assert torch.equal(batch.values["a"][:, 0, 0, 0], batch.values["b"][:, 0, 0, 1])


def test_a_modality_whose_code_changes_prepares_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, picture_folder: Folder
) -> None:
    picture_folder(tmp_path / "set", 20)
    plugin = tmp_path / "plugin.py"
    seen = []
    for shift in (0, 1):
        plugin.write_text(
            "from mmvae.modalities.image import Image\n"
            "class Shifted(Image):\n"
            f"    def to_tensor(self, raw): return super().to_tensor(raw) // 2 + {shift}\n"
        )
        spec = importlib.util.spec_from_file_location(f"plugin{shift}", plugin)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        modalities.register("shifted")(module.Shifted)
        table = {"name": "x", "data": {"path": str(tmp_path / "set")}, "modalities": {"shifted": {}}}
        seen.append(prepare(Recipe.load(table)).splits["train"].store.batch([0]).values["shifted"])
        importlib.invalidate_caches()
    assert torch.equal(seen[0] + 1, seen[1])


def test_the_splits_depend_on_the_data_seed_and_not_on_the_training_seed(tmp_path: Path) -> None:
    def texts(*overrides: str) -> list[str]:
        table = {"name": "x", "data": {"path": str(path)}, "modalities": {"text": {}}}
        split = prepare(Recipe.load(table, overrides)).splits["test"]
        return [split.raw("text", i) for i in range(len(split))]

    path = sentences(tmp_path / "a.jsonl", 60)
    assert texts() == texts("train.seed=5") != texts("data.seed=5")


# -- what cannot be read ----------------------------------------------------------------------------


@pytest.fixture
def damaged(picture_folder: Folder, tmp_path: Path) -> Path:
    """A folder of 40 pictures of which two cannot be read."""
    folder = picture_folder(tmp_path / "set", 40)
    (folder / "007.png").write_bytes(b"no picture")
    (folder / "021.png").write_bytes(b"")
    return folder


def test_a_damaged_file_is_named_and_counted(recipe_for: MakeRecipe, damaged: Path) -> None:
    report = prepare(recipe_for("image", damaged, data={"max_rejected": 0.1})).report
    assert sum(report.rows.values()) == 38
    assert {Path(where).name for where, _ in report.rejected} == {"007.png", "021.png"}
    shown = list(report.lines())
    assert shown[0] == "2 of 40 rows could not be used:"
    assert all("not a readable image" in line for line in shown[1:])


def test_more_damaged_files_than_the_recipe_allows_stop_the_run(
    recipe_for: MakeRecipe, damaged: Path, cache: Path
) -> None:
    with pytest.raises(ValueError, match=r"2 rows could not be used, a share of 5%.* the first: .*\.png: not a read"):
        prepare(recipe_for("image", damaged, data={"max_rejected": 0.01}))
    assert list(cache.iterdir()) == []


def test_the_share_is_checked_again_when_the_data_come_from_the_cache(recipe_for: MakeRecipe, damaged: Path) -> None:
    prepare(recipe_for("image", damaged, data={"max_rejected": 0.5}))
    with pytest.raises(ValueError, match="2 rows could not be used"):
        prepare(recipe_for("image", damaged, data={"max_rejected": 0.01}))


def test_where_nothing_can_be_read_the_first_reason_is_given(
    recipe_for: MakeRecipe, picture_folder: Folder, tmp_path: Path
) -> None:
    for path in picture_folder(tmp_path / "set", 5).iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"nothing to train on in column 'file': .*00\d\.png: not a readable image"):
        prepare(recipe_for("image", tmp_path / "set"))


def test_a_reason_without_words_is_named_by_its_kind(
    recipe_for: MakeRecipe, picture_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise ValueError

    monkeypatch.setattr(Image, "to_tensor", fail)
    with pytest.raises(ValueError, match=r"the first: .*: ValueError"):
        prepare(recipe_for("image", picture_folder(tmp_path / "set", 9)))


def test_long_reports_are_cut() -> None:
    from mmvae.data.prepare import Report

    report = Report({"train": 90}, [(f"{i}.png", "broken") for i in range(10)], {"cut short": 3})
    assert list(report.lines(most=2)) == [
        "3 rows cut short",
        "10 of 100 rows could not be used:",
        "  0.png: broken",
        "  1.png: broken",
        "  and 8 more",
    ]
    assert next(Report(notes={"cut short": 1}).lines()) == "1 row cut short"


def test_texts_that_were_cut_are_counted_also_when_they_come_from_the_cache(
    recipe_for: MakeRecipe, tmp_path: Path
) -> None:
    rows = [{"text": "the cat sat " * (20 if i < 4 else 1)} for i in range(20)]
    recipe = recipe_for("text", lines(tmp_path / "a.jsonl", rows), tokenizer="words")
    expected = {"longer than max_tokens = 12: only the start is used": 4}
    assert prepare(recipe).report.notes == expected
    assert prepare(recipe).report.notes == expected


# -- the cache ----------------------------------------------------------------------------------------


def test_the_second_time_nothing_is_read(
    recipe_for: MakeRecipe, picture_folder: Folder, tmp_path: Path, no_reading: Callable[[], None]
) -> None:
    recipe = recipe_for("image", picture_folder(tmp_path / "set", 20))
    first = prepare(recipe)
    no_reading()
    second = prepare(recipe)
    for name, split in first.splits.items():
        rows = range(len(split))
        ours, theirs = (part.store.batch(rows).values["image"] for part in (split, second.splits[name]))
        assert torch.equal(ours, theirs)
    assert second.modalities["image"].state() == first.modalities["image"].state()


def test_network_settings_do_not_ask_for_preparing_again(
    recipe_for: MakeRecipe, tmp_path: Path, no_reading: Callable[[], None]
) -> None:
    path = sentences(tmp_path / "a.jsonl")
    prepare(recipe_for("text", path))
    no_reading()
    prepare(recipe_for("text", path, hidden=9, embedding=7, word_dropout=0.5))


@pytest.mark.parametrize(
    ("settings", "data"),
    [
        ({"max_tokens": 5}, {}),
        ({"tokenizer": "words"}, {}),
        ({}, {"seed": 1}),
        ({}, {"limit": 10}),
        ({}, {"test": 0.3}),
    ],
    ids=str,
)
def test_settings_that_shape_the_data_do(
    settings: dict[str, Any], data: dict[str, Any], recipe_for: MakeRecipe, tmp_path: Path, cache: Path
) -> None:
    path = sentences(tmp_path / "a.jsonl")
    prepare(recipe_for("text", path))
    prepare(recipe_for("text", path, data=data, **settings))
    assert len(list(cache.iterdir())) == 2


def test_a_file_that_changes_is_prepared_again(recipe_for: MakeRecipe, picture_folder: Folder, tmp_path: Path) -> None:
    recipe = recipe_for("image", picture_folder(tmp_path / "set", 20))
    first = prepare(recipe)
    picture_folder(tmp_path / "set", 20, seed=5)
    second = prepare(recipe)
    assert first.fingerprint != second.fingerprint
    ours, theirs = (prepared.splits["train"].store.batch([0]).values["image"] for prepared in (first, second))
    assert not torch.equal(ours, theirs)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its files are closed by the collector
def test_a_preparation_that_is_stopped_leaves_nothing_behind(
    recipe_for: MakeRecipe, picture_folder: Folder, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for("image", picture_folder(tmp_path / "set", 20))

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Image, "to_tensor", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(recipe)
    assert list(cache.iterdir()) == []
    assert sizes(prepare(recipe)) == {"train": 16, "validation": 2, "test": 2}


def test_progress_is_told(recipe_for: MakeRecipe, picture_folder: Folder, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    prepare(recipe_for("image", picture_folder(tmp_path / "set", 20)), progress=lambda *what: told.append(what))
    assert told == [("preparing train", 0, 16), ("preparing validation", 0, 2), ("preparing test", 0, 2)]
