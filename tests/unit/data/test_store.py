from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import feather

from cpd_engine import checkpoint
from cpd_engine.data.encode import Sample
from cpd_engine.data.store import (
    SCHEMA,
    Samples,
    Subset,
    lengths,
    read_column,
    sample_writer,
    supervised,
    write_columns,
)
from cpd_engine.profile import DifficultyProfile

IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=4)


def _sample(name: str, row: int, ids: list[int], prompt_length: int) -> Sample:
    return Sample(id=name, row=row, input_ids=np.array(ids, dtype=np.int32), prompt_length=prompt_length)


CHUNKS = [
    [_sample("b", 0, [5, 6, 7], 1), _sample("é", 2, [1, 2], 1)],
    [],
    [_sample("a", 1030, list(range(300)), 299)],
]


def _store(path: Path, chunks: list[list[Sample]]) -> Samples:
    with sample_writer(path) as writer:
        for chunk in chunks:
            writer.write(chunk)
    return Samples(path)


def _values(sample: Sample) -> tuple[Any, ...]:
    return sample.id, sample.row, sample.input_ids.tolist(), sample.prompt_length


def test_samples_come_back_whatever_they_were_written_in(tmp_path: Path) -> None:
    samples = _store(tmp_path / "x.arrow", CHUNKS)
    written = [_values(sample) for chunk in CHUNKS for sample in chunk]
    assert len(samples) == 3
    assert [_values(sample) for sample in samples] == written
    assert [_values(samples[i]) for i in range(-3, 0)] == written
    assert [_values(samples[np.int64(2)])] == written[2:]  # type: ignore[call-overload]  # an index out of an order array
    assert [_values(sample) for sample in samples[1:]] == written[1:]
    with pytest.raises(IndexError):
        samples[3]


def test_what_is_counted_of_samples_needs_none_of_them(tmp_path: Path) -> None:
    samples = _store(tmp_path / "x.arrow", CHUNKS)
    assert samples.lengths.tolist() == [3, 2, 300]
    assert samples.prompt_lengths.tolist() == [1, 1, 299]
    assert samples.supervised.tolist() == [sample.supervised for sample in samples] == [2, 1, 1]
    assert samples.rows.tolist() == [0, 2, 1030]
    assert {counts.dtype for counts in (samples.lengths, samples.supervised, samples.rows)} == {np.dtype(np.int64)}


def test_the_lengths_of_a_store_are_those_of_the_same_samples_in_a_list(tmp_path: Path) -> None:
    samples = _store(tmp_path / "x.arrow", CHUNKS)
    assert lengths(list(samples)).tolist() == lengths(samples).tolist()
    assert supervised(list(samples)).tolist() == supervised(samples).tolist()


def test_ids_are_a_view_of_the_file_that_nobody_can_write_to(tmp_path: Path) -> None:
    samples = _store(tmp_path / "x.arrow", CHUNKS)
    before = pa.total_allocated_bytes()
    ids = [sample.input_ids for sample in samples]
    assert pa.total_allocated_bytes() == before
    assert not any(view.flags.writeable or view.flags.owndata for view in ids)
    with pytest.raises(ValueError, match="read-only"):
        ids[0][0] = 1
    assert torch.from_numpy(np.concatenate(ids).astype(np.int64)).sum() == sum(int(view.sum()) for view in ids)


def test_a_store_outlives_its_file_being_replaced(tmp_path: Path) -> None:
    samples = _store(tmp_path / "x.arrow", CHUNKS)
    (tmp_path / "x.arrow").unlink()
    assert _values(samples[0]) == _values(CHUNKS[0][0])


def test_a_store_of_nothing_is_empty(tmp_path: Path) -> None:
    samples = _store(tmp_path / "x.arrow", [])
    assert not samples
    assert [len(counts) for counts in (samples.lengths, samples.supervised, samples.rows, samples.id_ranks())] == [
        0
    ] * 4


def test_equal_samples_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _store(tmp_path / name, CHUNKS)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_file_is_plain_arrow(tmp_path: Path) -> None:
    _store(tmp_path / "x.arrow", CHUNKS)
    table = feather.read_table(tmp_path / "x.arrow")
    assert table.schema == SCHEMA
    assert table["input_ids"].to_pylist()[:2] == [[5, 6, 7], [1, 2]]


@settings(deadline=None)
@given(st.lists(st.tuples(IDS, st.integers(0, 3)), unique_by=lambda told: told[0], max_size=30))
def test_ranks_part_equal_scores_as_the_ids_do(
    tmp_path_factory: pytest.TempPathFactory, told: list[tuple[str, int]]
) -> None:
    names = [name for name, _ in told]
    written = [_sample(name, n, [1, 2], 1) for n, name in enumerate(names)]
    samples = _store(tmp_path_factory.mktemp("store") / "x.arrow", [written[:7], written[7:]])
    by_rank = DifficultyProfile.from_scores([score for _, score in told], samples.id_ranks())
    assert by_rank.order.tolist() == sorted(range(len(told)), key=lambda n: (told[n][1], names[n]))


def test_a_full_disk_is_known_as_one() -> None:
    with pytest.raises(OSError) as caught, sample_writer(Path("/dev/full")) as writer:
        writer.write([_sample("a", 0, list(range(100_000)), 1)])
    assert checkpoint.is_disk_full(caught.value)


def test_columns_are_read_back_and_read_by_others(tmp_path: Path) -> None:
    samples = _store(tmp_path / "x.arrow", CHUNKS)
    score = np.array([0.5, np.nan, np.inf])
    columns = {"id": samples.ids, "score": score, "tokens": np.array([1, 2, 3])}
    write_columns(tmp_path / "scores.arrow", columns, metadata={"difficulty": "ce_mean"})
    np.testing.assert_array_equal(read_column(tmp_path / "scores.arrow", "score"), score)
    assert read_column(tmp_path / "scores.arrow", "tokens").tolist() == [1.0, 2.0, 3.0]
    assert feather.read_table(tmp_path / "scores.arrow")["id"].to_pylist() == ["b", "é", "a"]


def test_a_subset_takes_what_it_is_asked_for() -> None:
    taken: list[int] = []

    class Seen(list[str]):
        def __getitem__(self, index: Any) -> Any:
            taken.append(index)
            return super().__getitem__(index)

    subset = Subset(Seen("abcdef"), np.array([5, 0, 3]))
    assert (len(subset), taken) == (3, [])
    assert (subset[0], subset[-1], list(subset[1:])) == ("f", "d", ["a", "d"])
    assert taken == [5, 3, 0, 3]
    assert list(subset) == ["f", "a", "d"]
    with pytest.raises(IndexError):
        subset[3]
