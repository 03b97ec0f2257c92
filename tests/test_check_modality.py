"""check_modality passes for what keeps the contract, and teaches what breaks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmvae.core.likelihoods import AutoregressiveCategorical, Bernoulli, Likelihood
from mmvae.core.noise import Noise
from mmvae.modalities.audio import Audio
from mmvae.modalities.contract import Modality
from mmvae.modalities.image import Image
from mmvae.modalities.recurrent import RecurrentDecoder
from mmvae.modalities.text import Text
from mmvae.testing import ContractError, check_modality

SENTENCES = ["a cat sat on the mat", "the dog", "birds fly over the sea every day", "née à Paris 🙂"]
SMALL: dict[type[Modality], dict[str, Any]] = {
    Image: {"widths": (4, 8)},
    Text: {"vocabulary": 300, "embedding": 8, "hidden": 12},
    Audio: {"sample_rate": 4000, "seconds": 0.1, "fft": 64, "hop": 16, "iterations": 2, "widths": (4, 8)},
}


def samples(kind: type[Modality], channels: int) -> list[Any]:
    random = np.random.default_rng(0)
    if issubclass(kind, Image):
        return list(random.choice(np.array([0, 255], np.uint8), (5, 9, 7, channels)))
    if issubclass(kind, Text):
        return SENTENCES
    return [random.normal(0, 0.1, (channels, length)).astype(np.float32) for length in (400, 200, 399, 17)]


def check(kind: type[Modality], **settings: Any) -> None:
    base = next(base for base in SMALL if issubclass(kind, base))
    modality = kind(kind.Config(**SMALL[base], **settings))
    check_modality(modality, samples(kind, settings.get("channels", 1)))


@pytest.mark.parametrize("likelihood", ["logistic", "bernoulli", "continuous-bernoulli", "gaussian"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_image(likelihood: str, channels: int) -> None:
    check(Image, channels=channels, likelihood=likelihood)


@pytest.mark.parametrize("tokenizer", ["bpe", "words", "characters"])
def test_text(tokenizer: str) -> None:
    check(Text, tokenizer=tokenizer)


@pytest.mark.parametrize("likelihood", ["laplace", "gaussian"])
@pytest.mark.parametrize("channels", [1, 2])
def test_audio(likelihood: str, channels: int) -> None:
    check(Audio, channels=channels, likelihood=likelihood)


# -- modalities that break the contract, each in one way ----------------------------------------------


class NoSuffix(Image):
    suffix = "png"


class TakenName(Image):
    class Config(Image.Config):
        column: int = 3


class LooseConfig(Image):
    class Config:  # type: ignore[assignment]
        def __init__(self, **settings: Any) -> None:
            self.__dict__.update(Image.Config(**settings))


class StateOfTensors(Image):
    def state(self) -> dict[str, Any]:
        return {"size": torch.tensor([9, 7]), "channels": 1}


class Forgetful(Audio):
    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass


class NeedsList(Text):
    def fit(self, raws: Any) -> None:
        super().fit(raws[:])


class BatchAxis(Image):
    def to_tensor(self, raw: np.ndarray) -> Tensor:
        return super().to_tensor(raw)[None]

    def to_raw(self, tensor: Tensor) -> np.ndarray:
        return super().to_raw(tensor[0])


class Jitter(Image):
    def to_tensor(self, raw: np.ndarray) -> Tensor:
        return super().to_tensor(raw).roll(int(torch.randint(1, 7, ())), -1)


class Arrays(Image):
    def to_tensor(self, raw: np.ndarray) -> Any:
        return super().to_tensor(raw).numpy()


class WrongOutputs(Image):
    def encoder(self, outputs: int) -> nn.Module:
        return super().encoder(outputs + 1)


class Pixels(Image):
    def decoder(self, latent: int) -> nn.Module:
        return nn.Linear(latent, 9 * 7)


class Changed(nn.Module):
    """A network with something done to what it returns."""

    def __init__(self, network: nn.Module, change: Callable[[Any], Any]) -> None:
        super().__init__()
        self.network, self.change = network, change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.network(x))


class MixedRows(Image):
    def encoder(self, outputs: int) -> nn.Module:
        return Changed(super().encoder(outputs), lambda encoded: encoded - encoded.mean(0))


class Detached(Image):
    def encoder(self, outputs: int) -> nn.Module:
        class Scaled(nn.Module):
            def __init__(self, inner: nn.Module) -> None:
                super().__init__()
                self.inner, self.scale = inner, nn.Parameter(torch.ones(()))

            def forward(self, x: Tensor) -> Tensor:
                return self.inner(x) * self.scale.detach()

        return Scaled(super().encoder(outputs))


class UnsavedBuffer(Image):
    def encoder(self, outputs: int) -> nn.Module:
        network = Changed(super().encoder(outputs), lambda encoded: encoded * network.factor)
        network.register_buffer("factor", torch.rand(()) + 1, persistent=False)
        return network


class IgnoresLatent(Image):
    def decoder(self, latent: int) -> nn.Module:
        network = super().decoder(latent)
        network.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 0 + 1,))
        return network


class Likely(Image):
    """Of black and white pixels, with a likelihood that subclasses change."""

    likelihood: type[Bernoulli] = Bernoulli

    def __init__(self, config: Any) -> None:
        super().__init__(config.model_copy(update={"likelihood": "bernoulli"}))

    def decoder(self, latent: int) -> nn.Module:
        return Changed(super().decoder(latent), lambda bernoulli: self.likelihood(bernoulli.logits))


class OneNumber(Likely):
    class likelihood(Bernoulli):
        def log_prob(self, x: Tensor) -> Tensor:
            return super().log_prob(x).sum()


class LowPrecision(Likely):
    class likelihood(Bernoulli):
        def log_prob(self, x: Tensor) -> Tensor:
            return super().log_prob(x).bfloat16()


class Deaf(Likely):
    class likelihood(Bernoulli):
        def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
            return self.mode()


class OwnChance(Likely):
    class likelihood(Bernoulli):
        def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
            return torch.bernoulli(torch.sigmoid(self.logits)).to(torch.uint8)


class OneNoise(Likely):
    class likelihood(Bernoulli):
        def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
            draws = noise.uniform(*self.logits.shape[1:]).flip(0)
            return (draws < torch.sigmoid(self.logits)).to(torch.uint8)


class PaddingScored(Text):
    def decoder(self, latent: int) -> nn.Module:
        class Padded(AutoregressiveCategorical):
            def log_prob(self, x: Tensor) -> Tensor:
                return super().log_prob(x) - (x == self.vocabulary).sum(1)

        class Decoder(RecurrentDecoder):
            def forward(self, z: Tensor) -> Likelihood:
                return Padded(self, z, self.tokens, self.length, self.choice)

        return Decoder(self._embedding(), latent, self.config.hidden)


class PaddingEncoded(Text):
    def encoder(self, outputs: int) -> nn.Module:
        class Mean(nn.Module):
            def __init__(self, tokens: int) -> None:
                super().__init__()
                self.embedding = nn.Embedding(tokens + 1, outputs)

            def forward(self, x: Tensor) -> Tensor:
                return self.embedding(x).mean(1)

        return Mean(self.tokens)


class OneWay(Image):
    def to_raw(self, tensor: Tensor) -> np.ndarray:
        return 255 - super().to_raw(tensor)


class PathsOnly(Image):
    def read(self, file: Any) -> np.ndarray:
        return super().read(Path(file))


class LosesTag(Image):
    @classmethod
    def read_tag(cls, path: Path) -> str | None:
        return None


class OddError(Text):
    def read(self, file: Any) -> str:
        try:
            return super().read(file)
        except ValueError:
            raise KeyError("damaged") from None


class NoHtml(Image):
    def preview(self, raw: np.ndarray) -> str:
        return "a picture"


class NanMetric(Image):
    def metrics(self, raws: Any, reconstructions: Any) -> dict[str, float]:
        return {"error": float("nan")}


BROKEN: dict[type[Modality], str] = {
    NoSuffix: "NoSuffix.suffix: expected a class attribute in lower case such as \".png\"; got 'png'",
    TakenName: "TakenName.Config: expected names that a modality's table does not have already; got ['column']",
    LooseConfig: "LooseConfig.Config: expected a subclass of mmvae.Settings",
    StateOfTensors: "a modality's state must be made of JSON values",
    Forgetful: "Forgetful.state: expected all that fit learned",
    NeedsList: "fit learns from any iterable",
    BatchAxis: "BatchAxis.to_tensor: expected one observation without a batch axis; got uint8 [1, 1, 9, 7]",
    Jitter: "Jitter.to_tensor: expected the same tensor each time",
    Arrays: "Arrays.to_tensor: expected a CPU tensor of finite numbers, without gradient; got ndarray",
    WrongOutputs: "WrongOutputs.encoder: expected finite numbers [B, outputs] = [5, 6]; got float32 [5, 7]",
    Pixels: "Pixels.decoder: expected a network that returns a mmvae.Likelihood; got Tensor",
    OneNumber: "OneNumber.decoder(z).log_prob: expected a sum for each row, [B] = [5]; got float32 []",
    LowPrecision: "LowPrecision.decoder(z).log_prob: expected finite float32",
    Detached: "Detached.encoder.scale: expected a finite gradient for this parameter; got none",
    IgnoresLatent: "IgnoresLatent.decoder: expected a log_prob that depends on z",
    MixedRows: "MixedRows.encoder: expected the same for a row alone as in any batch; got rows that are mixed",
    PaddingScored: "PaddingScored.decoder(z).log_prob: expected the same for a row alone as in any batch; got padding",
    PaddingEncoded: "PaddingEncoded.encoder: expected the same for a row alone as in any batch; got padding that leaks",
    Deaf: "Deaf.decoder(z).sample: expected other draws from other seeds",
    OwnChance: "OwnChance.decoder(z).sample: expected equal draws from equal seeds",
    OneNoise: "OneNoise.decoder(z).sample: expected the same for a row alone as in any batch",
    UnsavedBuffer: "UnsavedBuffer.encoder: expected the same after saving and loading; got other numbers",
    OneWay: "OneWay.to_raw: expected an observation whose to_tensor is the same as at first",
    PathsOnly: "PathsOnly: read takes what write wrote",
    LosesTag: "LosesTag.read_tag: expected the note that tag left",
    OddError: "raises only ValueError for other files",
    NoHtml: "NoHtml.preview: expected a string of HTML; got 'a picture'",
    NanMetric: "NanMetric.metrics: expected a dict from names to finite numbers; got {'error': nan}",
}


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_breach_is_taught(kind: type[Modality]) -> None:
    with pytest.raises(ContractError) as caught:
        check(kind)
    message = str(caught.value)
    assert BROKEN[kind] in message
    assert message.startswith(kind.__name__)
    assert "\n" not in message


def test_what_it_needs() -> None:
    with pytest.raises(ValueError, match="at least 4 samples, not 2"):
        check_modality(Image(Image.Config()), samples(Image, 1)[:2])


def test_it_leaves_the_random_state() -> None:
    before = torch.get_rng_state()
    check(Image)
    assert torch.equal(before, torch.get_rng_state())
