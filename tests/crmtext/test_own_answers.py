"""A call never gets another call's answer, whatever a server says, when, and in how many pieces."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.consent import Outcome
from gateway.crmtext.client import CrmText
from tests.support.crmtext_calls import INVALID, UNREACHABLE, connect
from tests.support.fake_crmtext import xml
from tests.support.scripted_server import (
    Certificate,
    Peer,
    chunked,
    confirms,
    http,
    refuses,
    scripted_server,
)

FIRST, SECOND, THIRD = "9995550001", "9995550002", "9995550003"
OUT, UNKNOWN = "opted_out", "customer_not_found"

pytestmark = pytest.mark.usefixtures("trusted")

Answer = Callable[[str], bytes]


@pytest.fixture(params=["plain", "tls"])
def tls(request: pytest.FixtureRequest, certificate: tuple[Path, Path]) -> Certificate | None:
    return certificate if request.param == "tls" else None


def heard(client: CrmText, phone_number: str) -> str:
    """How the call ended; where it settled something, its answer has to be the number's own."""
    outcome = client.opt_out(phone_number, "PIZZA")
    assert_own(outcome, phone_number)
    return outcome.name


def assert_own(outcome: Outcome, phone_number: str) -> None:
    if outcome.name in (OUT, UNKNOWN):
        assert outcome.customer
        assert outcome.customer.name == f"owner of {phone_number}"


# Every kind of answer, with how it ends the call and whether the connection lasts.
ANSWERS: dict[str, tuple[Answer, str, bool]] = {
    "confirmation": (lambda number: http(200, confirms(number)), OUT, True),
    "chunked": (lambda number: chunked(confirms(number)), OUT, True),
    "refusal": (lambda number: http(404, refuses(number)), UNKNOWN, True),
    "refusal under 200": (lambda number: http(200, refuses(number)), UNKNOWN, True),
    "server error": (lambda _: http(500, xml("500", "Try again")), "crmtext_unavailable", True),
    "to be closed": (lambda number: http(200, confirms(number), "Connection: close"), OUT, False),
    "about another": (lambda _: http(200, xml(custMobile=THIRD)), INVALID, False),
    "not opted out": (lambda _: http(200, xml(optinStatus="3")), INVALID, False),
    "another method's": (lambda _: http(200, xml(op="optincustomer")), INVALID, False),
    "a page": (lambda _: http(503, b"<html/>"), "crmtext_unavailable", False),
    "empty": (lambda _: http(200, b""), INVALID, False),
    "204": (lambda _: b"HTTP/1.1 204 No Content\r\n\r\n", INVALID, False),
    "304": (lambda _: b"HTTP/1.1 304 Not Modified\r\n\r\n", INVALID, False),
    "redirect": (lambda number: http(302, confirms(number), "Location: /"), INVALID, False),
    "101": (lambda _: b"HTTP/1.1 101 Switching Protocols\r\n\r\n", INVALID, False),
}


INTERIM = [
    [],
    *([status] * count for status in (100, 102, 103, 104, 150, 199) for count in (1, 3)),
    [100, 102, 103, 103],
]


@pytest.mark.parametrize("interim", INTERIM, ids=str)
@pytest.mark.parametrize("kind", ANSWERS)
def test_interim_answers_are_passed_over(
    kind: str, interim: list[int], tls: Certificate | None
) -> None:
    answer, name, lasts = ANSWERS[kind]
    before = b"".join(b"HTTP/1.1 %d Wait\r\nLink: </a>\r\n\r\n" % status for status in interim)

    def script(peer: Peer) -> None:
        while number := peer.hears():
            peer.says(before, answer(number))

    with scripted_server(script, tls) as server:
        client = connect(server.url)
        names = [heard(client, FIRST), heard(client, SECOND)]

    assert names == [name, name]
    assert server.heard == [(1, FIRST), (1 if lasts else 2, SECOND)]


def test_an_interim_answer_may_come_in_any_two_pieces(tls: Certificate | None) -> None:
    def wire(number: str) -> bytes:
        return b"HTTP/1.1 103 Early Hints\r\n\r\n" + http(200, confirms(number))

    def script(peer: Peer) -> None:
        while number := peer.hears():
            sent = wire(number)
            at = (len(server.heard) - 1) % len(sent)
            peer.says(sent[:at], sent[at:])

    with scripted_server(script, tls) as server:
        client = connect(server.url)
        numbers = [f"999555{n:04}" for n in range(len(wire(FIRST)))]
        names = [heard(client, number) for number in numbers]

    assert names == [OUT] * len(numbers)
    assert server.heard == [(1, number) for number in numbers]


