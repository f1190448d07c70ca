"""Jobs from queued to their end, with a real worker, real servers and an engine that can be told to fail."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from api.jobs.states import JobState
from tests.backends import STORES, Backend
from tests.integration.worker.fleet import SPEC, Fleet, assert_as_unbroken


def test_a_job_runs_to_its_end_and_tells_all_of_it(fleet: Fleet) -> None:
    job_id = fleet.submit(steps="20")
    fleet.start()
    job = fleet.wait_state(job_id, JobState.SUCCEEDED)
    assert_as_unbroken(fleet, job_id, 20)
    assert (job.attempt, job.fence, job.phase, job.failure_code) == (1, 1, "export", None)
    assert job.finished_at is not None
    engine_lines = [event.eseq for event in fleet.events(job_id) if event.eseq is not None]
    assert engine_lines == list(range(1, len(engine_lines) + 1))
    assert fleet.series(job_id, "student/validation/ce") == {1: 1.5}
    assert [attempt.outcome for attempt in fleet.attempts(job_id)] == ["succeeded"]


def test_a_probe_ends_with_its_forecast_and_leaves_nothing_else(fleet: Fleet) -> None:
    job_id = fleet.submit_probe()
    job = fleet.work_here(job_id)
    assert (job.state, job.phase) == (JobState.SUCCEEDED, None)
    kinds = [event.kind for event in fleet.events(job_id)]
    assert kinds == ["state_changed", "state_changed", "run_started", "forecasted", "finished", "state_changed"]
    assert fleet.artifacts(job_id) == []


def test_a_probe_without_a_forecast_is_no_success(fleet: Fleet) -> None:
    job_id = fleet.submit_probe(fault="forget")
    job = fleet.work_here(job_id)
    assert (job.state, job.failure_code) == (JobState.FAILED, "engine_crash_loop")
    assert job.attempt > 1


def test_a_probe_fails_as_its_run_would(fleet: Fleet) -> None:
    job = fleet.work_here(fleet.submit_probe(fault="invalid"))
    assert (job.state, job.failure_code) == (JobState.FAILED, "invalid_dataset")


@STORES
def test_what_is_sealed_is_in_the_store_and_only_what_is_retained_stays(fleet: Fleet) -> None:
    job_id = fleet.submit(steps="20", step_s="0.05")
    fleet.work_here(job_id)
    rows = fleet.artifacts(job_id)
    assert [row.name for row in rows if row.expired_at is None] == [
        "prepared",
        "step-000015",
        "step-000020",
        "best",
        "model",
    ]
    for row in rows:
        stored = fleet.backend.stored(f"{row.storage_prefix}/")
        if row.expired_at is not None:
            assert not stored
            continue
        assert row.files[0]["path"] == "manifest.json"
        for file in row.files:
            content = stored[f"{row.storage_prefix}/{file['path']}"]
            assert (len(content), hashlib.sha256(content).hexdigest()) == (file["size_bytes"], file["sha256"])


def test_nothing_is_left_in_the_scratch_folder(fleet: Fleet) -> None:
    first, second = fleet.submit(), fleet.submit(fault="invalid")
    fleet.start()
    fleet.wait_state(first, JobState.SUCCEEDED)
    fleet.wait_state(second, JobState.FAILED)
    worker = fleet.workers[0]
    worker.terminate()
    assert worker.wait(30) == 0
    assert list((fleet.folder / "scratch").iterdir()) == []


def test_a_killed_engine_is_recorded_retried_and_resumes_at_its_checkpoint(fleet: Fleet) -> None:
    once = str(fleet.folder / "once")
    job_id = fleet.submit(
        steps="20", fault="killed", fault_step="13", once=once, gate_step="13", gate=str(fleet.folder / "gate")
    )
    fleet.start()
    fleet.wait_sealed(job_id, "step-000010")
    (fleet.folder / "gate").touch()
    fleet.wait_state(job_id, JobState.SUCCEEDED)
    assert_as_unbroken(fleet, job_id, 20)
    crashed, succeeded = fleet.attempts(job_id)
    assert (crashed.outcome, succeeded.outcome) == ("crashed", "succeeded")
    assert crashed.detail is not None
    assert "signal 9 (SIGKILL)" in crashed.detail
    second = [event for event in fleet.events(job_id) if event.fence == 2 and event.eseq is not None]
    assert second[0].data["resumed"] is True
    assert min(event.data["step"] for event in second if event.kind == "measured") == 11


def test_an_engine_that_always_crashes_fails_after_its_budget_and_others_run_on(fleet: Fleet) -> None:
    looping = fleet.submit(fault="exit", fault_step="3")
    other = fleet.submit()
    job = fleet.work_here(looping)
    assert job.failure_code == "engine_crash_loop"
    assert job.failure_message is not None
    assert "exit code 3" in job.failure_message
    assert "MemoryError: a reason on stderr" in job.failure_message
    assert [attempt.outcome for attempt in fleet.attempts(looping)] == ["crashed"] * 3
    assert fleet.work_here(other).state == JobState.SUCCEEDED


def test_a_failure_the_engine_names_is_final(fleet: Fleet) -> None:
    job_id = fleet.submit(fault="invalid")
    job = fleet.work_here(job_id)
    assert (job.failure_code, job.failure_message, job.attempt) == ("invalid_dataset", "3 of 4 rows are bad", 1)
    assert [event.kind for event in fleet.events(job_id)][-2:] == ["failed", "state_changed"]


def test_an_engine_that_leaves_without_its_last_word_has_not_succeeded(fleet: Fleet) -> None:
    job_id = fleet.submit(fault="forget", steps="2")
    assert fleet.work_here(job_id, crash_budget="1").failure_code == "engine_crash_loop"


def test_lines_that_are_no_events_are_passed_over(fleet: Fleet) -> None:
    job_id = fleet.submit(steps="10", fault="babble", fault_step="4")
    fleet.work_here(job_id)
    assert_as_unbroken(fleet, job_id, 10)
    lines = [event.eseq for event in fleet.events(job_id) if event.eseq is not None]
    assert max(lines) - len(lines) == 3


def test_an_engine_that_says_nothing_is_stalled(fleet: Fleet) -> None:
    job_id = fleet.submit(fault="silent", fault_step="3")
    assert fleet.work_here(job_id, stall_s="2", crash_budget="1").failure_code == "engine_stalled"


def test_a_job_whose_data_set_is_gone_fails_with_its_name(fleet: Fleet) -> None:
    spec: dict[str, object] = {
        "teacher": {"tiny": "gpt2"},
        "student": {"tiny": "gpt2"},
        "dataset": {"train": "ds_aaaaaaaaaaaa"},
    }
    job_id = fleet.submit_spec(spec)
    job = fleet.work_here(job_id)
    assert job.failure_code == "invalid_dataset"
    assert job.failure_message is not None
    assert "ds_aaaaaaaaaaaa" in job.failure_message


def test_a_data_set_reaches_the_engine_byte_for_byte(fleet: Fleet) -> None:
    content = b'{"prompt": "1 + 1", "completion": "2"}\n' * 3
    dataset_id = fleet.dataset(content)
    spec: dict[str, object] = {
        "teacher": {"tiny": "gpt2"},
        "student": {"tiny": "gpt2"},
        "dataset": {"train": dataset_id},
    }
    job_id = fleet.submit_spec(spec)
    fleet.work_here(job_id)
    (ready,) = [event for event in fleet.events(job_id) if event.kind == "data_ready"]
    assert ready.data["rows"] == {"train": 3}


def test_the_data_sets_of_suites_reach_the_engine_and_a_missing_one_is_named(fleet: Fleet) -> None:
    train, questions, examples = (fleet.dataset(b"{}\n" * count) for count in (3, 5, 7))
    suites: list[dict[str, object]] = [
        {"task": "dolly", "data": questions},
        {"task": "gsm8k", "data": questions, "examples": examples},
    ]
    spec: dict[str, object] = {
        "teacher": {"tiny": "gpt2"},
        "student": {"tiny": "gpt2"},
        "dataset": {"train": train},
        "evaluation": {"suites": suites},
    }
    job_id = fleet.submit_spec(spec)
    fleet.work_here(job_id)
    (ready,) = [event for event in fleet.events(job_id) if event.kind == "data_ready"]
    assert ready.data["rows"] == {"train": 3 + 5 + 7}
    suites.append({"task": "unni", "data": "ds_aaaaaaaaaaaa"})
    job = fleet.work_here(fleet.submit_spec(spec))
    assert job.failure_code == "invalid_dataset"
    assert "ds_aaaaaaaaaaaa" in (job.failure_message or "")


@STORES
def test_a_damaged_data_set_is_refused(fleet: Fleet) -> None:
    dataset_id = fleet.dataset(b"{}\n")
    fleet.backend.damage(f"datasets/{dataset_id}", b"[]\n")
    spec: dict[str, object] = {
        "teacher": {"tiny": "gpt2"},
        "student": {"tiny": "gpt2"},
        "dataset": {"train": dataset_id},
    }
    job_id = fleet.submit_spec(spec)
    assert fleet.work_here(job_id).failure_code == "invalid_dataset"


TELLING = """
import json, os, sys
with open(sys.argv[1], "w", encoding="utf-8") as told:
    json.dump({"arguments": sys.argv[2:], "environment": dict(os.environ)}, told)
