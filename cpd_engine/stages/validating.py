"""A model under training on the validation rows."""

from __future__ import annotations

from collections.abc import Callable

from cpd_engine.assessment import answer, assess
from cpd_engine.evaluation.report import metrics_of
from cpd_engine.events import Evaluated, Phase, PinnedAnswer, Subject
from cpd_engine.keeper import Judgement
from cpd_engine.models.decoder import Decoder
from cpd_engine.scoring import cross_entropies
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared

# Characters of a text that is told with every validation; whole answers to the test rows are kept at the end.
SHOWN = 800


def validation(
    run: Run, prepared: Prepared, subject: Subject, trained: Callable[[], Decoder], phase: Phase
) -> Callable[[int, int], Judgement]:
    """Scores the model as it is then on the validation rows and reports it, with its answers to the pinned ones."""

    def validate(step: int, epoch: int) -> Judgement:
        label = f"validation of {subject} after epoch {epoch}"
        metrics, texts = _found(run, prepared, trained(), run.progress(phase, label))
        run.emit(
            Evaluated(
                subject=subject,
                split="validation",
                rows=len(prepared.validation.rows),
                metrics=metrics,
                epoch=epoch,
                step=step,
                answers=_pinned(prepared, texts),
            )
        )
        return Judgement(step=step, epoch=epoch, metrics=metrics)

    return validate


def _found(
    run: Run, prepared: Prepared, decoder: Decoder, on_progress: Callable[[int, int], None]
) -> tuple[dict[str, float], list[str]]:
    """Every metric, or the cross-entropy alone where it decides, as answers cost far more; and the pinned rows' answers."""
    evaluation, exercise, runtime = run.config.evaluation, prepared.validation, run.runtime
    pinned = evaluation.pinned_rows
    if evaluation.validation_metric == "ce":
        ce = cross_entropies(decoder, exercise.samples, runtime=runtime, on_progress=on_progress)
        answers = answer(
            decoder,
            exercise.prompts[:pinned],
            [row.id for row in exercise.rows[:pinned]],
            settings=evaluation.generation,
            seed=evaluation.generation.seed,
            end_ids=[prepared.end],
            runtime=runtime,
            on_progress=lambda *_: None,
            should_stop=run.should_stop,
        )
        return {"ce": ce.mean}, [one.text for one in answers]
    found = assess(
        decoder,
        exercise,
        settings=evaluation.generation,
        end_ids=[prepared.end],
        runtime=runtime,
        on_progress=on_progress,
        should_stop=run.should_stop,
    )
    return metrics_of(found), [one.answer.text for one in found[:pinned]]


def _pinned(prepared: Prepared, texts: list[str]) -> tuple[PinnedAnswer, ...]:
    return tuple(
        PinnedAnswer(
            row=row.id,
            prompt=_cut(f"{row.instruction}\n{row.input}".strip()),
            reference=_cut(row.references[0]),
            answer=_cut(text),
        )
        for row, text in zip(prepared.validation.rows, texts, strict=False)
    )


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
