"""Phase `profile`: the student as it is before training, how hard it finds each sample, and the plan that follows from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cpd_engine import checkpoint, difficulty, plan
from cpd_engine.config import StudentFromTeacher
from cpd_engine.curriculum import HARDEST_FIRST
from cpd_engine.data.batches import pad
from cpd_engine.data.store import read_column, write_columns
from cpd_engine.errors import DatasetInvalid
from cpd_engine.events import Planned, Warned
from cpd_engine.models.load import load, save
from cpd_engine.models.prune import block_influence, drop_layers, least_influential
from cpd_engine.profile import DifficultyProfile
from cpd_engine.repro import numpy_generator
from cpd_engine.scoring import CrossEntropies
from cpd_engine.stages.attempting import column_of
from cpd_engine.stages.context import Run
from cpd_engine.stages.figure import draw_profile
from cpd_engine.stages.prepare import Prepared
from cpd_engine.stages.profile_told import profile_ready
from cpd_engine.stages.scored import student_attempts, student_scores
from cpd_engine.stages.teaching import Teaching

# In the order of the training samples: id, score and what it was made of.
SCORES = "scores.arrow"
# Why a sample has no score, by difficulty.
_UNSCORED: dict[str, str] = {
    "answer": "have no final answer in their response",
    "tests": "carry no tests that can be run",
}
# Samples on which the influence of a layer is measured, and how many go through the model together.
_INFLUENCE_SAMPLES = 128
_INFLUENCE_BATCH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiled:
    """The difficulty of the training samples, the untrained student's CE [N] in nats per token, and the plan made with it."""

    profile: DifficultyProfile
    ce_mean: NDArray[np.float64]
    planned: Planned


def base_student(run: Run, prepared: Prepared, teacher: Path) -> Path:
    """The student before training: as it was found or made, or cut here from the teacher as that is now."""
    if prepared.student is not None:
        return prepared.student
    with run.once("base-student") as mine:
        if mine:
            _seal_cut(run, prepared, teacher)
    return run.out / "base-student"


def _seal_cut(run: Run, prepared: Prepared, teacher: Path) -> None:
    decoder = load(teacher, dtype=torch.float32, device=run.runtime.device)
    count = min(_INFLUENCE_SAMPLES, len(prepared.samples))
    drawn = numpy_generator(run.config.seed, "influence").permutation(len(prepared.samples))[:count]
    samples = [prepared.samples[i] for i in drawn]
    starts = range(0, count, _INFLUENCE_BATCH)
    influence = block_influence(decoder, (pad(samples[at : at + _INFLUENCE_BATCH]) for at in starts))
    assert isinstance(run.config.student, StudentFromTeacher)
    dropped = least_influential(influence, run.config.student.drop_layers)
    with run.sealing("base-student", "base-student", provenance={"dropped_layers": dropped}) as draft:
        save(drop_layers(decoder, dropped), draft)
        checkpoint.write_json(draft / "influence.json", {"influence": influence, "dropped": dropped})


def make_profile(run: Run, prepared: Prepared, *, teaching: Teaching, student: Path) -> Profiled:
    """Score every training sample once, sort, and plan the run. Reported again by every process, as it costs nothing."""
    if not run.stands("profile"):
        by_student = student_scores(run, prepared, student)
        kind = run.config.difficulty or "ce_mean"
        by_teacher = teaching.cross_entropies(student) if _asks_teacher(run) else None
        by_answers = student_attempts(run, prepared, student) if difficulty.needs_answers(kind) else None
        seal_scores(run, prepared, by_student, by_teacher, by_answers)
    kept = run.out / "profile" / SCORES
    scores, ce_mean = read_column(kept, "score"), read_column(kept, "student_ce_sum") / prepared.samples.supervised
    teacher_ce = read_column(kept, "teacher_ce_sum") / prepared.samples.supervised if _asks_teacher(run) else None
    found = _profiled(run, prepared, scores, read_column(kept, "tie_break") if _ties(run) else None)
    for warning in found.warnings:
        run.emit(warning)
    if unscored := len(scores) - len(found.profile.order):
        told = f"{unscored} training samples {_UNSCORED.get(run.config.difficulty or '', 'have no finite difficulty')} and are left out"
        run.emit(Warned(code="unscored_samples", message=told))
    run.emit(found.planned)
    run.emit(profile_ready(run, prepared, found.profile, found.planned, ce_mean, teacher_ce))
    return Profiled(profile=found.profile, ce_mean=ce_mean, planned=found.planned)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    profile: DifficultyProfile
    planned: Planned
    warnings: tuple[Warned, ...]


def _asks_teacher(run: Run) -> bool:
    return difficulty.needs_teacher(run.config.difficulty or "ce_mean")


def _ties(run: Run) -> bool:
    return difficulty.breaks_ties(run.config.difficulty or "ce_mean")


def _profiled(
    run: Run, prepared: Prepared, scores: NDArray[np.float64], tie_break: NDArray[np.float64] | None
) -> _Found:
    samples, ranks = prepared.samples, prepared.samples.id_ranks()
    if tie_break is not None:
        ranks = difficulty.ranks_by(tie_break, ranks)
    profile = DifficultyProfile.from_scores(scores, ranks)
    if not len(profile.order):
        raise DatasetInvalid(f"no training sample has a finite difficulty by {run.config.difficulty}; take another one")
    if run.config.curriculum in HARDEST_FIRST:
        profile = profile.hardest_first()
    made = plan.plan(run.config, samples=len(samples), profile=profile, supervised_tokens=samples.supervised)
    return _Found(profile=profile, planned=made.planned, warnings=made.warnings)


def seal_scores(
    run: Run,
    prepared: Prepared,
    by_student: CrossEntropies,
    by_teacher: CrossEntropies | None = None,
    by_answers: NDArray[np.float64] | None = None,
) -> None:
    """Seal `profile/`: what each training sample cost, and the profile that follows. The teacher's sums and what the
    student's answers are worth (ROUGE-L, or how wrong they are) where the difficulty is made of them.
    """
    kind = run.config.difficulty or "ce_mean"
    scores = difficulty.scores(
        kind,
        student_ce_sum=by_student.sums,
        supervised_tokens=by_student.tokens,
        teacher_ce_sum=by_teacher.sums if by_teacher else None,
        student_entropy_sum=by_student.entropy_sums,
        student_rouge_l=by_answers,
        student_failing=by_answers,
    )
    columns: dict[str, Any] = {
        "id": prepared.samples.ids,
        "score": scores,
        "student_ce_sum": by_student.sums,
        "supervised_tokens": by_student.tokens,
    }
    if by_student.entropy_sums is not None:
        columns["student_entropy_sum"] = by_student.entropy_sums
    if by_teacher is not None:
        columns["teacher_ce_sum"] = by_teacher.sums
    if by_answers is not None:
        columns[f"student_{column_of(kind)}"] = by_answers
    if _ties(run):
        columns["tie_break"] = by_student.means
    if run.fleet.leads:
        found = _profiled(run, prepared, scores, columns.get("tie_break"))
        teacher_ce = by_teacher.means if by_teacher else None
        ready = profile_ready(run, prepared, found.profile, found.planned, by_student.means, teacher_ce)
        with run.sealing("profile", "profile") as draft:
            write_columns(draft / SCORES, columns, metadata={"difficulty": kind})
            checkpoint.write_json(draft / "profile.json", asdict(ready))
            draw_profile(ready, draft / "profile.png")
    run.fleet.wait()
