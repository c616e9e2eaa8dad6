"""What a sender of webhooks is answered, for each recipe."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from gateway.app import create_app
from gateway.consent import OptOut, Status
from gateway.settings import Settings
from tests.support.factories import BEARER, make_settings
from tests.support.fake_crmtext import FakeCrmText
from tests.support.signing import NUMBER, SECRET, SENDERS, Message, mac
from tests.support.webhooks import (
    HOOKS,
    PUBLIC_URL,
    RECIPES,
    SAMPLES,
    changed,
    media_type,
    on_record,
    post,
    signed,
    without_usable_number,
)

JSON_RECIPES = [recipe for recipe in RECIPES if not SENDERS[recipe].form]


def another(recipe: str) -> Message:
    """The same person's opt-out under a new message id, or with a new body where there is none."""
    event = changed(SENDERS[recipe].event, "(?i)(^|[a-z_])id$", "4711")
    if isinstance(event, dict):
        event = {**event, "again": "yes"}
    return signed(recipe, event, delivery_id="delivery-2")


def assert_problem(response: TestResponse, status: int, code: str) -> str:
    """It is that problem and tells nothing of the secret; its detail."""
    problem = response.get_json(force=True)
    assert response.content_type == "application/problem+json"
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert SECRET not in response.text
    return str(problem["detail"])


