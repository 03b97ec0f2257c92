"""Regularizers: the ELBO and a further cost, of a batch's posteriors, of parts of them, or of a decoder's slope."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mmvae.core.latents import DiagonalGaussian, Posterior
from mmvae.core.noise import Noise
from mmvae.core.objectives import ELBO, Inferred, Subsets
from mmvae.core.processes import of_all_processes, over_processes
from mmvae.core.vae import Network

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the kernels, in squared distances of two draws of N(0, I)


class TotalCorrelation(ELBO):
    """The ELBO and `correlation` times KL(q(z) || q(z_1) ... q(z_D)), by how much dimensions tell of one another.

    beta-TC-VAE with beta = 1 + correlation (Chen et al. 2018, "Isolating Sources of Disentanglement in VAEs"). q(z) is
    the mean of the batch's posteriors.
    """

    class Config(ELBO.Config):
        correlation: float = Field(5.0, ge=0, description="weight of the total correlation")

    config: Config

    def penalty(self, network: Network, inferred: Inferred, z: Tensor, noise: Noise) -> Tensor:
        return self.config.correlation * total_correlation(gaussian(inferred.posterior), z).mean()


class DIP(ELBO):
    """The ELBO and the distance of the latents' covariance from the identity (Kumar et al. 2018, "Variational Inference
    of Disentangled Latent Concepts from Unlabeled Observations"): of posterior means (DIP-VAE-I) or of z (II)."""

    class Config(ELBO.Config):
        of: Literal["means", "z"] = Field("means", description="whose covariance")
        off_diagonal: float = Field(10.0, ge=0, description="weight of the squared covariances")
        diagonal: float | None = Field(
            None,
            ge=0,
            description="weight of the squared differences of variances from 1; by default off_diagonal for z, and ten "
            "times as much for means, as published",
        )

    config: Config

    def penalty(self, network: Network, inferred: Inferred, z: Tensor, noise: Noise) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):  # products in bf16 would be off by a tenth
            mean = inferred.posterior.mean
            center = over_processes(mean.mean(0))
            covariance = over_processes(mean.T @ mean / len(mean)) - torch.outer(center, center)
        if self.config.of == "z":
            covariance = covariance + over_processes(gaussian(inferred.posterior).stddev.square().mean(0)).diag()
        variances, weight, diagonal = covariance.diagonal(), self.config.off_diagonal, self.config.diagonal
        if diagonal is None:
            diagonal = 10 * weight if self.config.of == "means" else weight
        outside = covariance.square().sum() - variances.square().sum()
        return weight * outside + diagonal * (variances - 1).square().sum()


class MMD(ELBO):
    """The ELBO and `discrepancy` times the squared maximum mean discrepancy of q(z) and p(z) (Gretton et al. 2012),
    under a sum of inverse multiquadratic kernels.

    InfoVAE (Zhao et al. 2019) with kl.weight = 1 - alpha and discrepancy = alpha + lambda - 1. With kl.weight = 0 it is
    the Wasserstein autoencoder WAE-MMD (Tolstikhin et al. 2018), with a posterior that may be a point.
    """

    class Config(ELBO.Config):
        discrepancy: float = Field(
            10.0, ge=0, description="weight of the squared discrepancy, about 0 to 14; 100 for points"
        )

    config: Config

    def penalty(self, network: Network, inferred: Inferred, z: Tensor, noise: Noise) -> Tensor:
        return self.config.discrepancy * discrepancy(of_all_processes(z), of_all_processes(network.prior.sample(noise)))


class RAE(ELBO):
    """Distortion, the length of z, and by choice the decoder's weights (RAE-L2) or slope (RAE-GP): regularized
    autoencoders (Ghosh et al. 2020, "From Variational to Deterministic Autoencoders"), latent.kind = deterministic.

    The squared norm of the decoder's derivative is estimated along a random direction of the outputs.
    """

    class Config(Subsets):
        length: float = Field(0.1, ge=0, description="weight of half the squared length of z")
        decoder: float = Field(0.0, ge=0, description="weight of half the squared norm of the decoders' weights")
        slope: float = Field(
            0.0, ge=0, description="weight of half the squared norm of the derivative of what is decoded by z"
        )

    def _cost(self, rate: Tensor, dim: int) -> Tensor:
        return rate.sum()

    def penalty(self, network: Network, inferred: Inferred, z: Tensor, noise: Noise) -> Tensor:
        cost = self.config.length * 0.5 * z.square().sum(1).mean()
        if self.config.decoder:
            squares = torch.stack([weight.square().sum() for weight in network.decoding_weights()])
            cost = cost + self.config.decoder * 0.5 * squares.sum()
        if self.config.slope:
            cost = cost + self.config.slope * 0.5 * squared_slope(network, z, noise).mean()
        return cost


