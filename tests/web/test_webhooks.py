"""Webhooks over HTTP: what a sender is answered, and what is on record by then."""

import json
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
import requests
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from gateway.app import create_app
from gateway.assembly import open_ledger
from gateway.consent import OptOut, Status
from gateway.errors import ErrorCode
from gateway.ledger.search import Criteria
from gateway.settings import Settings
from gateway.webhooks.recipes import read_recipes
from tests.support.factories import BEARER, make_environment, make_settings, serve
from tests.support.fake_crmtext import FakeCrmText, Reply
from tests.support.signing import NUMBER, SECRET, SENDERS, Delivery, bearer, mac

RECIPES = sorted(read_recipes())
JSON_RECIPES = [recipe for recipe in RECIPES if not SENDERS[recipe].form]
SAMPLES = Path(__file__).parents[1] / "webhook_samples"
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


@pytest.fixture
def settings(crmtext: FakeCrmText, database_url: str) -> Settings:
    return make_settings(CRMTEXT_URL=crmtext.url, DATABASE_URL=database_url, **HOOKS)


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


def signed(recipe: str, event: object = None, *, delivery_id: str = "delivery-1") -> Delivery:
    """The recipe's opt-out, or another event, sent now to the source of that name."""
    url = f"{PUBLIC_URL}/v1/webhooks/{recipe}"
    delivery = SENDERS[recipe].delivery(event, sent_at=datetime.now(UTC), url=url)
    return replace(delivery, id=delivery_id)


def media_type(recipe: str) -> Mapping[str, str]:
    form = SENDERS[recipe].form
    return {"Content-Type": f"application/{'x-www-form-urlencoded' if form else 'json'}"}


def post(
    client: FlaskClient, recipe: str, delivery: Delivery, headers: Mapping[str, str] | None = None
) -> TestResponse:
    """Posts it, signed by its sender unless other ``headers`` are given."""
    if headers is None:
        headers = SENDERS[recipe].headers(SECRET, delivery)
    address = delivery.url.removeprefix(PUBLIC_URL)
    return client.post(address, data=delivery.body, headers={**media_type(recipe), **headers})


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


def another(recipe: str) -> Delivery:
    """The same person's opt-out under a new delivery id, or with a new body where there is none."""
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


# --- every recipe


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
    delivery = signed(recipe)
    post(client, recipe, delivery)
    later = replace(delivery, sent_at=delivery.sent_at + timedelta(seconds=30))
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
    sender, delivery = SENDERS[recipe], signed(recipe)
    wrong = sender.headers("whsec_b3RoZXI=", delivery)
    detail = assert_problem(post(client, recipe, delivery, wrong), 401, "unauthorized")
    assert detail == "The delivery is not believed: wrong signature."
    detail = assert_problem(post(client, recipe, delivery, {}), 401, "unauthorized")
    assert detail == "The delivery is not believed: missing signature."
    if sender.signs_body:
        right = sender.headers(SECRET, delivery)
        forged = replace(delivery, body=delivery.body.replace(b"1234", b"1235"))
        assert_problem(post(client, recipe, forged, right), 401, "unauthorized")
    assert on_record(settings) == []


@pytest.mark.parametrize("recipe", [name for name in RECIPES if SENDERS[name].times])
@pytest.mark.parametrize(("hours", "which"), [(-1, "stale"), (1, "future")])
def test_a_time_out_of_tolerance_is_401(
    recipe: str, hours: int, which: str, client: FlaskClient, settings: Settings
) -> None:
    sent_at = datetime.now(UTC) + timedelta(hours=hours)
    response = post(client, recipe, replace(signed(recipe), sent_at=sent_at))
    detail = assert_problem(response, 401, "unauthorized")
    assert detail == f"The delivery is not believed: {which} timestamp."
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
        "detail": "The phone number is of another country; only US numbers (+1) can be opted out.",
        "retryable": False,
        "crmtext": None,
    }
    assert "5299955" not in json.dumps(shown)


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
    delivery = signed(recipe)
    for body in (b"", b"{", b"\xff", b'{"a": 1, "a": 2}', b"[" * 100_000):
        assert_problem(post(client, recipe, replace(delivery, body=body)), 400, "invalid_json")
    assert on_record(settings) == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_wrong_type_a_coding_and_a_large_body_are_refused_unread(
    recipe: str, client: FlaskClient, settings: Settings
) -> None:
    delivery = signed(recipe)
    headers = SENDERS[recipe].headers(SECRET, delivery)
    text = post(client, recipe, delivery, {**headers, "Content-Type": "text/plain"})
    assert_problem(text, 415, "unsupported_media_type")
    gzip = post(client, recipe, delivery, {**headers, "Content-Encoding": "gzip"})
    assert_problem(gzip, 415, "unsupported_media_type")
    large = replace(delivery, body=b" " * (1024 * 1024 + 1))
    assert_problem(post(client, recipe, large), 413, "payload_too_large")
    assert on_record(settings) == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_cannot_be_stored_is_503_so_that_the_sender_repeats_it(
    recipe: str, tmp_path: Path
) -> None:
    away = make_settings(DATABASE_URL=f"sqlite:///{tmp_path}/no/such/folder.db", **HOOKS)
    response = post(create_app(away).test_client(), recipe, signed(recipe))
    assert_problem(response, 503, "ledger_unavailable")
    assert response.headers["Retry-After"] == "5"


