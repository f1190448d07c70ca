from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cpd_engine.data.batches import epoch_batches, pack, pad, parts
from cpd_engine.data.encode import Sample


def _sample(row: int, length: int, prompt_length: int) -> Sample:
    return Sample(id=str(row), row=row, input_ids=np.arange(1, length + 1, dtype=np.int32), prompt_length=prompt_length)


def test_padding_is_told_by_the_mask_whatever_id_fills_it() -> None:
    samples = [_sample(4, 5, 3), _sample(2, 3, 1)]
    for pad_id in (0, 2):
        batch = pad(samples, pad_id)
        assert batch.input_ids.tolist() == [[1, 2, 3, 4, 5], [1, 2, 3, pad_id, pad_id]]
        assert batch.attention_mask is not None
        assert batch.attention_mask.tolist() == [[True] * 5, [True] * 3 + [False] * 2]
        assert batch.predicting.tolist() == [2, 3, 5, 6]
        assert batch.targets.tolist() == [4, 5, 2, 3]
        assert (batch.supervised, batch.sample_rows, batch.tokens) == ((2, 2), (4, 2), 10)
        assert batch.input_ids.dtype == batch.targets.dtype == torch.int64


def test_a_pack_has_no_padding_and_every_sample_begins_at_position_0() -> None:
    batch = pack([_sample(4, 5, 3), _sample(2, 3, 1)])
    assert batch.input_ids.tolist() == [[1, 2, 3, 4, 5, 1, 2, 3]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 0, 1, 2]]
    assert batch.segments is not None
    assert (batch.segments.bounds, batch.segments.longest) == ((0, 5, 8), 5)
    assert batch.segments.starts.tolist() == [0, 5, 8]
    assert (batch.attention_mask, batch.tokens) == (None, 8)


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 12)), min_size=1, max_size=8))
def test_packed_and_padded_supervise_the_same_tokens_in_the_same_order(shapes: list[tuple[int, int]]) -> None:
    samples = [_sample(row, length, min(prompt, length)) for row, (length, prompt) in enumerate(shapes)]
    one, other = pack(samples), pad(samples)
    assert one.targets.tolist() == other.targets.tolist()
    assert one.supervised == other.supervised
    assert sum(one.supervised) == len(one.predicting) == len(other.predicting)
    for batch in (one, other):
        # The state before a supervised token predicts it.
        assert torch.equal(batch.input_ids.flatten()[batch.predicting + 1], batch.targets)


def test_the_first_token_of_a_sample_is_never_supervised() -> None:
    for batch in (pack([_sample(0, 4, 0)]), pad([_sample(0, 4, 0)])):
        assert batch.targets.tolist() == [2, 3, 4]


@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 16), st.integers(0, 2**31 - 1), st.integers(1, 20))
def test_an_epoch_visits_the_subset_repeat_times_in_the_planned_steps(
    subset_size: int, repeat: int, batch_size: int, seed: int, epoch: int
) -> None:
    subset = np.arange(subset_size, dtype=np.int64) * 3
    batches = epoch_batches(subset, repeat=repeat, batch_size=batch_size, seed=seed, epoch=epoch)
    assert len(batches) == math.ceil(repeat * subset_size / batch_size)
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert sorted(np.concatenate(batches).tolist()) == sorted(subset.tolist() * repeat)


@given(st.integers(1, 60), st.integers(1, 16), st.integers(1, 300))
def test_an_epoch_of_more_visits_shuffles_the_subset_anew_and_stops_in_time(
    subset_size: int, batch_size: int, visits: int
) -> None:
    subset = np.arange(subset_size, dtype=np.int64)
    batches = epoch_batches(subset, repeat=1, batch_size=batch_size, seed=1, epoch=1, visits=visits)
    order = np.concatenate(batches)
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert len(order) == visits
    counts = np.bincount(order, minlength=subset_size)
    assert counts.max() - counts.min() <= 1


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        subset = np.arange(100, dtype=np.int64)
        found: list[int] = np.concatenate(
            epoch_batches(subset, repeat=1, batch_size=8, seed=seed, epoch=epoch)
        ).tolist()
        return found

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (1, 2)}) == 4


@given(
    st.lists(st.integers(1, 99), min_size=1, max_size=40),
    st.integers(16, 400),
    st.none() | st.integers(1, 9),
    st.booleans(),
)
def test_parts_hold_every_sample_once_within_their_limits(
    lengths: list[int], tokens: int, samples: int | None, padded: bool
) -> None:
    found = [part.tolist() for part in parts(lengths, tokens=tokens, samples=samples, padded=padded)]
    assert sorted(index for part in found for index in part) == list(range(len(lengths)))
    flat = [lengths[index] for part in found for index in part]
    assert flat == sorted(lengths, reverse=True)
    for part in found:
        taken = len(part) * lengths[part[0]] if padded else sum(lengths[index] for index in part)
        assert len(part) == 1 or taken <= tokens
        assert samples is None or len(part) <= samples


def test_parts_are_alike_in_length_the_longest_first() -> None:
    found = [part.tolist() for part in parts([40, 91, 6, 88, 7, 90, 5], tokens=1000, samples=3, padded=False)]
    assert found == [[1, 5, 3], [0, 4, 2], [6]]
