"""`cpd export`: a student in the form of another program."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from api.remote.trouble import BadInput
from api.terminal.options import AsJson, Key, Url, connect
from api.terminal.output import hint, print_json, stdout

app = typer.Typer(name="export", help="A student in the form of another program.", no_args_is_help=True)
_JOB = "job_"


@app.callback()
def forms() -> None:
    """A student in the form of another program."""


@app.command()
def gguf(
    which: Annotated[str, typer.Argument(metavar="JOB|DIR", help="A job's id, job_…, or a folder with a model.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write.")],
    precision: Annotated[
        Literal["f32", "f16", "q8_0"], typer.Option(help="Of matrices; q8_0 has 8 bits and a scale for every 32.")
    ] = "f16",
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Write a student of the Llama or Qwen2 family as one GGUF file, for llama.cpp. Takes the engine, and the package gguf."""
    if find_spec("transformers") is None:
        raise BadInput("this needs the engine; install cpd with its extras `engine` and `gguf`")
    if not out.absolute().parent.is_dir():
        raise BadInput(
            f"there is no folder {out.parent} to write {out.name} to: make it, or choose another file with --out"
        )
    with ExitStack() as stack:
        folder = Path(which)
        if which.startswith(_JOB) and not folder.exists():
            # Beside the file, which has room for a model.
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=out.absolute().parent)))
            with connect(url, key) as client:
                folder = client.download(which, scratch / "student").directory
        _convert(folder, out, precision)
    size_bytes = out.stat().st_size
    if as_json:
        print_json({"object": "gguf", "file": str(out), "precision": precision, "size_bytes": size_bytes})
    else:
        hint(f"{size_bytes:,} bytes")
        stdout().print(str(out), markup=False)


def _convert(folder: Path, out: Path, precision: str) -> None:
    """In a process of its own: it needs torch, and this command does not."""
    command = [sys.executable, "-m", "cpd_engine", "export-gguf", str(folder), "--out", str(out)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*command, "--precision", precision], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise BadInput(said[-1] if said else f"the engine ended with code {done.returncode}")
