"""What can go wrong between a person and the service: one line each, saying what to do, and an exit code that a script can use."""

from __future__ import annotations

from typing import ClassVar

JOB_FAILED = 1
BAD_INPUT = 2
NOT_ALLOWED = 3
UNREACHABLE = 4
JOB_STOPPED = 5
CONFLICT = 6
DAMAGED = 7
INTERRUPTED = 130


class Trouble(Exception):
    """A fault for people: `str()` of it is one line that says what to do."""

    exit_code: ClassVar[int] = BAD_INPUT


class BadInput(Trouble):
    """A file, option or job spec is wrong."""


class ServerUnreachable(Trouble):
    """No answer within the retries, or only "try later"."""

    exit_code: ClassVar[int] = UNREACHABLE


class Damaged(Trouble):
    """What was downloaded is not what the service sealed."""

    exit_code: ClassVar[int] = DAMAGED


class Refused(Trouble):
    """The service answered with an error; its envelope's fields are kept, and the path that was asked for."""

    def __init__(
        self,
        status: int,
        *,
        code: str,
        message: str,
        param: str | None = None,
        request_id: str | None = None,
        path: str = "",
    ):
        self.status = status
        self.path = path
        self.code = code
        self.param = param
        self.request_id = request_id
        where = f"{param}: " if param else ""
        super().__init__(f"{where}{message} ({code})")

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # the code depends on the status that came
        """3 for who and where, 4 for a service that cannot answer, 6 for a conflict, 2 for the rest."""
        if self.status in {401, 403, 404, 410}:
            return NOT_ALLOWED
        if self.status == 409:
            return CONFLICT
        return UNREACHABLE if self.status == 429 or self.status >= 500 else BAD_INPUT
