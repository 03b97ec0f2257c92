"""Joint models: the quality of each modality beside that of a model of it alone, of the same size.

    python benchmarks/joint_alone.py MODEL [--k 64] [--limit 500] [--label label] [--only NAME ...] [--out FOLDER]

trains, for each modality of a joint model, its networks alone: on that modality's data, for as many steps, with the
dimensions of z that it has in the joint model (the shared ones and its own), by the ELBO, and measures both on the same
rows: those of the test split of that modality's own data, each once, where pairing brings some again. It prints one
JSON object: of each modality the NLL by k draws under the prior that the model generates by, joint and alone, both in
the joint model's units where these are real numbers (of a density a percentage says little, a difference what lacks);
with a label the squared Frechet distances of 2,000 samples of both, and of real rows, from the joint model's training
rows in the features of one classifier too.
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
from mmvae.data.choosing import choose_rows
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
    tables["data"] |= {"pair": None, "complete": 1.0}
    if own["path"]:
        tables["data"] |= {"path": own["path"], "config": None}
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


def nll(vae: mmvae.VAE, name: str, data: Recipe, k: int) -> tuple[Tensor, Tensor]:
    """-log p(x) of each test row of one modality, in nats, under the prior that the model generates by, and all the
    rows' numbers."""
    store = prepare(data, {name: vae.modalities[name]}, "test").splits["test"].store
    found = nll_alone(vae.network, vae.prior(), store, vae.device, k, torch.arange(len(store)), name)
    return found, store.batch(range(len(store))).values[name]


def stretch(numbers: Tensor, others: Tensor) -> float:
    """Nats that a row has more where it is given by these numbers than by others, that times as large: 0 for counts."""
    if not numbers.is_floating_point():
        return 0.0
    return (numbers.float().std() / others.float().std()).log().item() * numbers[0].numel()


def check(recipe: Recipe, modalities: dict[str, Modality]) -> None:
    """Raises ValueError where sets were paired before they were split: each alone is split in another way."""
    if not any(recipe.modalities[name]["path"] for name in modalities):
        return
    # rows that were split after they were paired are of one joined set
    splits = choose_rows(recipe, modalities, None).selections.values()
    if len({id(rows.rows) for rows in splits}) < len(splits):
        raise ValueError(
            f"data.pair = {recipe.data.pair} pairs the sets before they are split: of a set by itself the test rows "
            "would be others, of which the joint model has seen some; declare the splits in both sets"
        )


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
    names = args.only or list(joint.modalities)
    if unknown := [name for name in names if name not in joint.modalities]:
        raise ValueError(f"--only {unknown[0]}: {args.model} has {', '.join(joint.modalities)}")
    check(joint.recipe, joint.modalities)
    if args.label:
        # one by one: a split that is asked for holds no varied copies
        train, test = (prepare(joint.recipe, joint.modalities, split).splits[split] for split in ("train", "test"))
        samples = joint.generate(SAMPLES)
    found: dict[str, Any] = {}
    for name in names:
        modality = joint.modalities[name]
        model = mmvae.train(alone(joint.recipe, name, modality), out=args.out / f"{joint.recipe.name}-{name}")
        rows = on_other_data(model.recipe, "test", None, args.limit)
        (nats, numbers), (own, others) = (nll(vae, name, rows, args.k) for vae in (joint, model))
        figures = {"joint": nats.mean().item(), "alone": own.mean().item() + stretch(numbers, others)}
        found[name] = {f"NLL, k = {args.k}, N = {len(nats)} (nats)": figures}
        if args.label:
            made = {"joint": samples[name], "alone": model.generate(SAMPLES)[name]}
            judged = train, test, args.label, made, joint.device
            found[name]["Frechet distance"] = distances_from_training(modality, name, *judged)
        print(json.dumps(found[name], indent=1), file=sys.stderr)  # the next one takes long
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    with mendable():
        main()
