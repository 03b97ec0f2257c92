"""Pictures and words: what a joint model makes of one given the other, of rows held out, and how well it finds them.

    python benchmarks/joint_examples.py MODEL [--rows 20] [--seed 0] --out PICTURE.png

takes the 100 rows of the test split (or as many as it has) that `mmvae evaluate` takes for retrieval. Of rows from all
over them it writes a picture: the true ones, each above four that were made of its words. As a table in Markdown it
prints the words, the place at which the right picture was found by them, the words made of the picture, and the place
at which the right words were found by it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import mmvae
from mmvae.commands.terminal import mendable
from mmvae.data.prepare import prepare
from mmvae.data.store import spread
from mmvae.evaluation.apart import AMONG, places

EACH = 4  # pictures made of the words of a row


def main() -> None:
    """Find, translate both ways, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rows", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    vae = mmvae.VAE.load(args.model)
    if not {"image", "text"} <= set(vae.modalities):
        raise ValueError(f"{args.model} has {', '.join(vae.modalities)}: it takes a model of image and text")
    split = prepare(vae.recipe, vae.modalities, "test").splits["test"]
    among = split.store.complete(AMONG, ("image", "text"))
    if len(among) < 2:
        raise ValueError(f"{args.model}: no two rows of its test split have both a picture and words")
    ways = (("image", "text"), ("text", "image"))
    found = {way: places(vae.network, split.store, among, *way, vae.device, args.seed) for way in ways}
    shown = spread(len(among), args.rows)
    pictures, words = ([split.raw(name, int(row)) for row in among[shown]] for name in ("image", "text"))
    drawn = vae.translate({"text": words}, ["image"], n=EACH, seed=args.seed)["image"]
    said = vae.translate({"image": pictures}, ["text"], seed=args.seed, temperature=0.0)["text"]
    columns = np.stack([[true, *drawn[EACH * i : EACH * (i + 1)]] for i, true in enumerate(pictures)])
    rows, high, height, width, channels = columns.shape
    picture = columns.transpose(1, 2, 0, 3, 4).reshape(high * height, rows * width, channels)
    vae.modalities["image"].write(picture.repeat(2, 0).repeat(2, 1), args.out)
    print(f"Places among {len(among)}. In the picture: a row a column, the true one above {EACH} made of its words.\n")
    print("| words | its picture's place | words made of the picture | the words' place |\n|---|---|---|---|")
    for i, row in enumerate(shown.tolist()):
        to_picture, to_words = (found[pair][row].item() for pair in (("text", "image"), ("image", "text")))
        print(f"| {words[i]} | {to_picture:g} | {said[i]} | {to_words:g} |")
    medians = (f"{source} to {target} {place.median().item():g}" for (source, target), place in found.items())
    print(f"\nMedian place: {', '.join(medians)}.")


if __name__ == "__main__":
    with mendable():
        main()
