"""The kinds of instruction that the synthetic data set is made of, each in several phrasings. A phrasing only dresses a problem up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from cpd_engine.data import problems
from cpd_engine.data.problems import Drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A kind of problem. `phrasings` are (instruction, input) templates over the names of the drawn values."""

    category: str
    draw: Callable[[Random], Drawn]
    phrasings: tuple[tuple[str, str], ...]


TASKS: tuple[Task, ...] = (
    Task(
        category="addition",
        draw=problems.addition,
        phrasings=(
            ("What is {a} + {b}?", ""),
            ("Add the two numbers.", "{a} and {b}"),
            ("Work out the sum of {a} and {b}.", ""),
        ),
    ),
    Task(
        category="subtraction",
        draw=problems.subtraction,
        phrasings=(
            ("What is {a} - {b}?", ""),
            ("Take the second number from the first.", "{a} and {b}"),
            ("How much is {a} minus {b}?", ""),
        ),
    ),
    Task(
        category="comparison",
        draw=problems.comparison,
        phrasings=(
            ("Which is larger, {a} or {b}?", ""),
            ("Give the greater of the two numbers.", "{a} and {b}"),
            ("Name the bigger number: {a} or {b}.", ""),
        ),
    ),
    Task(
        category="number_sorting",
        draw=problems.number_sorting,
        phrasings=(
            ("Sort the numbers from smallest to largest.", "List: {items}"),
            ("Put these numbers in ascending order: {items}.", ""),
            ("Order the numbers, smallest first.", "List: {items}"),
        ),
    ),
    Task(
        category="word_sorting",
        draw=problems.word_sorting,
        phrasings=(
            ("Sort the words alphabetically.", "List: {items}"),
            ("Put these words in alphabetical order: {items}.", ""),
            ("Order the words from A to Z.", "List: {items}"),
        ),
    ),
    Task(
        category="list_position",
        draw=problems.list_position,
        phrasings=(
            ("What is the {ordinal} word of the list?", "List: {items}"),
            ("Name the {ordinal} of these words: {items}.", ""),
            ("Pick the {ordinal} item.", "List: {items}"),
        ),
    ),
    Task(
        category="list_reversal",
        draw=problems.list_reversal,
        phrasings=(
            ("Reverse the order of the words.", "List: {items}"),
            ("Write this list backwards: {items}.", ""),
            ("Turn the list around, last word first.", "List: {items}"),
        ),
    ),
    Task(
        category="table_lookup",
        draw=problems.table_lookup,
        phrasings=(
            ("How many points does {name} have?", "{table}"),
            ("Look up the number beside {name}.", "{table}"),
            ("Read the score of {name} from the table.", "{table}"),
        ),
    ),
    Task(
        category="table_search",
        draw=problems.table_search,
        phrasings=(
            ("Who has the {thing}?", "{table}"),
            ("Find the name beside {thing}.", "{table}"),
            ("Which person does the {thing} belong to?", "{table}"),
        ),
    ),
    Task(
        category="letter_reversal",
        draw=problems.letter_reversal,
        phrasings=(
            ("Reverse the letters.", "Letters: {text}"),
            ("Spell this backwards: {text}", ""),
            ("Write the letters from last to first.", "Letters: {text}"),
        ),
    ),
    Task(
        category="digit_reversal",
        draw=problems.digit_reversal,
        phrasings=(
            ("Write the digits from last to first.", "Number: {number}"),
            ("Reverse the digits of {number}.", ""),
            ("Read the number backwards.", "Number: {number}"),
        ),
    ),
    Task(
        category="letter_replacement",
        draw=problems.letter_replacement,
        phrasings=(
            ("Replace every {old} by {new}.", "Letters: {text}"),
            ("Change each letter {old} to {new}: {text}", ""),
            ("Where {old} stands, write {new}.", "Letters: {text}"),
        ),
    ),
    Task(
        category="letter_count",
        draw=problems.letter_count,
        phrasings=(
            ("How often does the letter {letter} occur?", "Letters: {text}"),
            ("Count the letter {letter} in: {text}", ""),
            ("How many times is {letter} written here?", "Letters: {text}"),
        ),
    ),
    Task(
        category="weekday",
        draw=problems.weekday,
        phrasings=(
            ("Today is {day}. Which day is it in {days} days?", ""),
            ("Name the weekday {days} days after {day}.", ""),
            ("What day of the week comes {days} days later?", "{day}"),
        ),
    ),
    Task(
        category="written_date",
        draw=problems.written_date,
        phrasings=(
            ("Write the date {date} in words.", ""),
            ("Rewrite the date with the name of the month.", "{date}"),
            ("Spell out this date: {date}", ""),
        ),
    ),
    Task(
        category="date_addition",
        draw=problems.date_addition,
        phrasings=(
            ("Which date is {days} days after {date}?", ""),
            ("Add {days} days to the date.", "{date}"),
            ("It is {date}. What is the date in {days} days?", ""),
        ),
    ),
    Task(
        category="units",
        draw=problems.units,
        phrasings=(
            ("Convert {amount} {large} to {small}.", ""),
            ("How many {small} are {amount} {large}?", ""),
            ("Express the amount in {small}.", "{amount} {large}"),
        ),
    ),
)