class Alone(ELBO):
    """The ELBO and `alone` times KL(q(z|x) || q(z|x_m)), summed over the modalities m that a row has: what each alone
    says of z comes near to what all say together.

    JMVAE with alone = 0.1 or so (Suzuki et al. 2017, "Joint Multimodal Learning with Deep Generative Models"). Of M
    modalities, the objective of MVTCAE (Hwang et al. 2021, "Multi-View Representation Learning via Total Correlation
    Objective") is latent.with_prior = false, kl.weight = M (1 - alpha) / (M - alpha) and alone = alpha / (M - alpha).
    """

    class Config(ELBO.Config):
        alone: float = Field(0.1, ge=0, description="weight of the divergences from what each modality says alone")

    config: Config

    def penalty(self, network: Network, inferred: Inferred, z: Tensor, noise: Noise) -> Tensor:
        drawn, cost = z[:, None], z.new_zeros(len(z))
        together = inferred.posterior.log_prob(drawn)[:, 0]
        for name, expert in inferred.experts.items():
            rows = inferred.given.present[name]
            alone = network.latent({name: expert}, {name: rows}, len(rows))
            cost = cost + rows * (together - alone.log_prob(drawn)[:, 0])
        return self.config.alone * cost.mean()


def squared_slope(network: Network, z: Tensor, noise: Noise) -> Tensor:
    """An unbiased estimate of the squared norm of the derivative by z of all that is decoded, at z [B, D], [B]
    (Hutchinson 1989). Raises ValueError for what has none, such as text."""
    at = z.detach().requires_grad_()
    along = at.new_zeros(())
    for name, likelihood in network.decode(at).items():
        if (center := likelihood.center()) is None:
            raise ValueError(f"what is decoded as {name} has no derivative by z: set objective.slope to 0")
        along = along + (center * noise.normal(*center.shape[1:])).sum()
    (gradient,) = torch.autograd.grad(along, at, create_graph=True)
    return gradient.square().sum(1)


def gaussian(posterior: Posterior) -> DiagonalGaussian:
    """The posterior, if it is what the estimates here are made for; raises ValueError if not."""
    if not isinstance(posterior, DiagonalGaussian):
        raise ValueError("this objective is defined for latent.kind = gaussian")
    return posterior


def total_correlation(posterior: DiagonalGaussian, z: Tensor) -> Tensor:
    """log q(z) - sum_d log q(z_d) in nats at z [B, D], one draw of each posterior, [B]; q is the mean of the posteriors
    of the batch, in all processes."""
    mean, stddev = of_all_processes(posterior.mean), of_all_processes(posterior.stddev)
    each = -0.5 * ((z[:, None] - mean) / stddev) ** 2 - stddev.log()  # [B, N, D], without constants that cancel
    joint = each.sum(2).logsumexp(1)
    return joint - each.logsumexp(1).sum(1) + (z.shape[1] - 1) * math.log(len(mean))


def discrepancy(a: Tensor, b: Tensor) -> Tensor:
    """The squared maximum mean discrepancy of the distributions of a and b [N, D] each, without bias (it may be below
    0)."""
    n = len(a)
    if n < 2:
        raise ValueError("a discrepancy takes two rows at least: set train.batch_size above 1")
    within = (_kernel(x, x).sum() - n * len(SCALES) for x in (a, b))  # a draw is no evidence beside itself
    return sum(within) / (n * (n - 1)) - 2 * _kernel(a, b).mean()


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    squares = (a[:, None] - b).square().sum(-1)
    widths = [2 * a.shape[1] * scale for scale in SCALES]
    return torch.stack([width / (width + squares) for width in widths]).sum(0)
