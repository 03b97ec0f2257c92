"""Two kinds of pictures in one latent, beside MultiVae: the same networks, likelihood, rows and epochs for both.

    python benchmarks/joint_peers.py PAIRS.npz [--epochs 10] [--limit 10000] [--learning-rate 3e-3] [--seed 0]
        [--only NAME ...] [--set TABLE.KEY=VALUE ...]

PAIRS.npz holds uint8 pictures x [N, H, W] and c [N, C, H, W] of the same classes y [N], and x_test, c_test, y_test.
They are made black and white. Encoders and decoders have two layers of 512 units; all trains on one thread, in as many
steps of as many rows. It prints a table in Markdown: rows a CPU second in training (in each way that encoders may see
them), -log p(x, c) in nats by importance weighting, and how often what is made is of the right class for a classifier
of each kind: c of x, x of c, and both alike in samples of the prior. MultiVae (1.0.3 was measured) takes part where it
is installed.
"""

from __future__ import annotations

import argparse
import io
import logging
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import mmvae
from mmvae.commands.terminal import mendable
from mmvae.modalities.networks import DenseDecoder, DenseEncoder
from mmvae.recipe import Recipe
from mmvae.training import Run

WIDTHS, DIM, ROWS, DRAWN = (512, 512), 20, 128, 2000
FEW, DRAWS = 200, 100  # rows whose NLL is measured, and draws for each
MIXTURE = "latent.kind=mixture"
MODELS = {
    "MVAE": "objective.subsets=each objective.scored=seen",  # of two modalities "each" is all
    # alpha = 0.1 and beta = 2.5, as MultiVae has them
    "MVTCAE": f"latent.with_prior=false objective.kind=alone objective.alone={0.25 / 1.9} kl.weight={4.5 / 1.9}",
    "MoPoE": f"{MIXTURE} latent.of=products",
    "MMVAE": f"{MIXTURE} objective.kind=importance objective.samples=10 objective.groups=2",
}
Pictures = dict[str, Tensor]  # by kind, bool [N, C, H, W]


def read(path: Path, split: str, limit: int | None = None) -> tuple[Pictures, Tensor]:
    """Black and white pictures of both kinds, and their classes [N]."""
    with np.load(path) as file:
        if lacking := {f"{name}{split}" for name in "xcy"} - set(file.files):
            raise ValueError(f"{path}: it lacks {', '.join(sorted(lacking))}")
        x, c, y = (torch.from_numpy(file[name + split][:limit]) for name in "xcy")
    return {"x": (x > 127)[:, None], "c": c > 127}, y


def classifier(pictures: Tensor, classes: Tensor) -> nn.Module:
    """A small convolutional network that tells the classes."""
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(pictures.shape[1], 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten()),
        *(nn.LazyLinear(64), nn.ReLU(), nn.Linear(64, int(classes.max()) + 1)),
    )
    network(pictures[:1].float())
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(12):
        for rows in torch.randperm(len(pictures)).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(pictures[rows].float()), classes[rows]).backward()
            optimizer.step()
    return network.eval()


def raws(pictures: Tensor) -> list[np.ndarray]:
    """uint8 [H, W, C], as mmvae has pictures."""
    return list(pictures.permute(0, 2, 3, 1).numpy().astype(np.uint8) * 255)


@contextmanager
def timed(owner: type, name: str) -> Generator[list[float]]:
    """The CPU seconds that each call of a method takes: other programs may take the rest."""
    seconds: list[float] = []
    method = getattr(owner, name)

    def call(*words: Any) -> Any:
        start = time.process_time()
        done = method(*words)
        seconds.append(time.process_time() - start)
        return done

    setattr(owner, name, call)
    try:
        yield seconds
    finally:
        setattr(owner, name, method)


class Ours:
    """A model of mmvae, trained on rows of a folder of parquet files."""

    def __init__(self, name: str, data: Path, args: argparse.Namespace, folder: Path) -> None:
        image = {"kind": "image", "networks": "dense", "widths": WIDTHS, "likelihood": "bernoulli"}
        steps = args.epochs * args.limit // ROWS
        train = {"steps": steps, "evaluate_every": steps, "learning_rate": args.learning_rate, "threads": 1}
        recipe = {
            "name": "pairs",
            "data": {"path": str(data)},
            "modalities": {"x": image, "c": image},
            "latent": {"dim": DIM},
            "train": {**train, "seed": args.seed},
        }
        recipe = Recipe.load(recipe, [*MODELS[name].split(), *args.set])
        views = int(recipe.build_objective().views(torch.tensor([2])))  # of each, while MultiVae has all in one row
        with timed(Run, "_one") as seconds:
            self.vae = mmvae.train(recipe, [f"train.batch_size={ROWS * views}"], folder, progress=False)
        self.rate = ROWS / float(np.median(seconds))

    def nats(self, pictures: Pictures, file: Path, k: int) -> float:
        figures = mmvae.evaluate(self.vae, data=str(file), k=k)
        return next(value for name, value in figures.items() if name.startswith("NLL, importance"))

    def translate(self, pictures: Pictures, source: str, target: str) -> Tensor:
        made = self.vae.translate({source: raws(pictures[source])}, [target], temperature=0.0)[target]
        return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2) > 127

    def sample(self, n: int) -> Pictures:
        made = self.vae.generate(n, temperature=0.0)
        return {kind: torch.from_numpy(np.stack(made[kind])).permute(0, 3, 1, 2) > 127 for kind in "xc"}


