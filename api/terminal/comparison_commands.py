"""Commands about comparisons: submit one, look, cancel, have its table made again, save its picture."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from api.client import Client
from api.remote.comparisons import Comparison
from api.remote.trouble import INTERRUPTED, BadInput
from api.terminal import comparison_tables, completing
from api.terminal.comparison_specs import read_comparison
from api.terminal.comparison_watch import differing, show_comparison
from api.terminal.following import exit_code
from api.terminal.job_commands import upload_files
from api.terminal.options import AsJson, Datasets, ExitStatus, Key, Url, connect
from api.terminal.output import hint, jsonable, print_json, print_json_list, stdout
from api.terminal.specs import parse_overrides

app = typer.Typer(
    name="comparisons", help="Comparisons: list, show, watch, cancel, table, picture.", no_args_is_help=True
)
ComparisonId = Annotated[
    str, typer.Argument(metavar="COMPARISON", help="The comparison's id, cmp_…", autocompletion=completing.comparisons)
]


def compare(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="A comparison as YAML or JSON: base, members, seeds.")],
    dataset: Datasets = None,
    follow: Annotated[
        bool, typer.Option("--follow", "--watch", "-f", help="Watch the members until the table is there.")
    ] = False,
    exit_status: ExitStatus = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Submitting again with the same key and spec gives the same comparison.")
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Queue several methods, students or settings over several seeds. Files of rows that the base names are uploaded first."""
    found = read_comparison(spec, parse_overrides(dataset or ()))
    with connect(url, key) as client:
        asked = found.with_datasets(upload_files(client, found.base))
        made = client.comparisons.create(asked, idempotency_key=idempotency_key)
        for warning in made.warnings:
            hint(f"warning: {warning.message} ({warning.code})")
        if follow:
            hint(f"{made.id} queued")
            _follow(client, made.id, exit_status=exit_status, as_json=as_json)
        elif as_json:
            print_json(jsonable(made, "comparison"))
        else:
            stdout().print(made.id)
            hint(f"watch it with: cpd comparisons watch {made.id}")


@app.command()
def watch(
    comparison_id: ComparisonId,
    exit_status: ExitStatus = False,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Follow a comparison until its table is there. With --json: the comparison, a line each time that a job's state or phase changes."""
    with connect(url, key) as client:
        _follow(client, comparison_id, exit_status=exit_status, as_json=as_json)


@app.command("list")
def list_comparisons(
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List comparisons, newest first."""
    with connect(url, key) as client:
        found = [one for one, _ in zip(client.comparisons.list(), range(limit), strict=False)]
    if as_json:
        print_json_list(found, "comparison")
    else:
        stdout().print(comparison_tables.comparisons(found))


@app.command()
def show(comparison_id: ComparisonId, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Show a comparison: every member's jobs and, at the end, the table."""
    with connect(url, key) as client:
        found = client.comparisons.get(comparison_id)
    if as_json:
        print_json(jsonable(found, "comparison"))
        return
    stdout().print(comparison_tables.facts(found))
    stdout().print(comparison_tables.runs(found))
    _conclude(found)


@app.command()
def cancel(comparison_id: ComparisonId, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """End every job of a comparison that has not ended. What others have made is kept; there will be no table."""
    with connect(url, key) as client:
        _asked(client.comparisons.cancel(comparison_id), as_json=as_json)


@app.command()
def retable(comparison_id: ComparisonId, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Have a table that failed made again. One that is there, or on its way, stays as it is."""
    with connect(url, key) as client:
        _asked(client.comparisons.retable(comparison_id), as_json=as_json)


@app.command()
def figure(
    comparison_id: ComparisonId,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A .png, or a .json for its numbers.", show_default="./COMPARISON.png"),
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Save the table as a picture: every member's mean with its interval, and its seeds."""
    target = out or Path(f"{comparison_id}.png")
    with connect(url, key) as client:
        content = client.comparisons.figure(comparison_id, "json" if target.suffix == ".json" else "png")
    try:
        target.write_bytes(content)
    except OSError as error:
        raise BadInput(f"cannot write {target} ({error.strerror}): choose another file with --out") from error
    if as_json:
        print_json({"object": "figure", "file": str(target), "size_bytes": len(content)})
    else:
        stdout().print(str(target), markup=False)


def _asked(found: Comparison, *, as_json: bool) -> None:
    if as_json:
        print_json(jsonable(found, "comparison"))
    else:
        stdout().print(found.id, comparison_tables.state(found))


def _follow(client: Client, comparison_id: str, *, exit_status: bool, as_json: bool) -> None:
    """Show a comparison until it rests. Raises typer.Exit with the exit code."""
    found = client.comparisons.get(comparison_id)
    try:
        views = client.comparisons.follow(comparison_id)
        if as_json:
            for found in differing(views):
                print_json(jsonable(found, "comparison"))
        else:
            found = show_comparison(views, stdout(), time.monotonic) or found
    except KeyboardInterrupt:
        again, end = f"cpd comparisons watch {comparison_id}", f"cpd comparisons cancel {comparison_id}"
        hint(f"detached; the jobs go on. Watch them again: {again}   End them: {end}")
        raise typer.Exit(INTERRUPTED) from None
    if not as_json:
        _conclude(found)
    if exit_status:
        raise typer.Exit(exit_code(found.state))


def _conclude(found: Comparison) -> None:
    console = stdout()
    if found.failure is not None:
        console.print(f"{found.id} failed: {found.failure.message} ({found.failure.code})", markup=False, style="red")
        if found.table_job is not None:
            hint(f"the jobs' results stand; make the table again with: cpd comparisons retable {found.id}")
    if found.table is not None:
        console.print(comparison_tables.table(found.table))
        hint(f"save its picture with: cpd comparisons figure {found.id}")
