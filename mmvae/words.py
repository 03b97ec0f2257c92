"""Words: so many of a thing, and files that are not UTF-8."""

from __future__ import annotations

from pathlib import Path


def counted(count: int, thing: str) -> str:
    """1 row, 2 rows."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def check_utf8(path: Path) -> None:
    """Raises ValueError with the line and byte where a text file is not UTF-8."""
    before = 0
    with path.open("rb") as file:
        while lines := file.readlines(1 << 22):
            try:
                b"".join(lines).decode()
            except UnicodeDecodeError as error:
                *above, line = error.object[: error.start].split(b"\n")
                where = f"{path}, line {before + len(above) + 1}, byte {len(line) + 1}"
                raise ValueError(f"{where}: not UTF-8 text: save the file as UTF-8") from None
            before += len(lines)


def read_utf8(path: Path) -> str:
    """A text file's text. Raises ValueError as check_utf8 does."""
    check_utf8(path)
    return path.read_text(encoding="utf-8")
