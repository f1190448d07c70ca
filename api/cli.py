"""The `cpd` command.

Exit codes: 0 done; 1 the job failed (with --exit-status); 2 wrong usage or input; 3 no such thing, or not allowed; 4 the service
does not answer; 5 the job was cancelled or paused (with --exit-status); 6 conflict with the job's state; 7 a download is damaged;
130 interrupted.
"""

from __future__ import annotations

import sys
from typing import Any

import typer

from api.remote.trouble import Refused, Trouble
from api.terminal import (
    comparison_commands,
    data_commands,
    doctor_commands,
    export_commands,
    job_commands,
    key_commands,
    report_commands,
    service_commands,
    upkeep_commands,
    webhook_commands,
)
from api.terminal.output import complain, hint
from api.terminal.plain import with_plain
from api.terminal.remedies import told

app = typer.Typer(
    name="cpd",
    help="Distillation as a service: submit teacher, student and data; get back a small model that works.",
    epilog=(
        "Exit codes: 0 done, 1 job failed, 2 wrong input, 3 not found or not allowed, 4 service unreachable, "
        "5 job cancelled or paused, 6 conflict, 7 damaged download, 130 interrupted."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(service_commands.serve)
app.command()(service_commands.worker)
app.command()(upkeep_commands.migrate)
app.command()(upkeep_commands.probe)
app.command()(doctor_commands.doctor)
app.add_typer(key_commands.app)
app.add_typer(webhook_commands.app)
app.add_typer(data_commands.app)
app.add_typer(comparison_commands.app)
app.add_typer(export_commands.app)
for command in (
    job_commands.submit,
    job_commands.estimate,
    job_commands.watch,
    job_commands.jobs,
    job_commands.show,
    job_commands.usage,
    job_commands.samples,
    job_commands.cancel,
    job_commands.pause,
    job_commands.resume,
    job_commands.download,
    report_commands.report,
    report_commands.flips,
    comparison_commands.compare,
):
    app.command()(command)


def command_line() -> Any:
    """The whole command as typer makes it of `app`, with what all its commands have."""
    return with_plain(typer.main.get_command(app))


def main() -> None:
    """Run the command line. A fault that a person can mend is one line that says how, and an exit code, never a traceback."""
    try:
        command_line()(prog_name="cpd")
    except Trouble as trouble:
        complain(told(trouble))
        if isinstance(trouble, Refused) and trouble.request_id and trouble.status >= 500:
            hint(f"request {trouble.request_id}")
        sys.exit(trouble.exit_code)
