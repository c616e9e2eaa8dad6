"""``webhooks list`` and ``webhooks check``."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

import pytest

from gateway.webhooks import description
from gateway.webhooks.saved_message import SavedMessage, read_saved_message
from gateway.webhooks.signatures import SENTENCES, Refusal
from tests.support.commands import HOOKS, ONE_OF_EACH, Printed, gateway_here
from tests.support.factories import make_environment, run
from tests.support.signing import NOW, NUMBER, SECRET, SENDERS, Message

AT = NOW.isoformat()
SHOPIFY = "[shopify]\nrecipe = 'shopify'\nsecret_env = 'HOOK_SECRET'"
Check: TypeAlias = Callable[..., Printed]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """``webhooks check`` of a file with this content."""

    def check(source: str, content: bytes, *options: str, **changes: str) -> Printed:
        file = tmp_path / "message.http"
        file.write_bytes(content)
        return gateway_here("webhooks", "check", source, str(file), *options, **(HOOKS | changes))

    return check


def saved(recipe: str, *, body: bytes | None = None, end: str = "\r\n", line: str = "") -> bytes:
    """The recipe's signed opt-out, or another body under its signature, as a file."""
    sent = SENDERS[recipe].message(
        url=f"https://gateway.example.com/v1/webhooks/{recipe}{'?a=b' if line else ''}"
    )
    headers = [f"{name}: {text}" for name, text in SENDERS[recipe].headers(SECRET, sent).items()]
    lines = [line] * bool(line) + headers
    return "".join(f"{each}{end}" for each in [*lines, ""]).encode() + (
        sent.body if body is None else body
    )


def signed(recipe: str, event: object) -> bytes:
    """Another event of the recipe's sender, signed, as a file."""
    sent: Message = SENDERS[recipe].message(event)
    headers = SENDERS[recipe].headers(SECRET, sent)
    head = "".join(f"{name}: {text}\n" for name, text in headers.items())
    return f"{head}\n".encode() + sent.body


def test_list_shows_every_source_and_no_secret() -> None:
    printed = gateway_here("webhooks", "list", **HOOKS)
    assert (printed.exit_code, printed.err) == (0, "")
    sources = dict(re.findall(r"^\[(\S+)\]\n(.+?)\n\n", printed.out, re.M | re.S))
    assert list(sources) == list(SENDERS)
    assert sources["hubspot"].splitlines() == [
        "address         POST https://gateway.example.com/v1/webhooks/hubspot",
        "recipe          hubspot",
        "                https://developers.hubspot.com/docs/apps/developer-platform/build-apps/"
        "authentication/request-validation",
        "body            JSON, or a list of events",
        "signature       X-HubSpot-Signature-v3: HMAC-SHA256 in base64",
        "signed          {method}{url}{body}{timestamp}",
        "timestamp       X-HubSpot-Request-Timestamp: unix_ms, at most 300 s off",
        "                a message whose opt-outs have ids may be 7 days old",
        "secrets         HOOK_SECRET",
        "events          the body, or each element of a list",
        "opt-out         subscriptionType == 'contact.propertyChange' && propertyName == "
        "'sms_opted_out_number' && propertyValue",
        "phone numbers   propertyValue",
        "delivery id     eventId",
        "requested at    occurredAt",
        "store           PIZZA",
        "answer          json",
    ]


def test_list_without_sources_says_where_they_go() -> None:
    printed = gateway_here("webhooks", "list")
    expected = "No webhook sources configured. Set WEBHOOK_SOURCES.\n"
    assert printed == Printed(0, expected, "")


@pytest.mark.parametrize("recipe", SENDERS)
@pytest.mark.parametrize("end", ["\r\n", "\n"])
@pytest.mark.parametrize("request_line", ["", "POST /v1/webhooks/{}?a=b HTTP/1.1"])
def test_a_valid_message_of_every_recipe_is_accepted(
    recipe: str, end: str, request_line: str, check: Check
) -> None:
    printed = check(recipe, saved(recipe, end=end, line=request_line.format(recipe)), "--at", AT)
    assert (printed.exit_code, printed.err) == (0, "")
    steps = printed.steps
    assert steps["signature"] == "good"
    assert steps["events"] == "1 found, 0 ignored"
    assert steps["event 1"] == "opt-out of ******1234"
    assert steps["on record"].startswith("pending: ******1234, store PIZZA, requested ")
    assert steps["result"] == "accepted"


