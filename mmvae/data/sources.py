"""Sources: built-in sets, local files and folders, and hub names, as splits of rows that are read when asked for."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mmvae.data import generated
from mmvae.data.captions import captioned, holds_lines, is_metadata, paths_of, read_rows
from mmvae.modalities.contract import Modality, Raw, as_stream, is_by_product
from mmvae.words import check_utf8

GENERATED = {"digits": generated.digits, "shapes": generated.shapes, "number-words": generated.number_words}
BUILTIN = ("emoji", "definitions", "drums", *GENERATED)
TABLES = {".txt": "text", ".csv": "csv", ".jsonl": "json", ".json": "json", ".parquet": "parquet", ".arrow": "arrow"}
AS_IS: dict[str, dict[str, Any]] = {  # a word such as NA or null is a word, and a mark of the encoding is none
    "csv": {"keep_default_na": False, "na_values": [""], "encoding": "utf-8-sig"},
    "text": {"encoding": "utf-8-sig"},
}
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
ABOUT = ("dataset_infos.json", "dataset_info.json", "config.json")  # what the hub writes beside tables
T = TypeVar("T")
FILE = "file"  # the only column of a folder of media files
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")


class Piece(NamedTuple):
    """One of the observations that a long file makes, counted from 0."""

    path: Path
    index: int

    def __str__(self) -> str:
        return f"{self.path}, piece {self.index + 1}"


@dataclass(frozen=True)
class Rows:
    """Rows of one split: cells by column, and for each row the words that name it in a message."""

    cells: Sequence[Mapping[str, Any]]
    columns: tuple[str, ...]
    source: str
    numbers: Sequence[int] | None = None  # of the rows in the source, from 0, where some were passed over

    def __len__(self) -> int:
        return len(self.cells)

    def where(self, index: int) -> str:
        """The file of a row, or its number in the table, counted from 1."""
        if isinstance(self.cells, list) and (paths := paths_of(self.cells[index])):
            return ", ".join(map(str, paths))
        return f"{self.source}, row {(self.numbers[index] if self.numbers else index) + 1}"

    def select(self, indices: Sequence[int]) -> Selection:
        """Some of the rows, in the order given."""
        return Selection(self, list(indices))


@dataclass(frozen=True)
class Selection:
    """The rows of a split, by their numbers in the source."""

    rows: Rows
    indices: list[int]

    def __len__(self) -> int:
        return len(self.indices)

    def where(self, index: int) -> str:
        """The words that name a row in a message."""
        return self.rows.where(self.indices[index])

    def words(self, index: int) -> str:
        """What a row's columns of text say, in one line of at most 80 characters."""
        cells = self.rows.cells[self.indices[index]].values()
        return " ".join(", ".join(cell for cell in cells if isinstance(cell, str)).split())[:80]

    def cell(self, index: int, column: str) -> Any:
        """One cell; None where the row lacks it."""
        return self.rows.cells[self.indices[index]].get(column)


@dataclass(frozen=True)
class Source:
    """A data set: its declared splits, and a fingerprint that changes with its content."""

    splits: dict[str, Rows]
    fingerprint: str


def open_source(path: str, config: str | None, modalities: Mapping[str, Modality]) -> Source:
    """The data set at a built-in name, local path or hub name. Raises ValueError or FileNotFoundError."""
    if path in BUILTIN:
        return _builtin(path)
    local = Path(path).expanduser()
    if not path.strip():
        raise ValueError("data.path is empty: name a file, a folder or a set")
    if local.is_dir():
        return _folder(local, modalities)
    if local.is_file():
        return _file(local, modalities)
    # a bare word is never looked up: offline, the hub's library takes any cached folder of that name for it
    if not HUB_NAME.fullmatch(path) or local.suffix in TABLES:
        raise FileNotFoundError(
            f"no file or folder '{path}', and no built-in set: {', '.join(BUILTIN)} (a set of the hub is OWNER/NAME); "
            "set data.path to a file or folder of yours"
        )
    return _loaded(path, path, None, name=config)


