"""What comes back over real sockets: whole, broken, oversized, or not HTTP at all."""

import gzip
import tracemalloc
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from gateway.consent import Customer, Outcome
from gateway.errors import CrmTextWords, ErrorCode, Failure
from tests.support.crmtext_calls import (
    GOOD,
    INVALID,
    UNREACHABLE,
    basic,
    connect,
    sends,
    timed,
)
from tests.support.factories import NUMBER, PIZZA
from tests.support.fake_crmtext import FakeCrmText, Reply, xml
from tests.support.scripted_server import Peer, scripted_server


def test_an_answer_becomes_an_outcome_with_its_http_status(crmtext: FakeCrmText) -> None:
    fields = {"custId": "1", "custName": "Jo", "optinStatus": "5", "custMobile": NUMBER}
    crmtext.answers(Reply(201, xml(**fields)))

    assert connect(crmtext.url).opt_out(NUMBER, "PIZZA") == Outcome(
        None,
        Customer("1", "Jo", "opted_out", None, NUMBER, None),
        already_opted_out=False,
        http_status=201,
        crmtext=CrmTextWords("200", "ok"),
    )


def test_an_answer_that_repeats_the_credentials_is_masked(crmtext: FakeCrmText) -> None:
    message = f"login {PIZZA} ({basic(PIZZA)}) of pizzeria with pizza:secret failed"
    crmtext.answers(Reply(401, xml("401", message)))

    outcome = connect(crmtext.url).opt_out(NUMBER, "PIZZA")

    assert outcome.crmtext == CrmTextWords(
        "401", "login [secret] (Basic [secret]) of [secret] with [secret] failed"
    )


@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_may_come_chunked_or_whole(crmtext: FakeCrmText, chunked: bool) -> None:
    crmtext.answers(Reply(body=xml(), chunked=chunked))

    assert connect(crmtext.url).opt_out(NUMBER, "PIZZA").name == "opted_out"


@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_may_be_compressed_even_unasked(crmtext: FakeCrmText, chunked: bool) -> None:
    body = gzip.compress(xml())
    crmtext.answers(Reply(body=body, headers={"Content-Encoding": "gzip"}, chunked=chunked))

    assert connect(crmtext.url).opt_out(NUMBER, "PIZZA").name == "opted_out"


def test_an_answer_that_ends_with_the_connection_is_complete() -> None:
    with scripted_server(sends(b"HTTP/1.0 200 OK\r\n\r\n", xml())) as server:
        assert timed(server.url, 5)[0] == "opted_out"


def test_interim_answers_may_come_first() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" * 3
    with scripted_server(sends(interim, GOOD, b"Connection: close\r\n\r\n", xml())) as server:
        assert timed(server.url, 5)[0] == "opted_out"


@pytest.mark.parametrize(("extra", "name"), [(0, "opted_out"), (1, INVALID)])
@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_may_have_one_mebibyte(
    crmtext: FakeCrmText,
    extra: int,
    name: str,
    chunked: bool,
) -> None:
    body = xml().replace(b"</response>", b"")
    body += b" " * (1024 * 1024 + extra - len(body) - len(b"</response>")) + b"</response>"
    crmtext.answers(Reply(body=body, chunked=chunked))

    assert connect(crmtext.url).opt_out(NUMBER, "PIZZA").name == name


def test_an_answer_that_unpacks_to_too_much_is_cut_off_before_it_fills_the_memory(
    crmtext: FakeCrmText,
) -> None:
    bomb = gzip.compress(xml() + b" " * 100_000_000)
    crmtext.answers(Reply(body=bomb, headers={"Content-Encoding": "gzip"}))
    call = connect(crmtext.url)

    tracemalloc.start()
    outcome = call.opt_out(NUMBER, "PIZZA")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert outcome.failure == Failure(
        ErrorCode.CRMTEXT_INVALID_RESPONSE, "CRM Text's answer (HTTP 200) is larger than 1 MiB."
    )
    assert peak < 8_000_000


