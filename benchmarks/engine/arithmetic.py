"""Floating-point operations that the result needs, counted from shapes: what is left when nothing is padded or computed twice.

A multiplication with its addition counts 2. A weight of a matrix costs 2 a token in the forward pass and 4 in the backward pass; causal
attention over T tokens costs 2·T²·D a layer for both of its products, since half of the square is enough. Norms, activations, softmax and
the optimizer are left out. Heads are applied to supervised tokens only.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.engine.models import Pair, Shape, mlp_width
from cpd_engine.data.encode import Sample

_FORWARD, _WITH_BACKWARD = 1, 3


def body_flops(pair: Pair, shape: Shape, tokens: Sequence[int]) -> int:
    """One forward pass of the layers over sequences of so many tokens."""
    matrices = 3 if pair.family == "qwen2" else 2
    weights = shape.layers * (4 * shape.hidden**2 + matrices * shape.hidden * mlp_width(pair.family, shape.hidden))
    attention = 2 * shape.layers * shape.hidden * sum(count**2 for count in tokens)
    return 2 * weights * sum(tokens) + attention


def head_flops(pair: Pair, shape: Shape, supervised: int) -> int:
    """One forward pass of the output head over so many supervised tokens."""
    return 2 * shape.hidden * pair.vocabulary * supervised


def step_flops(pair: Pair, samples: Sequence[Sample], *, teacher_body: bool = True, teacher_head: bool = True) -> int:
    """Useful operations of optimizer steps on these samples; a cached teacher has no body, plain cross-entropy no teacher at all."""
    tokens = [len(sample.input_ids) for sample in samples]
    supervised = sum(sample.supervised for sample in samples)
    student = body_flops(pair, pair.student, tokens) + head_flops(pair, pair.student, supervised)
    taught = teacher_head * head_flops(pair, pair.teacher, supervised)
    taught += teacher_body * body_flops(pair, pair.teacher, tokens)
    return _WITH_BACKWARD * student + _FORWARD * taught


def scoring_flops(pair: Pair, samples: Sequence[Sample]) -> int:
    """Useful operations of one pass of the student over these samples without gradients."""
    tokens = [len(sample.input_ids) for sample in samples]
    return body_flops(pair, pair.student, tokens) + head_flops(
        pair, pair.student, sum(sample.supervised for sample in samples)
    )
