"""One optimizer step on all ranks of a fleet: who takes which samples, when gradients are exchanged, and what a sharded tensor holds.

Replicated (DDP): every rank holds the whole model and adds its gradients to the others' during its last backward pass of the step.
Sharded (FSDP2): every rank holds a slice of each weight, gradient and moment, and layers are put together while they compute.
Either way gradients arrive as the mean over ranks, so each rank scales its loss by their number: what is left is the sum over ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from cpd_engine.data.batches import Indices
from cpd_engine.fleet import Fleet, shares
from cpd_engine.repro import capture_state, restore_state


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """A micro-batch of this rank: which of the step's samples; whether they count or only keep step with others; whether it exchanges."""

    samples: Indices
    counts: bool = True
    exchanges: bool = True


class Parallel:
    """`module` computes the loss as the fleet's ranks do it together. `blocks` are the layers to shard; None keeps the model whole."""

    def __init__(self, module: nn.Module, fleet: Fleet, *, blocks: Iterable[nn.Module] | None = None) -> None:
        self.fleet = fleet
        self.sharded = blocks is not None and fleet.world > 1
        self.module = module
        self._replica: DistributedDataParallel | None = None
        # Whether other ranks take part in the pass at hand or one before it in this step, so that none of it can be made again.
        self.joined = False
        # The most tokens that have gone through the model at once with gradients and moments in place, and so will again.
        self._proven_tokens = self._largest = 0
        self._moments = False
        if self.sharded and blocks is not None:
            for block in blocks:
                fully_shard(block)
            fully_shard(module)
        elif fleet.world > 1:
            self._replica = self.module = _replica(module)

    def portions(
        self, lengths: Sequence[int], split: Callable[[list[int]], list[Indices]], tokens: Callable[[Indices], int]
    ) -> list[Portion]:
        """This rank's micro-batches of a step over samples of these lengths; all ranks find each other's.

        `split` cuts some of the samples into micro-batches, `tokens` is the size of one. In a fleet every rank has at least one.
        """
        found = [split(share) for share in shares(lengths, self.fleet.world)]
        mine = [Portion(samples=part) for part in found[self.fleet.rank]]
        idle = Portion(samples=np.array([np.argmin(lengths)]), counts=False)
        if self.sharded:
            # Every pass gathers the layers of all ranks: all must make as many.
            return mine + [idle] * (max(map(len, found)) - len(mine))
        if self.fleet.world == 1:
            return mine
        # A pass that runs out of memory is made again in halves, which one that others have joined cannot be.
        if not mine or tokens(mine[-1].samples) > self._proven_tokens:
            mine.append(idle)
        return [Portion(samples=p.samples, counts=p.counts, exchanges=False) for p in mine[:-1]] + mine[-1:]

    def begin(self) -> None:
        """A step is tried, perhaps again: nobody has joined it yet."""
        self.joined = False

    @contextmanager
    def exchanging(self, portion: Portion, tokens: int) -> Iterator[None]:
        """Around a micro-batch's forward and backward pass, of so many tokens."""
        alone = self._replica is not None and not portion.exchanges
        self.joined = self.joined or (self.fleet.world > 1 and not alone)
        state = None if portion.counts else capture_state()
        with self._replica.no_sync() if self._replica is not None and alone else nullcontext():
            yield
        if state is not None:
            # Whether such a pass is made depends on what this process has seen, dropout must not.
            restore_state(state)
        self._largest = max(self._largest, tokens)

    def stepped(self) -> None:
        """Take note that a step is over. The first one makes room for the moments: what fitted before it may fit no more."""
        self._proven_tokens, self._largest = (self._largest, self._largest) if self._moments else (0, 0)
        self._moments = True

    def kept(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the leader writes down: the whole tensors; of sharded ones nothing in other ranks. All ranks ask."""
        if not self.sharded:
            return dict(tensors)
        found = {}
        for name, tensor in tensors.items():
            held = whole(tensor).cpu()
            if self.fleet.leads:
                found[name] = held
        return found


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, put together from all ranks where it is sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor as `parameter` is held: on its device, in memory of its own, this rank's slice where it is sharded."""
    if not isinstance(parameter, DTensor):
        return tensor.to(parameter.device, copy=True)
    moved = tensor.to(parameter.device_mesh.device_type)
    return distribute_tensor(moved, parameter.device_mesh, parameter.placements, src_data_rank=None)


def _replica(module: nn.Module) -> DistributedDataParallel:
    return DistributedDataParallel(
        module,
        forward_sync_buffers=False,
        gradient_as_bucket_view=True,
        # Where tokens choose their experts, some may be chosen in one rank alone.
        find_unused_parameters=any("expert" in name for name, _ in module.named_parameters()),
    )
