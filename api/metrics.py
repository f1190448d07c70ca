"""What Prometheus reads: requests as counted here, and the standing of jobs, bell and workers as of the scrape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.jobs.states import JobState

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class RequestMetrics:
    """Requests of one application; its registry is its own, so that two applications in a process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "cpd_http_requests",
            "Requests by method, route template and status; status 0 is a client that left before the answer.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._latency = Histogram(
            "cpd_http_request_duration_seconds",
            "From the request's head to the end of the answer; an event stream counts for as long as it lasts.",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self.registry,
        )

    def observe(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Count one request."""
        # A method is whatever a client writes; as a label it must not make a series for each of its ideas.
        known = method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._latency.labels(known, route).observe(duration_s)


# eq=False: the registry keeps collectors by identity.
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standing(Collector):
    """The service as of now. `jobs` counts by state and is None, like `workers`, while the database is away."""

    jobs: Mapping[JobState, int] | None
    workers: int | None
    rung: int
    bell_failures: int
    followed: int

    def collect(self) -> Iterator[Metric]:
        """The metric families."""
        yield GaugeMetricFamily("cpd_database_up", "1 where the database answers.", float(self.jobs is not None))
        if self.jobs is not None:
            states = GaugeMetricFamily("cpd_jobs", "Jobs by state.", labels=("state",))
            for state in JobState:
                states.add_metric((state.value,), self.jobs.get(state, 0))
            yield states
            depth = self.jobs.get(JobState.QUEUED, 0)
            yield GaugeMetricFamily("cpd_queue_depth", "Jobs that wait for a worker.", depth)
        if self.workers is not None:
            yield GaugeMetricFamily("cpd_workers_alive", "Workers seen within the last minute.", self.workers)
        yield CounterMetricFamily("cpd_bell_rings", "Messages published by this process.", self.rung)
        yield CounterMetricFamily(
            "cpd_bell_failures", "Passes of the bell that broker or database broke off.", self.bell_failures
        )
        yield GaugeMetricFamily("cpd_followed_jobs", "Jobs whose events this process streams.", self.followed)


def exposition(requests: RequestMetrics, standing: Standing) -> bytes:
    """Both in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(standing)
    return generate_latest(requests.registry) + generate_latest(registry)
