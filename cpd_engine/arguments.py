"""The command line's arguments. Torch-free."""

from __future__ import annotations

import argparse
from pathlib import Path

from cpd_engine import options


def parser() -> argparse.ArgumentParser:
    """Of `python -m cpd_engine` and all that it does."""
    whole = argparse.ArgumentParser(prog="python -m cpd_engine", description="Calibrated progressive distillation.")
    commands = whole.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="carry out a recipe; run it again on the same directory to resume")
    run.add_argument("--out", type=Path, required=True, help="run directory")
    estimate = commands.add_parser("estimate", help="time a few steps here and print what a run will take, as JSON")
    estimate.add_argument("--out", type=Path, help="run directory, which `run` may go on with [default: temporary]")
    for command in (run, estimate):
        options.add(command)
    table = commands.add_parser("table", help="compare the finished runs that a JSON spec names")
    table.add_argument("spec", type=Path, help="the finished runs, as JSON")
    table.add_argument("--out", type=Path, required=True, help="where `table` is sealed, with its figure")
    options.add_heard(table)

    plan = commands.add_parser("plan", help="print what a recipe would do, as JSON")
    plan.add_argument("spec", type=Path, help="recipe, .yaml or .json")
    plan.add_argument("--samples", type=int, required=True, metavar="N", help="training samples")

    synthesize = commands.add_parser("synthesize", help="write the synthetic tasks as train, validation and test.jsonl")
    synthesize.add_argument("--rows", type=int, default=4800, metavar="N", help="in all")
    synthesize.add_argument("--seed", type=int, default=0, metavar="N", help="of values and order")
    synthesize.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write them to")

    about = commands.add_parser("about", help="print versions, GPUs and threads, as JSON")
    about.add_argument("--sandbox", action="store_true", help="and try whether programs can be confined here")

    _check_arguments(
        commands.add_parser("check", help="print rows of files as token lengths and rendered text, as JSON")
    )
    convert = commands.add_parser("convert-gguf", help="turn a GGUF file into a model directory with safetensors")
    convert.add_argument("file", type=Path, help="the GGUF file")
    convert.add_argument("--out", type=Path, required=True, metavar="DIR", help="the model directory to make")
    _serve_arguments(commands.add_parser("serve", help="answer questions that come as JSON lines over stdin"))
    _export_arguments(commands.add_parser("export-gguf", help="turn a model directory into a GGUF file, for llama.cpp"))
    _evaluate_arguments(commands.add_parser("evaluate", help="score a model directory on suites, without training"))
    return whole


def _export_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", type=Path, metavar="DIR", help="model directory with safetensors")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write")
    command.add_argument(
        "--precision", choices=("f32", "f16", "q8_0"), default="f16", help="of matrices [default: f16]"
    )


def _check_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("files", type=Path, nargs="+", metavar="FILE", help="rows: .jsonl, .json, .csv or .parquet")
    for model in ("teacher", "student"):
        command.add_argument(
            f"--{model}", type=Path, metavar="DIR", help="folder of its tokenizer, or tokenizer.json in it"
        )
    command.add_argument(
        "--template", choices=("paper", "chat"), default="paper", help="plain text, or the chat template"
    )
    command.add_argument("--max-length", type=int, default=512, metavar="N", help="tokens a sample, as in a job")
    command.add_argument("--show", type=int, default=0, metavar="N", help="rows to print as the models will see them")


def _serve_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", type=Path, required=True, metavar="DIR", help="model directory with safetensors")
    command.add_argument(
        "--template",
        choices=("paper", "chat", "auto"),
        default="auto",
        help="plain text, or the chat template; auto: the one that the model has",
    )
    command.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where it computes")
    command.add_argument("--threads", type=int, default=2, metavar="N", help="of the CPU")
    command.add_argument("--events-fd", type=int, required=True, metavar="N", help="write answers to this descriptor")


def _evaluate_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", type=Path, required=True, metavar="DIR", help="model directory with safetensors")
    command.add_argument("--out", type=Path, required=True, help="directory of results; run it again to resume")
    command.add_argument(
        "--suite",
        action="append",
        required=True,
        metavar="task=NAME:data=FILE[:FIELD=VALUE…]",
        help="fields as in evaluation.suites; several seeds as seeds=10,20",
    )
    command.add_argument(
        "--template", choices=("paper", "chat"), default="paper", help="plain text, or the chat template"
    )
    command.add_argument("--batch-size", type=int, default=32, metavar="N", help="prompts answered together")
    command.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of matrix products")
    command.add_argument("--threads", type=int, metavar="N", help="of the CPU; without it one for every core")
    options.add_allowed(command)