@pytest.mark.parametrize("recipe", [name for name, sender in SENDERS.items() if sender.signs_body])
def test_a_changed_body_is_refused_with_advice(recipe: str, check: Check) -> None:
    printed = check(recipe, saved(recipe) + b"\n", "--at", AT)
    assert printed.exit_code == 1
    assert printed.steps["signature"].startswith(
        "wrong signature: compare HOOK_SECRET with the secret at the sender; if they are the same,"
    )
    assert printed.steps["result"] == "refused: 401 unauthorized"


@pytest.mark.parametrize("recipe", [name for name, sender in SENDERS.items() if sender.times])
def test_a_saved_message_is_stale_and_judged_as_of_its_own_time(recipe: str, check: Check) -> None:
    late = (NOW + timedelta(days=8)).isoformat()
    printed = check(recipe, saved(recipe), "--at", late)
    assert printed.exit_code == 1
    assert printed.steps["signature"] == "good"
    hint = re.search(r"only the time is wrong; use --at (\S+) to", printed.steps["timestamp"])
    assert hint
    assert check(recipe, saved(recipe), "--at", hint[1]).exit_code == 0
    early = (NOW - timedelta(days=1)).isoformat()
    printed = check(recipe, saved(recipe), "--at", early)
    assert printed.steps["timestamp"].endswith(
        f" is more than 300 s after {early}; check the clocks of the sender and of this machine "
        f"only the time is wrong; use --at {hint[1]} to judge it as of then"
    )


def test_every_refusal_has_an_explanation() -> None:
    assert set(description.ADVICE) == set(SENTENCES) == set(Refusal)


def test_every_explanation_says_what_to_do_and_suits_a_message_that_is_not_a_file() -> None:
    for words in description.ADVICE.values():
        assert re.search(r"\b(check|compare)\b", words)
        assert "file" not in words


def test_events_are_told_apart(check: Check) -> None:
    event = json.loads(SENDERS["hubspot"].message().body)[0]
    events = [event, {"propertyName": "email"}, event | {"eventId": 2, "propertyValue": "x" * 40}]
    body = json.dumps(events).encode()
    url = "https://gateway.example.com/v1/webhooks/hubspot"
    headers = SENDERS["hubspot"].headers(SECRET, Message(body, NOW, url))
    head = "".join(f"{name}: {text}\n" for name, text in headers.items())
    printed = check("hubspot", f"{head}\n".encode() + body, "--at", AT)
    assert printed.exit_code == 0
    assert printed.out.splitlines()[4:] == [
        "events          3 found, 1 ignored",
        "event 1         opt-out of ******1234",
        "event 2         ignored: not an opt-out",
        "                  subscriptionType is missing",
        "                  propertyName is 'email'",
        "                  propertyValue is missing",
        "event 3         opt-out of a number that is longer than 32 characters",
        "on record       pending: ******1234, store PIZZA, requested 2026-11-18T11:06:40+00:00",
        "                  a repeat is recognized by the event's delivery_id",
        "                rejected, for a person to look at: a number that is longer than 32 "
        "characters, store PIZZA, requested 2026-11-18T11:06:40+00:00",
        "                  a repeat is recognized by the event's delivery_id",
        "result          accepted",
    ]


def test_a_failing_expression_is_named(check: Check) -> None:
    content = signed("iterable", {"eventName": "smsReceived", "dataFields": {}})
    printed = check("iterable", content)
    assert printed.steps["event 1"] == (
        "ignored: not an opt-out eventName is 'smsReceived' dataFields.smsMessage is missing"
    )
    assert printed.steps["result"] == "accepted; nothing in it is an opt-out"
    by_hand = ONE_OF_EACH + "\nopt_out = 'length(@) > `0`'\nevents = 'keys(a)'"
    printed = check("make", signed("make", 3), WEBHOOK_SOURCES=by_hand)
    assert printed.steps["events"] == (
        "1 found, 1 ignored the events expression fails on this value (JMESPathTypeError)"
    )
    assert printed.steps["event 1"] == (
        "ignored: the opt_out expression fails on this value (JMESPathTypeError)"
    )


