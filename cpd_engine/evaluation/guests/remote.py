"""The program under test as the tests see it: a stand-in whose calls go through a pipe to another sandbox. Runs inside one itself."""

from __future__ import annotations

import json
import os
import select
from collections.abc import Iterator
from time import monotonic
from typing import Any

from cpd_engine.evaluation.guests.wire import packed, unpacked

# A solution of HumanEval+ answers with a number of 280 million bits.
_REPLY_BYTES = 128 * 2**20
_CHUNK = 2**20


class ProgramFailed(Exception):
    """The program did not answer with a value. `reason`: "timeout", "crashed", "answer too large", or the name of what it raised."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Program:
    """A conversation with the process in which the program runs. After a time-out or a crash every request fails at once.

    `call_s` bounds one request, `wall_s` all of them together, both in seconds of waiting.
    """

    def __init__(self, requests: int, replies: int, *, call_s: float, wall_s: float) -> None:
        self._requests, self._replies = requests, replies
        self._call_s, self._left_s = call_s, wall_s
        self._rest = bytearray()
        self._over: str | None = None
        self._loaded = False
        os.set_blocking(requests, False)

    def named(self, name: str) -> Any:
        """What the program calls `name`. Raises ProgramFailed, with "missing NAME" where it has no such thing."""
        if not self._loaded:
            self._loaded = True
            try:
                self._reply()
            except ProgramFailed as error:
                # A module that broke off half-way is none.
                raise self._ended(error.reason) from error
        try:
            return self.ask({"do": "named", "name": name})
        except ProgramFailed as error:
            if error.reason != "KeyError":
                raise
            raise ProgramFailed(f"missing {name}") from None

    def ask(self, request: dict[str, Any]) -> Any:
        """The value of a request, built from plain types. Raises ProgramFailed."""
        self._send(json.dumps(request).encode() + b"\n")
        return unpacked(self._reply(), lambda number: Thing(self, number))

    def _send(self, line: bytes) -> None:
        self._unless_over()
        waited = monotonic()
        left = memoryview(line)
        while left:
            try:
                left = left[os.write(self._requests, left) :]
            except BlockingIOError:
                self._wait(waited, writing=True)
            except OSError:
                raise self._ended("crashed") from None

    def _reply(self) -> Any:
        self._unless_over()
        waited = monotonic()
        end = self._rest.find(b"\n")
        while end < 0:
            if len(self._rest) > _REPLY_BYTES:
                raise self._ended("answer too large")
            self._wait(waited, writing=False)
            chunk = os.read(self._replies, _CHUNK)
            if not chunk:
                raise self._ended("crashed")
            end = chunk.find(b"\n")
            end = end if end < 0 else end + len(self._rest)
            self._rest += chunk
        self._left_s -= monotonic() - waited
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        match _parsed(line):
            case {"value": value}:
                return value
            case {"raised": str(name)} if name.isidentifier():
                raise ProgramFailed(name[:60])
            case _:
                raise self._ended("crashed")

    def _wait(self, since: float, *, writing: bool) -> None:
        left_s = min(self._call_s, self._left_s) - (monotonic() - since)
        poll = select.poll()
        poll.register(self._requests, select.POLLOUT) if writing else poll.register(self._replies, select.POLLIN)
        if left_s <= 0 or not poll.poll(left_s * 1000):
            raise self._ended("timeout")

    def _unless_over(self) -> None:
        if self._over is not None:
            raise ProgramFailed(self._over)

    def _ended(self, reason: str) -> ProgramFailed:
        self._over = reason
        return ProgramFailed(reason)


class Thing:
    """Something of the program's that is no plain data: a function, a class, an object, an iterator. It equals itself only."""

    def __init__(self, program: Program, number: int) -> None:
        object.__setattr__(self, "_program", program)
        object.__setattr__(self, "_number", number)

    def __call__(self, *positional: Any, **keyword: Any) -> Any:
        return self._ask("call", given=_given([positional, keyword]))

    def __getattr__(self, name: str) -> Any:
        return self._ask("get", name=name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set", name=name, given=_given(value))

    def __getitem__(self, key: Any) -> Any:
        return self._ask("item", given=_given(key))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._ask("items"))

    def __len__(self) -> int:
        try:
            return int(self._ask("size"))
        except ProgramFailed as error:
            # `list` asks for the size first, and goes on where there is none.
            raise (TypeError(error.reason) if error.reason == "TypeError" else error) from None

    def __bool__(self) -> bool:
        return bool(self._ask("truth"))

    def _ask(self, do: str, **rest: Any) -> Any:
        return self._program.ask({"do": do, "on": self._number, **rest})


def _given(value: Any) -> Any:
    return packed(value, _number)


def _number(value: Any) -> int:
    if isinstance(value, Thing):
        return int(object.__getattribute__(value, "_number"))
    raise TypeError(f"{type(value).__name__} cannot be handed to a program in another process")


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
