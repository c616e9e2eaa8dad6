"""CRM Text over TLS."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.consent import Outcome
from gateway.errors import ErrorCode, Failure
from tests.support.crmtext_calls import INVALID, TIMEOUT, UNREACHABLE, connect, timed
from tests.support.factories import NUMBER
from tests.support.fake_crmtext import FakeCrmText, Reply, xml


@pytest.fixture
def secure(certificate: tuple[Path, Path]) -> Iterator[FakeCrmText]:
    with FakeCrmText(tls=certificate) as running:
        yield running


@pytest.mark.usefixtures("trusted")
def test_a_trusted_server_is_called_over_one_kept_connection(secure: FakeCrmText) -> None:
    call = connect(secure.url)

    names = [call.opt_out(f"99955512{n:02}", "PIZZA").name for n in range(20)]

    assert names == ["opted_out"] * 20
    assert secure.connections == 1


def test_a_server_with_an_unknown_authority_is_sent_nothing(secure: FakeCrmText) -> None:
    outcome = connect(secure.url).opt_out(NUMBER, "PIZZA")

    assert outcome == Outcome(
        Failure(
            ErrorCode.CRMTEXT_UNREACHABLE,
            "There was no connection to CRM Text, or it was lost (SSLCertVerificationError).",
        )
    )
    assert secure.calls == []


@pytest.mark.usefixtures("trusted")
def test_a_certificate_for_another_host_is_not_accepted(secure: FakeCrmText) -> None:
    assert timed(secure.url.replace("127.0.0.1", "localhost"), 5)[0] == UNREACHABLE
    assert secure.calls == []


def test_a_server_without_tls_is_unreachable(crmtext: FakeCrmText) -> None:
    assert timed(crmtext.url.replace("http:", "https:"), 5)[0] == UNREACHABLE
    assert crmtext.calls == []


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("reply", "name"),
    [
        (Reply(body=xml(), drip=0.05), "crmtext_timeout"),
        (Reply(body=xml(), drip_headers=0.05), "crmtext_timeout"),
        (Reply(delay=30), "crmtext_timeout"),
        (Reply(reset=True), UNREACHABLE),
        (Reply(body=xml(), cut=0), UNREACHABLE),
        (Reply(body=xml(), cut=30), INVALID),
        (Reply(body=xml(), cut=-10), INVALID),
        (Reply(body=xml(), cut=-10, chunked=True), INVALID),
    ],
)
def test_failures_are_told_apart_as_without_tls(
    secure: FakeCrmText, reply: Reply, name: str
) -> None:
    secure.answers(reply)

    found, seconds = timed(secure.url)

    assert found == name
    assert seconds < TIMEOUT + 1
