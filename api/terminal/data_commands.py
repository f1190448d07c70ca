"""`cpd datasets`: check a file offline, upload it, list what is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from api.remote import answers
from api.remote.trouble import BAD_INPUT, BadInput
from api.terminal import tables
from api.terminal.options import AsJson, Key, Url, connect
from api.terminal.output import hint, jsonable, print_json, print_json_list, stdout
from cpd_engine.data.records import BadRow, Row, read_lines, read_rows

SHOWN = 20

app = typer.Typer(name="datasets", help="Data sets: check, upload, list, delete.", no_args_is_help=True)
File = Annotated[Path, typer.Argument(metavar="FILE", help="Rows as JSON lines.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a file of rows holds."""

    rows: int
    bad_rows: int
    first_bad: tuple[answers.BadRow, ...]
    reasons: dict[str, int]

    @property
    def bad_fraction(self) -> float:
        """Share of the lines that cannot be used; 1 for a file without a line."""
        lines = self.rows + self.bad_rows
        return self.bad_rows / lines if lines else 1.0


def examine(rows: Iterable[Row | BadRow]) -> Checked:
    """Count good and bad rows, keep the first bad ones."""
    good = 0
    first: list[answers.BadRow] = []
    reasons: Counter[str] = Counter()
    for row in rows:
        if isinstance(row, BadRow):
            reasons[row.code] += 1
            if len(first) < SHOWN:
                first.append(
                    answers.BadRow(line=row.line, column=row.column, reason=row.reason, suggestion=row.suggestion)
                )
        else:
            good += 1
    return Checked(rows=good, bad_rows=reasons.total(), first_bad=tuple(first), reasons=dict(reasons))


@app.command()
def check(
    file: File,
    max_bad_row_fraction: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="How many bad rows are skipped; above it the file is refused.")
    ] = 0.01,
    as_json: AsJson = False,
) -> None:
    """Check a file of rows without a service, by the rules that an upload goes by. Exit 2 if it would be refused."""
    try:
        with file.open("rb") as stream:
            found = examine(read_rows(read_lines(stream)))
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from error
    refused = found.bad_fraction > max_bad_row_fraction or not found.rows
    if as_json:
        rows = [row.model_dump() for row in found.first_bad]
        report = {"bad_rows": rows, "truncated": found.bad_rows > len(rows)}
        counts = {"rows": found.rows, "bad_rows": found.bad_rows, "reasons": found.reasons}
        print_json({"object": "dataset_check", "accepted": not refused, **counts, "report": report})
    else:
        _print_report(file, found, refused)
    if refused:
        raise typer.Exit(BAD_INPUT)


def _print_report(file: Path, found: Checked, refused: bool) -> None:
    console = stdout()
    if found.first_bad:
        console.print(tables.bad_rows(found.first_bad))
        more = found.bad_rows - len(found.first_bad)
        if more:
            console.print(f"and {more:,} more")
    verdict = "refused" if refused else "accepted"
    console.print(f"{file.name}: {found.rows:,} rows, {found.bad_rows:,} bad: {verdict}", markup=False)


@app.command()
def upload(
    file: File,
    name: Annotated[str | None, typer.Option(help="Its name in lists. [default: the file's]")] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Upload a file of rows; prints its id."""
    if not file.is_file():
        raise BadInput(f"there is no file {file}")
    with connect(url, key) as client:
        dataset = client.upload_dataset(file, name)
    if as_json:
        print_json(jsonable(dataset, "dataset"))
        return
    hint(f"{dataset.rows:,} rows, {dataset.bad_rows:,} skipped")
    stdout().print(dataset.id)


@app.command("list")
def list_datasets(
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List data sets, newest first."""
    with connect(url, key) as client:
        found = [dataset for dataset, _ in zip(client.datasets(), range(limit), strict=False)]
    if as_json:
        print_json_list(found, "dataset")
    else:
        stdout().print(tables.datasets(found))


@app.command()
def delete(
    dataset_id: Annotated[str, typer.Argument(metavar="DATASET", help="The data set's id, ds_…")],
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Delete a data set that no unfinished job uses."""
    with connect(url, key) as client:
        client.delete_dataset(dataset_id)
    if as_json:
        print_json({"object": "dataset", "id": dataset_id, "deleted": True})
