"""The cut distribution against the whole one."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from cpd_engine.states.topk import TopKRecords

TAUS = (1.0, 1.3, 2.0)
SHAPES = [(1, 1, 5), (7, 3, 5), (33, 4, 301), (5, 5, 5)]


def logits(tokens: int, vocabulary: int, *, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(tokens, vocabulary, generator=torch.Generator().manual_seed(tokens)) * scale


@pytest.mark.parametrize(("tokens", "k", "vocabulary"), SHAPES)
@pytest.mark.parametrize("tau", TAUS)
def test_kept_probabilities_are_exact_at_every_scheduled_temperature(
    tokens: int, k: int, vocabulary: int, tau: float
) -> None:
    z = logits(tokens, vocabulary)
    records = TopKRecords(k=k, temperatures=TAUS)
    rows = records.encode(z, torch.zeros(tokens, dtype=torch.int64))
    found = records.decode(rows, tau)
    whole = torch.log_softmax(z.double() / tau, dim=-1)
    assert rows.shape == (tokens, records.width)
    torch.testing.assert_close(found.log_p_NK.double(), whole.gather(-1, found.ids_NK), rtol=0, atol=2e-6)
    others = whole.scatter(-1, found.ids_NK, -math.inf).logsumexp(-1)
    torch.testing.assert_close(found.log_rest_N.double(), others, rtol=0, atol=2e-6)
    assert (found.log_p_NK.exp().sum(-1) + found.log_rest_N.exp() - 1).abs().max() < 1e-6


def test_the_rest_keeps_its_digits_where_the_teacher_is_sure() -> None:
    z = torch.zeros(1, 100)
    z[0, 3] = 60.0
    records = TopKRecords(k=1, temperatures=(1.0,))
    found = records.decode(records.encode(z, torch.tensor([3])), 1.0)
    assert found.log_rest_N.item() == pytest.approx(math.log(99) - 60.0, abs=1e-5)


def test_the_target_s_cross_entropy_is_kept_whether_or_not_it_is_among_the_k() -> None:
    z, targets = logits(20, 50), torch.arange(20)
    records = TopKRecords(k=2, temperatures=TAUS)
    found = records.cross_entropies(records.encode(z, targets))
    torch.testing.assert_close(found, functional.cross_entropy(z, targets, reduction="none").double())


def test_a_temperature_that_was_not_scheduled_is_refused() -> None:
    records = TopKRecords(k=2, temperatures=TAUS)
    with pytest.raises(ValueError, match="not among those kept"):
        records.decode(records.encode(logits(3, 9), torch.zeros(3, dtype=torch.int64)), 1.5)
