"""The untrained student's answers to the training prompts, for the difficulties that are told by them (paper 6.3)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cpd_engine import checkpoint
from cpd_engine.evaluation.text import rouge_l
from cpd_engine.fleet import Dealt, dealt_back
from cpd_engine.generate import Answer, generate
from cpd_engine.models.decoder import Decoder
from cpd_engine.models.load import load
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared

ANSWERS = "answers.jsonl"
# Samples answered and sealed together: what a stop or a crash costs at most.
PART = 1024


def attempted_rouge_l(run: Run, prepared: Prepared, path: Path) -> NDArray[np.float64]:
    """ROUGE-L [N], 0..1, of the greedy answer of the model at `path` to each training prompt. Parts that stand are not asked again."""
    total, found = len(prepared.samples), []
    decoder: Decoder | None = None
    for start in range(0, total, PART):
        unit = f"attempts/{start:08d}"
        if not run.stands(unit):
            decoder = decoder or load(path, dtype=torch.float32, device=run.runtime.device)
            _seal_part(run, prepared, decoder, range(start, min(start + PART, total)), unit)
        found += [line["rouge_l"] for line in checkpoint.read_jsonl(run.out / unit / ANSWERS)]
    return np.array(found, dtype=np.float64)


def _seal_part(run: Run, prepared: Prepared, decoder: Decoder, part: range, unit: str) -> None:
    answers = _ask(run, prepared, decoder, part)
    if run.fleet.leads:
        with run.sealing(unit, unit.replace("/", "-")) as draft:
            checkpoint.write_jsonl(draft / ANSWERS, [_line(prepared, i, a) for i, a in zip(part, answers, strict=True)])
    run.fleet.wait()


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


def _line(prepared: Prepared, index: int, answer: Answer) -> dict[str, object]:
    sample = prepared.samples[index]
    return {
        "id": sample.id,
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "rouge_l": rouge_l(answer.text, [prepared.rows[sample.row].response]),
    }
