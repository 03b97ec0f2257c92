"""Sources: built-in sets, local files and folders, and hub names, as splits of rows that are read when asked for."""

from __future__ import annotations

import glob
import hashlib
import logging
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

from mmvae.core.registry import some
from mmvae.data import generated
from mmvae.data.captions import KEY, NAMES, captioned, holds_lines, is_metadata, paths_of, read_rows
from mmvae.data.rows import FILE, LABEL, Fault, Rows, Source
from mmvae.modalities.contract import Modality, is_by_product
from mmvae.words import check_utf8, counted

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
    "test": ("test", "testing", "eval", "evaluation"),
}
ABOUT = ("dataset_infos.json", "dataset_info.json", "config.json")  # what the hub writes beside tables
T = TypeVar("T")
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def open_source(path: str, config: str | None, modalities: Mapping[str, Modality]) -> Source:
    """The data set at a built-in name, local path or hub name. Raises ValueError or FileNotFoundError."""
    local = Path(path).expanduser()
    if not path.strip():
        raise ValueError("data.path is empty: name a file, a folder or a set")
    if config and (path in BUILTIN or local.is_file() or (local.is_dir() and not _declares(local))):
        raise ValueError(f"data.config = {config}: {path} has no configurations; leave it out")
    if path in BUILTIN:
        return _builtin(path)
    if local.is_dir():
        return _folder(local, config, modalities)
    if local.is_file():
        return _file(local, modalities)
    # a bare word is never looked up: offline, the hub's library takes any cached folder of that name for it
    named = HUB_NAME.fullmatch(path) and local.suffix not in TABLES
    if not named or local.parent.is_dir():
        hub = f"its folder {local.parent} is here" if named else "a set of the hub is OWNER/NAME"
        raise FileNotFoundError(
            f"no file or folder '{path}', and no built-in set: {', '.join(BUILTIN)} ({hub}); "
            "set it (data.path, or modalities.NAME.path for a set of its own) to a file or folder of yours"
        )
    return _loaded(path, path, None, name=config)[0]


def _builtin(name: str) -> Source:
    if name in GENERATED:
        cells = GENERATED[name]()
        rows = Rows(cells, tuple(cells[0]), name)
        # so few words cannot be held out: every split has them all
        return Source(dict.fromkeys(SPLITS if name == "number-words" else ["train"], rows), f"{name}-1")
    path = Path(__file__).parent / "builtin" / f"{name}.parquet"
    return _tables("parquet", {"train": [path]}, name, _digest([path], path.parent))[0]


def _file(path: Path, modalities: Mapping[str, Modality]) -> Source:
    if not path.stat().st_size:
        raise ValueError(f"{path}: the file is empty")
    kind = TABLES.get(path.suffix.lower())
    if kind:
        return _tables(kind, {"train": [path]}, path.name, _digest([path], path.parent))[0]
    if path.suffix.lower() in _suffixes(modalities):
        return Source({"train": _media([path])}, _digest([path], path.parent))
    raise ValueError(f"{path}: a data set is a folder, or a file of {', '.join(TABLES)}")


def _suffixes(modalities: Mapping[str, Modality]) -> set[str]:
    return {suffix for modality in modalities.values() for suffix in (modality.suffix, *modality.reads)}


def _media(paths: Sequence[Path], classes: Mapping[Path, str] | None = None) -> Rows:
    cells = [{FILE: path, **({LABEL: classes.get(path)} if classes else {})} for path in paths]
    return Rows(cells, (FILE, LABEL) if classes else (FILE,), FILE, names=[str(path) for path in paths])


def _classes(paths: Iterable[Path], folder: Path) -> dict[Path, str]:
    """The name of the innermost folder above each file that is no split's and not that of all."""
    above = {path: [name for name in path.relative_to(folder).parts[-2::-1] if not _split_name(name)] for path in paths}
    for inner in zip_longest(*above.values()):
        if len({name for name in inner if name}) > 1:
            return {path: name for path, name in zip(above, inner, strict=True) if name}
    return {}


