"""The call to CRM Text, over real sockets: what is sent, and every way in which it can go wrong."""

import base64
import gzip
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from gateway.accounts import Store
from gateway.consent import Customer, Outcome
from gateway.crmtext.client import CrmText
from gateway.errors import CrmTextWords, ErrorCode, Failure
from tests.support.factories import BURGER, NUMBER, PIZZA, free_port
from tests.support.fake_crmtext import FakeCrmText, Reply, self_signed, xml

STORES = (Store("PIZZA", PIZZA), Store("BURGER", BURGER))
TIMEOUT = 0.4
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n"
UNREACHABLE = "crmtext_unreachable"
INVALID = "crmtext_invalid_response"


def connect(url: str, seconds: float = 5.0) -> CrmText:
    return CrmText(url, seconds, STORES)


def basic(auth_string: str) -> str:
    return "Basic " + base64.b64encode(auth_string.encode()).decode()


def timed(url: str, seconds: float = TIMEOUT) -> tuple[str, float]:
    """The name of one call's outcome, and how long it took."""
    call = connect(url, seconds)
    began = time.monotonic()
    outcome = call.opt_out(NUMBER, "PIZZA")
    return outcome.name, time.monotonic() - began


@contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[bytes]]]:
    """A server that reads a request and then does what ``answer`` wants with the socket."""
    requests: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(5)
                requests.append(read_request(connection))
                answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/smapi/rest", requests
        listener.shutdown(socket.SHUT_RDWR)


def read_request(connection: socket.socket) -> bytes:
    received = b""
    while not received.endswith(NUMBER.encode()):
        piece = connection.recv(65536)
        if not piece:
            break
        received += piece
    return received


def sends(*pieces: bytes, reset: bool = False) -> Callable[[socket.socket], None]:
    """Sends the pieces and closes the connection, or resets it."""

    def answer(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)
        if reset:
            time.sleep(0.05)  # so that what was sent arrives before the reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return answer


