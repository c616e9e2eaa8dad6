"""The commands, as a person at a terminal meets them."""

import hashlib
import json
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from gateway.__main__ import main
from gateway.assembly import open_ledger
from gateway.consent import OptOut, Outcome
from gateway.delivery.attempts import settled
from gateway.errors import ErrorCode, Failure
from gateway.settings import Settings
from gateway.webhooks import checkup
from gateway.webhooks.saved_message import SavedDelivery, read_saved_delivery
from gateway.webhooks.signatures import Refusal
from tests.support.factories import make_environment, make_opt_out_request, make_settings, run
from tests.support.signing import NOW, NUMBER, SECRET, SENDERS, Delivery

AT = NOW.isoformat()
ONE_OF_EACH = "\n".join(
    f"[{recipe}]\nrecipe = '{recipe}'\nsecret_env = 'HOOK_SECRET'" for recipe in SENDERS
)
HOOKS = {
    "WEBHOOK_SOURCES": ONE_OF_EACH,
    "HOOK_SECRET": SECRET,
    "PUBLIC_URL": "https://gateway.example.com",
}


def gateway(*arguments: str, **changes: str) -> CompletedProcess[str]:
    return run("-m", "gateway", *arguments, environment=make_environment(**changes))


@dataclass(frozen=True)
class Printed:
    exit_code: int
    out: str
    err: str

    @property
    def steps(self) -> Mapping[str, str]:
        """What is said of each topic."""
        found: dict[str, str] = {}
        topic = ""
        for line in self.out.splitlines():
            topic = line[:16].strip() or topic
            found[topic] = " ".join(filter(None, [found.get(topic), line[16:].strip()]))
        return found