# --- addresses and limits


def test_an_unknown_source_is_404(client: FlaskClient) -> None:
    assert_problem(client.post("/v1/webhooks/nobody", json={}), 404, "not_found")


def test_webhooks_come_with_post(client: FlaskClient) -> None:
    response = client.get("/v1/webhooks/shopify")
    assert_problem(response, 405, "method_not_allowed")
    assert set(response.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}


def test_a_body_of_one_mebibyte_is_taken(client: FlaskClient) -> None:
    body = json.dumps({"stop": 1, "phones": NUMBER}).encode().ljust(1024 * 1024)
    headers = {"X-Signature": mac(SECRET, body).hex(), "Content-Type": "application/json"}
    response = client.post("/v1/webhooks/helpdesk", data=body, headers=headers)
    assert response.status_code == 202


def test_a_body_without_a_type_is_taken_for_the_sources_own(client: FlaskClient) -> None:
    delivery = signed("shopify")
    headers = SENDERS["shopify"].headers(SECRET, delivery)
    response = client.post("/v1/webhooks/shopify", data=delivery.body, headers=headers)
    assert response.status_code == 202


def test_a_list_is_refused_where_only_its_first_element_is_signed(
    client: FlaskClient, settings: Settings
) -> None:
    delivery = replace(signed("segment"), body=(SAMPLES / "segment_batch.json").read_bytes())
    detail = assert_problem(post(client, "segment", delivery), 400, "invalid_request")
    assert detail == "The body is a list; this source sends one event at a time."
    assert on_record(settings) == []


def test_a_form_that_is_not_utf_8_is_400(client: FlaskClient) -> None:
    # Twilio's signature is of the form's fields, so that what has none is not believed first.
    delivery = replace(signed("twilio"), body=b"Body=%ff")
    headers = {"X-Twilio-Signature": "YWJj"}
    assert_problem(post(client, "twilio", delivery, headers), 401, "unauthorized")
    sources = (
        "[form]\nsecret_env = 'HOOK_SECRET'\nbody = 'form'\nopt_out = 'stop'\n"
        "phone_numbers = 'phone'\nsignature = {header = 'X-Signature'}"
    )
    form = create_app(make_settings(**HOOKS | {"WEBHOOK_SOURCES": sources})).test_client()
    response = form.post(
        "/v1/webhooks/form",
        data=delivery.body,
        headers={"X-Signature": mac(SECRET, delivery.body).hex(), **media_type("twilio")},
    )
    assert_problem(response, 400, "invalid_request")


# --- senders that sign the address


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
    delivery = signed("twilio")
    url = f"{signed_with}/v1/webhooks/twilio"
    headers = SENDERS["twilio"].headers(SECRET, replace(delivery, url=url))
    assert post(client, "twilio", delivery, headers).status_code == status


@pytest.mark.parametrize("recipe", ["hubspot", "twilio"])
def test_the_query_is_signed_too(recipe: str, client: FlaskClient) -> None:
    delivery = signed(recipe)
    queried = replace(delivery, url=f"{delivery.url}?b=%2F&a=1")
    assert post(client, recipe, queried).status_code in (200, 202)
    headers = SENDERS[recipe].headers(SECRET, delivery)
    assert post(client, recipe, queried, headers).status_code == 401


@pytest.mark.parametrize("recipe", ["hubspot", "twilio"])
def test_the_host_header_is_not_what_is_signed(recipe: str, client: FlaskClient) -> None:
    delivery = signed(recipe)
    elsewhere = replace(delivery, url=f"https://evil.example.com/v1/webhooks/{recipe}")
    headers = SENDERS[recipe].headers(SECRET, elsewhere)
    forged = {**headers, "Host": "evil.example.com", "X-Forwarded-Host": "evil.example.com"}
    assert post(client, recipe, delivery, forged).status_code == 401


def test_a_public_url_may_have_a_path(settings: Settings) -> None:
    under = f"{PUBLIC_URL}/gateway"
    app = create_app(replace(settings, public_url=under))
    delivery = signed("hubspot")
    url = f"{under}/v1/webhooks/hubspot"
    headers = SENDERS["hubspot"].headers(SECRET, replace(delivery, url=url))
    assert post(app.test_client(), "hubspot", delivery, headers).status_code == 202


