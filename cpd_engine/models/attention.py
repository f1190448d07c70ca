"""Attention inside the samples of a pack: no token sees another sample's, and no work is spent on padding.

Shapes: T tokens of a pack, H query heads, G key-value heads (H a multiple of G), E numbers a head.

It is registered with transformers under a name of its own, so that any model whose attention goes through that interface takes it. On a
CPU each sample is one product; on a GPU torch's variable-length flash attention takes the pack whole where precision allows it; else a
block mask does. Calls without a pack are transformers' sdpa.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from cpd_engine.data.batches import Segments

NAME = "cpd_packed"
# What some families ask of attention beyond scores, a causal mask and a window; sdpa has none of it.
_UNKNOWN = ("softcap", "s_aux", "position_bias")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed(Segments):
    """Segments that note which windows attention was asked for; None is none."""

    windows: set[int | None]


def register() -> None:
    """Make `NAME` known to transformers. Harmless when done again."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def attend(
    module: nn.Module,
    query_1HTE: Tensor,
    key_1GTE: Tensor,
    value_1GTE: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    segments: Segments | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each of `segments`, [1, T, H, E], as transformers calls it. Raises ValueError for what it does not know."""
    if segments is None:
        options |= {"dropout": dropout, "scaling": scaling, "sliding_window": sliding_window}
        return sdpa_attention_forward(module, query_1HTE, key_1GTE, value_1GTE, attention_mask, **options)
    if isinstance(segments, Probed):
        segments.windows.add(sliding_window)
    if asked := [name for name in _UNKNOWN if options.get(name) is not None]:
        raise ValueError(f"attention with {', '.join(asked)} cannot be packed")
    window = sliding_window if sliding_window is not None and sliding_window < segments.longest else None
    # Rotated queries and keys may come in float32 where autocast made the values of half precision.
    half = value_1GTE.dtype in (torch.bfloat16, torch.float16)
    if query_1HTE.device.type == "cpu":
        found_1HTE = by_segment(
            query_1HTE, key_1GTE, value_1GTE, segments, window=window, scaling=scaling, dropout=dropout
        )
    elif half and dropout == 0.0:
        found_1HTE = by_flash(query_1HTE, key_1GTE, value_1GTE, segments, window=window, scaling=scaling)
    else:
        found_1HTE = by_mask(
            query_1HTE, key_1GTE, value_1GTE, segments, window=window, scaling=scaling, dropout=dropout
        )
    return found_1HTE.transpose(1, 2).contiguous(), None


def by_segment(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segments: Segments,
    *,
    window: int | None,
    scaling: float | None,
    dropout: float,
) -> Tensor:
    """One call of torch's attention for each sample."""
    grouped = query.shape[1] != key.shape[1]
    found = []
    for start, stop in zip(segments.bounds, segments.bounds[1:], strict=False):
        band = None if window is None or stop - start <= window else _band(stop - start, window, query.device)
        found.append(
            scaled_dot_product_attention(
                query[:, :, start:stop],
                key[:, :, start:stop],
                value[:, :, start:stop],
                attn_mask=band,
                is_causal=band is None,
                scale=scaling,
                dropout_p=dropout,
                enable_gqa=grouped,
            )
        )
    return torch.cat(found, dim=2)


def by_mask(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segments: Segments,
    *,
    window: int | None,
    scaling: float | None,
    dropout: float,
) -> Tensor:
    """One call for the pack, under a mask [T, T] of blocks."""
    length = query.shape[2]
    sample_T = torch.searchsorted(segments.starts[1:], torch.arange(length, device=query.device), right=True)
    allowed_TT = _band(length, window or length, query.device) & (sample_T[:, None] == sample_T[None])
    # Grouped heads together with a mask send a GPU to its slowest kernel, which holds scores [H, T, T].
    groups = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(groups, dim=1) if groups > 1 else tensor for tensor in (key, value))
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=allowed_TT,
        scale=scaling,
        dropout_p=dropout,
    )


def by_flash(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, *, window: int | None, scaling: float | None
) -> Tensor:
    """Torch's variable-length flash attention; half precision on a GPU only."""
    from torch.nn.attention.varlen import varlen_attn

    query_THE, key_TGE, value_TGE = (tensor[0].transpose(0, 1).to(value.dtype) for tensor in (query, key, value))
    found_THE = varlen_attn(
        query_THE,
        key_TGE,
        value_TGE,
        segments.starts,
        segments.starts,
        segments.longest,
        segments.longest,
        scale=scaling,
        # How many tokens before and behind a token are seen; −1: all.
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(found_THE, Tensor)
    return found_THE.transpose(0, 1)[None]


def _band(length: int, window: int, device: torch.device) -> Tensor:
    """[T, T]: what each token sees, itself and the window − 1 before it."""
    place_T = torch.arange(length, device=device)
    behind_TT = place_T[:, None] - place_T[None]
    return (behind_TT >= 0) & (behind_TT < window)
