"""Training: resumable to the bit, the same on two processes, honest when it fails."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import mmvae
from mmvae import checkpoint, hardware
from mmvae.core.noise import StepNoise
from mmvae.data.prepare import prepare
from mmvae.evaluation import bounds
from mmvae.optimizing import MEMORY, Clip, build_optimizer, learning_rate
from mmvae.pretraining import renew_decoders
from mmvae.progress import Display
from mmvae.recipe import Recipe
from mmvae.resume import FILE, Interrupted, claim
from mmvae.tables import Train
from mmvae.training import Run, train

SMALL = [
    "modalities.image.widths=[8,16]",
    "latent.dim=4",
    "prior.fitted=2",
    "kl.kind=constant",
    "train.steps=20",
    "train.batch_size=32",
    "train.evaluate_every=10",
    "train.threads=1",
    "data.limit=200",
]


def recipe(*overrides: str) -> Recipe:
    return Recipe.load("image/digits", [*SMALL, *overrides])


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Make a run behave as if a signal came during a step."""
    one = Run._one

    def counted(self: Run, *arguments: Any) -> Any:
        result = one(self, *arguments)
        if self.step + 1 == steps:
            self._stop(signal.SIGINT, None)
        return result

    monkeypatch.setattr(Run, "_one", counted)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 steps without a stop."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(recipe(), out=folder, progress=False)
    return folder


def equal(a: Path, b: Path) -> bool:
    first, second = checkpoint.read_tensors(a)[0], checkpoint.read_tensors(b)[0]
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("steps", [7, 10, 13])
@pytest.mark.parametrize("again", ["the recipe", "the folder"])
def test_a_stopped_run_resumes_to_the_same_bits(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, again: str
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        stop_after(patched, steps)
        with pytest.raises(Interrupted, match=f"step {steps} of 20"):
            train(recipe(), out=run, progress=False)
    if again == "the folder":
        train(run, resume=True, progress=False)
    else:
        train(recipe(), out=run, resume=True, progress=False)
    assert equal(tmp_path / "run" / FILE, whole / FILE)
    assert equal(tmp_path / "run" / checkpoint.WEIGHTS, whole / checkpoint.WEIGHTS)


@pytest.mark.parametrize(
    "part",
    [
        ["latent.kind=vq", "latent.codes=2", "prior.kind=codes"],
        ["prior.kind=vamp"],
        ["objective.kind=adversarial", "objective.units=8"],
        ["objective.kind=importance", "objective.after=0.25"],
        ["objective.kind=importance", "objective.after=0.45"],
    ],
)
def test_parts_with_more_than_weights_resume_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: list[str]
) -> None:
    part = [*part, "prior.fitted=0"]
    train(recipe(*part), out=tmp_path / "whole", progress=False)
    with monkeypatch.context() as patched:
        stop_after(patched, 7)
        with pytest.raises(Interrupted):
            train(recipe(*part), out=tmp_path / "run", progress=False)
    train(recipe(*part), out=tmp_path / "run", resume=True, progress=False)
    assert equal(tmp_path / "run" / FILE, tmp_path / "whole" / FILE)


def test_text_with_its_dropout_resumes_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = tmp_path / "lines.txt"
    sentences.write_text("\n".join(f"the {a} of the {b}" for a in "abcdef" for b in ("cat", "dogs", "old house")))
    text = Recipe.load(
        "text/definitions",
        f"data.path={sentences} modalities.text.hidden=16 modalities.text.embedding=8 latent.dim=4 prior.fitted=0 "
        "train.steps=12 train.batch_size=4 train.evaluate_every=6 train.threads=1".split(),
    )
    train(text, out=tmp_path / "whole", progress=False)
    with monkeypatch.context() as patched:
        stop_after(patched, 5)
        with pytest.raises(Interrupted):
            train(text, out=tmp_path / "run", progress=False)
    train(text, out=tmp_path / "run", resume=True, progress=False)
    assert equal(tmp_path / "run" / FILE, tmp_path / "whole" / FILE)


