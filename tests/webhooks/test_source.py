"""Configuration to sources, with every fault named, and verified bodies to withdrawals."""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigurationError, ErrorCode, GatewayError
from gateway.timestamps import TimestampFormat
from gateway.webhooks.config import read_webhook_sources
from gateway.webhooks.recipes import read_recipes
from gateway.webhooks.signatures import Encoding, Hash, Refusal, Scheme, SignedRequest
from gateway.webhooks.source import Answer, BodyFormat, Reading, WebhookSource
from tests.support.signing import NOW, SENDERS, mac

SAMPLES = Path(__file__).parents[1] / "webhook_samples"
ENVIRONMENT = {"HOOK": "s3cret-of-the-hook", "NEXT": "s3cret-of-next", "EMPTY": "", "BLANK": " "}
BY_HAND = """
[helpdesk]
secret_env = "HOOK"
opt_out = "stop"
phone_numbers = "phone"
signature = {scheme = "hmac", header = "X-Signature"}
"""


def read_sources(
    text: str, *, public_url: str | None = "https://gateway.example.com"
) -> Mapping[str, WebhookSource]:
    return read_webhook_sources(
        text, secrets=ENVIRONMENT, stores=["PIZZA", "TACOS"], public_url=public_url
    )


def make_source(**keys: str | bool) -> WebhookSource:
    """The source by hand with some keys beside, or instead of, its own."""
    lines = ["[helpdesk]", 'secret_env = "HOOK"', 'signature = {scheme="token", header="X-Token"}']
    keys = {"opt_out": "stop", "phone_numbers": "phone", **keys}
    lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return read_sources("\n".join(lines))["helpdesk"]


def recipe_source(recipe: str) -> WebhookSource:
    secrets = {"HOOK": "whsec_c2VjcmV0"}
    text = f"[{recipe}]\nrecipe = '{recipe}'\nsecret_env = 'HOOK'"
    sources = read_webhook_sources(
        text, secrets=secrets, stores=["PIZZA"], public_url="https://gateway.example.com"
    )
    return sources[recipe]


