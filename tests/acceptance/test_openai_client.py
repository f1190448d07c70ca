"""The whole life of a job through the official `openai` package as it is published: upload, create, follow, checkpoints, weights."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

from openai import OpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from tests.acceptance.conftest import Service
from tests.backends import Backend
from tests.deadline import eventually

TEACHER = {"tiny": "gpt2", "layers": 2, "hidden": 64, "heads": 2, "vocabulary": 512}
DISTILLATION = {
    "max_length": 160,
    "threads": 1,
    "evaluation": {
        "validation_rows": 4,
        "test_rows": 4,
        "generation": {"max_new_tokens": 4, "batch_size": 4},
    },
    "checkpoints": {"every_steps": 5, "keep": 2},
}


def chat(rows: Path) -> bytes:
    """Rows in OpenAI's chat format."""
    lines = []
    for line in rows.read_text().splitlines():
        row = json.loads(line)
        asked = f"{row['instruction']}\n{row['input']}".strip()
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]
        lines.append(json.dumps({"messages": turns}))
    return "\n".join(lines).encode()


def ask_both(client: OpenAI, job_id: str) -> None:
    """Student and teacher answer for themselves, the same twice under one seed, and in pieces as well as whole."""
    for name in (f"ft:{job_id}:model", f"ft:{job_id}:teacher"):
        question = [ChatCompletionUserMessageParam(role="user", content="Add 2 and 3.")]
        drawn = [
            client.chat.completions.create(model=name, messages=question, max_completion_tokens=6, seed=5)
            for _ in range(2)
        ]
        assert drawn[0].choices == drawn[1].choices
        pieces = client.chat.completions.create(
            model=name, messages=question, max_completion_tokens=6, seed=5, stream=True
        )
        text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
        assert text == drawn[0].choices[0].message.content
        usage = drawn[0].usage
        assert usage is not None
        assert 0 < usage.completion_tokens <= 6
        assert usage.prompt_tokens > 6
    plain = client.completions.create(model=name, prompt="Add 2", max_tokens=3, temperature=0)
    assert plain.choices[0].finish_reason in ("stop", "length")


def test_the_official_client_runs_the_whole_life_of_a_job(
    start: Callable[..., Service], backend: Backend, rows: Path
) -> None:
    service = start(backend)
    key = service.environment["CPD_API_KEY"]
    with OpenAI(base_url=f"{service.url}/v1", api_key=key, _strict_response_validation=True) as client:
        jobs = client.fine_tuning.jobs
        train = client.files.create(file=("train.jsonl", chat(rows / "train.jsonl")), purpose="fine-tune")
        validation = client.files.create(file=("val.jsonl", chat(rows / "validation.jsonl")), purpose="fine-tune")
        job = jobs.create(
            model="from-teacher:1",
            training_file=train.id,
            validation_file=validation.id,
            suffix="adder",
            hyperparameters={"n_epochs": 2, "batch_size": 8, "learning_rate_multiplier": 2.0},
            extra_body={"teacher": TEACHER, "distillation": DISTILLATION},
        )

        ended = ("succeeded", "failed", "cancelled")
        eventually(lambda: jobs.retrieve(job.id).status in ended, within_s=180, what="the end of the job")
        done = jobs.retrieve(job.id)
        assert (done.status, done.error) == ("succeeded", None), service.tail()
        assert done.fine_tuned_model == f"ft:{job.id}:model"
        assert (done.trained_tokens or 0) > 0
        assert done.model_extra is not None
        assert set(done.model_extra["distillation"]["scores"]) == {"teacher", "untouched", "student"}

        events = list(jobs.list_events(job.id, limit=10))
        assert len(events) > 10
        assert [event.data["seq"] for event in events if isinstance(event.data, dict)] == list(
            range(len(events), 0, -1)
        )
        assert any(event.type == "metrics" and "training loss" in event.message for event in events)
        checkpoints = list(jobs.checkpoints.list(job.id, limit=1))
        assert checkpoints
        assert all(checkpoint.step_number > 0 for checkpoint in checkpoints)
        models = [model.id for model in client.models.list()]
        assert models == [done.fine_tuned_model]

        files = [client.files.retrieve(name) for name in done.result_files]
        weights = next(file for file in files if file.filename.endswith("model.tar"))
        content = client.files.content(weights.id).content
        assert len(content) == weights.bytes
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            assert "model.safetensors" in archive.getnames()
        report = next(file for file in files if file.filename.endswith("report.json"))
        assert client.files.content(report.id).json()["scores"] == done.model_extra["distillation"]["scores"]
        ask_both(client, job.id)
    assert service.stop() == 0
