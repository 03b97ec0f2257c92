"""Training: one plain loop, alone or under torchrun, deterministic and resumable to the bit."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmvae import checkpoint
from mmvae.card import write_card
from mmvae.core.noise import StepNoise, mix
from mmvae.core.objectives import Terms
from mmvae.core.processes import by_the_first, over_processes
from mmvae.core.vae import Network
from mmvae.data.prepare import Prepared, prepare
from mmvae.data.store import Order
from mmvae.evaluation import bounds
from mmvae.evaluation.collapse import collapse
from mmvae.fitting import fit_first_priors
from mmvae.generation import VAE
from mmvae.hardware import autocast, best_device, free_memory, keep_memory, use_threads
from mmvae.modalities.contract import Modality
from mmvae.optimizing import Clip, Patience, Step, build_optimizer, learning_rate, moving_average
from mmvae.pretraining import renew_decoders
from mmvae.previews import write_previews
from mmvae.progress import Display, tensorboard
from mmvae.recipe import Recipe
from mmvae.resume import (
    Interrupted,
    check_data,
    check_folder,
    claim,
    cut_log,
    find_run,
    on_signals,
    restore_signals,
    restore_state,
    save_state,
    saved_threads,
)
from mmvae.starting import load_start, show_rows, started_modalities


def train(
    recipe: Recipe | str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> VAE:
    """Train a recipe and return the best model, which is saved in `out` (by default runs/<name>).

    overrides: "train.steps=200" and the like. resume: go on from the last save in `out`, to the same weights as
    without a stop, or for more train.steps than before; the recipe may then be the run's folder. Raises ValueError or
    FileNotFoundError for what the user can mend, Interrupted after Ctrl-C.
    """
    run = find_run(recipe) if resume and isinstance(recipe, str | Path) else None
    recipe = Recipe.load(recipe, overrides)
    folder = Path(out or run or Path("runs") / recipe.name)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not dist.is_initialized():
        dist.init_process_group(timeout=timedelta(days=1))  # the others wait while the first prepares the data
    first = int(os.environ.get("RANK", "0")) == 0
    try:
        with Display(progress and first) as display, ExitStack() as held:
            by_the_first(lambda: held.enter_context(claim(folder, resume)))
            return Run(recipe, folder, resume, display).train()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


class Run:
    """The state of one training: what a checkpoint holds, and what is rebuilt from the recipe."""

    def __init__(self, recipe: Recipe, folder: Path, resume: bool, display: Display) -> None:
        self.recipe, self.folder, self.display = recipe, folder, display
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        size = recipe.train.batch_size
        if size % self.world:
            raise ValueError(f"train.batch_size = {size} is no multiple of the {self.world} processes")
        check_folder(folder, recipe, resume)
        use_threads(recipe.train.threads or (saved_threads(folder) if resume else None))  # others give other bits
        keep_memory()
        self.device = best_device()
        self.prepared = self._prepare(started_modalities(recipe, folder if resume else None))
        store, self.objective = self.prepared.splits["train"].store, recipe.build_objective()
        ways, seed = self.objective.views(store.modalities()), mix(recipe.train.seed, "order")
        self.order = Order(len(store), size, seed, store.lengths(), store.numbers(), self.world, ways)
        torch.manual_seed(recipe.train.seed)
        network = checkpoint.build(recipe, self.prepared.modalities, recipe.weights(store.sizes())).to(self.device)
        if not resume:
            load_start(recipe, network)
        show_rows(network, store, self.device)
        self.step_module = Step(network, self.objective).to(self.device)
        self.schedule, self.clip = recipe.build_schedule(), Clip(recipe.train.clip).to(self.device)
        self.optimizer = build_optimizer(self.step_module, recipe.train)
        self.average = moving_average(network, recipe.train.ema)
        self.modules = {"network": network, "average": self.average, "clip": self.clip, "objective": self.objective}
        self.step, self.stopped, self.signalled = 0, False, 0.0
        self.patience = Patience(recipe.train)
        if resume:
            check_data(folder, self.prepared)
            self._restore()
        if self.rank == 0:
            about = {"data": {"fingerprint": self.prepared.fingerprint, "rows": self.prepared.report.rows}}
            checkpoint.save_config(folder, recipe, self.prepared.modalities, about)
            (folder / "log.jsonl").touch()

    def _prepare(self, modalities: dict[str, Modality] | None) -> Prepared:
        prepared = by_the_first(lambda: prepare(self.recipe, modalities, progress=self.display))
        prepared = prepared or prepare(self.recipe, modalities)
        if "validation" not in prepared.splits:
            raise ValueError("training needs a validation split: set data.validation above 0")
        for line in (*prepared.lines(), *self.recipe.cautions(len(prepared.splits["train"]))):
            self.display.say(line)
        return prepared

    @property
    def network(self) -> Network:
        """The network that is trained."""
        return self.step_module.network

    @property
    def averaged(self) -> Network:
        """The moving average of its weights, which is measured and saved."""
        return cast(Network, self.average.module)

    def train(self) -> VAE:
        """Run to the last step, fit the prior, and return the best model."""
        settings = self.recipe.train
        module: nn.Module = self.step_module
        if self.world > 1:
            # a process's share of a batch may lack a modality, and so leave its networks unused
            module = DistributedDataParallel(module, find_unused_parameters=len(self.prepared.modalities) > 1)
        previous = on_signals(self._stop)
        writer = tensorboard(self.folder, self.step) if self.rank == 0 else None
        try:
            clock, seen = time.monotonic(), 0
            while self.step < self.patience.last and not self.stopped:
                if self.step and self.step == settings.pretrain:
                    renew_decoders(self.recipe, self.prepared.modalities, [self.network, self.averaged], self.optimizer)
                    self.patience.renew()  # measured before, of other decoders
                self.objective.progress = self.step / self.patience.last
                kl_weight = self.recipe.kl["weight"] * self._annealed(self.step)
                terms, norm = self._one(module, kl_weight)
                self.step += 1
                seen += len(terms.rate) * self.world
                last = self.step == self.patience.last
                if self.step % 10 == 0 or last:
                    self._log(terms, norm, kl_weight, seen / (time.monotonic() - clock), writer)
                    clock, seen = time.monotonic(), 0
                if self.step % settings.evaluate_every == 0 or last:
                    self._evaluate(writer)
                    clock, seen = time.monotonic(), 0
                    free_memory()
                elif self.step % 100 == 0:  # rows of unlike length leave holes: 2.5 GB instead of 5
                    free_memory()
                self._agree_to_stop()
            if self.stopped:
                self._save_resume()
                raise Interrupted(
                    f"stopped at step {self.step} of {self.patience.last}; "
                    f"go on with: mmvae train {self.folder} --resume"
                )
        finally:
            restore_signals(previous)
            if writer:
                writer.close()
        return self._finish()

    def _one(self, module: nn.Module, kl_weight: float) -> tuple[Terms, Tensor]:
        settings, part, rows = self.recipe.train, slice(self.rank, None, self.world), self.order(self.step)
        noise = StepNoise(mix(settings.seed, "noise", self.step), len(rows), part, self.device)
        batch = self.prepared.splits["train"].store.observed(rows[part], noise)
        torch.manual_seed(mix(settings.seed, "dropout", self.step, self.rank))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, settings, self.patience.last)
        module.train()
        with autocast(self.device, settings.precision):
            terms = module(batch, noise, kl_weight)
        loss = over_processes(terms.loss.detach())  # all of them stop, or none
        if not torch.isfinite(loss):
            raise ValueError(
                f"the loss is {loss.item()} at step {self.step}: try a smaller train.learning_rate"
                + (
                    f"; the best model so far is in {self.folder}"
                    if (self.folder / checkpoint.WEIGHTS).is_file()
                    else ""
                )
            )
        self.optimizer.zero_grad()
        (terms.loss * (len(rows) / settings.batch_size)).backward()  # all rows weigh the same
        norm = self.clip(self.network.parameters())
        self.optimizer.step()
        self.average.update_parameters(self.network)
        return terms, norm

    def _annealed(self, step: int) -> float:
        """The share of the final KL weight at a step counted from 0."""
        step -= self.recipe.train.pretrain
        return self.schedule(step) if step >= 0 else 0.0

    def _stop(self, number: int, frame: Any) -> None:
        # torchrun passes Ctrl-C on to processes that have it from the terminal already
        if self.signalled and time.monotonic() - self.signalled > 2:
            raise KeyboardInterrupt
        self.signalled = time.monotonic()

    def _agree_to_stop(self) -> None:
        # a signal may come between any two lines: one process must not leave the loop by itself
        asked = torch.tensor(float(self.signalled > 0), device=self.device)
        if self.world > 1:
            dist.all_reduce(asked)
        self.stopped = bool(asked > 0)

    def _log(self, terms: Terms, norm: Tensor, kl_weight: float, examples: float, writer: Any) -> None:
        names = ["loss", "rate", *(f"distortion/{name}" for name in terms.distortion)]
        values = torch.stack([terms.loss.detach(), terms.rate.mean(), *(d.mean() for d in terms.distortion.values())])
        if self.world > 1:
            dist.all_reduce(values)
        figures = dict(zip(names, (values.detach() / self.world).tolist(), strict=True))
        if self.rank:
            return
        figures |= {"examples/s": examples, "gradient norm": norm.item(), "KL weight": kl_weight}
        self._record(figures, writer)
        shown = {"loss": figures["loss"], "rate": figures["rate"]}
        shown |= {"distortion": sum(figures[name] for name in names[2:])}
        self.display("training", self.step, self.patience.last, {**shown, "examples/s": examples})

    def _record(self, figures: Mapping[str, float], writer: Any) -> None:
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps({"step": self.step, **figures}) + "\n")
        for name, value in figures.items():
            writer.add_scalar(name, value, self.step)

    def _evaluate(self, writer: Any) -> None:
        """Measure the averaged weights at KL weight 1; keep them if they are the best; save; show."""
        if self.rank == 0:
            store = self.prepared.splits["validation"].store
            bounds.settle(self.averaged.eval(), self.prepared.splits["train"].store, self.device)
            terms = bounds.elbo(self.averaged, store, self.device, draws=self.objective.draws)
            use = bounds.latent_use(self.averaged, store, self.device)
            self._record({f"validation/{name}": value for name, value in (terms.figures() | use).items()}, writer)
            # without a KL weight z is as far from its prior as it likes
            score = (terms.rate or 0.0) - terms.gain if self.recipe.kl["weight"] else 0.0
            score += sum(self.network.weights[name] * value for name, value in terms.distortion.items())
            last, settled = self.patience.last, self._annealed(self.step - 1) >= 0.99
            if better := self.patience.better(score, self.step, settled):
                checkpoint.save_weights(self.folder, self.averaged)
            self._save_resume()
            self.display.say(f"step {self.step}: validation {terms}{' *' if better else ''}")
            if self.patience.last < last:
                falls = f"the learning rate falls till step {self.patience.last}"
                then = falls if self.recipe.train.fall else "the training ends here"
                self.display.say(f"none of {self.patience.worse} validations was better: {then}")
            if self.recipe.kl["weight"] * self._annealed(self.step) and (
                warning := collapse(terms.rate or 0.0, use, self.recipe, self.step)
            ):
                self.display.say(warning)
            vae = VAE(self.averaged, self.prepared.modalities, self.recipe)
            write_previews(vae, self.prepared.splits["validation"], self.folder / "previews", self.step)
        if self.world > 1:
            ending = torch.tensor(self.patience.last, device=self.device)
            dist.broadcast(ending, 0)
            self.patience.last = int(ending)

    def _save_resume(self) -> None:
        if self.rank == 0:
            save_state(self.folder, self.modules, self.optimizer, {"step": self.step, **self.patience.state()})

    def _restore(self) -> None:
        about = restore_state(self.folder, self.modules, self.optimizer)
        self.step = int(about["step"])
        self.patience.restore(about)
        if self.rank == 0:
            cut_log(self.folder / "log.jsonl", self.step)
        self.display.say(f"going on at step {self.step} of {self.patience.last}")

    def _finish(self) -> VAE:
        vae = VAE.load(self.folder, str(self.device))
        if self.rank == 0:
            fit_first_priors(vae, self.prepared, self.display)
            validation = self.prepared.splits["validation"]
            write_previews(vae, validation, self.folder / "previews", self.step)  # as the finished model generates
            terms = bounds.elbo(vae.network, validation.store, self.device)
            write_card(self.folder, self.recipe, terms, self.prepared.report.rows, self.step)
        return vae
