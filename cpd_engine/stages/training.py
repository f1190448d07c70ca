"""Phase `train`: the student and its twins, and how any model of a run is trained into a sealed directory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from cpd_engine.beside import Beside
from cpd_engine.config import LoraSpec, MixingSpec
from cpd_engine.course import Course, Method, evaluation_steps, twin_of
from cpd_engine.events import Phase, Planned, Warned
from cpd_engine.keeper import Keeper, Place
from cpd_engine.learner import Learner
from cpd_engine.loop import train
from cpd_engine.models.decoder import Decoder
from cpd_engine.models.load import load
from cpd_engine.models.lora import attach_lora
from cpd_engine.profile import DifficultyProfile
from cpd_engine.repro import derived_seed
from cpd_engine.stages.carrying import beside_of
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared
from cpd_engine.stages.profiling import Profiled
from cpd_engine.stages.teaching import Teaching
from cpd_engine.stages.trained import seal_trained
from cpd_engine.stages.validating import validation
from cpd_engine.teacher import Teaches


def train_student(
    run: Run,
    prepared: Prepared,
    *,
    teaching: Teaching,
    base: Path,
    profiled: Profiled,
) -> None:
    """Distil the student into trained/student, and train the twins that were asked for beside it."""
    student = _student_course(run, prepared, profiled.profile, profiled.planned)

    def teacher_of(course: Course) -> Teaches | None:
        return teaching.teacher(profiled.planned, base) if _distils(course) else None

    for course in (student, *(twin_of(student, kind) for kind in run.config.evaluation.baselines)):
        into = f"trained/{course.trained}"
        if not run.stands(into):
            train_model(
                run,
                prepared,
                course,
                "train",
                base=base,
                place=("train", "") if course is student else (course.trained, f"{course.trained}-"),
                into=into,
                lora=run.config.lora,
                teacher=partial(teacher_of, course),
                beside=partial(beside_of, run, prepared, profiled) if course is student else _nothing_beside,
            )
    teaching.finish()


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
            constants=config.constants.given() if config.constants is not None else {},
            mixing=config.mixing or MixingSpec(),
            detach_target=config.detach_target,
            tau_squared=config.tau_squared,
        ),
        evaluations=evaluation_steps(planned.epochs, config.evaluation.every_epochs)
        if prepared.validation.samples
        else frozenset(),
        seed=config.training_seed,
    )


def _nothing_beside(_trained: Callable[[], Decoder]) -> Beside:
    """Of a training that is carried by its weights alone."""
    return Beside()


def train_model(
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
    beside: Callable[[Callable[[], Decoder]], Beside] = _nothing_beside,
) -> None:
    """Train the model at `base` along `course` and seal the weights that validation chose, or else the last, as `into`.

    `teacher` is asked for before the student is loaded: while its states are being made, its body has the memory to itself.
    `beside` is made for what gives the model under training as a whole.
    """
    mentor = teacher()
    fresh = partial(_decoder, course, base, lora)
    learner = _learner(run, course, fresh)
    if not learner.decoder.packs:
        told = f"{course.trained}: this family's attention cannot be packed; batches are padded, alike in length where they are split"
        run.emit(Warned(code="not_packed", message=told))
    trained = partial(_whole, run, learner, fresh)
    carried = beside(trained)
    keeper = _keeper(run, place, carried)
    keeper.resume(learner)
    train(
        course,
        learner,
        keeper,
        teacher=mentor,
        validate=validation(run, prepared, course.trained, trained, phase),
        beside=carried,
        runtime=run.runtime,
        emit=run.emit,
        should_stop=run.asked_to_stop,
        clock=run.clock,
    )
    chosen = keeper.load_best(learner)
    best = trained()
    if run.fleet.leads:
        seal_trained(run, best, into, steps=course.total_steps, chosen=chosen)
    run.fleet.wait()


def _keeper(run: Run, place: tuple[str, str], carried: Beside) -> Keeper:
    folder, prefix = place
    spec = run.config.checkpoints
    return Keeper(
        Place(out=run.out, folder=folder, prefix=prefix, every=spec.every_steps, keep=spec.keep),
        metric=run.config.evaluation.validation_metric,
        emit=run.emit,
        beside=carried,
        fleet=run.fleet,
    )


class _Fresh(Protocol):
    """Makes the decoder that a training begins with, on a device."""

    def __call__(self, device: torch.device | str, /) -> Decoder: ...


def _decoder(course: Course, base: Path, lora: LoraSpec | None, device: torch.device | str) -> Decoder:
    decoder = load(base, dtype=torch.float32, device=device)
    if lora is None:
        return decoder
    return attach_lora(decoder, lora, seed=derived_seed(course.seed, course.trained, "lora"))


def _learner(run: Run, course: Course, fresh: _Fresh) -> Learner:
    config, fleet = run.config, run.fleet
    sharded = config.resources.sharding == "full" and fleet.world > 1
    # To be sharded it is loaded into the machine's memory, from which each GPU takes its slices.
    decoder = fresh("cpu" if sharded else run.runtime.device)
    # Every rank drops other units; the leader's are those of a run of one.
    torch.manual_seed(derived_seed(course.seed, course.trained, "dropout", *([] if fleet.leads else [fleet.rank])))
    return Learner(
        decoder,
        spec=course.optimizer,
        runtime=run.runtime,
        gradient_checkpointing=config.gradient_checkpointing,
        sharded=sharded,
    )


def _whole(run: Run, learner: Learner, fresh: _Fresh) -> Decoder:
    """The learner's decoder, or where that is sharded a copy with the whole of its weights."""
    if not learner.sharded:
        return learner.decoder
    decoder = fresh(run.runtime.device)
    learner.give(decoder)
    return decoder


def _distils(course: Course) -> bool:
    """Whether any step needs the teacher."""
    return any(turn.alpha < 1.0 and not turn.dead for turn in course.epochs) and course.method.divergence != "sft"