def _folder(folder: Path, config: str | None, modalities: Mapping[str, Modality]) -> Source:
    visible = (p for p in folder.rglob("*") if not any(part.startswith(".") for part in p.relative_to(folder).parts))
    found = sorted(path for path in visible if path.is_file())
    files = [path for path in found if not is_by_product(path)]
    source, read = _read_folder(folder, config, files, modalities)
    notes = []
    if left_out := _endings(path for path in files if path not in read and path.name not in ABOUT):
        why = f"of no kind that {' or '.join(modalities)} reads, or tables named as no split where others are"
        notes.append(f"files left out, {why}: {left_out}")
    below = [path for path in sorted(read) if path.parent != folder and path.suffix.lower() not in TABLES]
    strays = [path.relative_to(folder).parts[0] for path in below if _split_of(path, folder) is None]
    if strays and (len(strays) < len(below) or any(map(_split_within, strays))):
        names = [f"{name} ({counted(count, 'file')})" for name, count in Counter(strays).most_common()]
        notes.append(f"folders that name no split, taken for training: {some(names)}")
    return replace(source, notes=tuple(notes))


def _read_folder(
    folder: Path, config: str | None, files: Sequence[Path], modalities: Mapping[str, Modality]
) -> tuple[Source, set[Path]]:
    """The data set that a folder's files are, and those of them that it is made of."""
    wanted = _suffixes(modalities) - TABLES.keys()
    media = [path for path in files if path.suffix.lower() in wanted]
    metadata = [path for path in files if is_metadata(path)]
    if media and metadata:
        kinds = {name: _suffixes({name: modality}) - TABLES.keys() for name, modality in modalities.items()}
        rows = captioned(folder, metadata, media, kinds)
        told = ((column, cell) for row in rows for column, cell in row.cells.items())
        columns = tuple(dict.fromkeys(column for column, cell in told if not isinstance(cell, Fault)))
        splits = {
            split: Rows(
                [row.cells for row in part],
                columns,
                str(folder),
                names=[row.where for row in part],
                origins=[next(iter(paths_of(row.cells)), None) for row in part],
            )
            for split, part in _by_split(rows, lambda row: row.origin, folder).items()
        }
        read = {*metadata, *(path for row in rows for path in paths_of(row.cells) if path.is_file())}
        return Source(splits, _digest(sorted(read), folder)), read
    if metadata and len({path.suffix for path in metadata}) == 1:  # for a model of text it is a table as any other
        grouped = _by_split(metadata, lambda path: path, folder)
        return _tables(TABLES[metadata[0].suffix], grouped, str(folder), _digest(metadata, folder))
    if media and len(modalities) == 1:
        grouped = _by_split(media, lambda path: path, folder)
        classes = _classes(media, folder)
        splits = {split: _media(paths, classes) for split, paths in grouped.items()}
        return Source(splits, _digest(media, folder)), set(media)
    tables = [path for path in files if path.suffix.lower() in TABLES and path.name not in ABOUT]
    if tables:
        kinds = {path.suffix.lower() for path in tables}
        if len({TABLES[kind] for kind in kinds}) > 1:
            raise ValueError(f"{folder}: tables of several kinds ({', '.join(sorted(kinds))}): give one of them")
        kind = TABLES[kinds.pop()]
        if _declares(folder):
            how = AS_IS.get(kind, {})
            return _loaded(str(folder), str(folder), _digest(files, folder), tables, name=config, **how)
        return _tables(kind, _of_split(tables, folder), str(folder), _digest(tables, folder))
    if media:
        raise ValueError(
            f"{folder}: {counted(len(media), 'file')}, but no {' or '.join(NAMES)} that says what belongs together: "
            f"a table with a column {KEY} and, of {' and '.join(modalities)}, a column for what is no file"
        )
    raise ValueError(
        f"{folder}: no file that {' or '.join(modalities)} reads ({', '.join(sorted(_suffixes(modalities)))}); "
        f"it holds {_endings(files) or 'no files'}"
    )


def _endings(paths: Iterable[Path]) -> str:
    """How many files there are of the five endings that most have."""
    found = Counter(path.suffix.lower() or "without ending" for path in paths)
    return ", ".join(f"{count:,} {ending}" for ending, count in found.most_common(5))


