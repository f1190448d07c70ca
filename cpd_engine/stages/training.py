"""Phases `teacher_sft` and `train`: the three trainings of a run, each of which ends in a sealed model directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from cpd_engine import checkpoint
from cpd_engine.assessment import assess
from cpd_engine.config import HubModel, LoraSpec, MixingSpec, StudentRef
from cpd_engine.course import Course, Method, evaluation_steps, plain_epochs
from cpd_engine.evaluation.report import metrics_of
from cpd_engine.events import Evaluated, Phase, Planned, Subject, Warned
from cpd_engine.keeper import Judgement, Keeper, Place
from cpd_engine.learner import Learner
from cpd_engine.loop import train
from cpd_engine.models.decoder import Decoder
from cpd_engine.models.load import load, save
from cpd_engine.models.lora import attach_lora, merge_lora
from cpd_engine.profile import DifficultyProfile
from cpd_engine.ranking import Ranking
from cpd_engine.repro import derived_seed
from cpd_engine.scoring import cross_entropies
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared
from cpd_engine.stages.profiling import Profiled
from cpd_engine.stages.teaching import Teaching
from cpd_engine.teacher import Teaches


def tune_teacher(run: Run, prepared: Prepared) -> Path:
    """The teacher's directory: as it came, or fine-tuned on the training rows with plain cross-entropy."""
    spec = run.config.teacher_sft
    if spec is None:
        return prepared.teacher
    if run.stands("teacher"):
        return run.out / "teacher"
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
    _train(
        run, prepared, course, "teacher_sft", base=prepared.teacher, place=("teacher_sft", "teacher-"), into="teacher"
    )
    return run.out / "teacher"


def train_student(
    run: Run,
    prepared: Prepared,
    *,
    teaching: Teaching,
    base: Path,
    profiled: Profiled,
) -> None:
    """Distil the student into trained/student, and train the twins that were asked for beside it."""
    course = _student_course(run, prepared, profiled.profile, profiled.planned)
    if not run.stands("trained/student"):
        _train(
            run,
            prepared,
            course,
            "train",
            base=base,
            place=("train", ""),
            into="trained/student",
            lora=run.config.lora,
            teacher=lambda: teaching.teacher(profiled.planned, base) if _distils(course) else None,
            ranking=_ranking(run, prepared, profiled),
        )
    teaching.finish()
    for twin in run.config.evaluation.baselines:
        if not run.stands(f"trained/{twin}"):
            _train(
                run,
                prepared,
                _twin(course),
                "train",
                base=base,
                place=(twin, f"{twin}-"),
                into=f"trained/{twin}",
                lora=run.config.lora,
            )


def _ranking(run: Run, prepared: Prepared, profiled: Profiled) -> Ranking | None:
    if run.config.refresh_every is None:
        return None
    return Ranking(
        profiled.profile,
        ce_mean=profiled.ce_mean,
        supervised=np.array([sample.supervised for sample in prepared.samples], dtype=np.int64),
        ids=[sample.id for sample in prepared.samples],
        kind=run.config.difficulty or "ce_mean",
        every=run.config.refresh_every,
        emit=run.emit,
    )


def _student_course(run: Run, prepared: Prepared, profile: DifficultyProfile, planned: Planned) -> Course:
    """The planned epochs over the samples from easy to hard."""
    config = run.config
    return Course(
        trained="student",
        samples=prepared.samples,
        order=profile.order,
        epochs=planned.epochs,
        repeat=config.subset_repeat or 1,
        optimizer=config.optimizer,
        method=Method(
            divergence=config.divergence or "sft",
            mixing=config.mixing or MixingSpec(),
            detach_target=config.detach_target,
            tau_squared=config.tau_squared,
        ),
        evaluations=evaluation_steps(planned.epochs, config.evaluation.every_epochs)
        if prepared.validation.samples
        else frozenset(),
        seed=config.seed,
    )


def _twin(student: Course) -> Course:
    """Cross-entropy alone, over all samples, with the student's number of steps, learning rates and moments of validation."""
    return Course(
        trained="sft",
        samples=student.samples,
        order=student.order,
        epochs=plain_epochs(len(student.order), student.optimizer.batch_size, student.total_steps),
        repeat=1,
        optimizer=student.optimizer,
        method=Method(),
        evaluations=student.evaluations,
        seed=student.seed,
    )


