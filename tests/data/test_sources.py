"""Sources: folders, files, tables and data laid out like the hub's, as splits of rows."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image as Pillow

from mmvae.data.items import by_piece, by_sequence
from mmvae.data.rows import Fault, Rows, Source, default_column, read_cell
from mmvae.data.sources import BUILTIN, open_source
from mmvae.generation import VAE
from mmvae.modalities.contract import Modality
from mmvae.recipe import Recipe

LINES = [f"line number {i}" for i in range(12)]
SHARED = Path(os.environ.get("MMVAE_SHARED") or Path(__file__).parents[3] / "shared" / "data")


@pytest.fixture
def opened(recipe_for: Callable[..., Recipe]) -> Callable[..., Source]:
    """Open a data set for one modality or several."""

    def opened(path: Path | str, *kinds: str) -> Source:
        return open_source(str(path), None, {kind: recipe_for(kind).modality(kind) for kind in kinds})

    return opened


Open = Callable[..., Source]
Folder = Callable[..., Path]


def sizes(source: Source) -> dict[str, int]:
    return {name: len(rows) for name, rows in source.splits.items()}


def column(rows: Rows, name: str) -> list[Any]:
    return [rows.cells[i][name] for i in range(len(rows))]


# -- folders of files -----------------------------------------------------------------------------


def test_a_folder_of_pictures_is_one_split_in_the_order_of_names(
    opened: Open, picture_folder: Folder, tmp_path: Path
) -> None:
    picture_folder(tmp_path, 3)
    picture_folder(tmp_path / "below" / "deep", 2)
    (tmp_path / "notes.md").write_text("not a picture")
    (tmp_path / ".hidden.png").write_bytes(b"")
    source = opened(tmp_path, "image")
    assert sizes(source) == {"train": 5}
    files = column(source.splits["train"], "file")
    assert files == sorted(files)
    assert source.splits["train"].where(0) == str(files[0])


def test_subfolders_named_like_splits_are_the_splits(opened: Open, picture_folder: Folder, tmp_path: Path) -> None:
    for n, name in enumerate(("train", "val", "test"), start=1):
        picture_folder(tmp_path / name, n)
    assert sizes(opened(tmp_path, "image")) == {"test": 3, "train": 1, "validation": 2}


def test_suffixes_count_whatever_their_case(opened: Open, picture_folder: Folder, tmp_path: Path) -> None:
    (picture_folder(tmp_path, 1) / "000.png").rename(tmp_path / "000.PNG")
    assert sizes(opened(tmp_path, "image")) == {"train": 1}


def test_sounds_of_every_format_are_found(opened: Open, tmp_path: Path) -> None:
    for name in ("a.wav", "b.flac", "c.ogg", "d.aiff"):
        soundfile.write(tmp_path / name, np.zeros(100), 8000)
    assert [path.name for path in column(opened(tmp_path, "audio").splits["train"], "file")] == sorted(
        ("a.wav", "b.flac", "c.ogg", "d.aiff")
    )


def test_one_picture_is_a_data_set_of_one_row(opened: Open, picture_folder: Folder, tmp_path: Path) -> None:
    assert sizes(opened(picture_folder(tmp_path, 2) / "001.png", "image")) == {"train": 1}


def test_the_fingerprint_changes_with_contents_and_names_and_not_with_the_place(
    opened: Open, picture_folder: Folder, tmp_path: Path
) -> None:
    first = opened(picture_folder(tmp_path / "a", 3), "image").fingerprint
    assert opened(picture_folder(tmp_path / "b", 3), "image").fingerprint == first
    (tmp_path / "b" / "000.png").rename(tmp_path / "b" / "zzz.png")
    assert opened(tmp_path / "b", "image").fingerprint != first
    picture_folder(tmp_path / "a", 1, seed=9)
    assert opened(tmp_path / "a", "image").fingerprint != first


def test_the_fingerprint_sees_a_changed_byte_in_a_file_of_the_same_size(
    opened: Open, picture_folder: Folder, tmp_path: Path
) -> None:
    path = picture_folder(tmp_path, 2) / "001.png"
    before, content = opened(tmp_path, "image").fingerprint, bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(bytes(content))
    assert opened(tmp_path, "image").fingerprint != before


def test_folders_that_may_be_meant_as_splits_are_named(opened: Open, picture_folder: Folder, tmp_path: Path) -> None:
    for name in ("train_images", "test_images"):
        picture_folder(tmp_path / name, 2)
    (note,) = opened(tmp_path, "image").notes
    assert note == ("folders that name no split, taken for training: test_images (2 files), train_images (2 files)")


def test_folders_that_are_no_splits_are_the_labels_of_their_files(
    opened: Open, picture_folder: Folder, tmp_path: Path
) -> None:
    for split, count in (("train", 3), ("test", 1)):
        for name in ("cats", "dogs"):
            picture_folder(tmp_path / split / name, count)
    source = opened(tmp_path, "image")
    assert sizes(source) == {"train": 6, "test": 2}
    assert column(source.splits["train"], "label") == ["cats"] * 3 + ["dogs"] * 3
    assert default_column("image", "image", source.splits["train"]) == "file"
    for name in ("cats", "dogs"):
        picture_folder(tmp_path / "other" / name / "train", 1)
        picture_folder(tmp_path / "other" / name / "test" / "old", 1)
    picture_folder(tmp_path / "other", 1)
    labels = {split: column(rows, "label") for split, rows in opened(tmp_path / "other", "image").splits.items()}
    assert labels == {"train": [None, "cats", "dogs"], "test": ["old", "old"]}
    picture_folder(tmp_path / "one" / "train" / "cats", 2)
    assert opened(tmp_path / "one", "image").splits["train"].columns == ("file",)  # one class is none
    for name in ("cats", "dogs"):
        picture_folder(tmp_path / "deep" / "animals" / name / "small", 1)
    assert column(opened(tmp_path / "deep", "image").splits["train"], "label") == ["cats", "dogs"]


def test_files_that_are_left_out_are_counted_by_their_endings(
    opened: Open, picture_folder: Folder, tmp_path: Path
) -> None:
    picture_folder(tmp_path, 3)
    assert opened(tmp_path, "image").notes == ()
    for name in ("a.heic", "b.HEIC", "notes"):
        (tmp_path / name).write_bytes(b"x")
    (note,) = opened(tmp_path, "image").notes
    assert note.startswith("files left out, of no kind that image reads, or tables")
    assert note.endswith(": 2 .heic, 1 without ending")
    (tmp_path / "texts").mkdir()
    for name in ("train.txt", "validation.txt", "tests.txt", "about.md"):
        (tmp_path / "texts" / name).write_text("a line\n")
    (tmp_path / "texts" / "dataset_infos.json").write_text("{}")
    (note,) = opened(tmp_path / "texts", "text").notes
    assert note.endswith("named as no split where others are: 1 .md, 1 .txt")


def test_folders_that_name_no_split_beside_some_that_do_are_named(
    opened: Open, picture_folder: Folder, tmp_path: Path
) -> None:
    picture_folder(tmp_path / "cats", 2)
    picture_folder(tmp_path / "tests", 3)
    assert opened(tmp_path, "image").notes == ()  # the names of classes, for all that is known
    (tmp_path / "cats").rename(tmp_path / "train")
    source = opened(tmp_path, "image")
    assert sizes(source) == {"train": 5}
    assert source.notes == ("folders that name no split, taken for training: tests (3 files)",)


# -- tables ---------------------------------------------------------------------------------------


def table(path: Path, lines: list[str]) -> Path:
    """Lines as a table in the format of the path's suffix."""
    if path.suffix == ".txt":
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    elif path.suffix == ".csv":
        path.write_text("text\n" + "".join(f'"{line}"\n' for line in lines), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines), encoding="utf-8")
    else:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"text": lines}), path)
    return path


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl", ".parquet"])
def test_a_table_of_any_format_gives_its_lines(suffix: str, opened: Open, tmp_path: Path) -> None:
    lines = [*LINES, "già, 🎉"]
    rows = opened(table(tmp_path / f"a{suffix}", lines), "text").splits["train"]
    assert rows.columns == ("text",)
    assert column(rows, "text") == lines
    assert rows.where(2) == f"a{suffix}, row 3"


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    "names",
    [
        ("train", "validation", "test"),
        ("Train", "Val", "TEST"),
        ("data/train-00000-of-00001", "data/validation-00000-of-00001", "data/test-00000-of-00001"),
        ("my [old] training set/1", "my [old] dev set/1", "my [old] test set/1"),
    ],
)
def test_a_folder_of_tables_named_like_splits_gives_the_splits(
    names: tuple[str, ...], suffix: str, opened: Open, tmp_path: Path
) -> None:
    for n, name in enumerate(names, start=2):
        path = tmp_path / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        table(path, LINES[:n])
    source = opened(tmp_path, "text")
    assert sizes(source) == {"train": 2, "validation": 3, "test": 4}
    assert source.notes == ()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("The Test of Time", "Emma", "Persuasion"), {"train": 3 + 4, "test": 2}),  # without one named train
        (("training/train", "training/valid", "training/eval"), {"train": 2, "validation": 3, "test": 4}),
        (("test",), {"test": 2}),
    ],
)
def test_a_table_is_of_the_split_that_its_own_name_says_and_one_that_says_none_is_to_train_on(
    names: tuple[str, ...], expected: dict[str, int], opened: Open, tmp_path: Path
) -> None:
    for n, name in enumerate(names, start=2):
        path = tmp_path / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        table(path, LINES[:n])
    assert sizes(opened(tmp_path, "text")) == expected


