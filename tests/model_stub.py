"""A stand-in for `python -m cpd_engine serve` without torch, which answers by what it is told.

`say X`: X, word by word. `forever`: words until it is told to break off. `deaf`: the same, and it does not listen. `crash`: it dies.
`long`: the prompt is too long. Anything else: its own arguments, the template and the seed.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from typing import NoReturn

from cpd_engine.conversation import Ask, Order, Said, line, read_order

orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
cancelled: set[str] = set()


def listen() -> NoReturn:
    with open(0, "rb", closefd=False) as stream:
        for text in stream:
            order = read_order(text)
            if order.ask is None:
                cancelled.add(order.id)
            else:
                orders.put(order)
    os.killpg(0, signal.SIGKILL)
    raise AssertionError("unreachable")


def answer(order: str, ask: Ask, events: int, words: dict[str, str]) -> None:
    def say(said: Said) -> None:
        os.write(events, line(said))

    asked = ask.prompt if ask.prompt is not None else ask.messages[-1].content
    kind, _, rest = asked.partition(" ")
    match kind:
        case "crash":
            print("a reason on stderr", file=sys.stderr)
            os._exit(3)
        case "long":
            say(Said(id=order, text="too many tokens", code="context_length_exceeded"))
            return
        case "forever" | "deaf":
            told = ""
            while kind == "deaf" or order not in cancelled:
                told += "and "
                say(Said(id=order, text=told))
                time.sleep(0.02)
            say(Said(id=order, text="", code="cancelled"))
            return
    text = rest if kind == "say" else f"{words['--template']} {ask.seed} {len(ask.messages)} {ask.temperature:g}"
    parts = text.split(" ")[: ask.max_tokens]
    for count in range(1, len(parts)):
        say(Said(id=order, text=" ".join(parts[:count])))
    full = len(parts) == ask.max_tokens
    say(
        Said(
            id=order,
            text=" ".join(parts),
            finish_reason="length" if full else "stop",
            prompt_tokens=len(asked.split(" ")),
            completion_tokens=len(parts),
        )
    )


def main() -> NoReturn:
    given = sys.argv[2:]
    words = dict(zip(given[::2], given[1::2], strict=True))
    threading.Thread(target=listen, daemon=True).start()
    while True:
        order = orders.get()
        assert order.ask is not None
        answer(order.id, order.ask, int(words["--events-fd"]), words)


if __name__ == "__main__":
    main()
