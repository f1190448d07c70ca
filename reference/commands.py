"""docs/reference/cli.md: every command of `cpd` and of `python -m cpd_engine` with its arguments, from the programs themselves."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from enum import Enum
from typing import Any

from api.cli import command_line
from api.remote import trouble
from cpd_engine.__main__ import FAILED, STOPPED
from cpd_engine.arguments import parser
from reference.schema import figure, table

PAGE = "docs/reference/cli.md"
_HEAD = """\
# The command line

What `--help` tells, on one page. `make reference` writes it from the programs themselves, and a test holds it to them.
[README](../../README.md#the-command-line) has the commands at a glance, [how-to](../how-to/README.md) has them at work.

The service is found by `--url` or `CPD_URL`, the key by `--api-key`, `CPD_API_KEY`, `<data dir>/key` or `~/.config/cpd/key`.
"""
_ENDS = (
    (0, "done; a job that was watched is over, whatever its end, unless `--exit-status` is given"),
    (
        trouble.JOB_FAILED,
        "the job or comparison failed, with `--exit-status`; `estimate --probe` ended without a forecast",
    ),
    (trouble.BAD_INPUT, "wrong usage, file, recipe or setting"),
    (trouble.NOT_ALLOWED, "no such thing, or the key does not allow it"),
    (trouble.UNREACHABLE, "the service, or for the operator's commands the database, does not answer"),
    (trouble.JOB_STOPPED, "the job or comparison was cancelled or paused, with `--exit-status`"),
    (trouble.CONFLICT, "conflict: the job is already over, the result is not there yet"),
    (trouble.DAMAGED, "what was downloaded is not what was sealed"),
    (trouble.INTERRUPTED, "interrupted; a watched job goes on"),
)
_ENGINE_ENDS = (
    (0, "finished"),
    (STOPPED, "stopped on request, and resumable"),
    (FAILED, "failed, with a code and a message"),
)


def text() -> str:
    """The page."""
    service = [_command(path, command) for path, command in _commands("cpd", command_line())]
    whole = parser()
    [commands] = [action for action in whole._actions if isinstance(action, argparse._SubParsersAction)]
    helps = {action.dest: action.help or "" for action in commands._choices_actions}
    engine = [_engine_command(name, helps[name], one) for name, one in commands.choices.items()]
    parts = [_HEAD, "## `cpd`", *service, "### Exit codes", _ends(_ENDS), "## `python -m cpd_engine`", _ENGINE, *engine]
    return "\n\n".join(part.strip() for part in [*parts, "### Exit codes of the engine", _ends(_ENGINE_ENDS)]) + "\n"


_ENGINE = "The engine without a service: no database, no broker, no HTTP. Takes the extra `engine`."


def _ends(codes: tuple[tuple[int, str], ...]) -> str:
    return table(("exit code", "means"), [(str(code), means) for code, means in codes])


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Every command below `command` that does something, with its full name."""
    if not (below := getattr(command, "commands", {})):
        yield path, command
    for name, one in below.items():
        yield from _commands(f"{path} {name}", one)


def _command(path: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    usage = " ".join([path, *(_usage(one) for one in arguments), *(["[OPTIONS]"] if options else [])])
    rows = [
        (f"`{one.metavar or one.name.upper()}`", one.help or "", "required" if one.required else "")
        for one in arguments
    ]
    rows += [(_names(one), one.help or "", _option_default(one)) for one in options]
    described = "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
    return "\n\n".join(
        [f"### {path}", f"```text\n{usage}\n```", described, table(("argument", "meaning", "default"), rows)]
    )


def _usage(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _names(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    return names if option.is_flag else f"{names} {_value(option)}"


def _value(option: Any) -> str:
    """What goes behind the option: its choices, its range, or the kind of thing it is."""
    kind = option.type_descriptor
    if option.metavar:
        return f"`{option.metavar}`"
    if kind.is_choice:
        return " ".join(f"`{one.value if isinstance(one, Enum) else one}`" for one in kind.choices)
    match option.min, option.max:
        case None, None:
            return "FILE" if kind.is_path else "NUMBER" if kind.annotation in (int, float) else "TEXT"
        case least, None:
            return f"NUMBER, at least {figure(least)}"
        case least, most:
            return f"NUMBER, {figure(least)} to {figure(most)}"


def _option_default(option: Any) -> str:
    if option.required:
        return "required"
    told = option.show_default if isinstance(option.show_default, str) else option.default
    shown = "" if told is None or told is False else "on" if told is True else str(told).replace("<", "&lt;")
    variable = f"`{option.envvar}`" if option.envvar else ""
    return ", else ".join(part for part in (variable, shown) if part)


def _engine_command(name: str, says: str, command: argparse.ArgumentParser) -> str:
    actions = [action for action in command._actions if not isinstance(action, argparse._HelpAction)]
    rows = [(_engine_names(action), action.help or "", _engine_default(action)) for action in actions]
    positional = [_placeholder(action) for action in actions if not action.option_strings]
    usage = " ".join(["python -m cpd_engine", name, *positional, "[OPTIONS]"])
    return "\n\n".join(
        [
            f"### cpd_engine {name}",
            f"```text\n{usage}\n```",
            _sentence(says),
            table(("argument", "meaning", "default"), rows),
        ]
    )


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + "."


def _placeholder(action: argparse.Action) -> str:
    return str(action.metavar or action.dest.upper())


def _engine_names(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{_placeholder(action)}`"
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    if action.nargs == 0:
        return names
    return f"{names} " + (
        " ".join(f"`{one}`" for one in action.choices) if action.choices else f"`{_placeholder(action)}`"
    )


def _engine_default(action: argparse.Action) -> str:
    if action.required:
        return "required"
    told = "[default" in (action.help or "")
    nothing = action.default is None or action.default is False or action.default == []
    return "" if told or nothing else str(action.default)
