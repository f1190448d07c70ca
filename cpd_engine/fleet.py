"""The processes that carry out one run together, and the few things they tell each other; in a run of one, nothing at all.

Every process (rank) goes through the same stages. Rank 0 leads: it alone speaks, judges and writes; the others wait for it and
read what it sealed, so a run on several machines wants one file system. What ranks decide together they decide alike, at the
same place: a rank that went its own way would leave the others waiting for it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, overload

import torch
import torch.distributed as dist
from torch import Tensor

from cpd_engine.errors import ResourcesUnavailable, StopRequested

T = TypeVar("T")

# Ranks wait for the leader through whole evaluations. That a run hangs is for its supervisor to see, from its silence.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """This process's place among `world`; `local_rank` of `local_world` on its own machine. Every method but `leads` is collective."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def leads(self) -> bool:
        """True in the one process that speaks and writes."""
        return self.rank == 0

    def agree(self, asked: bool) -> bool:
        """True in every process if it is in any."""
        if self.world == 1:
            return asked
        votes = torch.tensor(float(asked))
        dist.all_reduce(votes)
        return bool(votes > 0)

    def told(self, value: T) -> T:
        """The leader's value, in every process."""
        if self.world == 1:
            return value
        held = [value if self.leads else None]
        dist.broadcast_object_list(held, src=0, device=torch.device("cpu"))
        return held[0]  # type: ignore[return-value]  # the leader's, which is a T

    def gathered(self, value: T) -> list[T]:
        """Every process's value, by rank."""
        if self.world == 1:
            return [value]
        found: list[T] = [value] * self.world
        dist.all_gather_object(found, value)
        return found

    def added(self, tensor: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def wait(self) -> None:
        """Until every process has come here."""
        self.agree(False)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """A block that every process does its own part of. One that breaks it off by StopRequested breaks it off for all."""
        stopped = False
        try:
            yield
        except StopRequested:
            stopped = True
        if self.agree(stopped):
            raise StopRequested

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """A block that the leader has gone through before the others begin it."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()


ALONE = Fleet()


class Dealt(Sequence[T]):
    """The items of this process: every world-th one, as cards are dealt."""

    def __init__(self, items: Sequence[T], fleet: Fleet) -> None:
        self._items = items
        self._places = range(fleet.rank, len(items), fleet.world)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...
    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        """An item, or several in a list."""
        if isinstance(at, slice):
            return [self._items[place] for place in self._places[at]]
        return self._items[self._places[at]]


def dealt_back(parts: Sequence[Sequence[T]]) -> list[T]:
    """All items in their order from what each rank had of them."""
    return [part[turn] for turn in range(len(parts[0])) for part in parts if turn < len(part)]


def place(environment: Mapping[str, str]) -> Fleet:
    """Where torchrun, or `cpd_engine.launch`, has put this process."""
    numbers = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    rank, world, local_rank, local_world = (int(environment[name]) for name in numbers)
    return Fleet(rank=rank, world=world, local_rank=local_rank, local_world=local_world)


@contextmanager
def joined(fleet: Fleet) -> Iterator[None]:
    """Meet the other processes at MASTER_ADDR and MASTER_PORT and part from them at the end.

    A block that fails leaves without a word: the others learn it from the closed connection, and whoever started them from the exit code.
    """
    if fleet.world == 1:
        yield
        return
    if torch.cuda.is_available():
        if fleet.local_rank >= torch.cuda.device_count():
            raise ResourcesUnavailable(
                f"resources.gpus: {fleet.local_world} on this machine, which shows {torch.cuda.device_count()}; ask for fewer"
            )
        torch.cuda.set_device(fleet.local_rank)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, rank=fleet.rank, world_size=fleet.world, timeout=_PATIENCE)
    yield
    fleet.wait()
    dist.destroy_process_group()


def shares(weights: Sequence[int], world: int) -> list[list[int]]:
    """Indices of the items by rank, so that every rank's weight is about equal: the heaviest first, each to the lightest rank.

    A pure function, so that every rank knows every share. Shares may be empty; ties go to the earlier item and the lower rank.
    """
    found: list[list[int]] = [[] for _ in range(world)]
    lightest = [(0, rank) for rank in range(world)]
    for index in sorted(range(len(weights)), key=lambda item: -weights[item]):
        weight, rank = heapq.heappop(lightest)
        found[rank].append(index)
        heapq.heappush(lightest, (weight + weights[index], rank))
    return [sorted(share) for share in found]
