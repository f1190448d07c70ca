"""`cpd datasets`: check a file offline, upload it, list what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.remote.trouble import BadInput
from api.terminal import completing, tables
from api.terminal.data_check import check
from api.terminal.options import AsJson, Key, Url, connect
from api.terminal.output import hint, jsonable, print_json, print_json_list, stdout

app = typer.Typer(name="datasets", help="Data sets: check, upload, list, delete.", no_args_is_help=True)
File = Annotated[
    Path, typer.Argument(metavar="FILE", help="Rows as JSON lines, a JSON array (.json) or CSV (.csv, .tsv).")
]


app.command()(check)


@app.command()
def upload(
    file: File,
    name: Annotated[str | None, typer.Option(help="Its name in lists.", show_default="the file's")] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Upload a file of rows; prints its id."""
    if not file.is_file():
        raise BadInput(f"there is no file {file}: name one of rows, as .jsonl, .json or .csv")
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
    dataset_id: Annotated[
        str, typer.Argument(metavar="DATASET", help="The data set's id, ds_…", autocompletion=completing.datasets)
    ],
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Delete a data set that no unfinished job uses."""
    with connect(url, key) as client:
        client.delete_dataset(dataset_id)
    if as_json:
        print_json({"object": "dataset", "id": dataset_id, "deleted": True})
