"""Convolutional networks: planes of any size, there and back."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mmvae.core.likelihoods import Laplace
from mmvae.modalities.networks import ConvDecoder, ConvEncoder, DensityDecoder, Doubling, pyramid

sides = st.integers(1, 40)


@settings(max_examples=40, deadline=None)
@given(height=sides, width=sides, channels=st.integers(1, 4), levels=st.integers(1, 4))
def test_any_plane_is_encoded_and_decoded_to_its_own_size(height: int, width: int, channels: int, levels: int) -> None:
    shape, widths = (channels, height, width), (4, 6, 8, 8)[:levels]
    with torch.no_grad():
        assert ConvEncoder(shape, 5, widths)(torch.zeros(2, *shape)).shape == (2, 5)
        assert ConvDecoder(5, shape, widths)(torch.zeros(2, 5)).shape == (2, *shape)


@settings(max_examples=40, deadline=None)
@given(length=sides, channels=st.integers(1, 4), levels=st.integers(1, 4))
def test_any_line_is_encoded_and_decoded_to_its_own_length(length: int, channels: int, levels: int) -> None:
    shape, widths = (channels, length), (4, 6, 8, 8)[:levels]
    with torch.no_grad():
        assert ConvEncoder(shape, 5, widths)(torch.zeros(2, *shape)).shape == (2, 5)
        assert ConvDecoder(5, shape, widths)(torch.zeros(2, 5)).shape == (2, *shape)


@given(height=st.integers(1, 300), width=st.integers(1, 300), levels=st.integers(1, 8))
def test_a_pyramid_halves_and_keeps_sides_of_two(height: int, width: int, levels: int) -> None:
    sizes = pyramid((height, width), levels)
    assert sizes[0] == (height, width)
    assert len(sizes) <= levels + 1
    for above, below in itertools.pairwise(sizes):
        assert below == tuple(side // 2 for side in above)
        assert min(below) >= 2


@pytest.mark.parametrize("size", [(28, 28), (7, 13), (3, 3), (32, 5), (28,), (13,)])
def test_a_gradient_reaches_every_weight(size: tuple[int, ...]) -> None:
    shape = (3, *size)
    encoder, decoder = ConvEncoder(shape, 5, (4, 8)), ConvDecoder(5, shape, (4, 8))
    decoder(encoder(torch.randn(2, *shape))).square().sum().backward()
    for network in (encoder, decoder):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name


def test_a_row_does_not_depend_on_its_batch() -> None:
    encoder, planes = ConvEncoder((1, 9, 9), 5, (4, 8)), torch.randn(4, 1, 9, 9)
    with torch.no_grad():
        torch.testing.assert_close(encoder(planes)[1:2], encoder(planes[1:2]), atol=1e-5, rtol=1e-5)


def test_dropout_is_of_training_alone_and_changes_no_name_of_a_weight() -> None:
    plain, shape = ConvEncoder((1, 9, 9), 5, (4, 8)), (1, 9, 9)
    encoder, planes = ConvEncoder(shape, 5, (4, 8), 0.5), torch.randn(4, *shape)
    encoder.load_state_dict(plain.state_dict())
    with torch.no_grad():
        assert not torch.equal(encoder(planes), encoder(planes))
        torch.testing.assert_close(encoder.eval()(planes), plain(planes))


class Nothing(nn.Module):
    """Planes of 0, whatever z."""

    def forward(self, z: Tensor) -> Tensor:
        return z.new_zeros(len(z), 1, 3, 8)


def test_the_scale_of_a_density_is_found_within_a_short_training_and_takes_no_share_of_the_clipped_norm() -> None:
    decoder = DensityDecoder(Nothing(), Laplace, (1, 3))
    scales = torch.tensor([0.05, 0.06, 0.07])
    noise = torch.distributions.Laplace(torch.zeros(()), scales[:, None].expand(1, 3, 8))
    optimizer = torch.optim.AdamW(decoder.parameters(), 2e-3, weight_decay=0)
    torch.manual_seed(0)
    for _ in range(400):
        loss = -decoder(torch.zeros(32, 2)).log_prob(noise.sample((32,))).mean()
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(decoder.parameters(), 5.0)
        assert norm < 0.1
        optimizer.step()
    density = decoder(torch.zeros(1, 2))
    assert isinstance(density, Laplace)
    found = density.log_scale.exp().flatten()
    torch.testing.assert_close(found, scales, atol=0, rtol=0.15)


@pytest.mark.parametrize("size", [(8,), (9,), (8, 6), (9, 6), (8, 7), (9, 7)])
def test_doubling_to_an_odd_size_is_a_transposed_convolution_with_output_padding(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    ours = Doubling(3, 2, size)
    kind: Any = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}[len(size)]
    theirs = kind(3, 2, 4, stride=2, padding=1, output_padding=tuple(side % 2 for side in size))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(4, 3, *(side // 2 for side in size))
    assert ours(x).shape == (4, 2, *size)
    torch.testing.assert_close(ours(x), theirs(x))
