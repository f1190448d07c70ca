"""`cpd serve` and `cpd worker`: run the service."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.terminal.operator import data_folder, environment_of, settings_from
from api.terminal.options import AsJson, DataDir
from api.terminal.output import hint, print_json, stdout

if TYPE_CHECKING:
    from api.serve import Ready

ModelRoots = Annotated[
    list[Path] | None,
    typer.Option(
        "--model-root", metavar="DIR", help="A folder whose models jobs may name as {local: …}; may be given again."
    ),
]


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0 takes any free one.", show_default="8000")
    ] = None,
    data_dir: DataDir = None,
    model_root: ModelRoots = None,
    worker: Annotated[
        bool, typer.Option("--worker/--no-worker", help="Whether to run a worker beside the API.")
    ] = True,
    watchdog: Annotated[
        bool, typer.Option("--watchdog", help="Stop when standard input ends: for a program that starts the service.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the API and one worker, with everything in one folder unless CPD_DATABASE_URL and CPD_BROKER_URL say otherwise."""
    settings = settings_from(
        host=host,
        port=port,
        data_dir=data_dir,
        model_roots=_absolute(model_root),
        embedded_workers=None if worker else 0,
        log_format=_log_format(),
    )
    # Here and not above: no other command needs the web framework, and all of them start faster without it.
    from api.core import telemetry
    from api.serve import serve as run_service

    telemetry.configure(json=settings.log_format == "json", level=settings.log_level)
    if watchdog:
        threading.Thread(target=_stop_at_end_of_input, name="watchdog", daemon=True).start()
    run_service(settings, announce=_announce_json if as_json else _announce, say=hint)


def worker(data_dir: DataDir = None, model_root: ModelRoots = None) -> None:
    """Run one worker in this terminal, on the database and broker of the environment. Start as many as there are GPUs."""
    settings = settings_from(data_dir=data_dir, model_roots=_absolute(model_root))
    data_folder(settings)
    environment = environment_of(settings, dict(os.environ))
    os.execve(sys.executable, [sys.executable, "-m", "worker"], environment)  # noqa: S606 - a list of our own


def _log_format() -> str | None:
    """Lines for people where a person looks on and the environment does not say otherwise."""
    return "console" if sys.stderr.isatty() and not os.environ.get("CPD_LOG_FORMAT") else None


def _stop_at_end_of_input() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _absolute(roots: list[Path] | None) -> tuple[Path, ...] | None:
    return tuple(root.expanduser().absolute() for root in roots) if roots else None


def _announce(ready: Ready) -> None:
    console = stdout()
    if ready.first_key is not None:
        console.print(f"first API key, shown this once: {ready.first_key}", markup=False)
        console.print(f"kept for `cpd` on this machine in {ready.key_file}", markup=False)
    workers = "no worker" if not ready.workers else f"{ready.workers} worker" + "s" * (ready.workers > 1)
    console.print(
        f"cpd is ready at {ready.url} with {workers}; data in {ready.data_dir}. Ctrl-C stops it.", markup=False
    )
    sys.stdout.flush()


def _announce_json(ready: Ready) -> None:
    print_json(
        {
            "object": "service",
            "url": ready.url,
            "data_dir": str(ready.data_dir),
            "key_file": str(ready.key_file) if ready.key_file else None,
            "first_key": ready.first_key,
            "workers": ready.workers,
        }
    )
