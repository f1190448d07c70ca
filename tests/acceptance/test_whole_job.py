"""A whole job as a person runs it: `cpd serve`, then the command line alone, then plain transformers on what was downloaded."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.conftest import Service
from tests.backends import Backend

# Nothing of the project: what was downloaded must load by itself.
LOAD = """
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
tokens = model.generate(**tokenizer(sys.argv[2], return_tensors="pt", return_token_type_ids=False), max_new_tokens=4, do_sample=False)
print(json.dumps({"layers": model.config.num_hidden_layers, "tokens": tokens.shape[1]}))
"""
PHASES = ["prepare", "teacher_sft", "profile", "train", "evaluate", "export"]


@pytest.mark.timeout(600)
def test_a_job_is_submitted_watched_scored_downloaded_and_loaded(
    start: Callable[..., Service], backend: Backend, recipe: Path, tmp_path: Path
) -> None:
    service = start(backend)

    done = service.cpd("submit", recipe, "--follow", "--exit-status", "--json")
    assert done.returncode == 0, done.stderr + service.tail()
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    events, job = lines[:-1], lines[-1]
    assert (job["object"], job["state"], job["attempt"]) == ("job", "succeeded", 1)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["data"]["phase"] for event in events if event["kind"] == "phase_started"] == PHASES
    changes = [event["data"]["to"] for event in events if event["kind"] == "state_changed"]
    assert changes == ["queued", "running", "succeeded"]
    assert set(job["scores"]) == {"teacher", "untouched", "sft", "student"}

    shown = service.cpd_json("show", job["id"])
    report = shown["evaluation"]["report"]
    assert report["rows"] == 12
    assert report["steps"]["sft"] == report["steps"]["student"]
    assert "model" in [checkpoint["name"] for checkpoint in shown["checkpoints"]]
    table = service.cpd("show", job["id"]).stdout
    assert "CE-only student" in table
    assert "Wilcoxon" in table
    assert "distilled student" in service.cpd("samples", job["id"]).stdout

    student = tmp_path / "student"
    got = service.cpd_json("download", job["id"], "--out", student)
    sealed = {file["path"]: file["sha256"] for file in got["checkpoint"]["files"]}
    found = {path.relative_to(student).as_posix(): path for path in student.rglob("*") if path.is_file()}
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()} == sealed
    prompt = service.cpd_json("samples", job["id"])["data"][0]["prompt"]
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, student, prompt], capture_output=True, text=True, timeout=120, check=False
    )
    assert loaded.returncode == 0, loaded.stderr
    assert json.loads(loaded.stdout)["layers"] == 1

    assert_it_is_told_of(service, job["id"], tmp_path)
    if backend.name == "sqlite":
        # The script speaks to the command line, which does not know what lies behind the service.
        assert_it_is_made_again(service, student, recipe)
    assert service.stop() == 0


def assert_it_is_told_of(service: Service, job_id: str, folder: Path) -> None:
    """Its report, as a page and as a text, and the rows that got worse."""
    page, text = folder / "report.html", folder / "report.md"
    assert service.cpd_json("report", job_id, "--out", page)["format"] == "html"
    assert service.cpd("report", job_id, "--out", text).stdout.split() == [str(text)]
    told = text.read_text()
    assert page.read_text().startswith("<!doctype html>")
    assert all(f"\n## {title}\n" in told for title in ("In short", "What was done", "Did it help?", "What it cost"))
    assert "| Training | " in told
    assert "reproduce.sh" in told
    flips = service.cpd_json("flips", job_id, "--metric", "ce", "--against", "teacher")
    assert flips["counts"]["worse"] + flips["counts"]["better"] + flips["counts"]["equal"] == 12
    assert "of 12 rows" in service.cpd("flips", job_id).stdout
    assert service.cpd("report", job_id, "--out", folder / "report.pdf").returncode == 2


def assert_it_is_made_again(service: Service, student: Path, recipe: Path) -> None:
    """The script in the download has the service make the student again, and finds the same weights."""
    rows = Path(json.loads(recipe.read_text())["dataset"]["train"]).parent
    environment = service.environment | {"PATH": f"{Path(sys.executable).parent}:{service.environment['PATH']}"}
    command = ["bash", str(student / "reproduce.sh"), "--service", str(student.parent / "again"), str(rows)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr + service.tail()
    assert "bit for bit" in done.stdout


def test_a_recipe_is_estimated_on_a_worker_before_it_is_run(
    start: Callable[..., Service], backend: Backend, recipe: Path
) -> None:
    service = start(backend)
    told = service.cpd_json("estimate", recipe, "--probe")
    assert (told["object"], [phase["phase"] for phase in told["phases"]]) == ("forecast", PHASES)
    assert told["least_s"] < told["duration_s"] < told["most_s"]
    shown = service.cpd_json("show", told["job"])
    assert (shown["kind"], shown["state"], shown["checkpoints"]) == ("probe", "succeeded", [])
    assert shown["forecast"]["memory_bytes"] == told["memory_bytes"]
    assert "forecast" in service.cpd("show", told["job"]).stdout

    spec = json.loads(recipe.read_text())
    recipe.write_text(json.dumps(spec | {"max_length": 8}))
    failed = service.cpd("estimate", recipe, "--probe")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "invalid_dataset" in failed.stderr


def test_a_job_whose_data_cannot_be_used_fails_with_a_code_and_exit_1(
    start: Callable[..., Service], backend: Backend, recipe: Path, tmp_path: Path
) -> None:
    service = start(backend)
    spec = json.loads(recipe.read_text())
    # Every row is longer than this once it is tokenised.
    recipe.write_text(json.dumps(spec | {"max_length": 8}))
    done = service.cpd("submit", recipe, "--follow", "--exit-status", "--json")
    assert done.returncode == 1, done.stderr + service.tail()
    job = json.loads(done.stdout.splitlines()[-1])
    assert (job["state"], job["failure"]["code"]) == ("failed", "invalid_dataset")
    # Nothing is there to download, and the command says so.
    refused = service.cpd("download", job["id"], "--out", tmp_path / "student")
    assert refused.returncode in {3, 6}
    assert "Traceback" not in refused.stderr
