"""The forecast of a run: its plan at the speeds that a probe has measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cpd_engine import checkpoint, plan
from cpd_engine.assessment import Exercise
from cpd_engine.course import evaluation_steps
from cpd_engine.data.encode import Sample
from cpd_engine.data.store import lengths, supervised
from cpd_engine.events import PHASES, Forecasted, Phase, PhaseForecast, Planned
from cpd_engine.facts import Facts, Lengths, Questions, SuiteQuestions
from cpd_engine.forecast import FORWARD_FLOPS, TRAINING_FLOPS, disk_bytes
from cpd_engine.remarks import left_out
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared
from cpd_engine.stages.probing import Probed
from cpd_engine.stages.profiling import Profiled
from cpd_engine.stages.questions import UNIT, read_suites
from cpd_engine.stages.tracing import count_parameters
from cpd_engine.timing import Seconds
from cpd_engine.workload import STEPS, WEIGHT_BYTES, spent, student_steps, tasks

# The duration is told with this margin; benchmarks/forecast shows how far off it has been.
MARGIN = 1.25

# A run of less arithmetic is over before its forecast would matter: about a minute on two cores, and on a GPU.
_LEAST_FLOPS = {"cpu": 3e12, "cuda": 3e15}


def is_worth_probing(run: Run, prepared: Prepared) -> bool:
    """Whether the student's training alone takes so long that timing a few steps of it first is next to nothing."""
    teacher = count_parameters(prepared.teacher)
    student = count_parameters(prepared.student) if prepared.student is not None else teacher
    made = _plan(run, prepared).planned
    visits = made.total_iterations * made.batch_size
    tokens = visits * float(prepared.samples.lengths.mean())
    flops = tokens * (FORWARD_FLOPS * teacher + TRAINING_FLOPS * student)
    return flops >= _LEAST_FLOPS.get(run.runtime.device.type, math.inf)


def forecast(
    run: Run, prepared: Prepared, probed: Probed, *, passed: Mapping[Phase, Seconds], profiled: Profiled | None = None
) -> Forecasted:
    """What the whole run takes. `profiled` makes the subsets exact; the phases in `passed` are over and took that long."""
    made = _plan(run, prepared)
    planned = made.planned if profiled is None else profiled.planned
    facts = _facts(run, prepared, probed, planned, profiled)
    work = tasks(run.config, planned, facts)
    phases = spent(work, probed.lines) | dict(passed)
    whole = sum(phases.values(), probed.took)
    exact = made.exact or profiled is not None
    # What a calibrated curriculum leaves open is how many steps there are.
    stepping_s = sum(probed.lines[task.kind].of(task.amount).wall_s for task in work if task.kind in STEPS)
    least, most = (1.0, 1.0) if exact else (bound / planned.total_iterations for bound in made.bounds)
    steps = student_steps(run.config, planned, facts)
    tokens = sum(amount.units for amount in steps.values())
    # In memory or as a mapped file, they come to lie beside the process's own on a CPU; never on an accelerator.
    states_bytes = probed.states_bytes if probed.kept else 0
    return Forecasted(
        exact=exact,
        duration_s=whole.wall_s,
        least_s=(whole.wall_s - (1.0 - least) * stepping_s) / MARGIN,
        most_s=(whole.wall_s + (most - 1.0) * stepping_s) * MARGIN,
        cpu_s=whole.cpu_s,
        phases=tuple(
            PhaseForecast(phase=phase, duration_s=phases[phase].wall_s, cpu_s=phases[phase].cpu_s)
            for phase in PHASES
            if phase in phases
        ),
        tokens=round(tokens),
        tokens_per_s=tokens / max(sum(probed.lines[kind].of(amount).wall_s for kind, amount in steps.items()), 1e-9),
        memory_bytes=probed.memory_bytes + (states_bytes if run.runtime.device.type == "cpu" else 0),
        cache_bytes=states_bytes,
        disk_bytes=disk_bytes(
            run.config,
            teacher_parameters=probed.teacher_bytes // WEIGHT_BYTES,
            student_parameters=probed.student_bytes // WEIGHT_BYTES,
            trained_parameters=probed.trained_bytes // WEIGHT_BYTES,
        ),
        probe_s=probed.took.wall_s,
    )


def tell_what_is_left_out(run: Run) -> None:
    """What no forecast counts of the run's scoring, in warnings."""
    evaluation = run.config.evaluation
    if evaluation.suites:
        sealed = checkpoint.read_json(run.out / UNIT / "suites.json")
        for warned in left_out(evaluation, {title: told["rows"] for title, told in sealed.items()}):
            run.emit(warned)


def _plan(run: Run, prepared: Prepared) -> plan.Plan:
    """Before the profile."""
    samples = prepared.samples
    return plan.plan(run.config, samples=len(samples), supervised_tokens=samples.supervised)


def _facts(run: Run, prepared: Prepared, probed: Probed, planned: Planned, profiled: Profiled | None) -> Facts:
    config = run.config
    untouched = config.teacher_sft is None or prepared.student is not None
    return Facts(
        train=_lengths(prepared.samples),
        order=None if profiled is None else profiled.profile.order,
        validation=_questions(prepared.validation),
        test=_questions(prepared.test),
        validations=len(evaluation_steps(planned.epochs, config.evaluation.every_epochs)),
        teacher_bytes=probed.teacher_bytes,
        student_bytes=probed.student_bytes,
        trained_bytes=probed.trained_bytes,
        teacher_said=probed.teacher_said if config.teacher_sft is None else None,
        # A student cut from a teacher that will have been tuned is none that could be listened to.
        student_said=probed.student_said if untouched else None,
        kept=probed.kept and config.on_policy is None,
        found=probed.found,
        suites=_suites(run, prepared),
    )


def _suites(run: Run, prepared: Prepared) -> tuple[SuiteQuestions, ...]:
    evaluation = run.config.evaluation
    batch_size = evaluation.generation.batch_size
    suites = read_suites(run, evaluation.suites, chat=run.config.template == "chat", batch_size=batch_size)
    return tuple(
        SuiteQuestions(
            prompts=tuple(map(len, suite.prompts(prepared.tokenizer))),
            references=tuple(suite.expected_steps(prepared.tokenizer)),
            most=suite.settings.generation.max_new_tokens,
            repeats=len(suite.seeds),
            batch_size=batch_size,
        )
        for suite in suites
    )


def _lengths(samples: Sequence[Sample]) -> Lengths:
    return Lengths(tokens=lengths(samples), supervised=supervised(samples))


def _questions(exercise: Exercise) -> Questions:
    return Questions(
        lengths=_lengths(exercise.samples),
        prompts=tuple(len(prompt) for prompt in exercise.prompts),
        references=tuple(sample.supervised for sample in exercise.samples),
    )
