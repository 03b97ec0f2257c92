"""The demo: train the three built-in recipes, generate 16 of each, write one gallery page and the files."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import mmvae
from mmvae.gallery import cells, write_page

RECIPES = ("image/emoji", "text/definitions", "audio/drums")


def main(folder: Path) -> None:
    """Write models, samples and gallery.html below a folder."""
    start = time.monotonic()
    sections = {}
    for name in RECIPES:
        label = name.split("/")[1]
        model = folder / "models" / label
        if (model / "resume.safetensors").exists():
            print(f"{name}: going on with {model}", file=sys.stderr)
        vae = mmvae.train(name, out=model, resume=(model / "resume.safetensors").exists())
        samples = vae.generate(16)
        samples.save(folder / label, label)
        sections[f"{label}: {vae.recipe.about}"] = cells(vae.modalities, samples.raws, ("" for _ in range(16)))
    page = write_page(folder / "gallery.html", "mmvae demo", sections)
    print(f"\nDone in {time.monotonic() - start:.0f} s. Open {page} in a browser; the files are beside it, in")
    for name in RECIPES:
        print(f"  {folder / name.split('/')[1]}/")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
