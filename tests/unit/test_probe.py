"""What keeps `/readyz` quick while something that it asks after hangs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from api.health import Probe
from tests.deadline import eventually


def test_while_an_ask_is_under_way_others_hear_what_was_known_and_ask_nothing() -> None:
    time_s, asks, hang, go_on = [0.0], list[float](), threading.Event(), threading.Event()

    def ask() -> bool:
        asks.append(time_s[0])
        if not hang.is_set():
            return True
        go_on.wait(30.0)
        # It took longer than an answer is kept.
        time_s[0] += 20.0
        return False

    probe = Probe(ask, keep_s=5.0, clock=lambda: time_s[0])
    first = probe.answers()
    hang.set()
    time_s[0] = 6.0
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(8) as pool:
        waiting = one.submit(probe.answers)
        eventually(lambda: len(asks) == 2, within_s=10, what="the ask that hangs")
        try:
            meanwhile = [future.result(5.0) for future in [pool.submit(probe.answers) for _ in range(8)]]
        finally:
            go_on.set()
        last = waiting.result(10.0)

    assert (first, meanwhile, last) == (True, [True] * 8, False)
    assert probe.answers() is False
    assert asks == [0.0, 6.0]
