"""How often one key may ask, in this process."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable


class RateLimiter:
    """A token bucket a key: `per_minute` requests a minute on average, a tenth of that at once (at least 10).

    Memory stays bounded: full buckets, which say nothing, are forgotten when there are many.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float]) -> None:
        self.rate = per_minute / 60.0
        self.burst = float(max(10, per_minute // 10))
        self.clock = clock
        self.lock = threading.Lock()
        self.buckets: dict[str, tuple[float, float]] = {}

    def wait_s(self, key: str) -> int:
        """0 where the request may pass, and it then counts; else whole seconds until one may."""
        with self.lock:
            now = self.clock()
            tokens, since = self.buckets.get(key, (self.burst, now))
            tokens = min(self.burst, tokens + (now - since) * self.rate)
            if tokens < 1.0:
                self.buckets[key] = (tokens, now)
                return max(1, math.ceil((1.0 - tokens) / self.rate))
            self.buckets[key] = (tokens - 1.0, now)
            if len(self.buckets) > 10_000:
                self._forget(now)
            return 0

    def _forget(self, now: float) -> None:
        full_s = self.burst / self.rate
        self.buckets = {key: kept for key, kept in self.buckets.items() if now - kept[1] < full_s}
