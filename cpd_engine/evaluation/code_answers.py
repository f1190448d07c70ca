"""The program in an answer: a fenced block, a script among prose, or a text that goes on from where the problem's stub ends. Pure.

Nothing is parsed as Python here: what a model writes can bring a parser down, and this runs beside the training.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_FENCE = re.compile(r"\s*(?:```|~~~)")
# How a line of Python at the left margin can begin; prose seldom does.
_CODE = re.compile(
    r"""(?:def|class|import|from\s+[\w.]+\s+import|async\s+def|if|elif|else|for|while|try|except|finally|with|return|assert|raise|pass)\b
    |[@#)\]}]|\"\"\"|'''
    |[A-Za-z_][\w.]*(?:\[[^]]*\])?\s*(?::\s*[\w.\[\], |]+)?\s*(?:[-+*/%|&^]|//|\*\*)?=(?!=)|[A-Za-z_][\w.]*\(.*\)\s*$""",
    re.VERBOSE,
)
_HEADER = re.compile(r"(?:@|import\b|from\s+[\w.]+\s+import\b|(?:async\s+)?def\s+\w+\s*\(|class\s+\w+)")
# A script that defines something else than it was asked for.
_OTHER = re.compile(r"\s*^(?:@|(?:async\s+)?def\s|class\s)", re.MULTILINE)


def program_of(answer: str, *, entry_point: str, stub: str) -> str | None:
    """The program, or None where there is none to be seen. `stub`: the beginning that a completion goes on from, or "".

    A script, fenced or not, stands alone: what it does not import it has not got. Of an unfenced one the prose around it is left out.
    A text without the function `entry_point` is taken for the rest of the stub, up to the first line that is not indented.
    """
    fenced, beside = _blocks(answer)
    if (block := _with(fenced, entry_point)) is not None:
        return block
    if (block := _with(beside, entry_point)) is not None:
        return _script(block, entry_point)
    begun = beside[0].strip("\n")
    # One fence alone may be the end of a block that the prompt has opened.
    ended = len(fenced) == len(beside) == 1 and (begun[:1].isspace() or _CODE.match(begun) is not None)
    text = fenced[0] if fenced and not ended else beside[0]
    if stub and not _OTHER.match(text):
        body = _body(text)
        return stub + body if body.strip() else None
    return text if text.strip() and (fenced or stub) else None


def _blocks(answer: str) -> tuple[list[str], list[str]]:
    """The parts between fences, and those beside them."""
    parts: list[list[str]] = [[]]
    for line in answer.split("\n"):
        if _FENCE.match(line):
            parts.append([])
        else:
            parts[-1].append(line)
    texts = ["\n".join(lines) + "\n" for lines in parts]
    return texts[1::2], texts[0::2]


def _with(blocks: Sequence[str], name: str) -> str | None:
    return next((block for block in blocks if _defines(block, name)), None)


def _defines(text: str, name: str) -> bool:
    found = re.search(
        rf"^(?:(?:async\s+)?def|class)\s+{re.escape(name)}\b|^{re.escape(name)}\s*=[^=]", text, re.MULTILINE
    )
    return found is not None


def _script(text: str, entry_point: str) -> str:
    """The lines from the first that can only be code to the last before prose begins again."""
    lines = text.split("\n")
    start = next((number for number, line in enumerate(lines) if _HEADER.match(line)), 0)
    kept: list[str] = []
    for line in lines[start:]:
        at_margin = bool(line.strip()) and not line[0].isspace()
        if at_margin and not _CODE.match(line) and _defines("\n".join(kept), entry_point):
            break
        kept.append(line)
    return "\n".join(kept) + "\n"


def _body(text: str) -> str:
    """The indented lines that a completion begins with. A first line that has lost its indentation gets it back."""
    lines = text.strip("\n").split("\n")
    if lines[0].strip() and not lines[0][0].isspace():
        lines[0] = f"    {lines[0]}"
    end = next((n for n, line in enumerate(lines) if line.strip() and not line[0].isspace()), len(lines))
    return "\n".join(lines[:end]) + "\n"
