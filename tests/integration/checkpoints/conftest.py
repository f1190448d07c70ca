"""One thread of torch, as for all that learns in tests."""

from __future__ import annotations

from tests.learning.conftest import one_thread

__all__ = ["one_thread"]
