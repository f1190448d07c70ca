"""The templates' environment: everything that is put into a page is escaped, and a name that is not given is an error."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from api import quantities
from api.remarks import SUBJECTS
from api.web import assets

# Address and name of what the navigation shows.
SECTIONS = (("/", "Jobs"), ("/comparisons", "Comparisons"), ("/datasets", "Data sets"), ("/submit", "New job"))


@cache
def environment() -> Environment:
    """Made at its first use."""
    made = Environment(
        loader=PackageLoader("api.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals.update(asset=assets.address, sections=SECTIONS, subjects=SUBJECTS)
    made.filters.update(
        bytes=quantities.size,
        count=quantities.count,
        duration=quantities.duration,
        moment=moment,
        number=quantities.number,
        p_value=quantities.p_value,
    )
    return made


def moment(value: datetime | None) -> str:
    """UTC to the second: a server does not know where its readers are."""
    return "–" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