def test_an_ignored_event_shows_what_was_looked_at_and_no_number(check: Check) -> None:
    by_hand = (
        ONE_OF_EACH
        + """
opt_out = '''a == 'x' && b.c[0] == `1` && stop_word(text) || !"d e" || f || g || h'''
"""
    )
    event = {
        "a": "+1 999 555 1234",
        "b": {"c": [9995551234]},
        "text": "no\x1b[2J" + "e" * 200,
        "d e": True,
        "g": [],
        "h": {},
    }
    printed = check("make", signed("make", event), WEBHOOK_SOURCES=by_hand)
    assert printed.out.splitlines()[3:12] == [
        "event 1         ignored: not an opt-out",
        "                  a is '+******1234'",
        "                  b.c[0] is ******1234",
        "                  text is 'no\\x1b[2J" + "e" * 90 + "…",
        '                  "d e" is true',
        "                  f is missing",
        "                  g is a list of 0",
        "                  h is an object",
        "on record       nothing",
    ]
    assert printed.exit_code == 3


def test_a_message_without_a_usable_number_opts_nobody_out(check: Check) -> None:
    event = {"action": "opt_out", "contacts": [{"phone": "1"}, {"name": "B"}]}
    printed = check("zapier", signed("zapier", event))
    assert printed.exit_code == 3
    assert printed.steps["result"] == "accepted, but opts nobody out"
    event["contacts"] = [{"phone": "1"}, {"phone": NUMBER}]
    assert check("zapier", signed("zapier", event)).exit_code == 0


def test_a_wrong_signature_is_tried_with_the_usual_mistakes(check: Check) -> None:
    printed = check("shopify", saved("shopify"), HOOK_SECRET=f"{SECRET}\n", WEBHOOK_SOURCES=SHOPIFY)
    assert printed.exit_code == 1
    assert printed.steps["signature"].endswith("good if the secret is used without its line end")
    printed = check("shopify", saved("shopify"), HOOK_SECRET="other", WEBHOOK_SOURCES=SHOPIFY)
    assert "good if" not in printed.out
    printed = check("twilio", saved("twilio"), PUBLIC_URL="http://gateway.example.com")
    assert printed.steps["signature"].endswith("good if the address is signed with https://")


@pytest.mark.parametrize(
    ("secret", "odd"),
    [
        (f"{SECRET}\n", "HOOK_SECRET ends with a line end"),
        (f" {SECRET}", "HOOK_SECRET has blanks around it"),
        (f'"{SECRET}"', "HOOK_SECRET has quotes around it"),
    ],
)
def test_an_odd_secret_is_pointed_out_at_the_start(secret: str, odd: str) -> None:
    settings = {"WEBHOOK_SOURCES": SHOPIFY, "HOOK_SECRET": secret}
    listed = gateway_here("webhooks", "list", **settings)
    assert f"secrets         HOOK_SECRET\n                {odd}\n" in listed.out
    checked = gateway_here("check", **settings)
    assert checked.steps["warnings"] == (
        f"WEBHOOK_SOURCES: [shopify] {odd}; is that part of the secret?"
    )
    assert (listed.exit_code, checked.exit_code) == (0, 0)
    assert SECRET not in listed.out + checked.out


def test_check_says_how_a_repeat_is_recognized(check: Check) -> None:
    zap = check("zapier", saved("zapier"))
    assert zap.steps["on record"].endswith("a repeat is recognized by the body, for 24 hours")
    event = {"type": "track", "event": "SMS Unsubscribed", "properties": {"phone": NUMBER}}
    segment = check("segment", signed("segment", event))
    assert segment.steps["on record"].endswith("for 24 hours; the message has no id")
    zendesk = check("zendesk", saved("zendesk"), "--at", AT)
    header = "the header X-Zendesk-Webhook-Invocation-Id"
    assert zendesk.steps["on record"].endswith(f"a repeat is recognized by {header}")


