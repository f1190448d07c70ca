"""Fixtures: a database and a broker of either kind, fresh for each test."""

from __future__ import annotations

from tests.backends import backend, broker_server, postgres_server, sqlite_template, worker_number

__all__ = ["backend", "broker_server", "postgres_server", "sqlite_template", "worker_number"]
