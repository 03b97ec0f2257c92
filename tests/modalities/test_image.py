"""Images: files of every mode in, the same pixels out, and clear words for what is no image."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from pydantic import ValidationError
from torch import Tensor

import mmvae
from mmvae.core.noise import Noise
from mmvae.modalities import networks
from mmvae.modalities.image import Image
from mmvae.modalities.inception import WEIGHTS
from mmvae.progress import Display
from mmvae.recipe import Recipe
from mmvae.training import Run

Pictures = Callable[..., list[np.ndarray]]


def image(**config: Any) -> Image:
    return Image(Image.Config(**config))


def fitted(raws: list[np.ndarray], **config: Any) -> Image:
    modality = image(**config)
    modality.fit(raws)
    return modality


def saved(picture: Pillow.Image, path: Path, **options: Any) -> Path:
    picture.save(path, **options)
    return path


# -- tensors and back -----------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width", "channels"), [(1, 1, 1), (7, 13, 3), (5, 4, 4), (28, 28, 1)])
def test_pixels_survive_the_way_to_a_tensor_and_to_a_file(
    height: int, width: int, channels: int, tmp_path: Path
) -> None:
    raw = np.random.default_rng(0).integers(0, 256, (height, width, channels)).astype(np.uint8)
    modality = fitted([raw])
    tensor = modality.to_tensor(raw)
    assert tensor.shape == (channels, height, width)
    assert tensor.dtype == torch.uint8
    assert np.array_equal(modality.to_raw(tensor), raw)
    modality.write(raw, tmp_path / "a.png")
    assert np.array_equal(modality.read(tmp_path / "a.png"), raw)


@pytest.mark.parametrize("size", [(9, 14), (3, 5), (1, 1), (16, 16)])
@pytest.mark.parametrize("likelihood", ["logistic", "bernoulli"])
def test_images_of_any_size_are_scored_drawn_and_read_back(
    size: tuple[int, int], likelihood: str, pictures: Pictures
) -> None:
    raws = [np.full((*size, 3), value, np.uint8) for value in (0, 255)]
    modality = fitted(raws, widths=[4, 4], likelihood=likelihood, mixture=2, channels=3)
    batch = torch.stack([modality.to_tensor(raw) for raw in raws])
    with torch.no_grad():
        assert modality.encoder(6)(batch).shape == (2, 6)
        decoded = modality.decoder(3)(torch.randn(2, 3))
        assert torch.isfinite(decoded.log_prob(batch)).all()
    assert decoded.mode().shape == batch.shape
    assert modality.to_raw(decoded.mode()[0]).shape == (*size, 3)


def test_grey_pixels_are_black_and_white_to_bernoulli_and_their_pictures_are_counted() -> None:
    grey, sharp = (np.array([row, row], np.uint8)[..., None] for row in ([0, 127, 128, 255], [0, 0, 255, 255]))
    modality = fitted([grey], likelihood="bernoulli", widths=[4])
    assert (modality.to_raw(modality.to_tensor(grey)) == grey).all()
    (what,) = modality.notes
    assert "pixels from 128 are white" in what
    modality.to_tensor(sharp)
    assert modality.notes == {what: 1}
    both = torch.stack([modality.to_tensor(grey), modality.to_tensor(sharp)])
    likelihood = modality.decoder(3)(torch.zeros(2, 3))
    for found in (likelihood.log_prob(both), modality.encoder(4)(both)):
        torch.testing.assert_close(found[0], found[1])
    for drawn in (likelihood.mode(), likelihood.sample(Noise([0, 1]))):
        assert set(drawn.unique().tolist()) <= {0, 255}


def test_drawn_pixels_are_white_as_often_as_they_are_bright() -> None:
    raw = np.array([[0, 51, 204, 255]] * 2, np.uint8)[..., None]
    modality = fitted([raw], likelihood="bernoulli", binarization="drawn")
    values = modality.to_tensor(raw).expand(5000, -1, -1, -1)
    assert modality.drawn
    (what,) = modality.notes
    assert "pixels are as likely white as bright" in what
    drawn = modality.draw(values, Noise([0]).uniform(*values.shape)[0])
    assert set(drawn.unique().tolist()) == {0, 255}
    expected = torch.tensor([0.0, 0.2, 0.8, 1.0])
    torch.testing.assert_close((drawn == 255).float().mean((0, 1, 2)), expected, atol=0.02, rtol=0)


def test_an_image_unlike_the_first_is_brought_to_it_and_counted(pictures: Pictures) -> None:
    modality = fitted(pictures(1))
    assert modality.parse(pictures(1, height=9)[0]).shape == (8, 8, 3)
    assert modality.notes == {"not of 8x8 pixels as the first is: cropped and resized": 1}


def test_a_photograph_is_too_large_to_train_on_unless_the_recipe_says_so(pictures: Pictures) -> None:
    with pytest.raises(ValueError, match=r"300x200 pixels, too many .*: set modalities\.NAME\.size"):
        image().fit(pictures(1, height=300, width=200))


def test_a_tensor_is_made_only_of_the_fitted_shape(pictures: Pictures) -> None:
    with pytest.raises(ValueError, match="9x8 RGB, the first training image 8x8 RGB"):
        fitted(pictures(1)).to_tensor(pictures(1, height=9)[0])


def test_what_is_fitted_is_in_the_state(pictures: Pictures) -> None:
    modality, again = fitted(pictures(1, height=5, width=6, channels=1)), image()
    again.load_state(modality.state())
    raw = pictures(1, height=5, width=6, channels=1)[0]
    assert torch.equal(again.to_tensor(raw), modality.to_tensor(raw))


# -- files ------------------------------------------------------------------------------------------


def test_a_size_in_the_recipe_brings_every_image_to_it(pictures: Pictures, tmp_path: Path) -> None:
    path = saved(Pillow.fromarray(pictures(1, height=20, width=10)[0]), tmp_path / "a.png")
    assert image(size=6).read(path).shape == (6, 6, 3)
    assert image(size=[4, 7]).read(path).shape == (4, 7, 3)


def test_sixteen_bits_are_scaled_not_saturated(tmp_path: Path) -> None:
    values = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    path = saved(Pillow.fromarray(values), tmp_path / "a.png")
    assert image().read(path).flatten().tolist() == [0, 1, 128, 255]
    assert image().parse(Pillow.fromarray(values)).flatten().tolist() == [0, 1, 128, 255]
    with pytest.raises(ValueError, match="more than 16 bits"):
        image().parse(Pillow.fromarray(np.full((2, 2), 0.5, np.float32)))


def test_transparent_parts_are_white_where_three_channels_are_wanted(tmp_path: Path) -> None:
    pixels = np.array([[[255, 0, 0, 255], [255, 0, 0, 0]]], np.uint8)
    path = saved(Pillow.fromarray(pixels), tmp_path / "a.png")
    assert image(channels=3).read(path)[0].tolist() == [[255, 0, 0], [255, 255, 255]]
    assert image(channels=1).read(path)[0, 1].tolist() == [255]
    assert np.array_equal(image().read(path), pixels)


def test_a_palette_is_looked_up(pictures: Pictures, tmp_path: Path) -> None:
    raw = pictures(1)[0]
    path = saved(Pillow.fromarray(raw).convert("P", palette=Pillow.Palette.ADAPTIVE), tmp_path / "a.png")
    assert np.array_equal(image().read(path), raw)


def test_a_transparent_palette_colour_is_white(tmp_path: Path) -> None:
    picture = Pillow.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putpixel((1, 0), 1)
    path = saved(picture, tmp_path / "a.png", transparency=1)
    assert image(channels=3).read(path)[0].tolist() == [[255, 0, 0], [255, 255, 255]]


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("L", 1), ("LA", 4), ("CMYK", 3), ("RGB", 3), ("RGBA", 4)])
def test_every_mode_becomes_gray_rgb_or_rgba(mode: str, channels: int, tmp_path: Path) -> None:
    suffix = ".tif" if mode == "CMYK" else ".png"
    path = saved(Pillow.new(mode, (3, 2)), tmp_path / f"a{suffix}")
    assert image().read(path).shape == (2, 3, channels)
    for wanted in (1, 3, 4):
        assert image(channels=wanted).read(path).shape == (2, 3, wanted)


def test_a_photograph_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    path = saved(Pillow.new("RGB", (8, 4)), tmp_path / "a.jpg", exif=exif)
    assert image().read(path).shape == (8, 4, 3)


def test_an_image_is_read_from_an_open_file_too(pictures: Pictures) -> None:
    raw, file = pictures(1)[0], io.BytesIO()
    Pillow.fromarray(raw).save(file, "png")
    file.seek(0)
    assert np.array_equal(image().read(file), raw)


def test_an_image_of_too_many_pixels_is_rejected_before_it_is_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for side in (20_000, 10_000):  # Pillow itself refuses the first, and only warns of the second
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
        (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")))
        with pytest.raises(ValueError, match=r"pixels|bomb"):
            image().read(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match="8x8 pixels are more than max_pixels = 63"):
        image(max_pixels=63).read(saved(Pillow.new("L", (8, 8)), tmp_path / "small.png"))


def test_the_first_picture_of_an_animation_is_read_and_the_file_closed(pictures: Pictures, tmp_path: Path) -> None:
    first, second = (Pillow.fromarray(raw) for raw in pictures(2))
    path = saved(first, tmp_path / "a.gif", save_all=True, append_images=[second])
    assert np.array_equal(image(channels=3).read(path), np.asarray(first))


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"not an image at all", b"\xff\xd8\xff"])
def test_what_is_no_image_is_refused_in_words(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match="not a readable image"):
        image().read(tmp_path / "a.png")


@pytest.mark.parametrize("form", ["png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"])
def test_a_damaged_file_is_read_or_refused_but_never_crashes(form: str, pictures: Pictures) -> None:
    file = io.BytesIO()
    Pillow.fromarray(pictures(1, height=16, width=16)[0]).save(file, form)
    sound, random = file.getvalue(), np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(sound)
        for place in random.integers(0, len(sound), 4):
            damaged[place] = random.integers(0, 256)
        try:
            image(max_pixels=10_000).read(io.BytesIO(bytes(damaged[: random.integers(8, len(sound) + 1)])))
        except ValueError:
            refused += 1
    assert refused > 0


# -- values -----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    shape=st.sampled_from([(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)]),
    dtype=st.sampled_from([np.uint8, np.int64, np.uint16]),
)
def test_arrays_of_pixels_are_taken_as_they_are(shape: tuple[int, ...], dtype: type) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    raw = image().parse(values)
    assert raw.dtype == np.uint8
    assert np.array_equal(raw, values.reshape(4, 5, -1))


def test_lists_and_pillow_images_are_taken() -> None:
    assert image().parse([[0, 255], [1, 2]])[..., 0].tolist() == [[0, 255], [1, 2]]
    assert image().parse(Pillow.new("RGB", (3, 2), "red"))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    "value",
    [
        *("a.b", 3, None, [], np.zeros((2, 2, 2)), np.zeros((0, 3), np.uint8)),
        *([[0, 256]], [[-1, 0]], [[float("nan")]], [[0.5, 1.0]], np.ones((2, 2), bool)),
    ],
    ids=repr,
)
def test_values_that_are_no_pixels_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"an image is an array|pixels are integers|pixels are from 0 to 255, not"):
        image().parse(value)


@pytest.mark.parametrize(
    "config",
    [{"size": 0}, {"size": [-1, 4]}, {"channels": 2}, {"widths": []}, {"widths": [0]}, {"mixture": 0}],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        image(**config)


# -- for people ---------------------------------------------------------------------------------------


def test_a_note_is_kept_in_the_picture_and_leaves_its_pixels(pictures: Pictures, tmp_path: Path) -> None:
    raw, path = pictures(1)[0], tmp_path / "a.png"
    modality = fitted([raw])
    modality.write(raw, path)
    assert Image.read_tag(path) is None
    Image.tag(path, '{"seed": 1, "über": "ß"}')
    assert Image.read_tag(path) == '{"seed": 1, "über": "ß"}'
    assert np.array_equal(modality.read(path), raw)


def test_bits_per_dimension_are_nats_over_pixels_and_log_2(pictures: Pictures) -> None:
    values = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    nll = torch.tensor([1.0, 3.0]) * 192 * 0.6931471805599453
    assert image().scores(nll, values)["bits/dim"] == pytest.approx(2.0)


def test_psnr_of_a_known_error() -> None:
    black, gray = np.zeros((4, 4, 1), np.uint8), np.full((4, 4, 1), 16, np.uint8)
    measured = image().metrics([black], [gray])
    assert measured["PSNR (dB)"] == pytest.approx(20 * np.log10(255 / 16))
    assert measured["MSE, pixels from 0 to 1"] == pytest.approx((16 / 255) ** 2)
    assert "SSIM" not in measured  # its window is wider


def test_ssim_is_1_for_itself_falls_with_noise_and_sees_structure_more_than_brightness(pictures: Pictures) -> None:
    raws = pictures(6, height=24, width=24)
    random = np.random.default_rng(0)

    def noisy(level: float) -> list[np.ndarray]:
        return [np.clip(raw + random.normal(0, level, raw.shape), 0, 255).astype(np.uint8) for raw in raws]

    brighter = [np.clip(raw.astype(int) + 20, 0, 255).astype(np.uint8) for raw in raws]
    equal, little, much, bright = (
        image().metrics(raws, others)["SSIM"] for others in (raws, noisy(5), noisy(30), brighter)
    )
    assert equal == pytest.approx(1)
    assert 1 > little > much > 0
    assert bright > image().metrics(raws, noisy(20))["SSIM"]


@pytest.mark.parametrize(
    ("size", "halvings"), [(8, 2), (28, 2), (32, 2), (33, 2), (72, 4), (64, 3), (256, 5), ((256, 60), 3)]
)
def test_large_pictures_are_halved_until_a_side_has_8_pixels(size: int | tuple[int, int], halvings: int) -> None:
    modality = image(size=size, channels=3, widths=[4, 8])
    modality.load_state({"size": size if isinstance(size, tuple) else (size, size), "channels": 3})
    height, width = modality.shape[1:]
    encoder = modality.encoder(6)
    seen = encoder.get_parameter("network.head.weight").shape[1]
    assert seen == 8 * (height >> halvings) * (width >> halvings)
    with torch.no_grad():
        z = encoder(torch.zeros(1, *modality.shape, dtype=torch.uint8))[:, :3]
        assert modality.decoder(3)(z).mode().shape == (1, *modality.shape)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(("channels", "size"), [(4, 40), (3, 256)])
def test_transparent_and_large_pictures_are_trained_on_and_written(channels: int, size: int, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    random, mode = np.random.default_rng(0), {3: "RGB", 4: "RGBA"}[channels]
    for index in range(20):
        pixels = random.integers(0, 256, (size, size, channels), np.uint8)
        Pillow.fromarray(pixels, mode).save(tmp_path / "pictures" / f"{index}.png")
    sizes = ["modalities.image.widths=[4,4]", "latent.dim=4", "train.batch_size=4", "train.steps=2", "prior.fitted=1"]
    recipe = {"name": "own", "data": {"path": str(tmp_path / "pictures")}, "modalities": {"image": {}}}
    vae = mmvae.train(recipe, sizes, tmp_path / "run", progress=False)
    figures = mmvae.evaluate(vae, "validation", k=2)
    assert figures["bits/dim"] > 0
    (path, *_) = vae.generate(1).save(tmp_path / "new")
    with Pillow.open(path) as picture:
        assert (picture.mode, picture.size) == (mode, (size, size))


@pytest.mark.parametrize("networks", ["convolutions", "dense"])
def test_dropout_reaches_both_networks(networks: str) -> None:
    modality = image(size=8, channels=1, widths=[4, 8], networks=networks, dropout=0.5)
    modality.load_state({"size": (8, 8), "channels": 1})
    encoder, decoder = modality.encoder(6), modality.decoder(3)
    pixels, z = torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.ones(2, 3)

    def said() -> list[Tensor]:
        with torch.no_grad():
            return [encoder(pixels), decoder(z).log_prob(pixels)]

    assert not any(torch.equal(once, again) for once, again in zip(said(), said(), strict=True))
    encoder.eval(), decoder.eval()
    assert all(torch.equal(once, again) for once, again in zip(said(), said(), strict=True))


@pytest.mark.parametrize(("rows", "share"), [(20, 0.2), (4000, 0.2), (8000, 0.1), (80_000, 0.01)])
def test_few_rows_ask_for_more_dropout(rows: int, share: float) -> None:
    modality = image(dropout="auto", widths=[4])
    modality.load_state({"size": (8, 8), "channels": 1})
    modality.rows = rows
    assert shares(modality.encoder(6)) == shares(modality.decoder(3)) == {share}


def test_a_dropout_that_is_none_is_one_fault_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"dropout: input should be less than 1, or input should be 'auto', not 1\.5$"):
        Recipe.load("image/binary", ["modalities.image.dropout=1.5"])


def shares(network: torch.nn.Module) -> set[float]:
    """What the dropouts of a network leave out."""
    return {layer.p for layer in network.modules() if isinstance(layer, torch.nn.Dropout)}


def test_the_dropout_is_that_of_the_rows_trained_on_whatever_was_started_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "MOST", 1.0)
    settings = ["modalities.image.dropout=auto", "modalities.image.widths=[4]", "latent.dim=4", "prior.fitted=0"]
    settings += ["train.steps=1", "train.batch_size=8", "data.validation=0.02", "data.test=0.02"]

    def run(name: str, *changes: str) -> Run:
        return Run(Recipe.load("image/digits", [*settings, *changes]), tmp_path / name, False, Display(False))

    first = run("first")
    assert shares(first.network) == {800 / len(first.prepared.splits["train"])}
    first.train()
    fewer = run("next", f"train.start={tmp_path / 'first'}", "data.limit=900", "kl.kind=constant")
    assert shares(fewer.network) == {8 / 9}


def test_inception_is_asked_where_its_weights_are_and_says_how_far_samples_are(
    pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch_fidelity import feature_extractor_inceptionv3 as published

    kind = published.FeatureExtractorInceptionV3
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    real = pictures(8)
    assert image().sample_metrics(real, real) == {}

    with monkeypatch.context() as patch:  # the published network, with random weights
        patch.setattr(published, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(kind, "load_state_dict", lambda *_: None)
        network = kind("inception", ["2048"])
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    weights = tmp_path / "checkpoints" / WEIGHTS
    weights.parent.mkdir()
    torch.save(network.state_dict(), weights)

    near = [raw ^ 8 for raw in real]
    (equal,), (little,), (much,) = (
        image().sample_metrics(raws, real).values() for raws in (real, near, [255 - raw for raw in near])
    )
    assert equal == pytest.approx(0, abs=1e-6)
    assert equal < little < much

    weights.write_bytes(b"no weights")
    with pytest.raises(ValueError, match=f"{WEIGHTS}: not the weights of InceptionV3"):
        image().sample_metrics(real, real)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_a_sheet_shows_every_picture(count: int, pictures: Pictures, tmp_path: Path) -> None:
    raws = pictures(count, height=64, width=64)
    (path,) = fitted(raws).sheet(raws, tmp_path / "sheet")
    shown = np.asarray(Pillow.open(path))
    columns = int(np.ceil(np.sqrt(count)))
    for index, raw in enumerate(raws):
        top, left = index // columns * 66 + 1, index % columns * 66 + 1
        assert np.array_equal(shown[top : top + 64, left : left + 64], raw)


# -- what pictures may lack -----------------------------------------------------------------------


def test_gray_pictures_saved_in_colour_are_gray(pictures: Pictures, tmp_path: Path) -> None:
    gray = [np.repeat(raw, 3, axis=2) for raw in pictures(3, height=5, width=6, channels=1)]
    modality = fitted([*gray, *pictures(1, height=5, width=6, channels=1)])
    assert modality.shape == (1, 5, 6)
    path = saved(Pillow.fromarray(gray[0]), tmp_path / "a.png")
    assert np.array_equal(modality.read(path), gray[0][..., :1])
    assert not modality.notes
    modality.parse(pictures(1, height=5, width=6, channels=3)[0])
    assert modality.notes == {"in colour: made gray, as the first picture is": 1}
    stated = image(channels=1)
    stated.parse(np.array([[[255, 0, 0]]], np.uint8))
    assert "in colour: made gray, as the recipe says" in stated.notes


def test_one_picture_in_colour_among_the_first_makes_all_so(pictures: Pictures) -> None:
    gray = [np.repeat(raw, 3, axis=2) for raw in pictures(3, height=5, width=6, channels=1)]
    assert fitted([*gray, *pictures(1, height=5, width=6, channels=3)]).shape == (3, 5, 6)
    assert fitted(gray, channels=3).shape == (3, 5, 6)


def test_pictures_in_which_nothing_is_seen_are_counted() -> None:
    modality = image()
    modality.parse(np.array([[0, 1], [1, 0]], np.uint8))
    modality.parse(np.full((2, 2), 255, np.uint8))
    modality.parse(np.array([[0, 255], [1, 0]], np.uint8))
    dark, even = modality.notes
    assert "no pixel is above 31 of 255" in dark
    assert even == "of one shade all over"
    assert set(modality.notes.values()) == {1}


def test_how_grey_pixels_are_made_black_and_white_is_for_the_likelihood_that_sees_them_so() -> None:
    with pytest.raises(ValueError, match="binarization = drawn is for the likelihood 'bernoulli'"):
        image(binarization="drawn")
