"""What `python -m cpd_engine` does beside running, judging and answering: looks, conversions, rows. Each imports what it needs alone."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from io import TextIOWrapper
from typing import Any

from cpd_engine.spec import read_spec


def do(arguments: argparse.Namespace) -> None:
    """The command of these arguments. Raises EngineError."""
    match arguments.command:
        case "about":
            from cpd_engine.about import about

            _print(about(sandbox=arguments.sandbox))
        case "check":
            _check(arguments)
        case "plan":
            from cpd_engine.plan import plan

            _print(asdict(plan(read_spec(arguments.spec), samples=arguments.samples)))
        case "synthesize":
            from cpd_engine.data.synthetic import write_splits

            write_splits(arguments.out, arguments.rows, arguments.seed)
        case "export-gguf":
            from cpd_engine.models.gguf_export import export

            export(arguments.model, arguments.out, precision=arguments.precision)
        case _:
            from cpd_engine.models.gguf import convert

            convert(arguments.file, arguments.out)


def stream_to(descriptor: int | None) -> TextIOWrapper:
    """Where lines for a program go. When that is stdout, whatever a library prints there goes to stderr instead."""
    if descriptor is not None:
        return os.fdopen(descriptor, "w", encoding="utf-8")
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return stream


def _check(arguments: argparse.Namespace) -> None:
    from cpd_engine.data.tokens import check_tokens

    answer = stream_to(None)
    given = {name: getattr(arguments, name) for name in ("teacher", "student", "template", "max_length", "show")}
    answer.write(json.dumps(asdict(check_tokens(arguments.files, **given)), allow_nan=False) + "\n")
    answer.flush()


def _print(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
