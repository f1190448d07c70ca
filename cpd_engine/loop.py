"""The training loop: one for the teacher's own fine-tuning, the student, and its twins."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from cpd_engine.beside import Beside
from cpd_engine.course import Course, Turn
from cpd_engine.errors import StopRequested
from cpd_engine.events import Emit, EpochStarted, Measured, Warned
from cpd_engine.keeper import Judgement, Keeper
from cpd_engine.learner import Learner, StepValues
from cpd_engine.policy import OnPolicy
from cpd_engine.runtime import Runtime
from cpd_engine.teacher import Teaches

Validate = Callable[[int, int], Judgement]
_WINDOW = 20


def train(
    course: Course,
    learner: Learner,
    keeper: Keeper,
    *,
    teacher: Teaches | None,
    validate: Validate,
    beside: Beside | None = None,
    runtime: Runtime,
    emit: Emit,
    should_stop: Callable[[], bool],
    clock: Callable[[], float],
) -> None:
    """Train from where the learner stands to the course's end: due evaluation → due save → stop? → the student's answers → step →
    measure.

    `validate(step, epoch)` scores the learner's model. Raises StopRequested with the state sealed, and Diverged with the last
    sealed state untouched.
    """
    beside = beside if beside is not None else Beside()
    turns = course.turns(learner.step, beside.order_for, beside.mixing_from)
    pace = Pace(course.total_steps, clock)
    epoch = course.epoch_after(learner.step)
    try:
        while True:
            step = learner.step
            if step in course.evaluations and step > keeper.judged:
                keeper.judge(validate(step, epoch), learner)
                pace.restart()
            if step > 0 and keeper.due(step):
                keeper.save(learner, epoch)
                pace.restart()
            if should_stop():
                raise StopRequested  # noqa: TRY301 - one place that seals, whoever asked to stop
            turn = next(turns, None)
            if turn is None:
                return
            if turn.epoch.epoch != epoch or turn.index == 0:
                epoch = turn.epoch.epoch
                emit(_epoch_started(course, turn))
            turn = _answered(beside.policy, turn, step, pace)
            values = _step(learner, turn, teacher, beside, emit)
            emit(_measured(course, turn, learner.step, values, pace, runtime))
    except StopRequested:
        keeper.save(learner, epoch)
        raise


class Pace:
    """How fast this process trains, over the last steps; time spent on anything else is left out."""

    def __init__(self, total_steps: int, clock: Callable[[], float]) -> None:
        self._total = total_steps
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque(maxlen=_WINDOW)
        self._last = clock()

    def restart(self) -> None:
        """Count from now on: what went before was no training."""
        self._last = self._clock()

    def step(self, step: int, tokens: int) -> tuple[float, float, float]:
        """Tokens per second, what the step took and the seconds left, after finishing `step` with its tokens."""
        now = self._clock()
        took_s = max(now - self._last, 1e-9)
        self._marks.append((took_s, tokens))
        self._last = now
        spent = sum(duration for duration, _ in self._marks)
        rate = sum(count for _, count in self._marks) / spent
        return rate, took_s, (self._total - step) * spent / len(self._marks)


def _answered(policy: OnPolicy | None, turn: Turn, step: int, pace: Pace) -> Turn:
    """The turn, on-policy with the student's own answers in it, which it gives first where they are due."""
    if policy is None:
        return turn
    if policy.due(turn):
        policy.write(turn, step)
        pace.restart()
    return policy.shared(turn, step)


def _step(learner: Learner, turn: Turn, teacher: Teaches | None, beside: Beside, emit: Emit) -> StepValues:
    """One optimizer step, and what there is to note and to say of it."""
    room = learner.micro_batch_tokens
    values = learner.learn(turn, teacher)
    beside.note(turn, values)
    if learner.micro_batch_tokens < room:
        emit(_halved(learner))
    return values


def _halved(learner: Learner) -> Warned:
    told = (
        f"memory did not suffice in step {learner.step}: from now on at most {learner.micro_batch_tokens} tokens go through the "
        "model together; the result stays the same but for rounding and what dropout draws"
    )
    return Warned(code="micro_batch_halved", message=told)


def _epoch_started(course: Course, turn: Turn) -> EpochStarted:
    epoch = turn.epoch
    return EpochStarted(
        trained=course.trained,
        epoch=epoch.epoch,
        epochs=len(course.epochs),
        subset_size=epoch.subset_size,
        samples=len(course.order),
        iterations=epoch.iterations,
        temperature=epoch.temperature,
        mixing=epoch.mixing,
        alpha=epoch.alpha,
    )


def _measured(course: Course, turn: Turn, step: int, found: StepValues, pace: Pace, runtime: Runtime) -> Measured:
    tokens_per_s, step_s, eta_s = pace.step(step, found.processed_tokens)
    return Measured(
        trained=course.trained,
        step=step,
        total_steps=course.total_steps,
        epoch=turn.epoch.epoch,
        values={
            "loss": found.loss,
            # Of nothing there is no mean.
            **({"ce": found.ce} if found.own_tokens else {}),
            "kd": found.kd,
            "grad_norm": found.grad_norm,
            "learning_rate": turn.learning_rate,
            "temperature": turn.objective.temperature,
            "mixing": turn.objective.mixing,
            "alpha": turn.objective.alpha,
            "tokens": float(found.tokens),
            "processed_tokens": float(found.processed_tokens),
            **(
                {"student_tokens": student_tokens} if (student_tokens := float(found.tokens - found.own_tokens)) else {}
            ),
        },
        tokens_per_s=tokens_per_s,
        step_s=step_s,
        eta_s=eta_s,
        memory_bytes=runtime.memory_bytes(),
    )