def faults_of(text: str, *, public_url: str | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as raised:
        read_sources(text, public_url=public_url)
    for fault in raised.value.faults:
        assert "\n" not in fault
        assert "s3cret" not in fault
    return raised.value.faults


def read(source: WebhookSource, value: object, **headers: str) -> Reading:
    lower = {name.replace("_", "-").lower(): text for name, text in headers.items()}
    return source.read(json.dumps(value).encode(), lower, NOW)


def numbers(reading: Reading) -> list[str | None]:
    return [withdrawal.phone_number.digits for withdrawal in reading.withdrawals]


# --- configuration


def test_a_source_by_hand_has_the_documented_defaults() -> None:
    source = read_sources(BY_HAND)["helpdesk"]
    assert source.name == "helpdesk"
    assert source.store == "PIZZA"
    assert source.answer is Answer.JSON
    assert source.body is BodyFormat.JSON
    assert source.takes_list
    assert source.signature.signed == "{body}"
    assert source.signature.hash is Hash.SHA256
    assert source.signature.encoding is Encoding.HEX
    assert source.secret_env == ("HOOK",)
    assert (source.recipe, source.events, source.delivery_id, source.requested_at) == (None,) * 4


def test_a_source_by_hand_may_use_every_documented_key() -> None:
    source = read_sources("""
        [helpdesk]
        secret_env = ["HOOK", "NEXT"]
        store = "tacos"
        body = "json"
        opt_out = "type == 'sms.unsubscribed'"
        phone_numbers = "contact.phone"
        events = "data"
        list = false
        delivery_id = "header:X-Delivery-Id"
        requested_at = "occurred_at"
        answer = "twiml"
        [helpdesk.signature]
        scheme = "hmac"
        header = "X-Signature"
        hash = "sha512"
        encoding = "base64"
        prefix = "sha512="
        separator = " "
        signed = "{timestamp}.{id}.{body}"
        secret_format = "text"
        id_header = "webhook-id"
        timestamp = {header = "X-Timestamp", format = "unix_ms", tolerance = 1.5}
    """)["helpdesk"]
    assert source.store == "TACOS"
    assert source.secrets == (b"s3cret-of-the-hook", b"s3cret-of-next")
    assert source.delivery_id_header == "X-Delivery-Id"
    assert source.signature.timestamp is not None
    assert source.signature.timestamp.format is TimestampFormat.UNIX_MS
    assert source.signature.timestamp.tolerance == 1.5
    assert "s3cret" not in repr(source)


def test_keys_beside_a_recipe_replace_its_own_one_by_one() -> None:
    source = read_sources("""
        [crm]
        recipe = "customerio"
        secret_env = "HOOK"
        phone_numbers = "mobile"
        [crm.signature]
        encoding = "base64"
        timestamp = {tolerance = 10}
    """)["crm"]
    recipe = recipe_source("customerio")
    assert source.recipe == "customerio"
    assert source.opt_out == recipe.opt_out
    assert source.phone_numbers.text == "mobile"
    assert source.signature.encoding is Encoding.BASE64
    assert source.signature.signed == "v0:{timestamp}:{body}"
    assert source.signature.timestamp is not None
    assert source.signature.timestamp.header == "X-CIO-Timestamp"
    assert source.signature.timestamp.tolerance == 10


def test_a_signature_of_another_scheme_replaces_the_recipes_as_a_whole() -> None:
    source = read_sources("""
        [crm]
        recipe = "customerio"
        secret_env = "HOOK"
        signature = {scheme = "token", header = "X-Token"}
    """)["crm"]
    assert source.signature.scheme is Scheme.TOKEN
    assert source.signature.timestamp is None


def test_an_empty_prefix_takes_away_the_recipes() -> None:
    text = "[i]\nrecipe = 'intercom'\nsecret_env = 'HOOK'\nsignature = {prefix = ''}"
    assert read_sources(text)["i"].signature.prefix == ""


def test_any_of_the_secrets_verifies_a_delivery() -> None:
    text = BY_HAND.replace('"HOOK"', '["HOOK", "NEXT"]')
    source = read_sources(text)["helpdesk"]
    for secret in ("s3cret-of-the-hook", "s3cret-of-next"):
        headers = {"x-signature": mac(secret, b"{}").hex()}
        assert source.verify(SignedRequest("POST", "", headers, b"{}"), NOW) is None
    headers = {"x-signature": mac("", b"{}").hex()}
    request = SignedRequest("POST", "", headers, b"{}")
    assert source.verify(request, NOW) is Refusal.WRONG_SIGNATURE


def test_a_secret_that_is_not_utf_8_is_the_bytes_of_the_environment() -> None:
    secrets = {"HOOK": b"\xff\xfe".decode("utf-8", "surrogateescape")}
    sources = read_webhook_sources(BY_HAND, secrets=secrets, stores=["PIZZA"], public_url=None)
    assert sources["helpdesk"].secrets == (b"\xff\xfe",)


def test_no_text_is_no_source() -> None:
    assert read_sources("") == {}


PREFIX = "[helpdesk] "


@pytest.mark.parametrize(
    ("change", "to", "place"),
    [
        ('secret_env = "HOOK"', "", "secret_env: is missing"),
        ('"HOOK"', '"UNSET"', "secret_env: UNSET is not set"),
        ('"HOOK"', '"EMPTY"', "secret_env: EMPTY is not set"),
        ('"HOOK"', '"BLANK"', "secret_env: BLANK is not set"),
        ('"HOOK"', '["HOOK", "UNSET"]', "secret_env: UNSET is not set"),
        ('"HOOK"', '"s3cret/pasted"', "secret_env: the environment variable it names is not set"),
        ('"HOOK"', "[]", "secret_env: must be the name"),
        ('"HOOK"', '["HOOK", 1]', "secret_env: must be the name"),
        ('"HOOK"', "{}", "secret_env: must be the name"),
        ('opt_out = "stop"', "", "opt_out: is missing"),
        ('"stop"', '""', "opt_out: must not be empty"),
        ('"stop"', "true", "opt_out: must be a text"),
        ('"stop"', '"a ="', "opt_out: is no JMESPath"),
        ('"stop"', '"foo["', "opt_out: is no JMESPath"),
        ('"stop"', '"lowercase(a)"', "opt_out: is no JMESPath: there is no function lowercase()"),
        ('"stop"', '"a[?lower(b, c)]"', "opt_out: is no JMESPath: lower() does not take 2"),
        ('"stop"', '"not_null()"', "opt_out: is no JMESPath: not_null() does not take 0"),
        ('"stop"', '"' + "(" * 5000 + '"', "opt_out: is no JMESPath"),
        ('phone_numbers = "phone"', "", "phone_numbers: is missing"),
        ('phone_numbers = "phone"', "phone_numbers = ['phone']", "phone_numbers: must be a text"),
        ("signature =", "signatur =", "signatur: unknown key"),
        ("signature =", "signatur =", "signature: is missing"),
        ('{scheme = "hmac", header = "X-Signature"}', '"hmac"', "signature: must be a table"),
        ('"hmac"', '"ed25519"', "signature.scheme: must be one of hmac, token, twilio"),
        (', header = "X-Signature"', "", "signature.header: is missing"),
        ('"X-Signature"', '"X Signature"', "signature.header: is not the name of a header"),
        ('re"}', 're", hash = "md5"}', "signature.hash: must be one of sha1, sha256, sha512"),
        ('re"}', 're", hash = ["sha1"]}', "signature.hash: must be one of"),
        ('re"}', 're", encoding = "hex "}', "signature.encoding: must be one of hex, base64"),
        ('re"}', 're", secret_format = "hex"}', "signature.secret_format: must be one of"),
        ('re"}', 're", secret_format = "whsec"}', "secret_env: HOOK is not base64 after whsec_"),
        ('re"}', 're", prefix = 1}', "signature.prefix: must be a text"),
        ('re"}', 're", sigend = "{body}"}', "signature.sigend: unknown key"),
        ('re"}', 're", signed = "{Body}"}', 'signature.signed: "{Body}" is none of'),
        ('re"}', 're", signed = "{}{body}"}', 'signature.signed: "{}" is none of'),
        ('re"}', 're", signed = "{method}"}', "signature.signed: must hold {body}"),
        ('re"}', 're", signed = "{timestamp}{body}"}', "signature.signed: holds {timestamp}"),
        ('re"}', 're", signed = "{id}{body}"}', "signature.signed: holds {id}"),
        ('re"}', 're", signed = "{url}{body}"}', "signature: signs the address, so PUBLIC_URL"),
        ('re"}', 're", timestamp = "X-T"}', "signature.timestamp: must be a table"),
        ('re"}', 're", timestamp = {}}', "signature.timestamp.header: is missing"),
        ('re"}', 're", timestamp = {header = "T", format = "iso"}}', "signature.timestamp.format"),
        ('re"}', 're", timestamp = {header = "T", skew = 1}}', "signature.timestamp.skew: unknown"),
        ('{scheme = "hmac"', '{hash = "sha1", scheme = "token"', "signature.hash: unknown key"),
        ('"hmac"', '"twilio"', "signature: signs the address, so PUBLIC_URL has to be set"),
        ('"hmac"', '"twilio"', "body: must be form"),
        ("[helpdesk]", "[helpdesk]\nstore = 'SUSHI'", "store: must be one of PIZZA, TACOS"),
        ("[helpdesk]", "[helpdesk]\nstore = 'TACO\u017f'", "store: must be one of PIZZA, TACOS"),
        ("[helpdesk]", "[helpdesk]\nlist = 'no'", "list: must be true or false"),
        ("[helpdesk]", "[helpdesk]\nanswer = 'xml'", "answer: must be one of json, twiml"),
        ("[helpdesk]", "[helpdesk]\nbody = 'xml'", "body: must be one of json, form"),
        ("[helpdesk]", "[helpdesk]\nevents = 'data['", "events: is no JMESPath"),
        ("[helpdesk]", "[helpdesk]\ndelivery_id = 'header:'", "delivery_id: must name a header"),
        ("[helpdesk]", "[helpdesk]\ndelivery_id = 1", "delivery_id: must be a text"),
        ("[helpdesk]", "[helpdesk]\nrequested_at = ''", "requested_at: must not be empty"),
        ("[helpdesk]", "[helpdesk]\n'a\\nb' = 1", '"a\\\\nb": unknown key'),
        ("[helpdesk]", "[helpdesk]\nrecipe = 'spotify'", "recipe: must be one of"),
        ("[helpdesk]", "[helpdesk]\nrecipe = 1", "recipe: must be one of"),
    ],
)
def test_a_fault_names_source_and_key(change: str, to: str, place: str) -> None:
    assert change in BY_HAND
    faults = faults_of(BY_HAND.replace(change, to))
    assert any(fault.startswith(PREFIX + place) for fault in faults), faults


@pytest.mark.parametrize("tolerance", ["0", "-1", "nan", "inf", "true", "'300'", "1" + "0" * 400])
def test_a_tolerance_is_a_positive_number(tolerance: str) -> None:
    timestamp = f're", timestamp = {{header = "T", tolerance = {tolerance}}}}}'
    faults = faults_of(BY_HAND.replace('re"}', timestamp))
    where = "[helpdesk] signature.timestamp.tolerance: must be a positive number of seconds"
    assert faults == (where,)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[a\n", "is not TOML: "),
        ("a = 1\na = 2", "is not TOML: "),
        ("a = " + "[" * 100_000, "is not TOML: "),
        ("recipe = 'shopify'", "recipe: is no table; each source is one, [recipe]"),
        (BY_HAND.replace("[helpdesk]", "['a b']"), '["a b"]: a name has only letters, digits'),
        (BY_HAND.replace("[helpdesk]", '["é"]'), '["\\u00e9"]: a name has only letters, digits'),
        (BY_HAND.replace("[helpdesk]", '[""]'), '[""]: a name has only letters, digits'),
    ],
)
def test_a_text_that_is_no_table_of_sources_is_refused(text: str, fault: str) -> None:
    assert faults_of(text)[0].startswith(fault)


