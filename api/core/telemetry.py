"""Logs of api and worker: structlog, JSON lines or a console, with the job at hand bound and no secret in them."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, TextIO

import structlog

_SECRET_NAMES = re.compile(r"authorization|api_?key|password|passwd|secret|token$|cookie|dsn", re.IGNORECASE)
_API_KEY = re.compile(r"\bcpd_[A-Za-z0-9]+_[A-Za-z0-9_-]+")
# What they tell below this has tokens and signatures in it, and bodies of requests.
_TALKATIVE = ("aiobotocore", "botocore", "fsspec", "s3fs")
_URL_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s@/]+@", re.IGNORECASE)


def configure(*, json: bool, level: str = "info", stream: TextIO | None = None) -> None:
    """Send structlog and the standard library's loggers to one stream (stderr), from `level` up. Call once where a process starts."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer = structlog.processors.JSONRenderer(ensure_ascii=False) if json else structlog.dev.ConsoleRenderer()
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                hide_secrets,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.INFO, root.level))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


@contextmanager
def bound(**facts: str | int) -> Iterator[None]:
    """Every line logged inside carries `facts`, such as job_id and attempt."""
    with structlog.contextvars.bound_contextvars(**facts):
        yield


def hide_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blot out values under secret names, API keys and passwords in URLs wherever they stand in text."""
    return {name: "***" if _SECRET_NAMES.search(name) else _hidden(value) for name, value in event.items()}


def _hidden(value: Any) -> Any:
    match value:
        case str():
            return _URL_PASSWORD.sub(r"\g<head>:***@", _API_KEY.sub("cpd_***", value))
        case dict():
            return {key: "***" if _SECRET_NAMES.search(str(key)) else _hidden(item) for key, item in value.items()}
        case list() | tuple():
            return [_hidden(item) for item in value]
        case _:
            return value
