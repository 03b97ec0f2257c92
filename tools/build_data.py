"""Build the data sets shipped with mmvae (emoji, definitions, drums) from Debian and PyPI packages.

The sources are system packages:

    apt-get install fonts-noto-color-emoji unicode-data wordnet-base sonic-pi-samples
    pip install emoji

Every run over the same versions of the sources and libraries writes byte-identical files.
"""

import argparse
import importlib.util
import random
import re
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import soxr
from datasets import Audio, Features, Value
from datasets import Image as ImageFeature
from PIL import Image, ImageDraw, ImageFont, features

OUT = Path(__file__).resolve().parents[1] / "mmvae" / "data" / "builtin"
FONT = "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
LISTED = "usr/share/unicode/emoji/emoji-test.txt"
WORDNET = "usr/share/wordnet"
SAMPLES = "usr/share/sonic-pi/samples"

LANGUAGES = ("it", "es", "fr", "de", "pt")
FONT_SIZE = 109  # the only size of the font's bitmaps, which are 136 x 128 pixels
CANVAS = 136
ICON = 32
STEP = 5  # channels are rounded to its multiples, at most 2 of 255 away: a third off the file

PARTS_OF_SPEECH = {"noun": "noun", "verb": "verb", "adj": "adjective", "adv": "adverb"}
DEFINITIONS = 40_000
SEED = 0

FAMILIES = ("bd", "drum", "elec", "glitch_perc", "perc", "sn", "tabla")
RATE = 16_000
LONGEST = RATE // 2  # a drum lasts at most half a second
FADE = RATE // 100  # 10 ms, over the end of a drum cut there
SILENCE = 1e-3  # 60 dB below the peak
ONE_SHOT = 0.75  # the share of a one-shot's energy in its first half second

Row = dict[str, Any]


class MissingSource(Exception):
    """A package this script reads from is not installed."""


def source(root: Path, path: str, package: str) -> Path:
    """The path of a source below `root`, provided the Debian package is installed there."""
    found = root / path
    if not found.exists():
        raise MissingSource(f"{found} is missing: apt-get install {package}")
    return found


# emoji


