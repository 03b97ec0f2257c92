"""Joint models: the quality of each modality beside that of a model of it alone, of the same size.

    python benchmarks/joint_alone.py MODEL [--k 64] [--limit 500] [--label label] [--only NAME ...] [--out FOLDER]

trains, for each modality of a joint model, its networks alone: on that modality's data, for as many steps, with the
dimensions of z that it has in the joint model (the shared ones and its own), by the ELBO, and measures both on the same
rows: those of the test split of that modality's own data, each once, where pairing brings some again. It prints one
JSON object: of each modality the NLL by k draws under the prior that the model generates by, joint and alone; with a
label the squared Frechet distances of 2,000 samples of both, and of real rows, from the joint model's training rows in
the features of one classifier too.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mmvae
from mmvae.commands.terminal import mendable
from mmvae.data.prepare import prepare
from mmvae.evaluation.bounds import nll_alone
from mmvae.evaluation.evaluate import on_other_data
from mmvae.evaluation.recognition import SAMPLES, distances_from_training
from mmvae.modalities.contract import Modality
from mmvae.recipe import Recipe

SHARED = ("path", "weight", "private")  # what a modality alone has no use for


def alone(recipe: Recipe, name: str, modality: Modality) -> dict[str, Any]:
    """The recipe of one modality of a joint one."""
    tables = recipe.model_dump(mode="json")
    others = sum(table["private"] for other, table in recipe.modalities.items() if other != name)
    own = recipe.modalities[name]
    tables["data"] |= {"pair": None, "complete": 1.0, "path": own["path"] or recipe.data.path}
    tables["data"]["max_rejected"] = 1.0  # a row may lack it
    if type(modality).vary is Modality.vary:
        tables["data"]["variants"] = 0
    tables["train"]["start"] = None
    tables["modalities"] = {name: {key: value for key, value in own.items() if key not in SHARED}}
    return {
        **{key: tables[key] for key in ("data", "modalities", "kl", "train", "prior")},
        "name": f"{recipe.name}-{name}",
        "latent": {**tables["latent"], "dim": recipe.latent["dim"] - others},
    }


def nll(vae: mmvae.VAE, name: str, data: Recipe, k: int) -> Tensor:
    """-log p(x) of each test row of one modality, in nats, under the prior that the model generates by."""
    store = prepare(data, {name: vae.modalities[name]}, "test").splits["test"].store
    prior = vae.fitted or vae.network.prior
    return nll_alone(vae.network, prior, store, vae.device, k, torch.arange(len(store)), name)


def main() -> None:
    """Train each alone, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--label")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="of these modalities")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    args = parser.parse_args()
    joint = mmvae.VAE.load(args.model)
    if len(joint.modalities) < 2:
        raise ValueError(f"{args.model} is a model of one modality: name a joint one")
    if args.label:
        # one by one: a split that is asked for holds no varied copies
        train, test = (prepare(joint.recipe, joint.modalities, split).splits[split] for split in ("train", "test"))
        samples = joint.generate(SAMPLES)
    found: dict[str, Any] = {}
    for name in args.only or joint.modalities:
        modality = joint.modalities[name]
        model = mmvae.train(alone(joint.recipe, name, modality), out=args.out / f"{joint.recipe.name}-{name}")
        rows = on_other_data(model.recipe, "test", None, args.limit)
        nats = {of: nll(vae, name, rows, args.k) for of, vae in (("joint", joint), ("alone", model))}
        what = f"NLL, k = {args.k}, N = {len(nats['joint'])} (nats)"
        found[name] = {what: {of: each.mean().item() for of, each in nats.items()}}
        if args.label:
            made = {"joint": samples[name], "alone": model.generate(SAMPLES)[name]}
            judged = train, test, args.label, made, joint.device
            found[name]["Frechet distance"] = distances_from_training(modality, name, *judged)
        print(json.dumps(found[name], indent=1), file=sys.stderr)  # the next one takes long
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    with mendable():
        main()
