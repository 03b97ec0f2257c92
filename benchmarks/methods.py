"""Published methods as lines of a recipe: each trained on the built-in digits, measured, and shown as a table.

    python benchmarks/methods.py [--recipe image/digits] [--steps 1000] [--out runs/methods] [--only NAME ...]

trains each (what is in --out already is not trained again), measures it on the test split, and prints a table in
Markdown: nats a row at KL weight 1, active units, and the Frechet distance of samples in the features of a classifier.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import mmvae
from mmvae.commands.terminal import mendable

CODES = "prior.kind=codes prior.fitted=codes"
IMPORTANCE = "objective.kind=importance objective.samples"
POINTS = "latent.kind=deterministic"
METHODS = {
    "VAE (Kingma & Welling 2014)": "",
    "the same, samples of N(0, I)": "prior.fitted=0",
    "beta-VAE (Higgins et al. 2017)": "kl.weight=4",
    "beta-VAE with a capacity (Burgess et al. 2018)": "objective.target_rate=12 kl.weight=10",
    "free bits (Kingma et al. 2016)": "objective.free_bits=0.5",
    "beta-TC-VAE (Chen et al. 2018), FactorVAE (Kim & Mnih 2018)": "objective.kind=total-correlation",
    "DIP-VAE-I (Kumar et al. 2018)": "objective.kind=dip",
    "DIP-VAE-II (Kumar et al. 2018)": "objective.kind=dip objective.of=z",
    "InfoVAE (Zhao et al. 2019)": "objective.kind=mmd kl.weight=0.5",
    "WAE-MMD (Tolstikhin et al. 2018)": f"objective.kind=mmd kl.weight=0 objective.discrepancy=100 {POINTS}",
    "IWAE (Burda et al. 2016)": f"{IMPORTANCE}=5",
    "IWAE with DReG (Tucker et al. 2019)": f"{IMPORTANCE}=5 objective.encoder=dreg",
    "MIWAE (Rainforth et al. 2018)": f"{IMPORTANCE}=4 objective.groups=4",
    "PIWAE (Rainforth et al. 2018)": f"{IMPORTANCE}=4 objective.groups=4 objective.encoder=groups",
    "CIWAE (Rainforth et al. 2018)": f"{IMPORTANCE}=8 objective.elbo=0.5",
    "autoencoder": f"objective.kind=rae objective.length=0 {POINTS}",
    "RAE-L2 (Ghosh et al. 2020)": f"objective.kind=rae train.weight_decay=0.01 {POINTS}",
    "RAE-GP (Ghosh et al. 2020)": f"objective.kind=rae objective.slope=0.001 {POINTS}",
    "sigma-VAE (Rybkin et al. 2021)": "modalities.image.likelihood=gaussian",
    "full covariance": "latent.kind=correlated",
    "planar flow (Rezende & Mohamed 2015)": "latent.kind=flow latent.flow=planar latent.transforms=8",
    "IAF (Kingma et al. 2016)": "latent.kind=flow latent.flow=iaf",
    "MAF (Papamakarios et al. 2017)": "latent.kind=flow latent.flow=maf",
    "hyperspherical (Davidson et al. 2018)": "latent.kind=sphere prior.kind=sphere prior.fitted=0",
    "ladder (Sonderby et al. 2016)": "latent.kind=ladder prior.kind=ladder",
    "VQ-VAE (van den Oord et al. 2017)": f"latent.kind=vq {CODES}",
    "FSQ (Mentzer et al. 2024)": f"latent.kind=fsq {CODES}",
    "Gumbel-softmax (Jang et al. 2017)": f"latent.kind=gumbel {CODES}",
    "mixture prior (Dilokthanakul et al. 2016)": "prior.kind=mixture",
    "VampPrior (Tomczak & Welling 2018)": "prior.kind=vamp",
    "flow prior (Chen et al. 2017)": "prior.kind=flow",
    "fitted flow": "prior.fitted=flow",
}


def measure(folder: Path, changes: str, args: argparse.Namespace) -> dict[str, float]:
    """The figures of a model in `folder`, trained if it is not there."""
    kept = folder / "figures.json"
    if not kept.is_file():
        steps = [f"train.steps={args.steps}", f"train.evaluate_every={max(1, args.steps // 4)}"]
        model = mmvae.train(args.recipe, [*steps, *changes.split(), *args.set], out=folder)
        kept.write_text(json.dumps(mmvae.evaluate(model, k=args.k, label=args.label)))
    return json.loads(kept.read_text())


def line(figures: dict[str, float]) -> str:
    """A row of the table; what a method does not have is left open."""
    starts = (
        ("-ELBO", 1),
        ("NLL, importance", 1),
        ("rate", 1),
        ("active", 0),
        ("Frechet distance from training, sa", 1),
    )
    cells = []
    for start, digits in starts:
        found = [value for name, value in figures.items() if name.startswith(start)]
        cells.append(f"{found[0]:,.{digits}f}" if found else "–")
    return " | ".join(cells)


def main() -> None:
    """Train and measure them one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="image/digits")
    parser.add_argument("--label", default="label", help="the column of classes")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--only", nargs="*", help="their first words, by default all")
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--set", nargs="*", default=[], help="further changes of all recipes")
    args = parser.parse_args()
    only = tuple(args.only or [""])
    chosen = {name: changes for name, changes in METHODS.items() if name.startswith(only)}
    rows = {name: measure(args.out / re.sub(r"\W+", "-", name), changes, args) for name, changes in chosen.items()}
    print("| method | the recipe's lines | -ELBO | NLL | rate | units | Frechet |\n|---|---|---|---|---|---|---|")
    for name, figures in rows.items():
        print(f"| {name} | {f'`{chosen[name]}`' if chosen[name] else '–'} | {line(figures)} |")


if __name__ == "__main__":
    with mendable():
        main()
