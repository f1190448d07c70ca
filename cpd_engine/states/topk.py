"""A teacher's distribution cut to its k largest logits and one bucket for all other ids, small enough to keep per token.

For a temperature tau that was scheduled when the record was made, with Z(tau) = sum over all V ids of exp(z / tau):

    log p_j = z_j / tau − log Z(tau)            for the k ids kept, exact
    log p_rest = log(sum over the other V − k ids of exp(z / tau)) − log Z(tau)

What is kept is the sum over the *other* ids, R(tau), and log Z = logaddexp(logsumexp of the kept z / tau, R): taking the rest as
1 − sum of p_j instead would lose all its digits where the teacher is sure. Only how the rest is spread over its ids is lost.

Shapes: N tokens, V vocabulary, K kept ids, W columns of a record.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cpd_engine.objective import TopK


@dataclass(frozen=True, slots=True, kw_only=True)
class TopKRecords:
    """How such distributions lie in rows of int32: K ids, K logits, R at every temperature, the target's cross-entropy.

    Logits, sums and cross-entropy are float32 bit by bit, so that nothing but the cut is approximate.
    """

    k: int
    temperatures: tuple[float, ...]

    @property
    def width(self) -> int:
        """W, columns of 4 bytes."""
        return 2 * self.k + len(self.temperatures) + 1

    @property
    def dtype(self) -> torch.dtype:
        """Of the rows."""
        return torch.int32

    def encode(self, logits_NV: Tensor, targets_N: Tensor) -> Tensor:
        """Rows [N, W] int32 of logits in float32; cross-entropies are in nats at tau = 1."""
        kept, ids = logits_NV.topk(self.k, dim=-1)
        others = logits_NV.scatter(-1, ids, -math.inf)
        rest = [torch.logsumexp(others / tau, dim=-1, keepdim=True) for tau in self.temperatures]
        ce = functional.cross_entropy(logits_NV, targets_N, reduction="none")[:, None]
        return torch.cat([ids.int(), *(part.float().view(torch.int32) for part in (kept, *rest, ce))], dim=1)

    def decode(self, rows_NW: Tensor, temperature: float) -> TopK:
        """The distributions at one of the temperatures. Raises ValueError at any other."""
        if temperature not in self.temperatures:
            raise ValueError(f"temperature {temperature} is not among those kept: {self.temperatures}")
        k, at = self.k, 2 * self.k + self.temperatures.index(temperature)
        scaled_NK = rows_NW[:, k : 2 * k].contiguous().view(torch.float32) / temperature
        rest_N = rows_NW[:, at].contiguous().view(torch.float32)
        log_z_N = torch.logaddexp(torch.logsumexp(scaled_NK, dim=-1), rest_N)
        return TopK(
            ids_NK=rows_NW[:, :k].long(),
            log_p_NK=scaled_NK - log_z_N[:, None],
            log_rest_N=rest_N - log_z_N,
        )

    def cross_entropies(self, rows_NW: Tensor) -> Tensor:
        """−log p(y) in nats at tau = 1, float64 [N]."""
        return rows_NW[:, -1].contiguous().view(torch.float32).double()
