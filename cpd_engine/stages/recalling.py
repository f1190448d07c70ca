"""The answers of models that a job does not train, kept for the next job on the same model and rows, which then need not ask again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from cpd_engine import checkpoint
from cpd_engine.assessment import RowScore
from cpd_engine.data.records import to_json
from cpd_engine.errors import CheckpointCorrupt, StorageFull
from cpd_engine.generate import Answer
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared
from cpd_engine.stages.shelving import numerics, warn
from cpd_engine.states.digests import Digests
from cpd_engine.states.folder import Folder
from cpd_engine.states.key import data_digest, model_digest

FILE = "answers.jsonl"


def write_answers(path: Path, answers: list[RowScore]) -> None:
    """One answer a line."""
    checkpoint.write_jsonl(path, [asdict(answer) for answer in answers])


def read_answers(path: Path) -> list[RowScore]:
    """Inverse of `write_answers`."""
    return [_row_score(line) for line in checkpoint.read_jsonl(path)]


def recalled(
    run: Run, prepared: Prepared, model: Path, dtype: torch.dtype, ask: Callable[[], list[RowScore]]
) -> list[RowScore]:
    """As another job has left them beside the kept states, or by asking; where they cannot be left, that is warned of."""
    if run.inputs.state_cache is None or run.config.teacher.cache in ("off", "memory"):
        return ask()
    place, kept = _looked_up(run, prepared, model, dtype) if run.fleet.leads else (None, None)
    kept = run.fleet.told(kept)
    if kept is not None:
        return kept
    found = ask()
    if place is not None:
        try:
            _keep(*place, found)
        except (OSError, StorageFull) as fault:
            warn(run, f"answers are not kept ({fault})")
    return found


def _looked_up(
    run: Run, prepared: Prepared, model: Path, dtype: torch.dtype
) -> tuple[tuple[Folder, str] | None, list[RowScore] | None]:
    """Where the answers belong, if anywhere, and those that lie there."""
    assert run.inputs.state_cache is not None
    try:
        folder = Folder(run.inputs.state_cache, run.inputs.state_cache_bytes)
        name = _name(run, prepared, model_digest(model, Digests(folder.root)), dtype)
        return (folder, name), _kept(run, folder, name)
    except OSError as fault:
        warn(run, f"answers cannot be looked up ({fault})")
        return None, None


def _name(run: Run, prepared: Prepared, model: str, dtype: torch.dtype) -> str:
    """A hash of all that the answers and their scores depend on."""
    test = prepared.test
    rows = hashlib.sha256("\n".join(map(to_json, test.rows)).encode()).hexdigest()
    prompts = hashlib.sha256(b"/".join(prompt.tobytes() for prompt in test.prompts)).hexdigest()
    parts = {
        "model": model,
        "rows": rows,
        "prompts": prompts,
        "samples": data_digest(test.samples),
        "settings": run.config.evaluation.generation.model_dump(),
        "end": prepared.end,
        "dtype": str(dtype),
        "numerics": numerics(run),
    }
    return "answers-" + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _kept(run: Run, folder: Folder, name: str) -> list[RowScore] | None:
    lock = folder.lock(name, exclusive=False)
    if lock is None:
        return None
    try:
        if not folder.path(name).is_dir():
            return None
        checkpoint.verify(folder.path(name))
        folder.touch(name)
        return read_answers(folder.path(name) / FILE)
    except CheckpointCorrupt as fault:
        warn(run, f"{fault}; it is asked again")
        return None
    finally:
        lock.release()


def _keep(folder: Folder, name: str, answers: list[RowScore]) -> None:
    lock = folder.lock(name, exclusive=True)
    if lock is None:
        return  # another job is about to leave the same
    try:
        with checkpoint.sealing(folder.path(name)) as draft:
            write_answers(draft / FILE, answers)
    finally:
        lock.release()


def _row_score(line: dict[str, Any]) -> RowScore:
    answer = line["answer"]
    return RowScore(**line | {"answer": Answer(**answer | {"tokens": tuple(answer["tokens"])})})
