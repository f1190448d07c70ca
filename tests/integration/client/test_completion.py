"""The shell completes commands, options, choices and ids, by the protocol that its completion script speaks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from api.cli import main

CPD = Path(sys.executable).with_name("cpd")
Ask = Callable[..., str]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Ask:
    """What `cpd` answers to a shell, whose question lies in the environment. In this process, which saves a second each."""
    monkeypatch.setattr(sys, "argv", ["cpd"])
    # The discard port: nothing listens there.
    for name, value in {"CPD_URL": "http://127.0.0.1:9", "CPD_DATA_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)

    def asked(**question: str) -> str:
        for name, value in question.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert said.err == ""
        assert not ended.value.code
        return said.out

    return asked


def for_bash(ask: Ask, line: str) -> list[str]:
    position = str(len(line.split(" ")) - 1)
    return ask(COMP_WORDS=line, COMP_CWORD=position, _CPD_COMPLETE="complete_bash").split()


def test_bash_is_told_commands_options_and_choices(ask: Ask) -> None:
    assert for_bash(ask, "cpd comp") == ["compare", "comparisons"]
    assert for_bash(ask, "cpd comparisons re") == ["retable"]
    assert {"--json", "--plain", "--url"} <= set(for_bash(ask, "cpd jobs --"))
    assert for_bash(ask, "cpd flips job_1 --against t") == ["teacher"]


def test_zsh_and_fish_are_told_the_same_with_what_each_is_for(ask: Ask) -> None:
    zsh = ask(_TYPER_COMPLETE_ARGS="cpd comp", _CPD_COMPLETE="complete_zsh")
    assert '"compare":"Queue several' in zsh
    assert '"comparisons":' in zsh
    question = {"_TYPER_COMPLETE_FISH_ACTION": "get-args", "_CPD_COMPLETE": "complete_fish"}
    fish = ask(_TYPER_COMPLETE_ARGS="cpd comp", **question).splitlines()
    assert [line.split("\t")[0] for line in fish] == ["compare", "comparisons"]


def test_where_no_service_answers_ids_are_not_completed_and_nothing_is_said(ask: Ask) -> None:
    for line in ("cpd watch job_", "cpd datasets delete ds_", "cpd comparisons show cmp_"):
        assert for_bash(ask, line) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_understands_its_script(ask: Ask, tmp_path: Path, shell: str) -> None:
    script = tmp_path / "script"
    script.write_text(ask(_CPD_COMPLETE=f"source_{shell}"))
    assert f"complete_{shell}" in script.read_text()
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell} to read the script: apt-get install {shell}")
    subprocess.run([shell, "-n", script], check=True)


def test_a_bash_that_installs_it_completes_from_its_next_start_on(tmp_path: Path) -> None:
    script = """
        cpd --install-completion
        source "$HOME/.bashrc"
        COMP_WORDS=(cpd comparisons re) COMP_CWORD=2
        _cpd_completion cpd
        printf '%s\n' "${COMPREPLY[@]}"
    """
    settings = {"HOME": str(tmp_path), "PATH": f"{CPD.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], env=os.environ | settings, capture_output=True, text=True, timeout=120, check=True
    )
    assert "bash completion installed" in done.stdout
    assert done.stdout.splitlines()[-1] == "retable"
