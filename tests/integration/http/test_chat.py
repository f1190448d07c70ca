"""Finished models asked by the official client, through the rows and a desk with a stand-in for the model."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from openai import OpenAI
from sqlalchemy import func, select

from api.completions import queries
from api.completions.tables import Completion
from api.core.db import reading, transaction
from tests.backends import STORES, Backend
from tests.deadline import eventually
from tests.integration.http.api import Api, serving
from tests.integration.http.test_openai import speaking
from worker.answering import Desk
from worker.reaper import Identity, show

STUB = Path(__file__).parents[2] / "model_stub.py"
MODEL = {
    "manifest.json": b"{}",
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "model.safetensors": b"weights",
}
WORKER = Identity(worker_id="w-desk", hostname="here", pid=1, version="0", serves=True)


@contextmanager
def desk(api: Api) -> Iterator[Desk]:
    """A worker's desk, in this process, and its row."""
    settings = api.backend.with_settings(
        engine_command=[sys.executable, str(STUB)], serving_poll_s=0.02, scratch_dir=api.backend.settings.scratch_dir
    ).settings
    with transaction(api.backend.make) as session:
        show(session, WORKER, None)
    with Desk(api.backend.make, api.resources.store, settings, WORKER.worker_id) as made:
        yield made


@pytest.fixture
def quick(short: Backend) -> Iterator[Api]:
    with serving(short.with_settings(serving_poll_s=0.02, serving_queue_tenant=2, serving_max_tokens=100)) as api:
        yield api


@pytest.fixture
def client(quick: Api) -> Iterator[OpenAI]:
    with speaking(quick, "owner") as made:
        yield made


@pytest.fixture
def model(quick: Api) -> str:
    """The name of a student whose teacher was tuned."""
    job = quick.submit()
    hold = quick.claim(job)
    quick.seal(hold, "base-teacher", MODEL, role="phase")
    quick.seal(hold, "teacher", MODEL, role="phase")
    quick.seal(hold, "step-000007", {"manifest.json": b"{}", "weights.safetensors": b"state"}, role="training")
    quick.seal(hold, "model", MODEL)
    quick.succeed(hold)
    return f"ft:{job}:model"


def ask(client: OpenAI, model: str, text: str, **more: Any) -> Any:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **more)


def stubs() -> list[psutil.Process]:
    """The stand-ins that this process has started."""
    return [child for child in psutil.Process().children() if _is_stub(child)]


def _is_stub(child: psutil.Process) -> bool:
    try:
        return str(STUB) in child.cmdline()
    except psutil.NoSuchProcess:
        # It has ended since it was listed; a zombie is one of these.
        return False


def open_rows(api: Api) -> int:
    with reading(api.backend.make) as session:
        return session.scalars(select(func.count()).select_from(Completion)).one()


@STORES
def test_student_and_teacher_answer_whole_and_in_pieces(quick: Api, client: OpenAI, model: str) -> None:
    teacher = model.replace(":model", ":teacher")
    assert client.models.retrieve(teacher).id == teacher
    with desk(quick):
        whole = ask(client, model, "say one two three", max_completion_tokens=50)
        assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("one two three", "stop")
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.total_tokens) == (4, 3, 7)
        assert (whole.model, whole.choices[0].message.role) == (model, "assistant")
        short = ask(client, teacher, "say one two three", max_tokens=2)
        assert (short.choices[0].message.content, short.choices[0].finish_reason) == ("one two", "length")

        pieces = list(ask(client, model, "say größer 世界 now", stream=True, stream_options={"include_usage": True}))
        assert pieces[0].choices[0].delta.role == "assistant"
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces[:-1]) == "größer 世界 now"
        assert [piece.choices[0].finish_reason for piece in pieces[:-1] if piece.choices[0].finish_reason] == ["stop"]
        assert pieces[-1].usage.completion_tokens == 3
        assert len({piece.id for piece in pieces}) == 1
        # One process a model, and both stay at hand.
        assert len(stubs()) == 2
    assert open_rows(quick) == 0
    assert stubs() == []
    assert not list((quick.backend.settings.scratch_dir / "serving").glob("*/*"))


