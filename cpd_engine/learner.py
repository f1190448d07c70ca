"""A model under training with its optimizer: takes one optimizer step, and gives and takes back its whole state as tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cpd_engine.config import OptimizerSpec
from cpd_engine.course import Turn
from cpd_engine.data.batches import Batch, pack, pad, parts
from cpd_engine.data.encode import Sample
from cpd_engine.errors import Diverged, OutOfDeviceMemory
from cpd_engine.kernel import token_losses
from cpd_engine.models.decoder import Decoder
from cpd_engine.objective import Objective, Taught, TopK
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
        self._workspace = Workspace()

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
            workspace=self._workspace,
        )
        return found.loss, found.ce, found.kd, found.ce_N


@dataclass(frozen=True, slots=True, kw_only=True)
class StepValues:
    """Of one optimizer step; losses in nats per supervised token, the gradient's norm before clipping.

    `sample_ce`: nats per supervised token of each of the turn's samples, before the step.
    """

    loss: float
    ce: float
    kd: float
    grad_norm: float
    tokens: int
    processed_tokens: int
    sample_ce: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accumulated:
    """Of all micro-batches of a step: (loss, ce, kd) [3] in nats per supervised token, and each sample's own CE [S]."""

    means: Tensor
    sample_ce: Tensor
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
        # Lowered, and kept so, when memory does not suffice.
        self.micro_batch_tokens = spec.micro_batch_tokens or MICRO_BATCH_TOKENS
        self._spec = spec
        self._runtime = runtime
        self._loss = LossModule(decoder)
        self._trained = {name: p for name, p in decoder.model.named_parameters() if p.requires_grad}
        self._optimizer = _adamw(self._trained.values(), spec)

    def learn(self, turn: Turn, teacher: Teaches | None) -> StepValues:
        """One optimizer step. Raises Diverged before the weights are touched, and OutOfDeviceMemory."""
        for group in self._optimizer.param_groups:
            group["lr"] = turn.learning_rate
        self._loss.train()
        found = self._accumulate_within_memory(turn, teacher)
        limit = self._spec.max_grad_norm
        norm = nn.utils.clip_grad_norm_(self._trained.values(), limit if limit is not None else math.inf)
        # The one place per step where the device is waited for.
        loss, ce, kd, grad_norm, *sample_ce = torch.cat(
            [found.means, norm.to(found.means)[None], found.sample_ce]
        ).tolist()
        if not all(map(math.isfinite, (loss, ce, kd, grad_norm))):
            named = ", ".join(sample.id for sample in turn.samples[:20])
            raise Diverged(
                f"step {self.step + 1}: loss {loss}, gradient norm {grad_norm}; samples {named}; the last checkpoint is finite. "
                "Lower optimizer.learning_rate or look at these samples"
            )
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step += 1
        return StepValues(
            loss=loss,
            ce=ce,
            kd=kd,
            grad_norm=grad_norm,
            tokens=found.tokens,
            processed_tokens=found.processed_tokens,
            sample_ce=tuple(sample_ce),
        )

    def accumulate(self, samples: Sequence[Sample], objective: Objective, teacher: Teaches | None) -> Accumulated:
        """Gradients and sums over all micro-batches, divided once by the supervised tokens of them all."""
        lengths = [len(sample.input_ids) for sample in samples]
        tokens = sum(sample.supervised for sample in samples)
        sums = torch.zeros(3, dtype=torch.float64, device=self._runtime.device)
        sample_ce = torch.zeros(len(samples), dtype=torch.float64, device=self._runtime.device)
        packs = self._packs(teacher)
        size, limit = self._spec.micro_batch_size, self.micro_batch_tokens
        for part in parts(lengths, tokens=limit, samples=size, padded=not packs):
            chosen = [samples[i] for i in part]
            batch = (pack(chosen) if packs else pad(chosen)).to(self._runtime.device)
            taught = teacher.taught(batch, objective.temperature) if teacher is not None and objective.distils else None
            with self._runtime.autocast():
                loss, ce, kd, ce_N = self._loss(batch, objective, taught, 1.0 / tokens)
            loss.backward()
            sums += torch.stack([loss.detach() * tokens, ce, kd])
            sample_ce[part] = _means(ce_N, batch.supervised)
        return Accumulated(means=sums / tokens, sample_ce=sample_ce, tokens=tokens, processed_tokens=sum(lengths))

    def _accumulate_within_memory(self, turn: Turn, teacher: Teaches | None) -> Accumulated:
        """Halve what goes through the model together until it fits; the sums, and so the step, stay the same."""
        state = capture_state()
        while True:
            try:
                return self.accumulate(turn.samples, turn.objective, teacher)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                largest = self._largest_part(turn.samples, padded=not self._packs(teacher))
                peak = self._runtime.memory_bytes()
            # Out of the except block, which holds the frames and with them the tensors that did not fit.
            self._optimizer.zero_grad()
            self._runtime.free_memory()
            if largest is None:
                raise OutOfDeviceMemory(
                    f"out of memory in step {self.step + 1} with a single sample at a time; the peak was {peak / 2**30:.2f} GiB. "
                    "Lower max_length, switch gradient_checkpointing on, or take a larger GPU"
                )
            self.micro_batch_tokens = largest // 2
            restore_state(state)

    def _packs(self, teacher: Teaches | None) -> bool:
        """One batch goes through both models."""
        return self.decoder.packs and (teacher is None or teacher.packs)

    def _largest_part(self, samples: Sequence[Sample], *, padded: bool) -> int | None:
        """Tokens of the largest micro-batch, None where each is a single sample."""
        lengths = [len(sample.input_ids) for sample in samples]
        found = parts(lengths, tokens=self.micro_batch_tokens, samples=self._spec.micro_batch_size, padded=padded)
        # The first of a part is its longest.
        taken = [
            len(part) * lengths[part[0]] if padded else sum(lengths[i] for i in part) for part in found if len(part) > 1
        ]
        return max(taken, default=None)

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


def _means(ce_N: Tensor, supervised: Sequence[int]) -> Tensor:
    """The mean of each sample's tokens, float64 [S]."""
    counts_S = torch.tensor(supervised, device=ce_N.device)
    return torch.segment_reduce(ce_N.double(), "sum", lengths=counts_S) / counts_S.clamp_min(1)


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
