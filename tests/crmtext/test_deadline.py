"""One deadline for a whole call, wherever it stalls."""

import socket
import time

import pytest

from gateway.consent import Outcome
from gateway.errors import ErrorCode, Failure
from tests.support.crmtext_calls import GOOD, TIMEOUT, UNREACHABLE, connect, timed
from tests.support.factories import NUMBER, free_port
from tests.support.fake_crmtext import FakeCrmText, Reply, xml
from tests.support.scripted_server import Peer, scripted_server


@pytest.mark.parametrize(
    "reply",
    [
        Reply(delay=30),
        Reply(body=xml(), drip=0.05),
        Reply(body=xml(), drip_headers=0.05),
        Reply(body=xml(), drip=0.05, chunked=True),
        Reply(body=xml("404", "not found"), drip=0.05),
        Reply(503, body=b"<html>" * 100, drip=0.05),
    ],
    ids=["stalls", "body", "headers", "chunks", "refusal", "html"],
)
def test_an_answer_that_is_incomplete_at_the_deadline_is_given_up(
    crmtext: FakeCrmText, reply: Reply
) -> None:
    crmtext.answers(reply)

    name, seconds = timed(crmtext.url)

    assert name == "crmtext_timeout"
    assert TIMEOUT <= seconds + 0.01 < TIMEOUT + 1


def test_interim_answers_without_end_are_given_up_at_the_deadline() -> None:
    def forever(peer: Peer) -> None:
        peer.hears()
        while True:
            peer.says(b"HTTP/1.1 100 Continue\r\n\r\n")
            time.sleep(0.01)

    with scripted_server(forever) as server:
        name, seconds = timed(server.url)

    assert name == "crmtext_timeout"
    assert TIMEOUT <= seconds + 0.01 < TIMEOUT + 1


def test_a_tls_handshake_that_stalls_is_given_up_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        name, seconds = timed(f"https://127.0.0.1:{listener.getsockname()[1]}/")

    assert name == "crmtext_timeout"
    assert TIMEOUT <= seconds + 0.01 < TIMEOUT + 1


def test_a_timeout_says_how_long_the_gateway_waited(crmtext: FakeCrmText) -> None:
    crmtext.answers(Reply(delay=30))

    assert connect(crmtext.url, 0.1).opt_out(NUMBER, "PIZZA") == Outcome(
        Failure(ErrorCode.CRMTEXT_TIMEOUT, "CRM Text gave no complete answer within 0.1 seconds.")
    )


def test_an_answer_within_the_deadline_is_accepted_however_slow(crmtext: FakeCrmText) -> None:
    crmtext.answers(Reply(body=xml(), drip=0.001, drip_headers=0.001, delay=0.1))

    assert timed(crmtext.url, 5)[0] == "opted_out"


def test_a_refused_connection_is_reported_at_once() -> None:
    call = connect(f"http://127.0.0.1:{free_port()}/")

    assert call.opt_out(NUMBER, "PIZZA") == Outcome(
        Failure(
            ErrorCode.CRMTEXT_UNREACHABLE,
            "There was no connection to CRM Text, or it was lost (ConnectionRefusedError).",
        )
    )


def test_a_name_that_does_not_exist_is_unreachable() -> None:
    assert timed("http://crm.invalid/", 5)[0] == UNREACHABLE


def test_the_body_gets_only_the_time_that_the_headers_left() -> None:
    def slow(peer: Peer) -> None:
        peer.hears()
        time.sleep(TIMEOUT / 2)
        peer.says(GOOD)
        time.sleep(TIMEOUT * 3)

    with scripted_server(slow) as server:
        name, seconds = timed(server.url)

    assert name == "crmtext_timeout"
    assert TIMEOUT <= seconds + 0.01 < TIMEOUT + 1
