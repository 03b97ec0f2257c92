"""Images: residual convolutions, 8-bit pixels, exact probabilities and so bits per dimension."""

from __future__ import annotations

import base64
import io
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np
import torch
from PIL import ExifTags, ImageOps, PngImagePlugin
from PIL import Image as Pillow
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from mmvae.core.registry import Settings, bound, network
from mmvae.modalities.contract import Modality
from mmvae.modalities.inception import inception_distance, inception_weights
from mmvae.modalities.networks import dropout_for
from mmvae.modalities.pixels import (
    Kind,
    Networks,
    PixelDecoder,
    PixelEncoder,
    as_picture,
    blurred,
    is_gray,
    moved,
    occluded,
    on_white,
    sheet,
    similarity,
)

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
TAG = "mmvae"
DARK = 32  # of 255, above which some pixel of nearly any picture is
LARGEST = 256  # pixels of a side, unless the recipe asks for more
NOISE = (0.1, 0.2, 0.4)  # standard deviation, of the whole range, of white noise that a model is tried with


class Image(Modality):
    """Pictures, gray or in colour, of 8-bit pixels.

    Raw: uint8 array [height, width, channels]. Tensor: uint8 [channels, height, width].
    """

    suffix = ".png"
    reads = (".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")

    class Config(Settings):
        size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = Field(
            None, description="pixels: a side, or [height, width]; by default that of the training images"
        )
        channels: Literal[1, 3, 4] | None = Field(
            None,
            description="1 gray, 3 RGB (transparent parts on white), 4 RGBA; by default as the first training image, "
            "but 1 where all are gray",
        )
        max_pixels: int = bound(50_000_000, "larger files are rejected", ge=1, le=178_956_970)
        likelihood: Kind = Field(
            "logistic",
            description="8-bit logistic mixture; black and white; or, of the last two, a density over [0, 1]",
        )
        binarization: Literal["threshold", "drawn"] = Field(
            "threshold",
            description="of grey pixels in black and white: white from 128, or anew at each step, as likely as bright",
        )
        mixture: int = network(1, "components of the logistic mixture", ge=1)
        networks: Networks = network("convolutions", "or layers that see every pixel, as many papers have")
        widths: tuple[PositiveInt, ...] = network(
            (32, 64, 128),
            "channels at each halving, the last again until a side has 8 pixels; units of dense layers",
            min_length=1,
        )
        dropout: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = network(
            0.0, "share that training leaves out of what layers add; auto: 800 / training images, at most 0.2"
        )
        vary_flip: bool = Field(False, description="of variants (data.variants): left for right, every other one")
        vary_shift: float = Field(0.05, ge=0, le=0.5, description="of variants: up to so much of a side, any way")
        vary_scale: float = Field(0.05, ge=0, le=0.5, description="of variants: up to so much larger or smaller")
        vary_turn: float = Field(5.0, ge=0, le=180, description="of variants: up to so many degrees, either way")

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        size = config.size
        if config.binarization == "drawn" and config.likelihood != "bernoulli":
            raise ValueError("binarization = drawn is for the likelihood 'bernoulli': set one or the other")
        self.size = (size, size) if isinstance(size, int) else size
        self.channels: int | None = config.channels

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width, once they are set or fitted."""
        assert self.size is not None, "fit the modality first"
        assert self.channels is not None
        return self.channels, self.size[0], self.size[1]

    def read(self, file: Path | BinaryIO) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warnings (large, odd metadata) are judged below
            try:
                with Pillow.open(file) as opened:
                    if opened.width * opened.height > self.config.max_pixels:
                        raise ValueError(
                            f"{opened.width}x{opened.height} pixels are more than max_pixels = {self.config.max_pixels}"
                        )
                    picture = ImageOps.exif_transpose(opened)
            except ValueError:
                raise
            except Pillow.DecompressionBombError:
                raise ValueError(f"its pixels are more than max_pixels = {self.config.max_pixels}") from None
            except Exception as error:  # a damaged file makes Pillow fail in many ways
                known = not isinstance(error, Pillow.UnidentifiedImageError)
                raise ValueError(f"not a readable image: {error if known else 'of no known format'}") from error
        return self._shaped(picture)

    def parse(self, value: Any) -> np.ndarray:
        if isinstance(value, Pillow.Image):
            return self._shaped(value)
        array = np.asarray(value)
        if (
            array.dtype == object
            or not array.size
            or array.ndim not in (2, 3)
            or (array.ndim == 3 and array.shape[2] not in MODES)
        ):
            raise ValueError(f"an image is an array [height, width] or [height, width, 1, 3 or 4], not {array.shape}")
        if array.dtype != np.uint8:
            if array.dtype.kind not in "iu":
                raise ValueError(f"pixels are integers from 0 to 255, not {array.dtype}: scale and round them")
            if array.min() < 0 or array.max() > 255:
                raise ValueError(f"pixels are from 0 to 255, not from {array.min()} to {array.max()}")
            array = array.astype(np.uint8)
        return self._shaped(as_picture(array))

    def _shaped(self, picture: Pillow.Image) -> np.ndarray:
        if picture.mode == "F" or (picture.mode == "I" and np.asarray(picture).max() > 65535):
            raise ValueError("its pixels have more than 16 bits: save it with 8 or 16")
        if picture.mode.startswith("I"):  # 16 bits, which Pillow would saturate rather than scale
            picture = Pillow.fromarray((np.asarray(picture).astype(np.int64) // 257).clip(0, 255).astype(np.uint8))
        if picture.mode not in MODES.values():
            picture = picture.convert(
                "RGBA" if picture.has_transparency_data else "L" if picture.mode == "1" else "RGB"
            )
        if self.channels and picture.mode != MODES[self.channels]:
            picture = on_white(picture)
            if self.channels == 1 and not is_gray(np.asarray(picture)):
                why = "recipe says" if self.config.channels else "first picture is"
                self.note(f"in colour: made gray, as the {why}")
            picture = picture.convert(MODES[self.channels])
        if self.size and picture.size != self.size[::-1]:
            if not self.config.size:
                self.note(f"not of {self.size[0]}x{self.size[1]} pixels as the first is: cropped and resized")
            picture = ImageOps.fit(picture, self.size[::-1], Pillow.Resampling.LANCZOS)
        array = np.atleast_3d(np.asarray(picture))
        if array.max() < DARK:
            self.note(f"so dark that no pixel is above {DARK - 1} of 255: a mask, or saved in another range?")
        elif array.min() == array.max():
            self.note("of one shade all over")
        return array

    @classmethod
    def survey(cls, file: Path) -> Mapping[str, float]:
        with Pillow.open(file) as picture:
            turned = picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            across, down = reversed(picture.size) if turned else picture.size
        return {"pixels across": across, "pixels down": down}

    def write(self, raw: np.ndarray, path: Path) -> None:
        as_picture(raw).save(path)

    def fit(self, raws: Iterable[np.ndarray]) -> None:
        rows = iter(raws)
        first = next(rows)
        if max(first.shape[:2]) > LARGEST and not self.config.size:
            raise ValueError(
                f"the first training image has {first.shape[0]}x{first.shape[1]} pixels, too many to train on "
                "as it is: set modalities.NAME.size, of the table of its modality, to 64 or so"
            )
        gray = not self.config.channels and first.shape[2] == 3 and all(map(is_gray, chain([first], rows)))
        self.size, self.channels = first.shape[:2], 1 if gray else first.shape[2]

    def to_tensor(self, raw: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(raw.transpose(2, 0, 1).copy())
        if tensor.shape != self.shape:
            raise ValueError(
                f"the image is {_describe(tensor.shape)}, the first training image {_describe(self.shape)}"
            )
        if self.config.likelihood == "bernoulli" and ((raw > 0) & (raw < 255)).any():
            shades = "grey" if self.channels == 1 else "colour"
            how = "pixels are as likely white as bright" if self.drawn else "pixels from 128 are white"
            self.note(f"in {shades}, of which the likelihood 'bernoulli' sees black and white: {how}")
        return tensor

    def to_raw(self, tensor: Tensor) -> np.ndarray:
        return tensor.permute(1, 2, 0).contiguous().cpu().numpy()

    @property
    def drawn(self) -> bool:
        return self.config.likelihood == "bernoulli" and self.config.binarization == "drawn"

    def draw(self, values: Tensor, u: Tensor) -> Tensor:
        return (u < values / 255).to(torch.uint8) * 255

    def state(self) -> dict[str, Any]:
        return {"size": list(self.shape[1:]), "channels": self.shape[0]}

    def load_state(self, state: dict[str, Any]) -> None:
        self.size, self.channels = tuple(state["size"]), state["channels"]

    @property
    def dropout(self) -> float:
        """The share that the recipe says, or that so many training images ask for."""
        return dropout_for(self.rows) if self.config.dropout == "auto" else self.config.dropout

    def encoder(self, outputs: int) -> nn.Module:
        how = self.config
        return PixelEncoder(self.shape, outputs, how.networks, how.widths, self.dropout, how.likelihood == "bernoulli")

    def decoder(self, latent: int) -> nn.Module:
        how = self.config
        return PixelDecoder(latent, self.shape, how.networks, how.widths, self.dropout, how.likelihood, how.mixture)

    def scores(self, nll: Tensor, values: Tensor) -> dict[str, float]:
        if self.config.likelihood in ("continuous-bernoulli", "gaussian"):
            return {}  # a density's nats are no bits
        return {"bits/dim": nll.mean().item() / values[0].numel() / math.log(2)}

    def metrics(self, raws: Sequence[np.ndarray], reconstructions: Sequence[np.ndarray]) -> dict[str, float]:
        errors = [
            float(np.mean((raw.astype(np.float64) - again) ** 2))
            for raw, again in zip(raws, reconstructions, strict=True)
        ]
        mse = sum(errors) / len(errors)
        nearness = {"MSE, pixels from 0 to 1": mse / 255**2, "PSNR (dB)": 10 * math.log10(255**2 / max(mse, 1e-12))}
        return nearness | similarity(raws, reconstructions)

    @property
    def judges_samples(self) -> bool:
        return inception_weights() is not None

    def sample_metrics(self, samples: Sequence[np.ndarray], real: Sequence[np.ndarray]) -> dict[str, float]:
        weights = inception_weights()
        if weights is None or len(real) < 2:
            return {}
        return {"Frechet distance, InceptionV3": inception_distance(weights, samples, real)}

    def vary(self, raw: np.ndarray, random: np.random.Generator) -> np.ndarray:
        how = self.config
        if how.vary_flip and random.random() < 0.5:
            raw = raw[:, ::-1]
        across, down = random.uniform(-how.vary_shift, how.vary_shift, 2) * raw.shape[1::-1]
        larger = 1 + random.uniform(-how.vary_scale, how.vary_scale)
        return moved(raw, across, down, larger, random.uniform(-how.vary_turn, how.vary_turn))

    def disturb(self, raw: np.ndarray, random: np.random.Generator) -> dict[str, np.ndarray]:
        noise = random.standard_normal(raw.shape) * 255
        noisy = {f"noise of {level:.0%}": np.clip(raw + level * noise, 0, 255).astype(np.uint8) for level in NOISE}
        return {**noisy, "a quarter gray": occluded(raw, random), "blurred": blurred(raw)}

    def join(self, raws: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(raws, axis=1)  # side by side

    def preview(self, raw: np.ndarray) -> str:
        file = io.BytesIO()
        as_picture(raw).save(file, "png")
        data = base64.b64encode(file.getvalue()).decode()
        height = max(96, raw.shape[0])
        return f'<img alt="" style="height:{height}px;image-rendering:pixelated" src="data:image/png;base64,{data}">'

    def sheet(self, raws: Sequence[np.ndarray], stem: Path, steps: int | None = None) -> list[Path]:
        return sheet(raws, stem, steps)

    @classmethod
    def tag(cls, path: Path, note: str) -> None:
        with Pillow.open(path) as picture:
            picture.load()
        info = PngImagePlugin.PngInfo()
        info.add_itxt(TAG, note)
        picture.save(path, pnginfo=info)

    @classmethod
    def read_tag(cls, path: Path) -> str | None:
        with Pillow.open(path) as picture:
            picture.load()
            return picture.info.get(TAG)


def _describe(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[2]} {MODES[shape[0]]}"
