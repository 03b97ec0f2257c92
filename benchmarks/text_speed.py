"""Text: a training step and batch-1 generation against plain implementations of the same model.

    python benchmarks/text_speed.py [--data FILE.txt] [--steps 60] [--loss 600] [modalities.text.hidden=128 ...]

prints one JSON object: sentences a second, each in a process of its own, and their ratio. The plain step pads
batches in random order, computes all logits in float32 and uses torch's default Adam; plain generation calls nn.GRU
once a token. With --loss, both train for so many steps from the same weights, with the same learning rates, and the
validation -ELBO that each reaches is printed too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "3000")

import torch
from torch import Tensor, nn

from mmvae.commands.terminal import mendable
from mmvae.core.noise import StepNoise
from mmvae.core.vae import Network
from mmvae.evaluation import bounds
from mmvae.generation import VAE
from mmvae.modalities.recurrent import RecurrentDecoder
from mmvae.optimizing import learning_rate
from mmvae.progress import Display
from mmvae.recipe import Recipe
from mmvae.training import Run

WARM = 10  # steps before the clock starts


def rate(step: Callable[[], int], steps: int) -> float:
    """Rows a second of `steps` calls, each of which returns how many it did."""
    for _ in range(WARM):
        step()
    start = time.perf_counter()
    rows = sum(step() for _ in range(steps))
    return rows / (time.perf_counter() - start)


def make_run(data: str, steps: int, threads: int, changes: list[str]) -> Run:
    """A run of the recipe for verses, with the ELBO as its loss."""
    folder = Path(tempfile.mkdtemp())
    ours = [f"data.path={data}", f"train.steps={steps}", f"train.threads={threads}"]
    # what the plain step has not
    same = ["objective.target_rate=0", "objective.free_bits=0", "train.weight_decay=0", "train.patience=0"]
    recipe = Recipe.load("text/verses", [*ours, *same, *changes])
    return Run(recipe, folder, resume=False, display=Display(False))


def ours(run: Run) -> Callable[[], int]:
    """The step of `mmvae train`."""

    def step() -> int:
        terms, _ = run._one(run.step_module, 1.0)
        run.step += 1
        return len(terms.rate)

    return step


def plain(run: Run) -> Callable[[], int]:
    """The step that one writes first."""
    store, size = run.prepared.splits["train"].store, run.recipe.train.batch_size
    network, noise = run.network.train(), torch.Generator().manual_seed(0)
    decoder = network.decoders["text"]
    assert isinstance(decoder, RecurrentDecoder)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def step() -> int:
        batch = store.batch(torch.randint(len(store), (size,), generator=noise))
        tokens = batch.values["text"].long()
        posterior = network.posterior(batch)
        z = posterior.sample(StepNoise(run.step, size, slice(None)))
        logits = decoder._logits(decoder.project(decoder.hidden(z[:, 0], tokens)))
        distortion = nn.functional.cross_entropy(
            logits.flatten(0, 1), tokens.flatten(), ignore_index=decoder.tokens, reduction="sum"
        )
        loss = distortion / size + network.prior.rate(posterior, z).sum(1).mean()
        optimizer.param_groups[0]["lr"] = learning_rate(run.step, run.recipe.train, run.recipe.train.steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.average.update_parameters(network)
        run.step += 1
        return size

    return step


def final_loss(run: Run, step: Callable[[], int]) -> float:
    """The validation -ELBO after all steps of a run, nats a row."""
    while run.step < run.recipe.train.steps:
        step()
    return bounds.elbo(run.averaged.eval(), run.prepared.splits["validation"].store, run.device).total


def tokens_a_second(generate: Callable[[Tensor], Tensor], latent: int, count: int) -> float:
    """Tokens a second over single latents."""
    draws = torch.randn(count, 1, latent, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        generate(draws[0])
        start = time.perf_counter()
        tokens = sum(generate(z).shape[1] for z in draws)
    return tokens / (time.perf_counter() - start)


def loop(decoder: RecurrentDecoder, z: Tensor) -> Tensor:
    """Greedy decoding by nn.GRU, one call a token."""
    token, state, tokens = torch.full((1,), decoder.tokens), decoder._initial(z), []
    for _ in range(decoder.length):
        embedded = decoder.scale * decoder.embedding(token)
        output, state = decoder.gru(torch.cat([embedded, z], dim=-1)[:, None], state)
        token = decoder._logits(decoder.project(torch.cat([output[:, 0], z], dim=-1))).argmax(-1)
        tokens.append(token)
        if token.item() == 0:
            break
    return torch.stack(tokens, 1)


def generation(run: Run, count: int) -> dict[str, float]:
    """Batch-1 greedy generation of an untrained model, which writes max_tokens each time."""
    network: Network = run.network.eval()
    vae = VAE(network, run.prepared.modalities, run.recipe)
    decoder, latent = vae.network.decoders["text"], run.recipe.latent["dim"]
    assert isinstance(decoder, RecurrentDecoder)
    table = tokens_a_second(lambda z: decoder(z).mode(), latent, count)
    return {"ours": table, "nn.GRU loop": tokens_a_second(lambda z: loop(decoder, z), latent, count)}


def main() -> None:
    """Run each measurement in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="definitions")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--loss", type=int, default=0)
    parser.add_argument("--only", choices=["ours", "plain", "generation", "ours loss", "plain loss"])
    parser.add_argument("changes", nargs="*", help="settings in place of the recipe's, as for mmvae train")
    args = parser.parse_args()
    if args.only:
        run = make_run(args.data, args.loss or 10_000, args.threads, args.changes)
        step = {"ours": ours, "plain": plain}.get(args.only.split()[0])
        if step is None:
            print(json.dumps(generation(run, args.steps)))
        else:
            print(json.dumps(final_loss(run, step(run)) if "loss" in args.only else rate(step(run), args.steps)))
        return
    found = {}
    losses = ["ours loss", "plain loss"] if args.loss else []
    for name in ("plain", "ours", "plain", "ours", "generation", *losses):
        line = [sys.executable, __file__, *sys.argv[1:], "--only", name]
        ran = subprocess.run(line, stdout=subprocess.PIPE, text=True)
        if ran.returncode:  # it has said why
            sys.exit(ran.returncode)
        done = json.loads(ran.stdout)
        found[name] = max(done, found[name]) if name in found else done
    generated = found["generation"]
    print(
        json.dumps(
            {
                "training, sentences/s": {"plain": found["plain"], "ours": found["ours"]},
                "training, ratio": found["ours"] / found["plain"],
                "batch-1 generation, tokens/s": generated,
                "generation, ratio": generated["ours"] / generated["nn.GRU loop"],
                **{f"validation -ELBO after {args.loss} steps, {name.split()[0]}": found[name] for name in losses},
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    with mendable():
        main()
