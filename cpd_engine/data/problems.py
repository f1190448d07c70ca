"""Problems with one right answer each: values drawn at random and solved. Pure standard library.

The ranges are small on purpose: a model of half a million weights learns them in minutes on a CPU, some soon and some late.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

_MONTHS = """
January February March April May June July August September October November December
"""
_WORDS = """
apple basket candle dinner engine forest garden hammer island jacket kettle lemon mirror needle orange pencil rabbit saddle ticket
valley window yellow
"""
MONTHS = _MONTHS.split()
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
WORDS = _WORDS.split()
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gina", "Hugo")
LETTERS = "abcdefghkmpt"
ORDINALS = ("first", "second", "third", "fourth")
# (larger unit, smaller unit, how many of the smaller make one of the larger)
UNITS = (
    ("kilometres", "metres", 1000),
    ("metres", "centimetres", 100),
    ("centimetres", "millimetres", 10),
    ("kilograms", "grams", 1000),
    ("litres", "millilitres", 1000),
    ("euros", "cents", 100),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The values of one problem as they are printed, by the name a phrasing calls them, and the right answer."""

    values: dict[str, str]
    answer: str


def _listed(items: list[str]) -> str:
    return ", ".join(items)


def addition(random: Random) -> Drawn:
    """Two digits and one digit."""
    a, b = random.randint(10, 99), random.randint(2, 9)
    return Drawn(values={"a": str(a), "b": str(b)}, answer=str(a + b))


def subtraction(random: Random) -> Drawn:
    """Two digits less one digit."""
    a, b = random.randint(10, 99), random.randint(2, 9)
    return Drawn(values={"a": str(a), "b": str(b)}, answer=str(a - b))


def comparison(random: Random) -> Drawn:
    """The larger of two numbers."""
    a, b = random.sample(range(10, 100), 2)
    return Drawn(values={"a": str(a), "b": str(b)}, answer=str(max(a, b)))


def number_sorting(random: Random) -> Drawn:
    """Ascending order."""
    numbers = random.sample(range(1, 20), random.randint(2, 4))
    return Drawn(values={"items": _listed([*map(str, numbers)])}, answer=_listed([*map(str, sorted(numbers))]))


def word_sorting(random: Random) -> Drawn:
    """Alphabetical order."""
    words = random.sample(WORDS, random.randint(2, 4))
    return Drawn(values={"items": _listed(words)}, answer=_listed(sorted(words)))


def list_position(random: Random) -> Drawn:
    """The word at a position that is named."""
    words = random.sample(WORDS, 4)
    position = random.randrange(4)
    return Drawn(values={"items": _listed(words), "ordinal": ORDINALS[position]}, answer=words[position])


def list_reversal(random: Random) -> Drawn:
    """Words from last to first."""
    words = random.sample(WORDS, random.randint(2, 4))
    return Drawn(values={"items": _listed(words)}, answer=_listed(words[::-1]))


def table_lookup(random: Random) -> Drawn:
    """The number beside a name."""
    names = random.sample(NAMES, random.randint(2, 3))
    amounts = [str(random.randint(10, 99)) for _ in names]
    table = "\n".join(f"{name}: {amount}" for name, amount in zip(names, amounts, strict=True))
    asked = random.randrange(len(names))
    return Drawn(values={"table": table, "name": names[asked]}, answer=amounts[asked])


def table_search(random: Random) -> Drawn:
    """The name beside a word."""
    names = random.sample(NAMES, random.randint(2, 3))
    words = random.sample(WORDS, len(names))
    table = "\n".join(f"{name}: {word}" for name, word in zip(names, words, strict=True))
    asked = random.randrange(len(names))
    return Drawn(values={"table": table, "thing": words[asked]}, answer=names[asked])


def _spelled(random: Random, least: int, most: int) -> list[str]:
    return random.sample(LETTERS, random.randint(least, most))


def letter_reversal(random: Random) -> Drawn:
    """Letters from last to first."""
    letters = _spelled(random, 3, 5)
    return Drawn(values={"text": " ".join(letters)}, answer=" ".join(letters[::-1]))


def digit_reversal(random: Random) -> Drawn:
    """Digits from last to first."""
    number = str(random.randint(100, 99_999))
    return Drawn(values={"number": number}, answer=number[::-1])


def letter_replacement(random: Random) -> Drawn:
    """One letter for another, wherever it stands."""
    letters = _spelled(random, 3, 4)
    old = random.choice(letters)
    new = random.choice([letter for letter in LETTERS if letter != old])
    answer = " ".join(new if letter == old else letter for letter in letters)
    return Drawn(values={"text": " ".join(letters), "old": old, "new": new}, answer=answer)


def letter_count(random: Random) -> Drawn:
    """How often a letter occurs."""
    counted, *others = random.sample(LETTERS, 3)
    letters = [counted if random.random() < 0.4 else random.choice(others) for _ in range(random.randint(4, 7))]
    return Drawn(values={"text": " ".join(letters), "letter": counted}, answer=str(letters.count(counted)))


def weekday(random: Random) -> Drawn:
    """The day of the week some days later."""
    start, days = random.randrange(7), random.randint(1, 30)
    return Drawn(values={"day": WEEKDAYS[start], "days": str(days)}, answer=WEEKDAYS[(start + days) % 7])


def written_date(random: Random) -> Drawn:
    """An ISO date with its month in words."""
    day = date(1950, 1, 1) + timedelta(days=random.randrange(36_525))
    return Drawn(values={"date": day.isoformat()}, answer=f"{day.day} {MONTHS[day.month - 1]} {day.year}")


def date_addition(random: Random) -> Drawn:
    """A date some days later, in a year without a leap day."""
    day = date(2001, 1, 1) + timedelta(days=random.randrange(365))
    after = day + timedelta(days=random.randint(1, 9))
    written = f"{day.day} {MONTHS[day.month - 1]}"
    return Drawn(
        values={"date": written, "days": str((after - day).days)}, answer=f"{after.day} {MONTHS[after.month - 1]}"
    )


def units(random: Random) -> Drawn:
    """From a larger unit to a smaller one."""
    large, small, factor = random.choice(UNITS)
    amount = random.randint(1, 199)
    return Drawn(values={"amount": str(amount), "large": large, "small": small}, answer=f"{amount * factor} {small}")
