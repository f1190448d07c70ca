"""A model scored on suites as it is, by the same code as the models of a run; nothing is trained."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from cpd_engine import checkpoint
from cpd_engine.config import ExaminationConfig
from cpd_engine.data.encode import end_id
from cpd_engine.events import EVENT, Emit, Examined, Phase, PhaseFinished, PhaseStarted, to_json
from cpd_engine.fleet import ALONE
from cpd_engine.inputs import Inputs
from cpd_engine.models.files import check_directory
from cpd_engine.models.load import load, load_tokenizer
from cpd_engine.repro import derived_seed
from cpd_engine.stages.context import Run
from cpd_engine.stages.opening import open_run, told
from cpd_engine.stages.questions import read_suites, seal_questions
from cpd_engine.stages.suites import Subject, answer_suites, ask_now, report_suites


def examine(
    config: ExaminationConfig,
    *,
    model: Path,
    inputs: Inputs,
    out: Path,
    emit: Emit,
    should_stop: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
) -> Examined:
    """Score the model directory, or what is left of it to score in `out`. Errors and the last event are those of `pipeline.run`."""
    phase: Phase = "evaluate"
    with told(emit, emit, clock, lambda: phase):
        check_directory(model)
        this = open_run(config, inputs, out, emit, should_stop, clock, ALONE, also=_weights(model))
        started = clock()
        emit(PhaseStarted(phase=phase, index=0, total=1))
        reused = (out / "report").exists()
        found = _examined(this, model)
        emit(PhaseFinished(phase=phase, duration_s=clock() - started, reused=reused))
        emit(found)
        return found


def _weights(model: Path) -> str:
    """What tells one model from another: its weights and its configuration."""
    files = sorted([*model.glob("*.safetensors"), model / "config.json"])
    hashes = [checkpoint.hash_file(model, file.name).sha256 for file in files]
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def _examined(this: Run[ExaminationConfig], model: Path) -> Examined:
    config, chat = this.config, this.config.template == "chat"
    tokenizer = load_tokenizer(model)
    seal_questions(this, config.suites)
    suites = read_suites(this, config.suites, chat=chat, batch_size=config.batch_size)
    subject = Subject(
        name="model",
        loaded=partial(load, model, dtype=torch.float32, device=this.runtime.device),
        answers=ask_now,
    )
    answer_suites(this, suites, subject, tokenizer=tokenizer, end=end_id(tokenizer, config.template))
    seed = derived_seed(config.seed, "bootstrap")
    with this.once("report") as mine:
        if mine:
            with this.sealing("report", "report") as draft:
                found = Examined(suites=report_suites(this, suites, ["model"], draft, seed=seed))
                (draft / "report.json").write_text(to_json(found) + "\n", "utf-8")
    return _read_report(this.out / "report" / "report.json")


def _read_report(path: Path) -> Examined:
    found = EVENT.validate_json(path.read_bytes())
    assert isinstance(found, Examined)
    return found
