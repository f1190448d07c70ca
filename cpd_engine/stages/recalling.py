"""Answers of models that no training of this run has changed: asked once, and recalled by other jobs on the same model and rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from cpd_engine import checkpoint
from cpd_engine.assessment import RowScore
from cpd_engine.data.records import to_json
from cpd_engine.events import Shareable
from cpd_engine.generate import Answer
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared
from cpd_engine.stages.sharing import shared
from cpd_engine.states.digests import Digests
from cpd_engine.states.key import data_digest, model_digest

FILE = "answers.jsonl"
# What an answer's line is taken to weigh, before it is written.
_LINE_BYTES = 4096
Untrained = Literal["teacher", "untouched"]
_ANSWERS_OF: dict[Untrained, Shareable] = {"teacher": "teacher_answers", "untouched": "untouched_answers"}


def write_answers(path: Path, answers: list[RowScore]) -> None:
    """One answer a line."""
    checkpoint.write_jsonl(path, [asdict(answer) for answer in answers])


def read_answers(path: Path) -> list[RowScore]:
    """Inverse of `write_answers`."""
    return [_row_score(line) for line in checkpoint.read_jsonl(path)]


def recalled_answers(
    run: Run, prepared: Prepared, subject: Untrained, model: Path, *, dtype: str, ask: Callable[[], list[RowScore]]
) -> list[RowScore]:
    """As another job has left them beside the kept states, or by asking; where they cannot be left, that is warned of."""

    def parts(files: Digests) -> Mapping[str, Any]:
        """All that the answers and their scores depend on."""
        test = prepared.test
        return {
            "model": model_digest(model, files),
            "rows": hashlib.sha256("\n".join(map(to_json, test.rows)).encode()).hexdigest(),
            "prompts": hashlib.sha256(b"/".join(prompt.tobytes() for prompt in test.prompts)).hexdigest(),
            "samples": data_digest(test.samples),
            "settings": run.config.evaluation.generation.model_dump(),
            "end": prepared.end,
            "dtype": dtype,
        }

    with shared(run, "evaluate", _ANSWERS_OF[subject], parts) as work:
        if work.found is not None:
            return run.fleet.told(read_answers(work.found / FILE) if run.fleet.leads else [])
        answers = ask()
        work.leave(lambda draft: write_answers(draft / FILE, answers), _LINE_BYTES * len(answers))
        return answers


def _row_score(line: dict[str, Any]) -> RowScore:
    answer = line["answer"]
    return RowScore(**line | {"answer": Answer(**answer | {"tokens": tuple(answer["tokens"])})})
