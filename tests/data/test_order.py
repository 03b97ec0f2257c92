"""Order: which rows each step takes is a pure function of seed and step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmvae.data.store import Order

LENGTHS = torch.randint(1, 200, (500,), generator=torch.Generator().manual_seed(0))


def taken(order: Order, steps: int) -> Tensor:
    return torch.cat([order(step) for step in range(steps)])


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 60), batch=st.integers(1, 70), seed=st.integers(0, 2**63 - 1))
def test_every_epoch_is_a_permutation_of_the_rows(rows: int, batch: int, seed: int) -> None:
    steps = -(-3 * rows // batch)
    sequence = taken(Order(rows, batch, seed), steps)[: 3 * rows]
    for epoch in sequence.split(rows):
        assert sorted(epoch.tolist()) == list(range(rows))


def test_rows_that_come_more_often_do_so_in_every_epoch_and_one_scale_for_all_is_none() -> None:
    times = 1 + 3 * (torch.arange(100) < 20)
    sequence = taken(Order(100, 40, 1, times=times), 8)
    for epoch in sequence.split(160):
        assert torch.equal(epoch.bincount(minlength=100), times)
    assert torch.equal(taken(Order(100, 40, 1, times=torch.full((100,), 4)), 8), taken(Order(100, 40, 1), 8))
    twice = Order(640, 32, 1, torch.arange(640), times=1 + (torch.arange(640) < 320))  # sorted within windows
    assert torch.equal(taken(twice, 30).bincount(minlength=640), twice.times)
    shared = sum(len(twice(step)) - len(twice(step).unique()) for step in range(120))
    assert shared < 0.05 * 120 * 32


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    first, second = taken(Order(100, 50, seed=1), 4).split(100)
    other = taken(Order(100, 50, seed=5), 2)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


@settings(deadline=None, max_examples=40)
@given(steps=st.lists(st.integers(0, 400), min_size=1, max_size=12), ragged=st.booleans())
def test_a_step_takes_the_same_rows_whatever_was_asked_before(steps: list[int], ragged: bool) -> None:
    lengths = LENGTHS if ragged else None
    for batch in (7, 32):
        order = Order(500, batch, 3, lengths)
        for step in steps:
            assert torch.equal(order(step), Order(500, batch, 3, lengths)(step))


def test_every_step_has_a_full_batch_of_rows_of_one_length() -> None:
    order = Order(500, 32, 0)
    assert {len(order(step)) for step in range(100)} == {32}


def test_batches_of_rows_of_unlike_length_hold_as_many_numbers() -> None:
    order = Order(500, 32, 0, LENGTHS)
    batches = [order(step) for step in range(10 * order.window)]
    rows = torch.tensor([len(batch) for batch in batches])
    assert rows.double().mean() == 32
    assert rows.min() >= 16
    assert rows.max() <= 72
    numbers = torch.stack([LENGTHS[batch].sum() for batch in batches]).double()
    sorted_rows = LENGTHS.sort().values.split(32)
    alike = torch.stack([part.sum() for part in sorted_rows[:-1]]).double()
    assert numbers.std() / numbers.mean() < 0.4 < alike.std() / alike.mean()


def test_rows_that_hold_much_else_are_shared_by_that() -> None:
    order = Order(500, 32, 0, LENGTHS, LENGTHS + 100_000)
    assert {len(order(step)) for step in range(100)} == {32}


@pytest.mark.parametrize("lengths", [LENGTHS, LENGTHS**3, torch.ones(500, dtype=torch.long)])
@pytest.mark.parametrize(("batch_size", "processes"), [(1, 1), (8, 1), (8, 4), (32, 2), (64, 8), (48, 3)])
def test_processes_have_equal_parts_of_the_rows_that_one_would_take(
    lengths: Tensor, batch_size: int, processes: int
) -> None:
    order = Order(500, batch_size, 0, lengths, processes=processes)
    alone = Order(500, batch_size, 0, lengths)
    for step in range(100):
        rows = order(step)
        assert len(rows) % processes == 0
        assert max(1, batch_size // 2 - 8) <= len(rows) <= 2 * batch_size + 8
        assert processes == 3 or torch.equal(rows, alone(step))


@pytest.mark.parametrize(("batch", "rows"), [(5, 500), (32, 2000)])
def test_a_window_of_rows_of_unlike_length_is_the_rows_of_the_plain_order(batch: int, rows: int) -> None:
    lengths, window = LENGTHS.repeat(rows // 500), Order.WINDOW
    plain, bucketed = Order(rows, batch, 9), Order(rows, batch, 9, lengths)
    for start in (0, window, 2 * window):
        steps = range(start, start + window)
        ours, theirs = (torch.cat([order(step) for step in steps]).sort().values for order in (bucketed, plain))
        assert torch.equal(ours, theirs)


def test_rows_of_unlike_length_are_each_taken_once_an_epoch() -> None:
    # 500 rows in batches of 5 are 100 steps, of which 96 make three whole windows: count over 8 epochs, 25 windows
    counts = taken(Order(500, 5, 9, LENGTHS), 800).bincount(minlength=500)
    assert (counts == 8).all()


def padding(order: Order, steps: int) -> float:
    """The share of padding in the batches."""
    lengths = [LENGTHS[order(step)] for step in range(steps)]
    widest = sum(int(batch.max()) * len(batch) for batch in lengths)
    return 1 - sum(int(batch.sum()) for batch in lengths) / widest


def test_batches_hold_rows_of_like_length() -> None:
    assert padding(Order(500, 8, 0), 62) > 0.4
    assert padding(Order(500, 8, 0, LENGTHS), 62) < 0.1


def test_batches_of_a_window_do_not_come_by_length() -> None:
    order = Order(500, 8, 0, LENGTHS)
    means = torch.stack([LENGTHS[order(step)].float().mean() for step in range(Order.WINDOW)])
    place = torch.arange(Order.WINDOW).float()
    assert torch.corrcoef(torch.stack([means, place]))[0, 1].abs() < 0.5


@pytest.mark.parametrize(("rows", "batch_size"), [(200, 64), (82, 16), (1000, 64), (10, 16)])
def test_no_batch_of_a_small_set_is_full_of_copies(rows: int, batch_size: int) -> None:
    order = Order(rows, batch_size, 0, LENGTHS[torch.arange(rows) % len(LENGTHS)])
    for step in range(20):
        # a batch may hold the end of one epoch and the start of the next
        assert order(step).bincount().max() <= 1 + -(-batch_size // rows)
