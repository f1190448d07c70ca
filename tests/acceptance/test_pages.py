"""The documentation is true: every block of commands is run, page by page as in one terminal, or stands in the list with its reason."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from api.comparisons.schemas import ComparisonSpec
from api.core.settings import Settings
from cpd_engine.config import RunConfig
from tests.acceptance.conftest import Service, Starter
from tests.acceptance.pages import (
    COMMAND,
    ELSEWHERE,
    GENERATED,
    LEFT_OUT,
    OTHER,
    PYTHON,
    ROOT,
    SHELL,
    WALKS,
    Block,
    blocks,
    is_run,
    pages,
    reason,
)
from tests.backends import connected

BLOCKS = [block for page in pages() for block in blocks(page)]
WALKED = {page for walk in WALKS.values() for page in walk}
# Where the pages have the service listen.
ADDRESS = "http://127.0.0.1:8000"
# What the pages start, as one line: the service of the tests is this command on a free port.
SERVE = re.compile(r"cpd serve(?: --model-root recipes/models)?\n")
# The first that fails ends the walk; an answer that is an error is one that failed.
START = """set -euo pipefail
curl() { command curl --fail --silent --show-error "$@"; }
"""
# What README.md takes for granted: "with your rows in train.jsonl and a recipe in recipe.yaml".
RECIPE = {
    "teacher": {"tiny": "gpt2", "layers": 2, "hidden": 64, "heads": 2, "vocabulary": 512},
    "student": {"tiny": "gpt2", "layers": 1, "hidden": 32, "heads": 2, "vocabulary": 512},
    "dataset": {"train": "train.jsonl"},
    "epochs": 1,
    "max_length": 160,
    "threads": 1,
    "evaluation": {"validation_rows": 0, "test_rows": 8, "generation": {"max_new_tokens": 8}},
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Service]:
    """One service for all pages, started as they say, with webhooks on as one of them asks."""
    folder = tmp_path_factory.mktemp("pages")
    data_dir = folder / "data"
    data_dir.mkdir()
    shutil.copyfile(sqlite_template, data_dir / "cpd.sqlite3")
    starter = Starter(folder)
    with connected("sqlite", Settings(data_dir=data_dir, pool_size=20)) as backend:
        yield starter(backend, "--model-root", ROOT / "recipes/models", webhooks="any")
    starter.stop_all()


@pytest.fixture
def terminal(service: Service, rows: Path, tmp_path: Path) -> Path:
    """A folder like a checkout in which the service was started: its data, the recipes, the environment, and README's two files."""
    (tmp_path / "cpd-data").symlink_to(service.environment["CPD_DATA_DIR"])
    for name in ("recipes", ".venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "train.jsonl").write_bytes((rows / "train.jsonl").read_bytes())
    (tmp_path / "recipe.yaml").write_text(json.dumps(RECIPE))
    return tmp_path


def commands(block: Block, url: str) -> str:
    """The block as a piece of a script, which says where it is."""
    told = f"printf '%s\\n' '@@ {block.place}' >&2\n"
    if SERVE.fullmatch(block.text):
        return told
    text = block.text.replace(ADDRESS, url)
    return told + (f"python - <<'BLOCK'\n{text}BLOCK\n" if block.language == PYTHON else text)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("walk", WALKS)
def test_every_command_of_the_pages_works(walk: str, service: Service, terminal: Path) -> None:
    script = START + "".join(
        commands(block, service.url) for page in WALKS[walk] for block in blocks(page) if is_run(block)
    )
    # The key is found as a person's is, in cpd-data; the port alone is another one than on the pages.
    kept = {name: value for name, value in service.environment.items() if not name.startswith("CPD_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        env=kept | {"PATH": path, "CPD_URL": service.url},
        cwd=terminal,
        capture_output=True,
        text=True,
        timeout=590,
        check=False,
    )

    assert done.returncode == 0, f"{done.stderr[-4000:]}\n{done.stdout[-2000:]}\n{service.tail()}"


def test_every_block_says_what_it_is() -> None:
    unknown = [block.place for block in BLOCKS if block.language not in {SHELL, PYTHON, *OTHER}]

    assert not unknown, f"```{SHELL} for commands, or one of {', '.join(sorted(OTHER))}: {unknown}"


def test_a_block_that_is_none_of_commands_holds_none() -> None:
    hidden = [
        block.place
        for block in BLOCKS
        if block.page not in GENERATED and block.language in OTHER and COMMAND.search(block.text)
    ]

    assert not hidden, f"make these ```{SHELL}: {hidden}"


def specs() -> Iterator[Block]:
    """The blocks that are a spec, or a part of one."""
    for block in BLOCKS:
        if block.language == "yaml" and (block.page in WALKED or block.page in {"docs/faq.md", "docs/concepts.md"}):
            yield block


@pytest.mark.parametrize("block", [*specs()], ids=lambda block: block.place)
def test_a_spec_on_a_page_is_one_or_a_part_of_one(block: Block) -> None:
    """`…` and `<commit>` stand for what a reader has; what a part leaves out is that of a small job."""
    written = yaml.safe_load(block.text.replace("…", "{tiny: gpt2}").replace("<commit>", "main"))
    whole = {"base", "members"} <= set(written)
    given = written if whole else {**RECIPE, **written}

    # As the service reads it, which refuses what is no field, and no value of one.
    (ComparisonSpec if whole else RunConfig).model_validate_json(json.dumps(given))


def test_every_block_of_commands_is_run_or_has_its_reason() -> None:
    neither = [
        block.place
        for block in BLOCKS
        if block.language == SHELL and block.page not in {*WALKED, *ELSEWHERE} and reason(block) is None
    ]

    assert not neither, (
        f"put the page into a walk of tests/acceptance/pages.py, or the block with its reason into LEFT_OUT: {neither}"
    )


def test_a_reason_is_for_a_block_that_is_there() -> None:
    stale = [
        (page, start)
        for page, reasons in LEFT_OUT.items()
        for start in reasons
        if not any(block.text.startswith(start) for block in blocks(page) if block.language in (SHELL, PYTHON))
    ]

    assert not stale


def test_a_reason_and_a_walk_name_what_is_there() -> None:
    named = {
        name
        for reasons in LEFT_OUT.values()
        for why in reasons.values()
        for name in re.findall(r"[\w./-]+/[\w./-]+", why)
    }

    assert set(pages()) >= WALKED
    assert not [name for name in {*named, *ELSEWHERE.values()} if not (ROOT / name).exists()]
    assert set(WALKS["how-to"]) == {page for page in pages() if page.startswith("docs/how-to/")}
