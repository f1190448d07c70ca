"""The untrained student's answers to the training prompts, for the difficulties that are told by them (paper 6.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cpd_engine import checkpoint
from cpd_engine.config import Difficulty
from cpd_engine.data.records import Row
from cpd_engine.evaluation.text import rouge_l
from cpd_engine.fleet import Dealt, dealt_back
from cpd_engine.generate import Answer, generate
from cpd_engine.models.decoder import Decoder
from cpd_engine.models.load import load
from cpd_engine.stages.context import Run
from cpd_engine.stages.failing import failing
from cpd_engine.stages.prepare import Prepared

ANSWERS = "answers.jsonl"
# Samples answered and sealed together: what a stop or a crash costs at most.
PART = 1024


def column_of(kind: Difficulty | None) -> str:
    """What is told of each answer: its `rouge_l`, whether its final answer is `wrong`, or the share of tests `failing`."""
    match kind:
        case "answer":
            return "wrong"
        case "tests":
            return "failing"
        case _:
            return "rouge_l"


def attempted(run: Run, prepared: Prepared, path: Path) -> NDArray[np.float64]:
    """What the greedy answer of the model at `path` to each training prompt is worth [N], 0..1, by `column_of` the difficulty.

    NaN where it cannot be told. Parts that stand are not asked again. Raises StopRequested and SandboxUnavailable.
    """
    total, found, name = len(prepared.samples), [], column_of(run.config.difficulty)
    decoder: Decoder | None = None
    for start in range(0, total, PART):
        unit = f"attempts/{start:08d}"
        if not run.stands(unit):
            decoder = decoder or load(path, dtype=torch.float32, device=run.runtime.device)
            _seal_part(run, prepared, decoder, range(start, min(start + PART, total)), unit)
        values = [line[name] for line in checkpoint.read_jsonl(run.out / unit / ANSWERS)]
        found += [math.nan if value is None else value for value in values]
    return np.array(found, dtype=np.float64)


def _seal_part(run: Run, prepared: Prepared, decoder: Decoder, part: range, unit: str) -> None:
    answers = _ask(run, prepared, decoder, part)
    with run.fleet.apart():
        if run.fleet.leads:
            lines = _lines(run, prepared, part, answers)
            with run.sealing(unit, unit.replace("/", "-")) as draft:
                checkpoint.write_jsonl(draft / ANSWERS, lines)


def _ask(run: Run, prepared: Prepared, decoder: Decoder, part: range) -> list[Answer]:
    fleet, samples = run.fleet, [prepared.samples[i] for i in part]
    progress, total = run.progress("profile", "answers of the untrained student"), len(prepared.samples)
    prompts = Dealt([sample.input_ids[: sample.prompt_length] for sample in samples], fleet)
    with fleet.apart(), run.runtime.autocast():
        own = generate(
            decoder,
            prompts,
            settings=run.config.evaluation.generation.model_copy(update={"temperature": 0.0}),
            end_ids=[prepared.end],
            seeds=[0] * len(prompts),
            on_progress=lambda done, _: progress(part.start + min(done * fleet.world, len(part)), total),
            should_stop=run.should_stop,
        )
    return dealt_back(fleet.gathered(own))


def _lines(run: Run, prepared: Prepared, part: range, answers: Sequence[Answer]) -> list[dict[str, object]]:
    rows = [prepared.rows[prepared.samples[index].row] for index in part]
    graded = _graded(run, rows, [answer.text for answer in answers], part.start, len(prepared.samples))
    return [
        {"id": row.id, "text": answer.text, "finish_reason": answer.finish_reason, **values}
        for row, answer, values in zip(rows, answers, graded, strict=True)
    ]


def _graded(
    run: Run, rows: Sequence[Row], texts: Sequence[str], start: int, total: int
) -> Sequence[Mapping[str, object]]:
    kind = run.config.difficulty
    if kind not in ("answer", "tests"):
        return [{"rouge_l": rouge_l(text, [row.response])} for row, text in zip(rows, texts, strict=True)]
    progress = run.progress("profile", "answers of the untrained student, graded")
    found = failing(
        kind, rows, texts, on_progress=lambda done, _: progress(start + done, total), should_stop=run.should_stop
    )
    return [{column_of(kind): one.share, "parsed": one.parsed} for one in found]
