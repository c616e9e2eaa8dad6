"""What webhooks leave on record and in the metrics, and that they wait for nobody."""

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

from gateway.assembly import open_ledger
from gateway.errors import ErrorCode
from gateway.ledger.webhook_messages import Activity, read_activity
from gateway.settings import Settings
from tests.support.factories import BEARER, make_environment, serve
from tests.support.fake_crmtext import FakeCrmText, Reply
from tests.support.ledgers import wait_until
from tests.support.signing import NUMBER, SECRET, SENDERS, bearer
from tests.support.webhooks import (
    HOOKS,
    RECIPES,
    SAMPLES,
    change_ledger,
    media_type,
    on_record,
    post,
    post_helpdesk,
    signed,
    without_usable_number,
)

# Each sample with its recipe and the numbers that it opts out.
READ_FROM_SAMPLES: list[tuple[str, str, list[str | None]]] = [
    ("customerio_reporting_preferences_changed", "customerio", [None]),
    ("hubspot_property_change_batch", "hubspot", ["9995551236", "9995551237"]),
    ("segment_track", "segment", ["9995551241"]),
    ("shopify_customers_marketing_consent_update", "shopify", ["9995551234"]),
    ("shopify_customers_update_not_subscribed", "shopify", []),
    ("standard_webhooks_generic", "standard-webhooks", ["9995551258"]),
    ("twilio_inbound_stop.form", "twilio", ["9995551250"]),
]


@pytest.mark.parametrize(("name", "recipe", "expected"), READ_FROM_SAMPLES)
def test_samples_are_accepted(
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
    files = {file.name.removesuffix(".json") for file in SAMPLES.glob("*.json")}
    read = {name for name, _, _ in READ_FROM_SAMPLES}
    assert files - read == {"segment_batch"}  # it has a test of its own


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
def test_the_time_of_the_event_is_kept_if_it_is_plausible(
    written_as: str, client: FlaskClient, settings: Settings
) -> None:
    moment = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    seconds = int(moment.timestamp())
    written = {"rfc3339": moment.isoformat(), "unix": seconds, "unix_ms": seconds * 1000}
    post_helpdesk(client, {"stop": 1, "phones": NUMBER, "at": written[written_as]})
    [opt_out] = on_record(settings)
    assert opt_out.requested_at == moment


@pytest.mark.parametrize("at", [None, "yesterday", "2999-01-01T00:00:00Z", "2020-01-01", -1, []])
def test_an_implausible_time_is_replaced_by_that_of_the_arrival(
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


def test_with_a_delivery_id_a_repeat_is_known_forever(
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
        message = replace(signed(name), body=body)
        assert post(client, name, message, bearer(SECRET, message)).status_code == 202
    assert len(on_record(settings)) == 2


def test_a_repeat_tells_how_the_opt_out_stands_now(client: FlaskClient, settings: Settings) -> None:
    message = signed("shopify")
    post(client, "shopify", message)
    change_ledger(settings, "UPDATE opt_outs SET status = 'opted_out', next_attempt_at = NULL")
    [told] = post(client, "shopify", message).get_json()["opt_outs"]
    assert told["status"] == "opted_out"


def scraped(client: FlaskClient, name: str) -> Mapping[str, float]:
    """The samples of one metric by their labels."""
    text = client.get("/metrics", headers=BEARER).text
    found = re.findall(rf"^{name}{{(.*)}} (\S+)$", text, re.M)
    return {labels: float(value) for labels, value in found}


def test_refusals_are_counted_by_source_and_reason(client: FlaskClient) -> None:
    before = scraped(client, "webhook_refusals_total")
    message = signed("shopify")
    post(client, "shopify", message, {})
    post(client, "shopify", message, SENDERS["shopify"].headers("other", message))
    post(client, "shopify", replace(message, body=b"{"))
    post(client, "shopify", message, {"Content-Encoding": "gzip"})
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


def test_what_is_refused_or_ignored_leaves_a_line_and_a_count(
    client: FlaskClient, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gateway.web.api.webhooks")
    message = signed("shopify")
    post(client, "shopify", message, SENDERS["shopify"].headers("other", message))
    post(client, "shopify", replace(message, body=b"{"))
    post_helpdesk(client, [{"stop": False}, {"phones": NUMBER}])
    post(client, "shopify", message)
    client.post("/v1/webhooks/nobody", json={})
    lines = [record for record in caplog.records if record.name == "gateway.web.api.webhooks"]
    assert [(line.levelname, line.getMessage(), line.source) for line in lines] == [  # type: ignore[attr-defined]
        ("WARNING", "webhook refused", "shopify"),
        ("WARNING", "webhook refused", "shopify"),
        ("INFO", "webhook ignored", "helpdesk"),
    ]
    wrong, unreadable, ignored = (vars(line) for line in lines)
    assert (wrong["why"], unreadable["why"]) == ("wrong_signature", "invalid_json")
    assert wrong["what_to_do"].startswith("compare HOOK_SECRET with the secret at the sender; ")
    assert unreadable["what_to_do"].startswith("The body is not valid JSON: ")
    assert ignored["events"] == 2
    assert not {NUMBER, SECRET} & set(re.split(r"[^\w=]", str([vars(line) for line in lines])))

    def activity() -> Mapping[str, Activity]:
        return read_activity(open_ledger(settings).engine)

    wait_until(lambda: "helpdesk" in activity(), 5, "the counts are on record")
    shop, helpdesk = activity()["shopify"], activity()["helpdesk"]
    assert {reason: count.number for reason, count in shop.refused.items()} == {
        "wrong_signature": 1,
        "invalid_json": 1,
    }
    assert (shop.accepted.number, shop.ignored.number) == (1, 0)
    assert (helpdesk.accepted.number, helpdesk.ignored.number) == (0, 1)


def test_the_senders_id_is_kept(client: FlaskClient, settings: Settings) -> None:
    post(client, "shopify", replace(signed("shopify"), id="é" * 300))
    post(client, "segment", signed("segment"))
    post(client, "zapier", signed("zapier"))
    kept = {one.source: one.delivery_id for one in on_record(settings)}
    assert kept == {
        "webhook:shopify": "é" * 255,
        "webhook:segment": "message-1",
        "webhook:zapier": None,
    }


def test_unusable_numbers_are_counted(client: FlaskClient) -> None:
    post(client, "shopify", signed("shopify", without_usable_number("shopify")))
    labels = 'code="invalid_phone_number",status="rejected",store="PIZZA"'
    assert scraped(client, "optout_errors") == {labels: 1.0}
    assert scraped(client, "optouts") == {'source="webhook:shopify",status="rejected"': 1.0}


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


def test_the_same_message_at_one_instant_on_two_processes_is_one_opt_out(
    settings: Settings, database_url: str, crmtext: FakeCrmText, tmp_path: Path
) -> None:
    environment = make_environment(CRMTEXT_URL=crmtext.url, DATABASE_URL=database_url, **HOOKS)
    message = signed("shopify")
    headers = {**SENDERS["shopify"].headers(SECRET, message), **media_type("shopify")}
    start = threading.Barrier(16)

    def send(url: str) -> requests.Response:
        start.wait()
        address = f"{url}/v1/webhooks/shopify"
        return requests.post(address, message.body, headers=headers, timeout=20)

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