def test_all_faults_of_all_sources_are_named_at_once() -> None:
    faults = faults_of("""
        [one]
        recipe = "twilio"
        secret_env = "UNSET"
        [two]
        recipe = "nobody"
        stores = "PIZZA"
        [three]
    """)
    assert [fault.partition(": ")[0] for fault in faults] == [
        "[one] secret_env",
        "[one] signature",
        "[two] recipe",
        "[two] secret_env",
        "[two] stores",
        "[three] secret_env",
        "[three] opt_out",
        "[three] phone_numbers",
        "[three] signature",
    ]


def test_without_stores_the_store_is_not_what_is_wrong() -> None:
    sources = read_webhook_sources(BY_HAND, secrets=ENVIRONMENT, stores=[], public_url=None)
    assert sources["helpdesk"].store == ""


# --- samples


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
    assert first.delivery_key != second.delivery_key


def test_an_opt_out_without_a_number_is_kept_for_a_person_to_see() -> None:
    body = sample("customerio_reporting_preferences_changed.json")
    [withdrawal] = recipe_source("customerio").read(body, {}, NOW).withdrawals
    assert withdrawal.phone_number.digits is None
    assert withdrawal.phone_number.received == ""
    assert withdrawal.phone_number.fault == "is missing"


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
        ("twilio", {"Body": "QUIT"}, True),
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
    is_opt_out: bool,  # noqa: FBT001 - a table's column
) -> None:
    event = SENDERS[recipe].event
    assert isinstance(event, dict)
    assert recipe_source(recipe).is_opt_out({**event, **changes}) is is_opt_out