UNASKED: dict[str, Answer] = {
    "another answer": lambda number: http(200, confirms(number)),
    "a bare answer": lambda _: http(200, xml()),
    "a refusal": lambda _: http(404, xml("404", "not found")),
    "an interim answer": lambda _: b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "a line end": lambda _: b"\r\n",
    "a byte": lambda _: b"\0",
}


@pytest.mark.slow
@pytest.mark.parametrize("unasked", UNASKED)
def test_unasked_bytes_behind_an_answer_are_discarded(
    unasked: str, tls: Certificate | None
) -> None:
    """Split anywhere: some of it within the answer's piece, the rest long after the answer."""
    answer, rest = http(200, confirms(FIRST)), UNASKED[unasked](FIRST)
    for split in range(len(answer), len(answer + rest) + 1):
        everything_said = threading.Event()

        def script(peer: Peer, split: int = split, said: threading.Event = everything_said) -> None:
            while number := peer.hears():
                if number == FIRST:
                    peer.says((answer + rest)[:split], (answer + rest)[split:])
                    said.set()
                else:
                    peer.says(http(200, confirms(number)))

        with scripted_server(script, tls) as server:
            client = connect(server.url)
            first = heard(client, FIRST)
            everything_said.wait(5)
            second = heard(client, SECOND)

        assert (split, first, second) == (split, OUT, OUT)
        assert server.heard == [(1, FIRST), (2, SECOND)]


@pytest.mark.parametrize("length", [1024, 2048, 4096, 8192, 16_000])
def test_unasked_bytes_in_the_tls_record_of_an_answer_are_discarded(
    length: int, certificate: Certificate
) -> None:
    """A record holds 16 KiB: read in smaller pieces, its end would wait unseen in the TLS layer."""

    def script(peer: Peer) -> None:
        while number := peer.hears():
            unpadded = http(200, confirms(number), "X: ")
            padding = "x" * (length - len(unpadded))
            answer = http(200, confirms(number), f"X: {padding}")
            peer.says(answer + http(200, confirms(THIRD))[: 16_384 - length])

    with scripted_server(script, certificate) as server:
        client = connect(server.url)
        names = [heard(client, FIRST), heard(client, SECOND)]

    assert names == [OUT, OUT]
    assert server.heard == [(1, FIRST), (2, SECOND)]


def test_half_a_tls_record_is_noticed(certificate: Certificate) -> None:
    """TLS knows nothing of an unasked record before it is whole; the socket does."""
    everything_said = threading.Event()

    def script(peer: Peer) -> None:
        while number := peer.hears():
            peer.says(http(200, confirms(number)))
            if peer.number == 1:
                peer.says_beneath_tls(b"\x17\x03\x03\x00\xff" + b"half")
                everything_said.set()

    with scripted_server(script, certificate) as server:
        client = connect(server.url)
        first = heard(client, FIRST)
        everything_said.wait(5)
        second = heard(client, SECOND)

    assert (first, second) == (OUT, OUT)
    assert server.heard == [(1, FIRST), (2, SECOND)]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
def test_a_body_that_comes_late_is_discarded(head: bytes, tls: Certificate | None) -> None:
    """It comes as late as it can: when the next request is on its way."""

    def script(peer: Peer) -> None:
        number = peer.hears()
        if number == FIRST:
            peer.says(head)
            peer.hears()
            peer.says(http(200, confirms(FIRST)))
        else:
            peer.says(http(200, confirms(number)))

    with scripted_server(script, tls) as server:
        client = connect(server.url)
        names = [heard(client, FIRST), heard(client, SECOND)]

    assert names == [INVALID, OUT]
    assert server.heard == [(1, FIRST), (2, SECOND)]


def test_a_body_without_a_length_ends_with_its_connection(tls: Certificate | None) -> None:
    def script(peer: Peer) -> None:
        number = peer.hears()
        peer.says(b"HTTP/1.1 200 OK\r\n\r\n", confirms(number))

    with scripted_server(script, tls) as server:
        client = connect(server.url)
        names = [heard(client, FIRST), heard(client, SECOND)]

    assert names == [OUT, OUT]
    assert server.heard == [(1, FIRST), (2, SECOND)]


