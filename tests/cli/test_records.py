"""``show`` and ``list``: single opt-outs on record, with their numbers masked."""

import re

import pytest

from gateway.assembly import open_ledger
from gateway.consent import OptOut, Outcome
from gateway.errors import CrmTextWords, ErrorCode, Failure
from gateway.ledger.intake import Entry
from gateway.settings import Settings
from tests.support.commands import Printed, gateway_here
from tests.support.factories import make_opt_out_request
from tests.support.failed_opt_outs import fail
from tests.support.ledgers import give_up

OTHER_NUMBER = "9995550001"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture
def url(settings: Settings) -> str:
    return settings.database_url.render_as_string()


@pytest.fixture
def refused(settings: Settings) -> OptOut:
    """An opt-out that was tried once, whose texts hold a number and an escape sequence."""
    ledger = open_ledger(settings)
    request = make_opt_out_request(
        OTHER_NUMBER, reference="call 999-555-0001", reason="\x1b[2Jstop", request_id="request-7"
    )
    (recorded,) = ledger.accept([Entry([request])], claims=1)
    assert recorded.claim
    words = CrmTextWords("401", "Unauthorized 9995550001")
    failure = Failure(ErrorCode.CRMTEXT_AUTH_FAILED, "Credentials of PIZZA refused.", words)
    outcome = Outcome(failure, http_status=401, crmtext=words)
    return give_up(ledger, recorded.claim, outcome)


def without_times(text: str) -> str:
    return re.sub(r"after \d+\.\d s", "after N s", TIME.sub("TIME", text))


def test_an_opt_out_is_shown_with_its_attempts_and_without_its_number(
    refused: OptOut, url: str
) -> None:
    printed = gateway_here("show", refused.id, DATABASE_URL=url)

    assert (printed.exit_code, printed.err) == (0, "")
    assert without_times(printed.out) == (
        f"opt-out         {refused.id}\n"
        "status          failed\n"
        "phone number    ******0001\n"
        "store           PIZZA\n"
        "source          api:billing\n"
        "reference       call ******0001\n"
        "reason          \ufffd[2Jstop\n"
        "request id      request-7\n"
        "error           crmtext_auth_failed: Credentials of PIZZA refused.\n"
        "requested       TIME\n"
        "received        TIME\n"
        "attempts        TIME  crmtext_auth_failed after N s, HTTP 401, "
        "CRM Text said: 401 Unauthorized ******0001\n"
    )


def test_a_number_that_was_typed_is_shown_and_no_other(refused: OptOut, url: str) -> None:
    printed = gateway_here("show", "(999) 555-0001", DATABASE_URL=url)

    assert printed.steps["opt-out"] == refused.id
    assert printed.steps["phone number"] == OTHER_NUMBER
    assert printed.steps["reference"] == "call ******0001"


def test_all_opt_outs_of_a_number_are_shown_newest_first(settings: Settings, url: str) -> None:
    ledger = open_ledger(settings)
    for store in ("PIZZA", "BURGER"):
        ledger.accept([Entry([make_opt_out_request(OTHER_NUMBER, store=store)])])

    printed = gateway_here("show", OTHER_NUMBER, DATABASE_URL=url)

    assert re.findall(r"^store +(\w+)$", printed.out, re.M) == ["BURGER", "PIZZA"]
    assert re.findall(r"^status +(\w+)$", printed.out, re.M) == ["pending", "pending"]
    assert printed.out.count("next attempt") == 2


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("999\u2013555\u20131234", "***\u2013***\u20131234"),
        ("9995551234 ext. 7", "*******234 ext. 7"),
        ("99955512345", "*******2345"),
        ("call\x1b[2J me", "call\ufffd[2J me"),
        ("", "none came"),
        (None, "none came"),
    ],
)
def test_an_unusable_number_is_shown_as_it_came_but_only_its_last_four_digits(
    number: str | None, shown: str, settings: Settings, url: str
) -> None:
    request = make_opt_out_request(number, source="webhook:shop")
    (recorded,) = open_ledger(settings).accept([Entry([request])])

    printed = gateway_here("show", recorded.opt_out.id, DATABASE_URL=url)

    assert printed.steps["phone number"] == "unusable"
    assert printed.steps["as it came"] == shown


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("3f0b7a52-0d5c-4a55-9d34-7a1d0f6b4c1e", "No opt-out with this id is on record.\n"),
        (OTHER_NUMBER, "No opt-out of this number is on record.\n"),
    ],
)
def test_what_is_not_on_record_exits_with_1(what: str, said: str, url: str) -> None:
    assert gateway_here("show", what, DATABASE_URL=url) == Printed(1, "", said)


def test_an_argument_that_is_neither_id_nor_number_exits_with_2(url: str) -> None:
    printed = gateway_here("show", "ticket-123", DATABASE_URL=url)

    assert printed.exit_code == 2
    assert "the phone number contains letters" in printed.err


def test_the_newest_are_listed_on_a_line_each(
    refused: OptOut, settings: Settings, url: str
) -> None:
    ledger = open_ledger(settings)
    ledger.accept([Entry([make_opt_out_request(None, source="webhook:shop", store="BURGER")])])

    printed = gateway_here("list", DATABASE_URL=url)

    assert (printed.exit_code, printed.err) == (0, "")
    newest, older = (line.split() for line in printed.out.splitlines())
    assert newest[2:] == ["rejected", "unusable", "BURGER", "webhook:shop", "invalid_phone_number"]
    assert older[1:] == [
        *[refused.id, "failed", "******0001", "PIZZA", "api:billing", "crmtext_auth_failed"],
    ]


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ([], 3),
        (["--status", "failed"], 2),
        (["--store", "burger"], 1),
        (["--code", "crmtext_auth_failed"], 1),
        (["--status", "failed", "--code", "crmtext_timeout"], 1),
        (["--source", "api:billing"], 3),
        (["--reference", "call 999-555-0001"], 1),
        (["--number", "999.555.0001"], 1),
        (["--since", "2026-01-01T00:00:00Z"], 3),
        (["--until", "2026-01-01T00:00:00Z"], 0),
        (["--limit", "2"], 2),
    ],
)
@pytest.mark.usefixtures("refused")
def test_a_list_can_be_narrowed(
    options: list[str], count: int, settings: Settings, url: str
) -> None:
    fail(settings)
    open_ledger(settings).accept([Entry([make_opt_out_request(store="BURGER")])])

    printed = gateway_here("list", *options, DATABASE_URL=url)

    assert printed.exit_code == 0
    assert len(TIME.findall(printed.out)) == count
    assert ("No opt-outs match." in printed.out) == (count == 0)
    assert ("--limit shows more" in printed.out) == (options == ["--limit", "2"])
    assert (OTHER_NUMBER in printed.out) == ("--number" in options)


def test_listing_a_store_that_is_not_configured_is_a_usage_error(url: str) -> None:
    printed = gateway_here("list", "--store", "SUSHI", DATABASE_URL=url)

    assert (printed.exit_code, printed.out) == (2, "")
    assert printed.err.endswith("Error: Invalid value for --store: must be one of PIZZA, BURGER\n")