def test_a_contact_without_a_number_is_not_lost_among_others() -> None:
    contacts = [{"phone": "9995551234"}, {"name": "B"}, {"phone": "9995551235"}]
    reading = read(recipe_source("zapier"), {"action": "opt_out", "contacts": contacts})
    assert numbers(reading) == ["9995551234", None, "9995551235"]


# --- events


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
def test_jmespath_decides_and_where_it_fails_it_is_no_opt_out(
    opt_out: str,
    event: object,
    holds: bool,  # noqa: FBT001 - a table's column
) -> None:
    assert make_source(opt_out=opt_out).is_opt_out(event) is holds


# --- numbers


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
        ([["9995551234"]], [(None, "must be a text or an integer")]),
        ({"phone": "9995551234"}, [(None, "must be a text or an integer")]),
        (True, [(None, "must be a text or an integer")]),
        (9995551234.0, [(None, "must be a text or an integer")]),
        ("9" * 33, [(None, "is longer than 32 characters")]),
    ],
)
def test_numbers_are_read_or_said_to_be_unusable(
    phone: object, expected: list[tuple[str | None, str | None]]
) -> None:
    reading = read(make_source(), {"stop": 1, "phone": phone})
    found = [(each.phone_number.digits, each.phone_number.fault) for each in reading.withdrawals]
    assert found == expected


def test_a_failing_expression_for_numbers_is_one_unusable_number() -> None:
    reading = read(make_source(phone_numbers="max(phone)"), {"stop": 1, "phone": ["a", 1]})
    [withdrawal] = reading.withdrawals
    assert withdrawal.phone_number.digits is None
    assert withdrawal.phone_number.fault is not None
    assert "phone_numbers expression fails" in withdrawal.phone_number.fault


@pytest.mark.parametrize("expression", ["sum(phone)", "&phone"])
def test_what_an_expression_makes_beside_json_is_unusable(expression: str) -> None:
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


