"""From texts to scores in 0..1, by the family of the task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cpd_engine.data.records import Row
from cpd_engine.errors import StopRequested
from cpd_engine.evaluation.maths import final_answer
from cpd_engine.evaluation.programs import Programs
from cpd_engine.evaluation.settings import family
from cpd_engine.evaluation.text import exact_match, rouge_l
from cpd_engine.evaluation.verifier import Verifier

OnProgress = Callable[[int, int], None]
ShouldStop = Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """Scores in 0..1 by metric, and what was made of the answer: the final answer of maths, how a program fared."""

    scores: dict[str, float]
    parsed: str | None = None


def grade(
    task: str,
    rows: Sequence[Row],
    texts: Sequence[str],
    *,
    programs: Programs | None,
    on_progress: OnProgress,
    should_stop: ShouldStop,
) -> list[Grade]:
    """A grade for each text, in the rows' order. `programs`: of a code task. Raises StopRequested."""
    match family(task):
        case "text":
            return [_text(row, text) for row, text in zip(rows, texts, strict=True)]
        case "maths":
            return _maths(rows, texts, on_progress, should_stop)
        case "code":
            assert programs is not None
            return [Grade(scores=scores, parsed=how) for scores, how in programs.grade(texts, on_progress, should_stop)]


def _text(row: Row, text: str) -> Grade:
    return Grade(scores={"rouge_l": rouge_l(text, row.references), "exact_match": exact_match(text, row.references)})


def _maths(rows: Sequence[Row], texts: Sequence[str], on_progress: OnProgress, should_stop: ShouldStop) -> list[Grade]:
    grades = []
    with Verifier() as verifier:
        for done, (row, text) in enumerate(zip(rows, texts, strict=True), start=1):
            if should_stop():
                raise StopRequested
            answer = final_answer(text)
            right = answer is not None and verifier.equal(row.references[0], answer)
            grades.append(Grade(scores={"accuracy": float(right)}, parsed=answer))
            if done % _TOLD_EVERY == 0 or done == len(rows):
                on_progress(done, len(rows))
    return grades


_TOLD_EVERY = 50
