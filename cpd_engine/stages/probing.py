"""A few steps, scores and answers on the real device, timed before the run begins; nothing of the run's own changes by them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from cpd_engine import repro
from cpd_engine.config import OptimizerSpec, StudentFromTeacher
from cpd_engine.course import Turn
from cpd_engine.data.batches import Indices
from cpd_engine.data.encode import Sample
from cpd_engine.events import EpochPlan, Event
from cpd_engine.facts import BATCH_TOKENS
from cpd_engine.learner import Learner
from cpd_engine.models.decoder import Decoder
from cpd_engine.models.load import load
from cpd_engine.models.lora import attach_lora
from cpd_engine.models.prune import decoder_layers, drop_layers
from cpd_engine.objective import Objective
from cpd_engine.plan import plan, schedule
from cpd_engine.presets import PRESETS
from cpd_engine.scoring import cross_entropies
from cpd_engine.stages.answering import time_answers, time_decoding
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared
from cpd_engine.stages.sealing import time_sealing
from cpd_engine.stages.teaching import Teaching
from cpd_engine.stages.writing import settings_of
from cpd_engine.stopwatch import Stopwatch
from cpd_engine.teacher import Teacher, Teaches
from cpd_engine.timing import Amount, Line, Seconds, telling_batches
from cpd_engine.workload import WEIGHT_BYTES, Kind

# Samples scored together: the first few to warm up.
_SCORED = (8, 8, 48, 16)
# No step looks at its epoch.
_EPOCH = EpochPlan(
    epoch=1, subset_size=1, target=None, iterations=1, visits=1, temperature=1.0, mixing=0.0, alpha=1.0, dead=False
)
# What the twin that distils learns by, where the student does not distil.
_KLD = Objective(divergence="kld", alpha=PRESETS["kld"]["alpha"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """Lines by kind of work, and what else was seen: memory at its highest, bytes of weights, decoding steps of an answer by the
    models as they came; and whether the teacher's states are kept, and what they take.
    """

    lines: dict[Kind, Line]
    memory_bytes: int
    teacher_bytes: int
    student_bytes: int
    trained_bytes: int
    teacher_said: int
    student_said: int
    kept: bool
    found: bool
    states_bytes: int
    took: Seconds


def probe(run: Run, prepared: Prepared) -> Probed:
    """Take the steps of this run on weights that are thrown away. The states of torch's generators are put back."""
    with _unnoticed():
        return _Probe(run, prepared).carry_out()


