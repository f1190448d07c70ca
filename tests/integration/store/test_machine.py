"""The store as a state machine: any sequence of workers, people, clocks, zombies and lost commits leaves what a simple model says."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import update
from sqlalchemy.exc import DBAPIError, OperationalError

from api.artifacts import queries as artifacts
from api.artifacts.queries import Sealed
from api.core.errors import JobAlreadyFinished, JobBeingCancelled, NotFound
from api.events.queries import Line, append_events
from api.jobs import transitions
from api.jobs.lease import Hold, LeaseLost
from api.jobs.moves import Failure
from api.jobs.states import TERMINAL, JobState, Requested, may_follow
from api.jobs.tables import Job
from api.jobs.transitions import Claim
from tests.backends import TENANT, Backend
from tests.integration.store.faults import Faults, Moment, faulty
from tests.integration.store.model import CRASH_BUDGET, LOSS_BUDGET, ModelJob
from tests.integration.store.steps import LEASE_S, do, events, job, lapse, make_due, outcomes, submitted

FAILURE = Failure(code="engine_crashed", message="killed by signal 9")
MOST_JOBS = 3
# Mostly none: a machine whose every commit breaks gets nowhere.
FAULTS: st.SearchStrategy[Moment | None] = st.sampled_from([None, None, None, "before", "after"])
PICK = st.integers(0, 9)
ENDS: dict[str, tuple[Callable[..., JobState], Callable[[ModelJob], JobState]]] = {
    "succeed": (transitions.succeed, ModelJob.succeed),
    "fail": (lambda session, hold: transitions.fail(session, hold, FAILURE), ModelJob.fail),
    "stop": (transitions.stop, ModelJob.stop),
    "crash": (
        lambda session, hold: transitions.crash(session, hold, FAILURE, budget=CRASH_BUDGET, delay_s=3600.0),
        ModelJob.crash,
    ),
}
ASKED: dict[str, tuple[Callable[..., None], Callable[[ModelJob], None]]] = {
    "cancel": (transitions.request_cancel, ModelJob.cancel),
    "pause": (transitions.request_pause, ModelJob.pause),
    "resume": (transitions.resume, ModelJob.resume),
}


class Machine(RuleBasedStateMachine):
    """Jobs in the store beside the model of each, and every hold that a worker ever had."""

    backend: Backend
    faults: Faults

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[str, ModelJob] = {}
        self.holds: list[Hold] = []
        self.touched: set[str] = set()

    @initialize()
    def begin(self) -> None:
        self.submit()

    @precondition(lambda self: len(self.jobs) < MOST_JOBS)
    @rule()
    def submit(self) -> None:
        job_id = submitted(self.backend)
        self.jobs[job_id] = ModelJob()
        self.touched.add(job_id)

    @rule(pick=PICK, fault=FAULTS)
    def claim(self, pick: int, fault: Moment | None) -> None:
        job_id = self.some_job(pick)
        claimable = self.jobs[job_id].claimable
        claimed = self.asking(fault, transitions.claim, job_id, worker_id="w1", lease_s=LEASE_S)
        self.was_claimed(claimed, fault, [job_id] if claimable else [])

    @rule(fault=FAULTS)
    def claim_next(self, fault: Moment | None) -> None:
        waiting = [job_id for job_id, model in self.jobs.items() if model.claimable]
        claimed = self.asking(fault, transitions.claim_next, worker_id="w2", lease_s=LEASE_S)
        self.was_claimed(claimed, fault, waiting)

    @precondition(lambda self: self.holds)
    @rule(pick=PICK, fault=FAULTS)
    def heartbeat(self, pick: int, fault: Moment | None) -> None:
        hold, model = self.some_hold(pick)
        asked = self.held(hold, fault, lambda session: transitions.heartbeat(session, hold, lease_s=LEASE_S))
        if model.held_by(hold.fence):
            assert asked is model.requested
            model.lapsed = False

    @precondition(lambda self: self.holds)
    @rule(pick=PICK, fault=FAULTS, how=st.sampled_from(sorted(ENDS)))
    def end(self, pick: int, fault: Moment | None, how: str) -> None:
        hold, model = self.some_hold(pick)
        write, foresee = ENDS[how]
        held = model.held_by(hold.fence)
        ended = self.held(hold, fault, lambda session: write(session, hold), repeatable=False)
        if held:
            foreseen = foresee(model)
            assert ended is (LeaseLost if fault == "after" else foreseen)

    @precondition(lambda self: self.holds)
    @rule(pick=PICK, fault=FAULTS, first=st.integers(1, 6), count=st.integers(1, 4))
    def tell(self, pick: int, fault: Moment | None, first: int, count: int) -> None:
        hold, model = self.some_hold(pick)
        lines = [Line(eseq=number, kind="warned", data={"n": number}) for number in range(first, first + count)]
        numbers = {(hold.fence, line.eseq) for line in lines}
        new = self.held(hold, fault, lambda session: append_events(session, hold, lines))
        if model.held_by(hold.fence):
            assert new == (0 if fault == "after" else len(numbers - model.lines))
            model.lines |= numbers

    @precondition(lambda self: self.holds)
    @rule(pick=PICK, fault=FAULTS, step=st.integers(1, 3))
    def seal(self, pick: int, fault: Moment | None, step: int) -> None:
        hold, model = self.some_hold(pick)
        sealed = sealed_as(hold, f"step-{step:06d}")
        new = self.held(hold, fault, lambda session: artifacts.add(session, hold, sealed))
        if model.held_by(hold.fence):
            assert new is (model.seal(sealed.name) and fault != "after")

    @rule(
        pick=PICK,
        fault=FAULTS,
        what=st.sampled_from(sorted(ASKED)),
        tenant=st.sampled_from([TENANT, TENANT, "ten_other"]),
    )
    def ask(self, pick: int, fault: Moment | None, what: str, tenant: str) -> None:
        job_id = self.some_job(pick)
        model = self.jobs[job_id]
        request, foresee = ASKED[what]
        refused = refusal(model, what, tenant)
        self.faults.next_commit = fault if refused is None else None
        if refused is not None:
            with pytest.raises(refused):
                self.trying(request, job_id, tenant_id=tenant)
            return
        self.trying(request, job_id, tenant_id=tenant)
        foresee(model)

    @rule(fault=FAULTS)
    def reap(self, fault: Moment | None) -> None:
        lapsed = {job_id: model for job_id, model in self.jobs.items() if model.lapsed}
        reaped = self.asking(fault, transitions.reap, budget=LOSS_BUDGET)
        self.touched |= lapsed.keys()
        if fault != "before":
            foreseen = {job_id: model.reap() for job_id, model in lapsed.items()}
            assert fault == "after" or {each.hold.job_id: each.state for each in reaped} == foreseen

    @rule(pick=PICK)
    def a_lease_runs_out(self, pick: int) -> None:
        job_id = self.some_job(pick)
        model = self.jobs[job_id]
        if model.state is JobState.RUNNING:
            lapse(self.backend, job_id)
            model.lapsed = True

    @rule(pick=PICK)
    def a_delay_passes(self, pick: int) -> None:
        job_id = self.some_job(pick)
        model = self.jobs[job_id]
        if model.state is JobState.QUEUED:
            make_due(self.backend, job_id)
            model.delayed = False

    @precondition(lambda self: any(model.state in TERMINAL for model in self.jobs.values()))
    @rule(pick=PICK, state=st.sampled_from(sorted(JobState)))
    def a_stray_statement_meets_an_ended_job(self, pick: int, state: JobState) -> None:
        ended = [job_id for job_id, model in self.jobs.items() if model.state in TERMINAL]
        job_id = ended[pick % len(ended)]
        if state is self.jobs[job_id].state:
            return
        with pytest.raises(DBAPIError, match="never changes"):
            do(self.backend, lambda session: session.execute(update(Job).where(Job.id == job_id).values(state=state)))

    @invariant()
    def the_store_is_what_the_model_says(self) -> None:
        for job_id in self.touched:
            self.check(job_id)
        self.touched.clear()

    def teardown(self) -> None:
        """Every job is looked at once more, and then nobody claims it any more."""
        self.faults.next_commit = None
        for job_id in self.jobs:
            self.check(job_id)
        left = update(Job).where(Job.id.in_(self.jobs), Job.state.not_in(TERMINAL)).values(state="cancelled")
        do(self.backend, lambda session: session.execute(left))

    def check(self, job_id: str) -> None:
        model, row = self.jobs[job_id], job(self.backend, job_id)
        assert (row.state, row.requested, row.fence, row.attempt) == (
            model.state,
            model.requested,
            model.fence,
            model.fence,
        )
        assert (row.crashes, row.losses) == (model.crashes, model.losses)
        assert (row.worker_id is None) is (model.state is not JobState.RUNNING)
        assert (row.finished_at is None) is (model.state not in TERMINAL)
        told = events(self.backend, job_id)
        assert [event.seq for event in told] == list(range(1, row.last_seq + 1))
        assert [event.fence for event in told] == sorted(event.fence for event in told)
        lines = [(event.fence, event.eseq) for event in told if event.eseq is not None]
        assert (len(lines), set(lines)) == (len(model.lines), model.lines)
        path = [JobState(event.data["to"]) for event in told if event.kind == "state_changed"]
        assert path == model.path
        assert all(may_follow(before, after) for before, after in pairwise(path))
        assert outcomes(self.backend, job_id) == [model.outcomes[fence] for fence in range(1, model.fence + 1)]

    def some_job(self, pick: int) -> str:
        job_id = list(self.jobs)[pick % len(self.jobs)]
        self.touched.add(job_id)
        return job_id

    def some_hold(self, pick: int) -> tuple[Hold, ModelJob]:
        """Any hold there ever was, the newest first: half of the picks are of a worker that lost its job long ago."""
        hold = self.holds[-1 - pick % len(self.holds)]
        self.touched.add(hold.job_id)
        return hold, self.jobs[hold.job_id]

    def was_claimed(self, claimed: Claim | None, fault: Moment | None, waiting: list[str]) -> None:
        """A worker does not ask again for a claim whose answer was lost: the reaper finds the job."""
        if fault == "before" or not waiting:
            assert claimed is None
            return
        (first,) = [job_id for job_id in waiting if job(self.backend, job_id).state == JobState.RUNNING]
        model = self.jobs[first]
        model.claim()
        self.touched.add(first)
        self.holds.append(Hold(job_id=first, fence=model.fence))
        assert claimed is None if fault == "after" else claimed is not None and claimed.hold == self.holds[-1]

    def asking(self, fault: Moment | None, step: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """What `step` answers; None where its commit, or the answer to it, was lost."""
        self.faults.next_commit = fault
        try:
            return do(self.backend, step, *given, **named)
        except OperationalError:
            return None
        finally:
            self.faults.next_commit = None

    def trying(self, step: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """What `step` answers, asked again after a lost commit, as clients and workers do."""
        try:
            return do(self.backend, step, *given, **named)
        except OperationalError:
            return do(self.backend, step, *given, **named)

    def held(self, hold: Hold, fault: Moment | None, write: Callable[..., Any], *, repeatable: bool = True) -> Any:
        """An attempt's write, tried again after a lost commit; LeaseLost itself where it was refused, as it must be to a zombie."""
        may = self.jobs[hold.job_id].held_by(hold.fence)
        self.faults.next_commit = fault if may else None
        try:
            answer = self.trying(write)
        except LeaseLost:
            assert not may or (fault == "after" and not repeatable)
            return LeaseLost
        assert may
        return answer


