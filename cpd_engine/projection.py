"""From hidden states to logits and back, chunk by chunk, in buffers that stay.

Shapes: C tokens of a chunk, D hidden size, W rows of the head's matrix, V ≤ W the shared vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cpd_engine.models.decoder import Decoder

# On a CPU 256 tokens fill a product, and few rows of logits at a time keep element-wise work in the cache: some 10⁵ numbers are 6 %
# faster than 4 · 10⁵. With AVX2 a product of few rows is fastest against some hundred rows of the head at a time (60-90 GFLOP/s where
# the whole product reaches 40-55), with AVX-512 against thousands (182 GFLOP/s, 166 with some hundred).
_BLOCK_IDS = 4096 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 256
_CHUNK_TOKENS = 256
_TILE_NUMBERS = 2**17
# Elsewhere a chunk's logits take at most so many numbers, and a tile is the whole chunk: launches cost, caches do not.
_CHUNK_NUMBERS = 2**25
_CHUNK_TOKENS_MAX = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Output projection, of whose rows the first `vocabulary` count, with what some families do to its logits.

    logits = cap · tanh(s / cap), s = scale · (hidden @ weight.T + bias): Granite's scale, Gemma's soft cap.
    """

    weight_WD: Tensor
    vocabulary: int
    bias_W: Tensor | None = None
    scale: float = 1.0
    soft_cap: float | None = None

    def project(self, hidden_CD: Tensor, out_CV: Tensor, *, factor: float = 1.0) -> None:
        """factor · logits into `out_CV`, in its dtype. Products are taken in the dtype of the weight."""
        weight_VD = self.weight_WD[: self.vocabulary]
        inner = self.scale if self.soft_cap is not None else self.scale * factor
        hidden_CD = hidden_CD.to(weight_VD.dtype)
        if inner != 1.0 and weight_VD.dtype == out_CV.dtype:
            multiply(hidden_CD * inner, weight_VD, out_CV)
        else:
            multiply(hidden_CD, weight_VD, out_CV)
            if inner != 1.0:
                # Not before a product in half precision, which would round the states once more.
                out_CV.mul_(inner)
        if self.bias_W is not None:
            out_CV.add_(self.bias_W[: self.vocabulary], alpha=inner)
        if self.soft_cap is not None:
            out_CV.div_(self.soft_cap).tanh_().mul_(self.soft_cap * factor)

    def to(self, dtype: torch.dtype) -> Head:
        """The same head for products in another dtype."""
        return Head(
            weight_WD=self.weight_WD.to(dtype),
            vocabulary=self.vocabulary,
            bias_W=self.bias_W,
            scale=self.scale,
            soft_cap=self.soft_cap,
        )


def multiply(hidden_CD: Tensor, weight_VD: Tensor, out_CV: Tensor) -> None:
    """hidden @ weight.T into `out_CV`."""
    if out_CV.dtype != hidden_CD.dtype:
        out_CV.copy_(functional.linear(hidden_CD, weight_VD))
        return
    if out_CV.device.type != "cpu":
        torch.mm(hidden_CD, weight_VD.T, out=out_CV)
        return
    for start in range(0, len(weight_VD), _BLOCK_IDS):
        ids = slice(start, start + _BLOCK_IDS)
        torch.mm(hidden_CD, weight_VD[ids].T, out=out_CV[:, ids])


class Workspace:
    """Buffers that are taken again and again: a fresh one costs several times what is computed in it (2.2 ns a number, reused 0.3)."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}
        self._spare: Tensor | None = None

    def keep(self, spent: Tensor) -> None:
        """Something large that nobody needs any more, to be given away by `away`."""
        self._spare = spent

    def away(self, like: Tensor) -> Tensor:
        """A tensor of that form with anything in it, which the caller alone has: what was kept, if it is one, else a fresh one."""
        spare, self._spare = self._spare, None
        fits = spare is not None and (spare.shape, spare.dtype, spare.device) == (like.shape, like.dtype, like.device)
        return spare if fits and spare is not None and spare.is_contiguous() else torch.empty_like(like)

    def take(self, name: str, shape: tuple[int, ...], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """A buffer of that shape with anything in it; the same memory for the same name."""
        key, size = (name, dtype, device), math.prod(shape)
        buffer = self._buffers.get(key)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[key] = torch.empty(size, dtype=dtype, device=device)
        return buffer[:size].view(shape)


def chunk_tokens(device: torch.device, vocabulary: int) -> int:
    """C: as many tokens as go through the head together."""
    if device.type == "cpu":
        return _CHUNK_TOKENS
    return min(max(_CHUNK_NUMBERS // vocabulary, 1), _CHUNK_TOKENS_MAX)


def tile_tokens(device: torch.device, vocabulary: int, chunk: int) -> int:
    """As many of a chunk's tokens as element-wise work is done on together."""
    return max(_TILE_NUMBERS // vocabulary, 1) if device.type == "cpu" else chunk


def compute_dtype(weight: Tensor) -> torch.dtype:
    """Of products with `weight` here: autocast's where that is on."""
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def head_of(decoder: Decoder) -> Head:
    """The decoder's output head, whose tensors are the trained parameters themselves."""
    weight_WD, bias_W = decoder.head
    return Head(
        weight_WD=weight_WD,
        vocabulary=decoder.vocabulary,
        bias_W=bias_W,
        scale=decoder.logit_scale,
        soft_cap=decoder.soft_cap,
    )