@contextmanager
def _unnoticed() -> Iterator[None]:
    states = repro.capture_state()
    try:
        yield
    finally:
        repro.restore_state(states)
        # Modules refer to themselves in circles, and the run's own models want the room.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class _Probe:
    """One probe: what is timed, on the samples that it drew."""

    def __init__(self, run: Run, prepared: Prepared) -> None:
        self._run, self._prepared, self._config = run, prepared, run.config
        self._watch = Stopwatch(run.runtime.device, run.clock)
        self._samples = prepared.samples
        self._generator = repro.numpy_generator(run.config.seed, "probe")
        # What the run will say of its states, it says itself.
        self._teaching = Teaching(replace(run, emit=_unheard), prepared, prepared.teacher)
        made = plan(run.config, samples=len(prepared.samples), supervised_tokens=prepared.samples.supervised).planned
        choice, self._states_bytes, self._found = self._teaching.expected(made)
        self._kept = choice.kept != "off"
        # On-policy every step has the teacher's body in it, for the student's own text.
        self._spares_body = self._kept and run.config.on_policy is None
        self._tokens = prepared.samples.lengths

    def carry_out(self) -> Probed:
        """In the order of the run, one model after another, so that memory is at its highest where the run's is."""
        began = self._watch.now()
        teacher = self._load_frozen_teacher()
        self._score(teacher, "score_teacher")
        teacher_said = time_answers(self._run, self._prepared, self._watch, teacher, "answer_teacher")
        teacher_bytes = teacher.parameters * WEIGHT_BYTES
        del teacher
        if self._config.teacher_sft is not None:
            spec = self._config.teacher_sft.optimizer
            learner = self._learner("load_teacher", self._load_teacher, spec)
            self._step("tune", learner, self._telling(spec), Objective(), None)
            del learner
        student = self._watch.time("load_student", Amount(pieces=1), self._load_student)
        self._score(student, "score_student")
        student_said = time_answers(self._run, self._prepared, self._watch, student, "answer_student")
        if self._config.on_policy is not None:
            settings = settings_of(self._config.on_policy)
            time_decoding(self._run, self._prepared, self._watch, student, "write_student", settings)
        student_bytes = student.parameters * WEIGHT_BYTES
        del student
        trained_bytes = self._train()
        return Probed(
            lines=self._watch.lines(),
            memory_bytes=self._run.runtime.memory_bytes(),
            teacher_bytes=teacher_bytes,
            student_bytes=student_bytes,
            trained_bytes=trained_bytes,
            teacher_said=teacher_said,
            student_said=student_said,
            kept=self._kept,
            found=self._found,
            states_bytes=self._states_bytes,
            took=self._watch.now() - began,
        )

    def _load_teacher(self) -> Decoder:
        return load(self._prepared.teacher, dtype=torch.float32, device=self._run.runtime.device)

    def _load_frozen_teacher(self) -> Decoder:
        runtime, path = self._run.runtime, self._prepared.teacher
        return self._watch.time(
            "load_teacher", Amount(pieces=1), lambda: load(path, dtype=runtime.frozen_dtype, device=runtime.device)
        )

    def _load_student(self) -> Decoder:
        """The student before training. One that is yet to be cut lacks its teacher's last layers: any of them cost the same."""
        if self._prepared.student is not None:
            return load(self._prepared.student, dtype=torch.float32, device=self._run.runtime.device)
        whole = self._load_teacher()
        assert isinstance(self._config.student, StudentFromTeacher)
        layers = len(decoder_layers(whole))
        return drop_layers(whole, range(layers - self._config.student.drop_layers, layers))

    def _learner(self, kind: Kind, loaded: Callable[[], Decoder], spec: OptimizerSpec) -> Learner:
        decoder = self._watch.time(kind, Amount(pieces=1), loaded)
        if self._config.lora is not None and kind == "load_student":
            seed = repro.derived_seed(self._config.seed, "probe", "lora")
            decoder = attach_lora(decoder, self._config.lora, seed=seed)
        return Learner(
            decoder,
            spec=spec,
            runtime=self._run.runtime,
            gradient_checkpointing=self._config.gradient_checkpointing,
        )

    def _score(self, decoder: Decoder, kind: Kind) -> None:
        runtime = self._run.runtime
        for samples in self._drawn():
            self._watch.time(kind, _amount(samples), partial(cross_entropies, decoder, samples, runtime=runtime))

    def _drawn(self) -> Iterator[list[Sample]]:
        """Samples to go through a model together, no more tokens than are scored at once."""
        for count in _SCORED:
            drawn = self._generator.permutation(len(self._samples))[:count]
            fitting = int(np.searchsorted(np.cumsum(self._tokens[drawn]), BATCH_TOKENS, side="right"))
            yield [self._samples[int(i)] for i in drawn[: max(1, fitting)]]

    def _train(self) -> int:
        """Time the student's steps and the sealing of what they move; the bytes of that."""
        course, spec = schedule(self._config), self._config.optimizer
        batches = self._telling(spec)
        twins = self._config.evaluation.baselines
        teacher = self._teacher(batches) if any(course.distils) or "kld" in twins else None
        learner = self._learner("load_student", self._load_student, spec)
        if teacher is not None:
            kind: Kind = "distil_kept" if self._spares_body else "distil"
            objective = self._objective(course.distils.index(True)) if any(course.distils) else _KLD
            self._step(kind, learner, batches, objective, teacher)
        if "sft" in twins or not all(course.distils):
            self._step("plain", learner, batches, Objective(), None)
        return time_sealing(self._run.out, self._watch, learner.weights())

    def _teacher(self, batches: Sequence[Indices]) -> Teaches:
        """Asked at every visit or, where states are kept, once about the samples of these batches, which is timed."""
        decoder = self._load_frozen_teacher()
        if not self._spares_body:
            return Teacher(decoder, self._run.runtime)
        decoder.model.eval()
        for samples in self._drawn():
            self._watch.time("teach", _amount(samples), partial(self._teaching.ask, decoder, samples))
        met = np.unique(np.concatenate(batches))
        return self._teaching.of(decoder, [self._samples[int(i)] for i in met])

    def _objective(self, epoch: int) -> Objective:
        config, course = self._config, schedule(self._config)
        return Objective(
            divergence=config.divergence or "sft",
            constants=config.constants.given() if config.constants is not None else {},
            alpha=course.alphas[epoch],
            temperature=course.temperatures[epoch],
            mixing=course.mixing[epoch],
            detach_target=config.detach_target,
            tau_squared=config.tau_squared,
        )

    def _telling(self, spec: OptimizerSpec) -> tuple[Indices, ...]:
        """Small, middling and large steps, after one to warm up."""
        small, middle, large, stretched = telling_batches(self._tokens, spec.batch_size, self._generator)
        return middle, small, middle, large, stretched

    def _step(
        self, kind: Kind, learner: Learner, batches: Sequence[Indices], objective: Objective, teacher: Teaches | None
    ) -> None:
        """Optimizer steps. Their learning rate is 0: nothing runs away."""
        self._run.stop_if_asked()
        for batch in batches:
            samples = [self._samples[int(i)] for i in batch]
            turn = Turn(epoch=_EPOCH, index=0, indices=batch, samples=samples, objective=objective, learning_rate=0.0)
            self._watch.time(kind, _amount(samples), partial(learner.learn, turn, teacher))


def _unheard(event: Event) -> None:
    """Events that are not the run's own."""


def _amount(samples: Sequence[Sample]) -> Amount:
    """One step or batch of these."""
    return Amount(
        pieces=1,
        units=sum(len(sample.input_ids) for sample in samples),
        others=sum(sample.supervised for sample in samples),
    )