@pytest.mark.parametrize(
    ("recipe", "content", "words", "result"),
    [
        ("zapier", b"\n{", ("signature", "missing signature: the Authorization header is"), 401),
        ("zapier", b"Authorization: Basic x\n\n{}", ("signature", "malformed signature: "), 401),
        ("intercom", b"X-Hub-Signature: 12\n\n{}", ("signature", "malformed signature: "), 401),
        ("klaviyo", b"Klaviyo-Signature: 12\n\n{}", ("signature", "missing timestamp: "), 401),
        (
            "standard-webhooks",
            b"webhook-signature: v1,YQ==\nwebhook-timestamp: 1\n\n{}",
            ("signature", "missing id: the webhook-id header is missing"),
            401,
        ),
        ("zapier", b"Content-Encoding: gzip\n\n{}", ("request", "Send the body without"), 415),
        ("zapier", b"Content-Type: text/plain\n\n{}", ("request", "Send 'Content-Type: "), 415),
        ("twilio", b"Content-Type: text/plain\n\na=b", ("request", "Send 'Content-Type: "), 415),
        ("zapier", b"\n" + b" " * 1048577, ("request", "The body is larger than 1024 KiB"), 413),
        ("zapier", b"GET / HTTP/1.1\n\n{}", ("request", "The method is GET; webhooks are"), 405),
        ("segment", signed("segment", [{}]), ("body", "The body is a list; this source"), 400),
        ("zapier", signed("zapier", [])[:-1], ("body", "The body is not valid JSON"), 400),
    ],
)
def test_check_says_why_a_message_is_refused(
    recipe: str, content: bytes, words: tuple[str, str], result: int, check: Check
) -> None:
    printed = check(recipe, content, "--at", AT)
    assert printed.exit_code == 1
    topic, said = words
    assert printed.steps[topic].startswith(said)
    assert printed.steps["result"].startswith(f"refused: {result} ")


def test_a_body_that_an_editor_changed_is_noticed(check: Check) -> None:
    content = b"Content-Length: 2\n" + saved("shopify", body=b"{}\n")
    printed = check("shopify", content)
    assert "Content-Length says 2 bytes, so this is not the body" in printed.steps["message"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no blank line after the headers"),
        (b"A: b", "no blank line after the headers"),
        (b"A: b\n", "no blank line after the headers"),
        (b"A: b\nno header\n\n", "line 2 is not a header like 'Name: text'"),
        (b"A: b\n folded\n\n", "line 2 is not a header like 'Name: text'"),
        (b"HTTP/1.1 200 OK\n\n", "line 1 is not a header like 'Name: text'"),
        (b"POST / HTTP/1.1\n: x\n\n", "line 2 is not a header like 'Name: text'"),
        (b"POST /\x1b[2J HTTP/1.1\n\n", "line 1 is not a header like 'Name: text'"),
        (b"\xff\xfe\x00\n\n", "line 1 is not a header like 'Name: text'"),
    ],
)
def test_a_file_that_is_not_a_message_is_reported_in_one_line(
    content: bytes, why: str, check: Check
) -> None:
    printed = check("shopify", content)
    assert printed == Printed(1, "", f"This is not a saved message: {why}.\n")


def test_a_missing_file_is_reported_in_one_line() -> None:
    printed = gateway_here("webhooks", "check", "shopify", "/no/such", **HOOKS)
    assert printed == Printed(1, "", "/no/such cannot be read: No such file or directory\n")


@pytest.mark.parametrize("command", [["check", "shop", "-"], ["send", "shop"]])
@pytest.mark.parametrize(("sources", "known"), [("", "none"), (SHOPIFY, "shopify")])
def test_an_unknown_source_is_a_usage_error(command: list[str], sources: str, known: str) -> None:
    printed = gateway_here("webhooks", *command, **HOOKS | {"WEBHOOK_SOURCES": sources})
    assert (printed.exit_code, printed.out) == (2, "")
    what = f"there is no such webhook source; configured: {known}"
    assert printed.err.endswith(f"Error: Invalid value for SOURCE: {what}\n")


def test_the_bytes_of_the_body_are_kept_and_headers_joined() -> None:
    content = b"POST https://h.example/p?q HTTP/1.1\r\nA: 1 \r\nb:2\na: 3\r\n\r\n\r\n\xff\n"
    assert read_saved_message(content) == SavedMessage(
        "POST", "/p?q", {"a": "1,3", "b": "2"}, b"\r\n\xff\n"
    )


def test_standard_input_is_a_file_too(tmp_path: Path) -> None:
    message = tmp_path / "message.http"
    message.write_bytes(saved("shopify"))
    environment = make_environment(**HOOKS, FILE=str(message))
    script = (
        "import os, sys; from gateway.__main__ import main; "
        "os.dup2(os.open(os.environ['FILE'], os.O_RDONLY), 0); "
        "sys.argv[1:] = ['webhooks', 'check', 'shopify', '-']; main()"
    )
    checked = run("-c", script, environment=environment)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.endswith("result          accepted\n")
