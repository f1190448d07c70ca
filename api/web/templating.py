"""The templates' environment: everything that is put into a page is escaped, and a name that is not given is an error."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from api import quantities
from api.remarks import METRICS, SUBJECTS, TRAINED
from api.web import assets
from cpd_engine.presets import PRESETS

_MINUTE_S, _HOUR_S = 60.0, 3600.0
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
    made.globals.update(metrics=METRICS, presets=tuple(PRESETS), trained=TRAINED)
    made.filters.update(
        bytes=quantities.size,
        count=quantities.count,
        duration=quantities.duration,
        minute=minute,
        moment=moment,
        number=quantities.number,
        p_value=quantities.p_value,
        span=span,
    )
    return made


def span(seconds: float) -> str:
    """About how long: `8 s`, `3 min`, `2 h`."""
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    return f"{seconds / _MINUTE_S:.0f} min" if seconds < _HOUR_S else f"{seconds / _HOUR_S:.0f} h"


def minute(value: datetime) -> str:
    """UTC to the minute."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def moment(value: datetime | None) -> str:
    """UTC to the second: a server does not know where its readers are."""
    return "–" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
