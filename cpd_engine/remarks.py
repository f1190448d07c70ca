"""What a user should be warned of in a plan. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cpd_engine.config import BY_GRADES, CODE_TASKS, MATHS_TASKS, EvaluationSpec, RunConfig
from cpd_engine.events import Planned, Warned

if TYPE_CHECKING:
    from cpd_engine.profile import DifficultyProfile

CALIBRATED = frozenset({"calibrated", "calibrated_affine"})
# Codes of what `left_out` tells: of judge and graders.
JUDGE, GRADERS = NOT_IN_FORECAST = ("judge_not_in_forecast", "grading_not_in_forecast")
# Scores that differ by less than this share of their mean tell the samples apart by noise alone.
DEGENERATE = 1e-6


def remarks(config: RunConfig, planned: Planned, floor: int, profile: DifficultyProfile | None) -> list[Warned]:
    """In the order in which they should be read; those of a calibrated curriculum need the profile."""
    found: list[Warned] = []
    dead = [epoch.epoch for epoch in planned.epochs if epoch.dead]
    if dead:
        listed, living = ", ".join(map(str, dead)), "linear" if config.divergence == "taid" else "open"
        found.append(
            Warned(
                code="dead_epoch",
                message=f"the mixed target equals the student in epoch {listed} of {len(planned.epochs)}: its distillation term "
                f"is identically 0, so the teacher is skipped there; mixing '{living}' has no such epoch",
            )
        )
    found.extend(_of_training(config))
    if planned.samples < planned.batch_size:
        found.append(
            Warned(
                code="small_dataset",
                message=f"{planned.samples} training samples do not fill one batch of {planned.batch_size}",
            )
        )
    if profile is not None and config.curriculum in CALIBRATED:
        found.extend(_profile_warnings(config, planned, floor, profile))
    return found


def left_out(evaluation: EvaluationSpec, rows: Mapping[str, int | None]) -> list[Warned]:
    """What no forecast counts: the time of judge and graders, of which nobody knows how fast they are. `rows` of the suites by title,
    None where they are not known yet.
    """
    found: list[Warned] = []
    if evaluation.judge is not None:
        others = len(evaluation.judge.against)
        pairs = _sum([rows.get(title) for title in evaluation.judged], others)
        told = (
            f"the judge is asked {2 * pairs:,} times, about {pairs:,} pairs of answers in both orders"
            if pairs is not None
            else f"the judge is asked twice about every row of {', '.join(evaluation.judged)} for each model compared with ({others})"
        )
        found.append(
            Warned(
                code=JUDGE,
                message=f"{told}; that time is in no forecast. If the judge cannot be had then, the job succeeds without its verdicts, "
                "which its report says, and it is not asked later",
            )
        )
    models = 3 + len(evaluation.baselines)
    for tasks, name in ((MATHS_TASKS, "final answers are compared"), (CODE_TASKS, "programs are run in the sandbox")):
        titles = [suite.title for suite in evaluation.suites if suite.task in tasks]
        answers = _sum([rows.get(title) for title in titles], models)
        if titles:
            count = f"{answers:,} {name}" if answers is not None else f"{name} for every row of {', '.join(titles)}"
            told = f"{count} ({models} models); that time is in no forecast"
            found.append(Warned(code=GRADERS, message=told))
    return found


def _sum(rows: Sequence[int | None], times: int) -> int | None:
    known = [count for count in rows if count is not None]
    return times * sum(known) if len(known) == len(rows) else None


def _of_training(config: RunConfig) -> list[Warned]:
    """What the plan does not show of how the student is trained."""
    found: list[Warned] = []
    if (spec := config.on_policy) is not None:
        kept = (
            "kept states serve the data's own responses alone" if config.teacher.cache != "off" else "nothing is kept"
        )
        found.append(
            Warned(
                code="on_policy",
                message=f"{spec.student_fraction:.0%} of the samples of every step are answered by the student itself, which takes "
                f"time of its own; the teacher's body stays in memory to judge them, and {kept}. Supervised tokens are "
                "counted as if all responses were the data's",
            )
        )
    if config.mixing is not None and config.mixing.kind == "adaptive":
        found.append(
            Warned(
                code="adaptive_mixing",
                message="t is told at its lower bound, that of mixing 'linear': how far it rises above it follows from the losses; "
                "every step tells the one it took",
            )
        )
    return found


def _profile_warnings(config: RunConfig, planned: Planned, floor: int, profile: DifficultyProfile) -> list[Warned]:
    found: list[Warned] = []
    mean = float(profile.cumulative[-1])
    if abs(float(profile.scores[-1]) - float(profile.scores[0])) <= DEGENERATE * abs(mean):
        order = "the student's cross-entropy" if config.difficulty in BY_GRADES else "the sample ids"
        found.append(
            Warned(
                code="degenerate_profile",
                message=f"every sample has the same {config.difficulty} of {mean:.4g}: the order is that of {order} "
                "and the curriculum has nothing to calibrate; curriculum 'none' or 'linear' says what happens",
            )
        )
    floored = sum(epoch.subset_size == floor < planned.samples for epoch in planned.epochs[:-1])
    if config.curriculum == "calibrated" and floored:
        found.append(
            Warned(
                code="floored_subset",
                message=f"{floored} of {len(planned.epochs)} epochs train on no more than the floor of {floor} samples, because "
                "their target lies at or under the easiest samples; raise min_fraction or take 'calibrated_affine'",
            )
        )
    return found
