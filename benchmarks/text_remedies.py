"""Text: every remedy against a collapsed posterior, on one small network, beside the language model without a latent.

    python benchmarks/text_remedies.py --data FOLDER [--steps 1000] [--out runs/remedies] [--only NAME ...]

trains each (what is in --out already is not trained again), measures it on the test split, and prints a table in
Markdown: nats a row at KL weight 1, mutual information and active units on the rows measured, and BLEU-4 of
reconstructions.
"""

from __future__ import annotations

import argparse
import json
import re
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

import mmvae
from mmvae.commands.terminal import mendable
from mmvae.modalities.text import Text

NETWORK = [
    "modalities.text.vocabulary=4000",
    "modalities.text.embedding=128",
    "modalities.text.hidden=256",
    "modalities.text.dropout=0.1",
    "modalities.text.word_dropout=0",
    "prior.fitted=0",
    "train.weight_decay=0",
    "train.fall=0",
    "objective.target_rate=0",
    "objective.free_bits=0",
]
FLOOR = "objective.free_bits=0.2"  # a dimension: 6.4 nats of 32


@mmvae.register("first-state-text")
class FirstStateText(Text):
    """Text whose decoder sees z in its first state alone, as Bowman et al. (2016) have it."""

    def decoder(self, latent: int) -> nn.Module:
        """The built-in one, whose weights of z at each step and output are 0 and stay so."""
        decoder = super().decoder(latent)
        for name in ("gru.weight_ih_l0", "project.weight"):
            weight = decoder.get_parameter(name)
            weight.data[:, -latent:] = 0
            weight.register_hook(partial(_without_last, latent))
        return decoder


def _without_last(columns: int, gradient: Tensor) -> Tensor:
    return torch.cat([gradient[:, :-columns], torch.zeros_like(gradient[:, -columns:])], 1)


def remedies(steps: int) -> dict[str, list[str]]:
    """Changes of the recipe for verses by remedy; an annealing takes a third of the steps."""
    third = f"kl.warmup={steps // 3}"
    linear = ["kl.kind=linear", third]
    return {
        "no latent (language model)": ["latent.kind=none", "prior.kind=none"],
        "as Bowman et al. (2016): z in the first state alone, linear annealing": [
            *linear,
            "modalities.text.kind=first-state-text",
        ],
        "linear annealing": linear,
        "sigmoid annealing": ["kl.kind=sigmoid", third],
        "cosine annealing": ["kl.kind=cosine", third],
        "cyclical annealing, 4 cycles, half of each at 0": [
            "kl.kind=cyclical",
            f"kl.period={steps // 4}",
            "kl.zero=0.5",
            "kl.rise=0.25",
        ],
        "batch normalization of the mean (the recipe)": [*linear, "latent.mean_scale=0.6"],
        "bag of words (Zhao et al. 2017), linear annealing": [*linear, "modalities.text.bag_of_words=0.1"],
        "minimum rate (delta-VAE)": [*linear, "latent.min_rate=6.4"],
        "free bits": [*linear, FLOOR],
        "autoencoder first, new decoder, free bits": [*linear, FLOOR, f"train.pretrain={steps // 5}"],
        "target": ["kl.kind=linear", "kl.warmup=100", "objective.target_rate=6.5"],
        "target with a small floor": [
            "kl.kind=linear",
            "kl.warmup=100",
            "objective.target_rate=6.5",
            "objective.free_bits=0.03",
        ],
    }


def measure(folder: Path, changes: list[str], args: argparse.Namespace) -> dict[str, float]:
    """The figures of a model in `folder`, trained if it is not there."""
    kept = folder / "figures.json"
    if not kept.is_file():
        train = [
            f"data.path={args.data}",
            f"train.steps={args.steps}",
            f"train.evaluate_every={max(1, args.steps // 3)}",
        ]
        if "latent.kind=none" not in changes:
            train.append("latent.mean_scale=0")
        model = mmvae.train("text/verses", [*train, *NETWORK, *changes, *args.set], out=folder)
        kept.write_text(json.dumps(mmvae.evaluate(model, k=args.k, limit=args.limit)))
    return json.loads(kept.read_text())


def line(figures: dict[str, float]) -> str:
    """A row of the table."""
    starts = ("-ELBO", "NLL", "rate", "mutual", "active", "aggregate", "reconstruction, text: BLEU-4")
    values = [next(value for name, value in figures.items() if name.startswith(start)) for start in starts]
    shown = zip(values, (2, 2, 2, 2, 0, 2, 1), strict=True)
    return " | ".join(f"{value:.{digits}f}" for value, digits in shown)


def main() -> None:
    """Train and measure them one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("runs/remedies"))
    parser.add_argument("--only", nargs="*", help="their first words, by default all")
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--limit", type=int, help="rows of the test split at most")
    parser.add_argument("--set", nargs="*", default=[], help="further changes of all recipes")
    args = parser.parse_args()
    chosen = [
        (name, changes)
        for name, changes in remedies(args.steps).items()
        if not args.only or any(name.startswith(start) for start in args.only)
    ]
    rows = [(name, measure(args.out / re.sub(r"\W+", "-", name), changes, args)) for name, changes in chosen]
    print("| remedy | -ELBO | NLL | rate | MI | units | variance | BLEU-4 |\n|---|---|---|---|---|---|---|---|")
    for name, figures in rows:
        print(f"| {name} | {line(figures)} |")


if __name__ == "__main__":
    with mendable():
        main()
