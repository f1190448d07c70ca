"""What a training leaves on the disk: states to resume from, and the best weights by validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cpd_engine import checkpoint
from cpd_engine.beside import Beside
from cpd_engine.errors import CheckpointCorrupt, StorageFull
from cpd_engine.evaluation.report import LOWER_IS_BETTER
from cpd_engine.events import Checkpointed, CheckpointRole, Emit, Warned
from cpd_engine.fleet import ALONE, Fleet
from cpd_engine.learner import Learner
from cpd_engine.repro import capture_state, restore_state


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Validation after `step` finished steps: the scores, and the one that decides."""

    step: int
    epoch: int
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a run keeps one training: `folder` under `out`, names with `prefix`, a state every `every` steps, `keep` of them."""

    out: Path
    folder: str
    prefix: str
    every: int
    keep: int


class Keeper:
    """Saves and restores one training. `best` and `judged` (the last validated step) are part of the state that it saves."""

    def __init__(
        self, place: Place, *, metric: str, emit: Emit, beside: Beside | None = None, fleet: Fleet = ALONE
    ) -> None:
        self._place = place
        self._root = place.out / place.folder
        self._metric = metric
        self._emit = emit
        self._beside = beside if beside is not None else Beside()
        self._fleet = fleet
        self.best: Judgement | None = None
        self.judged = 0
        self._saved = 0

    def resume(self, learner: Learner) -> bool:
        """Put the learner where the newest sound state left it; False at the very start. Unsound states are warned of and removed."""
        path = self._fleet.told(self._newest_sound() if self._fleet.leads else None)
        if path is None:
            return False
        learner.load_weights(checkpoint.read_tensors(path / "weights.safetensors"))
        learner.load_optimizer_state(checkpoint.read_tensors(path / "optimizer.safetensors"))
        self._restore_generators(checkpoint.read_tensors(path / "generators.safetensors"))
        for name, part in self._beside.parts.items():
            part.load_state(checkpoint.read_tensors(path / f"{name}.safetensors"))
        state = checkpoint.read_json(path / "state.json")
        learner.step = self._saved = state["step"]
        # Splits decide what dropout draws: what memory did not hold before is not tried again.
        if "micro_batch_tokens" in state:
            learner.limit_micro_batches(state["micro_batch_tokens"])
        self.judged = state["judged"]
        self.best = Judgement(**state["best"]) if state["best"] else None
        return True

    def due(self, step: int) -> bool:
        """True when the state after `step` steps should be saved and is not."""
        return step % self._place.every == 0 and step != self._saved

    def save(self, learner: Learner, epoch: int) -> None:
        """Seal the state to resume from, unless this very state is the last one sealed. It stands when any process returns."""
        step = learner.step
        if step == self._saved:
            return
        self._saved = step
        tensors = {
            "weights": learner.weights(),
            "optimizer": learner.optimizer_state(),
            "generators": self._generators(),
        } | {name: part.state() for name, part in self._beside.parts.items()}
        if self._fleet.leads:
            self._seal_state(tensors, step, epoch, learner.micro_batch_tokens)
        self._fleet.wait()

    def _seal_state(
        self, tensors: Mapping[str, Mapping[str, Tensor]], step: int, epoch: int, micro_batch_tokens: int
    ) -> None:
        path = self._root / checkpoint.state_name(step)
        best = asdict(self.best) if self.best else None
        state = {"step": step, "judged": self.judged, "best": best, "micro_batch_tokens": micro_batch_tokens}
        try:
            _seal(path, tensors, state)
        except StorageFull:
            if len(checkpoint.states(self._root)) < 2:
                raise
            # One try with the room of all but the newest: a state to go back to is worth more than two.
            checkpoint.prune(self._root, keep=1)
            _seal(path, tensors, state)
        standing = checkpoint.prune(self._root, keep=self._place.keep)
        retained = tuple(f"{self._place.prefix}{state.name}" for state in standing)
        self._announce(path, "training", retained, step=step, epoch=epoch)

    def judge(self, found: Judgement, learner: Learner) -> None:
        """Take note of a validation; keep the weights if they are the best so far. A tie goes to the earlier."""
        self.judged = found.step
        if self.best is not None and not self._better(found, self.best):
            return
        self.best = found
        weights = learner.weights()
        if self._fleet.leads:
            self._seal_best(weights, found)
        self._fleet.wait()

    def _seal_best(self, weights: Mapping[str, Tensor], found: Judgement) -> None:
        path = self._root / "best"
        with checkpoint.sealing(path) as draft:
            checkpoint.write_tensors(draft / "weights.safetensors", weights)
            checkpoint.write_json(draft / "state.json", asdict(found))
        self._announce(
            path, "best", (f"{self._place.prefix}best",), step=found.step, epoch=found.epoch, metrics=found.metrics
        )

    def load_best(self, learner: Learner) -> Judgement | None:
        """Give the learner its best weights, if any were judged, and tell which. Raises CheckpointCorrupt."""
        if self.best is None:
            return None
        if self._fleet.leads:
            checkpoint.verify(self._root / "best")
        self._fleet.wait()
        learner.load_weights(checkpoint.read_tensors(self._root / "best" / "weights.safetensors"))
        return self.best

    def _generators(self) -> dict[str, Tensor]:
        """Every process's, those of the leader under the names that a run of one has."""
        states = self._fleet.gathered(capture_state())
        others = {
            f"rank-{rank}/{name}": state for rank, held in enumerate(states) if rank for name, state in held.items()
        }
        return states[0] | others

    def _restore_generators(self, states: Mapping[str, Tensor]) -> None:
        """This process's own; one that took no part before keeps what it began with."""
        prefix = "" if self._fleet.leads else f"rank-{self._fleet.rank}/"
        own = {name.removeprefix(prefix): state for name, state in states.items() if name.startswith(prefix)}
        if own:
            restore_state(own)

    def _better(self, new: Judgement, old: Judgement) -> bool:
        """By the metric; where that is equal, as when every answer is still wrong, by cross-entropy."""
        return self._rank(new) > self._rank(old)

    def _rank(self, judged: Judgement) -> tuple[float, float]:
        value = judged.metrics[self._metric]
        return -value if self._metric in LOWER_IS_BETTER else value, -judged.metrics["ce"]

    def _newest_sound(self) -> Path | None:
        for path in reversed(checkpoint.states(self._root)):
            try:
                checkpoint.verify(path)
                self._check_best(path)
            except CheckpointCorrupt as fault:
                told = f"{self._place.folder}: {fault}; going on from the state before"
                self._emit(Warned(code=fault.code, message=told))
                checkpoint.discard(path)
            else:
                return path
        return None

    def _check_best(self, path: Path) -> None:
        """Raise CheckpointCorrupt unless the best weights that a state speaks of are at hand. Newer ones do: the steps that lead
        from the state to them will be taken again.
        """
        best = checkpoint.read_json(path / "state.json")["best"]
        if best is None:
            return
        checkpoint.verify(self._root / "best")
        if checkpoint.read_json(self._root / "best" / "state.json")["step"] < best["step"]:
            raise CheckpointCorrupt(f"best is older than {path.name}")

    def _announce(
        self,
        path: Path,
        role: CheckpointRole,
        retained: tuple[str, ...],
        *,
        step: int,
        epoch: int,
        metrics: dict[str, float] | None = None,
    ) -> None:
        self._emit(
            Checkpointed(
                name=self._place.prefix + path.name,
                role=role,
                path=path.relative_to(self._place.out).as_posix(),
                files=checkpoint.sealed_files(path),
                retained=retained,
                step=step,
                epoch=epoch,
                metrics=metrics or {},
            )
        )


def _seal(path: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    with checkpoint.sealing(path) as draft:
        for name, named in tensors.items():
            checkpoint.write_tensors(draft / f"{name}.safetensors", named)
        checkpoint.write_json(draft / "state.json", state)