def read_cell(modality: Modality, cell: Any) -> Raw:
    """A raw observation from a file's path or a piece of it, bytes as the hub stores them, or any other value."""
    if isinstance(cell, Path):
        if not cell.is_file():
            raise FileNotFoundError(f"there is no file '{cell.name}'")
        return modality.read(cell)
    if isinstance(cell, Piece):
        return as_stream(modality).read_piece(cell.path, cell.index)
    if isinstance(cell, Mapping) and cell.keys() == {"bytes", "path"}:
        return modality.read(io.BytesIO(cell["bytes"]) if cell["bytes"] is not None else Path(cell["path"]))
    return modality.parse(cell)


def compared(cell: Any) -> Any:
    """A cell by which rows are told apart: a table with gaps has its whole numbers as fractions, and nan for None."""
    if not isinstance(cell, float):
        return cell
    return None if math.isnan(cell) else int(cell) if cell.is_integer() else cell


def default_column(name: str, kind: str, rows: Rows) -> str:
    """The column that a modality is read from when the recipe names none. Raises ValueError."""
    for column in (name, kind, *([rows.columns[0]] if len(rows.columns) == 1 else [])):
        if column in rows.columns:
            return column
    raise ValueError(
        f"modalities.{name}: which column of {rows.source}? "
        f"Set modalities.{name}.column to one of {', '.join(rows.columns)}"
    )


def _builtin(name: str) -> Source:
    if name in GENERATED:
        cells = GENERATED[name]()
        rows = Rows(cells, tuple(cells[0]), name)
        # so few words cannot be held out: every split has them all
        return Source(dict.fromkeys(SPLITS if name == "number-words" else ["train"], rows), f"{name}-1")
    path = Path(__file__).parent / "builtin" / f"{name}.parquet"
    return _tables("parquet", {"train": [path]}, name, _digest([path], path.parent))


def _file(path: Path, modalities: Mapping[str, Modality]) -> Source:
    if not path.stat().st_size:
        raise ValueError(f"{path}: the file is empty")
    kind = TABLES.get(path.suffix.lower())
    if kind:
        return _tables(kind, {"train": [path]}, path.name, _digest([path], path.parent))
    if path.suffix.lower() in _suffixes(modalities):
        return Source({"train": _media([path])}, _digest([path], path.parent))
    raise ValueError(f"{path}: a data set is a folder, or a file of {', '.join(TABLES)}")


def _suffixes(modalities: Mapping[str, Modality]) -> set[str]:
    return {suffix for modality in modalities.values() for suffix in (modality.suffix, *modality.reads)}


def _media(paths: Iterable[Path]) -> Rows:
    return Rows([{FILE: path} for path in paths], (FILE,), FILE)


def _folder(folder: Path, modalities: Mapping[str, Modality]) -> Source:
    visible = (p for p in folder.rglob("*") if not any(part.startswith(".") for part in p.relative_to(folder).parts))
    found = sorted(path for path in visible if path.is_file())
    files = [path for path in found if not is_by_product(path)]
    wanted = _suffixes(modalities) - TABLES.keys()
    media = [path for path in files if path.suffix.lower() in wanted]
    metadata = [path for path in files if is_metadata(path)]
    if media and metadata:
        kinds = {name: _suffixes({name: modality}) - TABLES.keys() for name, modality in modalities.items()}
        rows = captioned(folder, metadata, media, kinds)
        columns = tuple(dict.fromkeys(column for row in rows for column in row))
        grouped = _by_split(rows, lambda row: paths_of(row)[0], folder)
        splits = {split: Rows(part, columns, str(folder)) for split, part in grouped.items()}
        read = sorted({*metadata, *(path for row in rows for path in paths_of(row) if path.is_file())})
        return Source(splits, _digest(read, folder))
    if metadata and len({path.suffix for path in metadata}) == 1:  # for a model of text it is a table as any other
        grouped = _by_split(metadata, lambda path: path, folder)
        return _tables(TABLES[metadata[0].suffix], grouped, str(folder), _digest(metadata, folder))
    if media and len(modalities) == 1:
        grouped = _by_split(media, lambda path: path, folder)
        return Source({split: _media(paths) for split, paths in grouped.items()}, _digest(media, folder))
    tables = [path for path in files if path.suffix.lower() in TABLES]
    if tables:
        kinds = {path.suffix.lower() for path in tables if path.name not in ABOUT}
        if len({TABLES[kind] for kind in kinds}) > 1:
            raise ValueError(f"{folder}: tables of several kinds ({', '.join(sorted(kinds))}): give one of them")
        chosen = None if len(files) == len(found) else [str(path.resolve()) for path in tables]
        # of a folder with other files datasets may take the table for one that describes them
        how = AS_IS.get(TABLES[kinds.pop()], {}) if len(kinds) == 1 and len(tables) == len(files) else {}
        return _loaded(str(folder), str(folder), _digest(files, folder), tables, data_files=chosen, **how)
    suffixes = Counter(path.suffix or "without suffix" for path in files)
    held = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.items())
    raise ValueError(
        f"{folder}: no file that {' or '.join(modalities)} reads ({', '.join(sorted(_suffixes(modalities)))}); "
        f"it holds {held or 'no files'}"
    )


