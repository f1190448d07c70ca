"""Commands about what there is to say once a job or a comparison is over: its report, and the rows that got worse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from api.remote.trouble import BadInput
from api.terminal import completing, tables
from api.terminal.options import AsJson, JobId, Key, Url, connect
from api.terminal.output import hint, print_json, stdout

_COMPARISON = "cmp_"
_ENDINGS: dict[str, Literal["html", "markdown"]] = {
    ".html": "html",
    ".htm": "html",
    ".md": "markdown",
    ".markdown": "markdown",
}


def report(
    which: Annotated[
        str, typer.Argument(metavar="JOB|COMPARISON", help="Its id, job_… or cmp_…", autocompletion=completing.jobs)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write.")],
    format: Annotated[  # noqa: A002 - the option's name
        Literal["html", "markdown"] | None,
        typer.Option(
            help="One page that wants nothing from anywhere, or Markdown.", show_default="by the file's ending"
        ),
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Save the report on a job or a comparison: what was done, whether it helped, where it did harm, what it cost."""
    form = format or _ENDINGS.get(out.suffix.lower())
    if form is None:
        raise BadInput(f"{out.name}: end it in .html or .md, or name the --format")
    with connect(url, key) as client:
        ask = client.comparisons.report if which.startswith(_COMPARISON) else client.report
        content = ask(which, format=form)
    try:
        out.write_bytes(content)
    except OSError as error:
        raise BadInput(f"cannot write to {out} ({error.strerror}): choose another file with --out") from error
    if as_json:
        print_json({"object": "report", "of": which, "format": form, "file": str(out), "size_bytes": len(content)})
    else:
        stdout().print(str(out), markup=False)


def flips(
    job_id: JobId,
    against: Annotated[
        Literal["untouched", "teacher", "sft", "kld"], typer.Option(help="The model whose answers were better.")
    ] = "untouched",
    suite: Annotated[str | None, typer.Option(help="Rows of this suite instead.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="By which score.", show_default="the first that the rows have")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many rows, the largest loss first.")] = 5,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show the rows on which the distilled student does worse than another model of its job."""
    with connect(url, key) as client:
        found = client.flips(job_id, against=against, suite=suite, metric=metric, limit=limit)
    if as_json:
        print_json({"object": "flips", **found.model_dump(mode="json")})
        return
    stdout().print(tables.flips(found))
    if found.counts.worse > len(found.data):
        hint(f"the {len(found.data)} worst of {found.counts.worse}")
