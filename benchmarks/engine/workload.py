"""Samples whose lengths are distributed like Dolly's, in batches drawn at random or sorted by length; prompts are masked.

The table below was taken from the 11,435 training rows of Dolly as MiniLLM split them, in the paper's template, with GPT-2's tokenizer:
every twentieth, from shortest to longest. Prompt and response lengths are drawn apart (their correlation is −.10).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cpd_engine.data.encode import Sample
from cpd_engine.repro import derived_seed

Order = Literal["random", "sorted"]

# Quantiles at 0, .05 … .95, and the upper ones at .97, .98, .99 and 1.
_LEVELS = (*(step / 20 for step in range(20)), 0.97, 0.98, 0.99, 1.0)
_PROMPT_TOKENS = (37, 42, 43, 44, 44, 45, 46, 47, 47, 48, 50, 51, 53, 56, 63, 73, 94, 133, 170, 204, 219, 230, 240, 253)
_RESPONSE_TOKENS = (
    2,
    5,
    9,
    13,
    15,
    19,
    24,
    28,
    33,
    38,
    45,
    52,
    60,
    70,
    82,
    95,
    111,
    136,
    173,
    255,
    337,
    407,
    567,
    4304,
)

# What a warm-up step reads: enough to run every path once, too little to move a peak of memory.
_WARM_UP = (24, 1)


def lengths(samples: int, max_length: int, seed: int) -> NDArray[np.int64]:
    """Prompt and response tokens [samples, 2], response cut so that no sum exceeds `max_length` (and at least 1).

    Stratified: one draw at the middle of every `samples`th part of each distribution, so that a few batches stand for all.
    """
    generator = np.random.default_rng(derived_seed(seed, "benchmark", "lengths"))
    middles = (np.arange(samples) + 0.5) / samples
    prompts = np.interp(generator.permutation(middles), _LEVELS, _PROMPT_TOKENS)
    responses = np.interp(generator.permutation(middles), _LEVELS, _RESPONSE_TOKENS)
    prompts_N = np.minimum(prompts.round().astype(np.int64), max_length - 1)
    responses_N = np.minimum(responses.round().astype(np.int64), max_length - prompts_N)
    return np.stack([prompts_N, responses_N], axis=1)


def samples(count: int, *, vocabulary: int, max_length: int, seed: int) -> list[Sample]:
    """Samples of uniformly drawn ids; their order is random."""
    generator = np.random.default_rng(derived_seed(seed, "benchmark", "ids"))
    return [
        _sample(row, int(prompt), int(response), vocabulary, generator)
        for row, (prompt, response) in enumerate(lengths(count, max_length, seed))
    ]


def batches(drawn: list[Sample], order: Order, batch_size: int) -> list[list[Sample]]:
    """Optimizer steps of `batch_size` samples, as drawn or sorted from the longest sample to the shortest."""
    placed = drawn if order == "random" else sorted(drawn, key=lambda sample: (-len(sample.input_ids), sample.row))
    return [placed[start : start + batch_size] for start in range(0, len(placed), batch_size)]


def warm_up(batch_size: int, *, first_row: int, vocabulary: int, seed: int) -> list[Sample]:
    """One batch of short samples, with rows from `first_row` on."""
    generator = np.random.default_rng(derived_seed(seed, "benchmark", "warm-up"))
    return [_sample(first_row + index, *_WARM_UP, vocabulary, generator) for index in range(batch_size)]


def _sample(row: int, prompt: int, response: int, vocabulary: int, generator: np.random.Generator) -> Sample:
    ids = generator.integers(0, vocabulary, size=prompt + response, dtype=np.int32)
    return Sample(id=f"row-{row}", row=row, input_ids=ids, prompt_length=prompt)
