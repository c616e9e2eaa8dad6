"""The usual mistakes behind a wrong signature are found and named."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks.config import read_webhook_sources
from gateway.webhooks.guesses import explain
from gateway.webhooks.signatures import SignedRequest
from gateway.webhooks.source import WebhookSource
from tests.support.signing import NOW, base64_text, mac, unix

SECRET = "5ca1ab1e"  # of hex digits, so that it can be decoded
BODY = b'{"type":"stop","phone":"+1 999 555 1234","name":"J\xc3\xb6rg"}'
URL = "https://gateway.example.com/v1/webhooks/shop?a=b"
TIME = unix(NOW)


def make_source(secret: str = SECRET, **signature: str) -> WebhookSource:
    keys = {"header": "X-Signature", **signature}
    table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
    text = f"""
        [shop]
        secret_env = "SECRET"
        opt_out = "type == 'stop'"
        phone_numbers = "phone"
        signature = {{{table}}}
    """
    return read_webhook_sources(
        text, secrets={"SECRET": secret}, stores=["PIZZA"], public_url="https://gateway.example.com"
    )["shop"]


def explained(
    source: WebhookSource, headers: Mapping[str, str], *, body: bytes = BODY, url: str = URL
) -> str | None:
    request = SignedRequest("POST", url, {**headers, "host": "gateway.example.com"}, body)
    assert source.verify(request, NOW) is not None
    words = explain(source.signature, request, source.secrets, NOW)
    assert SECRET not in (words or "")
    return words


def signature(text: bytes = BODY, secret: str | bytes = SECRET, hashed: str = "sha256") -> str:
    return mac(secret, text, hashed).hex()


@pytest.mark.parametrize(
    ("configured", "words"),
    [
        (f"{SECRET}\n", "the secret is used without its line end"),
        (f"{SECRET}\r\n", "the secret is used without its line end"),
        (f" {SECRET} ", "the secret is used without the blanks around it"),
        (f'"{SECRET}"', "the secret is used without the quotes around it"),
        (f"'{SECRET}'\n", "the secret is used without the quotes around it"),
    ],
)
def test_what_was_copied_along_with_a_secret(configured: str, words: str) -> None:
    assert explained(make_source(configured), {"x-signature": signature()}) == words


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (f"{SECRET}\n".encode(), "the secret is used with a line end behind it"),
        (f'"{SECRET}"'.encode(), "the secret is used with double quotes around it"),
        (f"'{SECRET}'".encode(), "the secret is used with single quotes around it"),
        (b"\x5c\xa1\xab\x1e", "the secret is decoded from hex"),
    ],
)
def test_what_the_sender_makes_of_a_secret(key: bytes, words: str) -> None:
    assert explained(make_source(), {"x-signature": signature(secret=key)}) == words


def test_a_secret_after_whsec_is_base64_or_text() -> None:
    secret = "whsec_c2VjcmV0"
    assert explained(make_source(secret), {"x-signature": signature(secret=b"secret")}) == (
        "the secret is decoded from base64 (secret_format = 'whsec')"
    )
    source = make_source(secret, secret_format="whsec")
    assert explained(source, {"x-signature": signature(secret=secret)}) == (
        "the secret is used as the text that it is (secret_format = 'text')"
    )
    assert explained(source, {"x-signature": signature(secret="c2VjcmV0")}) == (
        "the secret is used as the text after whsec_"
    )


@pytest.mark.parametrize(
    ("keys", "headers", "words"),
    [
        (
            {},
            {"x-signature": base64_text(mac(SECRET, BODY))},
            "the signature is base64, not hex",
        ),
        (
            {"encoding": "base64"},
            {"x-signature": signature()},
            "the signature is hex, not base64",
        ),
        (
            {"hash": "sha1"},
            {"x-signature": signature()},
            "the hash is sha256, not sha1",
        ),
        (
            {},
            {"x-signature": signature(hashed="sha1")},
            "the hash is sha1, not sha256",
        ),
        (
            {},
            {"x-signature": f"sha256={signature()}"},
            "the prefix is 'sha256='",
        ),
        (
            {"prefix": "sha256="},
            {"x-signature": signature()},
            "the signature has no prefix",
        ),
        (
            {},
            {"x-signature": f"sha1={signature(hashed='sha1')}"},
            "the prefix is 'sha1=', and the hash is sha1, not sha256",
        ),
        (
            {},
            {"x-hub-signature": signature()},
            "the signature is in the header x-hub-signature",
        ),
        (
            {},
            {"x-signature": signature(f"{TIME}.".encode() + BODY), "x-timestamp": TIME},
            "what is signed is {timestamp}.{body}, where the timestamp is in x-timestamp",
        ),
        (
            {},
            {
                "x-signature": signature(f"m1.{TIME}.".encode() + BODY),
                "x-timestamp": TIME,
                "x-id": "m1",
            },
            "what is signed is {id}.{timestamp}.{body}, where the timestamp is in x-timestamp, "
            "where the id is in x-id",
        ),
        (
            {},
            {"x-signature": signature(URL.encode() + BODY)},
            "what is signed is {url}{body}",
        ),
    ],
)
def test_how_the_signature_is_made(
    keys: Mapping[str, str], headers: Mapping[str, str], words: str
) -> None:
    assert explained(make_source(**keys), headers) == words


@pytest.mark.parametrize(
    ("signed", "words"),
    [
        (URL.replace("shop?", "shop/?"), "with a slash at its end"),
        (URL.replace("https", "http"), "with http://"),
        (URL.replace(".com", ".com:443"), "with :443"),
        (URL.partition("?")[0], "without a query"),
        (URL.replace("gateway", "hooks"), "for the host hooks.example.com"),
        (URL.replace("gateway.example.com", "localhost"), "for the host localhost"),
    ],
)
def test_which_address_is_signed(signed: str, words: str) -> None:
    headers = {
        "x-signature": signature(signed.encode() + BODY),
        "x-forwarded-host": "hooks.example.com",
    }
    source = make_source(signed="{url}{body}")
    assert explained(source, headers) == f"the address is signed {words}"


def test_an_address_with_a_slash_or_a_port_may_be_signed_without() -> None:
    source = make_source(signed="{url}{body}")
    headers = {"x-signature": signature(URL.encode() + BODY)}
    given = URL.replace("shop?", "shop/?")
    assert explained(source, headers, url=given) == (
        "the address is signed without the slash at its end"
    )
    given = URL.replace(".com", ".com:8443")
    assert explained(source, headers, url=given) == "the address is signed without a port"


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        (BODY + b"\n", "the body has no line end at its end"),
        (BODY + b"\r\n", "the body has no line end at its end"),
        (json.dumps(json.loads(BODY), indent=4).encode(), "the body is JSON without spaces"),
        (json.dumps(json.loads(BODY)).encode(), "the body is JSON without spaces"),
    ],
)
def test_a_body_that_was_rewritten_before_it_was_saved(saved: bytes, words: str) -> None:
    found = explained(make_source(), {"x-signature": signature()}, body=saved)
    assert found == f"{words}, so the body is not byte for byte what was sent"


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b'{"a": "\\u00f6", "b": 1}', "with a space after commas and colons with \\u escapes"),
        ('{"a": "ö", "b": 1}'.encode(), "with a space after commas and colons"),
        (b'{\n  "a": "\\u00f6",\n  "b": 1\n}', "indented by 2 with \\u escapes"),
        (b'{"a":"\\u00f6","b":1}', "without spaces with \\u escapes"),
    ],
)
def test_json_may_be_written_in_several_ways(sent: bytes, words: str) -> None:
    saved = '{ "a" : "ö", "b" : 1 }'.encode()
    found = explained(make_source(), {"x-signature": signature(sent)}, body=saved)
    assert found == f"the body is JSON {words}, so the body is not byte for byte what was sent"


def test_two_mistakes_at_once() -> None:
    source = make_source(f"{SECRET}\n", encoding="base64")
    assert explained(source, {"x-signature": signature()}) == (
        "the secret is used without its line end, and the signature is hex, not base64"
    )


def test_a_different_secret_is_not_a_usual_mistake() -> None:
    assert explained(make_source(), {"x-signature": signature(secret="other")}) is None
    assert explained(make_source(), {}) is None


def test_twilio_may_sign_another_address_or_use_a_cleaner_token() -> None:
    fields = "From+19995551234"
    body = b"From=%2B19995551234"
    text = """
        [shop]
        recipe = "twilio"
        secret_env = "SECRET"
    """
    source = read_webhook_sources(
        text,
        secrets={"SECRET": f"{SECRET}\n"},
        stores=["PIZZA"],
        public_url="https://gateway.example.com",
    )["shop"]
    signed = URL.replace("https", "http") + fields
    headers = {"x-twilio-signature": base64_text(mac(SECRET, signed.encode(), "sha1"))}
    assert explained(source, headers, body=body) == (
        "the secret is used without its line end, and the address is signed with http://"
    )


@given(
    st.sampled_from(["hex", "base64"]),
    st.dictionaries(st.sampled_from(["x-signature", "x-time", "x-id", "x-token"]), st.text()),
    st.binary() | st.sampled_from([b"{}", b'{"a":"\\ud800"}']),
    st.text("https:/.?#[]@a1") | st.just(URL),
)
def test_anything_is_explained_or_not(
    encoding: str, headers: Mapping[str, str], body: bytes, url: str
) -> None:
    source = make_source(encoding=encoding, signed="{url}{body}")
    explain(source.signature, SignedRequest("POST", url, headers, body), source.secrets, NOW)
