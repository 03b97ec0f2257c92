"""Softplus and the log-probability of bits: their values and their derivatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import binary_cross_entropy_with_logits

from mmvae.core.functions import BLOCK, BitsLogProb, softplus

WIDE = torch.cat([torch.linspace(-40, 40, 2001), torch.tensor([-1e4, -200.0, 200.0, 1e4, torch.inf, -torch.inf])])


def test_softplus_is_log_1_plus_e_to_the_x_from_end_to_end() -> None:
    exact = torch.logaddexp(WIDE.double(), torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(softplus(WIDE).double(), exact, atol=1e-6, rtol=1e-7)


def test_its_gradient_is_that_of_torch_far_out_too() -> None:
    ours, theirs = WIDE.clone().requires_grad_(), WIDE.double().requires_grad_()
    softplus(ours).sum().backward()
    torch.nn.functional.softplus(theirs).sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=1e-7, rtol=1e-6)


def test_it_can_be_derived_twice() -> None:
    x = torch.linspace(-5, 5, 7, dtype=torch.float64, requires_grad=True)
    assert gradcheck(softplus, x)
    assert gradgradcheck(softplus, x)


@pytest.mark.parametrize("shape", [(3, 4, 5), (4, BLOCK // 3 + 1), (0, 7)])
def test_log_probability_of_bits_is_that_of_torch_and_so_are_its_derivatives(shape: tuple[int, ...]) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(shape, generator=draw, dtype=torch.float64)
    x, rows = torch.randint(0, 2, shape, generator=draw), torch.arange(1.0, len(logits) + 1)

    def derived(log_prob: Tensor, logits: Tensor) -> list[Tensor]:
        (first,) = torch.autograd.grad((log_prob * rows.to(logits)).sum(), logits, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), logits)
        return [log_prob.double(), first.double(), second.double()]

    exact, ours = logits.clone().requires_grad_(), logits.float().requires_grad_()
    cost = binary_cross_entropy_with_logits(exact, x.double(), reduction="none").flatten(1).sum(1)
    for got, wanted in zip(derived(BitsLogProb.apply(ours, x), ours), derived(-cost, exact), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
