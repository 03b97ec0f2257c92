"""Sentences of Debian packages, in the form in which papers have the Penn Treebank's.

    python benchmarks/sentences.py FOLDER

writes train.txt, validation.txt and test.txt into a folder: a sentence a line, of 4 to 60 words in lower case without
marks, numbers as N, none twice, about as many as there. They are of the packages anarchism (its FAQ), fortunes and
fortunes-min, whose licences are in the packages; apt-get and dpkg-deb bring them.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import tempfile
from collections.abc import Iterator
from html import unescape
from pathlib import Path

from mmvae.commands.terminal import mendable

PACKAGES = ["anarchism", "fortunes", "fortunes-min"]
TEXTS = ["usr/share/doc/anarchism/html/*.html", "usr/share/games/fortunes/*"]
APART = re.compile(r"(?i)<(?:p|br|h\d|li|dt|dd|td|blockquote)\b[^>]*>|\n%\n|\n\s*\n")  # no sentence goes on beyond it
END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z])")
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|\d[\d.,]*")
SIZES = {"train": 42_000, "validation": 3_400, "test": 3_800}  # about those of the Penn Treebank


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text or a page, in the form of the module's description."""
    for paragraph in APART.split(text):
        plain = unescape(re.sub(r"<[^>]*>", " ", paragraph)).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        for sentence in END.split(" ".join(plain.split())):
            words = ["N" if word[0].isdigit() else word for word in WORD.findall(sentence.lower())]
            if 4 <= len(words) <= 60:
                yield " ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    found: set[str] = set()
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["apt-get", "download", *PACKAGES], cwd=scratch, check=True)
        for package in Path(scratch).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, scratch], check=True)
        for pattern in TEXTS:
            for file in Path(scratch).glob(pattern):
                if file.suffix not in (".dat", ".u8"):
                    found.update(sentences(file.read_text(encoding="utf-8", errors="replace")))
    rows = sorted(found)
    random.Random(0).shuffle(rows)
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in SIZES.items():
        split, rows = rows[:size], rows[size:]
        (folder / f"{name}.txt").write_text("\n".join(split) + "\n", encoding="utf-8")
        print(f"{name}: {len(split):,} sentences of {sum(len(row.split()) for row in split):,} words")


if __name__ == "__main__":
    with mendable():
        main()
