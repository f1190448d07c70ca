"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.client import Client
from api.terminal import completing

Url = Annotated[
    str | None, typer.Option("--url", envvar="CPD_URL", help="The service.", show_default="http://127.0.0.1:8000")
]
Key = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="CPD_API_KEY",
        help="The API key.",
        show_default="<data dir>/key, then ~/.config/cpd/key",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text for people.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, job_…", autocompletion=completing.jobs)]
ExitStatus = Annotated[
    bool, typer.Option("--exit-status", help="Exit 1 if the job fails, 5 if it is cancelled or paused.")
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        envvar="CPD_DATA_DIR",
        help="Database, broker, keys and files.",
        show_default="./cpd-data",
    ),
]
Datasets = Annotated[
    list[str] | None,
    typer.Option("--dataset", metavar="SPLIT=ID|FILE", help="Use this data set for train, validation or test."),
]


def connect(url: str | None, key: str | None) -> Client:
    """The client that a command uses."""
    return Client(url, key)
