"""What is kept of a teacher per supervised token, and how it is read again: its last hidden state, or its k largest logits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from cpd_engine import checkpoint
from cpd_engine.kernel import token_cross_entropies
from cpd_engine.projection import Head, chunk_tokens
from cpd_engine.states.topk import TopKRecords


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenRecords:
    """Hidden states in the head's dtype, to which the head casts whatever it is given: nothing is lost, at any temperature."""

    width: int
    dtype: torch.dtype


Records = HiddenRecords | TopKRecords


def encode(records: Records, states_ND: Tensor, head: Head, targets_N: Tensor) -> Tensor:
    """Rows [N, width]; with top_k from chunks of logits that never live together."""
    if isinstance(records, HiddenRecords):
        return states_ND.to(records.dtype)
    chunk = chunk_tokens(states_ND.device, head.vocabulary)
    parts = [
        records.encode(_logits(head, states_ND[at : at + chunk]), targets_N[at : at + chunk])
        for at in range(0, len(targets_N), chunk)
    ]
    return torch.cat(parts) if parts else states_ND.new_zeros((0, records.width), dtype=records.dtype)


def cross_entropies(records: Records, rows: Tensor, head: Head, targets_N: Tensor) -> Tensor:
    """−log p(y) in nats at tau = 1, float64 [N]. With top_k it is kept, as the target need not be among the k."""
    if isinstance(records, HiddenRecords):
        return token_cross_entropies(rows, head, targets_N)
    return records.cross_entropies(rows)


def _logits(head: Head, states_ND: Tensor) -> Tensor:
    """[N, V] in float32."""
    logits_NV = states_ND.new_empty((len(states_ND), head.vocabulary), dtype=torch.float32)
    with torch.autocast(states_ND.device.type, enabled=False):
        head.project(states_ND, logits_NV)
    return logits_NV


def own_head(head: Head) -> Head:
    """The head in memory of its own, cut to the vocabulary: the parameter itself would hold the embedding that it is tied to."""
    bias_W = head.bias_W
    return replace(
        head,
        weight_WD=head.weight_WD[: head.vocabulary].detach().clone(),
        bias_W=None if bias_W is None else bias_W[: head.vocabulary].detach().clone(),
    )


def write_head(head: Head, folder: Path) -> None:
    """The head as head.safetensors and head.json."""
    own = own_head(head)
    tensors = {"weight": own.weight_WD} | ({} if own.bias_W is None else {"bias": own.bias_W})
    checkpoint.write_tensors(folder / "head.safetensors", tensors)
    checkpoint.write_json(folder / "head.json", {"scale": head.scale, "soft_cap": head.soft_cap})


def read_head(folder: Path, device: torch.device) -> Head:
    """Inverse of `write_head`, in memory of its own."""
    tensors = {
        name: tensor.to(device, copy=True)
        for name, tensor in checkpoint.read_tensors(folder / "head.safetensors").items()
    }
    told = checkpoint.read_json(folder / "head.json")
    weight_VD = tensors["weight"]
    return Head(
        weight_WD=weight_VD,
        vocabulary=len(weight_VD),
        bias_W=tensors.get("bias"),
        scale=told["scale"],
        soft_cap=told["soft_cap"],
    )
