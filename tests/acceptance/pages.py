"""The commands of the documentation: every block of every page, which of them are run and where, and why the others are not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHELL = "sh"
PYTHON = "python"
# What is not run: output and pictures of words, specs, requests.
OTHER = frozenset({"text", "yaml", "json"})
# Written from the programs themselves, usage lines and all; tests/contracts/test_reference.py holds them to those.
GENERATED = frozenset({"docs/reference/cli.md", "docs/reference/spec.md"})
# Begins a line of a terminal, wherever it stands.
COMMAND = re.compile(r"^\s*(?:\$ |(?:cpd|curl|make|docker|git|pip|python|pytest|torchrun|npm|apt-get) )", re.MULTILINE)

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block of a page, and the line on which it begins."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """`docs/page.md:12`."""
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Every page for people, by its path in the project."""
    found = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "recipes").rglob("*.md"),
        *(ROOT / "benchmarks").rglob("*.md"),
    ]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def blocks(page: str) -> list[Block]:
    """The blocks of a page, in its order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start()) + 1,
            language=found["language"].strip(),
            text=found["text"],
        )
        for found in _FENCE.finditer(text)
    ]


def is_run(block: Block) -> bool:
    """Whether the block is one of commands or of Python that no reason keeps from being run."""
    return block.language in (SHELL, PYTHON) and reason(block) is None


def reason(block: Block) -> str | None:
    """Why the block is not run; None where it is."""
    reasons = LEFT_OUT.get(block.page, {})
    return next((why for start, why in reasons.items() if block.text.startswith(start)), None)


# Each walk is one terminal: its pages' blocks in this order, variables and files of one there in the next.
WALKS: dict[str, tuple[str, ...]] = {
    "readme": ("README.md",),
    "tutorial": ("docs/tutorial.md",),
    "how-to": (
        "docs/how-to/README.md",
        "docs/how-to/data.md",
        "docs/how-to/method.md",
        "docs/how-to/on-policy.md",
        "docs/how-to/memory.md",
        "docs/how-to/steer.md",
        "docs/how-to/compare.md",
        "docs/how-to/evaluate.md",
        "docs/how-to/openai.md",
        "docs/how-to/webhooks.md",
        "docs/how-to/gguf.md",
        "docs/how-to/scale.md",
        "docs/how-to/paper.md",
    ),
}
# Run by a test of its own: what it answers goes into the next call.
ELSEWHERE = {"docs/api.md": "tests/acceptance/test_api_page.py"}

_ENVIRONMENT = "makes the environment that this test runs in"
_DOCKER = "needs a Docker engine; tests/contracts/test_deployment.py looks at the commands"
_HOURS = "takes minutes to hours, and tests of its own run what it runs"
_PUBLISHED = "needs files that their publishers offer; tests/unit/recipes runs the same on others"

# By page and by how a block begins.
LEFT_OUT: dict[str, dict[str, str]] = {
    "README.md": {
        "make demo ": "a job of 75 s and the whole suite; .ci/run runs the one, tests/acceptance/test_whole_job.py the like of the other",
        "make setup": _ENVIRONMENT,
        "cpd compare recipes/compare.yaml": "eight jobs, four minutes; docs/how-to/compare.md runs a smaller one by the same commands",
    },
    "CONTRIBUTING.md": {"make setup": "the environment, the checks and the suite that this test is part of"},
    "docs/tutorial.md": {"make setup": _ENVIRONMENT},
    "docs/operations.md": {
        "cp .env.example": _DOCKER,
        "# one machine with eight GPUs": "needs eight GPUs, and workers do not end",
        "export CPD_STORE_URL": "names a bucket that nobody has; tests/integration/files has a server that speaks S3",
        "torchrun ": "needs two machines; tests/learning/test_fleet.py starts torchrun twice on one",
        "cpd datasets check train.csv": "docs/how-to/data.md runs it on rows that are there",
        "cpd doctor": "its answers depend on the machine; tests/integration/client/test_doctor.py runs it",
    },
    "docs/how-to/scale.md": {
        "CUDA_VISIBLE_DEVICES": "needs GPUs, and workers do not end; tests/acceptance/test_compose_processes.py starts several",
    },
    "docs/how-to/paper.md": {
        "python -m recipes.paper rows": _PUBLISHED,
        "cpd estimate job.yaml": "needs the hub's models and the publishers' rows; tests/unit/recipes plans every job of the paper",
    },
    "recipes/paper/README.md": {
        "python -m recipes.paper list": "needs the hub's models; docs/how-to/paper.md runs what does not, tests/unit/recipes plans all",
        "python -m recipes.paper rows": _PUBLISHED,
    },
    "benchmarks/README.md": {
        "make bench": _HOURS,
        "make quality": _HOURS,
        "make load": _HOURS,
        "python -m benchmarks": _HOURS,
    },
}
