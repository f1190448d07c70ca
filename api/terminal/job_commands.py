"""Commands about jobs: submit, watch, look, steer, download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from api.client import Client
from api.jobs.states import JobState
from api.quantities import size
from api.remote.answers import Job
from api.remote.transfer import OnBytes
from api.terminal import tables
from api.terminal.estimates import forecast, plan
from api.terminal.following import follow_job, follow_probe
from api.terminal.options import AsJson, Datasets, ExitStatus, JobId, Key, Url, connect
from api.terminal.output import hint, jsonable, print_json, print_json_list, stderr, stdout
from api.terminal.plain import may_draw
from api.terminal.specs import Spec, parse_overrides, read_spec
from cpd_engine.events import to_dict

Recipe = Annotated[Path, typer.Argument(metavar="RECIPE", help="A job spec as YAML or JSON.")]


def submit(
    recipe: Recipe,
    dataset: Datasets = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Watch the job until it is over.")] = False,
    exit_status: ExitStatus = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Submitting again with the same key and spec gives the same job.")
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Queue a distillation. Files of rows that the recipe names are uploaded first."""
    spec = read_spec(recipe, parse_overrides(dataset or ()))
    with connect(url, key) as client:
        config = spec.with_datasets(upload_files(client, spec))
        job = client.submit(config, idempotency_key=idempotency_key)
        for warning in job.warnings:
            hint(f"warning: {warning.message} ({warning.code})")
        if follow:
            hint(f"{job.id} queued")
            follow_job(client, job.id, exit_status=exit_status, as_json=as_json)
        elif as_json:
            print_json(jsonable(job, "job"))
        else:
            stdout().print(job.id)
            hint(f"watch it with: cpd watch {job.id}")


def watch(
    job_id: JobId, exit_status: ExitStatus = False, url: Url = None, key: Key = None, as_json: AsJson = False
) -> None:
    """Follow a job live until it is over. With --json: one event a line, the job as the last line."""
    with connect(url, key) as client:
        follow_job(client, job_id, exit_status=exit_status, as_json=as_json)


def jobs(
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with connect(url, key) as client:
        found = [job for job, _ in zip(client.jobs(state=state), range(limit), strict=False)]
    if as_json:
        print_json_list(found, "job")
    else:
        stdout().print(tables.jobs(found))


def usage(url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Show what you have taken of what you may take: jobs, GPU hours, data sets."""
    with connect(url, key) as client:
        found = client.usage()
    if as_json:
        print_json(jsonable(found, "usage"))
    else:
        stdout().print(tables.usage(found))


def show(job_id: JobId, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Show a job: where it stands, its scores, its checkpoints."""
    with connect(url, key) as client:
        job = client.job(job_id)
        evaluation, checkpoints = client.evaluation(job_id), client.checkpoints(job_id)
    if as_json:
        listed = [jsonable(checkpoint, "checkpoint") for checkpoint in checkpoints]
        scored = evaluation.model_dump(mode="json")
        print_json({**jsonable(job, "job"), "evaluation": scored, "checkpoints": listed})
        return
    console = stdout()
    console.print(tables.job_facts(job))
    if checkpoints:
        console.print(tables.checkpoints(checkpoints))
    if evaluation.report is not None:
        console.print(tables.scores(evaluation.report))


def samples(
    job_id: JobId,
    suite: Annotated[str | None, typer.Option(help="Rows of this suite instead.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many rows.")] = 3,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show rows of the test split, or of a suite, with every model's answer."""
    with connect(url, key) as client:
        found = [sample for sample, _ in zip(client.samples(job_id, suite=suite), range(limit), strict=False)]
    if as_json:
        print_json_list(found, "sample")
    else:
        stdout().print(tables.samples(found))


def cancel(job_id: JobId, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """End a job. A running one seals a last checkpoint first."""
    with connect(url, key) as client:
        _asked(client.cancel(job_id), as_json)


def pause(job_id: JobId, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Stop a job where it is; `cpd resume` takes it up there."""
    with connect(url, key) as client:
        _asked(client.pause(job_id), as_json)


def resume(job_id: JobId, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Queue a paused job again."""
    with connect(url, key) as client:
        _asked(client.resume(job_id), as_json)


def estimate(
    recipe: Recipe,
    dataset: Datasets = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Have a worker time a few steps, and wait for what that tells.")
    ] = False,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Plan a job without running it: steps by epoch, time, memory, the teacher's cache, disk, and every warning."""
    spec = read_spec(recipe, parse_overrides(dataset or ()))
    with connect(url, key) as client:
        config = spec.with_datasets(upload_files(client, spec))
        if probe:
            job = client.probe(config)
            hint(f"{job.id} queued")
            told = follow_probe(client, job.id)
            if as_json:
                print_json({"object": "forecast", "job": job.id, **to_dict(told)})
            else:
                stdout().print(forecast(told, client.estimate(config).price))
            return
        found = client.estimate(config)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        stdout().print(plan(found))


def download(
    job_id: JobId,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder to make.", show_default="./JOB")] = None,
    checkpoint: Annotated[str, typer.Option(help="Which checkpoint; `cpd show` lists them.")] = "model",
    format: Annotated[  # noqa: A002 - the option's name
        Literal["merged", "adapter"], typer.Option(help="Whole weights, or the LoRA adapter alone.")
    ] = "merged",
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Download a checkpoint, verify the sha256 of every file, and unpack it into a new folder."""
    with connect(url, key) as client:
        got = client.download(
            job_id, out or Path(job_id), name=checkpoint, format=format, on_bytes=_bytes_shown(stderr())
        )
    if as_json:
        sealed = jsonable(got.checkpoint, "checkpoint")
        print_json({"object": "download", "directory": str(got.directory), "files": got.files, "checkpoint": sealed})
    else:
        hint(f"{got.files} files verified by sha256")
        stdout().print(str(got.directory), markup=False)


def _asked(job: Job, as_json: bool) -> None:
    if as_json:
        print_json(jsonable(job, "job"))
    else:
        stdout().print(job.id, tables.state(job))


def upload_files(client: Client, spec: Spec) -> dict[str, str]:
    """Upload the files of rows that a spec names, unless the same bytes are there; their ids by place. So the same command asks for
    the same, and repeats itself under one Idempotency-Key.
    """
    ids = {}
    for place, file in spec.files.items():
        found, how = client.uploaded(file), "is there already as"
        if found is None:
            found, how = client.upload_dataset(file, on_bytes=_bytes_shown(stderr())), "uploaded as"
        hint(f"{file.name} {how} {found.id}: {found.rows:,} rows, {found.bad_rows} skipped")
        ids[place] = found.id
    return ids


def _bytes_shown(console: Console) -> OnBytes | None:
    """A line that counts bytes on a terminal; nothing in a log."""
    if not may_draw(console):
        return None

    def show_bytes(done: int, whole: int | None) -> None:
        of = f" of {size(whole)}" if whole else ""
        console.print(f"\r{size(done)}{of}", end="\n" if done == whole else "", style="dim")

    return show_bytes
