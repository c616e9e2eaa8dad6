"""Who the sandbox listens to, and what it remembers of calls."""

import base64
import json
import time
from contextlib import suppress
from datetime import datetime
from http.client import HTTPConnection
from io import FileIO
from pathlib import Path

import pytest

from gateway.sandbox.server import PATH, Sandbox
from tests.support.factories import NUMBER
from tests.support.fake_crmtext import xml
from tests.support.sandbox_calls import Answer, ask, basic, connect, status_of


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"\xff:p:PIZZA").decode(),
        "Bearer " + basic().split()[1],
        basic("user:pass"),
        basic(":pass:PIZZA"),
        basic("user::PIZZA"),
        basic("user:wrong:PIZZA"),
        basic("user:pass:"),
        basic("user:pass:PIZ"),
        basic("user:pass:P" + "I" * 19),
        basic("user:pass:PIZ ZA"),
        basic("user:pass:12345"),
    ],
)
def test_unusable_credentials_are_unauthorized(client: HTTPConnection, authorization: str) -> None:
    answer = ask(client, authorization=authorization)

    assert (answer.status, answer.body) == (401, xml("401", "Unauthorized"))
    assert answer.headers["WWW-Authenticate"] == "Basic"


@pytest.mark.parametrize(
    "auth_string", ["u:p:PIZZ", "u:p:" + "P" * 19, "u:p:1234A", "u:wrong:p:PIZZA", "u:ü:PIZZA"]
)
def test_usable_credentials_are_accepted(client: HTTPConnection, auth_string: str) -> None:
    assert ask(client, authorization=basic(auth_string)).status == 200


def test_any_other_path_is_an_html_page_that_says_not_found(client: HTTPConnection) -> None:
    answer = ask(client, path="/smapi")

    assert (answer.status, answer.headers["Content-Type"]) == (404, "text/html")
    assert answer.body == b"<html><h1>Not Found</h1></html>"


def test_get_requests_are_refused(client: HTTPConnection) -> None:
    answer = ask(client, verb="GET")

    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


def test_the_record_has_every_call_as_it_came(sandbox: Sandbox, client: HTTPConnection) -> None:
    before = time.monotonic()
    ask(client, authorization=basic("u:p:pizza"))
    ask(client, verb="GET", path="/elsewhere?x", authorization="")

    first, second = sandbox.calls
    assert before <= first.received_at <= second.received_at <= time.monotonic()
    assert (first.verb, first.path, first.authorization) == ("POST", PATH, basic("u:p:pizza"))
    assert (first.store, first.method) == ("PIZZA", "optoutcustomer")
    assert first.phone_number == NUMBER
    assert first.form == {"method": "optoutcustomer", "phone_number": NUMBER}
    assert (second.verb, second.path, second.store) == ("GET", "/elsewhere?x", "")


def test_the_record_shows_which_calls_shared_a_connection(sandbox: Sandbox) -> None:
    for calls in (2, 3):
        connection = connect(sandbox)
        for _ in range(calls):
            ask(connection)
        connection.close()

    assert [call.connection for call in sandbox.calls] == [1, 1, 2, 2, 2]
    assert sandbox.connections == 2


def test_the_record_hides_credentials_when_printed(
    sandbox: Sandbox, client: HTTPConnection
) -> None:
    ask(client, password="hunter2")

    assert basic() not in repr(sandbox.calls)
    assert "hunter2" not in repr(sandbox.calls)


def test_a_stopped_sandbox_answers_nobody_over_old_connections_either() -> None:
    with Sandbox() as sandbox:
        connection = connect(sandbox)
        ask(connection)

    with pytest.raises(ConnectionError):
        ask(connection)
    connection.close()
    with pytest.raises(ConnectionRefusedError):
        connect(sandbox).connect()


def test_the_log_has_one_line_a_call_with_the_number_masked_and_no_credentials(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    with FileIO(path, "w") as log, Sandbox(log=log) as sandbox:
        client = connect(sandbox)
        ask(client)
        ask(client)
        ask(client, NUMBER, "", authorization=basic("user:pass"), path=f"/{NUMBER}")
        ask(client, phone_number="9995550422")
        with suppress(ConnectionError):
            ask(client, phone_number="9995550702")
        client.close()

    common = {"method": "optoutcustomer", "store": "PIZZA", "phone_number": "******1234"}
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {**common, "http_status": 200, "status": "200"},
        {**common, "http_status": 200, "status": "400"},
        {
            "method": None,
            "store": "",
            "phone_number": "******",
            "http_status": 404,
            "status": None,
        },
        {**common, "phone_number": "******0422", "http_status": 200, "status": "422"},
        {**common, "phone_number": "******0702", "http_status": None, "status": None},
    ]


def held(client: HTTPConnection, verb: str = "GET", path: str = "/customers") -> Answer:
    client.request(verb, path)
    response = client.getresponse()
    return Answer(response.status, dict(response.getheaders()), response.read())


def test_the_sandbox_says_which_customers_it_holds(client: HTTPConnection) -> None:
    ask(client)
    ask(client, "optincustomer", "9995550001", authorization=basic("u:p:BURGER"), firstname="Ada")
    ask(client, "getcustomerinfo", "9995550002")

    answer = held(client)

    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    items = json.loads(answer.body)["items"]
    assert all(datetime.fromisoformat(item.pop("changed")) for item in items)
    assert items == [
        {"store": "BURGER", "phone_number": "9995550001", "status": "opted_in", "name": "Ada"},
        {"store": "PIZZA", "phone_number": NUMBER, "status": "opted_out", "name": "John Queue"},
    ]


def test_the_sandbox_forgets_everything_when_reset(client: HTTPConnection) -> None:
    for _ in range(3):
        ask(client)
        ask(client, phone_number="9995550502")

    answer = held(client, "POST", "/reset")

    assert (answer.status, json.loads(answer.body)) == (200, {"items": []})
    assert status_of(client) == "3"
    assert ask(client, phone_number="9995550502").status == 500