@pytest.mark.parametrize("steps", [4, 6, 9])
def test_a_run_with_pretraining_resumes_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    pretrained = recipe("train.steps=12", "train.pretrain=6", "train.evaluate_every=3")
    train(pretrained, out=tmp_path / "whole", progress=False)
    weights = [entry["KL weight"] for entry in log(tmp_path / "whole") if "KL weight" in entry]
    assert weights == [1.0, 1.0]  # of steps 10 and 12
    with monkeypatch.context() as patched:
        stop_after(patched, steps)
        with pytest.raises(Interrupted):
            train(pretrained, out=tmp_path / "run", progress=False)
    train(pretrained, out=tmp_path / "run", resume=True, progress=False)
    assert equal(tmp_path / "run" / FILE, tmp_path / "whole" / FILE)


@pytest.mark.parametrize("processes", [1, 2])
def test_training_ends_when_patience_does(
    processes: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    still = ["train.patience=2", "train.evaluate_every=4", "train.learning_rate=1e-30", "prior.fitted=0"]
    if processes == 2:
        line = command(*still, "--nproc", "2", "--out", str(tmp_path))
        subprocess.run(line, capture_output=True, timeout=200, check=True)
    else:
        with monkeypatch.context() as patched:
            stop_after(patched, 10)  # between the second validation and the third
            with pytest.raises(Interrupted):
                train(recipe(*still), out=tmp_path)
        train(tmp_path, resume=True)
        assert "none of 2 validations was better: the training ends here" in capsys.readouterr().err
    assert [line["step"] for line in log(tmp_path) if "validation/rate" in line] == [4, 8, 12]


def test_when_patience_ends_the_learning_rate_falls_over_the_same_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = {}

    def kept(step: int, settings: Train, last: int) -> float:
        rates[step] = learning_rate(step, settings, last)
        return 1e-30

    monkeypatch.setattr("mmvae.training.learning_rate", kept)
    falls = recipe("train.steps=100", "train.patience=2", "train.evaluate_every=4", "train.fall=0.5", "prior.fitted=0")
    with monkeypatch.context() as patched:
        stop_after(patched, 14)  # two steps of the fall done
        with pytest.raises(Interrupted, match="stopped at step 14 of 24"):
            train(falls, out=tmp_path)
    train(tmp_path, resume=True)
    assert "none of 2 validations was better: the learning rate falls till step 24" in capsys.readouterr().err
    assert list(rates) == list(range(24))
    assert rates[11] == falls.train.learning_rate
    assert [rates[step] / rates[11] for step in range(12, 24)] == pytest.approx(
        [left / 12 for left in range(12, 0, -1)]
    )
    assert [line["step"] for line in log(tmp_path) if "validation/rate" in line] == [4, 8, 12, 16, 20, 24]


def test_a_run_that_ended_by_patience_goes_on_when_it_is_given_more_steps(tmp_path: Path) -> None:
    still = ["train.patience=1", "train.evaluate_every=2", "train.learning_rate=1e-30", "prior.fitted=0"]
    train(recipe(*still), out=tmp_path, progress=False)
    assert log(tmp_path)[-1]["step"] == 4
    train(recipe(*still, "train.steps=100"), out=tmp_path, resume=True, progress=False)
    assert log(tmp_path)[-1]["step"] == 6


def test_where_draws_are_weighted_the_best_is_by_their_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = []

    def measured(*_: Any, draws: int = 1) -> bounds.Measured:  # the ELBO falls, and the NLL falls till the third
        drawn.append(draws)
        return bounds.Measured(float(len(drawn)), {"image": 0.0}, draws, (0.0, 1.5, 3.0, 2.0, 0.0)[len(drawn) - 1])

    monkeypatch.setattr(bounds, "elbo", measured)
    train(recipe("objective.kind=importance", "train.steps=40"), out=tmp_path)
    said = capsys.readouterr()
    assert re.findall(r"step (\d+): validation .* \*", said.out + said.err) == ["10", "20", "30"]
    assert drawn == [5, 5, 5, 5, 1]


def test_the_bound_is_trained_after_the_elbo(tmp_path: Path) -> None:
    ended = {}
    for after in (0, 0.45, 0.99):  # of 20 steps
        train(
            recipe("objective.kind=importance", f"objective.after={after}"), out=tmp_path / str(after), progress=False
        )
        ended[after], _ = checkpoint.read_tensors(tmp_path / str(after) / FILE)
    elbo = train(recipe(), out=tmp_path / "elbo", progress=False)
    assert elbo.recipe.objective["kind"] == "elbo"
    assert equal(tmp_path / "0.99" / FILE, tmp_path / "elbo" / FILE)
    weights = [torch.cat([value.flatten().float() for value in tensors.values()]) for tensors in ended.values()]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(weights, 2))


