"""A real PostgreSQL for tests: started once, on a free port, with a database for each test."""

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Literal

import psycopg
import pytest

from tests.support.factories import free_port
from tests.support.ledgers import make_tables

_OWNER = "postgres"  # PostgreSQL refuses to run as root
_TEMPLATE = "an_empty_ledger"


class Postgres:
    """A server with Debian's settings, the durable ones included, that ends with this process."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="gateway-postgres-"))
        self.port = free_port()
        self._numbers = count(1)
        if os.getuid() == 0:
            shutil.chown(self._folder, _OWNER, _OWNER)
        initdb = "initdb --auth=trust --username=gateway --encoding=UTF8 --locale=C.UTF-8 --no-sync"
        _run([*initdb.split(), "-D", str(self._folder / "data")])
        self.start()
        atexit.register(self._remove)

    def start(self) -> None:
        command = [
            *["postgres", "-D", str(self._folder / "data"), "-p", str(self.port)],
            *["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="],
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                _as_owner(command), stdout=log, stderr=log, start_new_session=True
            )
        ends_at = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < ends_at, "PostgreSQL does not answer after 20 s"
            time.sleep(0.02)

    def stop(self, mode: Literal["fast", "immediate"]) -> None:
        _run(["pg_ctl", "-D", str(self._folder / "data"), "-m", mode, "-w", "stop"])
        self._process.wait(20)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """All of its processes stopped in their tracks: connections stay open, nobody answers."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        pids = [self._process.pid, *map(int, children.split())]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def new_database(self, *, template: str = "template1", options: str = "") -> str:
        """The URL of a database of one's own."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} {options}")
        return self.url(name)

    def url(self, database: str) -> str:
        return f"postgresql://gateway@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, *, database: str = "postgres") -> list[tuple[object, ...]]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _answers(self) -> bool:
        try:
            return bool(self.execute("SELECT 1"))
        except psycopg.OperationalError:
            return False

    def _remove(self) -> None:
        if self.is_running:
            self._process.send_signal(signal.SIGQUIT)  # at once, and its own processes too
            self._process.wait(20)
        shutil.rmtree(self._folder)


def running_postgres() -> Postgres:
    """The server that all tests share; skips where PostgreSQL is not installed, but never in CI."""
    if _binaries() is None and "CI" not in os.environ:
        pytest.skip("PostgreSQL is not installed")
    server = _shared()
    if not server.is_running:  # a test that stopped it broke off
        server.start()
    return server


@contextmanager
def own_postgres() -> Iterator[Postgres]:
    """A server beside the shared one, to be stopped and started; skips where that does."""
    running_postgres()
    server = Postgres()
    try:
        yield server
    finally:
        if server.is_running:
            server.stop("immediate")


def new_postgres_ledger() -> str:
    """The URL of an upgraded, empty ledger on the shared server."""
    server = running_postgres()
    _make_template(server)
    return server.new_database(template=_TEMPLATE)


@cache
def _binaries() -> Path | None:
    """Where PostgreSQL's programs are: Debian keeps those of a server out of the PATH."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda initdb: int(initdb.parts[4])).parent
    initdb = shutil.which("initdb")
    return Path(initdb).parent if initdb else None


@cache
def _shared() -> Postgres:
    return Postgres()


@cache
def _make_template(server: Postgres) -> None:
    server.execute(f"CREATE DATABASE {_TEMPLATE}")
    make_tables(server.url(_TEMPLATE))


def _as_owner(command: list[str]) -> list[str]:
    binaries = _binaries()
    assert binaries is not None, "PostgreSQL is not installed"
    return as_owner([str(binaries / command[0]), *command[1:]])


def as_owner(path: list[str]) -> list[str]:
    """The command as a user who is not root."""
    if shutil.which("setpriv") is None:  # not on macOS, where nobody tests as root either
        return path
    # Ends with the process that started it, should that be killed.
    setpriv = ["setpriv", "--pdeathsig=QUIT"]
    if os.getuid() == 0:
        setpriv += [f"--reuid={_OWNER}", f"--regid={_OWNER}", "--clear-groups"]
    return [*setpriv, *path]


def _run(command: list[str]) -> None:
    subprocess.run(_as_owner(command), check=True, capture_output=True, timeout=60, cwd="/")