def test_tables_that_only_describe_others_are_no_data(opened: Open, picture_folder: Folder, tmp_path: Path) -> None:
    (picture_folder(tmp_path, 2) / "dataset_infos.json").write_text("{}")
    with pytest.raises(ValueError, match="no file that audio reads"):
        opened(tmp_path, "audio")
    assert sizes(opened(tmp_path, "image")) == {"train": 2}


def test_of_tables_that_name_splits_one_that_names_none_is_left_out_and_told(opened: Open, tmp_path: Path) -> None:
    for n, name in enumerate(("train", "test", "constrained"), start=2):
        table(tmp_path / f"{name}.txt", LINES[:n])
    source = opened(tmp_path, "text")
    assert sizes(source) == {"train": 2, "test": 3}
    assert "tables named as no split where others are: 1 .txt" in source.notes[0]


def test_a_folder_that_declares_its_splits_as_the_hub_does_is_taken_at_its_word(opened: Open, tmp_path: Path) -> None:
    for n, name in enumerate(("first", "second"), start=2):
        table(tmp_path / f"{name}.csv", LINES[:n])
    files = "  - split: train\n    path: first.csv\n  - split: test\n    path: second.csv\n"
    (tmp_path / "first.csv").write_text("text\nnull\nNA\n")
    assert sizes(opened(tmp_path, "text")) == {"train": 2 + 3}
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    source = opened(tmp_path, "text")
    assert sizes(source) == {"train": 2, "test": 3}
    assert column(source.splits["train"], "text") == ["null", "NA"]
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\nIts\nconfigs: none\n")
    assert sizes(opened(tmp_path, "text")) == {"train": 2 + 3}
    for path in (tmp_path, tmp_path / "first.csv", "digits"):
        with pytest.raises(ValueError, match="has no configurations"):
            open_source(str(path), "first", {})


