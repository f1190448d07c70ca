"""The final answer in a worked solution: the last filled \\boxed{}, else what follows "the answer is", else the last number. Pure.

Only where the answer stands is decided here; whether it equals another is for `verifier` to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_PHRASE = re.compile(r"the\s+(?:final\s+)?answer\s+is\s*:?", re.IGNORECASE)
# A full stop ends a sentence only before white space: that of 3.5 does not. After a phrase of words "18!" is said with joy; a factorial
# belongs in a box.
_SENTENCE_END = re.compile(r"[.!](?=\s|$)")
_NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s?/\s?\d+(?![\d.]))?|(?<![\w.])-?\.\d+")
# "18 dollars" is 18, but "3 pi" is no 3, and "5 or 6" is no answer that one could hold it to.
_WITH_UNIT = re.compile(
    r"(\$?\s?-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?%?)\s+(?!(?:pi|sqrt|or|and|to|plus|minus|times)\b)[A-Za-z]{2}"
)

_PERCENT = re.compile(r"(?<!\\)%")


def final_answer(text: str) -> str | None:
    """The answer as LaTeX or plain text without dollar signs around it; None where the text has none."""
    boxes = [content for content in boxed(text) if content.strip()]
    if boxes:
        return _bare(boxes[-1])
    if (phrased := _after_phrase(text)) is not None:
        return phrased
    numbers = _NUMBER.findall(text)
    return _bare(numbers[-1]) if numbers else None


def boxed(text: str) -> Iterator[str]:
    """What stands in each closed \\boxed{} or \\fbox{}, braces counted, in the order of their ends; one inside another comes first."""
    opened: list[int | None] = []
    starts = {match.end() - 1 for match in _BOX.finditer(text)}
    at = 0
    while at < len(text):
        match text[at]:
            case "\\" if at not in starts:
                at += 1  # \{ and \} are signs, not groups
            case "{":
                opened.append(at + 1 if at in starts else None)
            case "}" if opened:
                start = opened.pop()
                if start is not None:
                    yield text[start:at]
        at += 1


def gold_of_gsm8k(answer: str) -> str | None:
    """What follows the last "####", without thousands separators; None where there is nothing."""
    _, mark, gold = answer.rpartition("####")
    return gold.strip().replace(",", "") or None if mark else None


def _after_phrase(text: str) -> str | None:
    *_, last = [None, *_PHRASE.finditer(text)]
    if last is None:
        return None
    lines = text[last.end() :].strip().splitlines()
    line = _SENTENCE_END.split(lines[0])[0] if lines else ""
    if counted := _WITH_UNIT.match(line):
        line = counted[1]
    return _bare(line) or None


def _bare(answer: str) -> str:
    """Without the signs of a formula and of emphasis around it; `$18` is 18 as well. A bare % would begin a comment of LaTeX."""
    found = answer.strip().strip("*").strip().removeprefix("\\(").removesuffix("\\)").strip("$").strip()
    return _PERCENT.sub(r"\\%", found)
