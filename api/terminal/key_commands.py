"""`cpd keys`: the operator's hand on the keys, straight in the database. Needs no running service, and no key."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, cast

import typer
from rich.table import Table

from api.keys.schemas import DEFAULT_TENANT, SCOPES, KeyView, Scope
from api.quantities import moment
from api.remote.trouble import NOT_ALLOWED, BadInput
from api.terminal.operator import database_session, settings_from
from api.terminal.options import AsJson, DataDir
from api.terminal.output import complain, hint, print_json, print_json_list, stdout
from api.terminal.tables import whole

app = typer.Typer(name="keys", help="API keys, for whoever runs the service.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="What it may do: read, write, admin.", show_default="read, write")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose jobs and data it opens.")] = DEFAULT_TENANT,
    expires_days: Annotated[int | None, typer.Option(min=1, max=3650, help="Valid for so many days.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it. It is shown this once."""
    # Here and not above, as below: other commands start faster without the database.
    from api.keys.service import create_key

    scopes = _scopes(scope or SCOPES[:2])
    expires_at = datetime.now(UTC) + timedelta(days=expires_days) if expires_days else None
    with database_session(settings_from(data_dir=data_dir)) as session:
        text = create_key(session, name=name, scopes=scopes, tenant=tenant, expires_at=expires_at)
    if as_json:
        print_json({"object": "api_key", "key": text, "name": name, "tenant": tenant, "scopes": scopes})
        return
    hint("keep it now: only its hash is stored")
    stdout().print(text, markup=False)


@app.command("list")
def list_all(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List keys by their prefix."""
    from api.keys.service import list_keys

    with database_session(settings_from(data_dir=data_dir)) as session:
        found = list_keys(session)
    if as_json:
        print_json_list(found, "api_key")
    else:
        stdout().print(_table(found))


@app.command()
def revoke(
    prefix: Annotated[str, typer.Argument(help="The part of the key between cpd_ and the second underscore.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Close a key for good."""
    from api.keys.service import revoke_key

    with database_session(settings_from(data_dir=data_dir)) as session:
        revoked = revoke_key(session, prefix)
    if not revoked:
        complain(f"no key {prefix} is open; `cpd keys list` shows them")
        raise typer.Exit(NOT_ALLOWED)
    if as_json:
        print_json({"object": "api_key", "prefix": prefix, "revoked": True})


def _scopes(words: Iterable[str]) -> list[Scope]:
    known = {scope: scope for scope in SCOPES}
    unknown = [word for word in words if word not in known]
    if unknown:
        raise BadInput(f"--scope {unknown[0]}: there are {', '.join(SCOPES)}")
    return [known[cast("Scope", word)] for word in words]


def _table(found: list[KeyView]) -> Table:
    table = Table(whole("prefix", 12), "name", "tenant", "scopes", "created", "expires", "revoked")
    for key in found:
        times = (moment(key.created_at), moment(key.expires_at), moment(key.revoked_at))
        table.add_row(key.prefix, key.name, key.tenant, ", ".join(key.scopes), *times)
    return table
