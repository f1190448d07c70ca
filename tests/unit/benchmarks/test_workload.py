"""The benchmark's samples: the same ones every time, with Dolly's lengths."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tokenizers import Tokenizer

from benchmarks.engine.models import PAIRS
from benchmarks.engine.setting import Setting
from benchmarks.engine.workload import batches, lengths, samples
from cpd_engine.data.encode import PAPER_TEMPLATE, Sample
from tests.shared_data import shared_data


def test_the_same_seed_draws_the_same_samples() -> None:
    once = samples(16, vocabulary=1000, max_length=128, seed=3)
    again = samples(16, vocabulary=1000, max_length=128, seed=3)
    other = samples(16, vocabulary=1000, max_length=128, seed=4)

    assert all(np.array_equal(a.input_ids, b.input_ids) for a, b in zip(once, again, strict=True))
    assert [s.prompt_length for s in once] == [s.prompt_length for s in again]
    assert any(not np.array_equal(a.input_ids, b.input_ids) for a, b in zip(once, other, strict=True))


@pytest.mark.parametrize("max_length", [48, 256, 512])
def test_every_sample_fits_and_has_a_prompt_and_a_supervised_token(max_length: int) -> None:
    drawn = lengths(64, max_length, seed=1)

    assert drawn.min() >= 1
    assert drawn.sum(axis=1).max() <= max_length


def test_sorted_batches_hold_the_samples_of_the_random_ones() -> None:
    drawn = samples(32, vocabulary=1000, max_length=512, seed=1)

    by_chance, by_length = batches(drawn, "random", 8), batches(drawn, "sorted", 8)

    assert sorted(s.row for batch in by_chance for s in batch) == sorted(s.row for batch in by_length for s in batch)
    assert _padded_tokens(by_length) < 0.8 * _padded_tokens(by_chance)


def test_a_warm_up_shares_no_row_with_the_measured_steps() -> None:
    setting = Setting(pair=PAIRS["tiny"], order="random", steps=2, threads=1)

    rows = [sample.row for batch in [setting.warm_up(), *setting.batches()] for sample in batch]

    assert len(rows) == len(set(rows)) == 24


def test_the_table_of_lengths_is_that_of_dolly() -> None:
    lines = shared_data("dolly", "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[::5]]
    tokenizer = Tokenizer.from_file(str(shared_data("tokenizers", "gpt2", "tokenizer.json")))
    prompts = tokenizer.encode_batch(
        [PAPER_TEMPLATE.format(instruction=r["instruction"], input=r["input"]) for r in rows]
    )
    responses = tokenizer.encode_batch([r["output"] for r in rows])
    real_N2 = np.array([(len(p.ids), len(r.ids) + 1) for p, r in zip(prompts, responses, strict=True)])
    cut_N = np.minimum(real_N2.sum(axis=1), 512)

    drawn_N2 = lengths(1024, 512, seed=1)

    assert drawn_N2.sum(axis=1).mean() == pytest.approx(cut_N.mean(), rel=0.05)
    assert drawn_N2[:, 1].mean() == pytest.approx((cut_N - real_N2[:, 0]).mean(), rel=0.05)
    assert np.quantile(drawn_N2[:, 1], 0.9) == pytest.approx(np.quantile(real_N2[:, 1], 0.9), rel=0.05)


def _padded_tokens(made: list[list[Sample]]) -> int:
    return sum(len(batch) * max(len(sample.input_ids) for sample in batch) for batch in made)
