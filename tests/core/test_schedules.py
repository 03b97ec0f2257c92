"""Schedules: pure curves from 0 to 1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mmvae.core.registry import Settings
from mmvae.core.schedules import Constant, Cosine, Cyclical, Linear, Schedule, Sigmoid, schedules

steps = st.integers(0, 10**7)
lengths = st.integers(1, 10**5)


def cyclical(period: int = 100, cycles: int = 3, rise: float = 0.5) -> Cyclical:
    return Cyclical(Cyclical.Config(period=period, cycles=cycles, rise=rise))


@given(step=steps, length=lengths, cycles=st.integers(1, 10), rise=st.floats(0.01, 1))
def test_every_schedule_is_pure_and_stays_between_0_and_1(step: int, length: int, cycles: int, rise: float) -> None:
    curves: list[Schedule] = [
        Constant(Constant.Config()),
        Linear(Linear.Config(warmup=length)),
        Sigmoid(Sigmoid.Config(warmup=length)),
        Cosine(Cosine.Config(warmup=length)),
        cyclical(length, cycles, rise),
    ]
    for curve in curves:
        first = curve(step)
        curve(step + 7)
        assert 0 <= first <= 1
        assert curve(step) == first


@given(length=lengths, data=st.data())
def test_ramps_never_fall_and_end_at_1(length: int, data: st.DataObject) -> None:
    for kind in (Linear, Sigmoid, Cosine):
        curve = kind(kind.Config(warmup=length))
        step = data.draw(st.integers(0, 2 * length))
        assert curve(step) <= curve(step + 1)
        assert curve(100 * length) == pytest.approx(1)


def test_constant_is_1() -> None:
    assert [Constant(Constant.Config())(step) for step in (0, 1, 10**9)] == [1.0, 1.0, 1.0]


def test_linear_rises_evenly_over_its_warmup() -> None:
    curve = Linear(Linear.Config(warmup=200))
    assert [curve(step) for step in (0, 50, 100, 200, 201)] == [0.0, 0.25, 0.5, 1.0, 1.0]


def test_sigmoid_is_one_half_at_the_middle_and_symmetric_about_it() -> None:
    curve = Sigmoid(Sigmoid.Config(warmup=200))
    assert curve(100) == 0.5
    assert curve(0) == pytest.approx(0.0025, abs=1e-4)
    assert curve(200) == pytest.approx(0.9975, abs=1e-4)
    for offset in (10, 60, 99):
        assert curve(100 - offset) + curve(100 + offset) == pytest.approx(1)


def test_cyclical_starts_again_at_each_period_and_stays_at_1_after_the_last() -> None:
    curve = cyclical(period=100, cycles=3, rise=0.5)
    for start in (0, 100, 200):
        assert [curve(start + step) for step in (0, 25, 50, 99)] == [0.0, 0.5, 1.0, 1.0]
    assert curve(300) == curve(10**6) == 1.0


@pytest.mark.parametrize(
    ("config", "values"),
    [(Linear.Config, {"warmup": 0}), (Sigmoid.Config, {"warmup": -1}), (Cyclical.Config, {"rise": 0.0})],
)
def test_lengths_that_make_no_sense_are_refused(config: type[Settings], values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        config(**values)


def test_schedules_are_known_by_name() -> None:
    assert schedules.names() == ["constant", "cosine", "cyclical", "linear", "sigmoid"]
    assert schedules.get("cyclical") is Cyclical


def test_cosine_is_slow_at_both_ends() -> None:
    curve = Cosine(Cosine.Config(warmup=100))
    assert (curve(0), curve(50), curve(100), curve(101)) == (0.0, pytest.approx(0.5), 1.0, 1.0)
    assert curve(10) < 0.03
    assert curve(90) > 0.97


def test_a_cycle_may_begin_with_a_phase_at_0() -> None:
    curve = Cyclical(Cyclical.Config(period=100, cycles=2, zero=0.5, rise=0.25))
    assert [curve(step) for step in (0, 50, 75, 99, 100, 150, 175, 200)] == [0, 0, 1, 1, 0, 0, 1, 1]
    assert curve(60) == pytest.approx(0.4)
