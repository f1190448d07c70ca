"""The answers of models that a job does not train, kept for the next job on the same model and rows, which then need not ask again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from cpd_engine import checkpoint
from cpd_engine.assessment import RowScore
from cpd_engine.data.encode import Ids
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
T = TypeVar("T")


def write_answers(path: Path, answers: list[RowScore]) -> None:
    """One answer a line."""
    checkpoint.write_jsonl(path, [asdict(answer) for answer in answers])


def read_answers(path: Path) -> list[RowScore]:
    """Inverse of `write_answers`."""
    return [_row_score(line) for line in checkpoint.read_jsonl(path)]


def recalled_scores(
    run: Run, prepared: Prepared, model: Path, dtype: torch.dtype, ask: Callable[[], list[RowScore]]
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
    return recalled(run, model, dtype, parts, ask, codec=Codec(to_line=asdict, from_line=_row_score))


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
    if run.inputs.state_cache is None or run.config.teacher.cache in ("off", "memory"):
        return ask()
    place, kept = _looked_up(run, model, dtype, parts, codec) if run.fleet.leads else (None, None)
    kept = run.fleet.told(kept)
    if kept is not None:
        return kept
    found = ask()
    if place is not None:
        try:
            _keep(*place, [codec.to_line(one) for one in found])
        except (OSError, StorageFull) as fault:
            warn(run, f"answers are not kept ({fault})")
    return found


def _looked_up(
    run: Run, model: Path, dtype: torch.dtype, parts: Mapping[str, Any], codec: Codec[T]
) -> tuple[tuple[Folder, str] | None, list[T] | None]:
    """Where the answers belong, if anywhere, and those that lie there."""
    assert run.inputs.state_cache is not None
    try:
        folder = Folder(run.inputs.state_cache, run.inputs.state_cache_bytes)
        name = _name(run, model_digest(model, Digests(folder.root)), dtype, parts)
        kept = _kept(run, folder, name)
    except OSError as fault:
        warn(run, f"answers cannot be looked up ({fault})")
        return None, None
    return (folder, name), None if kept is None else [codec.from_line(line) for line in kept]


def _name(run: Run, model: str, dtype: torch.dtype, parts: Mapping[str, Any]) -> str:
    """A hash of all that the answers and their scores depend on."""
    depends = {**parts, "model": model, "dtype": str(dtype), "numerics": numerics(run)}
    return "answers-" + hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:32]


def _kept(run: Run, folder: Folder, name: str) -> list[dict[str, Any]] | None:
    lock = folder.lock(name, exclusive=False)
    if lock is None:
        return None
    try:
        if not folder.path(name).is_dir():
            return None
        checkpoint.verify(folder.path(name))
        folder.touch(name)
        return checkpoint.read_jsonl(folder.path(name) / FILE)
    except CheckpointCorrupt as fault:
        warn(run, f"{fault}; it is asked again")
        return None
    finally:
        lock.release()


def _keep(folder: Folder, name: str, lines: list[dict[str, Any]]) -> None:
    lock = folder.lock(name, exclusive=True)
    if lock is None:
        return  # another job is about to leave the same
    try:
        with checkpoint.sealing(folder.path(name)) as draft:
            checkpoint.write_jsonl(draft / FILE, lines)
    finally:
        lock.release()


def _row_score(line: dict[str, Any]) -> RowScore:
    return RowScore(**line | {"answer": answer_of(line["answer"])})


def answer_of(line: dict[str, Any]) -> Answer:
    """Inverse of `asdict`, as JSON has it."""
    return Answer(**line | {"tokens": tuple(line["tokens"])})