class TestWhatIsSent:
    def test_one_form_with_the_method_and_the_number_and_nothing_else(self) -> None:
        with raw_server(sends(GOOD, b"Connection: close\r\n\r\n", xml())) as (url, requests):
            connect(url).opt_out(NUMBER, "PIZZA")

        head, _, body = requests[0].decode("ascii").partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        assert first == "POST /smapi/rest HTTP/1.1"
        assert dict(line.split(": ", 1) for line in lines) == {
            "Host": url.split("/")[2],
            "Authorization": basic(PIZZA),
            "Accept": "text/xml, application/xml",
            "Accept-Encoding": "identity",
            "User-Agent": "crmtext-gateway",
            "Content-Length": "45",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        assert body == "method=optoutcustomer&phone_number=9995551234"
        assert len(requests) == 1

    @pytest.mark.parametrize(
        ("store", "auth_string"),
        [("PIZZA", "pizzeria:pizza:secret:PIZZA"), ("BURGER", "burgerbar:burger-secret:BURGER")],
    )
    def test_each_store_has_its_own_credentials(
        self, crmtext: FakeCrmText, store: str, auth_string: str
    ) -> None:
        connect(crmtext.url).opt_out(NUMBER, store)

        calls = [(call.store, call.authorization) for call in crmtext.calls]
        assert calls == [(store, basic(auth_string))]

    def test_credentials_and_keywords_go_out_as_they_were_configured(
        self, crmtext: FakeCrmText
    ) -> None:
        auth_string = "us\u00e9r:p\u00e4ss%20:w+rd:Pizza"
        call = CrmText(crmtext.url, 5, [Store("PIZZA", auth_string)])

        assert call.opt_out(NUMBER, "PIZZA").name == "opted_out"
        assert crmtext.calls[0].authorization == basic(auth_string)

    def test_a_netrc_file_changes_nothing(
        self, crmtext: FakeCrmText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        netrc = tmp_path / ".netrc"
        netrc.write_text("machine 127.0.0.1 login thief password thief\n", encoding="utf-8")
        netrc.chmod(0o600)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("NETRC", str(netrc))

        connect(crmtext.url).opt_out(NUMBER, "PIZZA")

        assert [call.authorization for call in crmtext.calls] == [basic(PIZZA)]

    def test_a_cookie_is_not_sent_back(self) -> None:
        answer = sends(GOOD, b"Set-Cookie: a=b\r\nConnection: close\r\n\r\n", xml())
        with raw_server(answer) as (url, requests):
            call = connect(url)
            call.opt_out(NUMBER, "PIZZA")
            call.opt_out(NUMBER, "PIZZA")

        assert [b"ookie" in request for request in requests] == [False, False]

    def test_the_environments_proxy_is_used(
        self, crmtext: FakeCrmText, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", crmtext.url.removesuffix("/smapi/rest"))
        monkeypatch.setenv("http_proxy", crmtext.url.removesuffix("/smapi/rest"))
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
        crmtext.answer_with(Reply(body=xml()))

        outcome = connect("http://crm.invalid/smapi/rest").opt_out(NUMBER, "PIZZA")

        assert outcome.name == "opted_out"
        assert [call.path for call in crmtext.calls] == ["http://crm.invalid/smapi/rest"]

    def test_nothing_is_sent_for_a_store_that_is_not_configured_any_more(
        self, crmtext: FakeCrmText
    ) -> None:
        outcome = connect(crmtext.url).opt_out(NUMBER, "TACOS")

        what = "CRMTEXT_AUTH_STRINGS has no entry for store TACOS any more."
        assert outcome == Outcome(Failure(ErrorCode.CRMTEXT_AUTH_FAILED, what))
        assert crmtext.calls == []


class TestAnAnswer:
    def test_becomes_an_outcome_with_its_http_status(self, crmtext: FakeCrmText) -> None:
        fields = {"custId": "1", "custName": "Jo", "optinStatus": "5", "custMobile": NUMBER}
        crmtext.answers(Reply(201, xml(**fields)))

        assert connect(crmtext.url).opt_out(NUMBER, "PIZZA") == Outcome(
            None,
            Customer("1", "Jo", "opted_out", None, NUMBER, None),
            already_opted_out=False,
            http_status=201,
            crmtext=CrmTextWords("200", "ok"),
        )

    def test_that_repeats_the_credentials_is_masked(self, crmtext: FakeCrmText) -> None:
        message = f"login {PIZZA} ({basic(PIZZA)}) of pizzeria with pizza:secret failed"
        crmtext.answers(Reply(401, xml("401", message)))

        outcome = connect(crmtext.url).opt_out(NUMBER, "PIZZA")

        assert outcome.crmtext == CrmTextWords(
            "401", "login [secret] (Basic [secret]) of [secret] with [secret] failed"
        )

    @pytest.mark.parametrize("chunked", [False, True])
    def test_may_come_chunked_or_whole(self, crmtext: FakeCrmText, chunked: bool) -> None:  # noqa: FBT001
        crmtext.answers(Reply(body=xml(), chunked=chunked))

        assert connect(crmtext.url).opt_out(NUMBER, "PIZZA").name == "opted_out"

    @pytest.mark.parametrize("chunked", [False, True])
    def test_may_come_compressed_unasked(self, crmtext: FakeCrmText, chunked: bool) -> None:  # noqa: FBT001
        body = gzip.compress(xml())
        crmtext.answers(Reply(body=body, headers={"Content-Encoding": "gzip"}, chunked=chunked))

        assert connect(crmtext.url).opt_out(NUMBER, "PIZZA").name == "opted_out"

    def test_that_ends_with_the_connection_is_whole(self) -> None:
        with raw_server(sends(b"HTTP/1.0 200 OK\r\n\r\n", xml())) as (url, _):
            assert timed(url, 5)[0] == "opted_out"

    def test_may_take_several_interim_answers(self) -> None:
        interim = b"HTTP/1.1 100 Continue\r\n\r\n" * 3
        with raw_server(sends(interim, GOOD, b"Connection: close\r\n\r\n", xml())) as (url, _):
            assert timed(url, 5)[0] == "opted_out"

    @pytest.mark.parametrize(("extra", "name"), [(0, "opted_out"), (1, INVALID)])
    @pytest.mark.parametrize("chunked", [False, True])
    def test_may_have_one_mebibyte(
        self,
        crmtext: FakeCrmText,
        extra: int,
        name: str,
        chunked: bool,  # noqa: FBT001
    ) -> None:
        body = xml().replace(b"</response>", b"")
        body += b" " * (1024 * 1024 + extra - len(body) - len(b"</response>")) + b"</response>"
        crmtext.answers(Reply(body=body, chunked=chunked))

        assert connect(crmtext.url).opt_out(NUMBER, "PIZZA").name == name

    def test_that_unpacks_to_much_is_cut_off_before_it_fills_the_memory(
        self, crmtext: FakeCrmText
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

    def test_whose_chunk_has_no_end_is_cut_off_before_it_fills_the_memory(self) -> None:
        def endless(connection: socket.socket) -> None:
            connection.sendall(GOOD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n")
            while True:
                connection.sendall(b" " * 65536)

        with raw_server(endless) as (url, _):
            tracemalloc.start()
            name, _seconds = timed(url)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()

        assert name == INVALID
        assert peak < 40_000_000

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_that_redirects_is_not_followed(self, crmtext: FakeCrmText, status: int) -> None:
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
def test_of_an_answer_that_cannot_be_read_only_a_few_http_statuses_count(
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
def test_a_lost_connection_is_told_by_whether_a_byte_had_come(
    sent: bytes,
    name: str,
    reset: bool,  # noqa: FBT001
) -> None:
    with raw_server(sends(sent, reset=reset)) as (url, _):
        assert timed(url, 5)[0] == name


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
        GOOD + b"X: y\r\n" * 200 + b"\r\n" + xml(),
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
def test_what_is_no_http_is_no_answer_of_crm_texts(sent: bytes) -> None:
    with raw_server(sends(sent)) as (url, _):
        assert timed(url, 5)[0] == INVALID


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
def test_an_answer_that_is_not_complete_at_the_deadline_is_given_up(
    crmtext: FakeCrmText, reply: Reply
) -> None:
    crmtext.answers(reply)

    name, seconds = timed(crmtext.url)

    assert name == "crmtext_timeout"
    assert TIMEOUT <= seconds + 0.01 < TIMEOUT + 1


def test_interim_answers_without_end_are_given_up_at_the_deadline() -> None:
    def forever(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            time.sleep(0.01)

    with raw_server(forever) as (url, _):
        name, seconds = timed(url)

    assert name == "crmtext_timeout"
    assert TIMEOUT <= seconds + 0.01 < TIMEOUT + 1


def test_a_tls_handshake_that_stalls_is_given_up_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        name, seconds = timed(f"https://127.0.0.1:{listener.getsockname()[1]}/")

    assert name == "crmtext_timeout"
    assert TIMEOUT <= seconds + 0.01 < TIMEOUT + 1


def test_a_timeout_says_how_long_was_waited(crmtext: FakeCrmText) -> None:
    crmtext.answers(Reply(delay=30))

    assert connect(crmtext.url, 0.1).opt_out(NUMBER, "PIZZA") == Outcome(
        Failure(ErrorCode.CRMTEXT_TIMEOUT, "CRM Text gave no complete answer within 0.1 seconds.")
    )


def test_an_answer_within_the_deadline_is_taken_however_slow(crmtext: FakeCrmText) -> None:
    crmtext.answers(Reply(body=xml(), drip=0.001, drip_headers=0.001, delay=0.1))

    assert timed(crmtext.url, 5)[0] == "opted_out"


def test_a_refused_connection_is_told_at_once() -> None:
    call = connect(f"http://127.0.0.1:{free_port()}/")

    assert call.opt_out(NUMBER, "PIZZA") == Outcome(
        Failure(
            ErrorCode.CRMTEXT_UNREACHABLE,
            "There was no connection to CRM Text, or it was lost (ConnectionRefusedError).",
        )
    )


def test_a_name_that_does_not_exist_is_unreachable() -> None:
    assert timed("http://crm.invalid/", 5)[0] == UNREACHABLE


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return self_signed(tmp_path_factory.mktemp("tls"))


class TestTls:
    @pytest.fixture
    def secure(self, certificate: tuple[Path, Path]) -> Iterator[FakeCrmText]:
        with FakeCrmText(tls=certificate) as running:
            yield running

    @pytest.fixture
    def trusted(self, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))

    @pytest.mark.usefixtures("trusted")
    def test_a_trusted_server_is_called_over_one_kept_connection(self, secure: FakeCrmText) -> None:
        call = connect(secure.url)

        names = [call.opt_out(f"99955512{n:02}", "PIZZA").name for n in range(20)]

        assert names == ["opted_out"] * 20
        assert secure.connections == 1

    def test_a_server_of_an_unknown_authority_gets_nothing(self, secure: FakeCrmText) -> None:
        outcome = connect(secure.url).opt_out(NUMBER, "PIZZA")

        assert outcome == Outcome(
            Failure(
                ErrorCode.CRMTEXT_UNREACHABLE,
                "There was no connection to CRM Text, or it was lost (SSLCertVerificationError).",
            )
        )
        assert secure.calls == []

    @pytest.mark.usefixtures("trusted")
    def test_a_certificate_for_another_host_is_not_taken(self, secure: FakeCrmText) -> None:
        assert timed(secure.url.replace("127.0.0.1", "localhost"), 5)[0] == UNREACHABLE
        assert secure.calls == []

    def test_a_server_without_tls_is_unreachable(self, crmtext: FakeCrmText) -> None:
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
    def test_trouble_is_told_apart_as_without_tls(
        self, secure: FakeCrmText, reply: Reply, name: str
    ) -> None:
        secure.answers(reply)

        found, seconds = timed(secure.url)

        assert found == name
        assert seconds < TIMEOUT + 1


class TestConnections:
    def test_are_kept_for_the_next_call(self, crmtext: FakeCrmText) -> None:
        call = connect(crmtext.url)
        numbers = [f"999555{n:04}" for n in range(2000, 2200)]
        with ThreadPoolExecutor(4) as threads:
            names = set(threads.map(lambda number: call.opt_out(number, "PIZZA").name, numbers))

        assert names == {"opted_out"}
        assert sorted(one.phone_number for one in crmtext.calls) == numbers
        assert crmtext.connections <= 5

    def test_are_kept_after_a_refusal_too(self, crmtext: FakeCrmText) -> None:
        call = connect(crmtext.url)
        crmtext.answer_with(Reply(404, xml("404", "not found")))

        names = {call.opt_out(NUMBER, "PIZZA").name for _ in range(10)}

        assert (names, crmtext.connections) == ({"customer_not_found"}, 1)

    def test_are_not_kept_with_an_unread_rest_in_them(self, crmtext: FakeCrmText) -> None:
        call = connect(crmtext.url)
        crmtext.answers(Reply(body=b"x" * 3_000_000), Reply(body=xml()))

        names = [call.opt_out(NUMBER, "PIZZA").name for _ in range(2)]

        assert names == [INVALID, "opted_out"]

    def test_that_the_server_closed_meanwhile_are_made_anew(self) -> None:
        with FakeCrmText() as first:
            call = connect(first.url)
            assert call.opt_out(NUMBER, "PIZZA").name == "opted_out"
        time.sleep(0.05)
        with FakeCrmText(first.server_port) as second:
            assert call.opt_out(NUMBER, "PIZZA").name == "opted_out"
            assert len(second.calls) == 1

    def test_wait_for_one_another_never(self, crmtext: FakeCrmText) -> None:
        call = connect(crmtext.url)
        crmtext.answer_with(Reply(body=xml(), delay=0.3))
        began = time.monotonic()
        with ThreadPoolExecutor(50) as threads:
            names = set(threads.map(lambda _: call.opt_out(NUMBER, "PIZZA").name, range(50)))

        assert names == {"opted_out"}
        assert time.monotonic() - began < 1.0


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
def test_retry_after_is_believed_up_to_six_hours(
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


def test_the_body_has_only_what_the_headers_left_of_the_time() -> None:
    def slow(connection: socket.socket) -> None:
        time.sleep(TIMEOUT / 2)
        connection.sendall(GOOD)
        time.sleep(TIMEOUT * 3)

    with raw_server(slow) as (url, _):
        name, seconds = timed(url)

    assert name == "crmtext_timeout"
    assert TIMEOUT <= seconds + 0.01 < TIMEOUT + 1