def assert_answered(recipe: str, response: TestResponse, opt_outs: list[OptOut]) -> None:
    """It is what the recipe's sender expects to hear of these opt-outs."""
    if recipe == "twilio":
        assert (response.status_code, response.text) == (200, "<Response/>")
        assert response.content_type == "text/xml"
        return
    assert (response.status_code, response.content_type) == (202, "application/json")
    assert response.get_json() == {
        "accepted": len(opt_outs),
        "ignored": 0,
        "opt_outs": [
            {"id": one.id, "status": one.status, "location": f"/v1/opt-outs/{one.id}"}
            for one in opt_outs
        ],
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_opt_out_is_on_record_before_the_answer_and_sent_later(
    recipe: str, client: FlaskClient, settings: Settings, crmtext: FakeCrmText
) -> None:
    response = post(client, recipe, signed(recipe))
    [opt_out] = on_record(settings)
    assert_answered(recipe, response, [opt_out])
    assert opt_out.status is Status.PENDING
    assert (opt_out.phone_number, opt_out.store) == (NUMBER, "PIZZA")
    assert opt_out.source == f"webhook:{recipe}"
    assert opt_out.next_attempt_at == opt_out.created_at
    assert crmtext.calls == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_repeat_names_the_opt_outs_of_the_first(
    recipe: str, client: FlaskClient, settings: Settings
) -> None:
    message = signed(recipe)
    post(client, recipe, message)
    later = replace(message, sent_at=message.sent_at + timedelta(seconds=30))
    response = post(client, recipe, later)
    [opt_out] = on_record(settings)
    assert_answered(recipe, response, [opt_out])


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_person_later_is_another_opt_out(
    recipe: str, client: FlaskClient, settings: Settings
) -> None:
    post(client, recipe, signed(recipe))
    [first] = on_record(settings)
    response = post(client, recipe, another(recipe))
    second, also_first = on_record(settings)
    assert also_first == first
    assert (second.phone_number, second.status) == (NUMBER, Status.PENDING)
    assert_answered(recipe, response, [second])


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_not_signed_with_the_secret_is_401(
    recipe: str, client: FlaskClient, settings: Settings
) -> None:
    sender, message = SENDERS[recipe], signed(recipe)
    wrong = sender.headers("whsec_b3RoZXI=", message)
    detail = assert_problem(post(client, recipe, message, wrong), 401, "unauthorized")
    assert detail == "The webhook signature is wrong."
    detail = assert_problem(post(client, recipe, message, {}), 401, "unauthorized")
    assert detail == "The webhook signature is missing."
    if sender.signs_body:
        right = sender.headers(SECRET, message)
        forged = replace(message, body=message.body.replace(b"1234", b"1235"))
        assert_problem(post(client, recipe, forged, right), 401, "unauthorized")
    assert on_record(settings) == []


@pytest.mark.parametrize("recipe", [name for name in RECIPES if SENDERS[name].times])
@pytest.mark.parametrize(("days", "which"), [(-8, "too old"), (1, "in the future")])
def test_a_time_out_of_tolerance_is_401(
    recipe: str, days: int, which: str, client: FlaskClient, settings: Settings
) -> None:
    sent_at = datetime.now(UTC) + timedelta(days=days)
    response = post(client, recipe, replace(signed(recipe), sent_at=sent_at))
    detail = assert_problem(response, 401, "unauthorized")
    assert detail == f"The webhook timestamp is {which}."
    assert on_record(settings) == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_unusable_number_is_on_record_and_counts(
    recipe: str, client: FlaskClient, settings: Settings
) -> None:
    response = post(client, recipe, signed(recipe, without_usable_number(recipe)))
    [opt_out] = on_record(settings)
    assert_answered(recipe, response, [opt_out])
    assert (opt_out.status, opt_out.phone_number) == (Status.REJECTED, None)
    assert opt_out.next_attempt_at is None
    if recipe == "twilio":
        return
    shown = client.get(response.get_json()["opt_outs"][0]["location"], headers=BEARER).get_json()
    assert shown["phone_number"] is None
    assert shown["error"] == {
        "code": "invalid_phone_number",
        "detail": "The phone number is from another country; "
        "only US numbers (+1) can be opted out.",
        "crmtext": None,
    }
    assert shown["phone_number_received"] == "+529995551234"
    assert "5299955" not in json.dumps(shown["error"])


@pytest.mark.parametrize("recipe", JSON_RECIPES)
def test_another_event_is_200_and_ignored(
    recipe: str, client: FlaskClient, settings: Settings
) -> None:
    event = SENDERS[recipe].event
    other = [{"hello": "world"}] if isinstance(event, list) else {"hello": "world"}
    response = post(client, recipe, signed(recipe, other))
    ignored = 0 if recipe == "klaviyo" else 1  # its events are a list that is not there
    assert response.status_code == 200
    assert response.get_json() == {"accepted": 0, "ignored": ignored, "opt_outs": []}
    assert on_record(settings) == []


@pytest.mark.parametrize("recipe", JSON_RECIPES)
def test_an_unreadable_body_is_400(recipe: str, client: FlaskClient, settings: Settings) -> None:
    message = signed(recipe)
    for body in (b"", b"{", b"\xff", b'{"a": 1, "a": 2}', b"[" * 100_000):
        assert_problem(post(client, recipe, replace(message, body=body)), 400, "invalid_json")
    assert on_record(settings) == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_wrong_type_an_encoding_and_a_large_body_are_refused(
    recipe: str, client: FlaskClient, settings: Settings
) -> None:
    message = signed(recipe)
    headers = SENDERS[recipe].headers(SECRET, message)
    text = post(client, recipe, message, {**headers, "Content-Type": "text/plain"})
    assert_problem(text, 415, "unsupported_media_type")
    gzip = post(client, recipe, message, {**headers, "Content-Encoding": "gzip"})
    assert_problem(gzip, 415, "unsupported_media_type")
    large = replace(message, body=b" " * (1024 * 1024 + 1))
    assert_problem(post(client, recipe, large), 413, "payload_too_large")
    assert on_record(settings) == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_cannot_be_stored_is_503_so_that_the_sender_retries(
    recipe: str, tmp_path: Path
) -> None:
    away = make_settings(DATABASE_URL=f"sqlite:///{tmp_path}/no/such/folder.db", **HOOKS)
    response = post(create_app(away).test_client(), recipe, signed(recipe))
    assert_problem(response, 503, "ledger_unavailable")
    assert response.headers["Retry-After"] == "5"


def test_an_unknown_source_is_404(client: FlaskClient) -> None:
    assert_problem(client.post("/v1/webhooks/nobody", json={}), 404, "not_found")


def test_webhooks_must_be_posted(client: FlaskClient) -> None:
    response = client.get("/v1/webhooks/shopify")
    assert_problem(response, 405, "method_not_allowed")
    assert set(response.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}


def test_a_body_of_one_mebibyte_is_accepted(client: FlaskClient) -> None:
    body = json.dumps({"stop": 1, "phones": NUMBER}).encode().ljust(1024 * 1024)
    headers = {"X-Signature": mac(SECRET, body).hex(), "Content-Type": "application/json"}
    response = client.post("/v1/webhooks/helpdesk", data=body, headers=headers)
    assert response.status_code == 202


def test_a_body_without_a_type_is_read_as_the_sources_own_type(client: FlaskClient) -> None:
    message = signed("shopify")
    headers = SENDERS["shopify"].headers(SECRET, message)
    response = client.post("/v1/webhooks/shopify", data=message.body, headers=headers)
    assert response.status_code == 202


def test_a_list_is_refused_where_only_its_first_element_is_signed(
    client: FlaskClient, settings: Settings
) -> None:
    message = replace(signed("segment"), body=(SAMPLES / "segment_batch.json").read_bytes())
    detail = assert_problem(post(client, "segment", message), 400, "invalid_request")
    assert detail == "The body is a list; this source sends one event at a time."
    assert on_record(settings) == []


def test_a_form_that_is_not_utf_8_is_400(client: FlaskClient) -> None:
    # Twilio's signature is of the form's fields, so that what has none is not believed first.
    message = replace(signed("twilio"), body=b"Body=%ff")
    headers = {"X-Twilio-Signature": "YWJj"}
    assert_problem(post(client, "twilio", message, headers), 401, "unauthorized")
    sources = (
        "[form]\nsecret_env = 'HOOK_SECRET'\nbody = 'form'\nopt_out = 'stop'\n"
        "phone_numbers = 'phone'\nsignature = {header = 'X-Signature'}"
    )
    form = create_app(make_settings(**HOOKS | {"WEBHOOK_SOURCES": sources})).test_client()
    response = form.post(
        "/v1/webhooks/form",
        data=message.body,
        headers={"X-Signature": mac(SECRET, message.body).hex(), **media_type("twilio")},
    )
    assert_problem(response, 400, "invalid_request")


@pytest.mark.parametrize(
    ("signed_with", "status"),
    [
        (PUBLIC_URL, 200),
        (f"{PUBLIC_URL}:443", 200),
        (f"{PUBLIC_URL}:8443", 401),
        ("http://gateway.example.com", 401),
        ("http://localhost", 401),
    ],
)
def test_twilio_signs_the_public_url_with_or_without_its_port(
    signed_with: str, status: int, client: FlaskClient
) -> None:
    message = signed("twilio")
    url = f"{signed_with}/v1/webhooks/twilio"
    headers = SENDERS["twilio"].headers(SECRET, replace(message, url=url))
    assert post(client, "twilio", message, headers).status_code == status


@pytest.mark.parametrize("recipe", ["hubspot", "twilio"])
def test_the_query_is_signed_too(recipe: str, client: FlaskClient) -> None:
    message = signed(recipe)
    queried = replace(message, url=f"{message.url}?b=%2F&a=1")
    assert post(client, recipe, queried).status_code in (200, 202)
    headers = SENDERS[recipe].headers(SECRET, message)
    assert post(client, recipe, queried, headers).status_code == 401


@pytest.mark.parametrize("recipe", ["hubspot", "twilio"])
def test_the_host_header_is_not_what_is_signed(recipe: str, client: FlaskClient) -> None:
    message = signed(recipe)
    elsewhere = replace(message, url=f"https://evil.example.com/v1/webhooks/{recipe}")
    headers = SENDERS[recipe].headers(SECRET, elsewhere)
    forged = {**headers, "Host": "evil.example.com", "X-Forwarded-Host": "evil.example.com"}
    assert post(client, recipe, message, forged).status_code == 401


def test_a_public_url_may_have_a_path(settings: Settings) -> None:
    under = f"{PUBLIC_URL}/gateway"
    app = create_app(replace(settings, public_url=under))
    message = signed("hubspot")
    url = f"{under}/v1/webhooks/hubspot"
    headers = SENDERS["hubspot"].headers(SECRET, replace(message, url=url))
    assert post(app.test_client(), "hubspot", message, headers).status_code == 202