class Terminal:
    """Runs commands in this process, which is faster, in an environment of its own."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
    ) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self._folder = folder

    def run(self, *arguments: str, **changes: str) -> Printed:
        for name in HOOKS:
            self._monkeypatch.delenv(name, raising=False)
        for name, text in make_environment(**changes).items():
            self._monkeypatch.setenv(name, text)
        exit_code = main(arguments)
        printed = self._capsys.readouterr()
        assert SECRET not in printed.out + printed.err
        assert NUMBER not in printed.out + printed.err
        return Printed(exit_code, printed.out, printed.err)

    def check(self, source: str, content: bytes, *options: str, **changes: str) -> Printed:
        """``webhooks check`` of a file with this content."""
        file = self._folder / "delivery.http"
        file.write_bytes(content)
        return self.run("webhooks", "check", source, str(file), *options, **(HOOKS | changes))


@pytest.fixture
def terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Terminal:
    return Terminal(monkeypatch, capsys, tmp_path)


# --- help and usage


@pytest.mark.parametrize(
    "command",
    [
        *["worker", "release", "make-key", "check", "status", "retry"],
        *["webhooks list", "webhooks check"],
    ],
)
def test_help_has_an_example_of_each_command(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main([*command.split(), "--help"])
    assert left.value.code == 0
    assert f"example:\n  python -m gateway {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["bake"],
        ["webhooks"],
        ["make-key"],
        ["make-key", "two words"],
        ["make-key", "a:b"],
        ["make-key", "x" * 65],
        ["make-key", "billing", "--store", "PIZ"],
        ["make-key", "billing", "--store", "PIZZA,BURGER"],
        ["make-key", "billing", "--store", "PIZZA:BURGER"],
        ["make-key", "billing", "--store", "12345"],
        ["retry"],
        ["retry", "--dry-run"],
        ["retry", "--all", "--code", "crmtext_timeout"],
        ["retry", "--code", "oops"],
        ["webhooks", "check", "shopify"],
        ["webhooks", "check", "shopify", "-", "--at", "yesterday"],
    ],
)
def test_a_wrong_call_is_2_and_says_what_is_wrong(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "error: " in printed.err


# --- make-key


def test_a_made_key_opens_the_gateway() -> None:
    made = gateway("make-key", "cart", "--store", "pizza", "BURGER", "--store", "pizza")
    assert (made.returncode, made.stderr) == (0, "")
    key = re.search(r"^key +(\S+)$", made.stdout, re.M)
    entry = re.search(r"^entry +(\S+)$", made.stdout, re.M)
    assert key
    assert entry
    assert len(key[1]) >= 43  # 32 bytes in base64
    digest = hashlib.sha256(key[1].encode()).hexdigest()
    assert entry[1] == f"cart:{digest}:PIZZA,BURGER"
    [known] = make_settings(GATEWAY_API_KEYS=entry[1]).api_keys
    assert (known.name, known.digest.hex()) == ("cart", digest)
    assert known.stores == frozenset({"PIZZA", "BURGER"})


def test_a_key_is_made_without_an_environment_and_never_the_same() -> None:
    made = [run("-m", "gateway", "make-key", "a", environment={}).stdout for _ in range(2)]
    entries = [re.findall(r"^entry +(a:[0-9a-f]{64})$", text, re.M) for text in made]
    assert [len(found) for found in entries] == [1, 1]
    assert entries[0] != entries[1]


# --- check


def test_check_says_what_is_configured() -> None:
    checked = gateway("check", CRMTEXT_RATE="2.5", **HOOKS)
    assert (checked.returncode, checked.stderr) == (0, "")
    lines = checked.stdout.splitlines()
    assert lines[:9] == [
        "stores          PIZZA, the default",
        "                BURGER",
        "API keys        billing, all stores",
        "                burger, BURGER",
        "CRM Text        http://127.0.0.1:9/smapi/rest, 2 s a call",
        "pace            2.5 calls a second",
        "database        SQLite, for one machine",
        "delivery        10 days",
        "public URL      https://gateway.example.com",
    ]
    assert lines[9] == "webhooks        standard-webhooks (standard-webhooks)"
    for secret in ("pizza:secret", "burger-secret", "pizzeria", SECRET, "/nowhere"):
        assert secret not in checked.stdout


def test_check_tells_postgres_without_its_password() -> None:
    checked = gateway("check", DATABASE_URL="postgres://us3r:pa55@db.example.com/x")
    assert "database        Postgres\n" in checked.stdout
    assert "us3r" not in checked.stdout
    assert "pa55" not in checked.stdout


@pytest.mark.parametrize("command", ["check", "worker", "release", "status", "webhooks list"])
def test_all_faults_are_named_at_once_on_standard_error(command: str) -> None:
    faulty = gateway(
        *command.split(), CRMTEXT_AUTH_STRINGS="a:s3cret", CRMTEXT_RATE="many", PORT="x"
    )
    assert (faulty.returncode, faulty.stdout) == (1, "")
    assert [line.split(":")[0] for line in faulty.stderr.splitlines()] == [
        "CRMTEXT_AUTH_STRINGS",
        "CRMTEXT_RATE",
        "PORT",
    ]
    assert "s3cret" not in faulty.stderr


# --- status and retry, on a ledger


def fail(
    settings: Settings,
    *,
    store: str = "PIZZA",
    code: ErrorCode = ErrorCode.CRMTEXT_TIMEOUT,
    days_ago: float = 0,
) -> OptOut:
    """An opt-out that came in so long ago and failed."""
    ledger = open_ledger(settings)
    request = make_opt_out_request(store=store)
    claim = ledger.begin(request, None, patience_seconds=0, in_background=False).claim
    assert claim
    outcome = Outcome(Failure(code, "Made up."))
    opt_out = settled(claim, outcome, 1)
    assert ledger.settle(claim, opt_out, outcome)
    with sqlite3.connect(settings.database_url.database or "") as connection:
        created_at = (opt_out.created_at - timedelta(days=days_ago)).replace(tzinfo=None)
        change = "UPDATE opt_outs SET created_at = ? WHERE id = ?"
        connection.execute(change, [created_at.isoformat(" ", "microseconds"), opt_out.id])
    connection.close()
    return opt_out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--all"], "3 failed opt-outs will be delivered again."),
        (["--all", "--older-too"], "4 failed opt-outs will be delivered again."),
        (["--all", "--store", "BURGER"], "1 failed opt-out will be delivered again."),
        (["--store", "burger"], "1 failed opt-out will be delivered again."),
        (["--store", "PIZZA", "--older-too"], "3 failed opt-outs will be delivered again."),
        (["--code", "crmtext_timeout"], "1 failed opt-out will be delivered again."),
        (
            ["--code", "crmtext_timeout", "--older-too"],
            "2 failed opt-outs will be delivered again.",
        ),
        (["--code", "internal_error"], "0 failed opt-outs will be delivered again."),
        (
            ["--code", "crmtext_auth_failed", "--store", "BURGER"],
            "1 failed opt-out will be delivered again.",
        ),
    ],
)
@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_retry_takes_what_was_asked_for_and_no_more(
    options: list[str], expected: str, dry_run: list[str], terminal: Terminal, settings: Settings
) -> None:
    fail(settings, days_ago=9.9)
    fail(settings, days_ago=10.1)
    fail(settings, code=ErrorCode.CRMTEXT_AUTH_FAILED)
    fail(settings, code=ErrorCode.CRMTEXT_AUTH_FAILED, store="BURGER")
    ledger = open_ledger(settings)
    ledger.accept([(make_opt_out_request(), None)])
    url = settings.database_url.render_as_string()
    printed = terminal.run("retry", *options, *dry_run, DATABASE_URL=url)
    assert (printed.exit_code, printed.err) == (0, "")
    wanted = expected.replace("will be", "would be") if dry_run else expected
    assert printed.out.splitlines()[0] == wanted
    summary = ledger.summary()
    assert summary.pending == 1 + (0 if dry_run else int(expected[0]))
    assert sum(summary.opt_outs.values()) == 5


def test_retry_says_what_it_left_alone(terminal: Terminal, settings: Settings) -> None:
    fail(settings, days_ago=11)
    url = settings.database_url.render_as_string()
    printed = terminal.run("retry", "--all", DATABASE_URL=url)
    assert printed.out == (
        "0 failed opt-outs will be delivered again.\n"
        "1 failed opt-out older than 10 days left alone, since a consent given after it would be "
        "withdrawn; --older-too takes them as well.\n"
    )


def test_retry_for_a_store_that_is_not_configured_is_refused(
    terminal: Terminal, settings: Settings
) -> None:
    url = settings.database_url.render_as_string()
    printed = terminal.run("retry", "--store", "SUSHI", DATABASE_URL=url)
    assert printed == Printed(1, "", "--store: must be one of PIZZA, BURGER\n")


def test_status_shows_what_is_on_record_and_what_waits(
    terminal: Terminal, settings: Settings
) -> None:
    url = settings.database_url.render_as_string()
    empty = terminal.run("status", DATABASE_URL=url)
    assert empty.out == (
        "opt-outs        none\nerrors          none\npending         0\n"
        "worker          never gave a sign of life; 'worker' runs one\n"
    )
    fail(settings)
    ledger = open_ledger(settings)
    ledger.accept([(make_opt_out_request(None), None)])
    ledger.accept([(make_opt_out_request(source="webhook:shop"), None)])
    ledger.worker_is_alive()
    with sqlite3.connect(settings.database_url.database or "") as connection:
        connection.execute(
            "UPDATE opt_outs SET created_at = datetime('now', '-3 hours') WHERE status = 'pending'"
        )
    connection.close()
    printed = terminal.run("status", DATABASE_URL=url)
    assert (printed.exit_code, printed.err) == (0, "")
    *lines, worker = printed.out.splitlines()
    assert lines == [
        "opt-outs                1 failed    api:billing",
        "                        1 pending   webhook:shop",
        "                        1 rejected  api:billing",
        "errors                  1 failed    crmtext_timeout",
        "                        1 rejected  invalid_phone_number",
        "pending         1, the oldest for 3 hours",
    ]
    assert re.fullmatch(r"worker +gave its last sign of life \d seconds? ago", worker)
    with sqlite3.connect(settings.database_url.database or "") as connection:
        connection.execute("UPDATE clock SET at = datetime('now', '-10 minutes')")
    connection.close()
    printed = terminal.run("status", DATABASE_URL=url)
    assert printed.steps["worker"] == (
        "gave its last sign of life 10 minutes ago (silent: does one run?)"
    )


@pytest.mark.parametrize("command", [["status"], ["retry", "--all"]])
def test_a_ledger_without_tables_is_named_as_such(
    command: list[str], terminal: Terminal, tmp_path: Path
) -> None:
    printed = terminal.run(*command, DATABASE_URL=f"sqlite:///{tmp_path}/new.db")
    what = "The ledger's tables are not those of this release; 'release' makes them.\n"
    assert printed == Printed(1, "", what)


@pytest.mark.parametrize("command", [["status"], ["retry", "--all"], ["release"]])
def test_a_database_that_is_away_is_one_line(command: list[str]) -> None:
    failed = gateway(*command, DATABASE_URL="postgres://u:s3cret@127.0.0.1:9/x")
    assert failed.returncode == 1
    assert len(failed.stderr.splitlines()) == 1
    assert "s3cret" not in failed.stdout + failed.stderr


# --- webhooks


def saved(recipe: str, *, body: bytes | None = None, end: str = "\r\n", line: str = "") -> bytes:
    """The recipe's signed opt-out, or another body under its signature, as a file."""
    sent = SENDERS[recipe].delivery(
        url=f"https://gateway.example.com/v1/webhooks/{recipe}{'?a=b' if line else ''}"
    )
    headers = [f"{name}: {text}" for name, text in SENDERS[recipe].headers(SECRET, sent).items()]
    lines = [line] * bool(line) + headers
    return "".join(f"{each}{end}" for each in [*lines, ""]).encode() + (
        sent.body if body is None else body
    )


