"""From a verified body to opt-outs: events, numbers, times, repeats."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest

from gateway.errors import ErrorCode, GatewayError
from gateway.webhooks.source import Reading, WebhookSource
from tests.support.signing import NOW, SENDERS
from tests.support.webhook_sources import make_source, numbers, read, read_or_refuse, recipe_source

SAMPLES = Path(__file__).parents[1] / "webhook_samples"


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


@pytest.mark.parametrize(
    ("recipe", "name", "expected", "ignored"),
    [
        ("hubspot", "hubspot_property_change_batch", ["9995551236", "9995551237"], 1),
        ("segment", "segment_track", ["9995551241"], 0),
        ("shopify", "shopify_customers_marketing_consent_update", ["9995551234"], 0),
        ("shopify", "shopify_customers_update_not_subscribed", [], 1),
        ("standard-webhooks", "standard_webhooks_generic", ["9995551258"], 0),
        ("customerio", "customerio_reporting_preferences_changed", [None], 0),
    ],
)
def test_samples_are_read(recipe: str, name: str, expected: list[str | None], ignored: int) -> None:
    reading = recipe_source(recipe).read(sample(f"{name}.json"), {}, NOW)
    assert numbers(reading) == expected
    assert reading.ignored == ignored


def test_samples_carry_their_time() -> None:
    source = recipe_source("shopify")
    body = sample("shopify_customers_marketing_consent_update.json")
    [withdrawal] = source.read(body, {"x-shopify-webhook-id": "1"}, NOW).withdrawals
    assert withdrawal.requested_at == datetime(2026, 11, 20, 14, 14, 2, tzinfo=UTC)
    assert not withdrawal.expires
    source = recipe_source("hubspot")
    first, second = source.read(sample("hubspot_property_change_batch.json"), {}, NOW).withdrawals
    assert first.requested_at == datetime(2025, 11, 20, 12, 14, 2, tzinfo=UTC)
    assert first.repeat_key != second.repeat_key


def test_an_opt_out_without_a_number_is_kept_for_a_person_to_see() -> None:
    body = sample("customerio_reporting_preferences_changed.json")
    [withdrawal] = recipe_source("customerio").read(body, {}, NOW).withdrawals
    assert withdrawal.phone_number.digits is None
    assert withdrawal.phone_number.received == ""
    assert withdrawal.phone_number.flaw == "is missing"


def test_segments_batch_is_refused() -> None:
    with pytest.raises(GatewayError) as raised:
        recipe_source("segment").read(sample("segment_batch.json"), {}, NOW)
    assert raised.value.code is ErrorCode.INVALID_REQUEST


def test_a_form_is_read_like_an_object() -> None:
    fields = json.loads(sample("twilio_inbound_stop.form.json"))
    [withdrawal] = recipe_source("twilio").read(urlencode(fields).encode(), {}, NOW).withdrawals
    assert withdrawal.phone_number.digits == "9995551250"
    assert not withdrawal.expires


@pytest.mark.parametrize(
    ("recipe", "changes", "is_opt_out"),
    [
        ("shopify", {"sms_marketing_consent": {"state": "not_subscribed"}}, False),
        ("shopify", {"sms_marketing_consent": None}, False),
        ("intercom", {"topic": "ping"}, False),
        ("iterable", {"dataFields": {"smsMessage": "please stop"}}, False),
        ("iterable", {"dataFields": {"smsMessage": None}}, False),
        ("iterable", {"dataFields": {"smsMessage": "Opt-out!"}}, True),
        ("twilio", {"Body": "QUIT"}, True),
        ("twilio", {"Body": "Opt out."}, True),
        ("twilio", {"Body": "please stop"}, False),
        ("twilio", {"OptOutType": "", "Body": "QUIT"}, True),
        ("twilio", {"OptOutType": "STOP", "Body": "arrêt"}, True),
        ("twilio", {"OptOutType": "HELP", "Body": "stop"}, False),
        ("customerio", {"event": "", "object_type": "customer", "metric": "unsubscribed"}, True),
        ("customerio", {"event": "", "object_type": "email", "metric": "unsubscribed"}, False),
        (
            "customerio",
            {
                "event": "",
                "metric": "cio_subscription_preferences_changed",
                "data": {"content": '{"channels": {"sms": true}}'},
            },
            False,
        ),
        (
            "customerio",
            {
                "event": "",
                "metric": "cio_subscription_preferences_changed",
                "data": {"content": "{"},
            },
            False,
        ),
        ("zapier", {"action": "opt_in"}, False),
    ],
)
def test_recipes_tell_opt_outs_from_other_events(
    recipe: str,
    changes: dict[str, object],
    is_opt_out: bool,
) -> None:
    event = SENDERS[recipe].event
    assert isinstance(event, dict)
    assert recipe_source(recipe).is_opt_out({**event, **changes}) is is_opt_out


def test_a_contact_without_a_number_is_not_lost_among_others() -> None:
    contacts = [{"phone": "9995551234"}, {"name": "B"}, {"phone": "9995551235"}]
    reading = read(recipe_source("zapier"), {"action": "opt_out", "contacts": contacts})
    assert numbers(reading) == ["9995551234", None, "9995551235"]


@pytest.mark.parametrize(
    ("events", "body", "count"),
    [
        (None, {"stop": 1}, 1),
        (None, [{"stop": 1}, {"stop": 1}], 2),
        (None, [], 0),
        (None, "stop", 1),
        ("data", {"data": [1, None, [2]]}, 3),
        ("data", {"data": {"stop": 1}}, 1),
        ("data", {"data": None}, 0),
        ("data", {}, 0),
        ("data", [], 0),
        ("data", {"data": []}, 0),
        ("data", {"data": "text"}, 1),
        ("max(data)", {"data": ["a", 1]}, 1),
    ],
)
def test_events_are_found(events: str | None, body: object, count: int) -> None:
    source = make_source(events=events) if events else make_source()
    assert len(source.find_events(body)) == count


def test_other_events_are_ignored_and_counted() -> None:
    reading = read(
        make_source(), [{}, {"stop": False}, None, 1, [], {"stop": 1, "phone": 9995551234}]
    )
    assert (numbers(reading), reading.ignored) == (["9995551234"], 5)


@pytest.mark.parametrize(
    ("opt_out", "event", "holds"),
    [
        ("stop", {"stop": 0}, True),
        ("stop", {"stop": "no"}, True),
        ("stop", {"stop": [0]}, True),
        ("stop", {"stop": ""}, False),
        ("stop", {"stop": []}, False),
        ("stop", {"stop": {}}, False),
        ("stop", {"stop": None}, False),
        ("lower(trim(stop)) == 'stop'", {"stop": "\tStop "}, True),
        ("lower(trim(stop)) == 'stop'", {"stop": 1}, False),
        ("stop_word(stop)", {"stop": "Stop."}, True),
        ("stop_word(stop)", {"stop": "stop it"}, False),
        ("stop_word(stop) == `null`", {"stop": None}, True),
        ("stop_word(stop) == `null`", {"stop": ["stop"]}, True),
        ("from_json(stop).a", {"stop": '{"a": 1}'}, True),
        ("from_json(stop) == `null`", {"stop": '{"a": 1, "a": 2}'}, True),
        ("from_json(stop) == `null`", {"stop": "[" * 100_000}, True),
        ("from_json(stop) == `null`", {"stop": "\ud800"}, True),
        ("from_json(stop) == `null`", {"stop": {"a": 1}}, True),
        ("starts_with(stop, 'x')", {"stop": 1}, False),
        ("stop < `1`", {"stop": "a"}, False),
        ("ceil(to_number(stop))", {"stop": "1e999"}, False),
        ("stop[::0]", {"stop": [1]}, False),
        ("&stop", {}, True),
    ],
)
def test_jmespath_decides_and_where_it_fails_it_is_not_an_opt_out(
    opt_out: str,
    event: object,
    holds: bool,
) -> None:
    assert make_source(opt_out=opt_out).is_opt_out(event) is holds


@pytest.mark.parametrize(
    ("phone", "expected"),
    [
        ("(999) 555-1234", [("9995551234", None)]),
        (19995551234, [("9995551234", None)]),
        (["9995551234", 9995551235], [("9995551234", None), ("9995551235", None)]),
        (["9995551234", "+19995551234"], [("9995551234", None)]),
        (None, [(None, "is missing")]),
        ([], [(None, "is missing")]),
        ("", [(None, "is empty")]),
        (" ", [(None, "is empty")]),
        (["9995551234", None], [("9995551234", None), (None, "is missing")]),
        ([["9995551234"]], [(None, "must be a string or an integer")]),
        ({"phone": "9995551234"}, [(None, "must be a string or an integer")]),
        (True, [(None, "must be a string or an integer")]),
        (9995551234.0, [(None, "must be a string or an integer")]),
        ("9" * 33, [(None, "is longer than 32 characters")]),
    ],
)
def test_numbers_are_read_or_reported_as_unusable(
    phone: object, expected: list[tuple[str | None, str | None]]
) -> None:
    reading = read(make_source(), {"stop": 1, "phone": phone})
    found = [(each.phone_number.digits, each.phone_number.flaw) for each in reading.withdrawals]
    assert found == expected


def test_a_failing_expression_for_numbers_is_one_unusable_number() -> None:
    reading = read(make_source(phone_numbers="max(phone)"), {"stop": 1, "phone": ["a", 1]})
    [withdrawal] = reading.withdrawals
    assert withdrawal.phone_number.digits is None
    assert withdrawal.phone_number.flaw is not None
    assert "phone_numbers expression fails" in withdrawal.phone_number.flaw


@pytest.mark.parametrize("expression", ["sum(phone)", "&phone"])
def test_what_an_expression_returns_beyond_json_is_unusable(expression: str) -> None:
    source = make_source(phone_numbers=expression)
    body = b'{"stop": 1, "phone": [' + b"9" * 4300 + b"," + b"9" * 4300 + b"]}"
    [withdrawal] = source.read(body, {}, NOW).withdrawals
    assert withdrawal.phone_number.digits is None


def test_what_was_received_is_fit_to_be_stored() -> None:
    reading = read(make_source(), {"stop": 1, "phone": "call\0\ud800" + "é" * 300})
    [withdrawal] = reading.withdrawals
    assert withdrawal.phone_number.received == "call\ufffd\ufffd" + "é" * 249
    [withdrawal] = read(make_source(), {"stop": 1, "phone": ["x", {"a": 1}]}).withdrawals[1:]
    assert withdrawal.phone_number.received == '{"a": 1}'


def test_the_reason_why_a_number_is_unusable_does_not_show_it() -> None:
    [withdrawal] = read(make_source(), {"stop": 1, "phone": "+529995551234"}).withdrawals
    assert withdrawal.phone_number.received == "+529995551234"
    assert "999" not in str(withdrawal.phone_number.flaw)


def key_of(source: WebhookSource, value: object, **headers: str) -> str:
    [withdrawal] = read(source, value, **headers).withdrawals
    return withdrawal.repeat_key


def test_a_repeat_has_the_same_key_and_anything_else_another() -> None:
    event = {"stop": 1, "phone": "9995551234", "id": "1"}
    source = make_source(delivery_id="id")
    key = key_of(source, event)
    assert len(key) == 64
    assert key == key_of(source, {**event, "phone": "+1 999 555 1234", "attempt": 2})
    others = [
        key_of(source, {**event, "id": "2"}),
        key_of(source, {**event, "phone": "9995551235"}),
        key_of(source, {**event, "phone": "none"}),
        key_of(make_source(delivery_id="id", store="tacos"), event),
        key_of(make_source(delivery_id="header:X-Id"), event, x_id="1"),
        key_of(make_source(), event),
    ]
    assert len({key, *others}) == 7


@pytest.mark.parametrize(
    ("delivery_id", "value", "expires"),
    [
        (None, "1", True),
        ("id", "1", False),
        ("id", 1, False),
        ("id", " ", True),
        ("id", None, True),
        ("id", True, True),
        ("id", 1.5, True),
        ("id", ["1"], True),
        ("max(id)", ["a", 1], True),
        ("header:X-ID", "1", False),
        ("header:Other", "1", True),
    ],
)
def test_without_a_delivery_id_the_body_takes_its_place_for_a_day(
    delivery_id: str | None, value: object, *, expires: bool
) -> None:
    source = make_source(delivery_id=delivery_id) if delivery_id else make_source()
    body = {"stop": 1, "phone": "9995551234", "id": value}
    [withdrawal] = read(source, body, x_id="1", other=" ").withdrawals
    assert withdrawal.expires is expires


def test_one_message_names_a_number_once_but_each_missing_one() -> None:
    person, nobody = {"stop": 1, "phone": "9995551234"}, {"stop": 1}
    reading = read(make_source(), [person, nobody, person, nobody])
    assert numbers(reading) == ["9995551234", None, None]
    assert len({withdrawal.repeat_key for withdrawal in reading.withdrawals}) == 3


@pytest.mark.parametrize(
    ("value", "seconds_ago"),
    [
        ("2026-11-22T19:59:00Z", 60),
        ("2026-11-22T14:59:00.5-05:00", 59.5),
        (1795377540, 60),
        (1795377540000, 60),
        (1795377540.25, 59.75),
        ("1795377540", 60),
        ("1795377540000", 60),
        ("2026-11-22T20:01:00Z", -60),
        ("2000-01-01T00:00:00Z", 848_692_800),
        ("2026-11-22T20:01:01Z", None),
        ("1999-12-31T23:59:59Z", None),
        ("2026-11-22T19:59:00", None),
        ("2026-11-22", None),
        ("yesterday", None),
        ("\u00b2", None),
        ("9" * 5000, None),
        (10**400, None),
        (-1, None),
        (0, None),
        (True, None),
        (None, None),
        ([1795377540], None),
    ],
)
def test_an_events_time_is_kept_if_it_is_plausible(
    value: object, seconds_ago: float | None
) -> None:
    event = {"stop": 1, "phone": "9995551234", "at": value}
    [withdrawal] = read(make_source(requested_at="at"), event).withdrawals
    if seconds_ago is None:
        assert withdrawal.requested_at is None
    else:
        assert withdrawal.requested_at == NOW - timedelta(seconds=seconds_ago)
        assert withdrawal.requested_at.tzinfo is UTC


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"\xef\xbb\xbf{}", b'{"a":1,"a":2}', b"NaN", b"[" * 100_000, b"1" * 4301],
)
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(GatewayError) as raised:
        make_source().read(body, {}, NOW)
    assert raised.value.code is ErrorCode.INVALID_JSON


@pytest.mark.parametrize("body", [b"\xff=1", b"a=%ff", b"&".join([b"a=1"] * 1001)])
def test_a_body_that_is_not_a_form_is_refused(body: bytes) -> None:
    with pytest.raises(GatewayError) as raised:
        make_source(body="form").read(body, {}, NOW)
    assert raised.value.code is ErrorCode.INVALID_REQUEST


def test_the_first_counts_of_a_field_that_came_twice() -> None:
    source = make_source(body="form")
    [withdrawal] = source.read(b"stop=1&phone=9995551234&phone=9995551235", {}, NOW).withdrawals
    assert withdrawal.phone_number.digits == "9995551234"


def test_deep_nesting_that_json_still_allows_is_read_or_refused() -> None:
    source = make_source(opt_out="@ == @", phone_numbers="[@]", delivery_id="@", requested_at="@")
    for depth in range(100, 1100, 25):
        body = b'{"a":' * depth + b"1" + b"}" * depth
        reading = read_or_refuse(source, body, {})
        if isinstance(reading, Reading):
            assert len(reading.withdrawals) + reading.ignored == 1
        else:
            assert reading is ErrorCode.INVALID_JSON
