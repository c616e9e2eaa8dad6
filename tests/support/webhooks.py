"""Webhook sources of every recipe, and what their senders post over HTTP."""

import json
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from gateway.assembly import open_ledger
from gateway.consent import OptOut
from gateway.ledger.search import Criteria
from gateway.settings import Settings
from gateway.webhooks.recipes import read_recipes
from tests.support.factories import ROOT
from tests.support.signing import NUMBER, SECRET, SENDERS, Message, mac

RECIPES = sorted(read_recipes())
SAMPLES = ROOT / "tests" / "webhook_samples"
PUBLIC_URL = "https://gateway.example.com"
# One source of each recipe, named like it, and one by hand.
SOURCES = "\n".join(
    [f"[{recipe}]\nrecipe = '{recipe}'\nsecret_env = 'HOOK_SECRET'" for recipe in RECIPES]
    + [
        "[helpdesk]",
        "secret_env = 'HOOK_SECRET'",
        "store = 'burger'",
        "opt_out = 'stop'",
        "phone_numbers = 'phones'",
        "requested_at = 'at'",
        "signature = {header = 'X-Signature'}",
    ]
)
HOOKS = {"WEBHOOK_SOURCES": SOURCES, "HOOK_SECRET": SECRET, "PUBLIC_URL": PUBLIC_URL}


def on_record(settings: Settings) -> list[OptOut]:
    """Everything in the ledger, newest first."""
    ledger = open_ledger(settings)
    try:
        return ledger.search(Criteria(), 50)
    finally:
        ledger.engine.dispose()


def change_ledger(settings: Settings, statement: str) -> None:
    connection = sqlite3.connect(settings.database_url.database or "")
    with connection:
        connection.execute(statement)
    connection.close()


def signed(recipe: str, event: object = None, *, delivery_id: str = "delivery-1") -> Message:
    """The recipe's opt-out, or another event, sent now to the source of that name."""
    url = f"{PUBLIC_URL}/v1/webhooks/{recipe}"
    message = SENDERS[recipe].message(event, sent_at=datetime.now(UTC), url=url)
    return replace(message, id=delivery_id)


def media_type(recipe: str) -> Mapping[str, str]:
    form = SENDERS[recipe].form
    return {"Content-Type": f"application/{'x-www-form-urlencoded' if form else 'json'}"}


def post(
    client: FlaskClient, recipe: str, message: Message, headers: Mapping[str, str] | None = None
) -> TestResponse:
    """Posts it, signed by its sender unless other ``headers`` are given."""
    if headers is None:
        headers = SENDERS[recipe].headers(SECRET, message)
    address = message.url.removeprefix(PUBLIC_URL)
    return client.post(address, data=message.body, headers={**media_type(recipe), **headers})


def post_helpdesk(client: FlaskClient, event: object) -> TestResponse:
    body = json.dumps(event).encode()
    headers = {"X-Signature": mac(SECRET, body).hex(), "Content-Type": "application/json"}
    return client.post("/v1/webhooks/helpdesk", data=body, headers=headers)


def changed(event: object, key: str, value: object, *, of: str = "") -> object:
    """The event with another value wherever a key, or else the value, matches the pattern."""
    if isinstance(event, list):
        return [changed(one, key, value, of=of) for one in event]
    if isinstance(event, dict):
        return {name: changed(one, key, value, of=name) for name, one in event.items()}
    if key and re.search(key, of):
        return value
    is_number = not key and re.sub("[^0-9]", "", str(event))[-10:] == NUMBER
    return value if is_number else event


def without_usable_number(recipe: str) -> object:
    return changed(SENDERS[recipe].event, "", "+529995551234")
