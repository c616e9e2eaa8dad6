"""Where the gateway listens, and what it says about that when it starts."""

import json
import socket
from pathlib import Path

import pytest

from tests.support.factories import make_environment, run, serve
from tests.support.ledgers import wait_until


@pytest.fixture
def ledger(empty_ledger: Path, tmp_path: Path) -> str:
    (tmp_path / "gateway.db").write_bytes(empty_ledger.read_bytes())
    return f"sqlite:///{tmp_path}/gateway.db"


def messages(log: str) -> list[str]:
    return [json.loads(line)["message"] for line in log.splitlines()]


def test_a_line_says_what_to_open_once_somebody_listens(ledger: str, tmp_path: Path) -> None:
    with serve(make_environment(DATABASE_URL=ledger), tmp_path) as served:
        # A thread of its own writes the lines.
        wait_until(lambda: "Ready: " in served.stdout.read_text(), 10, "it is ready")
        said = messages(served.stdout.read_text())

        assert [line for line in said if line.startswith(("Listening", "Ready"))] == [
            f"Listening at: http://127.0.0.1:{served.port} ({served.process.pid})",
            f"Ready: http://127.0.0.1:{served.port}/docs",
        ]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", served.port))


@pytest.mark.slow
def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        ended = run("-m", "gunicorn", "wsgi:app", environment=make_environment(PORT=port))

    assert (ended.returncode, len(messages(ended.stdout))) == (1, 1)
    assert ended.stderr == (
        f"Cannot listen on 127.0.0.1 port {port}: Address already in use. "
        "Stop the program that uses it, or set PORT to another one.\n"
    )


def test_an_address_of_another_machine_is_one_line_and_warnings_come_first() -> None:
    environment = make_environment(
        HOST="192.0.2.1", CRMTEXT_AUTH_STRINGS="a:b:PIZZAc:d:TACO e:f:BURGER"
    )
    ended = run("-m", "gunicorn", "wsgi:app", environment=environment)

    assert ended.returncode == 1
    assert messages(ended.stdout)[1] == "settings warning"
    assert "CRMTEXT_AUTH_STRINGS: the password of store TACO" in ended.stdout
    assert ended.stderr == (
        "Cannot listen on 192.0.2.1 port 8000: Cannot assign requested address. "
        "Check HOST and PORT.\n"
    )
