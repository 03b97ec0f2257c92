"""Stores: prepared tensors come back as they were written, in any order, with absent rows marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mmvae.core.noise import Noise
from mmvae.data.store import ColumnWriter, Store
from mmvae.modalities.text import Text


class Padded(Text):
    """A modality of which only collation is used."""

    def collate(self, tensors: Sequence[Tensor]) -> Tensor:
        return nn.utils.rnn.pad_sequence(list(tensors), batch_first=True, padding_value=-1)


def written(folder: Path, **columns: Sequence[Tensor | None]) -> Store:
    for name, rows in columns.items():
        writer = ColumnWriter(folder / f"train-{name}")
        for row in rows:
            writer.append(row)
        writer.close()
    return Store(folder, "train", {name: Padded(Text.Config()) for name in columns})


FIXED = [torch.full((2, 3), float(row)) for row in range(6)]
RAGGED = [torch.arange(row + 1) for row in range(6)]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64, torch.float16, torch.float32, torch.bool])
def test_tensors_of_one_shape_come_back_in_their_type(dtype: torch.dtype, tmp_path: Path) -> None:
    rows = [torch.randint(0, 2, (3, 4)).to(dtype) for _ in range(5)]
    batch = written(tmp_path, x=rows).batch([4, 0, 0, 3])
    assert batch.values["x"].dtype == dtype
    assert torch.equal(batch.values["x"], torch.stack([rows[i] for i in (4, 0, 0, 3)]))
    assert batch.present["x"].all()


def test_tensors_of_unlike_shapes_are_collated_by_their_modality(tmp_path: Path) -> None:
    batch = written(tmp_path, x=RAGGED).batch([3, 0, 1])
    assert batch.values["x"].tolist() == [[0, 1, 2, 3], [0, -1, -1, -1], [0, 1, -1, -1]]


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    has=st.lists(st.booleans(), min_size=1, max_size=8),
    ragged=st.booleans(),
    data=st.data(),
)
def test_any_rows_in_any_order_come_back_with_the_absent_marked(
    has: list[bool], ragged: bool, data: st.DataObject, tmp_path: Path
) -> None:
    rows = [(torch.arange(i + 1) if ragged else torch.tensor([i, i])) if here else None for i, here in enumerate(has)]
    store = written(tmp_path, x=rows)
    indices = data.draw(st.lists(st.integers(0, len(has) - 1), min_size=1, max_size=10))
    batch = store.batch(indices)
    assert batch.present["x"].tolist() == [has[i] for i in indices]
    expected = [rows[i] for i in indices if has[i]]
    assert len(batch.values["x"]) == len(expected)
    for found, row in zip(batch.values["x"], expected, strict=True):
        assert row is not None
        assert torch.equal(found[: len(row)], row)
        assert (found[len(row) :] == -1).all()


def test_columns_of_several_modalities_keep_their_rows_together(tmp_path: Path) -> None:
    store = written(tmp_path, x=[FIXED[0], None, FIXED[2]], y=[None, RAGGED[1], RAGGED[2]])
    assert len(store) == 3
    batch = store.batch([2, 1, 0])
    assert batch.values["x"][:, 0, 0].tolist() == [2, 0]
    assert batch.values["y"].tolist() == [[0, 1, 2], [0, 1, -1]]
    assert batch.present["x"].tolist() == [True, False, True]
    assert batch.present["y"].tolist() == [True, True, False]


def test_rows_of_one_shape_have_no_lengths_and_others_the_sum_over_modalities(tmp_path: Path) -> None:
    assert written(tmp_path, x=FIXED).lengths() is None
    lengths = written(tmp_path, x=FIXED[:3], y=[None, RAGGED[1], RAGGED[4]], z=RAGGED[:3]).lengths()
    assert lengths is not None
    assert lengths.tolist() == [1, 4, 8]
    # beside pictures a few words need not be sorted, which would put rows of one kind into a batch
    pictures = [torch.zeros(1000)] * 3
    assert written(tmp_path, x=pictures, y=[RAGGED[0], RAGGED[1], RAGGED[4]]).lengths() is None
    few = [torch.zeros(200)] * 40
    assert written(tmp_path, x=few, y=[torch.arange(20), torch.arange(24), *[None] * 38]).lengths() is None


def test_the_numbers_of_a_row_are_those_of_all_its_modalities(tmp_path: Path) -> None:
    store = written(tmp_path, x=[FIXED[0], None, FIXED[2]], y=[None, RAGGED[1], RAGGED[4]])
    assert store.numbers().tolist() == [FIXED[0].numel(), 2, FIXED[2].numel() + 5]


def test_a_modality_that_no_row_has_is_an_empty_column(tmp_path: Path) -> None:
    batch = written(tmp_path, x=FIXED[:2], y=[None, None]).batch([0, 1])
    assert len(batch.values["y"]) == 0
    assert not batch.present["y"].any()


def test_a_tensor_unlike_the_first_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    writer = ColumnWriter(tmp_path / "train-x")
    writer.append(torch.zeros(2))
    for wrong in (torch.zeros(2, dtype=torch.int32), torch.zeros(1, 2)):
        with pytest.raises(ValueError, match="among float32 of 1 axes"):
            writer.check(wrong)
    writer.check(torch.ones(2))
    writer.append(torch.ones(2))
    writer.close()
    store = Store(tmp_path, "train", {"x": Padded(Text.Config())})
    assert len(store) == 2
    assert store.batch([1]).values["x"].tolist() == [[1, 1]]


def test_reading_changes_no_file(tmp_path: Path) -> None:
    store = written(tmp_path, x=FIXED)
    before = (tmp_path / "train-x.bin").read_bytes()
    store.batch([0, 1]).values["x"].add_(1)
    store.columns["x"].data.add_(1)  # mapped copy-on-write
    assert (tmp_path / "train-x.bin").read_bytes() == before


def test_a_view_is_written_as_it_looks(tmp_path: Path) -> None:
    turned = torch.arange(6).view(2, 3).T
    assert torch.equal(written(tmp_path, x=[turned]).batch([0]).values["x"][0], turned)


def test_numbers_without_an_axis_are_kept(tmp_path: Path) -> None:
    assert written(tmp_path, x=[torch.tensor(3.0), torch.tensor(4.0)]).batch([1, 0]).values["x"].tolist() == [4, 3]


def test_long_rows_are_measured_a_few_at_a_time(tmp_path: Path) -> None:
    store = written(tmp_path, x=[torch.zeros(2**10, 2**10)] * 3)
    assert store.at_once(256) == 8
    assert written(tmp_path, x=FIXED[:2]).at_once(256) == 256
    assert written(tmp_path, x=[torch.zeros(2**13, 2**11)] * 2).at_once(256) == 1


class Drawn(Padded):
    """Rows that stand for more than one observation."""

    drawn = True  # type: ignore[invalid-attribute-override]

    def draw(self, values: Tensor, u: Tensor) -> Tensor:
        return (u < values).float()


def test_what_a_row_stands_for_is_drawn_by_its_own_seed(tmp_path: Path) -> None:
    rows: list[Tensor | None] = [None if row == 2 else torch.full((50,), row / 5) for row in range(6)]
    written(tmp_path, x=rows)
    store = Store(tmp_path, "train", {"x": Drawn(Text.Config())})
    indices = torch.tensor([5, 2, 3, 0])
    values = store.observed(indices, Noise([7, 8, 9, 10])).values["x"]
    assert values[0].all()
    assert 0 < values[1].sum() < 50
    assert not values[2].any()
    assert torch.equal(store.observed(indices[2:], Noise([9, 10])).values["x"], values[1:])
    assert not torch.equal(store.observed(indices[2:], Noise([11, 10])).values["x"], values[1:])


def test_a_row_without_a_modality_that_is_drawn_has_the_same_noise_in_any_batch(tmp_path: Path) -> None:
    written(tmp_path, x=[torch.full((50,), 0.5), None])
    store = Store(tmp_path, "train", {"x": Drawn(Text.Config())})
    left = []
    for rows in ([1], [0, 1]):
        noise = Noise([8, 9][-len(rows) :])
        store.observed(torch.tensor(rows), noise)
        left.append(noise.normal(4)[-1])
    assert torch.equal(*left)
