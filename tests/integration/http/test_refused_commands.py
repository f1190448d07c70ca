"""Whatever goes wrong between a command of `cpd` and the service is one line that says what to do next, and an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from api.cli import command_line, main
from tests.integration.http.api import COMPARISON, ROWS, SPEC, Api

# What a command says of an answer does not depend on where the service keeps its rows.
on_one_backend = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)

JOB, DATASET, MADE = "job_" + "0" * 32, "ds_" + "0" * 32, "cmp_" + "0" * 32
# What each command that speaks to the service is given, `{}` the folder of the files below.
WORDS = {
    "submit": "{}/recipe.json",
    "estimate": "{}/recipe.json",
    "compare": "{}/comparison.json",
    "watch": JOB,
    "jobs": "",
    "usage": "",
    "show": JOB,
    "samples": JOB,
    "cancel": JOB,
    "pause": JOB,
    "resume": JOB,
    "download": f"{JOB} --out {{}}/new",
    "report": f"{JOB} --out {{}}/report.md",
    "flips": JOB,
    "datasets upload": "{}/rows.jsonl",
    "datasets list": "",
    "datasets delete": DATASET,
    "comparisons watch": MADE,
    "comparisons list": "",
    "comparisons show": MADE,
    "comparisons cancel": MADE,
    "comparisons retable": MADE,
    "comparisons figure": f"{MADE} --out {{}}/table.png",
    "export gguf": f"{JOB} --out {{}}/student.gguf",
}
ABOUT_A_THING = [name for name, words in WORDS.items() if {JOB, DATASET, MADE} & set(words.split())]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended, and the one line that it complained in."""

    code: int
    complaint: str


Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs `cpd` in this process, which saves a second each; `run(name, url=…, key=…)` with the words that the command takes."""
    data = {"train": "rows.jsonl", "test": "rows.jsonl"}
    (tmp_path / "rows.jsonl").write_bytes(ROWS)
    (tmp_path / "recipe.json").write_text(json.dumps(SPEC | {"dataset": data}))
    base = COMPARISON["base"] | {"dataset": data}
    (tmp_path / "comparison.json").write_text(json.dumps(COMPARISON | {"base": base}))
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "XDG_CONFIG_HOME": str(tmp_path),
        "CPD_DATA_DIR": str(tmp_path / "none"),
        "COLUMNS": "300",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CPD_API_KEY", raising=False)

    def command(name: str, words: str | None = None, *, url: str, key: str | None) -> Ended:
        given = (WORDS[name] if words is None else words).format(tmp_path).split()
        owner = ["--api-key", key] if key else []
        monkeypatch.setattr(sys, "argv", ["cpd", *name.split(), *given, "--url", url, *owner])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cpd: ")]
        assert len(lines) == 1, (name, lines)
        return Ended(code=int(ended.value.code or 0), complaint=lines[0])

    return command


def names(path: str, command: Any) -> Iterator[str]:
    if any(option.name == "url" and "--url" in option.opts for option in command.params):
        yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from names(f"{path} {name}".strip(), below)


def test_no_command_that_speaks_to_the_service_is_left_out() -> None:
    assert set(names("", command_line())) == set(WORDS)


@on_one_backend
def test_without_a_key_every_command_says_where_it_looks_for_one(run: Run, api: Api) -> None:
    for name in WORDS:
        ended = run(name, url=api.url, key=None)
        assert (ended.code, "CPD_API_KEY" in ended.complaint) == (3, True), (name, ended)


@on_one_backend
def test_with_a_wrong_key_every_command_says_how_to_come_by_another(run: Run, api: Api) -> None:
    for name in WORDS:
        ended = run(name, url=api.url, key="cpd_000000000000_" + "0" * 48)
        assert (ended.code, "`cpd keys create NAME`" in ended.complaint) == (3, True), (name, ended)


@on_one_backend
def test_a_key_that_is_none_is_told_before_anything_is_sent(run: Run, api: Api) -> None:
    for key in ("clé", "two-lines\ncpd"):
        ended = run("jobs", url=api.url, key=key)
        assert (ended.code, "begins with cpd_" in ended.complaint) == (2, True), ended


@on_one_backend
def test_of_a_thing_that_is_not_there_every_command_says_what_lists_those_that_are(run: Run, api: Api) -> None:
    lists = {JOB: "`cpd jobs` lists", DATASET: "`cpd datasets list` lists", MADE: "`cpd comparisons list` lists"}
    for name in ABOUT_A_THING:
        ended = run(name, url=api.url, key=api.keys["owner"])
        [listed] = [told for thing, told in lists.items() if thing in WORDS[name]]
        assert (ended.code, listed in ended.complaint) == (3, True), (name, ended)


@on_one_backend
def test_a_file_that_is_not_there_or_no_spec_is_told_with_what_to_name(run: Run, api: Api, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("teacher: [")
    (tmp_path / "list.yaml").write_text("- teacher")
    remedies = {
        "absent.yaml": "name a spec as YAML or JSON",
        "bad.yaml": "is no YAML; mend it there",
        "list.yaml": "a spec is a mapping",
    }
    for name in ("submit", "estimate", "compare"):
        for file, remedy in remedies.items():
            ended = run(name, f"{{}}/{file}", url=api.url, key=api.keys["owner"])
            assert (ended.code, remedy in ended.complaint) == (2, True), (name, ended)
    ended = run("datasets upload", "{}/absent.jsonl", url=api.url, key=api.keys["owner"])
    assert (ended.code, "name one of rows" in ended.complaint) == (2, True), ended


@on_one_backend
def test_rows_that_are_refused_are_told_with_what_shows_them(run: Run, api: Api, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("nonsense\n" * 9)
    for name in ("datasets upload", "submit"):
        ended = run(name, url=api.url, key=api.keys["owner"])
        assert (ended.code, "`cpd datasets check FILE`" in ended.complaint) == (2, True), (name, ended)


@on_one_backend
def test_a_place_that_cannot_be_written_to_is_told_with_the_option_that_names_another(
    run: Run, api: Api, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    places = {"download": f"{JOB} --out {{}}/full", "export gguf": f"{JOB} --out {{}}/none/student.gguf"}
    for name, words in places.items():
        ended = run(name, words, url=api.url, key=api.keys["owner"])
        assert (ended.code, "--out" in ended.complaint) == (2, True), (name, ended)


class Other(BaseHTTPRequestHandler):
    """Somebody else's server, which has an answer to everything."""

    def do_GET(self) -> None:
        self.send_response(404 if "comparisons" in self.path else 200)
        self.end_headers()
        self.wfile.write(b"<html>welcome</html>")

    def log_message(self, *_: object) -> None:
        """Not into the test's output."""


@pytest.fixture
def other() -> Iterator[str]:
    """The address of a server that is not CPD."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("name", ["jobs", "comparisons list"])
def test_a_server_that_is_another_one_is_told_by_its_address(run: Run, other: str, name: str) -> None:
    ended = run(name, url=other, key=None)
    assert "--url and CPD_URL" in ended.complaint
