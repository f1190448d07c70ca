"""The words of `python -m cpd_engine`."""

from __future__ import annotations

import argparse
from pathlib import Path

from cpd_engine.inputs import STATE_CACHE_BYTES


def _named_path(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not ID=PATH")
    return name, Path(path)


def parser() -> argparse.ArgumentParser:
    """The commands of `python -m cpd_engine` with their options."""
    made = argparse.ArgumentParser(prog="python -m cpd_engine", description="Calibrated progressive distillation.")
    commands = made.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="carry out a recipe; run it again on the same directory to resume")
    run.add_argument("--out", type=Path, required=True, help="run directory")
    estimate = commands.add_parser("estimate", help="time a few steps here and print what a run will take, as JSON")
    estimate.add_argument("--out", type=Path, help="run directory, which `run` may go on with [default: temporary]")
    for command in (run, estimate):
        _engine_arguments(command)
    table = commands.add_parser("table", help="compare the finished runs that a JSON spec names")
    table.add_argument("spec", type=Path)
    table.add_argument("--out", type=Path, required=True, help="where `table` is sealed, with its figure")
    for command in (run, estimate, table):
        command.add_argument(
            "--events-fd", type=int, metavar="N", help="write events to this descriptor instead of stdout"
        )
        command.add_argument("--watchdog", action="store_true", help="die when stdin ends")

    plan = commands.add_parser("plan", help="print what a recipe would do, as JSON")
    plan.add_argument("spec", type=Path)
    plan.add_argument("--samples", type=int, required=True, metavar="N", help="training samples")

    synthesize = commands.add_parser("synthesize", help="write the synthetic tasks as train, validation and test.jsonl")
    synthesize.add_argument("--rows", type=int, default=4800)
    synthesize.add_argument("--seed", type=int, default=0)
    synthesize.add_argument("--out", type=Path, required=True)

    convert = commands.add_parser("convert-gguf", help="turn a GGUF file into a model directory with safetensors")
    convert.add_argument("file", type=Path)
    convert.add_argument("--out", type=Path, required=True)
    return made


def _engine_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("spec", type=Path, help="recipe, .yaml or .json")
    command.add_argument("--dataset", type=_named_path, action="append", default=[], metavar="ID=PATH")
    command.add_argument(
        "--model-root", type=Path, action="append", default=[], metavar="DIR", help="folder of local models"
    )
    command.add_argument("--hub-cache", type=Path, metavar="DIR")
    command.add_argument("--hub-endpoint", metavar="URL")
    command.add_argument(
        "--state-cache", type=Path, metavar="DIR", help="kept teacher states, shared by all jobs of the machine"
    )
    command.add_argument(
        "--state-cache-bytes", type=int, default=STATE_CACHE_BYTES, metavar="N", help="their size at most"
    )