def signed(recipe: str, event: object) -> bytes:
    """Another event of the recipe's sender, signed, as a file."""
    sent: Delivery = SENDERS[recipe].delivery(event)
    headers = SENDERS[recipe].headers(SECRET, sent)
    head = "".join(f"{name}: {text}\n" for name, text in headers.items())
    return f"{head}\n".encode() + sent.body


def test_list_shows_every_source_and_no_secret(terminal: Terminal) -> None:
    printed = terminal.run("webhooks", "list", **HOOKS)
    assert (printed.exit_code, printed.err) == (0, "")
    sources = dict(re.findall(r"^\[(\S+)\]\n(.+?)\n\n", printed.out, re.M | re.S))
    assert list(sources) == list(SENDERS)
    assert sources["hubspot"].splitlines() == [
        "address         POST https://gateway.example.com/v1/webhooks/hubspot",
        "recipe          hubspot",
        "body            JSON, or a list of events",
        "signature       X-HubSpot-Signature-v3: HMAC-SHA256 in base64",
        "signed          {method}{url}{body}{timestamp}",
        "timestamp       X-HubSpot-Request-Timestamp: unix_ms, 300 s off at most",
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


def test_list_without_sources_says_where_they_go(terminal: Terminal) -> None:
    printed = terminal.run("webhooks", "list")
    expected = "No webhook sources are configured; WEBHOOK_SOURCES is where they go.\n"
    assert printed == Printed(0, expected, "")


@pytest.mark.parametrize("recipe", SENDERS)
@pytest.mark.parametrize("end", ["\r\n", "\n"])
@pytest.mark.parametrize("request_line", ["", "POST /v1/webhooks/{}?a=b HTTP/1.1"])
def test_a_sound_delivery_of_every_recipe_is_accepted(
    recipe: str, end: str, request_line: str, terminal: Terminal
) -> None:
    printed = terminal.check(
        recipe, saved(recipe, end=end, line=request_line.format(recipe)), "--at", AT
    )
    assert (printed.exit_code, printed.err) == (0, "")
    steps = printed.steps
    assert steps["signature"] == "good"
    assert steps["events"] == "1 found, 0 of them ignored"
    assert steps["event 1"] == "opt-out of ******1234"
    assert steps["on record"].startswith("pending: ******1234, store PIZZA, requested ")
    assert steps["result"] == "accepted"


@pytest.mark.parametrize("recipe", [name for name, sender in SENDERS.items() if sender.signs_body])
def test_a_changed_body_is_refused_with_what_to_do(recipe: str, terminal: Terminal) -> None:
    printed = terminal.check(recipe, saved(recipe) + b"\n", "--at", AT)
    assert printed.exit_code == 1
    assert printed.steps["signature"].startswith("wrong signature: the secret is another than")
    assert printed.steps["result"] == "refused: 401 unauthorized"


@pytest.mark.parametrize("recipe", [name for name, sender in SENDERS.items() if sender.times])
def test_a_saved_delivery_is_stale_and_judged_as_of_its_own_time(
    recipe: str, terminal: Terminal
) -> None:
    late = (NOW + timedelta(days=1)).isoformat()
    printed = terminal.check(recipe, saved(recipe), "--at", late)
    assert printed.exit_code == 1
    assert printed.steps["signature"] == "good"
    hint = re.search(r"only the time is wrong: --at (\S+) judges", printed.steps["timestamp"])
    assert hint
    assert terminal.check(recipe, saved(recipe), "--at", hint[1]).exit_code == 0
    early = (NOW - timedelta(days=1)).isoformat()
    printed = terminal.check(recipe, saved(recipe), "--at", early)
    assert printed.steps["timestamp"].startswith("future timestamp: it was sent more than 300 s")


def test_every_refusal_has_its_words() -> None:
    assert set(checkup.ADVICE) == set(Refusal)


def test_events_are_told_apart(terminal: Terminal) -> None:
    event = json.loads(SENDERS["hubspot"].delivery().body)[0]
    events = [event, {"propertyName": "email"}, event | {"eventId": 2, "propertyValue": "x" * 40}]
    body = json.dumps(events).encode()
    url = "https://gateway.example.com/v1/webhooks/hubspot"
    headers = SENDERS["hubspot"].headers(SECRET, Delivery(body, NOW, url))
    head = "".join(f"{name}: {text}\n" for name, text in headers.items())
    printed = terminal.check("hubspot", f"{head}\n".encode() + body, "--at", AT)
    assert printed.exit_code == 0
    assert printed.out.splitlines()[4:] == [
        "events          3 found, 1 of them ignored",
        "event 1         opt-out of ******1234",
        "event 2         ignored: no opt-out",
        "event 3         opt-out of a number that is longer than 32 characters",
        "on record       pending: ******1234, store PIZZA, requested 2026-11-18T11:06:40+00:00",
        "                  a repeat is known by delivery_id of the event",
        "                rejected, for a person to look at: a number that is longer than 32 "
        "characters, store PIZZA, requested 2026-11-18T11:06:40+00:00",
        "                  a repeat is known by delivery_id of the event",
        "result          accepted",
    ]


def test_a_failing_expression_is_named(terminal: Terminal) -> None:
    content = signed("iterable", {"eventName": "smsReceived", "dataFields": {}})
    printed = terminal.check("iterable", content)
    assert printed.steps["event 1"] == "ignored: no opt-out"
    by_hand = ONE_OF_EACH + "\nopt_out = 'length(@) > `0`'\nevents = 'keys(a)'"
    printed = terminal.check("make", signed("make", 3), WEBHOOK_SOURCES=by_hand)
    assert printed.steps["events"] == (
        "1 found, 1 of them ignored the events expression fails on this value (JMESPathTypeError)"
    )
    assert printed.steps["event 1"] == (
        "ignored: the opt_out expression fails on this value (JMESPathTypeError)"
    )


def test_how_a_repeat_is_known(terminal: Terminal) -> None:
    zap = terminal.check("zapier", saved("zapier"))
    assert zap.steps["on record"].endswith("a repeat is known by the body, for 24 hours")
    event = {"type": "track", "event": "SMS Unsubscribed", "properties": {"phone": NUMBER}}
    segment = terminal.check("segment", signed("segment", event))
    assert segment.steps["on record"].endswith("for 24 hours; there is no delivery id")
    zendesk = terminal.check("zendesk", saved("zendesk"), "--at", AT)
    header = "X-Zendesk-Webhook-Invocation-Id of the delivery"
    assert zendesk.steps["on record"].endswith(f"a repeat is known by {header}")


@pytest.mark.parametrize(
    ("recipe", "content", "words", "result"),
    [
        ("zapier", b"\n{", ("signature", "missing signature: there is no Authorization"), 401),
        ("zapier", b"Authorization: Basic x\n\n{}", ("signature", "malformed signature: "), 401),
        ("intercom", b"X-Hub-Signature: 12\n\n{}", ("signature", "malformed signature: "), 401),
        ("klaviyo", b"Klaviyo-Signature: 12\n\n{}", ("signature", "missing timestamp: "), 401),
        (
            "standard-webhooks",
            b"webhook-signature: v1,YQ==\nwebhook-timestamp: 1\n\n{}",
            ("signature", "missing id: there is no webhook-id header"),
            401,
        ),
        ("zapier", b"Content-Encoding: gzip\n\n{}", ("request", "Send the body without"), 415),
        ("zapier", b"Content-Type: text/plain\n\n{}", ("request", "Send 'Content-Type: "), 415),
        ("twilio", b"Content-Type: text/plain\n\na=b", ("request", "Send 'Content-Type: "), 415),
        ("zapier", b"\n" + b" " * 1048577, ("request", "The body is larger than 1024 KiB"), 413),
        ("zapier", b"GET / HTTP/1.1\n\n{}", ("request", "The method is GET; webhooks come"), 405),
        ("segment", signed("segment", [{}]), ("body", "The body is a list; this source"), 400),
        ("zapier", signed("zapier", [])[:-1], ("body", "The body is not valid JSON"), 400),
    ],
)
def test_what_is_refused_is_said_to_be(
    recipe: str, content: bytes, words: tuple[str, str], result: int, terminal: Terminal
) -> None:
    printed = terminal.check(recipe, content, "--at", AT)
    assert printed.exit_code == 1
    topic, said = words
    assert printed.steps[topic].startswith(said)
    assert printed.steps["result"].startswith(f"refused: {result} ")


def test_a_body_that_an_editor_changed_is_noticed(terminal: Terminal) -> None:
    content = b"Content-Length: 2\n" + saved("shopify", body=b"{}\n")
    printed = terminal.check("shopify", content)
    assert "Content-Length says 2 bytes, so the body is not as it was" in printed.steps["delivery"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no blank line ends its headers"),
        (b"A: b", "no blank line ends its headers"),
        (b"A: b\n", "no blank line ends its headers"),
        (b"A: b\nno header\n\n", "line 2 is no header like 'Name: text'"),
        (b"A: b\n folded\n\n", "line 2 is no header like 'Name: text'"),
        (b"HTTP/1.1 200 OK\n\n", "line 1 is no header like 'Name: text'"),
        (b"POST / HTTP/1.1\n: x\n\n", "line 2 is no header like 'Name: text'"),
        (b"POST /\x1b[2J HTTP/1.1\n\n", "line 1 is no header like 'Name: text'"),
        (b"\xff\xfe\x00\n\n", "line 1 is no header like 'Name: text'"),
    ],
)
def test_a_file_that_is_no_delivery_is_one_line(
    content: bytes, why: str, terminal: Terminal
) -> None:
    printed = terminal.check("shopify", content)
    assert printed == Printed(1, "", f"The file is no saved delivery: {why}.\n")


