"""The API as tests use it: requests, and answers that are checked whole."""

import json
import re
import sqlite3
from collections.abc import Mapping

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from gateway.assembly import open_crmtext, open_ledger
from gateway.delivery.attempts import Attempts
from gateway.errors import ERRORS, ErrorCode
from gateway.settings import Settings
from tests.support.factories import BEARER, NUMBER
from tests.support.fake_crmtext import xml

ADDRESS = "/v1/opt-outs"
UNKNOWN_ID = "0aa50109-1da7-45b8-ba01-486ce4abb337"
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?Z")
SECURITY = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
}
ANSWER = xml(
    custId="1234567891011",
    subacct="456",
    timestamp="2014-08-11 14:23:36",
    optinStatus="5",
    custName="John Queue",
    custMobile=NUMBER,
)
CUSTOMER = {
    "id": "1234567891011",
    "name": "John Queue",
    "status": "opted_out",
    "store_id": "456",
    "phone_number": NUMBER,
    "updated_at": "2014-08-11T21:23:36Z",
}
RESOURCE = {
    "id": "ID",
    "status": "opted_out",
    "phone_number": NUMBER,
    "store": "PIZZA",
    "reference": None,
    "reason": None,
    "means": None,
    "source": "api:billing",
    "customer": CUSTOMER,
    "already_opted_out": False,
    "attempts": 1,
    "error": None,
    "requested_at": "TIME",
    "created_at": "TIME",
    "opted_out_at": "TIME",
    "next_attempt_at": None,
    "phone_number_received": NUMBER,
    "request_id": "REQUEST_ID",
    "delivery_id": None,
}


def post(
    client: FlaskClient, body: object, headers: Mapping[str, str] = BEARER, address: str = ADDRESS
) -> TestResponse:
    """Posts JSON, or bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(
        address, data=content, headers={"Content-Type": "application/json", **headers}
    )


def steady(body: dict[str, object]) -> dict[str, object]:
    """A resource with what is new each time replaced by its kind."""
    assert ID.fullmatch(str(body["id"]))
    times = ("requested_at", "created_at", "opted_out_at", "next_attempt_at")
    known = {name: "TIME" for name in times if TIME.fullmatch(str(body[name]))}
    return {**body, **known, "id": "ID", "request_id": "REQUEST_ID"}


def ok(answer: TestResponse, status: int = 200) -> dict[str, object]:
    """The body of an answer that is no problem, its headers checked."""
    assert (answer.status_code, answer.content_type) == (status, "application/json")
    assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY
    assert answer.headers["X-Request-ID"]
    body = answer.get_json()
    assert isinstance(body, dict)
    return body


def refusal(answer: TestResponse) -> dict[str, object]:
    """The body of a problem without what its code alone decides, its headers checked."""
    body = answer.get_json(force=True)
    kind = ERRORS[ErrorCode(body["code"])]
    by_code = {
        "type": f"/problems/{body['code']}",
        "title": kind.title,
        "status": kind.status,
        "retryable": kind.retryable,
        "request_id": answer.headers["X-Request-ID"],
    }
    assert {name: body.pop(name) for name in by_code} == by_code
    assert (answer.status_code, answer.content_type) == (kind.status, "application/problem+json")
    assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY
    assert ("Retry-After" in answer.headers) == kind.retryable
    assert (answer.headers.get("WWW-Authenticate") == "Bearer") == (kind.status == 401)
    return dict(body)


def without_record(body: dict[str, object]) -> dict[str, object]:
    """A problem's body whose opt-out is shown to be where it says."""
    opt_out = body.pop("opt_out")
    assert isinstance(opt_out, dict)
    assert ID.fullmatch(opt_out["id"])
    assert opt_out == {"id": opt_out["id"], "location": f"{ADDRESS}/{opt_out['id']}"}
    return body


SEARCH = f"{ADDRESS}/search"
UNKNOWN = f"{ADDRESS}/{UNKNOWN_ID}"
PENDING = RESOURCE | {
    "status": "pending",
    "customer": None,
    "attempts": 0,
    "opted_out_at": None,
    "next_attempt_at": "TIME",
}
ASYNC = BEARER | {"Prefer": "respond-async"}
WAITING = BEARER | {"Prefer": "respond-async, wait=5"}
BODY = {"phone_number": NUMBER}


def deliver_due(settings: Settings) -> int:
    """What the worker does, once."""
    ledger = open_ledger(settings)
    attempts = Attempts(ledger, open_crmtext(settings))
    claims = ledger.claim_due(100, patience_seconds=0).claims
    for claim in claims:
        attempts.make(claim)
    return len(claims)


def change_ledger(settings: Settings, statement: str) -> None:
    connection = sqlite3.connect(settings.database_url.database or "")
    with connection:
        connection.execute(statement)
    connection.close()


def keyed(key: str, **more: str) -> dict[str, str]:
    return BEARER | {"Idempotency-Key": key, **more}


def read(client: FlaskClient, answer: TestResponse) -> dict[str, object]:
    """The opt-out that an answer is about, as it stands."""
    body = answer.get_json(force=True)
    opt_out_id = body["opt_out"]["id"] if "opt_out" in body else body["id"]
    return ok(client.get(f"{ADDRESS}/{opt_out_id}", headers=BEARER))
