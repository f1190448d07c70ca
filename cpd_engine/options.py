"""What `run` and `estimate` are told beside the recipe: where things lie, and what the operator of this machine allows."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cpd_engine.inputs import JUDGE_KEY, STATE_CACHE_BYTES, Inputs, JudgeEndpoint


def add(command: argparse.ArgumentParser) -> None:
    """The arguments of a command that takes a recipe."""
    command.add_argument("spec", type=Path, help="recipe, .yaml or .json")
    add_allowed(command)
    command.add_argument(
        "--dataset",
        type=_named_path,
        action="append",
        default=[],
        metavar="ID=PATH",
        help="the file of an uploaded data set that the recipe names",
    )
    command.add_argument(
        "--model-root", type=Path, action="append", default=[], metavar="DIR", help="folder of local models"
    )
    command.add_argument(
        "--state-cache", type=Path, metavar="DIR", help="kept teacher states, shared by all jobs of the machine"
    )
    command.add_argument(
        "--state-cache-bytes", type=int, default=STATE_CACHE_BYTES, metavar="N", help="their size at most"
    )


def add_allowed(command: argparse.ArgumentParser) -> None:
    """The arguments of every command that works with models: what the operator allows, and how it is spoken to."""
    command.add_argument("--hub-cache", type=Path, metavar="DIR", help="where snapshots of the hub are kept")
    command.add_argument(
        "--hub-endpoint", metavar="URL", help="the only hub spoken to; without it no hub model or data"
    )
    command.add_argument(
        "--code-execution",
        choices=["off", "bubblewrap"],
        default="off",
        help="run programs that a model writes, in a sandbox [default: off]",
    )
    command.add_argument("--judge-url", metavar="URL", help=f"OpenAI-compatible endpoint; its key comes in {JUDGE_KEY}")
    command.add_argument("--judge-model", metavar="NAME", help="its model; goes with --judge-url")
    command.add_argument("--judge-prompt-price", type=float, metavar="X", help="per million tokens, for the report")
    command.add_argument("--judge-completion-price", type=float, metavar="X", help="likewise")
    command.add_argument("--judge-concurrency", type=int, default=4, metavar="N", help="questions at once")
    add_heard(command)


def add_heard(command: argparse.ArgumentParser) -> None:
    """How a command that tells events is heard, and that it goes down with whoever started it."""
    command.add_argument("--events-fd", type=int, metavar="N", help="write events to this descriptor instead of stdout")
    command.add_argument("--watchdog", action="store_true", help="die when stdin ends")


def inputs(arguments: argparse.Namespace, environment: Mapping[str, str]) -> Inputs:
    """What the arguments of `add` say, with the judge's key from the environment."""
    return replace(
        allowed(arguments, environment),
        datasets=dict(arguments.dataset),
        base=arguments.spec.parent,
        model_roots=tuple(arguments.model_root),
        state_cache=arguments.state_cache,
        state_cache_bytes=arguments.state_cache_bytes,
    )


def allowed(arguments: argparse.Namespace, environment: Mapping[str, str]) -> Inputs:
    """What those of `add_allowed` say."""
    return Inputs(
        hub_cache=arguments.hub_cache,
        hub_endpoint=arguments.hub_endpoint,
        code_execution=arguments.code_execution == "bubblewrap",
        judge=_judge(arguments, environment),
    )


def _judge(arguments: argparse.Namespace, environment: Mapping[str, str]) -> JudgeEndpoint | None:
    if arguments.judge_url is None or arguments.judge_model is None:
        return None
    return JudgeEndpoint(
        url=arguments.judge_url,
        model=arguments.judge_model,
        api_key=environment.get(JUDGE_KEY) or None,
        prompt_price=arguments.judge_prompt_price,
        completion_price=arguments.judge_completion_price,
        concurrency=arguments.judge_concurrency,
    )


def _named_path(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not ID=PATH")
    return name, Path(path)
