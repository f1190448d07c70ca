"""A webhook outlives the process that was sending it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from openai import OpenAI

from tests.acceptance.conftest import Service
from tests.backends import Backend
from tests.receiver import receiving

SPEC = {"teacher": {"tiny": "gpt2"}, "student": {"tiny": "gpt2"}, "dataset": {"synthetic": {}}}


@pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)
def test_an_event_whose_sender_is_killed_is_sent_by_the_next(start: Callable[..., Service], backend: Backend) -> None:
    settings = {
        "webhooks": "any",
        "webhook_first_s": "0.1",
        "webhook_timeout_s": "3",
        "bell_s": "0.1",
        "embedded_workers": "0",
    }
    with receiving(lambda n: 200 if n else None) as receiver:
        service = start(backend, **settings)
        hook = service.cpd_json("webhooks", "create", receiver.url, "--name", "ours")
        assert service.cpd_json("webhooks", "list")["data"][0]["tenant"] is None
        with service.client() as client:
            job = client.submit(SPEC).id
            client.cancel(job)
        (first,) = receiver.wait_for(1)
        service.process.kill()
        service.process.wait()

        again = start(backend, **settings)
        _, second = receiver.wait_for(2)
        with OpenAI(api_key="none", base_url="http://127.0.0.1:9") as verifier:
            for heard in (first, second):
                event = verifier.webhooks.unwrap(heard.body, heard.headers, secret=hook["signing_secret"])
                assert event.type == "fine_tuning.job.cancelled"
                assert event.data.id == job
        assert first.id == second.id
        deliveries = again.cpd_json("webhooks", "deliveries")["data"]
        assert [(one["id"], one["job"]) for one in deliveries] == [(first.id, job)]
        again.cpd_json("webhooks", "delete", hook["id"])
        assert again.cpd_json("webhooks", "list")["data"] == []
