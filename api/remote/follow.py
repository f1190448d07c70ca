"""A job's events as they happen, over server-sent events. A broken stream is taken up again where it broke: no gap, no double."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import httpx

from api.jobs.states import TERMINAL
from api.remote.answers import Event
from api.remote.transport import BROKEN, RETRIED, Transport
from api.remote.trouble import Refused

# The service pings every 15 s; silence much longer than that is a dead connection.
SILENCE_S = 60.0
# A service that was there is waited for longer than one that never answered: it may be restarting.
RESTART_FACTOR = 5


def follow(transport: Transport, job_id: str, *, after: int = 0) -> Iterator[Event]:
    """Events numbered above `after`, ending with the one that brings the job into a terminal state.

    Raises ServerUnreachable when reconnecting has failed too often in a row, Refused if the job is not there.
    """
    last, failures = after, 0
    allowed = transport.patience.attempts
    while True:
        try:
            for event in _connection(transport, job_id, last):
                failures, allowed = 0, transport.patience.attempts * RESTART_FACTOR
                if event.seq <= last:
                    continue
                last = event.seq
                yield event
                if event.new_state in TERMINAL:
                    return
        except (*BROKEN, httpx.ReadTimeout) as error:
            if failures + 1 >= allowed:
                raise transport.unreachable(error) from error
        except Refused as refused:
            if refused.status not in RETRIED or failures + 1 >= allowed:
                raise
        transport.patience.wait(failures)
        failures += 1


def _connection(transport: Transport, job_id: str, last: int) -> Iterator[Event]:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(last)}
    timeout = httpx.Timeout(10.0, read=SILENCE_S)
    with transport.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers, timeout=timeout) as response:
        yield from (Event.model_validate_json(data) for data in messages(response.iter_lines()))


def messages(lines: Iterable[str]) -> Iterator[str]:
    """The `data` of each message of an event stream; comments (pings) and messages without data are passed over."""
    data: list[str] = []
    for line in lines:
        if not line:
            if data:
                yield "\n".join(data)
            data = []
        elif line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
