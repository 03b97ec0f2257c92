"""Softplus: its values and its derivatives."""

from __future__ import annotations

import torch
from torch.autograd import gradcheck, gradgradcheck

from mmvae.core.functions import softplus

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
