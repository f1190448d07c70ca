"""A model's answers and cross-entropies on rows it was not trained on, row by row."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from cpd_engine.config import GenerationSpec
from cpd_engine.data.encode import Ids, Sample
from cpd_engine.data.records import Row
from cpd_engine.errors import Diverged
from cpd_engine.evaluation.text import exact_match, rouge_l
from cpd_engine.fleet import Dealt, dealt_back
from cpd_engine.generate import Answer, generate, row_seed
from cpd_engine.models.decoder import Decoder
from cpd_engine.runtime import Runtime
from cpd_engine.scoring import cross_entropies


@dataclass(frozen=True, slots=True, kw_only=True)
class Exercise:
    """Rows to be asked and scored: row, encoded sample and prompt ids at the same index."""

    rows: Sequence[Row]
    samples: Sequence[Sample]
    prompts: Sequence[Ids]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowScore:
    """One row. `exact_match` 0 or 1, `rouge_l` in 0..1, `ce_sum` in nats over the `supervised` tokens of the reference."""

    row: str
    answer: Answer
    exact_match: float
    rouge_l: float
    ce_sum: float
    supervised: int


def assess(
    decoder: Decoder,
    exercise: Exercise,
    *,
    settings: GenerationSpec,
    end_ids: Collection[int],
    runtime: Runtime,
    on_progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> list[RowScore]:
    """Ask and score every row, each process of a fleet its share. Raises StopRequested, and Diverged where a model's loss is no number."""
    ce = cross_entropies(decoder, exercise.samples, runtime=runtime)
    if bad := [sample.id for sample, loss in zip(exercise.samples, ce.sums, strict=True) if not math.isfinite(loss)]:
        raise Diverged(f"the loss of {len(bad)} held-out rows is no number, such as that of {bad[0]}")
    answers = answer(
        decoder,
        exercise.prompts,
        [row.id for row in exercise.rows],
        settings=settings,
        seed=settings.seed,
        end_ids=end_ids,
        runtime=runtime,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    return [
        RowScore(
            row=row.id,
            answer=answer,
            exact_match=exact_match(answer.text, row.references),
            rouge_l=rouge_l(answer.text, row.references),
            ce_sum=float(ce.sums[i]),
            supervised=int(ce.tokens[i]),
        )
        for i, (row, answer) in enumerate(zip(exercise.rows, answers, strict=True))
    ]


def answer(
    decoder: Decoder,
    prompts: Sequence[Ids],
    ids: Sequence[str],
    *,
    settings: GenerationSpec,
    seed: int,
    end_ids: Collection[int],
    runtime: Runtime,
    on_progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
    stops: Sequence[str] = (),
) -> list[Answer]:
    """One answer a prompt, each process of a fleet making its share. What is drawn depends on the seed and the row's id alone."""
    fleet, total = runtime.fleet, len(prompts)
    with fleet.apart(), runtime.autocast():
        own = generate(
            decoder,
            Dealt(prompts, fleet),
            settings=settings,
            end_ids=end_ids,
            seeds=[row_seed(seed, row) for row in Dealt(ids, fleet)],
            on_progress=lambda done, _: on_progress(min(done * fleet.world, total), total),
            should_stop=should_stop,
            stops=stops,
        )
    return dealt_back(fleet.gathered(own))
