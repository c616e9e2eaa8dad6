"""How senders sign: vectors that they publish, templates, times, tokens and prefixes."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.timestamps import TimestampFormat
from gateway.webhooks.signatures import (
    Hash,
    Refusal,
    Scheme,
    Signature,
    SignedRequest,
    Timestamp,
    verify,
)
from tests.support.signing import NOW, SECRET, SENDERS, URL, Message, base64_text, mac
from tests.support.webhook_sources import make_request, recipe_source

STANDARD_HEADERS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
STANDARD_BODY = b'{"test": 2432232314}'


def test_standard_webhooks_published_vector() -> None:
    """https://github.com/standard-webhooks/standard-webhooks and its libraries' tests."""
    source = recipe_source("standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
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
    source = recipe_source("twilio", "12345")
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    request = SignedRequest("POST", url, {"x-twilio-signature": published}, body)
    assert source.verify(request, NOW) is None
    with_port = replace(request, url=url.replace(".com", ".com:443"))
    assert source.verify(with_port, NOW) is None
    assert source.verify(replace(request, url=url + "3"), NOW) is Refusal.WRONG_SIGNATURE


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
    assert recipe_source("twilio").verify(request, NOW) is refusal


def test_twilio_fields_that_came_twice_may_be_signed_as_they_came() -> None:
    digest = mac(SECRET, (URL + "ab" + "aa" + "aa").encode(), "sha1")
    headers = {"x-twilio-signature": base64_text(digest)}
    request = SignedRequest("POST", URL, headers, b"a=b&a=a&a=a")
    assert recipe_source("twilio").verify(request, NOW) is None


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