def test_a_question_reaches_the_model_as_it_was_put(quick: Api, client: OpenAI, model: str) -> None:
    turns: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "tell"},
    ]
    with desk(quick):
        chat = client.chat.completions.create(model=model, messages=turns, seed=-1, temperature=0, top_p=0.5, n=1)
        assert chat.choices[0].message.content == f"paper {2**63 - 1} 4 0"
        first, second = (ask(client, model, "tell").choices[0].message.content.split()[1] for _ in range(2))
        assert first != second
        text = client.completions.create(model=model, prompt="say on and on", max_tokens=3)
        assert (text.choices[0].text, text.choices[0].finish_reason, text.object) == (
            "on and on", "length", "text_completion",
        )  # fmt: skip
        # Its pieces are refused by a strict client, OpenAI's own too: they have no reason yet why they ended.
        with OpenAI(base_url=client.base_url, api_key=client.api_key, max_retries=0) as loose:
            prompt = "say on and on and on"
            pieces = list(loose.completions.create(model=model, prompt=prompt, max_tokens=9, stream=True))
        assert "".join(piece.choices[0].text for piece in pieces) == "on and on and on"
        assert pieces[-1].choices[0].finish_reason == "stop"


def test_without_a_worker_that_answers_it_is_said_at_once(quick: Api, client: OpenAI, model: str) -> None:
    with transaction(quick.backend.make) as session:
        show(session, Identity(worker_id="w-busy", hostname="here", pid=1, version="0", serves=False), None)
    with pytest.raises(openai.InternalServerError) as refused:
        ask(client, model, "say x")
    assert (refused.value.status_code, refused.value.code) == (503, "no_model_server")
    assert open_rows(quick) == 0


UNSUPPORTED: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
    ({"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "x"}]}, "messages"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
    ({"n": 2}, "n"),
    ({"temperature": 2.5}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"max_tokens": 101}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"stop": ""}, "stop"),
    ({"frequency_penalty": 1}, "frequency_penalty"),
    ({"logprobs": True}, "logprobs"),
    ({"tools": []}, "tools"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
]


def test_what_is_not_supported_is_refused_by_its_name(quick: Api, model: str) -> None:
    told = {}
    for changed, param in UNSUPPORTED:
        sent = {"model": model, "messages": [{"role": "user", "content": "x"}]} | changed
        answer = quick.owner.post("/v1/chat/completions", json=sent)
        error = answer.json()["error"]
        if answer.status_code != 422 or not str(error["param"]).startswith(param):
            told[str(changed)] = answer.text
    assert told == {}


def test_models_that_cannot_be_asked_are_not_found(quick: Api, client: OpenAI, model: str) -> None:
    with desk(quick):
        for name in (model + "x", model.replace(":model", ":step-000007"), "no/such", "ft:job_x:teacher"):
            with pytest.raises(openai.NotFoundError):
                ask(client, name, "say x")
        with speaking(quick, "other") as other, pytest.raises(openai.NotFoundError):
            ask(other, model, "say x")
        with speaking(quick, "reader") as reader, pytest.raises(openai.PermissionDeniedError):
            ask(reader, model, "say x")


def test_a_model_that_fails_is_told_as_what_it_is_and_the_next_question_is_answered(
    quick: Api, client: OpenAI, model: str
) -> None:
    with desk(quick):
        with pytest.raises(openai.InternalServerError) as crashed:
            ask(client, model, "crash now")
        assert crashed.value.code == "completion_failed"
        with pytest.raises(openai.BadRequestError) as long:
            ask(client, model, "long prompt")
        assert (long.value.code, long.value.status_code) == ("context_length_exceeded", 400)
        assert ask(client, model, "say on").choices[0].message.content == "on"


