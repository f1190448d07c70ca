"""Phase `prepare`: rows read and split, models found or made, vocabularies compared, rows encoded."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from cpd_engine import checkpoint
from cpd_engine.assessment import Exercise
from cpd_engine.config import HubModel, LocalModel, StudentFromTeacher, TinyModel
from cpd_engine.data import parity
from cpd_engine.data.encode import end_id
from cpd_engine.data.files import SplitName
from cpd_engine.data.records import Row
from cpd_engine.data.rows import Rows
from cpd_engine.data.source import split_rows
from cpd_engine.data.store import Samples, Subset
from cpd_engine.errors import DatasetInvalid
from cpd_engine.events import DataReady, Warned
from cpd_engine.models.files import load_config
from cpd_engine.models.licences import stated_licence
from cpd_engine.models.load import check_vocabularies, load_tokenizer, resolve
from cpd_engine.models.tiny import build_tiny
from cpd_engine.plan import plan
from cpd_engine.repro import numpy_generator
from cpd_engine.stages.context import Run
from cpd_engine.stages.encoding import Stored, encode_rows
from cpd_engine.stages.failing import require_allowed, require_gradable
from cpd_engine.stages.judging import require_judge
from cpd_engine.stages.origins import given, origins
from cpd_engine.stages.questions import seal_questions

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
# Without validation rows the last weights are taken; without these there is nothing to do or to show.
REQUIRED: tuple[SplitName, ...] = ("train", "test")
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """`student` is None where it will be cut from the teacher. `data` is what prepared/data.json says. No sample has more than
    `max_length` tokens.
    """

    teacher: Path
    student: Path | None
    tokenizer: PreTrainedTokenizerBase
    end: int
    max_length: int
    rows: Rows
    samples: Samples
    validation: Exercise
    test: Exercise
    data: Mapping[str, Any]


def prepare(run: Run) -> Prepared:
    """Raises every refusal that data, models and settings can earn, before anything is spent on them."""
    require_allowed(run.config, run.inputs)
    require_judge(run.config, run.inputs)
    with run.once("prepared") as mine, run.fleet.apart():
        if mine:
            seal_rows(run)
    seal_questions(run, run.config.evaluation.suites)
    data = checkpoint.read_json(run.out / "prepared" / "data.json")
    rows = {split: Rows(run.out / "prepared" / f"{split}.jsonl") for split in SPLITS}
    run.stop_if_asked()
    teacher, student = _models(run, rows["train"], data["commits"])
    tokenizer = load_tokenizer(teacher)
    if student is not None:
        tokenizer = _shared_tokenizer(run, tokenizer, load_tokenizer(student), rows["train"])
    return _encoded(run, teacher, student, tokenizer, rows, data)


def seal_rows(run: Run) -> None:
    """Read, check and split the rows into `prepared/`, and pin the commits of models on a hub."""
    config = run.config
    with run.sealing("prepared", "prepared") as draft:
        found = split_rows(
            config.dataset, inputs=run.inputs, seed=config.seed, into=draft, on_rows=run.break_off_if_asked
        )
        models = origins(run)
        licence = config.dataset.license if found.snapshot is None else stated_licence(found.snapshot)
        content = {
            "rows": found.rows,
            "dropped": found.dropped,
            "shared_prompts": found.shared_prompts,
            "commits": {"dataset": found.revision} | {name: origin.commit for name, origin in models.items()},
            "licences": {"dataset": licence} | {name: origin.licence for name, origin in models.items()},
            "files": {split: [given(path) for path in paths] for split, paths in found.files.items()},
            "sha256": _hash_of_all([draft / f"{split}.jsonl" for split in SPLITS]),
        }
        checkpoint.write_json(draft / "data.json", content)


def _hash_of_all(paths: Sequence[Path]) -> str:
    """sha256 of the files one behind the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def _models(run: Run, rows: Iterable[Row], commits: Mapping[str, str | None]) -> tuple[Path, Path | None]:
    """The directories of both models. A tiny one is made on the spot, with the other's tokenizer where that one has its own."""
    config = run.config
    found = {
        name: _found(run, ref, commits.get(name))
        for name, ref in (("teacher", config.teacher), ("student", config.student))
        if isinstance(ref, HubModel | LocalModel)
    }
    if isinstance(config.teacher, TinyModel):
        tokenizer = load_tokenizer(found["student"]) if "student" in found else None
        found["teacher"] = _tiny(run, config.teacher, "base-teacher", rows, tokenizer)
    if isinstance(config.student, TinyModel):
        found["student"] = _tiny(run, config.student, "base-student", rows, load_tokenizer(found["teacher"]))
    return found["teacher"], None if isinstance(config.student, StudentFromTeacher) else found["student"]


def _found(run: Run, ref: HubModel | LocalModel, commit: str | None) -> Path:
    if isinstance(ref, HubModel) and commit is not None:
        ref = HubModel(hub=ref.hub, revision=commit)
    with run.fleet.leader_first():  # what it downloads the others find in the cache
        return resolve(ref, inputs=run.inputs).path