# --- the samples


@pytest.mark.parametrize(
    ("name", "recipe", "expected"),
    [
        ("customerio_reporting_preferences_changed", "customerio", [None]),
        ("hubspot_property_change_batch", "hubspot", ["9995551236", "9995551237"]),
        ("segment_track", "segment", ["9995551241"]),
        ("shopify_customers_marketing_consent_update", "shopify", ["9995551234"]),
        ("shopify_customers_update_not_subscribed", "shopify", []),
        ("standard_webhooks_generic", "standard-webhooks", ["9995551258"]),
        ("twilio_inbound_stop.form", "twilio", ["9995551250"]),
    ],
)
def test_samples_are_taken(
    name: str, recipe: str, expected: list[str | None], client: FlaskClient, settings: Settings
) -> None:
    body = (SAMPLES / f"{name}.json").read_bytes()
    if SENDERS[recipe].form:
        body = urlencode(json.loads(body)).encode()
    response = post(client, recipe, replace(signed(recipe), body=body))
    assert response.status_code == (202 if expected and recipe != "twilio" else 200)
    assert sorted(str(one.phone_number) for one in on_record(settings)) == sorted(
        str(number) for number in expected
    )


def test_no_sample_is_left_out() -> None:
    used = re.findall(r'^        \("(\w+(?:\.form)?)", "', Path(__file__).read_text(), re.M)
    files = {file.name.removesuffix(".json") for file in SAMPLES.glob("*.json")}
    assert files - set(used) == {"segment_batch"}  # it has a test of its own


# --- what is on record


def test_several_numbers_and_a_store_of_its_own(client: FlaskClient, settings: Settings) -> None:
    numbers = [NUMBER, "(999) 555-1235", "", {"no": "number"}, NUMBER, None]
    response = post_helpdesk(client, [{"stop": True, "phones": numbers}, {"stop": False}])
    assert response.status_code == 202
    answer = response.get_json()
    assert (answer["accepted"], answer["ignored"]) == (5, 1)
    found = on_record(settings)
    assert {one.store for one in found} == {"BURGER"}
    usable = [one.phone_number for one in found if one.phone_number]
    assert (sorted(usable), len(found)) == ([NUMBER, "9995551235"], 5)
    assert {one.error.code for one in found if one.error} == {ErrorCode.INVALID_PHONE_NUMBER}


@pytest.mark.parametrize("written_as", ["rfc3339", "unix", "unix_ms"])
def test_the_time_of_the_event_is_kept_when_it_is_sound(
    written_as: str, client: FlaskClient, settings: Settings
) -> None:
    moment = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    seconds = int(moment.timestamp())
    written = {"rfc3339": moment.isoformat(), "unix": seconds, "unix_ms": seconds * 1000}
    post_helpdesk(client, {"stop": 1, "phones": NUMBER, "at": written[written_as]})
    [opt_out] = on_record(settings)
    assert opt_out.requested_at == moment


@pytest.mark.parametrize("at", [None, "yesterday", "2999-01-01T00:00:00Z", "2020-01-01", -1, []])
def test_an_unsound_time_is_when_it_arrived(
    at: object, client: FlaskClient, settings: Settings
) -> None:
    post_helpdesk(client, {"stop": 1, "phones": NUMBER, "at": at})
    [opt_out] = on_record(settings)
    assert opt_out.requested_at == opt_out.created_at


def test_without_a_delivery_id_the_same_body_is_a_repeat_for_a_day(
    client: FlaskClient, settings: Settings
) -> None:
    event = {"stop": 1, "phones": [NUMBER, "9995551235"]}
    first = post_helpdesk(client, event).get_json()
    connection = sqlite3.connect(settings.database_url.database or "")
    [(until,)] = connection.execute("SELECT DISTINCT expires_at FROM receipts").fetchall()
    connection.close()
    left = datetime.fromisoformat(until).replace(tzinfo=UTC) - datetime.now(UTC)
    assert timedelta(hours=23, minutes=59) < left <= timedelta(hours=24)
    assert post_helpdesk(client, event).get_json() == first
    change_ledger(settings, "UPDATE receipts SET expires_at = datetime('now', '+1 minutes')")
    assert post_helpdesk(client, event).get_json() == first
    change_ledger(settings, "UPDATE receipts SET expires_at = datetime('now', '-1 seconds')")
    again = post_helpdesk(client, event).get_json()
    assert len(on_record(settings)) == 4
    assert post_helpdesk(client, event).get_json() == again


def test_with_a_delivery_id_a_repeat_is_known_for_ever(
    client: FlaskClient, settings: Settings
) -> None:
    post(client, "shopify", signed("shopify"))
    connection = sqlite3.connect(settings.database_url.database or "")
    assert connection.execute("SELECT expires_at FROM receipts").fetchall() == [(None,)]
    connection.close()


