"""How a run asks its teacher: chosen once from sizes and room, told before it costs anything, then by kept states or by its body."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cpd_engine import checkpoint, difficulty, plan, savings
from cpd_engine.data.encode import Sample
from cpd_engine.data.store import lengths
from cpd_engine.errors import CheckpointCorrupt
from cpd_engine.events import Phase, Planned, TeacherStatesPlanned
from cpd_engine.models.decoder import Decoder, vocabulary_size
from cpd_engine.models.files import load_config
from cpd_engine.models.load import load
from cpd_engine.projection import head_of
from cpd_engine.scoring import CrossEntropies, cross_entropies
from cpd_engine.shapes import shape_of
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared
from cpd_engine.stages.shelving import LABEL, Shelf, private_folder, room_for, shelf_of, warn, watch_of
from cpd_engine.states.choice import Choice, choose, fallen
from cpd_engine.states.fill import InMemory, fill
from cpd_engine.states.folder import NoRoom
from cpd_engine.states.kept import Kept
from cpd_engine.states.layout import lay_out
from cpd_engine.states.once import Question, WidthUnexpected
from cpd_engine.states.records import HiddenRecords, Records, own_head
from cpd_engine.states.topk import TopKRecords
from cpd_engine.teacher import KeptTeacher, PartlyKeptTeacher, Teacher, Teaches


class Teaching:
    """The teacher at `path` in this process. `student` is where the untrained student lies, for the forecast of what is saved."""

    def __init__(self, run: Run, prepared: Prepared, path: Path) -> None:
        self._run, self._prepared, self._path = run, prepared, path
        self._vocabulary = vocabulary_size(prepared.tokenizer)
        self._chosen = False
        self._kept: Kept | None = None

    def teacher(self, planned: Planned, student: Path) -> Teaches:
        """For training along the plan. On-policy its body is there in any case, for the student's own text."""
        kept = self._states("train", planned, student)
        if kept is None:
            return Teacher(self._load(), self._run.runtime)
        of_data = KeptTeacher(kept)
        if self._run.config.on_policy is None:
            return of_data
        return PartlyKeptTeacher(of_data, Teacher(self._load(), self._run.runtime))

    def cross_entropies(self, student: Path) -> CrossEntropies:
        """The teacher's score of every training sample, in the precision in which it teaches; free where its states are kept."""
        run, samples = self._run, self._prepared.samples
        report = run.progress("profile", "difficulty by the teacher")
        kept = self._states(
            "profile",
            plan.plan(run.config, samples=len(samples), supervised_tokens=samples.supervised).planned,
            student,
        )
        if kept is None:
            return cross_entropies(self._load(), samples, runtime=run.runtime, on_progress=report)
        with run.fleet.apart(), torch.no_grad(), run.runtime.autocast():
            sums = kept.cross_entropies(samples, report)
        return CrossEntropies(sums=sums, tokens=samples.supervised)

    def expected(self, planned: Planned) -> tuple[Choice, int, bool]:
        """How the states will be kept, the bytes they take, and whether another job has left them; nothing is told or made.

        A teacher that will have been tuned first is none that another job can have asked.
        """
        question = self._question()
        passes = self._passes(planned)
        shelf = shelf_of(self._run, self._prepared, self._path, question.records) if passes > 0 else None
        found = shelf is not None and shelf.cached and self._run.config.teacher_sft is None
        return self._choice(question, shelf, passes, cached=found), question.form.size_bytes, found

    def ask(self, decoder: Decoder, samples: Sequence[Sample]) -> Tensor:
        """What would be kept of these samples' supervised tokens, by the teacher's loaded body."""
        question = self._question(samples)
        sink = InMemory(question.form.tokens, question.form.width, question.form.dtype)
        fill(sink, decoder, samples, question.layout, question.records, runtime=self._run.runtime, on_progress=_silent)
        return sink.rows

    def of(self, decoder: Decoder, samples: Sequence[Sample]) -> Teaches:
        """A teacher that was asked about these samples alone."""
        question, rows = self._question(samples), self.ask(decoder, samples)
        head, device = own_head(head_of(decoder)), self._run.runtime.device
        return KeptTeacher(Kept(rows, head, samples, question.layout, question.records, device=device))

    def close(self) -> None:
        """Let go of what is kept: the memory, or the lock that shields it from eviction."""
        if self._kept is not None:
            self._kept.close()
        self._kept, self._chosen = None, False

    def finish(self) -> None:
        """Nothing is asked any more: a run's own folder of states goes as well."""
        self.close()
        self._run.fleet.wait()
        if self._run.fleet.leads:
            shutil.rmtree(private_folder(self._run), ignore_errors=True)

    def _load(self) -> Decoder:
        return load(self._path, dtype=self._run.runtime.frozen_dtype, device=self._run.runtime.device)

    def _states(self, phase: Phase, planned: Planned, student: Path) -> Kept | None:
        """The kept states, found or made; None where the body is asked at every visit. Chosen and told at the first call."""
        if not self._chosen:
            question = self._question()
            passes = self._passes(planned)
            shelf = shelf_of(self._run, self._prepared, self._path, question.records) if passes > 0 else None
            choice = self._choose(question, shelf, passes, planned, student)
            with self._run.fleet.apart():
                self._kept = self._open(question, shelf, choice, phase)
            if self._run.fleet.agree(self._kept is None):
                self.close()  # by all processes or by none
            self._chosen = True
        return self._kept

    def _question(self, samples: Sequence[Sample] | None = None) -> Question:
        """Of all training samples unless some are named."""
        samples = self._prepared.samples if samples is None else samples
        return Question(
            samples=samples,
            layout=lay_out(samples),
            records=self._records(),
            runtime=self._run.runtime,
            load=self._load,
        )

    def _choose(
        self, question: Question, shelf: Shelf | None, passes: float, planned: Planned, student: Path
    ) -> Choice:
        found = shelf is not None and shelf.cached
        choice, cached = self._run.fleet.told((self._choice(question, shelf, passes, cached=found), found))
        if choice.fell_back:
            warn(self._run, choice.reason)
        said, spent = self._text_passes(planned), passes if choice.kept == "off" else float(not cached)
        self._run.emit(
            TeacherStatesPlanned(
                kept=choice.kept,
                reason=choice.reason,
                cached=cached,
                states_bytes=question.form.size_bytes,
                passes_without=passes + said,
                passes_with=spent + said,
                operations_ratio=self._ratio(question, passes + said, spent + said, planned, student),
            )
        )
        return choice

    def _choice(self, question: Question, shelf: Shelf | None, passes: float, *, cached: bool) -> Choice:
        return choose(
            self._run.config.teacher.cache,
            size_bytes=question.form.size_bytes,
            passes=passes,
            cached=cached,
            approximate=isinstance(question.records, TopKRecords),
            room=room_for(self._run, shelf),
        )

    def _open(self, question: Question, shelf: Shelf | None, choice: Choice, phase: Phase) -> Kept | None:
        """What was chosen; where the disk or memory turns out not to hold it, what is left, with a warning: never the end of a job."""
        report = self._run.progress(phase, LABEL)
        try:
            if choice.kept == "disk" and shelf is not None:
                watch = watch_of(self._run, phase, len(question.layout.packs))
                head_bytes = self._vocabulary * _width(self._path) * self._run.runtime.frozen_dtype.itemsize
                return question.on_disk(shelf.folder, shelf.key, head_bytes=head_bytes, watch=watch, on_progress=report)
            return question.in_memory(report) if choice.kept == "memory" else None
        except WidthUnexpected as fault:
            warn(self._run, str(fault))
            return None
        except (NoRoom, CheckpointCorrupt, OSError) as fault:
            left = fallen(choice.kept, size_bytes=question.form.size_bytes, room=room_for(self._run, shelf))
            warn(self._run, f"{fault}; now: {left.kept} ({left.reason})")
        return self._open(question, shelf, left, phase)

    def _records(self) -> Records:
        config, dtype = self._run.config, self._run.runtime.frozen_dtype
        if config.teacher.top_k is None:
            return HiddenRecords(width=_width(self._path), dtype=dtype)
        course = plan.schedule(config)
        used = {tau for tau, asks in zip(course.temperatures, course.distils, strict=True) if asks}
        used |= {1.0} if "kld" in config.evaluation.baselines else set()
        # One id at least is left for the rest, of which a mass of 0 has no logarithm.
        return TopKRecords(k=min(config.teacher.top_k, self._vocabulary - 1), temperatures=tuple(sorted(used)))

    def _passes(self, planned: Planned) -> float:
        """Of the teacher's body over a sample in this job, without kept states: where the data respond, which is all they can spare."""
        config = self._run.config
        scoring = difficulty.needs_teacher(config.difficulty or "ce_mean")
        twins = savings.twin_visits(planned, config.evaluation.baselines)
        return scoring + twins + config.own_share * self._visits(planned)

    def _text_passes(self, planned: Planned) -> float:
        """Those over the student's own text."""
        return (1.0 - self._run.config.own_share) * self._visits(planned)

    def _visits(self, planned: Planned) -> float:
        distils = self._run.config.divergence != "sft"
        return savings.visits(planned.epochs, samples=planned.samples, distils=distils)

    def _ratio(self, question: Question, passes: float, spent: float, planned: Planned, student: Path) -> float | None:
        """The job's operations with the body at every visit ÷ those of this choice; None where a model's shape is unknown."""
        weights = [_weights(path, self._vocabulary) for path in (self._path, student)]
        if weights[0] is None or weights[1] is None:
            return None
        twins = len(self._run.config.evaluation.baselines) * planned.total_iterations * planned.batch_size
        visited = sum(epoch.visits for epoch in planned.epochs) + twins
        return savings.operations_ratio(
            supervised_fraction=question.layout.tokens / int(lengths(question.samples).sum()),
            teacher=weights[0],
            student=weights[1],
            passes_without=passes,
            passes_with=spent,
            trained_visits=visited / planned.samples,
        )


def _width(path: Path) -> int:
    """D of the states that the head takes, as the config tells it; OPT's smaller models project them first."""
    config = load_config(path)
    return int(getattr(config, "word_embed_proj_dim", None) or config.hidden_size)


def _weights(path: Path, vocabulary: int) -> savings.Weights | None:
    shape = shape_of(checkpoint.read_json(path / "config.json"))
    if shape is None:
        return None
    return savings.Weights(body=shape.layers * shape.layer_parameters, head=vocabulary * shape.hidden)


def _silent(done: int, total: int) -> None:
    """Progress that nobody waits for."""
