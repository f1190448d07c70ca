"""Answers of models that no training of this run has changed: asked once, and recalled by other jobs on the same model and rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeGuard, TypeVar

import torch

from cpd_engine import checkpoint
from cpd_engine.assessment import RowScore
from cpd_engine.data.encode import Ids
from cpd_engine.data.records import to_json
from cpd_engine.events import Shareable, Subject
from cpd_engine.generate import Answer
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared
from cpd_engine.stages.sharing import shared
from cpd_engine.states.digests import Digests
from cpd_engine.states.key import data_digest, decoder_digest

FILE = "answers.jsonl"
T = TypeVar("T")
# What an answer's line is taken to weigh, before it is written.
_LINE_BYTES = 4096
Untrained = Literal["teacher", "untouched"]
_ANSWERS_OF: dict[Untrained, Shareable] = {"teacher": "teacher_answers", "untouched": "untouched_answers"}


def is_untrained(subject: Subject) -> TypeGuard[Untrained]:
    """Whether the job does not train it, so that another one on the same models finds its answers."""
    return subject in _ANSWERS_OF


def write_answers(path: Path, answers: list[RowScore]) -> None:
    """One answer a line."""
    checkpoint.write_jsonl(path, [asdict(answer) for answer in answers])


def read_answers(path: Path) -> list[RowScore]:
    """Inverse of `write_answers`."""
    return [_row_score(line) for line in checkpoint.read_jsonl(path)]


def recalled_scores(
    run: Run, prepared: Prepared, subject: Untrained, model: Path, dtype: torch.dtype, ask: Callable[[], list[RowScore]]
) -> list[RowScore]:
    """To the test rows, with their scores; see `recalled`."""
    test = prepared.test
    parts = {
        "rows": hashlib.sha256("\n".join(map(to_json, test.rows)).encode()).hexdigest(),
        "prompts": digest_of_prompts(test.prompts),
        "samples": data_digest(test.samples),
        "settings": run.config.evaluation.generation.model_dump(),
        "end": prepared.end,
    }
    return recalled(run, subject, model, dtype, parts, ask, codec=Codec(to_line=asdict, from_line=_row_score))


def digest_of_prompts(prompts: Iterable[Ids]) -> str:
    """A hash of their tokens."""
    return hashlib.sha256(b"/".join(prompt.tobytes() for prompt in prompts)).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec(Generic[T]):
    """How what is kept becomes a line, and comes back."""

    to_line: Callable[[T], dict[str, Any]]
    from_line: Callable[[dict[str, Any]], T]


def recalled(
    run: Run,
    subject: Untrained,
    model: Path,
    dtype: torch.dtype,
    parts: Mapping[str, Any],
    ask: Callable[[], list[T]],
    *,
    codec: Codec[T],
) -> list[T]:
    """As another job has left them beside the kept states, or by asking; where they cannot be left, that is warned of.

    `parts`: all that they depend on beside the model's weights, its dtype and this machine's numerics.
    """

    def depends(files: Digests) -> Mapping[str, Any]:
        return {**parts, "model": decoder_digest(model, files), "dtype": str(dtype)}

    with shared(run, "evaluate", _ANSWERS_OF[subject], depends) as work:
        if work.found is not None:
            kept = checkpoint.read_jsonl(work.found / FILE) if run.fleet.leads else []
            return [codec.from_line(line) for line in run.fleet.told(kept)]
        answers = ask()
        lines = [codec.to_line(answer) for answer in answers]
        work.leave(lambda draft: checkpoint.write_jsonl(draft / FILE, lines), _LINE_BYTES * len(lines))
        return answers


def _row_score(line: dict[str, Any]) -> RowScore:
    return RowScore(**line | {"answer": answer_of(line["answer"])})


def answer_of(line: dict[str, Any]) -> Answer:
    """Inverse of `asdict`, as JSON has it."""
    return Answer(**line | {"tokens": tuple(line["tokens"])})
