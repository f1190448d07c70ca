"""`python -m cpd_engine.evaluation.verifying`: is a final answer equal to the gold one? A process of its own, fed through its pipes.

math-verify 0.9 decides, gold first. It interrupts itself by alarms, which only a main thread can have, and what a model has written
may be a number that no memory holds; both are this process's own affair. Each line in is {"gold", "answer"}, each line out a bool.
"""

from __future__ import annotations

import json
import logging
import resource
import sys

# Two formulas of a few characters, and sympy; far less than a tower of powers would take.
MEMORY_BYTES = 2 * 2**30


def equal(gold: str, answer: str) -> bool:
    """Whether math-verify takes the answer for the gold one. What it cannot read is wrong."""
    from math_verify import parse, verify

    try:
        return bool(verify(parse(f"${gold}$"), parse(f"${answer}$")))
    except Exception:  # whatever a model wrote breaks a parser in whatever way
        return False


def main() -> None:
    """Answer lines until there are no more."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    logging.disable(logging.CRITICAL)
    for line in sys.stdin:
        asked = json.loads(line)
        sys.stdout.write(json.dumps(equal(asked["gold"], asked["answer"])) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
