"""The gradient of one optimizer step, micro-batch by micro-batch, within the memory there is, over all ranks of a fleet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from cpd_engine.config import OptimizerSpec
from cpd_engine.data.batches import Batch, Indices, pack, pad, parts
from cpd_engine.data.encode import Sample
from cpd_engine.errors import OutOfDeviceMemory
from cpd_engine.kernel import token_losses
from cpd_engine.models.decoder import Decoder
from cpd_engine.models.prune import decoder_layers
from cpd_engine.objective import Objective, Taught, TopK
from cpd_engine.parallel import Parallel, Portion
from cpd_engine.projection import Workspace, head_of
from cpd_engine.repro import capture_state, restore_state
from cpd_engine.runtime import Runtime, out_of_memory
from cpd_engine.teacher import Teaches

# What goes through the model together unless the spec says otherwise: enough to keep any device busy.
MICRO_BATCH_TOKENS = 8192


class LossModule(nn.Module):
    """The student with its loss inside one forward, so that whatever wraps it (DDP, FSDP) sees a whole step of the model."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.model = decoder.model
        self._decoder = decoder
        self.workspace = Workspace()

    def forward(
        self, batch: Batch, objective: Objective, teacher: Taught | TopK | None, scale: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """scale · loss, CE and tau²·D summed over the N supervised tokens of the batch, and the CE of each [N]."""
        found = token_losses(
            self._decoder.states(batch),
            head_of(self._decoder),
            batch.targets,
            objective,
            teacher=teacher,
            scale=scale,
            workspace=self.workspace,
        )
        return found.loss, found.ce, found.kd, found.ce_N


@dataclass(frozen=True, slots=True, kw_only=True)
class Accumulated:
    """Of all micro-batches of a step: (loss, ce, kd) [3] in nats per supervised token, and each sample's own CE [S].

    `own_tokens` of the `tokens` are of the data's own responses; ce is theirs alone, and 0 where there is none.
    """

    means: Tensor
    sample_ce: Tensor
    tokens: int
    own_tokens: int
    processed_tokens: int


class Accumulator:
    """Leaves the gradient of a whole step in the decoder's parameters, which it shards over the fleet where `sharded`."""

    def __init__(self, decoder: Decoder, *, spec: OptimizerSpec, runtime: Runtime, sharded: bool) -> None:
        self._decoder = decoder
        self._runtime = runtime
        # Lowered, and kept so, when memory does not suffice.
        self.micro_batch_tokens = spec.micro_batch_tokens or MICRO_BATCH_TOKENS
        self._micro_batch_size = spec.micro_batch_size
        self._loss = LossModule(decoder)
        self.parallel = Parallel(self._loss, runtime.fleet, blocks=decoder_layers(decoder) if sharded else None)

    def accumulate(self, samples: Sequence[Sample], objective: Objective, teacher: Teaches | None) -> Accumulated:
        """Gradients and sums of the whole step, in every rank alike.

        What goes through the model together is halved until it fits; the sums, and so the step, stay the same. Raises OutOfDeviceMemory
        where it is a single sample already, or where other ranks have joined the pass that would have to be made again.
        """
        state = capture_state()
        while True:
            try:
                return self._attempt(samples, objective, teacher)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                largest = self._largest(samples, packed=self._packs(teacher))
                peak = self._runtime.memory_bytes()
            # Out of the except block, which holds the frames and with them the tensors that did not fit.
            self._decoder.model.zero_grad()
            self._runtime.free_memory()
            if self.parallel.joined:
                raise OutOfDeviceMemory(
                    f"out of memory in a pass that other processes had joined; the peak was {peak / 2**30:.2f} GiB. "
                    "Lower optimizer.micro_batch_tokens"
                )
            if largest is None:
                raise OutOfDeviceMemory(
                    f"out of memory with a single sample at a time; the peak was {peak / 2**30:.2f} GiB. "
                    "Lower max_length, switch gradient_checkpointing on, or take a larger GPU"
                )
            self.micro_batch_tokens = largest // 2
            restore_state(state)

    def spend(self) -> None:
        """The optimizer has used the gradients. The head's is kept for the next step: fresh pages cost more than what is written there."""
        weight_WD, _ = self._decoder.head
        if self._runtime.fleet.world == 1 and weight_WD.grad is not None:
            self._loss.workspace.keep(weight_WD.grad)
            weight_WD.grad = None

    def _attempt(self, samples: Sequence[Sample], objective: Objective, teacher: Teaches | None) -> Accumulated:
        """All micro-batches of this rank, divided once by the supervised tokens of all ranks."""
        self.parallel.begin()
        fleet = self._runtime.fleet
        tokens = sum(sample.supervised for sample in samples)
        own_tokens = sum(sample.supervised for sample in samples if not sample.generated)
        # (loss, ce, kd) and each sample's CE: what ranks add up.
        sums = torch.zeros(3 + len(samples), dtype=torch.float64, device=self._runtime.device)
        packed = self._packs(teacher)
        for portion in self._portions(samples, packed=packed):
            chosen = [samples[i] for i in portion.samples]
            batch = (pack(chosen) if packed else pad(chosen)).to(self._runtime.device)
            with self.parallel.exchanging(portion, batch.tokens):
                if not portion.counts:
                    self._backward(batch, Objective(), None, 0.0)
                    continue
                taught = teacher.taught(batch, objective.temperature) if teacher and objective.distils else None
                aimed, weight = _of_own_text(objective) if batch.generated else (objective, 1.0)
                loss, ce, kd, ce_N = self._backward(batch, aimed, taught, weight * fleet.world / tokens)
            counted = torch.zeros_like(ce) if batch.generated else ce
            sums[:3] += torch.stack([loss * (tokens / fleet.world), counted, kd])
            sums[3 + portion.samples] = _means(ce_N, batch.supervised)
        sums = fleet.added(sums)
        means = sums[:3] / tokens
        if own_tokens < tokens:
            means[1] *= tokens / max(own_tokens, 1)
        return Accumulated(
            means=means,
            sample_ce=sums[3:],
            tokens=tokens,
            own_tokens=own_tokens,
            processed_tokens=sum(len(sample.input_ids) for sample in samples),
        )

    def _backward(
        self, batch: Batch, objective: Objective, taught: Taught | TopK | None, scale: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        with self._runtime.autocast():
            loss, ce, kd, ce_N = self.parallel.module(batch, objective, taught, scale)
        loss.backward()
        return loss.detach(), ce, kd, ce_N

    def _packs(self, teacher: Teaches | None) -> bool:
        """One batch goes through both models."""
        return self._decoder.packs and (teacher is None or teacher.packs)

    def _portions(self, samples: Sequence[Sample], *, packed: bool) -> list[Portion]:
        lengths = [len(sample.input_ids) for sample in samples]

        def split(share: list[int]) -> list[Indices]:
            """The data's responses and the student's text apart: they have neither their loss nor, perhaps, their teacher in common."""
            limit, size, found = self.micro_batch_tokens, self._micro_batch_size, list[Indices]()
            for kind in ([i for i in share if samples[i].generated == said] for said in (False, True)):
                cut = parts([lengths[i] for i in kind], tokens=limit, samples=size, padded=not packed) if kind else []
                found += [np.array(kind)[part] for part in cut]
            return found

        return self.parallel.portions(lengths, split, lambda part: _room(part, lengths, packed=packed))

    def _largest(self, samples: Sequence[Sample], *, packed: bool) -> int | None:
        """Tokens of the largest micro-batch, None where each is a single sample."""
        lengths = [len(sample.input_ids) for sample in samples]
        several = [p.samples for p in self._portions(samples, packed=packed) if len(p.samples) > 1]
        return max((_room(part, lengths, packed=packed) for part in several), default=None)


def _of_own_text(objective: Objective) -> tuple[Objective, float]:
    """The loss of the student's own text, and its weight: the teacher's word with the weight that it has elsewhere, never CE."""
    return (replace(objective, alpha=0.0), 1.0 - objective.alpha) if objective.distils else (objective, 0.0)


def _room(part: Indices, lengths: Sequence[int], *, packed: bool) -> int:
    """Tokens that a part takes, whose first sample is its longest."""
    return int(sum(lengths[i] for i in part)) if packed else len(part) * int(lengths[part[0]])


def _means(ce_N: Tensor, supervised: Sequence[int]) -> Tensor:
    """The mean of each sample's tokens, float64 [S]."""
    counts_S = torch.tensor(supervised, device=ce_N.device)
    return torch.segment_reduce(ce_N.double(), "sum", lengths=counts_S) / counts_S.clamp_min(1)
