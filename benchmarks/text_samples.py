"""Text: how likely samples are under a language model of real text, and real text under one of samples.

    python benchmarks/text_samples.py MODEL DATA [--n 10000] [--steps 1500] [--temperature 1]

trains two language models of the model's own size (its recipe with `latent.kind=none`) and with its own tokens: one on
as many real sentences as there are samples, one on the samples. Real ones are as the model takes them, cut at its
length and without words that it does not know. It prints one JSON object of perplexities a word, the ends counted:
forward (samples under the first), reverse (the test split under the second), and beside them those of the test split
under the first, which neither can be expected to beat (Zhao et al. 2018; Cifka et al. 2018).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
from collections.abc import Iterable
from pathlib import Path

from transformers import PreTrainedTokenizerFast

import mmvae
from mmvae.commands.terminal import mendable
from mmvae.data.prepare import Split, prepare
from mmvae.recipe import Recipe


def write(folder: Path, name: str, texts: list[str]) -> Path:
    """One text a line."""
    path = folder / name
    path.write_text("".join(text.replace("\n", " ") + "\n" for text in texts if text.strip()), encoding="utf-8")
    return path


def as_taken(vae: mmvae.VAE, split: Split, rows: Iterable[int]) -> list[str]:
    """Rows of a split as a model says them that reconstructs them without error."""
    text = vae.modalities["text"]
    return [text.to_raw(text.to_tensor(split.raw("text", row))) for row in rows]


def perplexity(model: mmvae.VAE, path: Path) -> float:
    """A word, of the texts of a file, one a line."""
    nats = mmvae.evaluate(model, data=str(path), k=1)["-ELBO (nats)"]
    lines = path.read_text(encoding="utf-8").splitlines()
    return math.exp(nats * len(lines) / sum(len(line.split()) + 1 for line in lines))


def main() -> None:
    """Sample, train twice, measure three times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--temperature", type=float, default=1.0, help="of the samples; below 1 they are likelier")
    args = parser.parse_args()
    vae = mmvae.VAE.load(args.model)
    if list(vae.modalities) != ["text"]:
        raise ValueError(f"{args.model} is a model of {' and '.join(vae.modalities)}: name one of text alone")
    recipe = Recipe.load(vae.recipe, [f"data.path={args.data}"])
    splits = prepare(recipe, vae.modalities).splits
    rows = len(splits["train"])
    real = as_taken(vae, splits["train"], random.Random(0).sample(range(rows), min(rows, args.n)))
    held = as_taken(vae, splits["test"], range(len(splits["test"])))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        samples = vae.generate(args.n, seed=1, temperature=args.temperature)["text"]
        files = {"samples": write(folder, "samples.txt", samples), "real": write(folder, "real.txt", real)}
        test = write(folder, "test.txt", held)
        PreTrainedTokenizerFast(tokenizer_object=vae.modalities["text"].tokenizer).save_pretrained(folder / "tokens")
        models = {}
        for name, path in files.items():
            changes = ["data.test=0", "data.validation=0.05", f"data.path={path}", "modalities.text.column=text"]
            changes += ["latent.kind=none", "prior.kind=none", "prior.fitted=0"]
            changes += [f"train.steps={args.steps}", f"train.evaluate_every={args.steps}"]
            changes += ["data.sequences=false", "prior.sequence=0"]
            changes += [f"modalities.text.tokenizer={folder / 'tokens'}", "modalities.text.min_count=1"]
            models[name] = mmvae.train(Recipe.load(vae.recipe, changes), out=folder / name, progress=False)
        found = {
            "samples": len(samples),
            "forward": perplexity(models["real"], files["samples"]),
            "reverse": perplexity(models["samples"], test),
            "test split under the model of real text": perplexity(models["real"], test),
        }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    with mendable():
        main()