@pytest.mark.slow
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("wire", [http(200, confirms(FIRST)), chunked(confirms(FIRST))])
def test_a_new_connection_may_close_at_every_byte(
    wire: bytes,
    reset: bool,
    tls: Certificate | None,
) -> None:
    names = []
    for length in range(len(wire) + 1):

        def script(peer: Peer, length: int = length) -> None:
            if peer.hears() != FIRST:
                peer.says(http(200, confirms(SECOND)))
                return
            peer.says(wire[:length])
            if reset:
                peer.resets()

        with scripted_server(script, tls) as server:
            client = connect(server.url)
            names.append(heard(client, FIRST))
            assert heard(client, SECOND) == OUT
            assert server.heard == [(1, FIRST), (2, SECOND)]

    if reset:  # may overtake what was sent before it
        assert set(names) <= {UNREACHABLE, INVALID, OUT}
    else:
        assert names == [UNREACHABLE] + [INVALID] * (len(wire) - 1) + [OUT]


@pytest.mark.slow
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_kept_connection_may_close_at_every_byte(
    reset: bool,
    tls: Certificate | None,
) -> None:
    """Before the first byte of an answer the call is made once more; after it never."""
    wire = http(200, confirms(SECOND))
    names = []
    for length in range(len(wire) + 1):

        def script(peer: Peer, length: int = length) -> None:
            while number := peer.hears():
                if peer.number == 1 and number == SECOND:
                    peer.says(wire[:length])
                    if reset:
                        peer.resets()
                    return
                peer.says(http(200, confirms(number)))

        with scripted_server(script, tls) as server:
            client = connect(server.url)
            assert heard(client, FIRST) == OUT
            names.append(heard(client, SECOND))
            assert heard(client, THIRD) == OUT
            again = [(2, SECOND)] if length == 0 else []
            if not reset:
                assert server.heard == [(1, FIRST), (1, SECOND), *again, (2, THIRD)]

    if reset:
        assert set(names) <= {INVALID, OUT}
    else:
        assert names == [OUT] + [INVALID] * (len(wire) - 1) + [OUT]


@pytest.mark.parametrize(
    ("said", "name"),
    [(b"", UNREACHABLE), (b"HTTP/1.1 103 Early Hints\r\n\r\n", INVALID), (b"HTTP/1.1 2", INVALID)],
)
def test_a_call_is_made_once_more_at_most_and_only_where_nothing_was_said(
    said: bytes, name: str, tls: Certificate | None
) -> None:
    def script(peer: Peer) -> None:
        while number := peer.hears():
            if number == SECOND:
                peer.says(said)
                return
            peer.says(http(200, confirms(number)))

    with scripted_server(script, tls) as server:
        client = connect(server.url)
        names = [heard(client, FIRST), heard(client, SECOND)]

    assert names == [OUT, name]
    again = [(2, SECOND)] if not said else []
    assert server.heard == [(1, FIRST), (1, SECOND), *again]


def test_a_call_that_timed_out_is_not_made_again(tls: Certificate | None) -> None:
    def script(peer: Peer) -> None:
        while number := peer.hears():
            if number != SECOND:
                peer.says(http(200, confirms(number)))

    with scripted_server(script, tls) as server:
        client = connect(server.url, 0.3)
        names = [heard(client, FIRST), heard(client, SECOND), heard(client, THIRD)]

    assert names == [OUT, "crmtext_timeout", OUT]
    assert server.heard == [(1, FIRST), (1, SECOND), (2, THIRD)]


def test_closed_connections_are_passed_over_without_a_call(tls: Certificate | None) -> None:
    """As many as were closed while they were idle: all five, then a new one."""
    together, closed = threading.Barrier(5), threading.Barrier(6)

    def script(peer: Peer) -> None:
        number = peer.hears()
        if peer.number <= 5:
            together.wait(5)
        peer.says(http(200, confirms(number)))
        if peer.number <= 5:
            peer.hangs_up()
            closed.wait(5)

    with scripted_server(script, tls) as server:
        client = connect(server.url)
        numbers = [f"999555000{n}" for n in range(5)]
        with ThreadPoolExecutor(5) as threads:
            names = list(threads.map(lambda number: heard(client, number), numbers))
        closed.wait(5)
        last = heard(client, SECOND)

    assert [*names, last] == [OUT] * 6
    assert server.heard[5:] == [(6, SECOND)]