def refusal(model: ModelJob, what: str, tenant: str) -> type[Exception] | None:
    """Why a person's request is refused, if it is."""
    if tenant != TENANT:
        return NotFound
    if what == "cancel":
        return JobAlreadyFinished if model.state in (JobState.SUCCEEDED, JobState.FAILED) else None
    if model.state in TERMINAL:
        return JobAlreadyFinished
    return JobBeingCancelled if model.requested is Requested.CANCEL else None


def sealed_as(hold: Hold, name: str) -> Sealed:
    """A checkpoint of that name in the store."""
    return Sealed(
        id=f"art_{hold.job_id[-8:]}_{hold.fence}_{name}",
        name=name,
        role="training",
        path=f"train/{name}",
        storage_prefix=f"jobs/{hold.job_id}/{hold.fence}/{name}",
        files=[],
        manifest_sha256="0" * 64,
        size_bytes=1,
    )


def test_no_sequence_of_workers_people_and_faults_leads_the_store_astray(backend: Backend) -> None:
    class OnThisBackend(Machine):
        """Hypothesis makes a new one for each sequence of steps."""

    OnThisBackend.backend = backend
    thoroughly = settings(
        max_examples=40,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        # Without the phase that explains a failure line by line, and takes minutes over it.
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    with faulty(backend.engine, Faults()) as faults:
        OnThisBackend.faults = faults
        run_state_machine_as_test(OnThisBackend, settings=thoroughly)
        assert faults.met > 50
