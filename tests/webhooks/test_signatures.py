"""The verifier: one set of attacks on every recipe, and any input at all."""

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.timestamps import TimestampFormat
from gateway.webhooks.recipes import read_recipes
from gateway.webhooks.signatures import (
    Encoding,
    Hash,
    Refusal,
    Scheme,
    Signature,
    SignedRequest,
    Timestamp,
    verify,
)
from tests.support.signing import NOW, NUMBER, SECRET, SENDERS, URL, base64_text, mac
from tests.support.webhook_sources import make_request, read_sources, recipe_source

RECIPES = sorted(read_recipes())
TIMED = [recipe for recipe in RECIPES if SENDERS[recipe].times]
WRONG = {Refusal.WRONG_SIGNATURE, Refusal.MALFORMED_SIGNATURE}


def signed_request(recipe: str, *, sent_at: datetime = NOW) -> SignedRequest:
    message = SENDERS[recipe].message(sent_at=sent_at)
    return make_request(SENDERS[recipe].headers(SECRET, message), message)


def with_signature(recipe: str, value: str) -> SignedRequest:
    request = signed_request(recipe)
    header = recipe_source(recipe).signature.header.lower()
    return replace(request, headers={**request.headers, header: value})


def test_every_recipe_has_a_sender_to_be_tested_with() -> None:
    assert set(SENDERS) == set(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_checks_the_time_where_its_sender_signs_one(recipe: str) -> None:
    assert (recipe_source(recipe).signature.timestamp is not None) == SENDERS[recipe].times


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_signed_message_is_accepted_and_read(recipe: str) -> None:
    source, request = recipe_source(recipe), signed_request(recipe)
    assert source.verify(request, NOW) is None
    reading = source.read(request.body, request.headers, NOW)
    assert [found.phone_number.digits for found in reading.withdrawals] == [NUMBER]
    assert reading.ignored == 0


@pytest.mark.parametrize("recipe", RECIPES)
def test_either_of_two_secrets_is_enough_during_a_rotation(recipe: str) -> None:
    other = "whsec_" + base64_text(b"the next one")
    assert recipe_source(recipe, other, SECRET).verify(signed_request(recipe), NOW) is None
    assert recipe_source(recipe, SECRET, other).verify(signed_request(recipe), NOW) is None


@pytest.mark.parametrize("recipe", RECIPES)
def test_another_secret_is_refused(recipe: str) -> None:
    source = recipe_source(recipe, "whsec_" + base64_text(b"not the sender's"))
    assert source.verify(signed_request(recipe), NOW) is Refusal.WRONG_SIGNATURE


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_message_without_signature_is_refused(recipe: str) -> None:
    request = signed_request(recipe)
    bare = replace(request, headers={})
    assert recipe_source(recipe).verify(bare, NOW) is Refusal.MISSING_SIGNATURE
    blank = with_signature(recipe, " ")
    assert recipe_source(recipe).verify(blank, NOW) is Refusal.MISSING_SIGNATURE


@pytest.mark.parametrize("recipe", [name for name in RECIPES if SENDERS[name].signs_body])
def test_a_changed_body_is_refused(recipe: str) -> None:
    request = signed_request(recipe)
    for body in (request.body.replace(b"1234", b"1235"), request.body + b" ", b"", b"\xff"):
        changed = replace(request, body=body)
        assert recipe_source(recipe).verify(changed, NOW) is Refusal.WRONG_SIGNATURE


@pytest.mark.parametrize("recipe", TIMED)
def test_a_changed_time_is_refused(recipe: str) -> None:
    request = signed_request(recipe, sent_at=NOW - timedelta(hours=1))
    fresh, timestamp = signed_request(recipe), recipe_source(recipe).signature.timestamp
    assert timestamp is not None
    header = timestamp.header.lower()
    replayed = replace(request, headers={**request.headers, header: fresh.headers[header]})
    assert recipe_source(recipe).verify(replayed, NOW) is Refusal.WRONG_SIGNATURE


DAY = 24 * 3600


@pytest.mark.parametrize("recipe", TIMED)
@pytest.mark.parametrize(("seconds", "refusal"), [(300, None), (301, Refusal.FUTURE_TIMESTAMP)])
def test_an_authentic_message_may_come_five_minutes_before_its_time(
    recipe: str, seconds: int, refusal: Refusal | None
) -> None:
    request = signed_request(recipe, sent_at=NOW + timedelta(seconds=seconds))
    assert recipe_source(recipe).verify(request, NOW) is refusal


@pytest.mark.parametrize("recipe", TIMED)
def test_an_authentic_message_with_an_id_may_come_a_week_late(recipe: str) -> None:
    source = recipe_source(recipe)
    latest = 300 if recipe == "standard-webhooks" else 7 * DAY
    for seconds, refusal in ((latest, None), (latest + 1, Refusal.STALE_TIMESTAMP)):
        request = signed_request(recipe, sent_at=NOW - timedelta(seconds=seconds))
        assert source.verify(request, NOW) is refusal


@pytest.mark.parametrize("recipe", ["hubspot", "klaviyo", "customerio"])
def test_an_authentic_message_with_an_opt_out_without_id_may_be_five_minutes_late(
    recipe: str,
) -> None:
    source, sender = recipe_source(recipe), SENDERS[recipe]
    text = json.dumps(sender.event)
    for name in ("eventId", "external_id", "event_id"):
        text = text.replace(f'"{name}"', '"other"')
    for seconds, refusal in ((300, None), (301, Refusal.STALE_TIMESTAMP)):
        message = sender.message(json.loads(text), sent_at=NOW - timedelta(seconds=seconds))
        request = make_request(sender.headers(SECRET, message), message)
        assert source.verify(request, NOW) is refusal


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (b'[{"stop": 1, "id": 1}, {"stop": 1, "id": 2}]', None),
        (b'[{"stop": 1, "id": 1}, {"id": null}]', None),
        (b'[{"stop": 1, "id": 1}, {"stop": 1}]', Refusal.STALE_TIMESTAMP),
        (b'[{"id": 1}]', None),
        (b"[{}]", Refusal.STALE_TIMESTAMP),
        (b"[]", Refusal.STALE_TIMESTAMP),
        (b"", Refusal.STALE_TIMESTAMP),
        (b"\xff", Refusal.STALE_TIMESTAMP),
    ],
)
def test_every_opt_out_of_a_late_message_needs_an_id(body: bytes, refusal: Refusal | None) -> None:
    source = read_sources("""
        [helpdesk]
        secret_env = "HOOK"
        opt_out = "stop"
        phone_numbers = "phone"
        delivery_id = "id"
        late = 600
        signature = {header = "X-Signature", timestamp = {header = "X-Time"}}
    """)["helpdesk"]
    signature = mac("s3cret-of-the-hook", body).hex()
    ages = {300: None, 301: refusal, 600: refusal, 601: Refusal.STALE_TIMESTAMP}
    for age, expected in ages.items():
        headers = {"x-signature": signature, "x-time": str(int(NOW.timestamp()) - age)}
        assert source.verify(SignedRequest("POST", "", headers, body), NOW) is expected


