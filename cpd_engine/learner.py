"""A model under training with its optimizer: takes one optimizer step, and gives and takes back its whole state as tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cpd_engine.accumulation import Accumulated, Accumulator
from cpd_engine.config import OptimizerSpec
from cpd_engine.course import Turn
from cpd_engine.data.encode import Sample
from cpd_engine.errors import Diverged
from cpd_engine.models.decoder import Decoder
from cpd_engine.objective import Objective
from cpd_engine.parallel import like, whole
from cpd_engine.runtime import Runtime
from cpd_engine.teacher import Teaches


@dataclass(frozen=True, slots=True, kw_only=True)
class StepValues:
    """Of one optimizer step; losses in nats per supervised token, the gradient's norm before clipping.

    `own_tokens` of the `tokens` are of the data's own responses, of which `ce` is, 0 where there is none. `sample_ce`: nats per
    supervised token of each of the turn's samples, before the step.
    """

    loss: float
    ce: float
    kd: float
    grad_norm: float
    tokens: int
    own_tokens: int
    processed_tokens: int
    sample_ce: tuple[float, ...]


class Learner:
    """`step` counts finished optimizer steps. Only what has a gradient is trained, saved and restored."""

    def __init__(
        self,
        decoder: Decoder,
        *,
        spec: OptimizerSpec,
        runtime: Runtime,
        gradient_checkpointing: bool = False,
        sharded: bool = False,
    ) -> None:
        if gradient_checkpointing:
            decoder.checkpoint_gradients(enabled=True)
        self.decoder = decoder
        # Loaded weights are views of a mapped file, at whatever offset it gives them; the bits of a product may depend on that.
        for parameter in decoder.model.parameters():
            parameter.data = parameter.data.clone()
        self.step = 0
        self._spec = spec
        self._accumulator = Accumulator(decoder, spec=spec, runtime=runtime, sharded=sharded)
        self._parallel = self._accumulator.parallel
        self._trained = {name: p for name, p in decoder.model.named_parameters() if p.requires_grad}
        self._optimizer = _adamw(self._trained.values(), spec)

    def learn(self, turn: Turn, teacher: Teaches | None) -> StepValues:
        """One optimizer step. Raises Diverged before the weights are touched, and OutOfDeviceMemory."""
        for group in self._optimizer.param_groups:
            group["lr"] = turn.learning_rate
        self._parallel.module.train()
        found = self.accumulate(turn.samples, turn.objective, teacher)
        limit = self._spec.max_grad_norm
        norm = whole(nn.utils.clip_grad_norm_(self._trained.values(), limit if limit is not None else math.inf))
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
        self._accumulator.spend()
        self._optimizer.zero_grad()
        self._parallel.stepped()
        self.step += 1
        return StepValues(
            loss=loss,
            ce=ce,
            kd=kd,
            grad_norm=grad_norm,
            tokens=found.tokens,
            own_tokens=found.own_tokens,
            processed_tokens=found.processed_tokens,
            sample_ce=tuple(sample_ce),
        )

    def accumulate(self, samples: Sequence[Sample], objective: Objective, teacher: Teaches | None) -> Accumulated:
        """The gradient of a step, in the parameters, and its sums. Raises OutOfDeviceMemory."""
        return self._accumulator.accumulate(samples, objective, teacher)

    @property
    def micro_batch_tokens(self) -> int:
        """What goes through the model together at most; lowered, and kept so, when memory does not suffice."""
        return self._accumulator.micro_batch_tokens

    def limit_micro_batches(self, tokens: int) -> None:
        """Lower `micro_batch_tokens` to what it once came to."""
        self._accumulator.micro_batch_tokens = min(self._accumulator.micro_batch_tokens, tokens)

    def weights(self) -> dict[str, Tensor]:
        """The trained parameters by name: all of them, or the adapter's. Where they are sharded, in the leader alone."""
        return self._parallel.kept({name: parameter.detach() for name, parameter in self._trained.items()})

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Inverse of `weights`, in every process."""
        with torch.no_grad():
            for name, parameter in self._trained.items():
                parameter.copy_(like(weights[name], parameter))

    def give(self, decoder: Decoder) -> None:
        """Copy the trained parameters into another decoder of the same form, in every process."""
        others = dict(decoder.model.named_parameters())
        with torch.no_grad():
            for name, parameter in self._trained.items():
                others[name].copy_(whole(parameter))

    @property
    def sharded(self) -> bool:
        """True where `decoder` holds but a slice of its weights, and cannot be used by itself."""
        return self._parallel.sharded

    def optimizer_state(self) -> dict[str, Tensor]:
        """AdamW's moments and step counts, as "<parameter>/<what>"; as `weights` where sharded."""
        found = {}
        for name, parameter in self._trained.items():
            for what, tensor in self._optimizer.state.get(parameter, {}).items():
                found[f"{name}/{what}"] = tensor
        return self._parallel.kept(found)

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `optimizer_state`, in every process."""
        self._optimizer.state.clear()
        for key, tensor in state.items():
            name, _, what = key.rpartition("/")
            parameter = self._trained[name]
            entry: dict[str, Any] = self._optimizer.state[parameter]
            # A fresh allocation and not a view of a file: its alignment is then that of an unbroken run, and so are the bits.
            entry[what] = tensor.to(parameter.device, copy=True) if what == "step" else like(tensor, parameter)


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