def test_a_modality_is_weighed_by_its_numbers_where_the_recipe_says_so(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("long,short\n" + "abcdefghi,ab\nabcdefg,abcd\n" * 20)  # and an end each
    text = {"kind": "text", "tokenizer": "characters", "weight": "size"}
    settings = {
        "name": "both",
        "data": {"path": str(tmp_path / "pairs.csv")},
        "modalities": {"long": text, "short": text},
    }
    for weights, known in (({}, {"long": 1, "short": 9 / 4}), ({"short": 3}, {"long": 1, "short": 3})):
        overrides = [f"modalities.{name}.weight={weight}" for name, weight in weights.items()]
        run = Run(Recipe.load(settings, overrides), tmp_path / f"run{len(weights)}", False, Display(False))
        assert run.network.weights == pytest.approx(known, rel=0.05)  # a split may have more of one row


def test_patience_waits_until_the_weight_has_risen(tmp_path: Path) -> None:
    still = ["train.patience=1", "train.evaluate_every=2", "train.learning_rate=1e-30", "prior.fitted=0"]
    risen = [*still, "train.pretrain=4", "kl.kind=linear", "kl.warmup=6"]
    train(recipe(*risen), out=tmp_path, progress=False)
    assert max(line["step"] for line in log(tmp_path) if "validation/rate" in line) == 12


def test_after_pretraining_the_decoders_are_new_and_the_encoders_are_not(tmp_path: Path) -> None:
    run = Run(recipe(), tmp_path / "run", False, Display(False))
    for run.step in range(6):
        run._one(run.step_module, 0.0)
    old = {name: value.clone() for name, value in run.network.state_dict().items()}
    renew_decoders(run.recipe, run.prepared.modalities, (run.network, run.averaged), run.optimizer)
    new, averaged = run.network.state_dict(), run.averaged.state_dict()
    changed = {name for name, value in new.items() if not torch.equal(value, old[name])}
    assert changed
    assert all(name.startswith("decoders.") for name in changed)
    assert all(torch.equal(averaged[name], new[name]) for name in changed)
    decoders = {id(parameter) for parameter in run.network.decoders.parameters()}
    assert not decoders & {id(parameter) for parameter in run.optimizer.state}


def test_a_model_without_a_latent_is_measured_like_any_other(tmp_path: Path) -> None:
    none = ["latent.kind=none", "prior.kind=none", "prior.fitted=0", "train.steps=6"]
    vae = train(recipe(*none), out=tmp_path / "run", progress=False)
    figures = mmvae.evaluate(vae, "validation", k=4)
    assert figures["rate (nats)"] == figures["active units, of 4"] == 0
    assert figures["-ELBO (nats)"] == pytest.approx(figures["NLL, importance-weighted, k = 4 (nats)"])
    assert len(vae.generate(2)) == 2
    assert not vae.encode(vae.generate(2)["image"]).any()


def test_averaged_weights_are_measured_and_saved_with_normalized_means_of_their_own(tmp_path: Path) -> None:
    vae = train(recipe("latent.mean_scale=0.5", "train.learning_rate=0.01"), out=tmp_path / "run", progress=False)
    rows = prepare(vae.recipe, vae.modalities).splits["train"].store
    means, _ = bounds.encode(vae.network, rows, vae.device)
    torch.testing.assert_close(means.std(0), torch.full((4,), 0.5), atol=1e-4, rtol=0)


def test_a_collapse_is_said_while_it_can_be_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(
        recipe("kl.weight=1000", "train.learning_rate=0.01", "train.steps=200", "train.evaluate_every=200"),
        out=tmp_path / "run",
    )
    assert "the posterior has collapsed: z tells 0.0" in capsys.readouterr().err


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mmvae", "train", "image/digits", *SMALL, *arguments]


def test_two_processes_give_the_loss_of_one(tmp_path: Path) -> None:
    # a floor that some dimensions are below and some above: it must be that of the whole batch
    floor = "objective.free_bits=0.2"
    train(recipe(floor), out=tmp_path / "one", progress=False)
    done = subprocess.run(
        command(floor, "--nproc", "2", "--out", str(tmp_path / "two")),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = ([entry["loss"] for entry in log(tmp_path / name) if "loss" in entry] for name in ("one", "two"))
    assert two == pytest.approx(one, rel=1e-4)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e4])  # whatever a likelihood's numbers are
