"""`cpd webhooks`: the operator's hand on the webhooks of all tenants, straight in the database. Needs no running service, and no key."""

from __future__ import annotations

from typing import Annotated, get_args

import typer
from rich.table import Table

from api.core.errors import ServiceError, WebhooksOff
from api.quantities import moment
from api.remote.trouble import NOT_ALLOWED, BadInput
from api.terminal.operator import database_session, settings_from
from api.terminal.options import AsJson, DataDir
from api.terminal.output import complain, hint, print_json, stdout
from api.terminal.tables import whole
from api.webhooks.schemas import CreateEndpoint, DeliveryState, EventType

app = typer.Typer(name="webhooks", help="Webhooks, for whoever runs the service.", no_args_is_help=True)


@app.command()
def create(
    url: Annotated[str, typer.Argument(help="Where the ends of every tenant's jobs are told.")],
    name: Annotated[str, typer.Option(help="What it is for.")] = "operator",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Hear of the ends of every tenant's jobs. The secret is shown this once."""
    # Here and not above, as below: other commands start faster without the database.
    from api.webhooks import service

    settings = settings_from(data_dir=data_dir)
    try:
        sent = CreateEndpoint.model_validate({"name": name, "url": url, "event_types": list(get_args(EventType))})
        with database_session(settings) as session:
            made = service.create(session, None, sent, settings)
    except WebhooksOff as error:
        raise BadInput(
            "webhooks are off: set CPD_WEBHOOKS to public, or to any, for the service and for this command"
        ) from error
    except (ServiceError, ValueError) as error:
        raise BadInput(str(error)) from error
    if as_json:
        print_json(made.model_dump(mode="json"))
        return
    hint(f"{made.id}; keep its secret now, it is not shown again")
    stdout().print(made.signing_secret, markup=False)


@app.command("list")
def list_all(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the endpoints of all tenants."""
    from api.webhooks import queries

    with database_session(settings_from(data_dir=data_dir)) as session:
        found = [(row, tenant) for row, tenant in session.execute(queries.every_endpoint())]
    if as_json:
        data = [
            {"id": row.id, "tenant": tenant, "name": row.name, "url": row.url, "event_types": row.event_types}
            for row, tenant in found
        ]
        print_json({"object": "list", "data": data})
        return
    table = Table(whole("id", 35), "tenant", "name", "url", "created")
    for row, tenant in found:
        table.add_row(row.id, tenant or "(every)", row.name, row.url, moment(row.created_at))
    stdout().print(table)


@app.command()
def deliveries(
    state: Annotated[str | None, typer.Option(help="Only pending, delivered or failed ones.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the newest.")] = 50,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List deliveries of all tenants with how they stand."""
    from api.webhooks import queries, service

    states: dict[str | None, DeliveryState | None] = {
        None: None, "pending": "pending", "delivered": "delivered", "failed": "failed",
    }  # fmt: skip
    if state not in states:
        raise BadInput(f"--state {state}: there are pending, delivered and failed")
    with database_session(settings_from(data_dir=data_dir)) as session:
        found = [service.delivery_view(row) for row in session.scalars(queries.every_delivery(states[state], limit))]
    if as_json:
        print_json({"object": "list", "data": [view.model_dump(mode="json") for view in found]})
        return
    table = Table(whole("id", 36), "event", "job", "state", "attempts", "status", "error")
    for view in found:
        status = "" if view.status_code is None else str(view.status_code)
        event = view.event_type.rpartition(".")[2]
        table.add_row(view.id, event, view.job, view.state, str(view.attempts), status, view.error or "")
    stdout().print(table)


@app.command()
def delete(
    endpoint: Annotated[str, typer.Argument(help="The endpoint's id, we_…; any tenant's.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Forget an endpoint, whosever it is."""
    from api.webhooks import service
    from api.webhooks.tables import WebhookEndpoint

    with database_session(settings_from(data_dir=data_dir)) as session:
        row = session.get(WebhookEndpoint, endpoint)
        if row is not None:
            service.remove(session, row.tenant_id, endpoint)
    if row is None:
        complain(f"there is no webhook endpoint {endpoint}; `cpd webhooks list` shows them")
        raise typer.Exit(NOT_ALLOWED)
    if as_json:
        print_json({"object": "webhook_endpoint.deleted", "id": endpoint, "deleted": True})