def _by_split(rows: Iterable[T], path_of: Callable[[T], Path], folder: Path) -> dict[str, list[T]]:
    """The rows by the split that one of the folders above their file is named as; else they are of the training one."""
    found: dict[str, list[T]] = {}
    for row in rows:
        folders = path_of(row).relative_to(folder).parts[:-1]
        found.setdefault(next(filter(None, map(_split_name, folders)), "train"), []).append(row)
    return found


def _split_name(word: str) -> str | None:
    return next((split for split, words in SPLITS.items() if word.lower() in words), None)


def _digest(paths: Iterable[Path], base: Path) -> str:
    """A hash of names and contents."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        digest.update(f"{path.relative_to(base)}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _tables(kind: str, files: dict[str, list[Path]], name: str, fingerprint: str) -> Source:
    named = {split: [str(path) for path in paths] for split, paths in files.items()}
    tables = [path for paths in files.values() for path in paths]
    return _loaded(kind, name, fingerprint, tables, data_files=named, **AS_IS.get(kind, {}))


def _loaded(what: str, label: str, fingerprint: str | None, tables: Sequence[Path] = (), **options: Any) -> Source:
    import datasets

    for path in tables:
        if path.suffix.lower() not in (".parquet", ".arrow"):
            check_utf8(path)
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)  # what goes wrong is said below
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(what, **options)
    except Exception as error:  # datasets raises many kinds: all mean that the data cannot be had
        for path in tables:
            if holds_lines(path):
                deque(read_rows(path), maxlen=0)  # says which row
        reason = (str(error.__cause__ or error).strip() or type(error).__name__).splitlines()[0][:300]
        if Path(label).exists() or options.get("data_files"):
            raise ValueError(f"{label}: could not be read as a data set: {reason}") from None
        raise ValueError(f"no data set '{label}': no local file or folder, and the hub gave: {reason}") from None
    finally:
        if shown:
            datasets.enable_progress_bars()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    splits = {}
    for split, table in loaded.items():
        known = _split_name(str(split))
        if known is None:
            continue
        for column, feature in table.features.items():
            if isinstance(feature, datasets.Image | datasets.Audio):
                table = table.cast_column(column, type(feature)(decode=False))
            inner = getattr(feature, "feature", None)
            if isinstance(inner, datasets.Image | datasets.Audio):
                table = table.cast_column(column, type(feature)(type(inner)(decode=False)))
        numbers = None
        if table.info.builder_name == "text":  # blank lines separate, they are not observations
            numbers = [i for i, line in enumerate(table["text"]) if line.strip()]
            table = table.select(numbers)
        splits[known] = Rows(table, tuple(table.column_names), label, numbers)
    if not splits:
        raise ValueError(f"{label}: no training, validation or test split; it has {', '.join(map(str, loaded))}")
    prints = "-".join(str(table._fingerprint) for table in loaded.values())
    return Source(splits, fingerprint or hashlib.blake2b(prints.encode(), digest_size=16).hexdigest())