def test_a_file_or_a_source_that_is_not_there_is_one_line(terminal: Terminal) -> None:
    printed = terminal.run("webhooks", "check", "shopify", "/no/such", **HOOKS)
    assert printed == Printed(1, "", "/no/such cannot be read: No such file or directory\n")
    printed = terminal.run("webhooks", "check", "shop", "-", **HOOKS | {"WEBHOOK_SOURCES": ""})
    assert printed == Printed(1, "", "There is no such webhook source; configured: none\n")


def test_the_bytes_of_the_body_are_kept_and_headers_joined() -> None:
    content = b"POST https://h.example/p?q HTTP/1.1\r\nA: 1 \r\nb:2\na: 3\r\n\r\n\r\n\xff\n"
    assert read_saved_delivery(content) == SavedDelivery(
        "POST", "/p?q", {"a": "1,3", "b": "2"}, b"\r\n\xff\n"
    )


def test_standard_input_is_a_file_too(tmp_path: Path) -> None:
    delivery = tmp_path / "delivery.http"
    delivery.write_bytes(saved("shopify"))
    environment = make_environment(**HOOKS, FILE=str(delivery))
    script = (
        "import os, sys; from gateway.__main__ import main; "
        "os.dup2(os.open(os.environ['FILE'], os.O_RDONLY), 0); "
        "sys.exit(main(['webhooks', 'check', 'shopify', '-']))"
    )
    checked = run("-c", script, environment=environment)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.endswith("result          accepted\n")
