"""Following a job to its end: live or as JSON lines, and what a script learns from how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import typer

from api.client import Client
from api.jobs.states import JobKind, JobState
from api.remarks import remark
from api.remote.answers import Event, Job
from api.remote.trouble import CONFLICT, INTERRUPTED, JOB_FAILED, JOB_STOPPED, Refused
from api.terminal import tables
from api.terminal.estimates import forecast
from api.terminal.output import hint, jsonable, print_json, stdout
from api.terminal.progress import screen, show_events
from cpd_engine.events import Forecasted, Reported


def follow_job(client: Client, job_id: str, *, exit_status: bool, as_json: bool) -> None:
    """Show a job until it rests; Ctrl-C lets go of it and says how to take it up again. Raises typer.Exit with the exit code."""
    events = until_rest(client.follow(job_id), lambda: client.job(job_id).state)
    try:
        if as_json:
            for event in events:
                print_json(jsonable(event, "event"))
        else:
            show_events(events, screen(stdout(), time.monotonic))
    except KeyboardInterrupt:
        hint(f"detached; the job goes on. Watch it again: cpd watch {job_id}   End it: cpd cancel {job_id}")
        raise typer.Exit(INTERRUPTED) from None
    job = client.job(job_id)
    if as_json:
        print_json(jsonable(job, "job"))
    else:
        _conclude(client, job)
    if exit_status:
        raise typer.Exit(exit_code(job.state))


def follow_probe(client: Client, job_id: str) -> Forecasted:
    """Wait for a probe's forecast, what happens meanwhile on stderr. Raises typer.Exit where it ends without one."""
    try:
        for event in until_rest(client.follow(job_id), lambda: client.job(job_id).state):
            line = remark(event.kind, event.data)
            if line is not None:
                hint(line)
    except KeyboardInterrupt:
        hint(f"detached; the probe goes on. See its forecast later: cpd show {job_id}")
        raise typer.Exit(INTERRUPTED) from None
    job = client.job(job_id)
    if job.state is not JobState.SUCCEEDED or job.forecast is None:
        if job.failure is not None:
            hint(f"{job.id} failed: {job.failure.message} ({job.failure.code})")
        raise typer.Exit(exit_code(job.state) or JOB_FAILED)
    return job.forecast


def exit_code(state: JobState) -> int:
    """What a script learns from a job's end: 0 succeeded, 1 failed, 5 cancelled or paused."""
    match state:
        case JobState.FAILED:
            return JOB_FAILED
        case JobState.CANCELLED | JobState.PAUSED:
            return JOB_STOPPED
        case _:
            return 0


def until_rest(events: Iterable[Event], state_now: Callable[[], JobState]) -> Iterator[Event]:
    """Events up to the job's end or pause. A pause that the job has since left is history, and the events go on."""
    for event in events:
        yield event
        if event.new_state is JobState.PAUSED and state_now() is JobState.PAUSED:
            return


def _conclude(client: Client, job: Job) -> None:
    console = stdout()
    if job.failure is not None:
        console.print(f"{job.id} failed: {job.failure.message} ({job.failure.code})", markup=False, style="red")
        return
    if job.state is JobState.PAUSED:
        hint(f"take it up again with: cpd resume {job.id}")
    if job.kind is JobKind.PROBE:
        if job.forecast is not None:
            console.print(forecast(job.forecast))
        return
    if job.kind is JobKind.TABLE:
        if job.state is JobState.SUCCEEDED:
            hint(f"see the table with: cpd comparisons show {job.resolved.get('comparison', '')}")
        return
    report = _report(client, job)
    if report is not None:
        console.print(tables.scores(report))
    if job.state is JobState.SUCCEEDED:
        hint(f"get the student with: cpd download {job.id}")


def _report(client: Client, job: Job) -> Reported | None:
    try:
        return client.evaluation(job.id).report
    except Refused as refused:
        # A job that ended before its evaluation has nothing to show.
        if refused.exit_code == CONFLICT:
            return None
        raise
