"""The plan of a job as a table: what every epoch would train on, and what to know before it is paid for."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from api.quantities import count, duration, number, size
from api.remote.answers import Cost, Estimate, Price, Remark
from cpd_engine.events import Forecasted


def plan(found: Estimate) -> RenderableType:
    """Totals first, then the epochs, then every warning."""
    table = Table("epoch", "k_e", "steps", "τ", "t", "α", title=_title(found), title_justify="left")
    for epoch in found.epochs:
        numbers = (number(epoch.temperature, 2), number(epoch.mixing, 2), number(epoch.alpha, 2))
        table.add_row(
            count(epoch.epoch),
            count(epoch.subset_size),
            count(epoch.iterations),
            *numbers,
            style="dim" if epoch.dead else "",
        )
    return Group(table, *costs(found.cost), *_money(found), *warnings(found.warnings))


def _money(found: Estimate) -> list[Text]:
    """What it comes to at the operator's price, where there is one."""
    if found.price is None or found.cost is None or found.cost.money is None:
        return []
    money, factor = found.cost.money, found.cost.error_factor
    return [_priced(found.price, money, money / factor, money * factor)]


def _priced(price: Price, money: float, least: float, most: float) -> Text:
    return Text(
        f"about {number(money, 2)} {price.currency} (between {number(least, 2)} and {number(most, 2)}) at "
        f"{number(price.per_gpu_hour, 2)} an hour of a GPU, on {count(price.gpus)}"
    )


def _title(found: Estimate) -> str:
    if found.total_iterations is None:
        return "The size of the data is not known before the job has read it"
    about = "" if found.exact else "about "
    bounds = ""
    if not found.exact and found.iterations is not None:
        bounds = f", between {count(found.iterations.least)} and {count(found.iterations.most)}"
    return (
        f"{about}{count(found.total_iterations)} optimizer steps of {count(found.batch_size)} samples{bounds}; "
        f"N = {count(found.samples)}"
    )


def warnings(found: tuple[Remark, ...]) -> list[Text]:
    """Warnings as lines."""
    return [Text(f"warning: {one.message} ({one.code})", style="yellow") for one in found]


def forecast(found: Forecasted, price: Price | None = None) -> RenderableType:
    """A probe's forecast: what a job takes as a whole, and by phase; at the operator's price, where there is one, in money."""
    table = Table("phase", "time", "CPU time")
    for phase in found.phases:
        table.add_row(phase.phase, duration(phase.duration_s), duration(phase.cpu_s))
    told = [Text(_whole(found))]
    if price is not None:
        told.append(_priced(price, *map(price.of, (found.duration_s, found.least_s, found.most_s))))
    return Group(*told, table)


def _whole(found: Forecasted) -> str:
    return (
        f"about {duration(found.duration_s)} (between {duration(found.least_s)} and {duration(found.most_s)}), "
        f"{number(found.tokens_per_s, 0)} tokens/s, {size(found.memory_bytes)} of memory, {size(found.disk_bytes)} of disk"
        f"{_cache(found.cache_bytes)}"
    )


def _cache(size_bytes: int | None) -> str:
    return f", {size(size_bytes)} for the teacher's states" if size_bytes else ""


def costs(found: Cost | None) -> list[Text]:
    """What it takes, and what that rests on; nothing where nothing is known."""
    if found is None:
        return []
    if found.duration_s is None or found.memory_bytes is None or found.disk_bytes is None:
        return [Text(f"about {count(found.tokens)} tokens; {'; '.join(found.assumptions)}")]
    least, most = found.duration_s / found.error_factor, found.duration_s * found.error_factor
    return [
        Text(
            f"about {duration(found.duration_s)} (between {duration(least)} and {duration(most)}), {size(found.memory_bytes)} of memory, "
            f"{size(found.disk_bytes)} of disk, {count(found.tokens)} tokens at {number(found.tokens_per_s, 0)} a second"
            f"{_cache(found.cache_bytes)}"
        ),
        Text(f"assumed: {'; '.join(found.assumptions)}", style="dim"),
    ]