def _tiny(run: Run, ref: TinyModel, name: str, rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase | None) -> Path:
    with run.once(name) as mine:
        if mine:
            texts = (text for row in rows for text in (row.instruction, row.input, row.response))
            positions = run.config.max_length + run.config.evaluation.generation.max_new_tokens
            with run.sealing(name, name) as draft:
                build_tiny(ref, texts, draft, tokenizer=tokenizer, max_positions=positions)
    return run.out / name


def _shared_tokenizer(
    run: Run, teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase, rows: Rows
) -> PreTrainedTokenizerBase:
    """The student's tokenizer, which users will download; the teacher's where only that one has the chat template asked for."""
    template = run.config.template
    check_vocabularies(teacher, student)
    found = parity.compare(teacher, student, rows, template)
    run.emit(found)
    for warning in parity.differences(found):
        run.emit(warning)
    return teacher if template == "chat" and not student.chat_template and teacher.chat_template else student


def _encoded(
    run: Run,
    teacher: Path,
    student: Path | None,
    tokenizer: PreTrainedTokenizerBase,
    rows: Mapping[SplitName, Rows],
    data: Mapping[str, Any],
) -> Prepared:
    config = run.config
    length = _max_length(run, [path for path in (teacher, student) if path is not None])
    encoded = encode_rows(run, rows, tokenizer, max_length=length, sha256=data["sha256"])
    _report(run, data, encoded, length)
    require_gradable(config, (rows["train"][int(at)] for at in encoded["train"].samples.rows))
    limits: dict[SplitName, int | None] = {
        "validation": config.evaluation.validation_rows,
        "test": config.evaluation.test_rows,
    }
    chosen = {
        split: _exercise(run, split, rows[split], encoded[split].samples, limit) for split, limit in limits.items()
    }
    return Prepared(
        teacher=teacher,
        student=student,
        tokenizer=tokenizer,
        end=end_id(tokenizer, config.template),
        max_length=length,
        rows=rows["train"],
        samples=encoded["train"].samples,
        validation=chosen["validation"],
        test=chosen["test"],
        data=data,
    )


def _report(run: Run, data: Mapping[str, Any], encoded: Mapping[SplitName, Stored], length: int) -> None:
    """Say what the rows have become. Raises DatasetInvalid where none is left, and NothingToLearn."""
    train = encoded["train"]
    dropped = Counter(data["dropped"])
    for split in SPLITS:
        dropped.update(encoded[split].dropped)
    for split in REQUIRED:
        if not encoded[split].samples:
            raise DatasetInvalid(f"no {split} row is left; dropped by reason: {dict(dropped)}; max_length is {length}")
    plan(run.config, samples=len(train.samples), supervised_tokens=train.samples.supervised)
    _warn(run, data, sum(found.truncated for found in encoded.values()), dropped)
    run.emit(
        DataReady(
            rows={split: len(encoded[split].samples) for split in SPLITS},
            dropped=dict(sorted(dropped.items())),
            prompt_tokens=int(train.samples.prompt_lengths.sum()),
            supervised_tokens=int(train.samples.supervised.sum()),
            sha256=data["sha256"],
        )
    )


def _max_length(run: Run, models: Sequence[Path]) -> int:
    """The length asked for, or the positions that the models have, where that is less."""
    bounds = [getattr(load_config(path), "max_position_embeddings", None) for path in models]
    length = min([run.config.max_length, *(int(bound) for bound in bounds if bound)])
    if length < run.config.max_length:
        told = f"max_length: {run.config.max_length} is more than the models have positions; {length} is used"
        run.emit(Warned(code="max_length_lowered", message=told))
    return length


def _exercise(run: Run, split: str, rows: Rows, samples: Samples, limit: int | None) -> Exercise:
    """At most `limit` samples, drawn by the seed, in the rows' order."""
    drawn = np.arange(len(samples))
    if limit is not None and limit < len(samples):
        drawn = np.sort(numpy_generator(run.config.seed, split, "rows").permutation(len(samples))[:limit])
    chosen = Subset(samples, drawn)
    prompts = tuple(sample.input_ids[: sample.prompt_length] for sample in chosen)
    return Exercise(rows=Subset(rows, samples.rows[drawn]), samples=chosen, prompts=prompts)


def _warn(run: Run, data: Mapping[str, Any], truncated: int, dropped: Mapping[str, int]) -> None:
    if truncated:
        told = f"{truncated} responses are longer than max_length leaves room for and were cut short"
        run.emit(Warned(code="truncated", message=told))
    if dropped:
        listed = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
        run.emit(Warned(code="rows_dropped", message=f"rows left out by reason: {listed}"))
    if data["shared_prompts"]:
        told = f"{data['shared_prompts']} test rows ask what a training row asks: their scores measure memory"
        run.emit(Warned(code="shared_prompts", message=told))
