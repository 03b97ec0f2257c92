"""Priors p(z): what latents are drawn from, and what the rate is measured against."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mmvae.core.latents import DiagonalGaussian, Latent, Point, Posterior, log_standard_normal
from mmvae.core.noise import Noise, choose
from mmvae.core.registry import Registry, Settings

NUMBERS = 2**25  # of covariances that are held together


class Prior(nn.Module, ABC):
    """A density over z in R^dim."""

    Config: type[Settings] = Settings  # the table's further keys
    learned = False  # whether it has weights that are trained together with the networks
    lets_lack = False  # whether its rate leaves out what no modality of a row speaks of
    examples = 0  # training rows that it asks to be shown

    def __init__(self, config: Any, dim: int) -> None:
        super().__init__()
        self.config, self.dim = config, dim

    def attach(self, latent: Latent, posterior_of: Callable[[Any], Posterior]) -> None:
        """Meet the network that it is the prior of: its posterior family, and q(z|x) of a batch. Raises ValueError when
        it is not made for that family."""

    def show(self, batch: Any) -> None:
        """See a batch of `examples` training rows, before the first step."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of z [..., D] in nats, [...]."""

    @abstractmethod
    def sample(self, noise: Noise) -> Tensor:
        """One z for each row of the noise, [B, D]."""

    def given(self, evidence: DiagonalGaussian) -> Posterior:
        """Gaussians [B, D] that are N(0, I) times what experts say, with this prior in the place of N(0, I): what those
        experts leave open is then as the prior has it, given what they say. By default the Gaussians as they are."""
        return evidence

    def rate(self, posterior: Posterior, z: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)) in nats, [B, parts]: parts are dimensions where the prior factorizes, else 1.

        z: the draws [B, k, D] that estimate it where it has no closed form. The rate of a point is given as 0.
        """
        if isinstance(posterior, Point):
            return torch.zeros(len(z), 1, device=z.device)
        return -self.log_ratio(posterior, z).mean(1, keepdim=True)

    def log_ratio(self, posterior: Posterior, z: Tensor) -> Tensor:
        """log p(z) - log q(z|x) of the posterior's draws z [B, k, D] in nats, [B, k]."""
        of_prior = self.log_prob(z)
        if of_prior.shape != z.shape[:-1]:  # which would broadcast, and be no density
            raise ValueError(
                f"{type(self).__name__}.log_prob gives {tuple(of_prior.shape)} for z {tuple(z.shape)}, not "
                f"{tuple(z.shape[:-1])}"
            )
        return of_prior - posterior.log_prob(z)


class StandardNormal(Prior):
    """N(0, I) (Kingma & Welling 2014)."""

    def log_prob(self, z: Tensor) -> Tensor:
        return log_standard_normal(z)

    def sample(self, noise: Noise) -> Tensor:
        return noise.normal(self.dim)

    def rate(self, posterior: Posterior, z: Tensor) -> Tensor:
        closed = posterior.rate_from_standard()
        return super().rate(posterior, z) if closed is None else closed


class NoPrior(Prior):
    """z = 0 for sure, for a model without a latent. Densities are relative to that point, so they are 1."""

    def log_prob(self, z: Tensor) -> Tensor:
        return torch.zeros(z.shape[:-1], device=z.device)

    def sample(self, noise: Noise) -> Tensor:
        return torch.zeros(len(noise), self.dim, device=noise.device)


