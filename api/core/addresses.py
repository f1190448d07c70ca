"""Addresses of what the service stands on, and which of them it takes. A refusal repeats nothing: there may be a password in it."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

_BROKERS = ("filesystem://", "redis://", "rediss://")
_DATABASES = ("sqlite", "postgresql+psycopg")
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


def _broker(value: str) -> str:
    if not value.startswith(_BROKERS):
        raise ValueError(
            "CPD_BROKER_URL must begin with filesystem:// or redis:// (rediss:// with TLS): "
            "the other brokers of Celery were measured to lose or duplicate work here"
        )
    return value


def _database(value: str) -> str:
    refusal = "CPD_DATABASE_URL must be sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
    try:
        url = make_url(value)
    except ArgumentError as error:
        raise ValueError(refusal) from error
    if url.drivername not in _DATABASES or not url.database or url.database == ":memory:":
        raise ValueError(refusal)
    return value


def _bucket(value: str) -> str:
    if _BUCKET.fullmatch(value) is None:
        raise ValueError(
            "CPD_STORE_URL must be s3://BUCKET or s3://BUCKET/PREFIX; "
            "keys go into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return value


def _endpoint(value: str) -> str:
    if not _is_plain(value) or urlsplit(value).path not in ("", "/"):
        raise ValueError(
            "must be http(s)://HOST or http(s)://HOST:PORT; keys go into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return value


def _judge(value: str) -> str:
    if not _is_plain(value):
        raise ValueError(
            "CPD_JUDGE_URL must be http(s)://HOST/PATH without user or query; the key goes into CPD_JUDGE_API_KEY"
        )
    return value


def _is_plain(value: str) -> bool:
    parts = urlsplit(value)
    named = parts.scheme in ("http", "https") and bool(parts.hostname)
    return named and not ("@" in parts.netloc or parts.query or parts.fragment)


Broker = Annotated[str, AfterValidator(_broker)]
Database = Annotated[str, AfterValidator(_database)]
Bucket = Annotated[str, AfterValidator(_bucket)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
JudgeEndpoint = Annotated[str, AfterValidator(_judge)]
