"""How CRM Text is reached: names, addresses and proxies, all within the time of one call."""

import select
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gateway.consent import Outcome
from gateway.errors import ConfigurationError, ErrorCode, Failure
from tests.support.crmtext_calls import TIMEOUT, UNREACHABLE, basic, connect, timed
from tests.support.factories import NUMBER, free_port
from tests.support.fake_crmtext import FakeCrmText
from tests.support.scripted_server import Certificate, server_context

TIMED_OUT = "crmtext_timeout"
ELSEWHERE = "http://crm.invalid/smapi/rest"


@contextmanager
def nobody_accepts() -> Iterator[int]:
    """A port whose queue is full, so that nobody gets a connection, or a refusal."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        queued = [socket.socket() for _ in range(3)]
        for one in queued:
            one.settimeout(0)
            with suppress(BlockingIOError):
                one.connect(listener.getsockname())
        yield listener.getsockname()[1]
        for one in queued:
            one.close()


@pytest.fixture
def silent_name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names that were asked for, while nobody answers."""
    asked: list[str] = []
    ends = threading.Event()

    def look_up(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        ends.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield asked
    ends.set()


def test_a_name_server_that_says_nothing_counts_against_the_time(
    silent_name_server: list[str],
) -> None:
    name, seconds = timed(ELSEWHERE)

    assert name == TIMED_OUT
    assert TIMEOUT <= seconds + 0.01 < TIMEOUT + 1
    assert silent_name_server == ["crm.invalid"]


def test_all_calls_wait_for_one_look_up(silent_name_server: list[str]) -> None:
    client = connect(ELSEWHERE, TIMEOUT)
    began = time.monotonic()
    with ThreadPoolExecutor(20) as threads:
        names = set(threads.map(lambda _: client.opt_out(NUMBER, "PIZZA").name, range(40)))

    assert names == {TIMED_OUT}
    assert time.monotonic() - began < 2 * TIMEOUT + 1
    assert silent_name_server == ["crm.invalid"]


def test_a_failed_look_up_is_made_again_by_the_next_call(
    monkeypatch: pytest.MonkeyPatch, crmtext: FakeCrmText
) -> None:
    client = connect(ELSEWHERE)
    first = client.opt_out(NUMBER, "PIZZA").name
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", crmtext.server_port))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [address])

    assert [first, client.opt_out(NUMBER, "PIZZA").name] == [UNREACHABLE, "opted_out"]


def test_a_dead_address_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch, crmtext: FakeCrmText
) -> None:
    with nobody_accepts() as dead:
        addresses = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
            for port in (dead, free_port(), crmtext.server_port)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)

        name, seconds = timed(ELSEWHERE, 1.5)

    assert name == "opted_out"
    assert seconds < 1.0


def test_several_dead_addresses_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with nobody_accepts() as dead:
        address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", dead))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [address] * 4)

        name, seconds = timed(ELSEWHERE)

    assert name == TIMED_OUT
    assert TIMEOUT <= seconds + 0.01 < TIMEOUT + 1