def _train(
    run: Run,
    prepared: Prepared,
    course: Course,
    phase: Phase,
    *,
    base: Path,
    place: tuple[str, str],
    into: str,
    lora: LoraSpec | None = None,
    teacher: Callable[[], Teaches | None] = lambda: None,
    ranking: Ranking | None = None,
) -> None:
    """Train the model at `base` along `course` and seal the weights that validation chose, or else the last, as `into`.

    `teacher` is asked for before the student is loaded: while its states are being made, its body has the memory to itself.
    """
    mentor = teacher()
    learner = _learner(run, course, base, lora)
    if not learner.decoder.packs:
        told = f"{course.trained}: this family's attention cannot be packed; batches are padded, alike in length where they are split"
        run.emit(Warned(code="not_packed", message=told))
    folder, prefix = place
    spec = run.config.checkpoints
    keeper = Keeper(
        Place(out=run.out, folder=folder, prefix=prefix, every=spec.every_steps, keep=spec.keep),
        metric=run.config.evaluation.validation_metric,
        emit=run.emit,
        ranking=ranking,
    )
    keeper.resume(learner)
    train(
        course,
        learner,
        keeper,
        teacher=mentor,
        validate=_validation(run, prepared, course, learner, phase),
        ranking=ranking,
        runtime=run.runtime,
        emit=run.emit,
        should_stop=run.should_stop,
        clock=run.clock,
    )
    _seal(run, course, learner, keeper.load_best(learner), into)


def _seal(run: Run, course: Course, learner: Learner, chosen: Judgement | None, into: str) -> None:
    """The learner's model, merged, and how it came about, as `into`."""
    with run.sealing(into, into.replace("/", "-"), metrics=chosen.metrics if chosen else None) as draft:
        decoder = learner.decoder
        if decoder.adapter is not None:
            _save_adapter(decoder, run.config.student, draft / "adapter")
        save(merge_lora(decoder), draft)
        steps = {"steps": course.total_steps, "chosen": asdict(chosen) if chosen else None}
        checkpoint.write_json(draft / "training.json", steps)


def _learner(run: Run, course: Course, base: Path, lora: LoraSpec | None) -> Learner:
    config = run.config
    decoder = load(base, dtype=torch.float32, device=run.runtime.device)
    if lora is not None:
        decoder = attach_lora(decoder, lora, seed=derived_seed(config.seed, course.trained, "lora"))
    torch.manual_seed(derived_seed(config.seed, course.trained, "dropout"))
    return Learner(
        decoder,
        spec=course.optimizer,
        runtime=run.runtime,
        gradient_checkpointing=config.gradient_checkpointing,
    )


def _save_adapter(decoder: Decoder, student: StudentRef, out: Path) -> None:
    """The adapter alone, as peft reads it. Its base is named as the recipe names it, not by a path of this machine."""
    for config in decoder.adapter.peft_config.values():
        config.base_model_name_or_path = student.hub if isinstance(student, HubModel) else "base-student"
        # A set, whose order would differ from process to process.
        config.target_modules = sorted(config.target_modules)
    # Embeddings are never adapted here; peft's default asks the hub whether they have grown.
    decoder.adapter.save_pretrained(out, save_embedding_layers=False)
    # peft's model card is a form to fill in.
    (out / "README.md").unlink(missing_ok=True)


def _distils(course: Course) -> bool:
    """Whether any step needs the teacher."""
    return any(turn.alpha < 1.0 and not turn.dead for turn in course.epochs) and course.method.divergence != "sft"


def _validation(
    run: Run, prepared: Prepared, course: Course, learner: Learner, phase: Phase
) -> Callable[[int, int], Judgement]:
    """Scores the learner's model on the validation rows and reports it."""
    subject: Subject = course.trained

    def validate(step: int, epoch: int) -> Judgement:
        label = f"validation of {course.trained} after epoch {epoch}"
        found = _scores(run, prepared, learner, run.progress(phase, label))
        rows = len(prepared.validation.rows)
        run.emit(Evaluated(subject=subject, split="validation", rows=rows, metrics=found, epoch=epoch, step=step))
        return Judgement(step=step, epoch=epoch, metrics=found)

    return validate


def _scores(
    run: Run, prepared: Prepared, learner: Learner, on_progress: Callable[[int, int], None]
) -> dict[str, float]:
    """Every metric, or the cross-entropy alone where it decides, as answers cost far more."""
    evaluation = run.config.evaluation
    if evaluation.validation_metric == "ce":
        samples = prepared.validation.samples
        ce = cross_entropies(learner.decoder, samples, runtime=run.runtime, on_progress=on_progress)
        return {"ce": ce.mean}
    found = assess(
        learner.decoder,
        prepared.validation,
        settings=evaluation.generation,
        end_ids=[prepared.end],
        runtime=run.runtime,
        on_progress=on_progress,
        should_stop=run.should_stop,
    )
    return metrics_of(found)
