"""Splits: disjoint, complete, and a function of the data's seed alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmvae.data.rows import Rows, Selection, Source
from mmvae.data.splits import make_splits
from mmvae.tables import Data


def splits(settings: dict[str, Any] | None = None, **declared: int) -> dict[str, list[int]]:
    """Row numbers by split for a source whose declared splits have so many rows."""
    rows = {name: Rows([{"x": i} for i in range(count)], ("x",), "here") for name, count in declared.items()}
    made = make_splits(Source(rows, "print"), Data(path="here", **(settings or {})))
    return {name: cells(selection) for name, selection in made.items()}


def cells(selection: Selection) -> list[int]:
    return [selection.cell(i, "x") for i in range(len(selection))]


@given(rows=st.integers(3, 300), validation=st.floats(0, 0.4), test=st.floats(0, 0.4), seed=st.integers(0, 2**31))
def test_made_splits_share_no_row_and_miss_none(rows: int, validation: float, test: float, seed: int) -> None:
    made = splits({"validation": validation, "test": test, "seed": seed}, train=rows)
    assert sorted(row for part in made.values() for row in part) == list(range(rows))
    assert made.keys() == {"train", *(["validation"] if validation else []), *(["test"] if test else [])}
    for name, share in (("validation", validation), ("test", test)):
        if share:
            assert len(made[name]) == max(1, round(share * rows), min(20, rows // 10))


@given(rows=st.integers(30, 300), files=st.integers(10, 30), seed=st.integers(0, 2**31))
def test_rows_of_one_file_stay_in_one_split(rows: int, files: int, seed: int) -> None:
    origins = [Path(f"{i % files}.png") for i in range(rows)]
    held = Rows([{"x": i} for i in range(rows)], ("x",), "here", origins=origins)
    made = make_splits(Source({"train": held}, "print"), Data(path="here", seed=seed))
    found = {name: {x % files for x in cells(selection)} for name, selection in made.items()}
    assert sum(map(len, found.values())) == files
    assert sorted(x for selection in made.values() for x in cells(selection)) == list(range(rows))
    assert all(len(made[name]) >= max(1, rows // 20) for name in ("validation", "test"))


def test_rows_of_one_value_of_a_column_stay_in_one_split_and_rows_without_one_are_free() -> None:
    told = [{"x": i, "speaker": None if i >= 90 else float(i % 30)} for i in range(100)]
    source = Source({"train": Rows(told, ("x", "speaker"), "here")}, "print")
    made = make_splits(source, Data(path="here", group="speaker"))
    heard = [{x % 30 for x in cells(part) if x < 90} for part in made.values()]
    assert sum(map(len, heard)) == 30
    assert sorted(x for part in made.values() for x in cells(part)) == list(range(100))
    with pytest.raises(ValueError, match=r"data\.group: here has no column 'voice'; it has x, speaker"):
        make_splits(source, Data(path="here", group="voice"))


def test_the_same_seed_makes_the_same_splits_and_another_others() -> None:
    first, again, other = (splits({"seed": seed}, train=100) for seed in (0, 0, 1))
    assert first == again
    assert first["test"] != other["test"]


def test_rows_are_shuffled_before_they_are_split() -> None:
    assert splits(train=100)["validation"] != list(range(100))[-10:]
    assert max(splits(train=100)["test"]) - min(splits(train=100)["test"]) > 20


def test_declared_splits_are_kept_and_missing_ones_come_out_of_training() -> None:
    made = splits(train=50, test=7)
    assert made["test"] == list(range(7))
    assert sorted(made["train"] + made["validation"]) == list(range(50))
    assert splits(train=50, validation=5, test=7)["train"] == list(range(50))


def test_a_limit_applies_to_each_split() -> None:
    made = splits({"limit": 4}, train=100, test=50)
    assert {name: len(rows) for name, rows in made.items()} == {"train": 4, "validation": 4, "test": 4}


def test_a_limit_keeps_the_splits_disjoint() -> None:
    made = splits({"limit": 5}, train=100)
    assert len({row for rows in made.values() for row in rows}) == 15


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_too_few_rows_for_three_splits_are_refused(rows: int) -> None:
    with pytest.raises(ValueError, match=f"^here has {rows} {'row' if rows == 1 else 'rows'}: too few"):
        splits(train=rows)


def test_a_selection_names_its_rows_by_their_place_in_the_source() -> None:
    rows = Rows([{"x": i} for i in range(5)], ("x",), "a.csv")
    assert rows.select([4, 0]).where(0) == "a.csv, row 5"


def test_rows_without_a_file_are_split_one_by_one() -> None:
    origins = [Path(f"{i}.png") if i < 30 else None for i in range(100)]
    held = Rows([{"x": i} for i in range(100)], ("x",), "here", origins=origins)
    made = make_splits(Source({"train": held}, "print"), Data(path="here"))
    assert {name: len(selection) for name, selection in made.items()} == {"train": 80, "validation": 10, "test": 10}
