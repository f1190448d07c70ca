"""What a job's row must be after each step, kept beside the store by the simplest code that can know it."""

from __future__ import annotations

from dataclasses import dataclass, field

from api.jobs.states import TERMINAL, JobState, Outcome, Requested

CRASH_BUDGET = 3
LOSS_BUDGET = 2


@dataclass(kw_only=True)
class ModelJob:
    """One job. `lines` are those recorded, by (fence, number); `sealed` the names of checkpoints; `outcomes` by fence."""

    state: JobState = JobState.QUEUED
    requested: Requested = Requested.NONE
    fence: int = 0
    crashes: int = 0
    losses: int = 0
    lapsed: bool = False
    delayed: bool = False
    lines: set[tuple[int, int]] = field(default_factory=set)
    sealed: set[tuple[int, str]] = field(default_factory=set)
    outcomes: dict[int, Outcome | None] = field(default_factory=dict)
    path: list[JobState] = field(default_factory=lambda: [JobState.QUEUED])

    def held_by(self, fence: int) -> bool:
        """Whether an attempt of this fence may write."""
        return self.state is JobState.RUNNING and self.fence == fence

    @property
    def claimable(self) -> bool:
        """Whether a worker gets it."""
        return self.state is JobState.QUEUED and not self.delayed

    def claim(self) -> None:
        """A worker takes it."""
        self.fence += 1
        self.requested, self.lapsed = Requested.NONE, False
        self.outcomes[self.fence] = None
        self._go(JobState.RUNNING)

    def succeed(self) -> JobState:
        """The run finished."""
        return self._end(JobState.SUCCEEDED, Outcome.SUCCEEDED)

    def fail(self) -> JobState:
        """No retry cures it."""
        return self._end(JobState.FAILED, Outcome.FAILED)

    def stop(self) -> JobState:
        """The engine was stopped."""
        if self.requested is Requested.PAUSE:
            return self._end(JobState.PAUSED, Outcome.PAUSED)
        return self._end(JobState.QUEUED, Outcome.DRAINED)

    def crash(self) -> JobState:
        """The engine died."""
        self.crashes += 1
        return self._broken_off(Outcome.CRASHED, spent=self.crashes >= CRASH_BUDGET, delayed=True)

    def reap(self) -> JobState:
        """Its worker was silent for too long."""
        self.losses += 1
        return self._broken_off(Outcome.LOST, spent=self.losses >= LOSS_BUDGET, delayed=False)

    def seal(self, name: str) -> bool:
        """A checkpoint is made known; whether this attempt had not done so before."""
        if (self.fence, name) in self.sealed:
            return False
        if all(name != earlier for _, earlier in self.sealed):
            self.crashes = self.losses = 0
        self.sealed.add((self.fence, name))
        return True

    def cancel(self) -> None:
        """A person asks for the end."""
        if self.state is JobState.RUNNING:
            self.requested = Requested.CANCEL
        elif self.state not in TERMINAL:
            self._go(JobState.CANCELLED)

    def pause(self) -> None:
        """A person asks for a pause."""
        if self.state is JobState.RUNNING:
            self.requested = Requested.PAUSE
        elif self.state is JobState.QUEUED:
            self._go(JobState.PAUSED)

    def resume(self) -> None:
        """A person asks for it to go on."""
        if self.state is JobState.RUNNING:
            self.requested = Requested.NONE
        elif self.state is JobState.PAUSED:
            self._go(JobState.QUEUED)

    def _broken_off(self, outcome: Outcome, *, spent: bool, delayed: bool) -> JobState:
        if self.requested is Requested.CANCEL:
            after = JobState.CANCELLED
        elif spent:
            after = JobState.FAILED
        elif self.requested is Requested.PAUSE:
            after = JobState.PAUSED
        else:
            after = JobState.QUEUED
        self.outcomes[self.fence] = outcome
        self._go(after)
        self.delayed = delayed and after is JobState.QUEUED
        return after

    def _end(self, after: JobState, outcome: Outcome) -> JobState:
        if self.requested is Requested.CANCEL:
            after, outcome = JobState.CANCELLED, Outcome.CANCELLED
        self.outcomes[self.fence] = outcome
        self._go(after)
        return after

    def _go(self, after: JobState) -> None:
        if self.state is JobState.RUNNING:
            self.requested, self.lapsed = Requested.NONE, False
        self.state, self.delayed = after, False
        self.path.append(after)
