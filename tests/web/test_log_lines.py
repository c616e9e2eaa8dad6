"""The line that each request leaves in the log: what an operator can follow and search for."""

import json
import logging

import pytest
from flask import Flask
from flask.testing import FlaskClient

from gateway.app import create_app
from gateway.logs import JsonFormatter
from tests.support.api import ADDRESS, SEARCH, UNKNOWN, post
from tests.support.factories import BEARER, NUMBER, make_settings
from tests.support.fake_crmtext import FakeCrmText, Reply, xml

SOURCE = """
[helpdesk]
secret_env = "HELPDESK_SECRET"
opt_out = "event == 'stop'"
phone_numbers = "phone"
signature = {scheme = "token", header = "X-Token"}
"""


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="gateway.app")
    return caplog


def written(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """The lines as they are written, without what differs from request to request."""
    formatted = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    return [
        {name: line[name] for name in line.keys() - {"time", "logger", "request_id", "seconds"}}
        for line in formatted
    ]


def answered(caplog: pytest.LogCaptureFixture) -> dict[str, object]:
    """The last request's line."""
    return [line for line in written(caplog) if line["message"] == "request answered"][-1]


def line(**members: object) -> dict[str, object]:
    made = {
        "level": "info",
        "message": "request answered",
        "method": "POST",
        "route": ADDRESS,
        "status": 200,
        "caller": "billing",
    }
    return made | members


def test_an_opt_out_is_named_with_its_store(
    client: FlaskClient, lines: pytest.LogCaptureFixture
) -> None:
    made = post(client, {"phone_number": NUMBER}).get_json()
    about = {"opt_out": made["id"], "store": "PIZZA"}
    assert answered(lines) == line(**about)

    client.get(f"{ADDRESS}/{made['id']}", headers=BEARER)
    route = f"{ADDRESS}/<uuid:opt_out_id>"
    assert answered(lines) == line(method="GET", route=route, **about)


def test_an_opt_out_that_crmtext_refuses_is_named_with_its_code(
    client: FlaskClient, crmtext: FakeCrmText, lines: pytest.LogCaptureFixture
) -> None:
    crmtext.answers(Reply(404, xml("404", "no such customer")))
    made = post(client, {"phone_number": NUMBER}).get_json(force=True)["opt_out"]["id"]

    assert answered(lines) == line(
        status=404, opt_out=made, store="PIZZA", code="customer_not_found"
    )


def test_several_opt_outs_are_all_named(
    client: FlaskClient, lines: pytest.LogCaptureFixture
) -> None:
    made = post(client, {"phone_number": NUMBER, "store": "*"}).get_json()["items"]

    ids = [one["id"] for one in made]
    assert answered(lines) == line(opt_outs=ids, stores=["BURGER", "PIZZA"])


def test_a_webhooks_opt_outs_are_named_and_only_the_first_of_very_many(
    database_url: str, lines: pytest.LogCaptureFixture
) -> None:
    settings = make_settings(
        DATABASE_URL=database_url, WEBHOOK_SOURCES=SOURCE, HELPDESK_SECRET="a-token"
    )
    client = create_app(settings).test_client()

    def send(*numbers: str) -> list[str]:
        events = {"event": "stop", "phone": list(numbers)}
        headers = {"X-Token": "a-token"}
        answer = client.post("/v1/webhooks/helpdesk", json=events, headers=headers)
        return [one["id"] for one in answer.get_json()["opt_outs"]]

    (one,) = send(NUMBER)
    about = line(route="/v1/webhooks/<source>", status=202, caller=None)
    assert answered(lines) == about | {"opt_out": one, "store": "PIZZA"}

    many = send(*(f"99955501{n}" for n in range(10, 40)))
    assert len(many) == 30
    assert answered(lines) == about | {"opt_outs": many[:20], "stores": ["PIZZA"]}


def test_a_refused_request_is_logged_with_its_code_only(
    client: FlaskClient, lines: pytest.LogCaptureFixture
) -> None:
    post(client, {"phone_number": "9995551"})
    assert answered(lines) == line(status=422, code="validation_failed")

    client.get(UNKNOWN, headers=BEARER)
    route = f"{ADDRESS}/<uuid:opt_out_id>"
    assert answered(lines) == line(method="GET", route=route, status=404, code="not_found")


@pytest.mark.parametrize(
    ("database", "why"),
    [
        ("sqlite:////nowhere/gateway.db", "there is no database file at /nowhere/gateway.db"),
        ("postgresql://pizzeria:hush-hush@127.0.0.1:9/gateway", "connection refused"),
        ("postgresql://pizzeria:hush-hush@gateway.invalid/gateway", "the host name cannot be"),
    ],
)
def test_an_unusable_database_is_a_warning_that_says_why_without_its_address(
    database: str, why: str, lines: pytest.LogCaptureFixture
) -> None:
    client = create_app(make_settings(DATABASE_URL=database)).test_client()
    post(client, {"limit": 1}, address=SEARCH)

    found = answered(lines)
    assert why in str(found.pop("why"))
    assert found == line(level="warning", route=SEARCH, status=503, code="ledger_unavailable")
    assert "hush" not in json.dumps(written(lines))


def test_a_bug_is_logged_with_its_class_message_and_place_and_without_a_number(
    app: Flask, lines: pytest.LogCaptureFixture
) -> None:
    def broken() -> str:
        raise RuntimeError("the inside of 9995551234")

    app.add_url_rule("/broken", view_func=broken)
    app.test_client().get("/broken")

    bug = next(line for line in written(lines) if line["message"] == "unexpected error")
    exception = str(bug["exception"])
    assert (bug["level"], bug["error"]) == ("error", "RuntimeError")
    assert exception.endswith("RuntimeError: the inside of ******1234")
    assert "test_log_lines.py" in exception
    assert answered(lines) == line(
        level="warning",
        method="GET",
        route="/broken",
        status=500,
        caller=None,
        code="internal_error",
        why="Unexpected error. Search the gateway's log for this request_id.",
    )