def test_one_delivery_id_with_two_sources_is_two_opt_outs(
    client: FlaskClient, settings: Settings
) -> None:
    for name in ("zapier", "make"):
        body = json.dumps({"action": "opt_out", "phone": NUMBER}).encode()
        delivery = replace(signed(name), body=body)
        assert post(client, name, delivery, bearer(SECRET, delivery)).status_code == 202
    assert len(on_record(settings)) == 2


def test_a_repeat_tells_how_the_opt_out_stands_now(client: FlaskClient, settings: Settings) -> None:
    delivery = signed("shopify")
    post(client, "shopify", delivery)
    change_ledger(settings, "UPDATE opt_outs SET status = 'opted_out', next_attempt_at = NULL")
    [told] = post(client, "shopify", delivery).get_json()["opt_outs"]
    assert told["status"] == "opted_out"


# --- metrics


def scraped(client: FlaskClient, name: str) -> Mapping[str, float]:
    """The samples of one metric by their labels."""
    text = client.get("/metrics", headers=BEARER).text
    found = re.findall(rf"^{name}{{(.*)}} (\S+)$", text, re.M)
    return {labels: float(value) for labels, value in found}


def test_refusals_are_counted_by_source_and_reason(client: FlaskClient) -> None:
    before = scraped(client, "webhook_refusals_total")
    delivery = signed("shopify")
    post(client, "shopify", delivery, {})
    post(client, "shopify", delivery, SENDERS["shopify"].headers("other", delivery))
    post(client, "shopify", replace(delivery, body=b"{"))
    post(client, "shopify", delivery, {"Content-Encoding": "gzip"})
    client.post("/v1/webhooks/nobody", json={})
    after = scraped(client, "webhook_refusals_total")
    grown = {labels: n - before.get(labels, 0) for labels, n in after.items()}
    assert {labels for labels, n in grown.items() if n} == {
        'reason="missing_signature",source="shopify"',
        'reason="wrong_signature",source="shopify"',
        'reason="invalid_json",source="shopify"',
        'reason="unsupported_media_type",source="shopify"',
    }
    assert not any("nobody" in labels for labels in after)


def test_unusable_numbers_are_counted(client: FlaskClient) -> None:
    post(client, "shopify", signed("shopify", without_usable_number("shopify")))
    labels = 'code="invalid_phone_number",status="rejected"'
    assert scraped(client, "optout_errors") == {labels: 1.0}
    assert scraped(client, "optouts") == {'source="webhook:shopify",status="rejected"': 1.0}


# --- over real HTTP


@pytest.fixture
def hanging(crmtext: FakeCrmText) -> Iterator[FakeCrmText]:
    crmtext.answer_with(Reply(delay=30))
    yield crmtext
    crmtext.stopping.set()


def test_the_answer_does_not_wait_for_crm_text(hanging: FakeCrmText, client: FlaskClient) -> None:
    def opt_out() -> None:
        client.application.test_client().post(
            "/v1/opt-outs", headers=BEARER, json={"phone_number": NUMBER}
        )

    waiting = threading.Thread(target=opt_out)
    waiting.start()
    while not hanging.calls:
        time.sleep(0.01)
    for recipe in RECIPES:
        started_at = time.monotonic()
        assert post(client, recipe, signed(recipe)).status_code in (200, 202)
        assert time.monotonic() - started_at < 1
    assert len(hanging.calls) == 1
    waiting.join()


def test_the_same_delivery_at_one_instant_on_two_processes_is_one_opt_out(
    settings: Settings, database_url: str, crmtext: FakeCrmText, tmp_path: Path
) -> None:
    environment = make_environment(CRMTEXT_URL=crmtext.url, DATABASE_URL=database_url, **HOOKS)
    delivery = signed("shopify")
    headers = {**SENDERS["shopify"].headers(SECRET, delivery), **media_type("shopify")}
    start = threading.Barrier(16)

    def send(url: str) -> requests.Response:
        start.wait()
        address = f"{url}/v1/webhooks/shopify"
        return requests.post(address, delivery.body, headers=headers, timeout=20)

    with serve({**environment, "WEB_CONCURRENCY": "2"}, tmp_path) as served:
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(send, [served.url] * 16))
        assert {answer.status_code for answer in answers} == {202}
        bodies = {answer.text for answer in answers}
        large = requests.post(
            f"{served.url}/v1/webhooks/shopify", b" " * 2_000_000, headers=headers, timeout=20
        )
        assert (large.status_code, large.json()["code"]) == (413, "payload_too_large")
    [opt_out] = on_record(settings)
    assert [json.loads(body)["opt_outs"][0]["id"] for body in bodies] == [opt_out.id]
