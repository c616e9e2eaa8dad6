"""Addresses, methods and request ids: what every route has in common."""

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from gateway.app import create_app
from gateway.version import VERSION
from tests.support.api import ADDRESS, SECURITY, UNKNOWN, UNKNOWN_ID, ok, post, refusal
from tests.support.factories import BEARER, NUMBER, make_settings


@pytest.mark.parametrize(
    "address",
    [
        "/v1",
        "/v1/",
        "/v2/opt-outs",
        "/v1/optouts",
        "/V1/opt-outs",
        "//v1/opt-outs",
        "/v1//opt-outs",
        "/v1/opt-outs/1",
        "/v1/opt-outs/0aa50109",
        f"{UNKNOWN}/attempts/x",
        f"{UNKNOWN}/delete",
        "/v1/opt-outs/%00",
        "/v1/opt-outs/%ff%fe",
        "/v1/opt-outs/..%2f..%2fetc",
        "/static/x",
        "/favicon.ico",
        "/problems/9995551234",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_address_is_a_problem(
    refused_client: FlaskClient, address: str, method: str
) -> None:
    body = refusal(refused_client.open(address, method=method))

    assert body["code"] in ("not_found", "method_not_allowed")
    if method == "GET" or not address.startswith("/problems"):
        assert body["code"] == "not_found"
    assert "9995551234" not in str(body)


@pytest.mark.parametrize(
    ("method", "address", "allowed"),
    [
        ("GET", ADDRESS, {"POST", "OPTIONS"}),
        ("HEAD", ADDRESS, {"POST", "OPTIONS"}),
        ("PUT", ADDRESS, {"POST", "OPTIONS"}),
        ("PATCH", ADDRESS, {"POST", "OPTIONS"}),
        ("DELETE", ADDRESS, {"POST", "OPTIONS"}),
        ("TRACE", ADDRESS, {"POST", "OPTIONS"}),
        ("OPTOUT", ADDRESS, {"POST", "OPTIONS"}),
        ("GET", f"{ADDRESS}/search", {"POST", "OPTIONS"}),
        ("POST", UNKNOWN, {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", UNKNOWN, {"GET", "HEAD", "OPTIONS"}),
        ("POST", f"{UNKNOWN}/attempts", {"GET", "HEAD", "OPTIONS"}),
        ("GET", f"{UNKNOWN}/retry", {"POST", "OPTIONS"}),
        ("POST", "/healthz", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/problems/not_found", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_method_that_is_not_allowed_is_refused_with_those_that_are(
    refused_client: FlaskClient, method: str, address: str, allowed: set[str]
) -> None:
    answer = refused_client.open(address, method=method)

    assert set(answer.headers["Allow"].split(", ")) == allowed
    assert answer.status_code == 405
    if method != "HEAD":
        found = refusal(answer)
        listed = ", ".join(sorted(allowed))
        detail = f"This address does not accept the method. It accepts {listed}."
        assert found["code"] == "method_not_allowed"
        assert str(found["detail"]).startswith(detail)


@pytest.mark.parametrize("address", [ADDRESS, f"{ADDRESS}/", f"{ADDRESS}/search"])
def test_a_get_of_all_opt_outs_is_told_how_to_search(
    refused_client: FlaskClient, address: str
) -> None:
    answer = refused_client.get(address)

    assert refusal(answer) == {
        "code": "method_not_allowed",
        "detail": "This address does not accept the method. It accepts OPTIONS, POST. "
        "To search, use POST /v1/opt-outs/search.",
    }
    assert set(answer.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


@pytest.mark.parametrize("opt_out", ["nope", "1", UNKNOWN_ID.replace("-", ""), NUMBER])
@pytest.mark.parametrize("rest", ["", "/attempts", "/"])
def test_what_cannot_be_an_id_is_answered_with_what_an_id_looks_like(
    refused_client: FlaskClient, opt_out: str, rest: str
) -> None:
    assert refusal(refused_client.get(f"{ADDRESS}/{opt_out}{rest}")) == {
        "code": "not_found",
        "detail": "Nothing found at this address. "
        "The id of an opt-out looks like 8e03978e-40d5-43dd-bc93-6894a57f9324.",
    }


def test_a_trailing_slash_makes_no_difference(client: FlaskClient) -> None:
    made = ok(post(client, {"phone_number": NUMBER}, address=f"{ADDRESS}/"))
    found = ok(post(client, {}, address=f"{ADDRESS}/search/"))

    assert found["items"] == [made]
    assert ok(client.get(f"{ADDRESS}/{made['id']}/", headers=BEARER)) == made
    assert client.get("/healthz/").status_code == 200


def test_json_ends_with_a_newline(client: FlaskClient) -> None:
    answers = [
        post(client, {"phone_number": NUMBER}),
        post(client, {"phone_number": "x"}),
        post(client, {}, address=f"{ADDRESS}/search"),
        *(client.get(address) for address in ("/", "/healthz", "/readyz", "/openapi.json", "/x")),
    ]

    assert {answer.data[-2:] for answer in answers} == {b"}\n"}


def test_the_root_leads_a_browser_to_the_documentation(refused_client: FlaskClient) -> None:
    browser = refused_client.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    program = refused_client.get("/")

    assert (browser.status_code, browser.headers["Location"]) == (302, "/docs")
    assert program.get_json() == {
        "name": "CRM Text opt-out gateway",
        "version": VERSION,
        "documentation": "/docs",
        "openapi": "/openapi.json",
        "health": "/healthz",
        "readiness": "/readyz",
    }
    assert browser.headers["Vary"] == program.headers["Vary"] == "Accept"


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        (ADDRESS, {"POST", "OPTIONS"}),
        (UNKNOWN, {"GET", "HEAD", "OPTIONS"}),
        ("/healthz", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_options_lists_the_methods_and_needs_no_key(
    refused_client: FlaskClient, address: str, allowed: set[str]
) -> None:
    answer = refused_client.options(address)

    assert (answer.status_code, answer.data) == (200, b"")
    assert set(answer.headers["Allow"].split(", ")) == allowed
    assert {name: answer.headers.get(name) for name in SECURITY} == SECURITY


def test_head_is_get_without_the_body(client: FlaskClient) -> None:
    opt_out = ok(post(client, {"phone_number": NUMBER}))
    address = f"{ADDRESS}/{opt_out['id']}"

    whole, head = (client.open(address, method=m, headers=BEARER) for m in ("GET", "HEAD"))

    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["Content-Length"] == str(len(whole.data))
    assert client.head(address).status_code == 401


def test_a_bug_is_a_problem_that_shows_nothing_of_the_inside(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> str:
        raise RuntimeError("the inside of 9995551234")

    app.add_url_rule("/broken", view_func=broken)

    body = refusal(app.test_client().get("/broken"))

    assert body == {
        "code": "internal_error",
        "detail": "Unexpected error. Search the gateway's log for this request_id.",
    }
    assert [record.message for record in caplog.records if record.exc_info] == ["unexpected error"]


@pytest.mark.parametrize("given", ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", "a:b_c.d"])
def test_a_valid_request_id_comes_back(refused_client: FlaskClient, given: str) -> None:
    headers = {"X-Request-ID": given}

    assert refused_client.get("/healthz", headers=headers).headers["X-Request-ID"] == given
    problem = refused_client.get("/nothing", headers=headers)
    assert problem.headers["X-Request-ID"] == given
    assert problem.get_json(force=True)["request_id"] == given


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", "a,b", "<a>", "\u00e9"])
def test_any_other_request_id_is_replaced_by_a_new_one(
    refused_client: FlaskClient, given: str | None
) -> None:
    headers = {} if given is None else {"X-Request-ID": given}

    ids = {
        refused_client.get("/healthz", headers=headers).headers["X-Request-ID"] for _ in range(3)
    }

    assert len(ids) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)


def test_the_health_check_needs_neither_ledger_nor_crm_text() -> None:
    client = create_app(make_settings()).test_client()

    assert ok(client.get("/healthz")) == {"status": "ok"}
