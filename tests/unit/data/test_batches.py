from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cpd_engine.data.batches import collate, epoch_batches, micro_batches
from cpd_engine.data.encode import Sample


def _sample(row: int, length: int, prompt_length: int) -> Sample:
    return Sample(id=str(row), row=row, input_ids=np.arange(1, length + 1, dtype=np.int32), prompt_length=prompt_length)


def test_padding_is_told_by_the_mask_whatever_id_fills_it() -> None:
    samples = [_sample(4, 5, 3), _sample(2, 3, 1)]
    for pad_id in (0, 2):
        batch = collate(samples, pad_id)
        assert batch.input_ids.tolist() == [[1, 2, 3, 4, 5], [1, 2, 3, pad_id, pad_id]]
        assert batch.attention_mask.tolist() == [[True] * 5, [True] * 3 + [False] * 2]
        assert batch.supervised.tolist() == [[False] * 3 + [True] * 2, [False, True, True, False, False]]
        assert (batch.supervised_tokens, batch.sample_rows) == (4, (4, 2))
        assert batch.input_ids.dtype == torch.int64


def test_supervised_tokens_of_a_batch_are_those_of_its_samples() -> None:
    samples = [_sample(i, length, prompt) for i, (length, prompt) in enumerate([(9, 4), (7, 6), (3, 1)])]
    assert collate(samples).supervised_tokens == sum(sample.supervised for sample in samples)


@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 16), st.integers(0, 2**31 - 1), st.integers(1, 20))
def test_an_epoch_visits_the_subset_repeat_times_in_the_planned_steps(
    subset_size: int, repeat: int, batch_size: int, seed: int, epoch: int
) -> None:
    subset = np.arange(subset_size, dtype=np.int64) * 3
    batches = epoch_batches(subset, repeat=repeat, batch_size=batch_size, seed=seed, epoch=epoch)
    assert len(batches) == math.ceil(repeat * subset_size / batch_size)
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert sorted(np.concatenate(batches).tolist()) == sorted(subset.tolist() * repeat)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        subset = np.arange(100, dtype=np.int64)
        found: list[int] = np.concatenate(
            epoch_batches(subset, repeat=1, batch_size=8, seed=seed, epoch=epoch)
        ).tolist()
        return found

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (1, 2)}) == 4


def test_micro_batches_are_alike_in_length_and_lose_nobody() -> None:
    lengths = [5, 90, 7, 88, 6, 91, 40]
    batch = np.array([6, 5, 4, 3, 2, 1, 0])
    parts = [part.tolist() for part in micro_batches(batch, lengths, 3)]
    assert parts == [[5, 1, 3], [6, 2, 4], [0]]


@pytest.mark.parametrize("size", [None, 7, 100])
def test_a_step_that_fits_is_one_micro_batch(size: int | None) -> None:
    batch = np.arange(7)
    (whole,) = micro_batches(batch, [1] * 7, size)
    np.testing.assert_array_equal(whole, batch)