class Theirs:
    """A model of MultiVae with the networks of ours."""

    def __init__(self, name: str, pictures: Pictures, args: argparse.Namespace, folder: Path) -> None:
        models, trainers, nets = map(import_module, ("multivae.models", "multivae.trainers", "pythae.models.nn"))
        Output = import_module("pythae.models.base.base_utils").ModelOutput
        Rows, Trainer = import_module("multivae.data.datasets").MultimodalBaseDataset, trainers.BaseTrainer

        class Encoder(nets.BaseEncoder):
            def __init__(self, shape: tuple[int, ...]) -> None:
                super().__init__()
                self.latent_dim, self.layers = DIM, DenseEncoder(shape, 2 * DIM, WIDTHS)

            def forward(self, x: Tensor) -> Any:
                mean, log_variance = self.layers(x * 2 - 1).chunk(2, 1)
                return Output(embedding=mean, log_covariance=log_variance)

        class Decoder(nets.BaseDecoder):
            def __init__(self, shape: tuple[int, ...]) -> None:
                super().__init__()
                self.latent_dim, self.layers = DIM, DenseDecoder(DIM, shape, WIDTHS)

            def forward(self, z: Tensor) -> Any:
                return Output(reconstruction=self.layers(z.flatten(0, -2)).unflatten(0, z.shape[:-1]))

        shapes = {kind: tuple(of.shape[1:]) for kind, of in pictures.items()}
        torch.manual_seed(args.seed)
        config = getattr(models, f"{name}Config")(
            n_modalities=2, latent_dim=DIM, input_dims=shapes, decoders_dist=dict.fromkeys(shapes, "bernoulli")
        )
        model = getattr(models, name)(
            config,
            encoders={kind: Encoder(shape) for kind, shape in shapes.items()},
            decoders={kind: Decoder(shape) for kind, shape in shapes.items()},
        )
        self.data = lambda of: Rows({kind: p.float() for kind, p in of.items()})
        settings = trainers.BaseTrainerConfig(
            output_dir=str(folder), num_epochs=args.epochs, learning_rate=args.learning_rate, seed=args.seed,
            no_cuda=True, per_device_train_batch_size=ROWS, per_device_eval_batch_size=ROWS,
        )  # fmt: skip
        trainer = Trainer(model, train_dataset=self.data(pictures), training_config=settings)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), timed(Trainer, "train_step") as seconds:
            trainer.train()
        self.model = model.eval()
        self.rate = len(pictures["x"]) / float(np.median(seconds))

    @torch.no_grad()
    def nats(self, pictures: Pictures, file: Path, k: int) -> float:
        return float(self.model.compute_joint_nll(self.data(pictures), k, k)) / len(pictures["x"])

    @torch.no_grad()
    def translate(self, pictures: Pictures, source: str, target: str) -> Tensor:
        made = self.model.predict(self.data(pictures), cond_mod=source, gen_mod=target)[target]
        return made.view(-1, *pictures[target].shape[1:]) > 0

    @torch.no_grad()
    def sample(self, n: int) -> Pictures:
        made = self.model.decode(self.model.generate_from_prior(n))
        return {kind: made[kind].view(n, *made[kind].shape[-3:]) > 0 for kind in "xc"}


def main() -> None:
    """Train, measure and print one model after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--limit", type=int, default=10_000)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--set", nargs="*", default=[], help="further changes of our recipes")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)  # MultiVae tells of every step
    import datasets  # a second

    features = datasets.Features({"x": datasets.Image(), "c": datasets.Image(), "y": datasets.Value("int64")})
    (pictures, classes), (held, true) = read(args.pairs, "", args.limit), read(args.pairs, "_test")
    args.limit = len(classes)
    seen = {kind: of[:ROWS] for kind, of in pictures.items()}  # nothing is chosen by it
    splits = {"train": (pictures, classes), "validation": (seen, classes[:ROWS]), "test": (held, true)}
    judges = {kind: classifier(pictures[kind], classes) for kind in "xc"}

    def told(kind: str, of: Tensor) -> Tensor:
        with torch.no_grad():
            return judges[kind](of.float()).argmax(1)

    known = ", ".join(f"{kind} {(told(kind, held[kind]) == true).double().mean():.3f}" for kind in "xc")
    print(f"Of the real test pictures, the classifiers know: {known}.\n")
    print("| model | of | rows/s | NLL | c of x | x of c | both alike |\n|---|---|---|---|---|---|---|")
    makers = ["mmvae", *(["MultiVae"] if find_spec("multivae") else [])]
    with tempfile.TemporaryDirectory() as place:
        data, few = Path(place, "data"), {kind: of[:FEW] for kind, of in held.items()}
        data.mkdir()
        splits |= {"few": (few, true[:FEW])}
        for split, (of, labels) in splits.items():
            columns = {kind: [raw.squeeze() for raw in raws(of[kind])] for kind in "xc"}
            columns["y"] = labels.tolist()
            rows = datasets.Dataset.from_dict(columns, features=features)
            rows.to_parquet(Path(place, "few.parquet") if split == "few" else data / f"{split}.parquet")
        for name in args.only:
            for maker in makers:
                folder = Path(place, f"{name}-{maker}")
                made: Ours | Theirs = (
                    Ours(name, data, args, folder) if maker == "mmvae" else Theirs(name, pictures, args, folder)
                )
                shares = [
                    (told(target, made.translate(held, source, target)) == true).double().mean().item()
                    for source, target in ("xc", "cx")
                ]
                drawn = made.sample(DRAWN)
                shares.append((told("x", drawn["x"]) == told("c", drawn["c"])).double().mean().item())
                nats = made.nats(few, Path(place, "few.parquet"), DRAWS)
                figures = " | ".join(f"{share:.3f}" for share in shares)
                print(f"| {name} | {maker} | {made.rate:,.0f} | {nats:.1f} | {figures} |", flush=True)


if __name__ == "__main__":
    with mendable():
        main()
