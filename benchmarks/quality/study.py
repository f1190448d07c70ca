"""Which runs a study consists of: temperatures, then learning rates, chosen on validation by tuning seeds; then scores by fresh ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.quality.families import Family
from benchmarks.quality.ledger import Ledger, Unit
from benchmarks.quality.methods import ABLATIONS, SYSTEMS, UNTEMPERED
from cpd_engine.evaluation.report import LOWER_IS_BETTER

Run = Callable[[Sequence[Unit]], None]
# What ablations change one thing of.
ABLATED = "kld"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is chosen for a method in a family; a temperature of 0 where it has none."""

    tau_1: float
    tau_n: float
    learning_rate: float


def temperatures(family: Family, method: str) -> list[Unit]:
    """The method at every temperature, at the middle learning rate."""
    taus = ((0.0, 0.0),) if method in UNTEMPERED else family.taus
    return [
        _unit(family, method, "tune", seed, Setting(tau_1=first, tau_n=last, learning_rate=family.base_rate))
        for first, last in taus
        for seed in family.tuning_seeds
    ]


def rates(family: Family, method: str, tau_1: float, tau_n: float) -> list[Unit]:
    """The method at every learning rate, at its temperature."""
    return [
        _unit(family, method, "tune", seed, Setting(tau_1=tau_1, tau_n=tau_n, learning_rate=rate))
        for rate in family.learning_rates
        for seed in family.tuning_seeds
    ]


def chosen(family: Family, method: str, ledger: Ledger) -> Setting | None:
    """By validation: the best temperature, then the best learning rate at it; a tie goes to the earlier. None while runs are missing."""
    first = _best(family, temperatures(family, method), ledger)
    if first is None:
        return None
    last = _best(family, rates(family, method, first.tau_1, first.tau_n), ledger)
    return None if last is None else Setting(tau_1=last.tau_1, tau_n=last.tau_n, learning_rate=last.learning_rate)


def scores(family: Family, method: str, setting: Setting) -> list[Unit]:
    """The method with its setting under every seed."""
    return [_unit(family, method, "score", seed, setting) for seed in family.seeds]


def ablations(family: Family, setting: Setting, names: Iterable[str] = tuple(ABLATIONS)) -> list[Unit]:
    """Variants of `kld` at its own setting, under every seed."""
    return [_unit(family, name, "score", seed, setting, ABLATIONS[name]) for seed in family.seeds for name in names]


def carry_out(
    family: Family, methods: Sequence[str], ledger: Ledger, run: Run, *, ablate: bool, settled_in: Family | None = None
) -> None:
    """Every run of this family that the ledger has not, in an order in which each stage has what it needs.

    With `settled_in` nothing is chosen here: settings are those of that family, and a method that has none there is left out.
    """
    if settled_in is None:
        run([unit for method in methods for unit in temperatures(family, method)])
        run([unit for method in methods for unit in _rates_after(family, method, ledger)])
    settings = {method: chosen(settled_in or family, method, ledger) for method in methods}
    # Seed by seed, so that a study that is cut off has compared all methods on some of them.
    scored = {method: scores(family, method, setting) for method, setting in settings.items() if setting is not None}
    by_seed = [unit for seed in family.seeds for units in scored.values() for unit in units if unit.seed == seed]
    run(by_seed)
    if ablate and settled_in is None and (setting := settings.get(ABLATED)) is not None:
        run(ablations(family, setting))


def _rates_after(family: Family, method: str, ledger: Ledger) -> Iterator[Unit]:
    best = _best(family, temperatures(family, method), ledger)
    if best is not None:
        yield from rates(family, method, best.tau_1, best.tau_n)


def _best(family: Family, units: Sequence[Unit], ledger: Ledger) -> Unit | None:
    """The unit whose setting has the best validation on average over the tuning seeds."""
    found = {record.unit.key: record for record in ledger.of(units)}
    if len(found) < len({unit.key for unit in units}):
        return None
    by_setting: dict[Setting, list[Unit]] = {}
    for unit in units:
        setting = Setting(tau_1=unit.tau_1, tau_n=unit.tau_n, learning_rate=unit.learning_rate)
        by_setting.setdefault(setting, []).append(unit)
    sign = -1.0 if family.metric in LOWER_IS_BETTER else 1.0

    def value(of: Sequence[Unit]) -> float:
        return sign * sum(found[unit.key].validation for unit in of) / len(of)

    return max(by_setting.values(), key=value)[0]


def _unit(
    family: Family, method: str, role: str, seed: int, setting: Setting, change: dict[str, Any] | None = None
) -> Unit:
    return Unit(
        family=family.name,
        setup=family.setup,
        method=method,
        role=role,
        seed=seed,
        tau_1=setting.tau_1,
        tau_n=setting.tau_n,
        learning_rate=setting.learning_rate,
        change=SYSTEMS[method] if change is None else change,
    )