@pytest.mark.parametrize("name", ["a.csv", "A.CSV", "metadata.csv"])
def test_cells_may_hold_blank_lines_and_documents(
    name: str, opened: Open, picture_folder: Folder, tmp_path: Path
) -> None:
    picture_folder(tmp_path, 1)
    cells = ["one\n\ntwo", "x" * 200_000]
    text = "\n\nfile_name,text\n" + "".join(f'000.png,"{cell}"\n\n' for cell in cells)
    (tmp_path / name).write_text(text)
    rows = opened(tmp_path, "image", "text") if name == "metadata.csv" else opened(tmp_path / name, "text")
    assert column(rows.splits["train"], "text") == cells


@pytest.mark.parametrize("name", ["a.txt", "train.txt"])
def test_blank_lines_separate_and_are_no_rows(name: str, opened: Open, tmp_path: Path) -> None:
    (tmp_path / name).write_text("one\n\n  \ntwo\n\n")
    for path in (tmp_path / name, tmp_path):
        assert column(opened(path, "text").splits["train"], "text") == ["one", "two"]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_text_that_is_not_utf_8_is_refused_by_name(encoding: str, opened: Open, tmp_path: Path) -> None:
    where = {"latin-1": "line 2, byte 5", "utf-16": "line 1, byte 1"}[encoding]
    for name in ("a.txt", "a.csv", "a.jsonl", "metadata.csv"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(('{"text": "file_name"}\ncaffè\n').encode(encoding))
        for path in (tmp_path / name / name, tmp_path / name):
            with pytest.raises(ValueError, match=rf"{name}, {where}: not UTF-8 text: save the file as UTF-8"):
                opened(path, "text")
    Pillow.new("L", (8, 8)).save(tmp_path / "metadata.csv" / "a.png")
    with pytest.raises(ValueError, match=rf"metadata.csv, {where}: not UTF-8 text"):
        opened(tmp_path / "metadata.csv", "image")


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl", ".parquet", ".png"])
def test_a_file_of_no_bytes_is_refused_by_name(suffix: str, opened: Open, tmp_path: Path) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"")
    with pytest.raises(ValueError, match=rf"a\{suffix}: the file is empty"):
        opened(tmp_path / f"a{suffix}", "image" if suffix == ".png" else "text")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"text": "a"}\n\n{"text": "b",}\n', "row 2: not readable: Expecting .* at character 14"),
        ("a.json", '{"text": "a"}\n{broken}\n', "row 2: not readable: "),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', "row 2: not readable: it is no object"),
        ("a.json", '[{"text": "a"},\n{"text" "b"}]', "could not be read as a data set"),
        ("a.parquet", "PAR1 no", "could not be read as a data set"),
        ("a.csv", "text,n\nhello, world,1\nx,2\n", "row 1: not readable: it has 3 cells, and the first line 2"),
        ("a.csv", "text;n\nx;2\n", "the columns seem to be separated by ';': save it with commas"),
    ],
)
def test_a_damaged_table_is_refused_by_name_in_one_line(
    name: str, content: str, said: str, opened: Open, tmp_path: Path
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / name).write_text(content)
    with pytest.raises(ValueError, match=said) as caught:
        opened(tmp_path / "set" / name, "text")
    assert len(str(caught.value).splitlines()) == 1
    assert name in str(caught.value)
    with pytest.raises(ValueError, match=said):
        opened(tmp_path / "set", "text")


