"""Published methods as lines of a recipe: each trained on the built-in digits, measured, and shown as a table.

    python benchmarks/methods.py [--joint] [--recipe image/digits] [--steps 1000] [--out runs/methods] [--only NAME ...]

trains each (what is in --out already is not trained again), measures it on the test split, and prints a table in
Markdown: nats a row at KL weight 1, active units, and the Frechet distance of samples in the features of a classifier;
with --joint, of digits and their names in one model, nats and the coherence of what is made of one and of nothing.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import mmvae
from mmvae.commands.terminal import mendable

CODES = "prior.kind=codes prior.fitted=codes"
IMPORTANCE = "objective.kind=importance objective.samples"
POINTS = "latent.kind=deterministic"
ADVERSARY = "objective.kind=adversarial"
METHODS = {
    "VAE (Kingma & Welling 2014)": "",
    "the same, samples of N(0, I)": "prior.fitted=0",
    "beta-VAE (Higgins et al. 2017)": "kl.weight=4",
    "beta-VAE with a capacity (Burgess et al. 2018)": "objective.target_rate=12 kl.weight=10",
    "free bits (Kingma et al. 2016)": "objective.free_bits=0.5",
    "beta-TC-VAE (Chen et al. 2018)": "objective.kind=total-correlation",
    "FactorVAE (Kim & Mnih 2018)": f"{ADVERSARY} objective.against=shuffled",
    "DIP-VAE-I (Kumar et al. 2018)": "objective.kind=dip",
    "DIP-VAE-II (Kumar et al. 2018)": "objective.kind=dip objective.of=z objective.off_diagonal=1",
    "InfoVAE (Zhao et al. 2019)": "objective.kind=mmd kl.weight=0.5",
    "WAE-MMD (Tolstikhin et al. 2018)": f"objective.kind=mmd kl.weight=0 objective.discrepancy=100 {POINTS}",
    "adversarial autoencoder (Makhzani et al. 2016)": f"{ADVERSARY} objective.adversary=1 kl.weight=0 {POINTS}",
    "IWAE (Burda et al. 2016)": f"{IMPORTANCE}=5",
    "IWAE with DReG (Tucker et al. 2019)": f"{IMPORTANCE}=5 objective.encoder=dreg",
    "MIWAE (Rainforth et al. 2018)": f"{IMPORTANCE}=4 objective.groups=4",
    "PIWAE (Rainforth et al. 2018)": f"{IMPORTANCE}=4 objective.groups=4 objective.encoder=groups",
    "CIWAE (Rainforth et al. 2018)": f"{IMPORTANCE}=8 objective.elbo=0.5",
    "HVAE (Caterini et al. 2018)": "objective.kind=hamiltonian",
    "autoencoder": f"objective.kind=rae objective.length=0 {POINTS}",
    "RAE-L2 (Ghosh et al. 2020)": f"objective.kind=rae objective.decoder=0.01 {POINTS}",
    "RAE-GP (Ghosh et al. 2020)": f"objective.kind=rae objective.slope=0.001 {POINTS}",
    "sigma-VAE (Rybkin et al. 2021)": "modalities.image.likelihood=gaussian",
    "full covariance": "latent.kind=correlated",
    "planar flow (Rezende & Mohamed 2015)": "latent.kind=flow latent.flow=planar latent.transforms=8",
    "IAF (Kingma et al. 2016)": "latent.kind=flow latent.flow=iaf",
    "MAF (Papamakarios et al. 2017)": "latent.kind=flow latent.flow=maf",
    "hyperspherical (Davidson et al. 2018)": "latent.kind=sphere prior.kind=sphere prior.fitted=0",
    "hyperbolic, wrapped normal (Nagano et al. 2019, Mathieu et al. 2019)": "latent.kind=hyperbolic",
    "ladder (Sonderby et al. 2016)": "latent.kind=ladder prior.kind=ladder prior.fitted=0",
    "VQ-VAE (van den Oord et al. 2017)": f"latent.kind=vq {CODES}",
    "FSQ (Mentzer et al. 2024)": f"latent.kind=fsq {CODES}",
    "Gumbel-softmax (Jang et al. 2017)": f"latent.kind=gumbel {CODES}",
    "mixture prior (Dilokthanakul et al. 2016)": "prior.kind=mixture prior.fitted=0",
    "VampPrior of data (Tomczak & Welling 2018)": "prior.kind=vamp prior.fitted=0",
    "flow prior (Chen et al. 2017)": "prior.kind=flow prior.fitted=0",
    "fitted flow": "prior.fitted=flow",
}
COLUMNS = {  # of the table: how a figure's name begins, and its digits
    "-ELBO": ("-ELBO", 1),
    "NLL": ("NLL, importance", 1),
    "rate": ("rate", 1),
    "units": ("active", 0),
    "Frechet": ("Frechet distance from training, sa", 1),
}

EXPERTS = "latent.kind=mixture objective.kind=importance objective.samples=5 objective.groups=2"
OWN = "modalities.image.private=8 modalities.text.private=2"
JOINT = {
    "MVAE (Wu & Goodman 2018)": "objective.subsets=all objective.scored=seen",
    "TELBO (Vedantam et al. 2018)": "objective.subsets=each objective.scored=seen",
    "all subsets, all of a row scored": "objective.subsets=all",
    "JMVAE (Suzuki et al. 2017)": "objective.kind=alone objective.alone=0.1",
    "MVTCAE (Hwang et al. 2021), alpha = 0.9": (
        "latent.with_prior=false objective.kind=alone objective.alone=0.82 kl.weight=0.18"
    ),
    "MMVAE (Shi et al. 2019)": EXPERTS,
    "MoPoE (Sutter et al. 2021)": "latent.kind=mixture latent.of=products",
    "DMVAE (Lee & Pavlovic 2021)": f"objective.subsets=each {OWN}",
    "the same, and a learned tree as prior": f"objective.subsets=each {OWN} prior.kind=tree",
    "MMVAE+ (Palumbo et al. 2023)": f"{EXPERTS} {OWN}",
    "CMVAE (Palumbo et al. 2024)": f"{EXPERTS} {OWN} prior.kind=mixture",
}
PAIRS = {
    "name": "pairs",
    "data": {"path": "digits", "pair": "label"},
    "modalities": {
        "image": {"widths": [32, 64]},
        "text": {
            "path": "number-words",
            "tokenizer": "characters",
            "max_tokens": 8,
            "embedding": 16,
            "hidden": 32,
            "weight": 10.0,
        },
    },
    "latent": {"dim": 16},
    "prior": {"fitted": 20},
    "kl": {"kind": "linear", "warmup": 300},
    "train": {"batch_size": 64, "learning_rate": 2e-3},
}
JOINT_COLUMNS = {
    "-ELBO": ("-ELBO", 1),
    "NLL": ("NLL, importance", 1),
    "words of pictures": ("coherence, image to text", 3),
    "pictures of words": ("coherence, text to image", 3),
    "both alike": ("coherence of all", 3),
}


def measure(folder: Path, recipe: Any, changes: str, args: argparse.Namespace) -> dict[str, float]:
    """The figures of a model in `folder`, trained if it is not there."""
    kept = folder / "figures.json"
    steps = [f"train.steps={args.steps}", f"train.evaluate_every={max(1, args.steps // 4)}"]
    settings = [*steps, *changes.split(), *args.set]
    how = {"recipe": recipe, "settings": settings, "k": args.k, "label": args.label}
    if not kept.is_file():
        model = mmvae.train(recipe, settings, out=folder)
        figures = mmvae.evaluate(model, k=args.k, label=args.label)
        kept.write_text(json.dumps({"how": how, "figures": figures}))
    held = json.loads(kept.read_text())
    if held.get("how") != how:
        raise ValueError(
            f"{folder}: its figures are of another recipe, label or settings: remove it, or name another --out"
        )
    return held["figures"]


def line(figures: dict[str, float], columns: dict[str, tuple[str, int]]) -> str:
    """A row of the table; what a method does not have is left open."""
    cells = []
    for start, digits in columns.values():
        found = [value for name, value in figures.items() if name.startswith(start)]
        cells.append(f"{found[0]:,.{digits}f}" if found else "–")
    return " | ".join(cells)


def main() -> None:
    """Train and measure them one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--joint", action="store_true", help="models of two modalities, of a recipe of their own")
    parser.add_argument("--recipe", help="of one modality, by default image/digits")
    parser.add_argument("--label", default="label", help="the column of classes")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="by default runs/methods, or runs/joint-methods")
    parser.add_argument("--only", nargs="*", help="their first words, by default all")
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--set", nargs="*", default=[], help="further changes of all recipes")
    args = parser.parse_args()
    if args.joint and args.recipe:
        parser.error("--recipe: the models of --joint have a recipe of their own")
    recipe, methods, columns, out = (
        (PAIRS, JOINT, JOINT_COLUMNS, args.out or Path("runs/joint-methods"))
        if args.joint
        else (args.recipe or "image/digits", METHODS, COLUMNS, args.out or Path("runs/methods"))
    )
    only = tuple(args.only or [""])
    chosen = {name: changes for name, changes in methods.items() if name.startswith(only)}
    rows = {name: measure(out / re.sub(r"\W+", "-", name), recipe, changes, args) for name, changes in chosen.items()}
    print(f"| method | the recipe's lines | {' | '.join(columns)} |\n|---|---|{'---|' * len(columns)}")
    for name, figures in rows.items():
        print(f"| {name} | {f'`{chosen[name]}`' if chosen[name] else '–'} | {line(figures, columns)} |")


if __name__ == "__main__":
    with mendable():
        main()
