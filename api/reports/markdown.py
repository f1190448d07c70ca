"""A report as Markdown: GitHub's kind, with every word of a user's kept from meaning anything."""

from __future__ import annotations

from collections.abc import Sequence

from api.reports.blocks import (
    Block,
    Bullets,
    Code,
    Exhibit,
    Facts,
    Finding,
    Listing,
    Paragraph,
    Picture,
    Report,
    Section,
    Strong,
    Table,
    Tiles,
    Words,
)
from cpd_engine.quoting import block, code, plain


def render(report: Report) -> str:
    """The whole text."""
    head = [f"# {plain(report.title)}", f"{report.kind} {code(report.about)} · {' · '.join(map(plain, report.facts))}"]
    return "\n\n".join([*head, *(_section(section) for section in report.sections)]) + "\n"


def _section(section: Section) -> str:
    return "\n\n".join([f"## {plain(section.title)}", *map(_block, section.blocks)])


def _block(found: Block) -> str:
    match found:
        case Paragraph(words=words):
            return _words(words)
        case Finding(title=title, words=words):
            return f"**{plain(title)}** {_words(words)}"
        case Tiles(tiles=tiles):
            return _list(
                [
                    f"**{plain(one.label)}:** {plain(one.value)}" + (f" ({plain(one.note)})" if one.note else "")
                    for one in tiles
                ]
            )
        case Facts(rows=rows):
            return _list([f"**{plain(name)}:** {_words(value)}" for name, value in rows])
        case Table():
            return _table(found)
        case Picture():
            return f"*Figure, in the HTML report: {plain(found.title)}. {plain(found.description)}*"
        case Bullets(items=items):
            return _list([_words(item) for item in items])
        case Exhibit():
            return "\n\n".join(
                [
                    f"### {plain(found.title)}",
                    *(f"{plain(label)}:\n\n{block(text, 'text')}" for label, text in found.parts),
                ]
            )
        case Listing():
            return block(found.text, found.language)


def _list(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _table(found: Table) -> str:
    width = len(found.head)
    lines = [
        _row([plain(cell) for cell in found.head]),
        _row(["---" if column < found.numbers else "---:" for column in range(width)]),
    ]
    for number, row in enumerate(found.rows):
        cells = [_cell(cell) for cell in row]
        if number in found.strong:
            cells[0] = f"**{cells[0]}**"
        lines.append(_row(cells))
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(words: Words) -> str:
    """In a table a bar parts columns even inside of code, so names there are plain text."""
    pieces = words if isinstance(words, tuple) else (words,)
    return "".join(plain(piece if isinstance(piece, str) else piece.text) for piece in pieces) or " "


def _words(words: Words) -> str:
    pieces = words if isinstance(words, tuple) else (words,)
    return "".join(_piece(piece) for piece in pieces)


def _piece(piece: str | Code | Strong) -> str:
    match piece:
        case Code(text=text):
            return code(text)
        case Strong(text=text):
            return f"**{plain(text)}**"
        case _:
            return _spaced(piece)


def _spaced(text: str) -> str:
    """`plain` strips a piece, whose spaces part it from its neighbours."""
    before = " " if text[:1].isspace() else ""
    after = " " if text[-1:].isspace() and text.strip() else ""
    return f"{before}{plain(text)}{after}"
