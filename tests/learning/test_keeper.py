from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cpd_engine import checkpoint
from cpd_engine.config import OptimizerSpec
from cpd_engine.errors import CheckpointCorrupt
from cpd_engine.events import Checkpointed, Event, Warned
from cpd_engine.keeper import Judgement, Keeper, Place
from cpd_engine.learner import Learner
from tests.learning.small_models import CPU, decoder


class _Kept:
    """A keeper, its learner and what they said; `at` stands for training up to a step."""

    def __init__(self, out: Path, *, metric: str = "rouge_l", keep: int = 2) -> None:
        self.events: list[Event] = []
        self.learner = Learner(decoder(out / "models"), spec=OptimizerSpec(), runtime=CPU)
        place = Place(out=out, folder="sft", prefix="sft-", every=2, keep=keep)
        self.keeper = Keeper(place, metric=metric, emit=self.events.append)

    def at(self, step: int) -> Learner:
        self.learner.step = step
        with torch.no_grad():
            for weight in self.learner.weights().values():
                weight.fill_(float(step))
        return self.learner

    def judge(self, step: int, **metrics: float) -> None:
        self.keeper.judge(Judgement(step=step, epoch=1, metrics=metrics), self.at(step))

    def weight(self) -> float:
        return float(next(iter(self.learner.weights().values())).flatten()[0])

    def names(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(event.name, event.retained) for event in self.events if isinstance(event, Checkpointed)]


def test_states_are_named_after_their_training_and_only_the_newest_stand(tmp_path: Path) -> None:
    kept = _Kept(tmp_path)
    for step in (2, 4, 6):
        kept.keeper.save(kept.at(step), epoch=1)
    assert kept.names() == [
        ("sft-step-000002", ("sft-step-000002",)),
        ("sft-step-000004", ("sft-step-000002", "sft-step-000004")),
        ("sft-step-000006", ("sft-step-000004", "sft-step-000006")),
    ]
    assert sorted(path.name for path in (tmp_path / "sft").iterdir()) == ["step-000004", "step-000006"]


def test_a_state_is_due_every_so_many_steps_and_never_saved_twice(tmp_path: Path) -> None:
    kept = _Kept(tmp_path)
    assert [step for step in range(1, 7) if kept.keeper.due(step)] == [2, 4, 6]
    kept.keeper.save(kept.at(4), epoch=1)
    assert not kept.keeper.due(4)
    kept.keeper.save(kept.at(4), epoch=1)
    assert len(kept.names()) == 1


def test_a_new_keeper_resumes_where_the_last_state_was(tmp_path: Path) -> None:
    first = _Kept(tmp_path)
    first.judge(2, rouge_l=5.0, ce=1.0)
    first.keeper.save(first.at(3), epoch=1)
    second = _Kept(tmp_path)
    assert second.keeper.resume(second.learner)
    assert (second.learner.step, second.weight()) == (3, 3.0)
    assert (second.keeper.judged, second.keeper.best) == (2, first.keeper.best)
    assert not second.keeper.due(3)


def test_what_memory_did_not_hold_is_not_tried_again_after_a_resume(tmp_path: Path) -> None:
    first, second = _Kept(tmp_path), _Kept(tmp_path)
    first.learner.limit_micro_batches(32)
    first.keeper.save(first.at(3), epoch=1)
    assert second.learner.micro_batch_tokens > 32
    assert second.keeper.resume(second.learner)
    assert second.learner.micro_batch_tokens == 32


def test_there_is_nothing_to_resume_at_the_start(tmp_path: Path) -> None:
    kept = _Kept(tmp_path)
    assert not kept.keeper.resume(kept.learner)
    assert kept.keeper.load_best(kept.learner) is None


@pytest.mark.parametrize(
    ("metric", "judged", "best"),
    [
        ("rouge_l", [(1, 4.0, 3.0), (2, 6.0, 3.0), (3, 5.0, 1.0)], 2),
        ("ce", [(1, 4.0, 3.0), (2, 6.0, 2.0), (3, 5.0, 2.5)], 2),
        # Equal scores: lower cross-entropy; equal in that as well: the earlier.
        ("rouge_l", [(1, 0.0, 3.0), (2, 0.0, 2.0), (3, 0.0, 2.5)], 2),
        ("rouge_l", [(1, 4.0, 3.0), (2, 4.0, 3.0)], 1),
    ],
)
def test_the_best_weights_come_back(
    tmp_path: Path, metric: str, judged: list[tuple[int, float, float]], best: int
) -> None:
    kept = _Kept(tmp_path, metric=metric)
    for step, rouge_l, ce in judged:
        kept.judge(step, rouge_l=rouge_l, ce=ce)
    kept.at(9)
    chosen = kept.keeper.load_best(kept.learner)
    assert chosen is not None
    assert (chosen.step, kept.weight()) == (best, float(best))
    assert all(name == "sft-best" for name, _ in kept.names())


def test_corrupt_states_are_passed_over_with_a_warning_until_a_sound_one(tmp_path: Path) -> None:
    first = _Kept(tmp_path, keep=3)
    for step in (2, 4, 6):
        first.keeper.save(first.at(step), epoch=1)
    for step in (4, 6):
        file = tmp_path / "sft" / checkpoint.state_name(step) / "optimizer.safetensors"
        file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    second = _Kept(tmp_path)
    assert second.keeper.resume(second.learner)
    assert second.learner.step == 2
    warned = [event.code for event in second.events if isinstance(event, Warned)]
    assert warned == ["checkpoint_corrupt", "checkpoint_corrupt"]
    assert [path.name for path in checkpoint.states(tmp_path / "sft")] == ["step-000002"]


def test_a_state_whose_best_weights_are_lost_is_not_resumed_from(tmp_path: Path) -> None:
    first = _Kept(tmp_path)
    first.keeper.save(first.at(2), epoch=1)
    first.judge(3, rouge_l=5.0, ce=1.0)
    first.keeper.save(first.at(4), epoch=1)
    checkpoint.discard(tmp_path / "sft" / "best")
    second = _Kept(tmp_path)
    assert second.keeper.resume(second.learner)
    assert second.learner.step == 2
    assert second.keeper.best is None


def test_best_weights_that_went_corrupt_are_not_handed_out(tmp_path: Path) -> None:
    kept = _Kept(tmp_path)
    kept.judge(2, rouge_l=5.0, ce=1.0)
    (tmp_path / "sft" / "best" / "weights.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointCorrupt):
        kept.keeper.load_best(kept.learner)
