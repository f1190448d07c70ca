"""docs/reference is what the code says of itself, and says something of everything."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.cli import command_line
from api.comparisons.schemas import ComparisonSpec
from cpd_engine.arguments import parser
from cpd_engine.config import ExaminationConfig, RunConfig
from reference.__main__ import PAGES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_current(page: str) -> None:
    assert (ROOT / page).read_text(encoding="utf-8") == PAGES[page](), "run: make reference"


@pytest.mark.parametrize("model", [RunConfig, ComparisonSpec, ExaminationConfig])
def test_every_field_of_a_spec_says_what_it_is_for(model: type[RunConfig]) -> None:
    schema = model.model_json_schema()
    models = {model.__name__: schema, **schema["$defs"]}
    silent = [
        f"{name}.{field}"
        for name, one in models.items()
        for field, facts in one["properties"].items()
        if not facts.get("description")
    ]

    assert not silent, f"a string under each of these, please: {silent}"


def test_every_field_of_a_spec_is_on_the_page() -> None:
    page = (ROOT / "docs/reference/spec.md").read_text(encoding="utf-8")
    for model in (RunConfig, ComparisonSpec):
        schema = model.model_json_schema()
        for name, one in {model.__name__: schema, **schema["$defs"]}.items():
            section = page.partition(f"### {name}\n")[2].partition("\n### ")[0]
            assert all(f"| `{field}` |" in section for field in one["properties"]), name


def commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(f"{path} {name}", below)


def test_every_command_and_every_option_of_cpd_says_what_it_is_for() -> None:
    for path, command in commands("cpd", command_line()):
        assert command.help, path
        for one in command.params:
            assert one.help or (one.param_type_name == "argument" and one.metavar), f"{path} {one.name}"
            # Rich takes it for markup, and nobody sees it: `show_default` is the place.
            assert "[" not in (one.help or ""), f"{path} {one.name}"


def test_every_argument_of_the_engine_says_what_it_is_for() -> None:
    whole = parser()
    [below] = [action for action in whole._actions if isinstance(action, argparse._SubParsersAction)]
    silent = [
        f"{name} {action.dest}"
        for name, command in below.choices.items()
        for action in command._actions
        if not action.help
    ]

    assert not silent
