"""check_modality: the contract of a modality, as a test that the author of a plugin calls."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor, nn

from mmvae.core.likelihoods import Likelihood
from mmvae.core.noise import Noise
from mmvae.core.registry import Settings
from mmvae.modalities.contract import Modality, Raw, dump_state, stack
from mmvae.tables import ModalityTable

OUTPUTS, LATENT = 6, 5  # unlike each other
LOG_PROB, SAMPLE = "decoder(z).log_prob", "decoder(z).sample"  # as messages name them


class ContractError(AssertionError):
    """A modality breaks its contract: the method to mend, what was expected of it, and what it gave."""


def check_modality(modality: Modality, samples: Iterable[Raw], seed: int = 0) -> None:
    """Prove that a modality keeps its contract; raises ContractError, in one line, for the first breach.

    modality: new, not fitted. samples: at least 4 raw observations that differ and that it holds whole;
    ValueError for fewer. If tensors may differ in shape, so should those of the samples.
    """
    raws = list(samples)
    if len(raws) < 4:
        raise ValueError(f"check_modality needs at least 4 samples, not {len(raws)}")
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        bench = Bench(modality, raws, seed, Path(folder))
        for check in CHECKS:
            try:
                check(bench)
            except ContractError:
                raise
            except Exception as error:  # the plugin's own, at a place where the contract allows none
                reason = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
                raise ContractError(f"{bench.kind}: {check.__doc__} But it raised {reason}") from error


class Bench:
    """A modality under test: its samples as rows, and its networks, made when they are first asked for."""

    def __init__(self, modality: Modality, raws: list[Raw], seed: int, folder: Path) -> None:
        self.modality, self.raws, self.seed, self.folder = modality, raws, seed, folder
        self.kind, self.every = type(modality).__name__, list(range(len(raws)))
        self.z = torch.randn(len(raws), LATENT)

    @cached_property
    def rows(self) -> list[Tensor]:
        return [self.modality.to_tensor(raw) for raw in self.raws]

    @cached_property
    def networks(self) -> nn.ModuleDict:
        return _networks(self.modality)

    def restored(self) -> Modality:
        """A new modality with the state of this one, by way of JSON as in a saved model."""
        new = type(self.modality)(self.modality.config)
        new.load_state(json.loads(dump_state(self.modality.state())))
        return new

    def batch(self, rows: Sequence[Tensor]) -> Tensor:
        """Rows as training batches them."""
        return stack(self.modality, rows)

    @torch.no_grad()
    def measure(self, index: list[int], networks: nn.ModuleDict | None = None) -> dict[str, Tensor]:
        """Encoder output and log-probability of some rows in one batch, by method."""
        networks = self.networks if networks is None else networks
        x = self.batch([self.rows[i] for i in index])
        return {"encoder": networks["encoder"](x), LOG_PROB: networks["decoder"](self.z[index]).log_prob(x)}

    def expect(self, good: bool, method: str, expected: str, got: object) -> None:
        """Raise ContractError unless all is good."""
        if not good:
            raise ContractError(f"{self.kind}.{method}: expected {expected}; got {got}")

    def expect_row(self, again: Tensor, i: int, method: str) -> None:
        """A row that came back: equal where it holds integers, else of the same shape (phases are found anew)."""
        row = self.rows[i]
        exact = not row.is_floating_point()
        good = again.shape == row.shape and (torch.equal(again, row) if exact else _finite(again))
        expected = "an observation whose to_tensor is " + ("the same" if exact else "finite and of the same shape")
        self.expect(good, method, f"{expected} as at first, {_about(row)}", f"{_about(again)} with other numbers")


def _networks(modality: Modality) -> nn.ModuleDict:
    return nn.ModuleDict({"encoder": modality.encoder(OUTPUTS), "decoder": modality.decoder(LATENT)}).eval()


def _about(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}{'' if _finite(value) else ', not finite'}"


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _close(a: Tensor, b: Tensor) -> bool:
    # kernels round differently for another number of rows, and a log-probability is the sum of many terms
    return torch.allclose(a, b, rtol=1e-4, atol=1e-3)


def declares(b: Bench) -> None:
    """The class has a suffix such as ".png", and its Config is a mmvae.Settings that survives JSON."""
    kind, config = type(b.modality), b.modality.config
    suffix = getattr(kind, "suffix", None)
    good = isinstance(suffix, str) and suffix.startswith(".") and suffix == suffix.lower()
    b.expect(good, "suffix", 'a class attribute in lower case such as ".png"', repr(suffix))
    good = isinstance(kind.Config, type) and issubclass(kind.Config, Settings)
    b.expect(good, "Config", "a subclass of mmvae.Settings, which refuses unknown keys", kind.Config)
    taken = sorted(ModalityTable.model_fields.keys() & kind.Config.model_fields.keys())
    b.expect(not taken, "Config", "names that a modality's table does not have already", taken)
    good = kind.Config(**config.model_dump(mode="json")) == config
    b.expect(good, "Config", "settings that a way through JSON leaves the same", "other settings")


def fits(b: Bench) -> None:
    """fit learns from any iterable, and load_state takes back what state returned, as JSON."""
    b.modality.fit(dict(enumerate(b.raws)).values())  # as in training: no index, but more than once
    good = dump_state(b.restored().state()) == dump_state(b.modality.state())
    b.expect(good, "load_state", "a state() equal to the one that was loaded", "another state")


def tensors(b: Bench) -> None:
    """to_tensor gives one observation as a CPU tensor without a batch axis, the same one each time."""
    method, first = "to_tensor", b.rows[0]
    for row, raw in zip(b.rows, b.raws, strict=True):
        good = isinstance(row, Tensor) and row.device.type == "cpu" and not row.requires_grad and _finite(row)
        b.expect(good, method, "a CPU tensor of finite numbers, without gradient", _about(row))
        good = (row.dtype, row.ndim) == (first.dtype, first.ndim)
        b.expect(good, method, "rows of one dtype and number of axes", f"{_about(row)} beside {_about(first)}")
        good = torch.equal(row, b.modality.to_tensor(raw))
        b.expect(good, method, "the same tensor each time (chance belongs into the networks)", "another one")
    if all(row.ndim > 1 and len(row) == 1 for row in b.rows) and not _encodes(b, b.rows):
        good = not _encodes(b, [row[0] for row in b.rows])
        b.expect(good, method, "one observation without a batch axis", _about(first))
    restored = b.restored()
    good = all(torch.equal(row, restored.to_tensor(raw)) for row, raw in zip(b.rows, b.raws, strict=True))
    b.expect(good, "state", "all that fit learned", "another tensor from to_tensor after load_state")


def _encodes(b: Bench, rows: list[Tensor]) -> bool:
    try:
        b.networks["encoder"](b.batch(rows))
    except Exception:  # whatever a network raises for a shape that it does not take
        return False
    return True


def collates(b: Bench) -> None:
    """collate gives a batch [B, ...], and for rows of one shape what torch.stack gives."""
    twins, batch = [b.rows[0], b.rows[0]], b.batch(b.rows)
    good = len(batch) == len(b.rows) and torch.equal(b.modality.collate(twins), torch.stack(twins))
    b.expect(good, "collate", f"{len(b.rows)} rows, those of one shape as torch.stack has them", _about(batch))


def encodes(b: Bench) -> None:
    """encoder(outputs) is a network from [B, ...] to [B, outputs], which depend on the rows."""
    encoded = b.networks["encoder"](b.batch(b.rows))
    good = isinstance(encoded, Tensor) and encoded.shape == (len(b.rows), OUTPUTS) and _finite(encoded)
    b.expect(good, "encoder", f"finite numbers [B, outputs] = [{len(b.rows)}, {OUTPUTS}]", _about(encoded))
    b.expect(len(encoded.unique(dim=0)) > 1, "encoder", "numbers that depend on the observation", "the same for all")


def decodes(b: Bench) -> None:
    """decoder(latent) is a network from z [B, latent] to a Likelihood, whose log_prob [B] is finite and float32."""
    likelihood, x = b.networks["decoder"](b.z), b.batch(b.rows)
    good = isinstance(likelihood, Likelihood)
    b.expect(good, "decoder", "a network that returns a mmvae.Likelihood", type(likelihood).__name__)
    for precision in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision):
            score = b.networks["decoder"](b.z).log_prob(x)
        b.expect(score.shape == (len(x),), LOG_PROB, f"a sum for each row, [B] = [{len(x)}]", _about(score))
        good = score.dtype == torch.float32 and _finite(score)
        b.expect(good, LOG_PROB, "finite float32 from networks of any precision (.float())", _about(score))


def learns(b: Bench) -> None:
    """A gradient reaches every parameter of encoder and decoder, and z."""
    x, z = b.batch(b.rows), b.z.clone().requires_grad_()
    b.networks.train()
    (b.networks["encoder"](x).sum() - b.networks["decoder"](z).log_prob(x).sum()).backward()
    b.networks.eval()
    for name, parameter in b.networks.named_parameters():
        good = not parameter.requires_grad or (parameter.grad is not None and _finite(parameter.grad))
        b.expect(good, name, "a finite gradient for this parameter", "none")
    b.expect(z.grad is not None and bool(z.grad.any()), "decoder", "a log_prob that depends on z", "no gradient for z")


def separates(b: Bench) -> None:
    """Encoder output and log_prob of a row depend on no other row, no order and no padding."""
    together = {method: value.flip(0) for method, value in b.measure(b.every[::-1]).items()}
    full = b.batch(b.rows).shape[1:]
    # a row of the batch's full shape has no padding: if it changes, then because of the other rows
    for i in sorted(b.every, key=lambda i: b.rows[i].shape != full):
        got = "rows that are mixed in the batch" if b.rows[i].shape == full else "padding that leaks into its row"
        for method, value in b.measure([i]).items():
            good = _close(value[0], together[method][i])
            b.expect(good, method, "the same for a row alone as in any batch", got)


@torch.no_grad()
def draws(b: Bench) -> None:
    """sample draws from its Noise only; log_prob, to_raw and write take what sample and mode return."""

    def sample(index: list[int], seed: int = b.seed, temperature: float = 1.0) -> Tensor:
        return b.networks["decoder"](b.z[index]).sample(Noise([seed + i for i in index]), temperature)

    drawn, other = sample(b.every), sample(b.every, b.seed + len(b.rows))
    good = torch.equal(drawn, sample(b.every))
    b.expect(good, SAMPLE, "equal draws from equal seeds (noise.uniform, never torch.rand)", "others")
    good = drawn.shape != other.shape or not torch.equal(drawn, other)
    b.expect(good, SAMPLE, "other draws from other seeds (noise.uniform or noise.normal)", "the same draws")
    for i in b.every:
        pair = b.batch([drawn[i], sample([i])[0]]).float()
        # a number that is rounded may fall to the other side in another batch
        differ = (~torch.isclose(pair[0], pair[1], rtol=1e-3, atol=1e-3)).float().mean().item()
        b.expect(differ <= 0.01, SAMPLE, "the same for a row alone as in any batch", f"{differ:.0%} changed")
    likelihood = b.networks["decoder"](b.z)
    kinds = {SAMPLE: drawn, f"{SAMPLE} at 0.5": sample(b.every, temperature=0.5), "decoder(z).mode": likelihood.mode()}
    for method, values in kinds.items():
        score = likelihood.log_prob(values)
        good = score.shape == (len(b.rows),) and _finite(score)
        b.expect(good, method, "rows whose log_prob is finite", f"{_about(values)}, log_prob {_about(score)}")
        b.modality.write(b.modality.to_raw(values[0]), b.folder / f"drawn{b.modality.suffix}")


def keeps(b: Bench) -> None:
    """The networks of a modality made from state() alone, with the saved weights, give the same numbers."""
    data = safetensors.save({name: value.clone().contiguous() for name, value in b.networks.state_dict().items()})
    networks = _networks(b.restored())
    networks.load_state_dict(safetensors.load(data), assign=True)
    after = b.measure(b.every, networks)
    for method, value in b.measure(b.every).items():
        b.expect(_close(value, after[method]), method, "the same after saving and loading", "other numbers")


def returns(b: Bench) -> None:
    """to_raw is the way back from to_tensor, also for a padded row, and parse takes a raw observation."""
    padded, modality = b.batch(b.rows), b.modality
    for i, raw in enumerate(b.raws):
        b.expect_row(modality.to_tensor(modality.to_raw(b.rows[i])), i, "to_raw")
        b.expect_row(modality.to_tensor(modality.to_raw(padded[i])), i, "to_raw of a padded row")
        b.expect_row(modality.to_tensor(modality.parse(raw)), i, "parse")


def files(b: Bench) -> None:
    """read takes what write wrote and raises only ValueError for other files; read_tag finds what tag left."""
    modality, note = b.modality, json.dumps({"model": "modèle", "z": "A" * 400}, ensure_ascii=False)
    for i, raw in enumerate(b.raws):
        path = b.folder / f"{i}{modality.suffix}"
        modality.write(raw, path)
        b.expect(path.is_file(), "write", "a file at the path that it is given", "none")
        b.expect_row(modality.to_tensor(modality.read(path)), i, "read")
        with path.open("rb") as file:
            b.expect_row(modality.to_tensor(modality.read(file)), i, "read of an opened file")
        b.expect(modality.read_tag(path) is None, "read_tag", "None for a file without a note", "a note")
        modality.tag(path, note)
        b.expect(modality.read_tag(path) == note, "read_tag", "the note that tag left", "another, or none")
        b.expect_row(modality.to_tensor(modality.read(path)), i, "tag, then read")
    for content in (b"", bytes(range(255, -1, -1)) * 8):
        path.write_bytes(content)
        with suppress(ValueError, OSError):
            modality.read(path)


def shows(b: Bench) -> None:
    """preview gives HTML, metrics and scores finite numbers by name, sheet the files that it wrote."""
    page = b.modality.preview(b.raws[0])
    b.expect(isinstance(page, str) and "<" in page, "preview", "a string of HTML", repr(page)[:60])
    scores = b.modality.scores(-b.measure(b.every)[LOG_PROB], b.batch(b.rows))
    for method, table in {"metrics": b.modality.metrics(b.raws, b.raws), "scores": scores}.items():
        good = all(isinstance(name, str) and math.isfinite(value) for name, value in table.items())
        b.expect(good, method, "a dict from names to finite numbers", table)
    sheets = b.modality.sheet(b.raws, b.folder / "sheet") + b.modality.sheet(b.raws, b.folder / "walk", len(b.raws))
    missing = [path.name for path in sheets if not path.is_file()]
    b.expect(not missing, "sheet", "the paths of files that it wrote", f"no file {missing}")


CHECKS = (declares, fits, tensors, collates, encodes, decodes, learns)
CHECKS += (separates, draws, keeps, returns, files, shows)