sys.exit(1)
"""


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_what_the_operator_allows_reaches_the_engine_and_the_judge_s_key_no_argument_and_no_row(
    backend: Backend, fleet: Fleet, tmp_path: Path
) -> None:
    told = tmp_path / "told.json"
    fleet.engine = (sys.executable, "-c", TELLING, str(told))
    allowed = {
        "crash_budget": "1",
        "code_execution": "bubblewrap",
        "judge_url": "https://judge.example.com/v1",
        "judge_model": "judge-1",
        "judge_api_key": "hunter2",
        "judge_completion_price": "1.5",
    }
    suites = [{"task": "dolly", "data": fleet.dataset(b"{}\n")}]
    fleet.work_here(
        fleet.submit_spec({**SPEC, "evaluation": {"suites": suites, "judge": {"against": ["teacher"]}}}), **allowed
    )
    found = json.loads(told.read_text("utf-8"))
    line = " ".join(found["arguments"])

    assert "--code-execution bubblewrap --judge-url https://judge.example.com/v1 --judge-model judge-1" in line
    assert "--judge-completion-price 1.5" in line
    assert found["environment"]["CPD_JUDGE_API_KEY"] == "hunter2"
    assert [name for name in found["environment"] if name.startswith("CPD_")] == ["CPD_JUDGE_API_KEY"]
    assert "hunter2" not in line
    assert all(b"hunter2" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path != told)
    # An engine that asks no judge has no need of its key.
    fleet.work_here(fleet.submit(), **allowed)
    found = json.loads(told.read_text("utf-8"))
    assert "--code-execution bubblewrap" in " ".join(found["arguments"])
    assert "--judge-url" not in found["arguments"]
    assert not [name for name in found["environment"] if name.startswith("CPD_")]
