"""Hyperbolic latents: Gaussians wrapped around a space whose volume grows with distance as the leaves of a tree."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mmvae.core.experts import precisions
from mmvae.core.latents import DiagonalGaussian, Latent, Posterior
from mmvae.core.noise import Noise

FARTHEST = 12.0  # of a location from the origin: beyond it float64 no longer tells points apart


class WrappedNormal(Posterior):
    """A Gaussian of standard deviations [B, D] in the tangent space at a location of hyperbolic space of curvature -1
    (Nagano et al. 2019, "A Wrapped Normal Distribution on Hyperbolic Space for Gradient-based Learning").

    z and the location [B, D] are in coordinates of the tangent space at the origin: direction and hyperbolic distance.
    Densities are by the volume of these coordinates, in which the wrapped normal at the origin is N(0, I), the prior.
    """

    def __init__(self, location: Tensor, stddev: Tensor) -> None:
        self.location, self.stddev = location, stddev

    @property
    def mean(self) -> Tensor:
        """The location, [B, D]."""
        return self.location

    def sample(self, noise: Noise, k: int = 1) -> Tensor:
        step = self.stddev[:, None] * noise.normal(k, self.location.shape[1])
        return exp_map(self.location[:, None], step)

    def log_prob(self, z: Tensor) -> Tensor:
        step = log_map(self.location[:, None], z)
        flat = DiagonalGaussian(torch.zeros_like(self.stddev), self.stddev).log_prob(step)
        return flat + (z.shape[-1] - 1) * (_log_growth(z) - _log_growth(step))

    def detached(self) -> WrappedNormal:
        return WrappedNormal(self.location.detach(), self.stddev.detach())


class Hyperbolic(Latent):
    """Wrapped normals in hyperbolic space (Mathieu et al. 2019, "Continuous Hierarchical Representations with Poincare
    Variational Auto-Encoders"). Locations and precisions of the experts meet, with the prior's, in the tangent space at
    the origin. No modality: the prior."""

    def __init__(self, config: Latent.Config) -> None:
        super().__init__(config)
        self.outputs = 2 * config.dim

    def forward(self, experts: Mapping[str, Tensor], present: Mapping[str, Tensor], size: int) -> WrappedNormal:
        of_experts, weighted = precisions(experts, present, size, self.dim)
        location = weighted / (1 + of_experts)
        return WrappedNormal(location * (FARTHEST / _norm(location)).clamp(max=1.0), (1 + of_experts).rsqrt())


def exp_map(location: Tensor, step: Tensor) -> Tensor:
    """Where a step [..., D] leads, carried in parallel from the origin to the location; in coordinates of the tangent
    space at the origin, as both are."""
    time, space = _hyperboloid(location)
    step = _fine(step)
    turn = (space * step).sum(-1, keepdim=True) / (1 + time)
    length = _norm(step)
    there = length.cosh() * space + length.sinh() / length * (step + turn * space)
    far = _norm(there)
    return (far.asinh() / far * there).to(location)


def log_map(location: Tensor, z: Tensor) -> Tensor:
    """The step that leads from a location to z, the inverse of `exp_map`."""
    (time, space), (time_of_z, space_of_z) = _hyperboloid(location), _hyperboloid(z)
    apart = time * time_of_z - (space * space_of_z).sum(-1, keepdim=True) - 1
    apart = apart.clamp(min=1e-20)  # cosh of the distance, less 1
    root = (apart * (apart + 2)).sqrt()
    scale = torch.log1p(apart + root) / root
    of_time, of_space = (there - (1 + apart) * here for here, there in ((time, time_of_z), (space, space_of_z)))
    return (scale * (of_space - of_time / (1 + time) * space)).to(location)


def _hyperboloid(tangent: Tensor) -> tuple[Tensor, Tensor]:
    """Time [..., 1] and space [..., D], in float64, of the hyperboloid's point at a tangent vector of the origin."""
    tangent = _fine(tangent)
    length = _norm(tangent)
    return length.cosh(), length.sinh() / length * tangent


def _log_growth(tangent: Tensor) -> Tensor:
    """log(sinh r / r) at r, the length of [..., D]: how much wider than flat space a sphere's every direction is."""
    length = _norm(_fine(tangent))[..., 0]
    return (length + torch.log(-torch.expm1(-2 * length)) - torch.log(2 * length)).to(tangent)


def _fine(x: Tensor) -> Tensor:
    return x.to("cpu" if x.device.type == "mps" else x.device, torch.float64)  # which that device lacks


def _norm(x: Tensor) -> Tensor:
    return (x.square().sum(-1, keepdim=True) + 1e-20).sqrt()  # which has a derivative at 0