def test_a_gradient_is_cut_where_it_is_longer_than_is_usual(unit: float) -> None:
    weight, clip = torch.nn.Parameter(torch.zeros(4)), Clip(2.0)

    def cut(length: float) -> float:
        weight.grad = torch.full((4,), length * unit / 2)
        assert clip([weight, torch.nn.Parameter(torch.zeros(1))]).item() == pytest.approx(length * unit)
        return weight.grad.norm().item() / unit

    assert [cut(3.0) for _ in range(50)] == pytest.approx([3.0] * 50)
    assert cut(5.9) == pytest.approx(5.9)
    usual = 3.0 + 2.9 * MEMORY
    assert cut(1000.0) == pytest.approx(2 * usual, rel=1e-3)
    assert cut(1000.0) == pytest.approx(2 * usual * (1 + MEMORY), rel=1e-3)  # it was counted as it was cut
    assert cut(0.0) == 0.0
    for _ in range(500):
        kept = cut(1000.0)
    assert kept == pytest.approx(1000.0, rel=1e-3)  # what lasts is usual


def test_every_row_weighs_the_same_in_a_window_of_batches_of_unlike_numbers_of_rows(tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(f"{a} " * count + f"{count}" for a in "abcdefghij" for count in range(1, 51)))
    small = (
        "modalities.text.hidden=8 modalities.text.embedding=8 modalities.text.word_dropout=0 modalities.text.dropout=0"
    )
    # without a latent the loss of a row is no draw; steps so small that the weights stay as they are
    still = (
        "latent.kind=none prior.kind=none prior.fitted=0 train.clip=1e9 train.learning_rate=1e-12 train.batch_size=32"
    )
    exact = ["train.threads=1", "train.precision=fp32"]
    changes = [f"data.path={lines}", "modalities.text.max_tokens=60", *small.split(), *still.split(), *exact]
    run = Run(Recipe.load("text/names", changes), tmp_path / "run", resume=False, display=Display(False))
    weights = [weight for weight in run.network.parameters() if weight.requires_grad]
    totals, sizes = [torch.zeros_like(weight) for weight in weights], set()
    for step in range(run.order.window):
        run.step = step
        run._one(run.step_module, 1.0)
        sizes.add(len(run.order(step)))
        for total, weight in zip(totals, weights, strict=True):
            total += 0 if weight.grad is None else weight.grad / run.order.window
    assert len(sizes) > 1
    rows = torch.cat([run.order(step) for step in range(run.order.window)])
    run.network.zero_grad()
    noise = StepNoise(0, len(rows), slice(None))
    run.step_module(run.prepared.splits["train"].store.batch(rows), noise, 1.0).loss.backward()
    for total, weight in zip(totals, weights, strict=True):
        expected = torch.zeros_like(weight) if weight.grad is None else weight.grad
        torch.testing.assert_close(total, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("part", ["objective.kind=elbo", "objective.kind=mmd", "latent.mean_scale=0.6"])
def test_two_processes_share_batches_of_unlike_numbers_of_rows(part: str, tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(f"{a} " * count + f"{count}" for a in "abcdefghij" for count in range(1, 21)))
    small = "modalities.text.hidden=8 modalities.text.embedding=8 train.steps=8 train.batch_size=32 train.threads=1"
    changes = [f"data.path={lines}", *small.split(), part, "train.evaluate_every=8", "train.precision=fp32"]
    quiet = ["modalities.text.word_dropout=0", "modalities.text.dropout=0", "prior.fitted=0"]
    train("text/names", [*changes, *quiet], tmp_path / "one", progress=False)
    line = [sys.executable, "-m", "mmvae", "train", "text/names", *changes, *quiet, "--nproc", "2"]
    subprocess.run([*line, "--out", str(tmp_path / "two")], capture_output=True, timeout=200, check=True)
    one, two = (checkpoint.read_tensors(tmp_path / name / "model.safetensors")[0] for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def test_resuming_on_other_data_is_refused(tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(f"the {a} of the {b}" for a in "abcdef" for b in ("cat", "dogs", "old house")))
    small = "modalities.text.hidden=8 modalities.text.embedding=8 train.steps=2 train.batch_size=4 train.threads=1"
    train("text/names", [f"data.path={lines}", *small.split()], tmp_path / "run", progress=False)
    lines.write_text(lines.read_text() + "\nanother line")
    with pytest.raises(ValueError, match="the data, or how they are prepared, have changed"):
        train(tmp_path / "run", resume=True, progress=False)


def test_a_run_that_saved_nothing_can_begin_again(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the loss is nan") as caught:
        train(recipe("train.learning_rate=1e30"), out=tmp_path / "run", progress=False)
    assert "best model" not in str(caught.value)
    train(recipe("train.steps=1"), out=tmp_path / "run", progress=False)


def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        claim(tmp_path / "run", resume=False),
        pytest.raises(ValueError, match=r"another training runs in \S+run: name another"),
    ):
        train(recipe(), out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()  # nothing was written to it


def test_resuming_uses_the_threads_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [
        "modalities.image.widths=[8]",
        "train.steps=4",
        "train.batch_size=8",
        "train.evaluate_every=4",
        "data.limit=40",
    ]
    monkeypatch.setattr(hardware, "free_cores", lambda: 2)
    with monkeypatch.context() as patched:
        stop_after(patched, 2)
        with pytest.raises(Interrupted):
            train("image/digits", free, tmp_path / "run", progress=False)
    monkeypatch.setattr(hardware, "free_cores", lambda: 1)
    train(tmp_path / "run", resume=True, progress=False)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("capabilities", "faster"),
    [
        ({"cpu_name": "AMD Zen 4", "avx512_bf16": True}, True),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ({"cpu_name": "AMD Zen 3", "avx2": True}, False),
    ],
)
def test_bfloat16_is_used_where_it_is_faster(
    capabilities: dict[str, object], faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert hardware.has_bf16(torch.device("cpu")) is faster


def test_two_processes_train_on_rows_that_lack_a_modality(tmp_path: Path) -> None:
    rows = [{"image": [[i, 2 * i], [0, 255]], **({"text": f"row {i}"} if i % 8 == 0 else {})} for i in range(80)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "both.toml").write_text(
        'name = "both"\n[data]\npath = "rows.jsonl"\n[modalities.image]\nwidths = [8]\n'
        "[modalities.text]\nhidden = 8\nembedding = 8\n"
        "[train]\nsteps = 6\nbatch_size = 8\nevaluate_every = 6\nthreads = 1\n"
    )
    line = [sys.executable, "-m", "mmvae", "train", "both.toml", "--nproc", "2"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=200, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


def test_resuming_with_networks_of_another_version_is_refused(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    tensors, about = checkpoint.read_tensors(whole / FILE)
    changed = {name.replace("head", "neck"): tensor for name, tensor in tensors.items()}
    checkpoint.save_tensors(tmp_path / "run" / FILE, changed, about)
    with pytest.raises(ValueError, match="saved by other networks than this version's"):
        train(tmp_path / "run", resume=True, progress=False)


def test_resuming_a_run_of_another_format_is_refused(whole: Path, tmp_path: Path) -> None:
    config = json.loads((shutil.copytree(whole, tmp_path / "run") / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(config | {"format": 1}))
    with pytest.raises(ValueError, match=r"saved in format 1 by .*: train it anew"):
        train(tmp_path / "run", resume=True, progress=False)


def test_the_card_says_how_to_use_the_model_and_shows_samples(whole: Path) -> None:
    card = (whole / "README.md").read_text(encoding="utf-8")
    (picture,) = re.findall(r"!\[samples\]\((\S+)\)", card)
    assert (whole / picture).is_file()
    (terms,) = [entry for entry in log(whole) if entry["step"] == 20 and "validation/-ELBO" in entry]
    assert f"| -ELBO | {terms['validation/-ELBO']:,.2f} |" in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    scope: dict[str, Any] = {}
    with contextlib.chdir(whole.parent):
        exec(code, scope)
    assert len(scope["samples"]) == 16


def test_a_killed_run_resumes_from_its_last_save_to_the_same_bits(tmp_path: Path) -> None:
    long = ["train.steps=60", "train.evaluate_every=20"]
    train(recipe(*long), out=tmp_path / "whole", progress=False)
    process = subprocess.Popen(command(*long, "--out", str(tmp_path / "run")), stderr=subprocess.DEVNULL)
    saved = tmp_path / "run" / FILE
    deadline = time.monotonic() + 120
    while not saved.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert saved.exists()
    train(recipe(*long), out=tmp_path / "run", resume=True, progress=False)
    assert equal(saved, tmp_path / "whole" / FILE)


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("train.steps=100000", "train.evaluate_every=100000", "--out", str(tmp_path / "run")),
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (tmp_path / "run" / "log.jsonl").exists():
        time.sleep(0.05)
    while time.monotonic() < deadline and not (tmp_path / "run" / "log.jsonl").read_text():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"go on with: mmvae train {tmp_path / 'run'} --resume" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert (tmp_path / "run" / FILE).is_file()


def test_the_first_losses_are_golden(whole: Path) -> None:
    # a change that should not change numerics must leave these alone
    first, second = (entry for entry in log(whole) if "loss" in entry)
    assert first["loss"] == pytest.approx(205.432, rel=2e-3)
    assert second["loss"] == pytest.approx(195.609, rel=2e-3)


def test_every_term_of_the_log_is_there_and_adds_up(whole: Path) -> None:
    for entry in log(whole):
        if "loss" in entry:
            assert entry["loss"] == pytest.approx(entry["rate"] + entry["distortion/image"], rel=1e-5)
            assert entry["examples/s"] > 0
        else:
            assert entry["validation/-ELBO"] == pytest.approx(
                entry["validation/rate"] + entry["validation/distortion/image"], rel=1e-6
            )


def test_training_lowers_the_bound(whole: Path) -> None:
    bounds = [entry["validation/-ELBO"] for entry in log(whole) if "validation/-ELBO" in entry]
    assert bounds[-1] < bounds[0]


def test_validation_is_at_kl_weight_1_whatever_the_schedule(tmp_path: Path) -> None:
    train(recipe("kl.kind=linear", "kl.warmup=1000000", "train.steps=10"), out=tmp_path, progress=False)
    training, validation = log(tmp_path)[-2:]
    assert training["KL weight"] < 1e-4
    assert training["loss"] == pytest.approx(training["distortion/image"], rel=1e-3)
    terms = validation["validation/rate"] + validation["validation/distortion/image"]
    assert validation["validation/-ELBO"] == pytest.approx(terms)


def test_what_a_run_leaves_behind(whole: Path) -> None:
    names = {path.name for path in whole.iterdir()}
    assert names >= {
        "model.safetensors",
        "config.json",
        "image.json",
        "log.jsonl",
        "tensorboard",
        "previews",
        "README.md",
    }
    assert (whole / "previews" / "0000020.html").is_file()
    assert (whole / "previews" / "0000020-samples-image.png").is_file()
    assert not [name for name in names if name.startswith(".")]


def test_the_returned_model_is_the_saved_one(tmp_path: Path) -> None:
    vae = train(recipe("train.steps=10"), out=tmp_path / "run", progress=False)
    again = mmvae.VAE.load(tmp_path / "run")
    assert again.fitted is not None
    pictures = [sample["image"] for sample in (vae.generate(3, seed=5), again.generate(3, seed=5))]
    assert all((a == b).all() for a, b in zip(*pictures, strict=True))


def test_a_loss_that_is_not_finite_names_the_step_and_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"at step \d+: try a smaller train.learning_rate"):
        train(recipe("train.learning_rate=1e30"), out=tmp_path / "run", progress=False)


def test_a_run_is_not_overwritten(whole: Path) -> None:
    with pytest.raises(ValueError, match=r"holds a run already: go on with mmvae train \S+ --resume"):
        train(recipe(), out=whole, progress=False)


def test_resuming_another_recipe_is_refused(whole: Path) -> None:
    with pytest.raises(ValueError, match=r"the recipe has changed in train\.[a-z_]+[,;]"):
        train(recipe("train.learning_rate=0.1"), out=whole, resume=True, progress=False)
    with pytest.raises(ValueError, match=r"the recipe has changed in train\.steps;"):
        train(recipe("train.steps=10"), out=whole, resume=True, progress=False)


def test_a_run_goes_on_for_longer(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(whole, tmp_path / "run")
    stop_after(monkeypatch, 25)
    with pytest.raises(Interrupted):
        train(tmp_path / "run", ["train.steps=30"], resume=True, progress=False)
    monkeypatch.undo()
    train(tmp_path / "run", resume=True, progress=False)
    assert log(tmp_path / "run")[: len(log(whole))] == log(whole)
    assert log(tmp_path / "run")[-1]["step"] == 30
    assert Recipe.load(tmp_path / "run").train.steps == 30


def test_weights_do_not_depend_on_how_often_one_validates(whole: Path, tmp_path: Path) -> None:
    train(recipe("train.evaluate_every=5"), out=tmp_path, progress=False)
    assert equal(tmp_path / FILE, whole / FILE)


def test_the_learning_rate_rises_and_stays() -> None:
    settings = recipe("train.steps=100", "train.learning_rate=0.01").train
    rates = [learning_rate(step, settings, 100) for step in range(100)]
    assert rates[:5] == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.01])
    assert rates[5:] == [0.01] * 95


def test_the_learning_rate_falls_to_nothing_over_the_last_steps_where_that_is_asked_for() -> None:
    settings = recipe("train.steps=100", "train.learning_rate=0.01", "train.fall=0.2").train
    rates = [learning_rate(step, settings, 100) for step in range(100)]
    assert rates[5:81] == [0.01] * 76
    assert rates[80:] == pytest.approx([0.01 * left / 20 for left in range(20, 0, -1)])


def test_matrices_decay_and_vectors_do_not() -> None:
    layer = torch.nn.Linear(3, 2)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    optimizer = build_optimizer(layer, recipe("train.weight_decay=0.5").train)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    layer.weight.grad, layer.bias.grad = torch.zeros(2, 3), torch.zeros(2)
    optimizer.step()
    torch.testing.assert_close(layer.weight, 0.95 * weight)
    assert torch.equal(layer.bias, bias)


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_ctrl_c_stops_several_processes_after_saving(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("train.steps=100000", "train.evaluate_every=100000", "--nproc", "2", "--out", str(tmp_path / "run")),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    log_file, deadline = tmp_path / "run" / "log.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and not (log_file.exists() and log_file.read_text()):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to torchrun and its processes alike
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "go on with: mmvae train" in errors
    assert "Traceback" not in errors
    assert (tmp_path / "run" / FILE).is_file()