def _by_split(rows: Iterable[T], path_of: Callable[[T], Path], folder: Path) -> dict[str, list[T]]:
    """The rows by the split that one of the folders above their file is named as; else they are of the training one."""
    found: dict[str, list[T]] = {}
    for row in rows:
        found.setdefault(_split_of(path_of(row), folder) or "train", []).append(row)
    return found


def _split_of(path: Path, folder: Path) -> str | None:
    return next(filter(None, map(_split_name, path.relative_to(folder).parts[:-1])), None)


def _split_name(word: str) -> str | None:
    return next((split for split, words in SPLITS.items() if word.lower() in words), None)


def _split_within(name: str) -> str | None:
    """The split that a word of a name is, as in train-00000-of-00001."""
    return next(filter(None, map(_split_name, re.split(r"[\W\d_]+", name))), None)


def _digest(paths: Iterable[Path], base: Path) -> str:
    """A hash of names and contents."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        digest.update(f"{path.relative_to(base)}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _declares(folder: Path) -> bool:
    """Whether a folder says itself, in the hub's way, which of its files are which split."""
    about = folder / "README.md"
    head = about.read_text(encoding="utf-8", errors="replace").split("---", 2) if about.is_file() else []
    return len(head) == 3 and not head[0].strip() and "\nconfigs:" in head[1]


def _of_split(tables: Sequence[Path], folder: Path) -> dict[str, list[Path]]:
    """Tables by the split that a word of their name says, or of the folders above, the innermost first. Those that say
    none are of the training one where no table says that."""
    found: dict[str | None, list[Path]] = {}
    for path in tables:
        names = reversed(path.relative_to(folder).with_suffix("").parts)
        found.setdefault(next(filter(None, map(_split_within, names)), None), []).append(path)
    others = found.pop(None, [])
    splits = {split: paths for split, paths in found.items() if split}
    return splits if "train" in splits or not others else {"train": others, **splits}


def _tables(kind: str, files: dict[str, list[Path]], name: str, fingerprint: str) -> tuple[Source, set[Path]]:
    """The data set that tables of one kind are, by split, and all of them."""
    named = {split: [glob.escape(str(path)) for path in paths] for split, paths in files.items()}
    tables = [path for paths in files.values() for path in paths]
    source, used = _loaded(kind, name, fingerprint, tables, data_files=named, **AS_IS.get(kind, {}))
    return (replace(source, texts=files) if kind == TABLES[".txt"] else source), used


def _loaded(
    what: str, label: str, fingerprint: str | None, tables: Sequence[Path] = (), **options: Any
) -> tuple[Source, set[Path]]:
    """What datasets makes of files or a hub's name, and those of `tables` that are in it: where the name of one says
    its split, one whose name says none is left out."""
    import datasets

    for path in tables:
        if path.suffix.lower() == ".csv":  # of a row that is longer than the others datasets moves the cells
            deque(read_rows(path), maxlen=0)
        elif path.suffix.lower() not in (".parquet", ".arrow"):
            check_utf8(path)
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)  # what goes wrong is said below
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        builder = datasets.load_dataset_builder(what, **options)
        builder.download_and_prepare()
        loaded: Any = builder.as_dataset()
    except Exception as error:  # datasets raises many kinds: all mean that the data cannot be had
        for path in tables:
            if holds_lines(path):
                deque(read_rows(path), maxlen=0)  # says which row
        reason = (str(error.__cause__ or error).strip() or type(error).__name__).splitlines()[0][:300]
        if "corresponds to no data" in reason or "at least one example" in reason:
            reason = "it has no rows"
        if Path(label).exists() or options.get("data_files"):
            raise ValueError(f"{label}: could not be read as a data set: {reason}") from None
        raise FileNotFoundError(f"no data set '{label}': no local file or folder, and the hub gave: {reason}") from None
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
    used = {Path(path).resolve() for files in (builder.config.data_files or {}).values() for path in files}
    source = Source(splits, fingerprint or hashlib.blake2b(prints.encode(), digest_size=16).hexdigest())
    return source, {path for path in tables if path.resolve() in used}