def test_a_full_queue_is_a_rate_limit_error_that_says_when_to_come_back(quick: Api, client: OpenAI, model: str) -> None:
    with desk(quick):
        streams = [ask(client, model, "forever", stream=True)]
        waiting = threading.Thread(target=lambda: ask(client, model, "say later"))
        waiting.start()
        eventually(lambda: open_rows(quick) == 2, within_s=20, what="two questions")
        with pytest.raises(openai.RateLimitError) as refused:
            ask(client, model, "say x")
        assert (refused.value.code, refused.value.response.headers["retry-after"]) == ("model_busy", "5")
        # Who is read no longer makes room for who waits.
        next(iter(streams[0]))
        streams[0].close()
        waiting.join(20)
        assert not waiting.is_alive()
    assert open_rows(quick) == 0


@pytest.mark.parametrize("kind", ["forever", "deaf"])
def test_an_answer_for_which_nobody_waits_is_broken_off(quick: Api, client: OpenAI, model: str, kind: str) -> None:
    with desk(quick):
        with pytest.raises(httpx.ReadTimeout):
            quick.owner.post(
                "/v1/chat/completions",
                json={"model": model, "messages": [{"role": "user", "content": kind}]},
                timeout=httpx.Timeout(10.0, read=1.0),
            )
        eventually(lambda: open_rows(quick) == 0, within_s=20, what="the end of the question")
        assert ask(client, model, "say still here").choices[0].message.content == "still here"


def test_an_answer_that_takes_too_long_is_given_up(short: Backend) -> None:
    with serving(short.with_settings(serving_poll_s=0.02, serving_timeout_s=1.5)) as api, desk(api):
        hold = api.claim(api.submit())
        api.seal(hold, "model", MODEL)
        api.succeed(hold)
        with speaking(api, "owner") as client:
            with pytest.raises(openai.InternalServerError) as late:
                ask(client, f"ft:{hold.job_id}:model", "forever")
            assert late.value.code == "completion_timeout"
            with pytest.raises(openai.APIError) as broken:
                list(ask(client, f"ft:{hold.job_id}:model", "forever", stream=True))
            assert broken.value.code == "completion_timeout"
            # The client's own retries, should the desk still be waiting for the model to break off.
            patient = client.with_options(max_retries=9)
            assert ask(patient, f"ft:{hold.job_id}:model", "say on").choices[0].message.content == "on"


def test_a_question_whose_worker_was_killed_is_answered_503(quick: Api, client: OpenAI, model: str) -> None:
    with transaction(quick.backend.make) as session:
        show(session, WORKER, None)
    failed: list[openai.InternalServerError] = []

    def asked() -> None:
        with pytest.raises(openai.InternalServerError) as refused:
            ask(client, model, "say x")
        failed.append(refused.value)

    thread = threading.Thread(target=asked)
    thread.start()
    eventually(lambda: open_rows(quick) == 1, within_s=20, what="the question")
    with transaction(quick.backend.make) as session:
        taken = queries.claim(session, WORKER.worker_id, lease_s=0.01)
    thread.join(20)
    assert [error.code for error in failed] == ["completion_failed"]
    assert taken is not None
    with transaction(quick.backend.make) as session:
        assert not queries.write(session, taken, lease_s=1.0, text="late")


def test_a_model_that_nobody_asks_is_let_go(short: Backend) -> None:
    with serving(short.with_settings(serving_poll_s=0.02, serving_idle_s=0.3)) as api, desk(api):
        hold = api.claim(api.submit())
        api.seal(hold, "model", MODEL)
        api.succeed(hold)
        with speaking(api, "owner") as client:
            ask(client, f"ft:{hold.job_id}:model", "say x")
        eventually(lambda: stubs() == [], within_s=20, what="the end of the model's process")
        models = api.backend.settings.scratch_dir / "serving"
        eventually(lambda: not list(models.glob("*/*")), within_s=20, what="the end of the model's folder")
