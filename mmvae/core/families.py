"""Posterior families beyond the diagonal Gaussian: correlated, and refined by flows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmvae.core.experts import ProductOfExperts
from mmvae.core.functions import Within
from mmvae.core.latents import Latent, Posterior, by_row
from mmvae.core.noise import Noise


class CorrelatedGaussian(Posterior):
    """N(mean, inverse of F F'), of means [B, D] and lower triangular factors F of the precision [B, D, D]."""

    def __init__(self, mean: Tensor, factor: Tensor) -> None:
        self._mean, self.factor = mean, factor

    @property
    def mean(self) -> Tensor:
        return self._mean

    def sample(self, noise: Noise, k: int = 1) -> Tensor:
        drawn = noise.normal(k, self.mean.shape[1]).mT
        return self.mean[:, None] + torch.linalg.solve_triangular(self.factor.mT, drawn, upper=True).mT

    def log_prob(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):  # a density in bf16 would be off by a tenth of a nat
            scaled = (z - self.mean[:, None]) @ self.factor
        logs = self.factor.diagonal(dim1=1, dim2=2).log().sum(1, keepdim=True)
        return -0.5 * scaled.square().sum(-1) + logs - 0.5 * z.shape[-1] * math.log(2 * math.pi)

    def rate_from_standard(self) -> Tensor:
        dim = self.mean.shape[1]
        inverse = torch.linalg.solve_triangular(self.factor, torch.eye(dim, device=self.factor.device), upper=False)
        logs = self.factor.diagonal(dim1=1, dim2=2).log().sum(1)
        return (0.5 * (inverse.square().sum((1, 2)) + self.mean.square().sum(1) - dim) + logs)[:, None]

    def detached(self) -> CorrelatedGaussian:
        return CorrelatedGaussian(self.mean.detach(), self.factor.detach())


class CorrelatedProduct(Latent):
    """Gaussian with a full covariance (Rezende et al. 2014, "Stochastic Backpropagation"): the
    prior N(0, I) times one such expert for each modality that is present.

    An expert is a mean and the factor of a precision matrix; precision matrices add. No modality: the prior.
    """

    def __init__(self, config: Latent.Config) -> None:
        super().__init__(config)
        self.outputs = config.dim + config.dim * (config.dim + 1) // 2

    def forward(self, experts: Mapping[str, Tensor], present: Mapping[str, Tensor], size: int) -> CorrelatedGaussian:
        device = next(iter(present.values())).device
        lower = torch.tril_indices(self.dim, self.dim, device=device)
        precisions, weighted = {}, {}
        with torch.autocast(device.type, enabled=False):  # matrices of precisions would be rounded
            for name, expert in experts.items():
                mean, below = expert.float().split([self.dim, self.outputs - self.dim], dim=1)
                factor = below.new_zeros(len(below), self.dim, self.dim)
                factor[:, lower[0], lower[1]] = below
                scales = (0.5 * Within.apply(factor.diagonal(dim1=1, dim2=2))).exp()
                factor = factor.tril(-1) + torch.diag_embed(scales)
                precisions[name] = factor @ factor.mT
                weighted[name] = (factor @ (factor.mT @ mean[..., None])).squeeze(-1)
            precision = torch.eye(self.dim, device=device) + by_row(precisions, present, size, self.dim, self.dim)
            factor, _ = torch.linalg.cholesky_ex(precision)  # what fails gives nan, which training tells its user of
            pulled = by_row(weighted, present, size, self.dim)[..., None]
            return CorrelatedGaussian(torch.cholesky_solve(pulled, factor).squeeze(-1), factor)


class FlowPosterior(Posterior):
    """Draws of a base posterior through an invertible map of each row's own, a transform of zuko.

    Its mean is the image of the base's mean, which is not the mean of the images.
    """

    def __init__(self, base: Posterior, transform: Any) -> None:
        self.base, self.transform = base, transform
        self._drawn: tuple[Tensor, Tensor] | None = None  # a draw and its log-density: a flow may be slow to invert

    @property
    def mean(self) -> Tensor:
        return self._onward(self.base.mean[:, None])[0][:, 0]

    def _onward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(z.device.type, enabled=False):
            image, logs = self.transform.call_and_ladj(z.transpose(0, 1))
        return image.transpose(0, 1), logs.T

    def sample(self, noise: Noise, k: int = 1) -> Tensor:
        before = self.base.sample(noise, k)
        z, logs = self._onward(before)
        self._drawn = z, self.base.log_prob(before) - logs
        return z

    def log_prob(self, z: Tensor) -> Tensor:
        if self._drawn is not None and z is self._drawn[0]:
            return self._drawn[1]
        with torch.autocast(z.device.type, enabled=False):
            before, logs = self.transform.inv.call_and_ladj(z.transpose(0, 1))
        return self.base.log_prob(before.transpose(0, 1)) + logs.T

    def detached(self) -> FlowPosterior:
        raise ValueError("objective.encoder = dreg is not made for posteriors refined by a flow: set it to 'same'")


class FlowRefined(Latent):
    """The diagonal Gaussian product of experts, refined by a normalizing flow (Rezende & Mohamed 2015, "Variational
    Inference with Normalizing Flows"), which the sum of the experts' contexts conditions.

    planar: one bend after another (of that paper). iaf: inverse autoregressive, fast to draw from (Kingma et al. 2016).
    maf: masked autoregressive, fast to score (Papamakarios et al. 2017). coupling: affine couplings, fast at both (Dinh
    et al. 2017). All but the first are zuko's. No modality: the flow of the prior, and not the prior itself.
    """

    class Config(Latent.Config):
        flow: Literal["planar", "iaf", "maf", "coupling"] = Field("iaf", description="the kind of flow")
        transforms: int = Field(2, ge=1, description="transforms, one after another")
        hidden: int = Field(128, ge=1, description="units of each of a transform's two hidden layers")
        context: int = Field(32, ge=1, description="numbers that an encoder gives beside mean and precision")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.base, self.context = ProductOfExperts(ProductOfExperts.Config(dim=config.dim)), config.context
        self.outputs = self.base.outputs + config.context
        self.inverted = config.flow == "maf"
        self.flow = Planar(config) if config.flow == "planar" else _autoregressive(config)

    def forward(self, experts: Mapping[str, Tensor], present: Mapping[str, Tensor], size: int) -> FlowPosterior:
        gaussian = {name: expert[:, : self.base.outputs] for name, expert in experts.items()}
        base = self.base(gaussian, present, size)
        rest = {name: expert[:, self.base.outputs :] for name, expert in experts.items()}
        context = by_row(rest, present, size, self.context)
        with torch.autocast(context.device.type, enabled=False):
            transform = self.flow(context)
        return FlowPosterior(base, transform.inv if self.inverted else transform)


def _autoregressive(config: FlowRefined.Config) -> Any:
    if config.dim < 2:
        raise ValueError("a flow couples dimensions: set latent.dim to 2 or more")
    from zuko.flows import MAF

    passes = 2 if config.flow == "coupling" else None
    hidden = (config.hidden,) * 2
    flow: Any = MAF(config.dim, config.context, config.transforms, hidden_features=hidden, passes=passes).transform
    for transform in flow.transforms:
        nn.init.zeros_(transform.hyper[-1].weight)  # it begins as the Gaussian
        nn.init.zeros_(transform.hyper[-1].bias)
    return flow


class Planar(nn.Module):
    """Planar flows z + u tanh(w z + b), whose u, w and b a context gives (Rezende & Mohamed 2015)."""

    def __init__(self, config: FlowRefined.Config) -> None:
        super().__init__()
        self.dim = config.dim
        self.bends = nn.Linear(config.context, config.transforms * (2 * config.dim + 1))

    def forward(self, context: Tensor) -> PlanarTransform:
        u, w, b = self.bends(context).unflatten(1, (-1, 2 * self.dim + 1)).split([self.dim, self.dim, 1], dim=2)
        inner = (u * w).sum(2, keepdim=True)
        # w u > -1 makes it invertible
        u = u + (nn.functional.softplus(inner) - 1 - inner) * w / w.square().sum(2, keepdim=True).clamp(min=1e-6)
        return PlanarTransform(list(zip(u.unbind(1), w.unbind(1), b.unbind(1), strict=True)))


class PlanarTransform:
    """Planar flows of B rows, called as zuko's transforms are: z [k, B, D] to its image and log |det| [k, B]."""

    def __init__(self, bends: Sequence[tuple[Tensor, Tensor, Tensor]], inverse: bool = False) -> None:
        self.bends, self.inverse = bends, inverse

    @property
    def inv(self) -> PlanarTransform:
        """The way back."""
        return PlanarTransform(self.bends[::-1], not self.inverse)

    def call_and_ladj(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The image of z, and log |det| of the derivative."""
        logs = torch.zeros(z.shape[:2], device=z.device)
        for u, w, b in self.bends:
            inner, along = (u * w).sum(1, keepdim=True), (z * w).sum(2, keepdim=True)
            bent = torch.tanh((_unbend(along, inner, b) if self.inverse else along) + b)
            slope = torch.log1p((1 - bent**2) * inner).squeeze(2)
            z, logs = (z - u * bent, logs - slope) if self.inverse else (z + u * bent, logs + slope)
        return z, logs


def _unbend(along: Tensor, inner: Tensor, b: Tensor) -> Tensor:
    """The x with x + inner * tanh(x + b) = along, by bisection."""
    low, high = along - inner.abs(), along + inner.abs()
    for _ in range(50):
        middle = (low + high) / 2
        above = middle + inner * torch.tanh(middle + b) > along
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low + high) / 2