def test_a_table_that_changes_is_read_again(opened: Open, tmp_path: Path) -> None:
    first = opened(table(tmp_path / "a.jsonl", LINES), "text")
    second = opened(table(tmp_path / "a.jsonl", LINES[:5]), "text")
    assert sizes(second) == {"train": 5}
    assert first.fingerprint != second.fingerprint


# -- as the hub lays data out ---------------------------------------------------------------------


def shard(folder: Path, split: str, feature: str, contents: list[bytes]) -> None:
    """A parquet file as the hub has them: bytes under a declared feature, and a label."""
    import pyarrow
    from pyarrow import parquet

    cells = [{"bytes": content, "path": str(i)} for i, content in enumerate(contents)]
    features = {feature: {"_type": feature.capitalize()}, "label": {"dtype": "int64", "_type": "Value"}}
    rows = pyarrow.table({feature: cells, "label": list(range(len(cells)))})
    rows = rows.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    folder.mkdir(exist_ok=True)
    parquet.write_table(rows, folder / f"{split}-00000-of-00001.parquet")


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(picture).save(file, "png")
    return file.getvalue()


def test_pictures_in_shards_are_read_from_their_bytes(
    opened: Open, pictures: Callable[..., list[np.ndarray]], recipe_for: Callable[..., Recipe], tmp_path: Path
) -> None:
    drawn = pictures(5)
    shard(tmp_path / "set", "train", "image", [png(picture) for picture in drawn[:3]])
    shard(tmp_path / "set", "test", "image", [png(picture) for picture in drawn[3:]])
    source = opened(tmp_path / "set", "image")
    assert sizes(source) == {"train": 3, "test": 2}
    assert source.splits["train"].columns == ("image", "label")
    modality = recipe_for("image").modality("image")
    for cell, picture in zip(column(source.splits["test"], "image"), drawn[3:], strict=True):
        assert np.array_equal(read_cell(modality, cell), picture)


