"""Text of others inside Markdown: it stays text there, whatever it looks like."""

from __future__ import annotations

import re

# What Markdown, with GitHub's and the hubs' additions, may read as more than itself in the midst of a line. HTML is Markdown too, and
# a bare address becomes a link.
_MEANT = re.compile(r"([\\`*_\[\]#|<>~$&@]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
_BREAKS = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]+")
# Marks that turn the direction of what follows, and others that nobody sees.
_UNSEEN = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def plain(text: str) -> str:
    """What shows as `text`, on one line and not at its beginning, where a dash or a number would begin a list."""
    return _MEANT.sub(r"\\\1", one_line(text))


def code(text: str) -> str:
    """One line as a code span, in which nothing but its own fence has a meaning."""
    line = one_line(text)
    fence = "`" * (max((len(run) for run in re.findall(r"`+", line)), default=0) + 1)
    padded = f" {line} " if line.startswith("`") or line.endswith("`") or not line else line
    return f"{fence}{padded}{fence}"


def block(text: str, language: str = "") -> str:
    """Lines as a fenced block; its fence is longer than any run of backticks inside."""
    fence = "`" * max(3, max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def one_line(text: str) -> str:
    """Without line breaks, control characters and marks that nobody sees."""
    return _UNSEEN.sub("", _BREAKS.sub(" ", text)).strip()