@pytest.mark.parametrize(
    "begins",
    [
        b"\r\n",
        b"X: ",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1;",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ",
    ],
)
def test_an_answer_without_end_is_cut_off_before_it_fills_the_memory(begins: bytes) -> None:
    def endless(peer: Peer) -> None:
        peer.hears()
        peer.says(GOOD + begins)
        while True:
            peer.says(b" " * 65536)

    with scripted_server(endless) as server:
        tracemalloc.start()
        name, _seconds = timed(server.url)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert name == INVALID
    assert peak < 8_000_000


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(crmtext: FakeCrmText, status: int) -> None:
    with FakeCrmText() as elsewhere:
        for target in (elsewhere.url, "/smapi/rest"):
            crmtext.answers(Reply(status, xml(), {"Location": target}))

            outcome = connect(crmtext.url).opt_out(NUMBER, "PIZZA")

            assert (outcome.name, outcome.http_status) == (INVALID, status)

        assert len(crmtext.calls) == 2
        assert elsewhere.calls == []


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (401, "crmtext_auth_failed"),
        (404, INVALID),
        (429, "crmtext_rate_limited"),
        (503, "crmtext_unavailable"),
    ],
)
@pytest.mark.parametrize(
    "broken",
    [
        Reply(body=xml("404", "not found"), cut=-20),
        Reply(body=xml("404", "not found"), cut=-20, chunked=True),
        Reply(body=b" " * (1024 * 1024) + xml("404")),
        Reply(body=xml("404"), headers={"Content-Encoding": "gzip"}),
        Reply(body=gzip.compress(xml("404"))[:-12], headers={"Content-Encoding": "gzip"}),
        Reply(body=b"<html/>"),
    ],
)
def test_only_a_few_http_statuses_of_an_unreadable_answer_count(
    crmtext: FakeCrmText, broken: Reply, status: int, name: str
) -> None:
    crmtext.answers(
        Reply(status, broken.body, broken.headers, cut=broken.cut, chunked=broken.chunked)
    )

    outcome = connect(crmtext.url).opt_out(NUMBER, "PIZZA")

    assert (outcome.name, outcome.http_status, outcome.crmtext) == (name, status, None)


LENGTH = b"Content-Length: %d\r\n\r\n" % len(xml())


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (b"", UNREACHABLE),
        (b"H", INVALID),
        (b"HTTP/1.1 20", INVALID),
        (b"HTTP/1.1 200 OK\r\n", INVALID),
        (GOOD, INVALID),
        (GOOD + LENGTH, INVALID),
        (GOOD + LENGTH + xml()[:-1], INVALID),
        (GOOD + b"Content-Length: 9999\r\n\r\n" + xml(), INVALID),
        (GOOD + b"Transfer-Encoding: chunked\r\n\r\n", INVALID),
        (GOOD + b"Transfer-Encoding: chunked\r\n\r\n9\r\n<resp", INVALID),
        (GOOD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(xml()), xml()), INVALID),
    ],
)
def test_a_lost_connection_is_unreachable_before_the_first_byte_and_invalid_after_it(
    sent: bytes,
    name: str,
    reset: bool,
) -> None:
    with scripted_server(sends(sent, reset=reset)) as server:
        assert timed(server.url, 5)[0] == name


@pytest.mark.parametrize(
    "sent",
    [
        xml(),
        b"\r\n\r\n",
        b"\0" * 100,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"<html>400 Bad Request</html>",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n" + xml(),
        b"HTTP/1.1 1000 High\r\n\r\n" + xml(),
        b"HTTP/9.9 200 OK\r\n\r\n" + xml(),
        b"HTTP/1.1 " + b"2" * 70_000 + b"\r\n",
        GOOD + b"X: " + b"x" * 70_000 + b"\r\n\r\n" + xml(),
        GOOD + b"Content-Length: 5, 6\r\n\r\n" + xml(),
        GOOD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + xml(),
        GOOD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n" + xml(),
        GOOD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + xml(),
        GOOD + b"Content-Length: 0\r\n\r\n" + xml(),
        b"HTTP/1.1 204 No Content\r\n\r\n" + xml(),
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + xml(),
    ],
    ids=lambda sent: repr(sent[:40]),
)
def test_what_is_not_http_is_an_invalid_answer(sent: bytes) -> None:
    with scripted_server(sends(sent)) as server:
        assert timed(server.url, 5)[0] == INVALID


SIX_HOURS = 6 * 60 * 60


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("3", 3),
        ("21600", SIX_HOURS),
        ("21601", SIX_HOURS),
        ("999999999", SIX_HOURS),
        ("9999999999", None),
        ("", None),
        ("-3", None),
        ("3.5", None),
        ("soon", None),
        ("\u00b3", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", SIX_HOURS),
        ("Sun, 06 Nov 1994 08:49:37", None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 99999999999999999999 08:49:37 GMT", None),
    ],
)
@pytest.mark.parametrize("status", ["429", "503"])
def test_retry_after_counts_up_to_six_hours(
    crmtext: FakeCrmText, status: str, text: str, seconds: int | None
) -> None:
    crmtext.answers(Reply(int(status), xml(status, "later"), {"Retry-After": text}))

    failure = connect(crmtext.url).opt_out(NUMBER, "PIZZA").failure

    assert failure
    assert failure.retry_after == seconds


def test_retry_after_may_be_a_date(crmtext: FakeCrmText) -> None:
    later = datetime.now(UTC) + timedelta(seconds=90)
    date = format_datetime(later, usegmt=True)
    crmtext.answers(Reply(503, b"<html/>", {"Retry-After": date}))

    failure = connect(crmtext.url).opt_out(NUMBER, "PIZZA").failure

    assert failure
    assert failure.retry_after in (89, 90)