def test_sounds_in_shards_are_read_from_their_bytes(
    opened: Open, recipe_for: Callable[..., Recipe], tmp_path: Path
) -> None:
    file = io.BytesIO()
    soundfile.write(file, 0.5 * np.ones(400), 8000, format="WAV")
    shard(tmp_path / "set", "train", "audio", [file.getvalue()] * 2)
    (cell, _) = column(opened(tmp_path / "set", "audio").splits["train"], "audio")
    assert read_cell(recipe_for("audio").modality("audio"), cell).shape == (1, 200)  # at the recipe's 4 kHz


@pytest.mark.parametrize(("name", "kind"), [("mnist", "image"), ("fsdd", "audio"), ("kjv", "text")])
def test_sets_of_the_hub_are_opened_where_they_are_present(
    name: str, kind: str, opened: Open, recipe_for: Callable[..., Recipe]
) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip(f"no {SHARED / name}")
    source = opened(SHARED / name, kind)
    rows = source.splits["train"]
    assert {"train", "test"} <= source.splits.keys()
    assert len(rows) > 1000
    assert read_cell(recipe_for(kind).modality(kind), rows.cells[0][default_column(kind, kind, rows)]) is not None


@pytest.mark.parametrize("name", BUILTIN)
def test_built_in_sets_are_opened(name: str, opened: Open, recipe_for: Callable[..., Recipe]) -> None:
    kind = {"emoji": "image", "definitions": "text", "drums": "audio", "digits": "image", "shapes": "image"}.get(
        name, "text"
    )
    rows = opened(name, kind).splits["train"]
    assert len(rows) > 100 or name == "number-words"
    assert read_cell(recipe_for(kind).modality(kind), rows.cells[0][default_column(kind, kind, rows)]) is not None


def test_built_in_emoji_have_names_in_six_languages_and_the_groups_of_unicode(opened: Open) -> None:
    rows = opened("emoji", "image").splits["train"]
    cells = [{column: row[column] for column in rows.columns if column != "image"} for row in rows.cells]
    flags = [row for row in cells if row["group"] == "Flags"]
    assert len(flags) > 200
    for row in flags:
        words = ("flag", "bandiera", "bandera", "drapeau", "flagge", "bandeira")
        names = [row["name"], *(row[f"name_{language}"] for language in ("it", "es", "fr", "de", "pt"))]
        # rainbows, pirates and races have flags of other words
        assert sum(word in name for word, name in zip(words, names, strict=True)) >= 3, names
    assert len({row["group"] for row in cells} - {None}) == 9
    (place,) = (i for i, row in enumerate(cells) if row["name"] == "flag Italy")
    said = rows.select([place]).words(0)
    assert said == "🇮🇹, flag Italy, bandiera italia, bandera italia, drapeau italie, flagge italien,"


@pytest.mark.parametrize("in_folder", [False, True])
def test_words_that_pandas_takes_for_nothing_and_marks_of_the_encoding_do_no_harm(
    in_folder: bool, opened: Open, tmp_path: Path
) -> None:
    table, lines = tmp_path / "a" / "train.csv", tmp_path / "b" / "train.txt"
    for path, text in ((table, "text,n\nNA,1\nnull,2\n,3\nnan,4\n"), (lines, "ü one\ntwo\n")):
        path.parent.mkdir()
        path.write_text(text, encoding="utf-8-sig")
    rows = opened(table.parent if in_folder else table, "text").splits["train"]
    assert rows.columns == ("text", "n")
    assert column(rows, "text") == ["NA", "null", None, "nan"]
    assert column(opened(lines.parent if in_folder else lines, "text").splits["train"], "text") == ["ü one", "two"]


# -- folders with metadata ------------------------------------------------------------------------


