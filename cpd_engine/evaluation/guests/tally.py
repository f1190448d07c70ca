"""How many tests there were, how many failed, and why the first of them did. Runs inside the sandbox."""

from __future__ import annotations

from cpd_engine.evaluation.guests.remote import ProgramFailed


class Tally:
    """Counts tests. `reason`: of the first that failed, "wrong answer" or what the program did instead; None while none has."""

    def __init__(self) -> None:
        self.tests = 0
        self.failed = 0
        self.reason: str | None = None

    def passed(self) -> None:
        """One more test that passed."""
        self.tests += 1

    def failed_by(self, error: BaseException | None = None) -> None:
        """One more test that failed: by the answer, or by what was raised."""
        self.tests += 1
        self.failed += 1
        if self.reason is None:
            match error:
                case None | AssertionError():
                    self.reason = "wrong answer"
                case ProgramFailed():
                    self.reason = error.reason
                case _:
                    # The comparison itself broke on what came back, as when a number was wanted and a list came.
                    self.reason = "wrong answer"
