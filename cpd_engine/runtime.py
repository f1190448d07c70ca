"""Where a run computes and in which number format."""

from __future__ import annotations

import resource
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from cpd_engine.errors import ConfigInvalid
from cpd_engine.fleet import ALONE, Fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """`precision` is that of the matrix products. Trained weights and the optimizer stay float32 (bf16 steps of AdamW round to
    nothing at usual learning rates); what becomes of heads' logits, softmax and sums among it, is float32 as well.
    """

    device: torch.device
    precision: Literal["fp32", "bf16"]
    threads: int
    fleet: Fleet = ALONE

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which forward passes run."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    @property
    def frozen_dtype(self) -> torch.dtype:
        """The dtype of weights that are never trained."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def free_memory(self) -> None:
        """Give back what torch holds of an accelerator's memory and nobody uses."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def memory_bytes(self) -> int:
        """Peak memory of the accelerator, or of the process where there is none."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def choose_precision(asked: Literal["auto", "fp32", "bf16"], device: torch.device) -> Literal["fp32", "bf16"]:
    """`auto` is bf16 on a GPU that has it and fp32 elsewhere. Raises ConfigInvalid for bf16 on a GPU without it."""
    if device.type == "cpu":
        return "fp32" if asked == "auto" else asked
    if asked == "fp32":
        return asked
    if torch.cuda.is_bf16_supported():
        return "bf16"
    if asked == "bf16":
        raise ConfigInvalid("precision: this GPU has no bf16; take 'fp32' or 'auto'")
    return "fp32"


def choose_device(fleet: Fleet) -> torch.device:
    """This process's GPU, else the CPU."""
    return torch.device("cuda", fleet.local_rank) if torch.cuda.is_available() else torch.device("cpu")


def out_of_memory(error: BaseException) -> bool:
    """Whether an accelerator's memory, or torch's allocator of this machine's, did not suffice."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