def captions(folder: Path, picture_folder: Folder, *lines: str, name: str = "metadata.csv") -> Path:
    """Four pictures and a table that says more of them."""
    picture_folder(folder, 4)
    (folder / name).write_text("\n".join(lines), encoding="utf-8-sig")
    return folder


def test_pictures_have_their_captions_and_those_without_one_stay(
    opened: Open, picture_folder: Folder, tmp_path: Path
) -> None:
    names = sorted(path.name for path in picture_folder(tmp_path / "x", 4).iterdir())
    lines = ["file_name,text,label", f'{names[2]},"a cat, sat",7', f"{names[0]},,8", f"{names[2]},again,7"]
    source = opened(captions(tmp_path / "a", picture_folder, *lines), "image", "text")
    rows = source.splits["train"]
    assert sizes(source) == {"train": 5}
    assert rows.columns == ("image", "text", "label")
    found = [(Path(cell["image"]).name, cell.get("text"), cell.get("label")) for cell in rows.cells]
    assert found[:3] == [(names[2], "a cat, sat", "7"), (names[0], None, "8"), (names[2], "again", "7")]
    assert found[3:] == [(names[1], None, None), (names[3], None, None)]
    assert rows.where(1) == str(tmp_path / "a" / names[0])
    lined = [json.dumps({"file_name": names[1], "text": "ü"}), "", json.dumps({"file_name": names[0]})]
    other = opened(captions(tmp_path / "b", picture_folder, *lined, name="metadata.jsonl"), "image", "text")
    assert [cell.get("text") for cell in other.splits["train"].cells] == ["ü", None, None, None]
    assert other.fingerprint != source.fingerprint
    with_labels = opened(tmp_path / "a", "image").splits["train"]
    assert with_labels.cells[0]["label"] == "7"


def test_a_row_may_name_a_file_for_each_modality_and_folders_name_splits(opened: Open, tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        Pillow.new("L", (8, 8)).save(tmp_path / split / "p.png")
        soundfile.write(tmp_path / split / "s.wav", np.zeros(100, np.float32), 8000)
        table = "image_file_name,audio_file_name,text\np.png,s.wav,one\n,s.wav,two\n"
        (tmp_path / split / "metadata.csv").write_text(table)
    source = opened(tmp_path, "image", "audio", "text")
    assert sizes(source) == {"train": 2, "test": 2}
    first, second = source.splits["test"].cells
    assert (first["image"], first["audio"]) == (tmp_path / "test" / "p.png", tmp_path / "test" / "s.wav")
    assert "image" not in second
    assert second["text"] == "two"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["file_name,text", "../gone.png,x"], r"row 1: the file '../gone.png' is not in "),
        (["file_name,text", "/gone.png,x"], r"row 1: the file '/gone.png' is not in "),
        (["file_name,image_file_name", "000.png,000.png"], "row 1: it has more than one image"),
        (["file_name,image,text", "000.png,x,y"], "row 1: column 'image' is there twice, or also names a file"),
        (["file_name,text,text", "000.png,x,y"], r"metadata.csv: not readable: two of its columns have one name"),
        (
            ["file_name;text", "000.png;x, y"],
            r"metadata.csv: not readable: the columns seem to be separated by ';': save it with commas",
        ),
        (["text\tfile_name", "x\t000.png"], r"the columns seem to be separated by '\\t': save it with commas"),
        (
            ["", "file_name,text", "000.png,x", "", "000.png"],
            r"row 2: not readable: it has 1 cell, and the first line 2",
        ),
        (
            ["file_name,text", ",x"],
            "no row names a file of its folder in a column file_name or image_file_name or text",
        ),
        (["file_name,text", "metadata.csv,x"], "no modality of the recipe reads 'metadata.csv'"),
        (["file_name,text", '000.png,"x'], "metadata.csv, row 1: not readable"),
    ],
)
def test_what_a_table_of_captions_says_wrong_is_named(
    lines: list[str], said: str, opened: Open, picture_folder: Folder, tmp_path: Path
) -> None:
    folder = captions(tmp_path, picture_folder, *lines)
    (folder / "000.png").write_bytes(next(folder.glob("*.png")).read_bytes())
    with pytest.raises(ValueError, match=said):
        opened(folder, "image", "text")


