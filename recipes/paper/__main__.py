"""`python -m recipes.paper`: list the paper's experiments, show one as a job or comparison spec, make its rows, write README's tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from cpd_engine.errors import EngineError
from recipes.paper import costs, rows
from recipes.paper.experiments import (
    HERE,
    SPLITS,
    UnknownExperiment,
    comparison,
    experiment,
    experiments,
    job,
    placed,
)

README = HERE / "README.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, do, return the exit code: 2 for what does not exist, cannot run yet or cannot be read."""
    given = _parser().parse_args(argv)
    try:
        match given.command:
            case "list":
                _list()
            case "show":
                _show(given)
            case "rows":
                counts = rows.write_splits(
                    rows.SOURCES[given.source], given.file, given.out or _folder(given.source), seed=given.seed
                )
                print(", ".join(f"{name} {count:,}" for name, count in counts.items()))
            case _:
                README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
    except (UnknownExperiment, EngineError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def written(text: str) -> str:
    """README's text with its tables made anew."""
    for name, table in costs.tables().items():
        before, start, rest = text.partition(f"<!-- table: {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        text = f"{before}{start}{table}{end}{after}"
    return text


def _list() -> None:
    for one in experiments().values():
        print(f"{one.name}: {one.paper}; over {one.base}.yaml")
        for label in one.labels():
            print(f"    {label}")


def _show(given: argparse.Namespace) -> None:
    asked, uploaded = experiment(given.experiment), dict(given.dataset)
    if given.comparison:
        spec = comparison(asked, given.label)
        spec["base"] = placed(spec["base"], Path.cwd(), uploaded)
    elif given.label is None:
        raise UnknownExperiment(f"name one of {', '.join(asked.labels())}, or ask for --comparison")
    else:
        spec = placed(job(asked, given.label), Path.cwd(), uploaded)
    yaml.dump(spec, sys.stdout, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=140)


class _Plain(yaml.SafeDumper):
    """Writes a value that occurs twice twice."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the signature is theirs
        return True


def _folder(source: str) -> Path:
    return HERE.parents[1] / "build" / "paper" / source


def _split(text: str) -> tuple[str, str]:
    split, equals, value = text.partition("=")
    if split not in SPLITS or not (equals and value):
        raise argparse.ArgumentTypeError(f"{text!r}: write SPLIT=ID or SPLIT=FILE, where SPLIT is {', '.join(SPLITS)}")
    return split, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m recipes.paper", description="The paper's experiments as recipes.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every experiment and the labels of its jobs")

    show = commands.add_parser("show", help="print a job spec as YAML, its files as seen from here")
    show.add_argument("experiment")
    show.add_argument(
        "label", nargs="?", help="LABEL or LABEL@VARIATION; with --comparison the VARIATION, where there are any"
    )
    show.add_argument("--comparison", action="store_true", help="all members as the spec of one comparison")
    show.add_argument(
        "--dataset", type=_split, action="append", default=[], metavar="SPLIT=ID", help="as of `cpd submit`"
    )

    made = commands.add_parser("rows", help="train, validation and test.jsonl from a published file")
    made.add_argument("source", choices=sorted(rows.SOURCES))
    made.add_argument("file", type=Path, help="the file that the publisher offers")
    made.add_argument("--out", type=Path, help="[default: build/paper/SOURCE]")
    made.add_argument("--seed", type=int, default=0)

    commands.add_parser("readme", help="write the tables of README.md anew")
    return parser


if __name__ == "__main__":
    sys.exit(main())
