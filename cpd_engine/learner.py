"""A model under training with its optimizer: takes one optimizer step, and gives and takes back its whole state as tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cpd_engine.config import OptimizerSpec
from cpd_engine.course import Turn
from cpd_engine.data.batches import Batch, collate, micro_batches
from cpd_engine.data.encode import Sample
from cpd_engine.errors import Diverged, OutOfDeviceMemory
from cpd_engine.kernel import (
    Head,
    Objective,
    Sums,
    head_of,
    supervised_hidden,
    supervised_targets,
    token_losses,
)
from cpd_engine.models.decoder import Decoder
from cpd_engine.runtime import Runtime
from cpd_engine.teacher import Teacher


class LossModule(nn.Module):
    """The student with its loss inside one forward, so that whatever wraps it (DDP, FSDP) sees a whole step of the model."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.model = decoder.model
        self._decoder = decoder

    def forward(
        self, batch: Batch, objective: Objective, teacher_ND: Tensor | None = None, teacher_head: Head | None = None
    ) -> Sums:
        """Sums over the supervised tokens of the batch."""
        hidden_BTD = self._decoder.hidden(batch.input_ids, batch.attention_mask)
        return token_losses(
            supervised_hidden(hidden_BTD, batch.supervised),
            head_of(self._decoder),
            supervised_targets(batch.input_ids, batch.supervised),
            objective,
            teacher_ND=teacher_ND,
            teacher_head=teacher_head,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepValues:
    """Of one optimizer step; losses in nats per supervised token, the gradient's norm before clipping."""

    loss: float
    ce: float
    kd: float
    grad_norm: float
    tokens: int
    processed_tokens: int


class Learner:
    """`step` counts finished optimizer steps. Only what has a gradient is trained, saved and restored."""

    def __init__(
        self, decoder: Decoder, *, spec: OptimizerSpec, runtime: Runtime, gradient_checkpointing: bool = False
    ) -> None:
        if gradient_checkpointing:
            decoder.checkpoint_gradients(enabled=True)
        self.decoder = decoder
        # Loaded weights are views of a mapped file, at whatever offset it gives them; the bits of a product may depend on that.
        for parameter in decoder.model.parameters():
            parameter.data = parameter.data.clone()
        self.step = 0
        self._spec = spec
        self._runtime = runtime
        self._loss = LossModule(decoder)
        self._trained = {name: p for name, p in decoder.model.named_parameters() if p.requires_grad}
        self._optimizer = _adamw(self._trained.values(), spec)

    def learn(self, turn: Turn, teacher: Teacher | None) -> StepValues:
        """One optimizer step. Raises Diverged before the weights are touched, and OutOfDeviceMemory."""
        for group in self._optimizer.param_groups:
            group["lr"] = turn.learning_rate
        self._loss.train()
        try:
            sums, tokens, processed = self.accumulate(turn.samples, turn.objective, teacher)
        except torch.OutOfMemoryError as error:
            raise OutOfDeviceMemory(
                f"out of memory in step {self.step + 1} at micro-batches of {self._spec.micro_batch_size or len(turn.samples)} samples; "
                "lower optimizer.micro_batch_size or max_length, or switch gradient_checkpointing on"
            ) from error
        limit = self._spec.max_grad_norm
        norm = nn.utils.clip_grad_norm_(self._trained.values(), limit if limit is not None else math.inf)
        # The one place per step where the device is waited for.
        loss, ce, kd, grad_norm = torch.stack([*(sums / tokens), norm.to(sums)]).tolist()
        if not all(map(math.isfinite, (loss, ce, kd, grad_norm))):
            named = ", ".join(sample.id for sample in turn.samples[:20])
            raise Diverged(
                f"step {self.step + 1}: loss {loss}, gradient norm {grad_norm}; samples {named}; the last checkpoint is finite. "
                "Lower optimizer.learning_rate or look at these samples"
            )
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step += 1
        return StepValues(loss=loss, ce=ce, kd=kd, grad_norm=grad_norm, tokens=tokens, processed_tokens=processed)

    def accumulate(
        self, samples: Sequence[Sample], objective: Objective, teacher: Teacher | None
    ) -> tuple[Tensor, int, int]:
        """Gradients and sums (loss, ce, kd) over all micro-batches, divided once by the supervised tokens of them all."""
        lengths = [len(sample.input_ids) for sample in samples]
        tokens = sum(sample.supervised for sample in samples)
        sums = torch.zeros(3, dtype=torch.float64, device=self._runtime.device)
        for part in micro_batches(np.arange(len(samples)), lengths, self._spec.micro_batch_size):
            batch = collate([samples[i] for i in part]).to(self._runtime.device)
            taught = teacher.hidden(batch) if teacher is not None and objective.distils else None
            with self._runtime.autocast():
                found: Sums = self._loss(batch, objective, taught, teacher.head if teacher is not None else None)
            (found.loss / tokens).backward()
            sums += torch.stack([found.loss, found.ce, found.kd]).detach()
        return sums, tokens, sum(lengths)

    def weights(self) -> dict[str, Tensor]:
        """The trained parameters by name: all of them, or the adapter's."""
        return {name: parameter.detach() for name, parameter in self._trained.items()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Inverse of `weights`."""
        with torch.no_grad():
            for name, parameter in self._trained.items():
                parameter.copy_(weights[name])

    def optimizer_state(self) -> dict[str, Tensor]:
        """AdamW's moments and step counts, as "<parameter>/<what>"."""
        found = {}
        for name, parameter in self._trained.items():
            for what, tensor in self._optimizer.state.get(parameter, {}).items():
                found[f"{name}/{what}"] = tensor
        return found

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `optimizer_state`."""
        self._optimizer.state.clear()
        for key, tensor in state.items():
            name, _, what = key.rpartition("/")
            parameter = self._trained[name]
            entry: dict[str, Any] = self._optimizer.state[parameter]
            # A fresh allocation and not a view of a file: its alignment is then that of an unbroken run, and so are the bits.
            entry[what] = tensor.to(parameter.device, copy=True)


def _adamw(parameters: Any, spec: OptimizerSpec) -> torch.optim.AdamW:
    """Weight decay for matrices only; biases and norms have nothing to decay to."""
    trained = list(parameters)
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": spec.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=spec.learning_rate,
        betas=(spec.beta_1, spec.beta_2),
        eps=spec.eps,
        fused=True,
    )
