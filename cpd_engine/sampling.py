"""The next token of a row, by its own random numbers. Shapes: B rows, V vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpd_engine.config import GenerationSpec


def draws(seed: int, count: int, settings: GenerationSpec) -> NDArray[np.float64]:
    """The row's own uniform numbers, one a token."""
    return np.random.default_rng(seed).random(count) if settings.temperature > 0 else np.zeros(count)


def choose(logits_BV: Tensor, draws_B: Sequence[float], settings: GenerationSpec) -> Tensor:
    """The next token of each row: the likeliest, or drawn by inverting the cumulative distribution at the row's number.

    Filters in the usual order: temperature, then top-k, then top-p (the smallest set of likeliest tokens that reaches p).
    """
    if settings.temperature == 0:
        return logits_BV.argmax(dim=-1)
    scaled_BV = logits_BV.double() / settings.temperature
    draws_B1 = torch.tensor(draws_B, dtype=torch.float64, device=logits_BV.device)[:, None]
    if not settings.top_k and settings.top_p >= 1.0:
        # In any order will do, and sorting 50,000 ids takes ten times as long as the rest.
        return _drawn(scaled_BV.softmax(dim=-1), draws_B1)[:, 0]
    sorted_BV, tokens_BV = scaled_BV.sort(dim=-1, descending=True, stable=True)
    if settings.top_k:
        sorted_BV[:, settings.top_k :] = -torch.inf
    probabilities_BV = sorted_BV.softmax(dim=-1)
    before_BV = probabilities_BV.cumsum(dim=-1) - probabilities_BV
    probabilities_BV[before_BV >= settings.top_p] = 0.0
    return tokens_BV.gather(1, _drawn(probabilities_BV, draws_B1))[:, 0]


def _drawn(weights_BV: Tensor, draws_B1: Tensor) -> Tensor:
    """Places [B, 1] by inverting the cumulative sums of the weights at draws in [0, 1); never one of weight 0."""
    cumulative_BV = weights_BV.cumsum(dim=-1)
    total_B1 = cumulative_BV[:, -1:].contiguous()
    at_B1 = torch.searchsorted(cumulative_BV, draws_B1 * total_B1, right=True)
    # Rounding may carry a draw next to 1 beyond the last place that can be drawn.
    return torch.minimum(at_B1, torch.searchsorted(cumulative_BV, total_B1))
