"""What operators ask: health, readiness, metrics, and what a code means."""

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path

import pytest
import requests
from flask.testing import FlaskClient

from gateway.app import create_app
from gateway.assembly import open_ledger
from gateway.errors import ERRORS, ErrorCode
from gateway.ledger.intake import Entry
from gateway.ledger.webhook_messages import IGNORED, WebhookMessages
from gateway.settings import Settings
from gateway.web.problems import explanations
from tests.support.api import change_ledger
from tests.support.factories import (
    BEARER,
    BURGER_BEARER,
    NUMBER,
    make_environment,
    make_opt_out_request,
    make_settings,
    serve,
)
from tests.support.fake_crmtext import FakeCrmText
from tests.support.ledgers import database_without_tables

ELSEWHERE = {"REMOTE_ADDR": "203.0.113.7"}


def samples(text: str) -> Mapping[str, float]:
    """Every sample of a scrape by its name and labels."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


# --- health and readiness


def test_health_touches_nothing(crmtext: FakeCrmText, tmp_path: Path) -> None:
    file = tmp_path / "never.db"
    client = create_app(make_settings(DATABASE_URL=f"sqlite:///{file}")).test_client()
    response = client.get("/healthz")
    assert (response.status_code, response.get_json()) == (200, {"status": "ok"})
    assert not file.exists()
    assert crmtext.calls == []


def test_health_does_not_need_the_database() -> None:
    away = make_settings(DATABASE_URL="postgres://u:s3cret@127.0.0.1:9/x")
    assert create_app(away).test_client().get("/healthz").status_code == 200


def test_ready_when_the_ledger_is_of_this_release(
    client: FlaskClient, crmtext: FakeCrmText
) -> None:
    response = client.get("/readyz")
    assert (response.status_code, response.get_json()) == (200, {"status": "ready"})
    assert crmtext.calls == []


def not_ready(client: FlaskClient) -> str:
    """What the gateway says is not good."""
    response = client.get("/readyz")
    problem = response.get_json()
    assert (response.status_code, problem["code"]) == (503, "ledger_unavailable")
    assert response.headers["Retry-After"] == "5"
    detail: str = problem["detail"]
    return detail


OLD = "The database tables do not match this version; run 'python -m gateway release'."


def test_not_ready_while_the_tables_are_old(client: FlaskClient, settings: Settings) -> None:
    change_ledger(settings, "DELETE FROM alembic_version")
    assert not_ready(client) == OLD


def test_ready_while_a_newer_release_has_upgraded_the_tables(
    client: FlaskClient, settings: Settings
) -> None:
    change_ledger(settings, "UPDATE alembic_version SET version_num = '9999'")
    assert client.get("/readyz").status_code == 200


def test_not_ready_without_tables(tmp_path: Path) -> None:
    app = create_app(make_settings(DATABASE_URL=database_without_tables(tmp_path)))
    assert not_ready(app.test_client()) == OLD


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        (
            "sqlite:////no/such/folder/x.db",
            "there is no database file at /no/such/folder/x.db; put the right one there, or create "
            "a new one with 'python -m gateway release'",
        ),
        ("postgres://u:s3cret@127.0.0.1:9/x", "connection refused"),
    ],
)
def test_not_ready_while_the_database_is_down(url: str, cause: str) -> None:
    client = create_app(make_settings(DATABASE_URL=url)).test_client()
    assert not_ready(client) == f"The database cannot be used: {cause}."


# --- who may scrape


def test_a_program_on_this_machine_may_scrape(client: FlaskClient) -> None:
    for address in ("127.0.0.1", "127.8.9.1", "::1"):
        response = client.get("/metrics", environ_base={"REMOTE_ADDR": address})
        assert (response.status_code, address) == (200, address)
        assert response.content_type.startswith("text/plain; version=")


@pytest.mark.parametrize("environ", [ELSEWHERE, {"REMOTE_ADDR": ""}, {"REMOTE_ADDR": "localhost"}])
def test_others_need_a_key(environ: Mapping[str, str], client: FlaskClient) -> None:
    response = client.get("/metrics", environ_base=environ)
    assert (response.status_code, response.get_json()["code"]) == (401, "unauthorized")
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert client.get("/metrics", environ_base=environ, headers=BEARER).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        *["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP"],
        *["Via", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "X-Forwarded-Port"],
        *["X-Original-Forwarded-For", "X-Cluster-Client-IP", "X-Forwarded", "Fly-Client-IP"],
    ],
)
@pytest.mark.parametrize("text", ["127.0.0.1", "for=127.0.0.1", ""])
def test_a_request_through_a_proxy_is_not_from_this_machine(
    header: str, text: str, client: FlaskClient
) -> None:
    assert client.get("/metrics", headers={header: text}).status_code == 401
    spoofed = client.get("/metrics", headers={header: text}, environ_base=ELSEWHERE)
    assert spoofed.status_code == 401


def test_a_nonsensical_accept_header_is_ignored(client: FlaskClient) -> None:
    for version in ("zz", "1.x.0", ""):
        accept = f"application/openmetrics-text;version={version}"
        assert client.get("/metrics", headers={"Accept": accept}).status_code == 200


def test_a_key_bound_to_a_store_may_not_scrape(client: FlaskClient) -> None:
    for environ in ({}, ELSEWHERE):
        response = client.get("/metrics", headers=BURGER_BEARER, environ_base=environ)
        assert response.status_code == 403
        assert (response.get_json()["title"], response.get_json()["detail"]) == (
            "The API key may not do this",
            "Metrics are for keys that are not bound to stores.",
        )


def test_an_unknown_key_is_refused_even_on_this_machine(client: FlaskClient) -> None:
    response = client.get("/metrics", headers={"Authorization": "Bearer nobody's"})
    assert (response.status_code, response.get_json()["code"]) == (401, "unauthorized")


# --- what is counted


def test_the_ledgers_state_is_read_at_each_scrape(client: FlaskClient, settings: Settings) -> None:
    ledger = open_ledger(settings)
    before = samples(client.get("/metrics").text)
    assert before["ledger_up"] == 1
    assert before["optout_pending"] == 0
    assert before["optout_unusable_numbers_total"] == 0
    assert before["optout_oldest_pending_seconds"] == 0
    assert before["optout_worker_last_seen_timestamp_seconds"] == 0
    client.post("/v1/opt-outs", headers=BEARER, json={"phone_number": NUMBER})
    client.post("/v1/opt-outs", headers=BEARER, json={"phone_number": "9995550404"})
    ledger.accept([Entry([make_opt_out_request(source="webhook:shop")])])
    ledger.accept([Entry([make_opt_out_request("not a number", source="webhook:shop")])])
    change_ledger(
        settings,
        "UPDATE opt_outs SET created_at = datetime('now', '-90 seconds') WHERE status = 'pending'",
    )
    ledger.worker_is_alive()
    after = samples(client.get("/metrics").text)
    assert after['optouts{source="api:billing",status="opted_out"}'] == 1
    assert after['optouts{source="api:billing",status="rejected"}'] == 1
    assert after['optouts{source="webhook:shop",status="pending"}'] == 1
    assert after['optout_errors{code="customer_not_found",status="rejected",store="PIZZA"}'] == 1
    assert after['optout_attempts_total{outcome="opted_out"}'] == 1
    assert after['optout_attempts_total{outcome="customer_not_found"}'] == 1
    assert after["optout_pending"] == 1
    assert after["optout_unusable_numbers_total"] == 1
    assert 89 <= after["optout_oldest_pending_seconds"] <= 100
    assert after["optout_worker_last_seen_timestamp_seconds"] > 1.7e9


def test_a_scrape_tells_when_each_source_last_sent_something_good(
    client: FlaskClient, settings: Settings
) -> None:
    ledger = open_ledger(settings)
    messages = WebhookMessages(ledger.engine)
    messages.count("shop", "wrong_signature")
    messages.count("crm", "stale_timestamp")
    messages.flush()
    ledger.accept([Entry([make_opt_out_request(source="webhook:shop")])])
    found = samples(client.get("/metrics").text)
    good, bad = (
        "webhook_last_accepted_timestamp_seconds",
        "webhook_last_refused_timestamp_seconds",
    )
    refused_at = found[f'{bad}{{reason="wrong_signature",source="shop"}}']
    assert 1.7e9 < refused_at <= found[f'{good}{{source="shop"}}']
    assert found[f'{good}{{source="crm"}}'] == 0
    assert found[f'{bad}{{reason="stale_timestamp",source="crm"}}'] > 1.7e9


def test_an_ignored_message_is_a_good_one(client: FlaskClient, settings: Settings) -> None:
    messages = WebhookMessages(open_ledger(settings).engine)
    messages.count("shop", IGNORED)
    messages.flush()
    found = samples(client.get("/metrics").text)
    assert found['webhook_last_accepted_timestamp_seconds{source="shop"}'] > 1.7e9
    assert not any("last_refused" in name for name in found)


def test_an_unreachable_ledger_is_a_metric_and_not_an_error() -> None:
    settings = make_settings(DATABASE_URL="sqlite:////no/such/folder/x.db")
    response = create_app(settings).test_client().get("/metrics")
    assert response.status_code == 200
    found = samples(response.text)
    assert found["ledger_up"] == 0
    assert "optout_pending" not in found


def test_no_label_holds_a_number_an_id_or_what_a_caller_chose(client: FlaskClient) -> None:
    made = client.post("/v1/opt-outs", headers=BEARER, json={"phone_number": NUMBER}).get_json()
    client.get(f"/v1/opt-outs/{made['id']}", headers=BEARER)
    client.get(f"/{NUMBER}?number={NUMBER}")
    client.open("/healthz", method="BREW9995551234")
    client.post(f"/v1/webhooks/{NUMBER}", json={})
    text = client.get("/metrics", headers={"X-Request-ID": NUMBER}).text
    assert NUMBER not in text
    assert made["id"] not in text
    labels = set(re.findall(r'(?:route|method)="([^"]*)"', text))
    assert {"/v1/opt-outs/<uuid:opt_out_id>", "-", "POST", "GET"} <= labels
    assert 'route="/v1/webhooks/<source>"' in text


def test_the_openmetrics_form_is_given_when_asked_for(client: FlaskClient) -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    response = client.get("/metrics", headers=accept)
    assert response.content_type.startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


def test_all_web_processes_are_counted_together(
    crmtext: FakeCrmText, database_url: str, tmp_path: Path
) -> None:
    environment = make_environment(
        CRMTEXT_URL=crmtext.url, DATABASE_URL=database_url, CRMTEXT_RATE="50", WEB_CONCURRENCY="2"
    )
    with serve(environment, tmp_path) as served:
        for _ in range(30):
            # each over a connection of its own, so that both processes get some
            response = requests.post(
                f"{served.url}/v1/opt-outs",
                headers=BEARER,
                json={"phone_number": NUMBER},
                timeout=20,
            )
            assert response.status_code == 200
        scrapes = [
            samples(requests.get(f"{served.url}/metrics", timeout=20).text) for _ in range(4)
        ]
        proxied = requests.get(
            f"{served.url}/metrics", headers={"X-Forwarded-For": "127.0.0.1"}, timeout=20
        )
        assert proxied.status_code == 401
    route = 'method="POST",route="/v1/opt-outs",status="200"'
    for found in scrapes:
        assert found[f"http_request_duration_seconds_count{{{route}}}"] == 30
        assert found['crmtext_call_duration_seconds_count{outcome="opted_out"}'] == 30
        assert found["crmtext_pace_wait_seconds_count"] == 30
        assert found['optouts{source="api:billing",status="opted_out"}'] == 30


# --- what a code means


GATEWAY_RETRIES = {
    "crmtext_rate_limited",
    "crmtext_unavailable",
    "crmtext_unreachable",
    "crmtext_timeout",
    "crmtext_invalid_response",
}


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_has_its_page(code: ErrorCode, client: FlaskClient) -> None:
    kind = ERRORS[code]
    text = client.get(f"/problems/{code}")
    assert (text.status_code, text.content_type) == (200, "text/plain; charset=utf-8")
    assert text.headers["Vary"] == "Accept"
    again = f"yes, after {kind.retry_after} s or as Retry-After says" if kind.retryable else "no"
    if code in GATEWAY_RETRIES:
        again = "not for an opt-out, which the gateway retries by itself"
    assert text.text == (
        f"{code}\n\n{kind.title}.\n\n{explanations()[code]}\n\n"
        f"HTTP status: {kind.status}\nRetry the same request: {again}\n"
    )
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    page = client.get(f"/problems/{code}", headers=browser)
    assert (page.status_code, page.content_type) == (200, "text/html; charset=utf-8")
    assert page.text.startswith("<!doctype html>")
    assert f"<h1>{code}</h1>" in page.text
    assert f"<p>{escape(kind.title)}.</p>" in page.text


@pytest.mark.parametrize("code", ["<script>", "nothing", "INVALID_JSON", ""])
def test_an_unknown_code_has_no_page(client: FlaskClient, code: str) -> None:
    response = client.get(f"/problems/{code}")
    assert (response.status_code, response.get_json()["code"]) == (404, "not_found")
    assert "script" not in response.text
