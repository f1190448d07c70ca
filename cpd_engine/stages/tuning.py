"""Phase `teacher_sft`: the teacher fine-tuned on the training rows, once for all jobs of the machine that would get the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cpd_engine.config import TeacherSft
from cpd_engine.course import Course, Method, plain_epochs
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared
from cpd_engine.stages.sharing import link_files, shared, size_of
from cpd_engine.stages.training import train_model
from cpd_engine.states.digests import Digests
from cpd_engine.states.key import data_digest, decoder_digest


def tune_teacher(run: Run, prepared: Prepared) -> Path:
    """The teacher's directory: as it came, or fine-tuned on the training rows with plain cross-entropy."""
    spec = run.config.teacher_sft
    if spec is None:
        return prepared.teacher
    if not run.stands("teacher"):
        with shared(
            run, "teacher_sft", "tuned_teacher", lambda files: _tuning_parts(run, prepared, spec, files)
        ) as work:
            if work.found is None:
                _tune(run, prepared, spec)
                tuned = run.out / "teacher"
                work.leave(lambda draft: link_files(tuned, draft), size_of(tuned))
            elif run.fleet.leads:
                with run.sealing("teacher", "teacher") as draft:
                    link_files(work.found, draft)
        run.fleet.wait()
    return run.out / "teacher"


def _tuning_parts(run: Run, prepared: Prepared, spec: TeacherSft, files: Digests) -> dict[str, object]:
    """What the bits of the tuned teacher depend on."""
    return {
        "teacher": decoder_digest(prepared.teacher, files),
        "samples": data_digest(prepared.samples),
        "spec": spec.model_dump(),
        "seed": run.config.seed,
        "checkpointing": run.config.gradient_checkpointing,
        "sharding": run.config.resources.sharding,
    }


def _tune(run: Run, prepared: Prepared, spec: TeacherSft) -> None:
    samples, size = len(prepared.samples), spec.optimizer.batch_size
    course = Course(
        trained="teacher",
        samples=prepared.samples,
        order=np.arange(samples),
        epochs=plain_epochs(samples, size, spec.epochs * -(-samples // size)),
        repeat=1,
        optimizer=spec.optimizer,
        method=Method(),
        evaluations=frozenset(),
        seed=run.config.seed,
    )
    train_model(
        run, prepared, course, "teacher_sft", base=prepared.teacher, place=("teacher_sft", "teacher-"), into="teacher"
    )
