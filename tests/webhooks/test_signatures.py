"""The verifier: published vectors, one set of attacks on every recipe, and answers to anything."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.timestamps import TimestampFormat
from gateway.webhooks.config import read_webhook_sources
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
from gateway.webhooks.source import WebhookSource
from tests.support.signing import NOW, NUMBER, SECRET, SENDERS, URL, Message, base64_text, mac
from tests.support.webhook_sources import read_sources

RECIPES = sorted(read_recipes())
TIMED = [recipe for recipe in RECIPES if SENDERS[recipe].times]
WRONG = {Refusal.WRONG_SIGNATURE, Refusal.MALFORMED_SIGNATURE}


def make_source(recipe: str, *secrets: str) -> WebhookSource:
    names = [f"SECRET_{number}" for number, _ in enumerate(secrets or [SECRET])]
    text = f"[source]\nrecipe = '{recipe}'\nsecret_env = {names}"
    environment = dict(zip(names, secrets or [SECRET], strict=True))
    sources = read_webhook_sources(
        text, secrets=environment, stores=["PIZZA"], public_url="https://gateway.example.com"
    )
    return sources["source"]


def make_request(headers: Mapping[str, str], message: Message) -> SignedRequest:
    lower = {name.lower(): value for name, value in headers.items()}
    return SignedRequest("POST", message.url, lower, message.body)


def signed_request(recipe: str, *, sent_at: datetime = NOW) -> SignedRequest:
    message = SENDERS[recipe].message(sent_at=sent_at)
    return make_request(SENDERS[recipe].headers(SECRET, message), message)


def with_signature(recipe: str, value: str) -> SignedRequest:
    request = signed_request(recipe)
    header = make_source(recipe).signature.header.lower()
    return replace(request, headers={**request.headers, header: value})


def test_every_recipe_has_a_sender_to_be_tested_with() -> None:
    assert set(SENDERS) == set(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_checks_the_time_where_its_sender_signs_one(recipe: str) -> None:
    assert (make_source(recipe).signature.timestamp is not None) == SENDERS[recipe].times


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_signed_message_is_accepted_and_read(recipe: str) -> None:
    source, request = make_source(recipe), signed_request(recipe)
    assert source.verify(request, NOW) is None
    reading = source.read(request.body, request.headers, NOW)
    assert [found.phone_number.digits for found in reading.withdrawals] == [NUMBER]
    assert reading.ignored == 0


@pytest.mark.parametrize("recipe", RECIPES)
def test_either_of_two_secrets_is_enough_during_a_rotation(recipe: str) -> None:
    other = "whsec_" + base64_text(b"the next one")
    assert make_source(recipe, other, SECRET).verify(signed_request(recipe), NOW) is None
    assert make_source(recipe, SECRET, other).verify(signed_request(recipe), NOW) is None


@pytest.mark.parametrize("recipe", RECIPES)
def test_another_secret_is_refused(recipe: str) -> None:
    source = make_source(recipe, "whsec_" + base64_text(b"not the sender's"))
    assert source.verify(signed_request(recipe), NOW) is Refusal.WRONG_SIGNATURE


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_message_without_signature_is_refused(recipe: str) -> None:
    request = signed_request(recipe)
    bare = replace(request, headers={})
    assert make_source(recipe).verify(bare, NOW) is Refusal.MISSING_SIGNATURE
    blank = with_signature(recipe, " ")
    assert make_source(recipe).verify(blank, NOW) is Refusal.MISSING_SIGNATURE


@pytest.mark.parametrize("recipe", [name for name in RECIPES if SENDERS[name].signs_body])
def test_a_changed_body_is_refused(recipe: str) -> None:
    request = signed_request(recipe)
    for body in (request.body.replace(b"1234", b"1235"), request.body + b" ", b"", b"\xff"):
        changed = replace(request, body=body)
        assert make_source(recipe).verify(changed, NOW) is Refusal.WRONG_SIGNATURE


@pytest.mark.parametrize("recipe", TIMED)
def test_a_changed_time_is_refused(recipe: str) -> None:
    request = signed_request(recipe, sent_at=NOW - timedelta(hours=1))
    fresh, timestamp = signed_request(recipe), make_source(recipe).signature.timestamp
    assert timestamp is not None
    header = timestamp.header.lower()
    replayed = replace(request, headers={**request.headers, header: fresh.headers[header]})
    assert make_source(recipe).verify(replayed, NOW) is Refusal.WRONG_SIGNATURE


DAY = 24 * 3600


@pytest.mark.parametrize("recipe", TIMED)
@pytest.mark.parametrize(("seconds", "refusal"), [(300, None), (301, Refusal.FUTURE_TIMESTAMP)])
def test_an_authentic_message_may_come_five_minutes_before_its_time(
    recipe: str, seconds: int, refusal: Refusal | None
) -> None:
    request = signed_request(recipe, sent_at=NOW + timedelta(seconds=seconds))
    assert make_source(recipe).verify(request, NOW) is refusal


@pytest.mark.parametrize("recipe", TIMED)
def test_an_authentic_message_with_an_id_may_come_a_week_late(recipe: str) -> None:
    source = make_source(recipe)
    latest = 300 if recipe == "standard-webhooks" else 7 * DAY
    for seconds, refusal in ((latest, None), (latest + 1, Refusal.STALE_TIMESTAMP)):
        request = signed_request(recipe, sent_at=NOW - timedelta(seconds=seconds))
        assert source.verify(request, NOW) is refusal


@pytest.mark.parametrize("recipe", ["hubspot", "klaviyo", "customerio"])
def test_an_authentic_message_of_which_an_opt_out_lacks_its_id_may_be_five_minutes_late(
    recipe: str,
) -> None:
    source, sender = make_source(recipe), SENDERS[recipe]
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
    request, timestamp = signed_request(recipe), make_source(recipe).signature.timestamp
    assert timestamp is not None
    rest = {
        name: text for name, text in request.headers.items() if name != timestamp.header.lower()
    }
    untimed = replace(request, headers=rest)
    assert make_source(recipe).verify(untimed, NOW) is Refusal.MISSING_TIMESTAMP


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
    assert make_source(recipe).verify(with_signature(recipe, garbage), NOW) in WRONG


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_signature_header_that_came_twice_is_refused(recipe: str) -> None:
    header = make_source(recipe).signature.header.lower()
    value = signed_request(recipe).headers[header].rpartition(" ")[2]  # without the v1a of others
    request = with_signature(recipe, f"{value},{value}")
    assert make_source(recipe).verify(request, NOW) in WRONG


@pytest.mark.parametrize("recipe", ["hubspot", "twilio"])
def test_another_address_is_refused_where_it_is_signed(recipe: str) -> None:
    request = replace(signed_request(recipe), url=URL.replace("source", "other"))
    assert make_source(recipe).verify(request, NOW) is Refusal.WRONG_SIGNATURE


# --- published vectors

STANDARD = Signature(
    Scheme.HMAC,
    "webhook-signature",
    encoding=Encoding.BASE64,
    prefix="v1,",
    separator=" ",
    signed="{id}.{timestamp}.{body}",
    id_header="webhook-id",
    timestamp=Timestamp("webhook-timestamp", TimestampFormat.UNIX, 300),
)
STANDARD_HEADERS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
STANDARD_BODY = b'{"test": 2432232314}'


def test_standard_webhooks_published_vector() -> None:
    """https://github.com/standard-webhooks/standard-webhooks and its libraries' tests."""
    source = make_source("standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    request = SignedRequest("POST", URL, STANDARD_HEADERS, STANDARD_BODY)
    assert source.verify(request, datetime.fromtimestamp(1614265330, UTC)) is None
    assert source.verify(request, NOW) is Refusal.STALE_TIMESTAMP


def test_github_published_vector() -> None:
    """https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries"""
    signature = Signature(Scheme.HMAC, "X-Hub-Signature-256", prefix="sha256=")
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    secret = b"It's a Secret to Everybody"
    for text in (digest, digest.upper()):
        headers = {"x-hub-signature-256": "sha256=" + text}
        request = SignedRequest("POST", "", headers, b"Hello, World!")
        assert verify(signature, request, [secret], NOW) is None


def test_slack_published_vector() -> None:
    """https://docs.slack.dev/authentication/verifying-requests-from-slack"""
    signature = Signature(
        Scheme.HMAC,
        "X-Slack-Signature",
        prefix="v0=",
        signed="v0:{timestamp}:{body}",
        timestamp=Timestamp("X-Slack-Request-Timestamp", TimestampFormat.UNIX, 300),
    )
    headers = {
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        "x-slack-request-timestamp": "1531420618",
    }
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
        b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
        b"&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands"
        b"%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    request = SignedRequest("POST", "", headers, body)
    sent_at = datetime.fromtimestamp(1531420618, UTC)
    assert verify(signature, request, [b"8f742231b10e8888abcd99yyyzzz85a5"], sent_at) is None


@pytest.mark.parametrize(
    ("body", "published"),
    [
        # Twilio's documentation and twilio-python's tests/unit/test_request_validator.py
        (
            b"Digits=1234&To=%2B18005551212&From=%2B14158675309&Caller=%2B14158675309"
            b"&CallSid=CA1234567890ABCDE",
            "RSOYDt4T1cUTdK1PDd93/VVr8B8=",
        ),
        # the same tests: a name that came several times
        (
            b"Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234",
            "IK+Dwps556ElfBT0I3Rgjkr1wJU=",
        ),
    ],
)
def test_twilio_published_vectors(body: bytes, published: str) -> None:
    source = make_source("twilio", "12345")
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    request = SignedRequest("POST", url, {"x-twilio-signature": published}, body)
    assert source.verify(request, NOW) is None
    with_port = replace(request, url=url.replace(".com", ".com:443"))
    assert source.verify(with_port, NOW) is None
    assert source.verify(replace(request, url=url + "3"), NOW) is Refusal.WRONG_SIGNATURE


# --- the rules that recipes do not show


@pytest.mark.parametrize(
    ("signed_url", "public_url", "refusal"),
    [
        ("https://a.example:443/x?y", "https://a.example/x?y", None),
        ("https://a.example/x?y", "https://a.example:443/x?y", None),
        ("http://a.example:80/x", "http://a.example/x", None),
        ("https://[::1]:443/x", "https://[::1]/x", None),
        ("https://a.example:8443/x", "https://a.example:8443/x", None),
        ("https://a.example/x", "https://a.example:8443/x", Refusal.WRONG_SIGNATURE),
        ("http://a.example:443/x", "http://a.example/x", Refusal.WRONG_SIGNATURE),
        ("https://a.example/x", "http://a.example/x", Refusal.WRONG_SIGNATURE),
    ],
)
def test_twilio_signs_with_or_without_the_default_port(
    signed_url: str, public_url: str, refusal: Refusal | None
) -> None:
    message = Message(b"From=%2B19995551234&Body=&Body=again", url=signed_url)
    headers = SENDERS["twilio"].headers(SECRET, message)
    request = make_request(headers, replace(message, url=public_url))
    assert make_source("twilio").verify(request, NOW) is refusal


def test_twilio_fields_that_came_twice_may_be_signed_as_they_came() -> None:
    digest = mac(SECRET, (URL + "ab" + "aa" + "aa").encode(), "sha1")
    headers = {"x-twilio-signature": base64_text(digest)}
    request = SignedRequest("POST", URL, headers, b"a=b&a=a&a=a")
    assert make_source("twilio").verify(request, NOW) is None


def test_all_parts_of_a_template_are_inserted_unchanged_and_once() -> None:
    signature = Signature(
        Scheme.HMAC,
        "X-Sig",
        Hash.SHA512,
        signed="é{method} {url}\n{id}|{timestamp}|{body}|{body}",
        id_header="X-Id",
        timestamp=Timestamp("X-Time", TimestampFormat.UNIX, 60),
    )
    body = b"{timestamp}{id}\xff\x00{body}"
    time = str(int(NOW.timestamp()))
    text = "é".encode() + f"POST {URL}\n".encode() + b"\xe9{body}|" + time.encode()
    digest = mac("secret", text + b"|" + body + b"|" + body, "sha512").hex()
    headers = {"x-sig": digest, "x-id": "é{body}", "x-time": time}
    request = SignedRequest("POST", URL, headers, body)
    assert verify(signature, request, [b"secret"], NOW) is None
    without_id = replace(request, headers={"x-sig": digest, "x-time": time})
    assert verify(signature, without_id, [b"secret"], NOW) is Refusal.MISSING_ID


@pytest.mark.parametrize(
    ("written_as", "time", "refusal"),
    [
        (TimestampFormat.UNIX, "1795377600", None),
        (TimestampFormat.UNIX, " 1795377600", Refusal.MALFORMED_TIMESTAMP),
        (TimestampFormat.UNIX, "1_795_377_600", Refusal.MALFORMED_TIMESTAMP),
        (TimestampFormat.UNIX, "+1795377600", Refusal.MALFORMED_TIMESTAMP),
        (TimestampFormat.UNIX, "\u00b2", Refusal.MALFORMED_TIMESTAMP),  # a digit, but not to int()
        (TimestampFormat.UNIX, "1795377600.0", Refusal.MALFORMED_TIMESTAMP),
        (TimestampFormat.UNIX, "1795377600000", Refusal.MALFORMED_TIMESTAMP),
        (TimestampFormat.UNIX, "9" * 5000, Refusal.MALFORMED_TIMESTAMP),
        (TimestampFormat.UNIX_MS, "1795377600000", None),
        (TimestampFormat.UNIX_MS, "1795377600", Refusal.STALE_TIMESTAMP),
        (TimestampFormat.RFC3339, "2026-11-22T20:00:00Z", None),
        (TimestampFormat.RFC3339, "2026-11-22t15:00:00.123456789-05:00", None),
        (TimestampFormat.RFC3339, "2026-11-22t20:00:00z", None),
        (TimestampFormat.RFC3339, "2026-11-22T20:00:00", Refusal.MALFORMED_TIMESTAMP),
        (TimestampFormat.RFC3339, "20261122T200000Z", Refusal.MALFORMED_TIMESTAMP),
        (TimestampFormat.RFC3339, "2026-13-22T20:00:00Z", Refusal.MALFORMED_TIMESTAMP),
        (TimestampFormat.RFC3339, "0001-01-01T00:00:00+23:59", Refusal.MALFORMED_TIMESTAMP),
        (TimestampFormat.RFC3339, "9999-12-31T23:59:59-23:59", Refusal.MALFORMED_TIMESTAMP),
        (TimestampFormat.HTTP_DATE, "Sun, 22 Nov 2026 20:00:00 GMT", None),
        (TimestampFormat.HTTP_DATE, "Sun, 22 Nov 2026 20:00:00 -0000", None),
        (
            TimestampFormat.HTTP_DATE,
            "Sun, 22 Nov 99999999999 20:00:00 GMT",
            Refusal.MALFORMED_TIMESTAMP,
        ),
        (TimestampFormat.HTTP_DATE, "soon", Refusal.MALFORMED_TIMESTAMP),
    ],
)
def test_times_are_read_in_four_formats(
    written_as: TimestampFormat, time: str, refusal: Refusal | None
) -> None:
    signature = Signature(
        Scheme.HMAC, "X-Sig", signed="{timestamp}{body}", timestamp=Timestamp("X-T", written_as, 60)
    )
    headers = {"x-sig": mac("secret", time.encode("latin-1")).hex(), "x-t": time}
    request = SignedRequest("POST", "", headers, b"")
    assert verify(signature, request, [b"secret"], NOW) is refusal


@pytest.mark.parametrize(
    ("value", "refusal"),
    [
        ("Bearer s3cret", None),
        ("bearer s3cret", None),
        ("s3cret", Refusal.MALFORMED_SIGNATURE),
        ("Basic s3cret", Refusal.MALFORMED_SIGNATURE),
        ("Bearer S3cret", Refusal.WRONG_SIGNATURE),
        ("Bearer s3cret2", Refusal.WRONG_SIGNATURE),
        ("Bearer s3cret,Bearer s3cret", Refusal.WRONG_SIGNATURE),
    ],
)
def test_a_token_is_compared_as_a_whole(value: str, refusal: Refusal | None) -> None:
    signature = Signature(Scheme.TOKEN, "Authorization", prefix="Bearer ")
    request = SignedRequest("POST", "", {"authorization": value}, b"")
    assert verify(signature, request, [b"s3cret"], NOW) is refusal


def test_a_token_may_be_any_text_in_utf_8() -> None:
    as_wsgi_gives_it = "gehéim☃".encode().decode("latin-1")
    request = SignedRequest("POST", "", {"x-token": as_wsgi_gives_it}, b"")
    signature = Signature(Scheme.TOKEN, "X-Token")
    assert verify(signature, request, ["gehéim☃".encode()], NOW) is None


def test_a_token_may_end_with_a_byte_that_looks_like_a_blank() -> None:
    token = "geheim à".encode()  # its last byte is a no-break space in latin-1
    signature = Signature(Scheme.TOKEN, "Authorization", prefix="Bearer ")
    headers = {"authorization": "Bearer " + token.decode("latin-1")}
    assert verify(signature, SignedRequest("POST", "", headers, b""), [token], NOW) is None


def test_a_prefix_is_required_and_other_versions_are_skipped() -> None:
    secret = b"secret"
    signature = Signature(Scheme.HMAC, "X-Sig", prefix="v1=", separator=",")
    good = mac(secret, b"body").hex()
    accepted = {
        f"v1={good}": None,
        f"v0={good},v1={'0' * 64}, v1={good}": None,
        f"v0={good}": Refusal.MALFORMED_SIGNATURE,
        good: Refusal.MALFORMED_SIGNATURE,
        f"v1={'0' * 64}": Refusal.WRONG_SIGNATURE,
        ",".join(["v0=00"] * 31 + [f"v1={good}"]): None,
        ",".join(["v0=00"] * 32 + [f"v1={good}"]): Refusal.MALFORMED_SIGNATURE,
    }
    for value, refusal in accepted.items():
        request = SignedRequest("POST", "", {"x-sig": value}, b"body")
        assert verify(signature, request, [secret], NOW) is refusal


def test_without_a_secret_nothing_is_accepted() -> None:
    request = SignedRequest("POST", "", {"x-token": "x"}, b"")
    assert verify(Signature(Scheme.TOKEN, "X-Token"), request, [], NOW) is Refusal.WRONG_SIGNATURE


# --- anything

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