def test_a_row_that_is_wrong_is_one_that_cannot_be_read_and_one_without_a_file_has_its_words(
    opened: Open, recipe_for: Callable[..., Recipe], picture_folder: Folder, tmp_path: Path
) -> None:
    folder = captions(tmp_path, picture_folder, "file_name,text", "000.png,a", ",b", "x.pdf,c", "../out.png,d")
    (folder / "000.png").write_bytes(next(folder.glob("*.png")).read_bytes())
    rows = opened(folder, "image", "text").splits["train"]
    said = [rows.where(i) for i in range(4)]
    table = folder / "metadata.csv"
    assert said == [str(folder / "000.png"), f"{table}, row 2", f"{table}, row 3", f"{table}, row 4"]
    assert rows.cells[1] == {"text": "b"}
    for place, reason in ((2, "no modality of the recipe reads 'x.pdf'"), (3, "the file '../out.png' is not in ")):
        with pytest.raises(ValueError, match=reason):
            read_cell(recipe_for("image").modality("image"), rows.cells[place]["image"])
    with pytest.raises(ValueError, match="row 3: no modality of the recipe reads"):
        by_sequence(opened(folder, "image", "text"))
    table.write_text("file_name,caption\n000.png,a\nx.pdf,b\n")
    rows = opened(folder, "text", "image").splits["train"]
    assert rows.columns == ("image", "caption")  # none is there for what is wrong alone
    assert rows.cells[1] == {"image": Fault("no modality of the recipe reads 'x.pdf'")}


def test_other_columns_may_end_alike_and_names_may_have_spaces(
    opened: Open, picture_folder: Folder, tmp_path: Path
) -> None:
    folder = captions(tmp_path, picture_folder, "text, file_name, profile_name, old_file_name", "x,000.png,Bob,a.tif")
    (folder / "000.png").write_bytes(next(folder.glob("*.png")).read_bytes())
    (row, *_) = opened(folder, "image", "text").splits["train"].cells
    assert row == {"text": "x", "image": folder / "000.png", "profile_name": "Bob", "old_file_name": "a.tif"}


def test_a_change_of_any_file_that_a_row_names_is_seen(opened: Open, picture_folder: Folder, tmp_path: Path) -> None:
    folder = captions(tmp_path, picture_folder, "image_file_name,text_file_name", "000.png,a.txt")
    (folder / "000.png").write_bytes(next(folder.glob("*.png")).read_bytes())
    prints = []
    for words in ("a cat", "a dog"):
        (folder / "a.txt").write_text(words)
        prints.append(opened(folder, "image", "text").fingerprint)
    assert prints[0] != prints[1]


def test_labels_beside_files_do_not_keep_them_from_being_sequences(
    recipe_for: Callable[..., Recipe], opened: Open, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "1.wav", np.zeros(9000, np.float32), 8000)
        (tmp_path / name / "metadata.csv").write_text("file_name,label\n1.wav,x\n")
    source = opened(tmp_path, "audio")
    assert [cell["label"] for cell in source.splits["train"].cells] == ["x", "x"]
    assert len(by_sequence(source).splits["train"]) == 2
    modality = recipe_for("audio").modality("audio")
    assert all(isinstance(cell["file"], list) for cell in by_piece(source, {"audio": modality}).splits["train"].cells)


def test_captions_alone_are_read_for_a_model_of_text(opened: Open, picture_folder: Folder, tmp_path: Path) -> None:
    folder = captions(tmp_path, picture_folder, "file_name,text", "000.png,a cat")
    (folder / "000.png").write_bytes(next(folder.glob("*.png")).read_bytes())
    assert column(opened(folder, "text").splits["train"], "text") == ["a cat"]


def test_a_table_that_names_no_files_is_left_alone(opened: Open, picture_folder: Folder, tmp_path: Path) -> None:
    folder = captions(tmp_path, picture_folder, "title,year", "x,1999")
    assert sizes(opened(folder, "image")) == {"train": 4}


# -- columns --------------------------------------------------------------------------------------


