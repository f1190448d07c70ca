"""The side of the sandbox in which a model's program runs: loads it and answers calls. It knows neither tests nor verdict.

Whatever the program does to this process, the worst that it can send is a wrong value.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from itertools import islice
from types import ModuleType
from typing import Any

from cpd_engine.evaluation.guests.wire import packed, unpacked

_ITEMS = 1_000_000


def run(job: dict[str, Any]) -> None:
    """Load job["program"], then answer requests from descriptor job["requests"] on job["replies"], line by line, until they end."""
    with os.fdopen(job["requests"], "rb") as requests, os.fdopen(job["replies"], "wb") as replies:

        def reply(work: Callable[[], Any]) -> None:
            try:
                line = json.dumps({"value": work()})
            except BaseException as error:
                line = json.dumps({"raised": type(error).__name__})
            replies.write(line.encode() + b"\n")
            replies.flush()

        hosted = Hosted()
        reply(lambda: hosted.load(job["program"]))
        for line in requests:
            reply(partial(hosted.request, line))


class Hosted:
    """The program's names, and the things of it that the tests hold, by number."""

    def __init__(self) -> None:
        self._module = ModuleType("solution")
        self._things: list[Any] = []

    def load(self, program: str) -> None:
        """Run the program as a module, so that what it guards with `__name__ == "__main__"` does not run. Raises what it raises."""
        sys.modules["solution"] = self._module
        exec(compile(program, "solution", "exec"), self._module.__dict__)

    def request(self, line: bytes) -> Any:
        """The answer to a request as it came."""
        return self.answer(**json.loads(line))

    def answer(self, do: str, on: int = 0, name: str = "", given: Any = None) -> Any:
        """One request, packed: `named` gives a global, the others are done to thing `on`. Raises what the program raises."""
        thing: Any = None if do == "named" else self._things[on]
        match do:
            case "named":
                return self._packed(self._module.__dict__[name])
            case "call":
                positional, keyword = self._unpacked(given)
                return self._packed(thing(*positional, **keyword))
            case "get":
                return self._packed(getattr(thing, name))
            case "set":
                return setattr(thing, name, self._unpacked(given))
            case "item":
                return self._packed(thing[self._unpacked(given)])
            case "items":
                return self._packed(list(islice(iter(thing), _ITEMS)))
            case "size":
                return len(thing)
            case "truth":
                return bool(thing)
            case _:
                raise ValueError(do)

    def _packed(self, value: Any) -> Any:
        return packed(value, self._keep)

    def _unpacked(self, data: Any) -> Any:
        return unpacked(data, self._things.__getitem__)

    def _keep(self, value: Any) -> int:
        self._things.append(value)
        return len(self._things) - 1
