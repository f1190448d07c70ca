"""Logs: one JSON object a line, the job bound, no secret."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from api.core.telemetry import bound, configure


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where this test's log lines go; logging is as before afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    sink = io.StringIO()
    configure(json=True, level="info", stream=sink)
    yield sink
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_structlog_and_the_standard_library_share_one_format(stream: io.StringIO) -> None:
    with bound(job_id="job_1", attempt=2):
        structlog.get_logger("worker").info("claimed", fence=3)
        logging.getLogger("celery").warning("broker %s", "away")
    structlog.get_logger("worker").debug("unheard")

    first, second = lines(stream)
    assert (first["event"], first["fence"], first["level"], first["logger"]) == ("claimed", 3, "info", "worker")
    assert (second["event"], second["level"], second["logger"]) == ("broker away", "warning", "celery")
    for line in (first, second):
        assert (line["job_id"], line["attempt"]) == ("job_1", 2)
        assert line["timestamp"].endswith("Z")


def test_no_secret_is_written_wherever_it_stands(stream: io.StringIO) -> None:
    log = structlog.get_logger()
    log.info("key cpd_abc123_s3cr3t used", api_key="s3cr3t", headers={"Authorization": "Bearer s3cr3t"})
    log.info("connected", urls=["postgresql+psycopg://cpd:s3cr3t@db/cpd", "redis://:s3cr3t@broker/0"])
    logging.getLogger("x").error("cannot reach redis://user:s3cr3t@broker")
    try:
        int("postgresql://u:s3cr3t@h/d")
    except ValueError:
        log.exception("failed")

    assert "s3cr3t" not in stream.getvalue()
    assert len(lines(stream)) == 4
    assert lines(stream)[1]["urls"][0] == "postgresql+psycopg://cpd:***@db/cpd"
    assert "ValueError" in lines(stream)[3]["exception"]


def test_ordinary_facts_stay_readable(stream: io.StringIO) -> None:
    structlog.get_logger().info("measured", tokens_per_s=9.5, path="jobs/a@b", url="https://host/x@y")
    (line,) = lines(stream)
    assert (line["tokens_per_s"], line["path"], line["url"]) == (9.5, "jobs/a@b", "https://host/x@y")
