"""Random numbers by row: seeds are the same everywhere, and a row's draws are its own."""

from __future__ import annotations

import pytest
import torch

from mmvae.core.noise import Noise, StepNoise, mix


def test_mixed_seeds_are_the_same_on_every_machine_and_in_every_version() -> None:
    assert mix(0, "prior", 3) == 6236331328439502308
    assert mix(1234, "epoch") == 4103193756610324901


def test_mixed_seeds_differ_in_every_part_and_fit_a_generator() -> None:
    seeds = {mix(seed, word, index) for seed in range(5) for word in ("a", "b") for index in range(50)}
    assert len(seeds) == 500
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("draw", ["normal", "uniform"])
def test_a_row_depends_on_its_own_seed_only(draw: str) -> None:
    first, second = (getattr(Noise(seeds), draw)(4, 2) for seeds in ([1, 2, 3], [9, 2]))
    assert first.shape == (3, 4, 2)
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], second[0])


@pytest.mark.parametrize("draw", ["normal", "uniform"])
def test_the_parts_of_a_step_concatenate_to_the_whole(draw: str) -> None:
    whole = getattr(StepNoise(5, 10, slice(None)), draw)(3)
    parts = [StepNoise(5, 10, slice(*ends)) for ends in ((0, 4), (4, 7), (7, 10))]
    assert [len(part) for part in parts] == [4, 3, 3]
    assert torch.equal(torch.cat([getattr(part, draw)(3) for part in parts]), whole)


def test_the_parts_of_a_step_agree_in_every_draw_of_a_sequence() -> None:
    whole, part = StepNoise(5, 6, slice(None)), StepNoise(5, 6, slice(2, 4))
    for shape in ((3,), (1, 2), ()):
        assert torch.equal(part.normal(*shape), whole.normal(*shape)[2:4])


def test_stratified_numbers_of_a_step_fall_into_as_many_parts_as_there_are_rows() -> None:
    whole = StepNoise(5, 10, slice(None)).stratified()
    assert whole.shape == (10, 1)
    assert sorted((whole[:, 0] * 10).long().tolist()) == list(range(10))
    assert not torch.equal(whole.sort(0).values, whole)
    parts = [StepNoise(5, 10, slice(start, None, 2)).stratified() for start in (0, 1)]
    assert torch.equal(torch.stack(parts, 1).flatten(0, 1), whole)
    assert torch.equal(Noise([1, 2]).stratified()[1], Noise([9, 2]).stratified()[1])


def test_uniform_numbers_have_a_finite_logarithm_on_both_sides() -> None:
    numbers = StepNoise(0, 1_000_000, slice(None)).uniform()
    assert numbers.min() > 0
    assert numbers.max() < 1
    assert torch.isfinite(numbers.log()).all()
    assert torch.isfinite((-numbers).log1p()).all()


def test_numbers_have_the_moments_of_their_distribution() -> None:
    noise = Noise(range(2000))
    normal, uniform = noise.normal(20), noise.uniform(20)
    assert normal.mean().item() == pytest.approx(0, abs=0.02)
    assert normal.std().item() == pytest.approx(1, abs=0.02)
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.01)
    # rows of neighbouring seeds are not alike
    assert torch.corrcoef(normal[:50]).fill_diagonal_(0).abs().max() < 0.9
