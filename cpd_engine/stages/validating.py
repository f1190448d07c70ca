"""A model under training on the validation rows."""

from __future__ import annotations

from collections.abc import Callable

from cpd_engine.assessment import assess
from cpd_engine.evaluation.report import metrics_of
from cpd_engine.events import Evaluated, Phase, Subject
from cpd_engine.keeper import Judgement
from cpd_engine.models.decoder import Decoder
from cpd_engine.scoring import cross_entropies
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared


def validation(
    run: Run, prepared: Prepared, subject: Subject, trained: Callable[[], Decoder], phase: Phase
) -> Callable[[int, int], Judgement]:
    """Scores the model as it is then on the validation rows and reports it."""

    def validate(step: int, epoch: int) -> Judgement:
        label = f"validation of {subject} after epoch {epoch}"
        found = _scores(run, prepared, trained(), run.progress(phase, label))
        rows = len(prepared.validation.rows)
        run.emit(Evaluated(subject=subject, split="validation", rows=rows, metrics=found, epoch=epoch, step=step))
        return Judgement(step=step, epoch=epoch, metrics=found)

    return validate


def _scores(
    run: Run, prepared: Prepared, decoder: Decoder, on_progress: Callable[[int, int], None]
) -> dict[str, float]:
    """Every metric, or the cross-entropy alone where it decides, as answers cost far more."""
    evaluation = run.config.evaluation
    if evaluation.validation_metric == "ce":
        samples = prepared.validation.samples
        ce = cross_entropies(decoder, samples, runtime=run.runtime, on_progress=on_progress)
        return {"ce": ce.mean}
    found = assess(
        decoder,
        prepared.validation,
        settings=evaluation.generation,
        end_ids=[prepared.end],
        runtime=run.runtime,
        on_progress=on_progress,
        should_stop=run.should_stop,
    )
    return metrics_of(found)
