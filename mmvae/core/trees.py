"""Priors of what modalities share, and of what each has of its own given that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from mmvae.core.latents import DiagonalGaussian, Posterior
from mmvae.core.noise import Noise
from mmvae.core.priors import Prior


class Branch(Protocol):
    """The density of what is a modality's own, given what is shared, z [..., d]."""

    def log_prob_given(self, z: Tensor, rest: Tensor) -> Tensor:
        """Log-density of what is its own, rest [..., D - d], in nats, [...]."""

    def mean_given(self, z: Tensor) -> Tensor:
        """Means [R, D - d] given z [R, d]."""

    def draw_given(self, z: Tensor, u: Tensor, numbers: Tensor) -> Tensor:
        """Draws [R, D - d] given z [R, d], by uniform numbers u [R, 1] and normal numbers [R, D - d]."""


class Tree(Prior):
    """A density of what modalities share, and one more for each that has dimensions of its own: of these, given what is
    shared.

    So what one has of its own is independent of what another has, given what they share, as it is in the decoders. One
    density of everything spends itself on how they happened to meet: of joint digits with a mixture of 600, a picture
    made of a word is of its digit in 99 of 100 cases in place of 96.
    """

    trunk: Prior
    branches: nn.ModuleList

    def grow(self, trunk: Prior, branches: Sequence[nn.Module], own: Sequence[int]) -> None:
        """Take a density of what is shared, which comes first in z, and of what is one modality's own after another,
        of so many dimensions."""
        self.trunk, self.branches, self.own = trunk, nn.ModuleList(branches), list(own)

    def parts(self) -> Iterator[tuple[Branch, slice]]:
        """What the tree has of each modality's own, and the dimensions that these are."""
        first = self.trunk.dim
        for branch, count in zip(self.branches, self.own, strict=True):
            yield cast(Branch, branch), slice(first, first + count)
            first += count

    def said(self, evidence: DiagonalGaussian) -> Iterator[tuple[Branch, slice, DiagonalGaussian, Tensor]]:
        """Those, what is said of these dimensions, and of which rows anything is, [B, 1]."""
        for branch, own in self.parts():
            said = evidence.within(own)
            yield branch, own, said, (said.stddev != 1).any(1, keepdim=True)

    def log_prob(self, z: Tensor) -> Tensor:
        shared = z[..., : self.trunk.dim]
        found = self.trunk.log_prob(shared)
        for branch, own in self.parts():
            found = found + branch.log_prob_given(shared, z[..., own])
        return found

    def log_ratio(self, posterior: Posterior, z: Tensor) -> Tensor:
        """What no modality of a row speaks of is left out: it is as the tree has it."""
        if not isinstance(posterior, DiagonalGaussian):
            return super().log_ratio(posterior, z)
        shared = z[..., : self.trunk.dim]
        found = self.trunk.log_ratio(posterior.within(slice(self.trunk.dim)), shared)
        for branch, own, said, known in self.said(posterior):
            ratio = branch.log_prob_given(shared, z[..., own]) - said.log_prob(z[..., own])
            found = found + torch.where(known, ratio, 0.0)
        return found

    def sample(self, noise: Noise) -> Tensor:
        nothing = torch.zeros(len(noise), self.dim, device=noise.device)
        return self.given(DiagonalGaussian(nothing, nothing + 1)).sample(noise)[:, 0]

    def given(self, evidence: DiagonalGaussian) -> Posterior:
        return GivenTree(self, evidence)


class GivenTree(Posterior):
    """A tree in the place of N(0, I). What is shared is as Bayes' rule has it, and what is a modality's own as it is
    said; where nothing is said of it, as the tree has it given what is shared."""

    def __init__(self, tree: Tree, evidence: DiagonalGaussian) -> None:
        self.tree, self.evidence = tree, evidence
        self.shared = tree.trunk.given(evidence.within(slice(tree.trunk.dim)))

    @property
    def mean(self) -> Tensor:
        """Of what is shared; and of what is a modality's own, given that mean."""
        shared = self.shared.mean
        means = [shared]
        for branch, _, said, known in self.tree.said(self.evidence):
            means.append(torch.where(known, said.mean, branch.mean_given(shared)))
        return torch.cat(means, 1)

    def sample(self, noise: Noise, k: int = 1) -> Tensor:
        shared = self.shared.sample(noise, k)
        drawn = [shared]
        for branch, _, said, known in self.tree.said(self.evidence):
            dim = said.mean.shape[1]
            u, numbers = noise.uniform(k, 1).flatten(0, 1), noise.normal(k, dim)
            z = said.mean[:, None] + said.stddev[:, None] * numbers
            if not known.all():
                by_branch = branch.draw_given(shared.flatten(0, 1), u, numbers.flatten(0, 1))
                z = torch.where(known[..., None], z, by_branch.view_as(z))
            drawn.append(z)
        return torch.cat(drawn, 2)

    def log_prob(self, z: Tensor) -> Tensor:
        shared = z[..., : self.tree.trunk.dim]
        found = self.shared.log_prob(shared)
        for branch, own, said, known in self.tree.said(self.evidence):
            part = said.log_prob(z[..., own])
            if not known.all():
                part = torch.where(known, part, branch.log_prob_given(shared, z[..., own]))
            found = found + part
        return found
