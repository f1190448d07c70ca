"""A report as one HTML file that wants nothing from anywhere: style and figures are in it, and no script. Everything is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

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
from api.reports.style import STYLE
from api.reports.svg import PATTERNS, draw

# Whatever a row holds, a browser that opens the file loads nothing and runs nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render(report: Report) -> str:
    """The whole page."""
    title = escape(report.title)
    sections = "\n".join(_section(section) for section in report.sections)
    index = "".join(f'<li><a href="#{section.anchor}">{escape(section.title)}</a></li>' for section in report.sections)
    facts = "".join(f"<span>{escape(fact)}</span>" for fact in report.facts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{title} – report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{PATTERNS}\n<main>\n"
        f'<header><p class="eyebrow">{escape(report.kind)} <code>{escape(report.about)}</code></p>\n<h1>{title}</h1>\n'
        f'<p class="facts">{facts}</p></header>\n<nav aria-label="Sections"><ul>{index}</ul></nav>\n{sections}\n</main>\n</body>\n</html>\n'
    )


def _section(section: Section) -> str:
    blocks = "\n".join(map(_block, section.blocks))
    return f'<section id="{escape(section.anchor)}">\n<h2>{escape(section.title)}</h2>\n{blocks}\n</section>'


def _block(found: Block) -> str:
    match found:
        case Paragraph(words=words, quiet=quiet):
            return f'<p class="quiet">{_words(words)}</p>' if quiet else f"<p>{_words(words)}</p>"
        case Finding(tone=tone, title=title, words=words):
            return f'<div class="finding {tone}"><h3>{escape(title)}</h3><p>{_words(words)}</p></div>'
        case Tiles():
            return _tiles(found)
        case Facts(rows=rows):
            return (
                "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{_words(value)}</dd>" for name, value in rows) + "</dl>"
            )
        case Table():
            return _table(found)
        case Picture():
            caption = f"<figcaption><strong>{escape(found.title)}.</strong> {escape(found.description)}</figcaption>"
            return f'<figure><div class="drawing">{draw(found)}</div>{caption}</figure>'
        case Bullets(items=items):
            return "<ul>" + "".join(f"<li>{_words(item)}</li>" for item in items) + "</ul>"
        case Exhibit():
            return _exhibit(found)
        case Listing(text=text):
            return f"<pre><code>{escape(text)}</code></pre>"


def _tiles(found: Tiles) -> str:
    tiles = (
        f'<div class="tile"><p class="label">{escape(one.label)}</p><p class="value">{escape(one.value)}</p>'
        f'<p class="note">{escape(one.note)}</p></div>'
        for one in found.tiles
    )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _table(found: Table) -> str:
    """On a narrow screen every cell says its column's name."""

    def cells(row: Sequence[Words]) -> str:
        made = []
        for column, (words, name) in enumerate(zip(row, found.head, strict=True)):
            kind = ' class="number"' if column >= found.numbers else ""
            tag, named = ("th", ' scope="row"') if column == 0 else ("td", f' data-label="{escape(name)}"')
            made.append(f"<{tag}{named}{kind}>{_words(words)}</{tag}>")
        return "".join(made)

    head = "".join(
        f'<th scope="col"{" class=number" if column >= found.numbers else ""}>{escape(name)}</th>'
        for column, name in enumerate(found.head)
    )
    rows = "\n".join(
        f"<tr{' class=strong' if number in found.strong else ''}>{cells(row)}</tr>"
        for number, row in enumerate(found.rows)
    )
    return f'<div class="table"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>'


def _exhibit(found: Exhibit) -> str:
    parts = "".join(f"<dt>{escape(label)}</dt><dd><pre>{escape(text)}</pre></dd>" for label, text in found.parts)
    return f'<article class="exhibit"><h3>{escape(found.title)}</h3><dl>{parts}</dl></article>'


def _words(words: Words) -> str:
    pieces = words if isinstance(words, tuple) else (words,)
    return "".join(_piece(piece) for piece in pieces)


def _piece(piece: str | Code | Strong) -> str:
    match piece:
        case Code(text=text):
            return f"<code>{escape(text)}</code>"
        case Strong(text=text):
            return f"<strong>{escape(text)}</strong>"
        case _:
            return escape(piece)