def rows_with(*columns: str) -> Rows:
    return Rows([], columns, "a.csv")


def test_the_default_column_is_that_of_the_name_then_of_the_kind_then_the_only_one() -> None:
    assert default_column("title", "text", rows_with("text", "title")) == "title"
    assert default_column("title", "text", rows_with("label", "text")) == "text"
    assert default_column("title", "text", rows_with("quote")) == "quote"


def test_where_no_column_is_obvious_the_choices_are_named() -> None:
    with pytest.raises(ValueError, match=r"Set modalities\.title\.column to one of quote, label"):
        default_column("title", "text", rows_with("quote", "label"))


def test_cells_are_files_bytes_or_values(
    picture_folder: Folder, recipe_for: Callable[..., Recipe], tmp_path: Path
) -> None:
    path = picture_folder(tmp_path, 1) / "000.png"
    modality: Modality = recipe_for("image").modality("image")
    expected = modality.read(path)
    for cell in (
        path,
        path.read_bytes(),
        {"bytes": path.read_bytes(), "path": None},
        {"bytes": None, "path": str(path)},
        expected,
    ):
        assert np.array_equal(read_cell(modality, cell), expected)


# -- what is not there ------------------------------------------------------------------------------


def test_an_empty_folder_says_what_was_looked_for(opened: Open, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no file that audio reads .*\.wav.*; it holds no files"):
        opened(tmp_path, "audio")


def test_a_folder_of_another_kind_says_what_it_holds(opened: Open, picture_folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no file that audio reads .*; it holds 3 \.png"):
        opened(picture_folder(tmp_path, 3), "audio")


def test_pictures_alone_for_a_model_of_pictures_and_text_say_what_is_missing(
    opened: Open, picture_folder: Folder, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"3 files, but no metadata.csv or metadata.jsonl that says what belongs"):
        opened(picture_folder(tmp_path, 3), "image", "text")


def test_a_file_of_an_unknown_kind_says_what_is_known(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"a\.zip: a data set is a folder, or a file of \.txt"):
        opened(tmp_path / "a.zip", "text")


@pytest.mark.parametrize("path", ["/no/such/folder", "./nothing", "~/nothing-here", "missing.csv", "a/b/c"])
def test_a_path_that_is_not_there_is_said_to_be_missing(path: str, opened: Open) -> None:
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        opened(path, "text")


def test_a_name_that_is_nothing_says_where_it_was_looked_for(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file or folder 'emojis', and no built-in set: emoji, "):
        opened("emojis", "image")
    (tmp_path / "my").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"no file or folder 'my/pictres', .*its folder my is here"
    ):  # its folder is here: no hub is asked
        opened("my/pictres", "image")
    with pytest.raises(
        FileNotFoundError, match=r"no data set 'nobody/emojis': no local file or folder, and the hub"
    ) as caught:
        opened("nobody/emojis", "image")
    assert len(str(caught.value).splitlines()) == 1


def test_a_bare_name_is_never_taken_from_the_cache_of_another_folder(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "poems").mkdir()
    (tmp_path / "poems" / "train.txt").write_text("a line\nanother\n")
    assert len(opened(tmp_path / "poems", "text").splits["train"]) == 2
    with pytest.raises(FileNotFoundError, match="no file or folder 'poems'"):
        opened("poems", "text")  # elsewhere


def test_what_mmvae_writes_beside_samples_is_no_data(opened: Open, vae_for: Callable[..., VAE], tmp_path: Path) -> None:
    for kind in ("image", "text", "audio"):
        vae_for(kind).generate(3).save(tmp_path / kind)
        assert len(opened(tmp_path / kind, kind).splits["train"]) == 3


def test_declared_splits_are_found_at_any_depth_and_hidden_folders_are_not_read(
    opened: Open, picture_folder: Folder, tmp_path: Path
) -> None:
    for split, count in (("train", 3), ("test", 2)):
        picture_folder(tmp_path / "outer" / split / "cats", count)
    picture_folder(tmp_path / "outer" / ".ipynb_checkpoints", 4)
    assert sizes(opened(tmp_path, "image")) == {"train": 3, "test": 2}