@pytest.mark.parametrize("recipe", TIMED)
def test_a_message_without_its_time_is_refused(recipe: str) -> None:
    request, timestamp = signed_request(recipe), recipe_source(recipe).signature.timestamp
    assert timestamp is not None
    rest = {
        name: text for name, text in request.headers.items() if name != timestamp.header.lower()
    }
    untimed = replace(request, headers=rest)
    assert recipe_source(recipe).verify(untimed, NOW) is Refusal.MISSING_TIMESTAMP


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    "garbage",
    [
        "garbage",
        "====",
        "é" * 44,
        "\u2603",
        "\ud800",
        "\x00",
        "0" * 8000,
        "v1," * 3000,
        "v1, " * 33,
        "Bearer",
        "Bearer  ",
        "sha1=",
        "sha1=" + "g" * 40,
        "sha1=" + "0" * 39,
        "A" * 43 + "=",
        "-_" * 22,
        "\u0661" * 64,
    ],
)
def test_a_garbage_signature_is_refused(recipe: str, garbage: str) -> None:
    assert recipe_source(recipe).verify(with_signature(recipe, garbage), NOW) in WRONG


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_signature_header_that_came_twice_is_refused(recipe: str) -> None:
    header = recipe_source(recipe).signature.header.lower()
    value = signed_request(recipe).headers[header].rpartition(" ")[2]  # without the v1a of others
    request = with_signature(recipe, f"{value},{value}")
    assert recipe_source(recipe).verify(request, NOW) in WRONG


@pytest.mark.parametrize("recipe", ["hubspot", "twilio"])
def test_another_address_is_refused_where_it_is_signed(recipe: str) -> None:
    request = replace(signed_request(recipe), url=URL.replace("source", "other"))
    assert recipe_source(recipe).verify(request, NOW) is Refusal.WRONG_SIGNATURE


TEXTS = st.text() | st.text("0123456789abcdefABCDEF=+/, :-TZv1.", max_size=100)
SIGNATURES = st.builds(
    Signature,
    scheme=st.sampled_from(Scheme),
    header=st.just("X-Sig"),
    hash=st.sampled_from(Hash),
    encoding=st.sampled_from(Encoding),
    prefix=st.sampled_from(["", "v1,", "Bearer "]),
    separator=st.sampled_from(["", " ", ","]),
    signed=st.sampled_from(["{body}", "{id}.{timestamp}.{body}", "{method}{url}{body}{"]),
    id_header=st.just("X-Id"),
    timestamp=st.builds(
        Timestamp, st.just("X-Time"), st.sampled_from(TimestampFormat), st.just(300.0)
    ),
)
REQUESTS = st.builds(
    SignedRequest,
    method=TEXTS,
    url=TEXTS | st.just(URL),
    headers=st.dictionaries(st.sampled_from(["x-sig", "x-id", "x-time"]), TEXTS),
    body=st.binary(),
)


@given(SIGNATURES, REQUESTS, st.lists(st.binary(), max_size=2))
def test_the_verifier_answers_whatever_it_is_given(
    signature: Signature, request: SignedRequest, secrets: list[bytes]
) -> None:
    refusal = verify(signature, request, secrets, NOW)
    assert refusal is None or isinstance(refusal, Refusal)


@given(st.sampled_from(TimestampFormat), TEXTS)
def test_a_time_is_judged_whatever_it_is(written_as: TimestampFormat, time: str) -> None:
    signature = Signature(
        Scheme.TOKEN, "X-Sig", timestamp=Timestamp("X-Time", written_as, tolerance=300)
    )
    request = SignedRequest("POST", "", {"x-sig": "token", "x-time": time}, b"")
    assert verify(signature, request, [b"token"], NOW) is not Refusal.WRONG_SIGNATURE