def through_proxy(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, url)
        monkeypatch.setenv(name.upper(), url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")


@pytest.mark.parametrize("url", [ELSEWHERE, ELSEWHERE.replace("http:", "https:")])
def test_a_proxy_that_never_accepts_the_connection_is_a_timeout(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nobody_accepts() as port:
        through_proxy(monkeypatch, f"http://127.0.0.1:{port}")

        name, seconds = timed(url)

    assert name == TIMED_OUT
    assert TIMEOUT <= seconds + 0.01 < TIMEOUT + 1


@pytest.mark.parametrize("url", [ELSEWHERE, ELSEWHERE.replace("http:", "https:")])
def test_a_proxy_that_refuses_the_connection_is_unreachable(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    through_proxy(monkeypatch, f"http://127.0.0.1:{free_port()}")

    assert connect(url).opt_out(NUMBER, "PIZZA") == Outcome(
        Failure(
            ErrorCode.CRMTEXT_UNREACHABLE,
            "There was no connection to CRM Text, or it was lost (ConnectionRefusedError).",
        )
    )


@contextmanager
def proxy(
    answer: bytes, target: int | None = None, tls: Certificate | None = None
) -> Iterator[tuple[int, list[bytes]]]:
    """A proxy's port and the heads that it heard; after its answer it hands on, or hangs."""
    heads: list[bytes] = []

    def serve(client: socket.socket) -> None:
        near = server_context(tls).wrap_socket(client, server_side=True) if tls else client
        with near, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += near.recv(65536)
            heads.append(head)
            near.sendall(answer)
            if target is None:
                while near.recv(65536):
                    pass
                return
            with socket.create_connection(("127.0.0.1", target)) as far:
                hand_on(near, far)

    def hand_on(near: socket.socket, far: socket.socket) -> None:
        while True:
            for one in select.select([near, far], [], [])[0]:
                piece = one.recv(65536)
                if not piece:
                    return
                (far if one is near else near).sendall(piece)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=serve, args=[client], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], heads
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.usefixtures("trusted")
def test_https_goes_through_a_tunnel_that_is_kept(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 Connection established\r\n\r\n"
    with FakeCrmText(tls=certificate) as secure, proxy(opened, secure.server_port) as (port, heads):
        through_proxy(monkeypatch, f"http://us%65r:p%40ss@127.0.0.1:{port}")
        client = connect(secure.url)

        names = [client.opt_out(f"999555000{n}", "PIZZA").name for n in range(3)]

        host = f"127.0.0.1:{secure.server_port}"
    assert names == ["opted_out"] * 3
    lines = [f"CONNECT {host} HTTP/1.1", f"Host: {host}"]
    lines += [f"Proxy-Authorization: {basic('user:p@ss')}", "", ""]
    assert heads == ["\r\n".join(lines).encode()]


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", UNREACHABLE),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", UNREACHABLE),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", UNREACHABLE),
        (b"HTTP/1.1 200 Connection established\r\n\r\n", TIMED_OUT),
        (b"HTTP/1.1 200 Connection", TIMED_OUT),
        (b"", TIMED_OUT),
    ],
)
def test_a_tunnel_that_is_not_opened_says_why(
    answer: bytes, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy(answer) as (port, _):
        through_proxy(monkeypatch, f"127.0.0.1:{port}")

        assert timed(ELSEWHERE.replace("http:", "https:"))[0] == name


def test_a_proxy_for_http_is_told_its_password_and_the_whole_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with proxy(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (port, heads):
        through_proxy(monkeypatch, f"http://user:pass@127.0.0.1:{port}")
        timed(ELSEWHERE)

    first, *lines = heads[0].decode().split("\r\n")
    assert first == "POST http://crm.invalid/smapi/rest HTTP/1.1"
    assert f"Proxy-Authorization: {basic('user:pass')}" in lines
    assert "Host: crm.invalid" in lines


@pytest.mark.usefixtures("trusted")
def test_a_proxy_may_be_spoken_to_over_tls(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS to CRM Text within the TLS to the proxy; such a connection is used once."""
    opened = b"HTTP/1.1 200 Connection established\r\n\r\n"
    with (
        FakeCrmText(tls=certificate) as secure,
        proxy(opened, secure.server_port, certificate) as (port, _),
    ):
        through_proxy(monkeypatch, f"https://127.0.0.1:{port}")
        client = connect(secure.url)

        names = [client.opt_out(f"999555000{n}", "PIZZA").name for n in range(2)]

        assert names == ["opted_out"] * 2
        assert secure.connections == 2


def test_what_no_proxy_lists_is_called_directly(
    crmtext: FakeCrmText, monkeypatch: pytest.MonkeyPatch
) -> None:
    through_proxy(monkeypatch, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "127.0.0.0/8")

    assert timed(crmtext.url, 5)[0] == "opted_out"


@pytest.mark.parametrize("url", ["socks5://127.0.0.1:1080", "http://:3128", "http://h:99999"])
def test_a_proxy_that_cannot_be_used_stops_the_start(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    through_proxy(monkeypatch, url)

    with pytest.raises(ConfigurationError) as raised:
        connect("https://crm.invalid/smapi/rest")

    assert raised.value.faults == ("HTTPS_PROXY: must be an address like http://host:port",)
