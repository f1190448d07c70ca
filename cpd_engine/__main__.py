"""`python -m cpd_engine`: run, estimate, evaluate, table, serve, about, check, plan, synthesize, convert-gguf, export-gguf.

Torch is imported only by what needs it.

Exit codes of the first four: 0 finished, 10 stopped on request and resumable, 20 failed with a code; anything else is a crash.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, cast

from cpd_engine import errands, launch, options, watchdog
from cpd_engine.arguments import parser
from cpd_engine.config import ResourceSpec, RunConfig
from cpd_engine.errors import EngineError, StopRequested
from cpd_engine.events import Emit, Event, Failed, to_dict, to_json
from cpd_engine.spec import read_examination, read_spec

STOPPED = 10
FAILED = 20


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, do, return the exit code."""
    given = sys.argv[1:] if argv is None else list(argv)
    arguments = parser().parse_args(given)
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    if arguments.command == "run":
        return _run(arguments, given)
    doing = {"estimate": _estimate, "evaluate": _evaluate, "table": _table}
    if arguments.command in doing:
        return doing[arguments.command](arguments)
    if arguments.command == "serve":
        from cpd_engine import serving

        return serving.serve(arguments)
    try:
        errands.do(arguments)
    except EngineError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return FAILED
    return 0


def _run(arguments: argparse.Namespace, given: Sequence[str]) -> int:
    stream, emit = _heard(arguments)
    try:
        config = read_spec(arguments.spec)
        ranks = _ranks_to_start(config.resources)
    except EngineError as error:
        return _refused(error, emit)
    if ranks > 1:
        command = [sys.executable, "-m", "cpd_engine", *given]
        return launch.end_like(launch.launch(command, ranks, events=cast("BinaryIO", stream.buffer)))
    return _carry_out(config, arguments, emit)


def _ranks_to_start(resources: ResourceSpec) -> int:
    """How many processes to start here; 1 where this one is all of them, or was itself started as one of several."""
    world = resources.gpus * resources.nodes
    if launch.is_rank(os.environ):
        launch.check_world(world, int(os.environ["WORLD_SIZE"]))
        return 1
    if world > 1:
        launch.check_place(resources.gpus, resources.nodes, launch.devices(os.environ))
    return world


def _carry_out(config: RunConfig, arguments: argparse.Namespace, emit: Emit) -> int:
    def work(should_stop: Callable[[], bool]) -> None:
        from cpd_engine import pipeline

        pipeline.run(
            config,
            inputs=options.inputs(arguments, os.environ),
            out=arguments.out,
            emit=emit,
            should_stop=should_stop,
            fleet=place,
        )

    from cpd_engine import fleet

    place = fleet.place(os.environ) if launch.is_rank(os.environ) else fleet.ALONE
    return _ended(work, place.world)


def _estimate(arguments: argparse.Namespace) -> int:
    """Without a descriptor for events the forecast alone is printed; without --out nothing is left behind."""
    if arguments.watchdog:
        watchdog.watch_stdin()
    told = None if arguments.events_fd is None else errands.stream_to(arguments.events_fd)
    answer = errands.stream_to(None)

    def emit(event: Event) -> None:
        if told is not None:
            told.write(to_json(event) + "\n")
            told.flush()

    def work(should_stop: Callable[[], bool]) -> None:
        from cpd_engine import pipeline

        with ExitStack() as stack:
            out = arguments.out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cpd-estimate-")))
            found = pipeline.estimate(
                config, inputs=options.inputs(arguments, os.environ), out=out, emit=emit, should_stop=should_stop
            )
        if told is None:
            answer.write(json.dumps(to_dict(found), indent=1, allow_nan=False) + "\n")
            answer.flush()

    try:
        config = read_spec(arguments.spec)
    except EngineError as error:
        return _refused(error, emit)
    return _ended(work, world=1)


def _table(arguments: argparse.Namespace) -> int:
    _, emit = _heard(arguments)

    def work(should_stop: Callable[[], bool]) -> None:
        from cpd_engine.stages.tabling import make_table

        make_table(arguments.spec, out=arguments.out, emit=emit, should_stop=should_stop, clock=time.monotonic)

    return _ended(work, world=1)


def _evaluate(arguments: argparse.Namespace) -> int:
    """The events are those of the one phase there is; the table lies under --out too."""
    _, emit = _heard(arguments)

    def work(should_stop: Callable[[], bool]) -> None:
        from cpd_engine.examination import examine

        inputs = options.allowed(arguments, os.environ)
        examine(config, model=arguments.model, inputs=inputs, out=arguments.out, emit=emit, should_stop=should_stop)

    try:
        given = {name: getattr(arguments, name) for name in ("template", "batch_size", "precision", "threads")}
        config = read_examination(arguments.suite, **given)
    except EngineError as error:
        return _refused(error, emit)
    return _ended(work, world=1)


def _refused(error: EngineError, emit: Emit) -> int:
    emit(Failed(code=error.code, message=str(error)))
    sys.stderr.write(f"{error.code}: {error}\n")
    return FAILED


def _ended(work: Callable[[Callable[[], bool]], None], world: int) -> int:
    """Do the work, which asks whether it is to stop; the exit code."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # cuBLAS reads it when its first handle is made; without it equal inputs need not give equal bits.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        work(stop.is_set)
    except StopRequested:
        return _leave(STOPPED, world)
    except EngineError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return _leave(FAILED, world)
    return _leave(0, world)


def _leave(code: int, world: int) -> int:
    """The exit code; one of several ranks ends here and now. Torch would first wait for others that may not be coming, and its threads
    were once seen to abort a rank that had finished, as the interpreter shut down. Events are flushed one by one.
    """
    if world > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _heard(arguments: argparse.Namespace) -> tuple[TextIOWrapper, Emit]:
    """Where the command's events go, and what sends them there, with the watch over whoever started it."""
    if arguments.watchdog:
        watchdog.watch_stdin()
    stream = errands.stream_to(arguments.events_fd)

    def emit(event: Event, /) -> None:
        stream.write(to_json(event) + "\n")
        stream.flush()

    return stream, emit


if __name__ == "__main__":
    sys.exit(main())
