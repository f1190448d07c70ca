"""Fixtures: a database and a broker of either kind, fresh for each test."""

from __future__ import annotations

from tests.backends import backend, broker_server, postgres_server, sqlite_template, worker_number
from tests.buckets import bucket, s3

__all__ = ["backend", "broker_server", "bucket", "postgres_server", "s3", "sqlite_template", "worker_number"]