class Given(Posterior):
    """A mixture of Gaussians in the place of the N(0, I) for which diagonal Gaussians, one for each row, were made:
    another mixture for each row.

    Without N(0, I) they have precisions L and means mu. With R = L^1/2, B = I + R S R and d = R (mu - m), a component
    N(m, S) of weight w becomes N(m + S R B^-1 d, (S^-1 + L)^-1), of weight w |B|^-1/2 exp(-d B^-1 d / 2).
    """

    def __init__(
        self, prior: Prior, weights: Tensor, means: Tensor, factors: Tensor, evidence: DiagonalGaussian
    ) -> None:
        """prior: the mixture, of weights [K], means [K, D] and the Cholesky factors [K, D, D] of covariances."""
        self.prior, self.evidence = prior, evidence
        self.weights, self.means, self.factors = weights, means, factors
        precision = evidence.stddev**-2
        root = (precision - 1).clamp(min=0).sqrt()
        self.spoken = root.gt(0).any(0).nonzero().squeeze(1)  # dimensions of which anything is said
        root, stddev = root[:, self.spoken], evidence.stddev[:, self.spoken]
        self.root = root
        self.told = torch.where(root > 0, (evidence.mean * precision)[:, self.spoken] / root, 0.0)  # R mu
        parts = []
        for rows in self._at_once():
            factor, away = self._factored(rows)
            white = torch.linalg.solve_triangular(factor, away[..., None], upper=False)[..., 0]
            half_volumes = factor.diagonal(dim1=2, dim2=3).log().sum(2)
            parts.append(self.weights.log() - half_volumes - 0.5 * white.square().sum(2))
        scores = torch.cat(parts)
        self.shares = scores.softmax(1)
        self.log_normalizer = scores.logsumexp(1) + (0.5 * (self.told * stddev).square() - stddev.log()).sum(1)

    def _at_once(self) -> Iterator[Tensor]:
        """Numbers of rows [n, 1], all of whose components are held together."""
        rows = torch.arange(len(self.root), device=self.root.device)[:, None]
        yield from rows.split(max(1, NUMBERS // self.factors.numel()))

    def _factored(self, rows: Tensor, components: Tensor | slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Of rows [n, 1] and components, all or [n, k]: the Cholesky factor of B, and d, of each."""
        root, factors = self.root[rows], self.factors[:, self.spoken][components]
        within = root[..., None] * (factors @ factors.mT) * root[..., None, :]
        factor = torch.linalg.cholesky(within + torch.eye(len(self.spoken), device=root.device))
        return factor, self.told[rows] - root * self.means[:, self.spoken][components]

    def _shift(self, rows: Tensor, factor: Tensor, missed: Tensor, components: Tensor | slice = slice(None)) -> Tensor:
        """S R B^-1 of what was missed, for each of the rows and components: [n, k, D]."""
        factors, pulled = self.factors[components], torch.cholesky_solve(missed[..., None], factor)
        return (factors @ (factors[..., self.spoken, :].mT @ (self.root[rows][..., None] * pulled)))[..., 0]

    @property
    def mean(self) -> Tensor:
        of = [self.means + self._shift(rows, *self._factored(rows)) for rows in self._at_once()]
        return (self.shares[..., None] * torch.cat(of)).sum(1)

    def sample(self, noise: Noise, k: int = 1) -> Tensor:
        prior, chosen = self.prior, choose(self.shares, noise.uniform(k))
        rows = torch.arange(len(chosen), device=chosen.device)[:, None]
        of_prior, of_evidence = noise.normal(k, prior.dim), noise.normal(k, prior.dim)[..., self.spoken]
        drawn = []
        for part in torch.arange(k, device=chosen.device).split(max(1, NUMBERS // (len(chosen) * prior.dim**2))):
            # a draw of the component, moved as a draw of the evidence tells it to (Matheron's rule)
            components = chosen[:, part]
            away = (self.factors[components] @ of_prior[:, part, :, None])[..., 0]
            factor, missed = self._factored(rows, components)
            missed = missed - self.root[rows] * away[..., self.spoken] - of_evidence[:, part]
            drawn.append(self.means[components] + away + self._shift(rows, factor, missed, components))
        return torch.cat(drawn, 1)

    def log_prob(self, z: Tensor) -> Tensor:
        standard = log_standard_normal(z)
        return self.evidence.log_prob(z) - standard + self.prior.log_prob(z) - self.log_normalizer[:, None]


priors: Registry[Prior] = Registry(
    "prior",
    {
        "standard": f"{__name__}:StandardNormal",
        "none": f"{__name__}:NoPrior",
        "mixture": "mmvae.core.learned_priors:Mixture",
        "tree": "mmvae.core.learned_priors:LearnedTree",
        "flow": "mmvae.core.learned_priors:Flow",
        "vamp": "mmvae.core.vamp:Vamp",
        "sphere": "mmvae.core.sphere:UniformDirections",
        "ladder": "mmvae.core.ladder:LadderPrior",
        "codes": "mmvae.core.codes:UniformCodes",
    },
    "mmvae.priors",
)
