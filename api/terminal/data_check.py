"""`cpd datasets check`: what is wrong with files of rows, without a service."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import TypeAdapter, ValidationError

from api.remote.trouble import BAD_INPUT, BadInput
from api.terminal import diagnoses
from api.terminal.diagnoses import Checked
from api.terminal.options import AsJson
from api.terminal.output import hint, print_json, stderr, stdout
from api.terminal.plain import may_draw
from cpd_engine.data.doctor import Examination
from cpd_engine.data.lengths import TokenCheck
from cpd_engine.data.readers import lines_of
from cpd_engine.data.records import Row, to_json
from cpd_engine.errors import DatasetInvalid

Files = Annotated[
    list[Path], typer.Argument(metavar="FILE…", help="Rows: .jsonl (also .gz), .json, .csv, .tsv or .parquet.")
]
Fraction = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="How many bad rows are skipped; above it a file is refused.")
]
Tokenizer = Annotated[
    Path | None, typer.Option(metavar="DIR", exists=True, help="Folder of its tokenizer, or tokenizer.json in it.")
]


def examine(files: Sequence[Path], *, max_bad_fraction: float, save: Path | None = None) -> list[Checked]:
    """Each file by itself, and against those before it for prompts in both. The usable rows go into `save` as JSON lines."""
    found: list[Checked] = []
    prompts: dict[str, set[bytes]] = {}
    for file in files:
        examination = Examination(elsewhere=prompts)
        unreadable = _read(file, examination, save)
        diagnosis = examination.diagnosis()
        bad = diagnosis.bad_fraction > max_bad_fraction or not diagnosis.rows
        found.append(
            Checked(file=str(file), diagnosis=diagnosis, unreadable=unreadable, accepted=not (bad or unreadable))
        )
        prompts[str(file)] = examination.prompts
    return found


def _read(file: Path, examination: Examination, save: Path | None) -> str | None:
    try:
        rows = examination.usable(lines_of([file]))
        if save is None:
            for _ in rows:
                pass
        else:
            _write(rows, save)
    except DatasetInvalid as error:
        return str(error)
    except OSError as error:
        if save is not None and error.filename == str(save):
            raise BadInput(f"cannot write {save} ({error.strerror}): choose another file with --save") from error
        remedy = "name files of rows, as .jsonl, .json, .csv or .parquet"
        raise BadInput(f"cannot read {error.filename or file} ({error.strerror}): {remedy}") from error
    return None


def _write(rows: Iterable[Row], save: Path) -> None:
    with save.open("x", encoding="utf-8", newline="") as out:
        try:
            for row in rows:
                out.write(to_json(row) + "\n")
        except BaseException:
            # Half of the rows look like all of them.
            save.unlink()
            raise


def check(
    files: Files,
    max_bad_row_fraction: Fraction = 0.01,
    teacher: Tokenizer = None,
    student: Tokenizer = None,
    template: Annotated[
        Literal["paper", "chat"], typer.Option(help="Prompts as plain text, or by the chat template.")
    ] = "paper",
    max_length: Annotated[int, typer.Option(min=8, help="Tokens a sample, as in a job.")] = 512,
    show: Annotated[int, typer.Option(min=0, max=20, help="Rows to show as the models will see them.")] = 1,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the usable rows of one file as JSON lines.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check files of rows without a service, by the rules that an upload goes by. Exit 2 if one would be refused.

    Tells bad rows by line, duplicates, answers that contradict each other, and prompts of one file in another. With --teacher or
    --student also lengths in tokens, what is too long, and prompts as the models will see them; that takes the engine.
    """
    if save is not None and (len(files) > 1 or save.exists()):
        raise BadInput("--save takes one file of rows, and the name of a file that is not there yet")
    found = examine(files, max_bad_fraction=max_bad_row_fraction, save=save)
    tokens = None
    readable = [file for file, checked in zip(files, found, strict=True) if not checked.unreadable]
    if readable and (teacher or student):
        options = {"teacher": teacher, "student": student, "template": template, "max_length": max_length, "show": show}
        if may_draw(stderr()):
            hint("counting tokens …")
        tokens = count_tokens(readable, options)
    accepted = all(checked.accepted for checked in found)
    if as_json:
        print_json(_document(found, accepted, tokens))
    else:
        stdout().print(diagnoses.checked(found, tokens))
    if not accepted:
        raise typer.Exit(BAD_INPUT)


def count_tokens(files: Sequence[Path], options: dict[str, Any]) -> TokenCheck:
    """What the engine's `check` says of the files, in a process of its own: it needs transformers, and this command does not."""
    if find_spec("transformers") is None:
        raise BadInput("--teacher and --student need the engine; install cpd with its extra `engine`")
    command = [sys.executable, "-m", "cpd_engine", "check"]
    for name, value in options.items():
        command += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*command, "--", *map(str, files)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise BadInput(said[-1] if said else f"the engine ended with code {done.returncode}")
    try:
        return TypeAdapter(TokenCheck).validate_json(done.stdout)
    except ValidationError as error:
        raise BadInput("the engine answers in another version's form; install both from one version") from error


def _document(found: Sequence[Checked], accepted: bool, tokens: TokenCheck | None) -> dict[str, Any]:
    rows = sum(checked.diagnosis.rows for checked in found)
    bad = sum(checked.diagnosis.bad_rows for checked in found)
    reasons: dict[str, int] = {}
    for checked in found:
        for code, count in checked.diagnosis.reasons.items():
            reasons[code] = reasons.get(code, 0) + count
    listed = [{"file": one.file, **asdict(row)} for one in found for row in one.diagnosis.first_bad]
    files = []
    for one in found:
        facts = {name: value for name, value in asdict(one.diagnosis).items() if name != "first_bad"}
        files.append({"file": one.file, "accepted": one.accepted, "unreadable": one.unreadable, **facts})
    return {
        "object": "dataset_check",
        "accepted": accepted,
        "rows": rows,
        "bad_rows": bad,
        "reasons": reasons,
        "report": {"bad_rows": listed, "truncated": bad > len(listed)},
        "files": files,
        "tokens": None if tokens is None else asdict(tokens),
    }