def test_why_a_number_is_unusable_does_not_tell_it() -> None:
    [withdrawal] = read(make_source(), {"stop": 1, "phone": "+529995551234"}).withdrawals
    assert withdrawal.phone_number.received == "+529995551234"
    assert "999" not in str(withdrawal.phone_number.fault)


# --- repeats


def key_of(source: WebhookSource, value: object, **headers: str) -> str:
    [withdrawal] = read(source, value, **headers).withdrawals
    return withdrawal.delivery_key


def test_a_repeat_has_the_same_key_and_what_differs_another() -> None:
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
def test_without_a_delivery_id_the_body_stands_for_it_for_a_day(
    delivery_id: str | None, value: object, *, expires: bool
) -> None:
    source = make_source(delivery_id=delivery_id) if delivery_id else make_source()
    body = {"stop": 1, "phone": "9995551234", "id": value}
    [withdrawal] = read(source, body, x_id="1", other=" ").withdrawals
    assert withdrawal.expires is expires


def test_one_delivery_names_a_number_once_but_each_missing_one() -> None:
    person, nobody = {"stop": 1, "phone": "9995551234"}, {"stop": 1}
    reading = read(make_source(), [person, nobody, person, nobody])
    assert numbers(reading) == ["9995551234", None, None]
    assert len({withdrawal.delivery_key for withdrawal in reading.withdrawals}) == 3


# --- times


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
def test_an_events_time_is_kept_if_it_is_sound(value: object, seconds_ago: float | None) -> None:
    event = {"stop": 1, "phone": "9995551234", "at": value}
    [withdrawal] = read(make_source(requested_at="at"), event).withdrawals
    if seconds_ago is None:
        assert withdrawal.requested_at is None
    else:
        assert withdrawal.requested_at == NOW - timedelta(seconds=seconds_ago)
        assert withdrawal.requested_at.tzinfo is UTC


# --- unreadable bodies


def read_or_refuse(
    source: WebhookSource, body: bytes, headers: Mapping[str, str]
) -> Reading | ErrorCode:
    """The only two things that can become of a body."""
    try:
        return source.read(body, headers, NOW)
    except GatewayError as error:
        return error.code


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"\xef\xbb\xbf{}", b'{"a":1,"a":2}', b"NaN", b"[" * 100_000, b"1" * 4301],
)
def test_a_body_that_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(GatewayError) as raised:
        make_source().read(body, {}, NOW)
    assert raised.value.code is ErrorCode.INVALID_JSON


@pytest.mark.parametrize("body", [b"\xff=1", b"a=%ff", b"&".join([b"a=1"] * 1001)])
def test_a_body_that_is_no_form_is_refused(body: bytes) -> None:
    with pytest.raises(GatewayError) as raised:
        make_source(body="form").read(body, {}, NOW)
    assert raised.value.code is ErrorCode.INVALID_REQUEST


def test_of_a_field_that_came_twice_the_first_counts() -> None:
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


# --- anything

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
GREEDY = make_source(
    opt_out="@", phone_numbers="*[] || @", events="* || @", delivery_id="@", requested_at="@"
)
RECIPES = [recipe_source(recipe) for recipe in sorted(read_recipes())]
SOURCES = st.sampled_from([GREEDY, make_source(opt_out="`true`"), *RECIPES])


def assert_sound(reading: Reading | ErrorCode) -> None:
    if not isinstance(reading, Reading):
        assert reading in (ErrorCode.INVALID_JSON, ErrorCode.INVALID_REQUEST)
        return
    assert reading.ignored >= 0
    keys = [withdrawal.delivery_key for withdrawal in reading.withdrawals]
    assert len(set(keys)) == len(keys)
    for withdrawal in reading.withdrawals:
        assert (withdrawal.phone_number.digits is None) == (
            withdrawal.phone_number.fault is not None
        )
        assert len(withdrawal.phone_number.received.encode()) <= 4 * 255
        assert "\0" not in withdrawal.phone_number.received


@given(SOURCES, JSON)
def test_any_json_is_read(source: WebhookSource, value: object) -> None:
    assert_sound(read_or_refuse(source, json.dumps(value).encode(), {}))


@given(SOURCES, st.binary(), st.dictionaries(st.text(), st.text()))
def test_any_bytes_are_read_or_refused(
    source: WebhookSource, body: bytes, headers: Mapping[str, str]
) -> None:
    assert_sound(read_or_refuse(source, body, headers))


@given(st.text() | st.text("[]{}='\"abc\n#.,1"))
def test_any_text_is_configuration_or_refused(text: str) -> None:
    with suppress(ConfigurationError):
        read_sources(text)
