"""What encoders see of rows with several modalities."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmvae.core.experts import ProductOfExperts
from mmvae.core.likelihoods import Gaussian
from mmvae.core.noise import Noise, StepNoise
from mmvae.core.objectives import ELBO, ImportanceWeighted, Objective, seen
from mmvae.core.priors import Prior, StandardNormal
from mmvae.core.vae import Batch, Network

N, NAMES = 6000, ("x", "y", "w")


def batch(size: int = N) -> Batch:
    """Rows of which every third lacks y, and every fourth all but w; each value says its row."""
    row = torch.arange(size)
    present = {"x": row % 4 != 0, "y": (row % 3 != 0) & (row % 4 != 0), "w": torch.ones(size, dtype=torch.bool)}
    return Batch({name: row[there][:, None].float() for name, there in present.items()}, present)


@pytest.mark.parametrize("subsets", ["each", "all"])
def test_a_row_is_seen_whole_or_in_part_but_never_not_at_all(subsets: str) -> None:
    whole, kept = batch(), seen(batch(), subsets, StepNoise(0, N, slice(None)))
    assert kept
    part = whole.only(kept)
    counts = torch.stack([part.present[name] for name in NAMES]).sum(0)
    full = torch.stack([whole.present[name] for name in NAMES]).sum(0)
    assert (counts >= 1).all()
    assert (counts <= full).all()
    three, two = full == 3, full == 2
    shares = [(counts[three] == count).double().mean().item() for count in (1, 2, 3)]
    assert shares == pytest.approx([3 / 4, 0, 1 / 4] if subsets == "each" else [3 / 7, 3 / 7, 1 / 7], abs=0.03)
    assert (counts[two] == 2).double().mean().item() == pytest.approx(1 / 3, abs=0.03)
    for name in NAMES:
        assert torch.equal(part.values[name][:, 0].long(), part.present[name].nonzero().squeeze(1))
        alone = part.present[name][three & (counts == 1)].double().mean().item()
        assert alone == pytest.approx(1 / 3, abs=0.06)


def test_in_every_step_each_subset_is_seen_as_often() -> None:
    present = dict.fromkeys(NAMES, torch.ones(70, dtype=torch.bool))
    whole = Batch(dict.fromkeys(NAMES, torch.zeros(70, 1)), present)
    for seed in range(3):
        kept = seen(whole, "all", StepNoise(seed, 70, slice(None)))
        assert kept
        ways, counts = torch.stack([kept[name] for name in NAMES], 1).unique(dim=0, return_counts=True)
        assert len(ways) == 7
        assert counts.tolist() == [10] * 7


@pytest.mark.parametrize("subsets", ["joint", "each", "all"])
def test_a_row_is_trained_on_once_for_each_way_in_which_it_may_be_seen(subsets: str) -> None:
    drawn = seen(batch(), subsets, StepNoise(0, N, slice(None))) or batch().present
    ways: dict[int, set[tuple[bool, ...]]] = {1: set(), 2: set(), 3: set()}
    for had, kept in zip(
        *(torch.stack([of[name] for name in NAMES], 1) for of in (batch().present, drawn)), strict=True
    ):
        if had[0] or not had[1]:  # of the pairs those of x and w, of the single ones w
            ways[int(had.sum())].add(tuple(kept.tolist()))
    counts = torch.tensor([1, 2, 3])
    assert ELBO(ELBO.Config(subsets=subsets)).views(counts).tolist() == [len(ways[count]) for count in (1, 2, 3)]
    assert ELBO(ELBO.Config(subsets="all")).views(torch.tensor([40])).item() == 15  # not 2^40


def test_what_a_row_is_seen_by_depends_on_its_own_seed() -> None:
    rows = [3, 5, 7, 10, 11]
    some = seen(batch(5), "all", Noise(rows))
    others = seen(batch(5), "all", Noise([99, *rows[1:]]))
    assert some
    assert others
    for name in NAMES:
        assert torch.equal(some[name][1:], others[name][1:])


def test_a_row_of_one_modality_takes_no_noise() -> None:
    alone = Batch({"x": torch.zeros(2, 1)}, {"x": torch.ones(2, dtype=torch.bool)})
    assert seen(alone, "all", Noise([])) is None


class Same(nn.Module):
    """p(x|z) = N(z, 1)."""

    def forward(self, z: torch.Tensor) -> Gaussian:
        return Gaussian(z, torch.zeros(()))


@pytest.mark.parametrize(
    "objective", [ELBO(ELBO.Config(subsets="each")), ImportanceWeighted(ImportanceWeighted.Config(subsets="all"))]
)
def test_all_modalities_are_scored_whatever_is_seen_and_by_their_weights(objective: Objective) -> None:
    torch.manual_seed(0)
    latent = ProductOfExperts(ProductOfExperts.Config(dim=1))
    encoders, decoders = {name: nn.Linear(1, 2) for name in NAMES}, {name: Same() for name in NAMES}
    prior = StandardNormal(Prior.Config(), 1)
    plain = Network(encoders, decoders, latent, prior)
    weighted = Network(encoders, decoders, latent, prior, {"y": 3.0})
    one, other = (objective(network, batch(40), StepNoise(1, 40, slice(None))) for network in (plain, weighted))
    assert all((one.distortion[name] > 0).sum() == batch(40).present[name].sum() for name in NAMES)
    torch.testing.assert_close(one.distortion["y"], other.distortion["y"])
    if isinstance(objective, ELBO):
        torch.testing.assert_close(other.loss - one.loss, 2 * one.distortion["y"].mean())
    else:
        assert other.loss > one.loss


@pytest.mark.parametrize(
    "objective",
    [
        ELBO(ELBO.Config(subsets="all", scored="seen")),
        ImportanceWeighted(ImportanceWeighted.Config(subsets="all", scored="seen")),
    ],
)
@pytest.mark.parametrize("private", [0, 1])
def test_only_what_is_seen_may_be_scored(objective: Objective, private: int) -> None:
    latent = ProductOfExperts(ProductOfExperts.Config(dim=4))
    encoders = {name: nn.Linear(1, 8) for name in NAMES}
    decoders = {name: nn.Sequential(nn.Linear(4, 1), Same()) for name in NAMES}
    prior = StandardNormal(Prior.Config(), 4)
    network = Network(encoders, decoders, latent, prior, private=dict.fromkeys(NAMES, private))
    kept = seen(batch(), "all", StepNoise(1, N, slice(None)))
    assert kept is not None
    terms = objective(network, batch(), StepNoise(1, N, slice(None)))
    for name in NAMES:
        torch.testing.assert_close(terms.distortion[name] > 0, kept[name])
    if isinstance(objective, ELBO):  # of what is not scored nothing is said, and nothing paid
        posterior = network.posterior(batch().only(kept))
        torch.testing.assert_close(terms.rate, prior.rate(posterior, posterior.mean[:, None]).sum(1))
