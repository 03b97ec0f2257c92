"""Softplus, whose values and derivatives are those of torch."""

from __future__ import annotations

import torch
from torch.autograd import gradcheck, gradgradcheck

from mmvae.core.functions import softplus

WIDE = torch.cat([torch.linspace(-40, 40, 2001), torch.tensor([-1e4, -200.0, 200.0, 1e4, torch.inf, -torch.inf])])


def test_softplus_is_log_1_plus_e_to_the_x_from_end_to_end() -> None:
    exact = torch.logaddexp(WIDE.double(), torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(softplus(WIDE).double(), exact, atol=1e-6, rtol=1e-7)


def test_its_gradient_is_a_sigmoid_far_out_too() -> None:
    x = WIDE.clone().requires_grad_()
    softplus(x).sum().backward()
    torch.testing.assert_close(x.grad, WIDE.sigmoid())


def test_it_can_be_derived_twice() -> None:
    x = torch.linspace(-5, 5, 7, dtype=torch.float64, requires_grad=True)
    assert gradcheck(softplus, x)
    assert gradgradcheck(softplus, x)
