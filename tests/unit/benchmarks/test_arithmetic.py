"""Useful operations, counted from shapes, against those that torch counts while it computes them."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.engine.arithmetic import body_flops, head_flops, scoring_flops, step_flops
from benchmarks.engine.models import PAIRS, Pair, Shape, build
from benchmarks.engine.workload import samples

TOKENS = 64
FAMILIES: tuple[Literal["gpt2", "qwen2"], ...] = ("gpt2", "qwen2")
TINY: dict[Literal["gpt2", "qwen2"], Pair] = {
    family: Pair(
        name=family,
        family=family,
        vocabulary=512,
        teacher=Shape(layers=2, hidden=128),
        student=Shape(layers=1, hidden=64),
        max_length=TOKENS,
    )
    for family in FAMILIES
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_counted_operations_of_a_forward_pass_are_those_that_torch_counts(family: Literal["gpt2", "qwen2"]) -> None:
    pair = TINY[family]
    decoder = build(pair, "teacher", seed=0)
    # Of torch's own attention on a CPU nothing would be counted.
    decoder.model.set_attn_implementation("eager")
    counter = FlopCounterMode(display=False)

    with counter, torch.no_grad():
        decoder.model(input_ids=torch.zeros(1, TOKENS, dtype=torch.int64), use_cache=False)

    # torch counts the whole square of an attention, the arithmetic here the half that a causal mask leaves.
    unmasked_half = 2 * pair.teacher.layers * pair.teacher.hidden * TOKENS**2
    ours = body_flops(pair, pair.teacher, [TOKENS]) + head_flops(pair, pair.teacher, TOKENS) + unmasked_half
    assert counter.get_total_flops() == pytest.approx(ours, rel=0.005)


def test_a_step_costs_three_student_passes_and_one_of_the_teacher() -> None:
    pair = PAIRS["tiny"]
    drawn = samples(8, vocabulary=pair.vocabulary, max_length=pair.max_length, seed=0)
    tokens = [len(sample.input_ids) for sample in drawn]
    supervised = sum(sample.supervised for sample in drawn)
    teacher_head = head_flops(pair, pair.teacher, supervised)

    alone = step_flops(pair, drawn, teacher_body=False, teacher_head=False)

    assert alone == 3 * scoring_flops(pair, drawn)
    assert step_flops(pair, drawn, teacher_body=False) == alone + teacher_head
    assert step_flops(pair, drawn) == alone + teacher_head + body_flops(pair, pair.teacher, tokens)
