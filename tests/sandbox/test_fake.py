"""The sandbox as other tests script it."""

import socket
import ssl
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.factories import NUMBER
from tests.support.fake_crmtext import FakeCrmText, Reply, self_signed, xml
from tests.support.sandbox_calls import ask, connect, customer, exchange


@pytest.fixture
def fake() -> Iterator[FakeCrmText]:
    with FakeCrmText() as running:
        yield running


def test_the_fake_behaves_like_the_sandbox_until_told_otherwise(fake: FakeCrmText) -> None:
    with_connection = connect(fake)
    assert customer(ask(with_connection))["optinStatus"] == "5"
    with_connection.close()


def test_the_fake_answers_in_turn_then_always_the_same_then_as_before(fake: FakeCrmText) -> None:
    connection = connect(fake)
    fake.answer_with(Reply(503))
    fake.answers(Reply(201, b"a", {"X-Is": "1"}), Reply(202, b"bc"))

    scripted = [ask(connection) for _ in range(4)]
    fake.answer_with(None)
    usual = ask(connection)
    connection.close()

    assert [(answer.status, answer.body) for answer in scripted] == [
        (201, b"a"),
        (202, b"bc"),
        (503, b""),
        (503, b""),
    ]
    assert scripted[0].headers["X-Is"] == "1"
    assert customer(usual)["optinStatus"] == "5"
    assert len(fake.calls) == 5


@pytest.mark.parametrize(
    ("reply", "wire", "ending"),
    [
        (Reply(body=b"abc"), "{head}abc", "closed"),
        (Reply(body=b"abc", headers={"Content-Length": "9"}), "{long}abc", "closed"),
        (Reply(body=b"abc", chunked=True), "{chunked}3\r\nabc\r\n0\r\n\r\n", "closed"),
        (Reply(body=b"", chunked=True), "{chunked}0\r\n\r\n", "closed"),
        (Reply(body=b"abc", drip=0.01, drip_headers=0.001), "{head}abc", "closed"),
        (Reply(body=b"abc", drip_headers=0.001, cut=-1), "{head}ab", "closed"),
        (Reply(body=b"abc", drip=0.01, cut=4), "HTTP", "closed"),
        (Reply(body=b"abc", delay=0.1, cut=0), "", "closed"),
        (Reply(body=b"abc", delay=0.1, reset=True), "", "reset"),
        (Reply(body=b"abc", delay=5), "", "open"),
    ],
)
def test_the_fake_writes_a_reply_byte_for_byte(
    fake: FakeCrmText, reply: Reply, wire: str, ending: str
) -> None:
    start = "HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset=utf-8\r\n"
    fake.answer_with(reply)

    assert exchange(fake, NUMBER, patience=0.6) == (
        wire.format(
            head=start + "Content-Length: 3\r\n\r\n",
            long=start + "Content-Length: 9\r\n\r\n",
            chunked=start + "Transfer-Encoding: chunked\r\n\r\n",
        ),
        ending,
    )


def test_the_fake_writes_xml_with_its_texts_escaped() -> None:
    assert xml("4<0", 'a "reason"', "x&y", custName="<J>", subacct="") == (
        b'<response op="x&amp;y" status="4&lt;0" message="a &quot;reason&quot;" version="1.0">'
        b"<customer><custName>&lt;J&gt;</custName><subacct></subacct></customer></response>"
    )


def test_the_fake_speaks_tls_and_lets_no_slow_handshake_delay_others(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    trusting = ssl.create_default_context(cafile=certificate)
    fake = FakeCrmText(tls=(certificate, key))
    with fake, socket.create_connection(("127.0.0.1", fake.server_port)):
        client = HTTPSConnection(urlsplit(fake.url).netloc, timeout=2, context=trusting)
        answer = ask(client)
        fake.answer_with(Reply(reset=True))
        with pytest.raises(ConnectionError):
            ask(client)

    assert (urlsplit(fake.url).scheme, customer(answer)["optinStatus"]) == ("https", "5")
    assert fake.connections == 2


def test_the_fake_survives_a_client_that_distrusts_its_certificate(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with FakeCrmText(tls=self_signed(tmp_path)) as fake:
        client = HTTPSConnection(urlsplit(fake.url).netloc, timeout=2)
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(client)
        client.close()

    assert (capfd.readouterr().err, fake.calls) == ("", [])
