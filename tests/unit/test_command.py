"""The engine's command before any of it needs torch: quick answers, exit codes, and the watchdog."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SPEC = {
    "teacher": {"tiny": "llama"},
    "student": {"tiny": "llama", "layers": 1},
    "dataset": {"train": "ds_abcdefgh"},
    "epochs": 20,
}


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cpd_engine", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_command_and_its_plan_need_no_torch() -> None:
    code = "import sys, cpd_engine.__main__, cpd_engine.plan, cpd_engine.spec; print([m for m in sys.modules if m in ('torch', 'numpy')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"optimizer": {"learning_rate": -1}}, "optimizer.learning_rate"),
        ({"epochs": True}, "epochs"),
        ({"tau_3": 1.0}, "tau_3"),
        ({"teacher": {"hub": "../etc"}}, "teacher.hub.hub"),
        ({"dataset": {}}, "dataset"),
    ],
)
def test_a_bad_spec_names_its_field_and_fails_with_an_event(
    tmp_path: Path, change: dict[str, object], field: str
) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(SPEC | change))
    found = _run("run", str(spec), "--out", str(tmp_path / "out"))
    assert found.returncode == 20
    event = json.loads(found.stdout)
    assert (event["kind"], event["code"]) == ("failed", "validation_error")
    assert f"{field}: " in event["message"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["teacher: [", "- 1\n- 2\n", "a: 2020-01-01\n", "a: .nan\n", "", "\x00"])
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str) -> None:
    from cpd_engine.errors import ConfigInvalid
    from cpd_engine.spec import read_spec

    spec = tmp_path / "spec.yaml"
    spec.write_text(text)
    with pytest.raises(ConfigInvalid, match=r"spec\.yaml"):
        read_spec(spec)


@pytest.mark.parametrize(
    ("command", "remedy"), [("run", "name a recipe, .yaml or .json"), ("table", "name a table's spec")]
)
def test_a_file_that_is_not_there_is_told_with_what_to_name(tmp_path: Path, command: str, remedy: str) -> None:
    done = _run(command, str(tmp_path / "none.json"), "--out", str(tmp_path / "out"))
    assert done.returncode == 20
    assert remedy in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    import yaml

    from cpd_engine.spec import read_spec

    (tmp_path / "a.json").write_text(json.dumps(SPEC))
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(SPEC))
    assert read_spec(tmp_path / "a.json") == read_spec(tmp_path / "a.yaml")


def test_plan_prints_the_iterations_of_table_5(tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(SPEC | {"curriculum": "linear", "subset_repeat": 1}))
    found = _run("plan", str(spec), "--samples", "11435")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["planned"]["total_iterations"] == pytest.approx(15_008, rel=1e-3)


def test_synthesize_writes_three_files(tmp_path: Path) -> None:
    assert _run("synthesize", "--rows", "120", "--seed", "3", "--out", str(tmp_path / "data")).returncode == 0
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "test.jsonl",
        "train.jsonl",
        "validation.jsonl",
    ]


_WATCHED = """
import subprocess, sys, time
from cpd_engine import watchdog
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
watchdog.watch_stdin()
print(child.pid, flush=True)
time.sleep(600)
"""


def _watched(*, new_session: bool) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", _WATCHED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=new_session,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_the_end_of_stdin_kills_the_whole_group_of_a_session_leader() -> None:
    process, _ = _watched(new_session=True)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        assert process.wait(timeout=30) == -signal.SIGKILL
        # The child holds the other end of this pipe as well: it ends when both are gone.
        assert process.stdout.read() == ""


def test_without_a_session_of_its_own_the_process_goes_alone() -> None:
    process, child = _watched(new_session=False)
    try:
        with process:
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(timeout=30) == 128 + signal.SIGKILL
            assert _alive(child)
            os.kill(child, signal.SIGKILL)
    finally:
        if _alive(child):
            os.kill(child, signal.SIGKILL)


def _alive(pid: int) -> bool:
    """Running, and no zombie that its new parent has not buried yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize(
    ("suite", "told"),
    [
        ("task=mmlu:data=x.jsonl", "suites.0.task"),
        ("task=gsm8k", "suites.0"),
        ("gsm8k", "'gsm8k' is not FIELD=VALUE"),
        ("task=gsm8k:data=x.jsonl:shots=many", "suites.0.shots"),
        ("task=dolly:data=x.jsonl:seeds=10,ten", "suites.0.seeds"),
        ("task=dolly:data=x.jsonl:colour=red", "suites.0.colour"),
    ],
)
def test_a_suite_on_the_command_line_that_is_none_is_refused_before_a_model_is_touched(
    tmp_path: Path, suite: str, told: str
) -> None:
    model, out = str(tmp_path / "model"), str(tmp_path / "out")
    found = _run("evaluate", "--model", model, "--out", out, "--suite", suite)
    assert found.returncode == 20
    event = json.loads(found.stdout)
    assert (event["kind"], event["code"]) == ("failed", "validation_error")
    assert told in event["message"]


def test_a_suite_on_the_command_line_is_that_of_a_recipe() -> None:
    from cpd_engine.config import SuiteSpec
    from cpd_engine.spec import read_examination

    text = "task=dolly:name=d:data=C:/rows:1.jsonl:seeds=10,20:rows=5:settings=minillm:max_new_tokens=64"
    (suite,) = read_examination([text], template="chat", batch_size=4).suites
    assert suite == SuiteSpec(
        task="dolly", name="d", data="C:/rows:1.jsonl", seeds=(10, 20), rows=5, settings="minillm", max_new_tokens=64
    )


def test_a_model_that_is_not_there_cannot_be_scored(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "a", "output": "b"}\n')
    suite = f"task=custom:data={rows}"
    found = _run("evaluate", "--model", str(tmp_path / "none"), "--out", str(tmp_path / "out"), "--suite", suite)
    assert found.returncode == 20
    assert json.loads(found.stdout.splitlines()[-1])["kind"] == "failed"