def icon(char: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """One emoji, 32 x 32 RGBA: the font's own margin of 4 pixels comes out as one pixel."""
    canvas = Image.new("RGBA", (CANVAS, CANVAS))
    ImageDraw.Draw(canvas).text((0, 4), char, font=font, embedded_color=True)
    # RGBa is premultiplied: transparent pixels do not bleed their colour into the edges
    small = canvas.convert("RGBa").resize((ICON, ICON), Image.Resampling.LANCZOS)
    pixels = (np.round(np.asarray(small.convert("RGBA")) / STEP) * STEP).astype(np.uint8)
    pixels[pixels[..., 3] == 0] = 0
    return Image.fromarray(pixels)


def png(image: Image.Image) -> bytes:
    """Uncompressed: parquet then compresses the images together, to three quarters the size."""
    buffer = BytesIO()
    image.save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def listed(path: Path) -> dict[str, tuple[str, str]]:
    """The group of each fully qualified emoji that Unicode lists, such as "Food & Drink", and its name."""
    found, group = {}, ""
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("# group: "):
            group = line.removeprefix("# group: ")
        elif match := re.match(r"([0-9A-F ]+?) *; fully-qualified +# \S+ E[0-9.]+ (.+)", line):
            char = "".join(chr(int(point, 16)) for point in match[1].split())
            found[char] = group, re.sub("[:,“”]", "", match[2])
    return found


def emoji_rows(root: Path) -> tuple[list[Row], str]:
    """Every emoji the font draws as one glyph, no skin tones, and each drawing once."""
    path = source(root, FONT, "fonts-noto-color-emoji")
    in_list = listed(source(root, LISTED, "unicode-data"))
    if importlib.util.find_spec("emoji") is None:
        raise MissingSource("the package emoji is missing: pip install emoji")
    if not features.check("raqm"):
        raise MissingSource("this Pillow has no raqm layout: pip install --force-reinstall pillow")
    from emoji import EMOJI_DATA, STATUS, config

    config.load_language(list(LANGUAGES))
    font = ImageFont.truetype(path, FONT_SIZE, layout_engine=ImageFont.Layout.RAQM)
    one_glyph = font.getbbox("\N{GRINNING FACE}")
    drawn: dict[bytes, Row] = {}
    without_glyph = twice = 0
    for char, entry in EMOJI_DATA.items():
        toned = any("\U0001f3fb" <= point <= "\U0001f3ff" for point in char)
        if entry["status"] != STATUS["fully_qualified"] or toned:
            continue
        if font.getbbox(char) != one_glyph:
            without_glyph += 1
            continue
        names = {key: entry[key].strip(":").replace("_", " ") for key in ("en", *LANGUAGES)}
        data = png(icon(char, font))
        file = "-".join(f"{ord(point):x}" for point in char) + ".png"
        # those newer than the list have no group, and the name that the package gives them
        group, name = in_list.get(char, (None, names["en"]))
        row: Row = {"image": {"bytes": data, "path": file}, "char": char, "name": name, "group": group}
        row |= {f"name_{key}": names[key] for key in LANGUAGES}
        # Territories share the flags of their countries: the plainest name stays
        twice += data in drawn
        if data not in drawn or len(row["name"]) < len(drawn[data]["name"]):
            drawn[data] = row
    return list(drawn.values()), f"{without_glyph} without a glyph, {twice} drawn twice left out"


# definitions


def definition(gloss: str) -> str | None:
    """The definition in a WordNet gloss, without its examples and the usage note before it."""
    text = re.split(r'[;:,]\s*"', gloss, maxsplit=1)[0]
    text = re.sub(r"^(\s*\((?:[^()]|\([^()]*\))*\)[\s,;:]*)+", "", text)
    text = re.sub(r"`([^`']*)'", r"'\1'", text)
    text = " ".join(text.split()).strip(" ;:,.")
    if re.search(r'["`]', text) or text.count("(") != text.count(")"):
        return None
    return text if 2 <= len(text.split()) <= 40 else None


def synsets(folder: Path) -> Iterator[Row]:
    for file, pos in PARTS_OF_SPEECH.items():
        for line in (folder / f"data.{file}").read_text("utf-8").splitlines():
            if line.startswith("  "):  # the licence, at the head of each file
                continue
            fields, _, gloss = line.partition(" | ")
            # Adjectives may end in a marker of their place: "same(p)"
            word = re.sub(r"\((a|p|ip)\)$", "", fields.split()[4]).replace("_", " ")
            if text := definition(gloss):
                yield {"word": word, "pos": pos, "text": text}


def definition_rows(root: Path) -> tuple[list[Row], str]:
    """A sample of the synsets of WordNet, each by its first lemma, in WordNet's order."""
    unique: dict[str, Row] = {}
    for row in synsets(source(root, WORDNET, "wordnet-base")):
        unique.setdefault(row["text"], row)
    rows = list(unique.values())
    chosen = sorted(random.Random(SEED).sample(range(len(rows)), DEFINITIONS))
    return [rows[index] for index in chosen], f"out of {len(rows)}"


# drums


def drum(path: Path) -> np.ndarray | None:
    """A one-shot as 16-bit samples, at most half a second, or None for a longer sound."""
    sound, rate = soundfile.read(path, dtype="float64", always_2d=True)
    sound = soxr.resample(sound.mean(axis=1), rate, RATE, quality="VHQ")
    energy = sound**2
    if energy[:LONGEST].sum() < ONE_SHOT * energy.sum():
        return None
    peak = np.abs(sound).max()
    sound = sound[: np.flatnonzero(np.abs(sound) > SILENCE * peak)[-1] + 1]
    if len(sound) > LONGEST:
        sound = sound[:LONGEST]
        sound[-FADE:] *= np.cos(np.linspace(0, np.pi / 2, FADE)) ** 2
    return np.round(sound / max(1.0, peak) * 32767).astype(np.int16)


def flac(sound: np.ndarray) -> bytes:
    buffer = BytesIO()
    soundfile.write(buffer, sound, RATE, "PCM_16", format="FLAC", compression_level=1.0)
    return buffer.getvalue()


def drum_rows(root: Path) -> tuple[list[Row], str]:
    """The percussive one-shots among the samples of Sonic Pi."""
    folder = source(root, SAMPLES, "sonic-pi-samples")
    rows, long = [], []
    for path in sorted(folder.glob("*.flac")):
        if not path.stem.startswith(FAMILIES):
            continue
        sound = drum(path)
        if sound is None:
            long.append(path.stem)
            continue
        audio = {"bytes": flac(sound), "path": path.name}
        rows.append({"audio": audio, "name": path.stem, "kind": path.stem.split("_")[0]})
    return rows, f"{', '.join(long) or 'none'} left out as too long"


# files


def strings(*names: str) -> dict[str, Value]:
    return {name: Value("string") for name in names}


NAMES = ("name", *(f"name_{language}" for language in LANGUAGES))
Build = Callable[[Path], tuple[list[Row], str]]
SETS: dict[str, tuple[Build, Features]] = {
    "emoji": (emoji_rows, Features({"image": ImageFeature(), **strings("char", *NAMES, "group")})),
    "definitions": (definition_rows, Features(strings("word", "pos", "text"))),
    "drums": (drum_rows, Features({"audio": Audio(RATE), **strings("name", "kind")})),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS), help="sets to build")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the parquet files")
    parser.add_argument("--root", type=Path, default=Path("/"), help="where the Debian packages are unpacked")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        build, columns = SETS[name]
        try:
            rows, note = build(args.root)
        except MissingSource as error:
            print(f"build_data: {error}", file=sys.stderr)
            return 2
        file = args.out / f"{name}.parquet"
        table = pa.Table.from_pylist(rows, schema=columns.arrow_schema)
        pq.write_table(
            table,
            file,
            compression="zstd",
            compression_level=19,
            use_dictionary=["pos", "kind", "group"],
            data_page_size=2**24,
        )
        print(f"{file.name}: {len(rows)} rows, {file.stat().st_size / 1e6:.2f} MB ({note})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
