"""Galleries: one self-contained HTML page in which observations are seen, read and heard."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from mmvae.modalities.contract import Modality, Raw

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222 }
section { margin-bottom: 3rem } h2 { border-bottom: 1px solid #ccc }
.cells { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .75rem }
.cell { background: #f6f6f4; border-radius: .5rem; padding: .75rem; overflow-wrap: anywhere }
.given { border-bottom: 1px solid #ccc; margin-bottom: .5rem; padding-bottom: .5rem }
.rows { grid-template-columns: 1fr }
.rows .cell { display: flex; align-items: center; gap: 1.5rem } .rows .cell > * { flex: 1; min-width: 0 }
.rows .given { border: 0; border-right: 1px solid #ccc; margin: 0; padding: 0 1.5rem 0 0 }
.cell p { margin: 0 } .cell small { color: #777 } img { max-width: 100% } audio { width: 100% }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd } .cell { background: #262626 } }
"""


MARK = '<meta name="generator" content="mmvae">'


FILES = re.compile('<meta name="files" content="([^"]*)">')


def files_beside(path: Path) -> set[str]:
    """The names of the files that a page of `write_page` says were written with it, and its own; none of another."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    found = FILES.search(text.partition("</head>")[0])
    return {path.name, *html.unescape(found[1]).split("/")} if MARK in text[:1000] and found else set()


def cells(
    modalities: Mapping[str, Modality],
    raws: Mapping[str, list[Raw]],
    captions: Iterable[str],
    given: Mapping[str, list[Raw | None]] | None = None,
) -> str:
    """A grid with a cell for each row: what it was made of, the previews of its modalities, and a caption. Several
    modalities stand side by side, in a cell as wide as the page."""
    parts, layout = [], "cells rows" if len(raws) > 1 else "cells"
    for index, caption in enumerate(captions):
        of = "".join(
            modalities[name].preview(raw)
            for name, column in (given or {}).items()
            if (raw := column[index]) is not None
        )
        shown = f'<div class="given"><small>of</small>{of}</div>' if of else ""
        shown += "".join(f"<div>{modalities[name].preview(column[index])}</div>" for name, column in raws.items())
        parts.append(f'<div class="cell">{shown}<small>{html.escape(caption)}</small></div>')
    return f'<div class="{layout}">{"".join(parts)}</div>'


def write_page(path: Path, title: str, sections: Mapping[str, str], files: Iterable[str] = ()) -> Path:
    """A page with a heading for each section of HTML; nothing is linked from outside. files: the names of those that
    were written with it."""
    body = "".join(f"<section><h2>{html.escape(name)}</h2>{part}</section>" for name, part in sections.items())
    path.write_text(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'{MARK}<meta name="files" content="{html.escape("/".join(files))}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1>{body}</body></html>\n",
        encoding="utf-8",
    )
    return path
