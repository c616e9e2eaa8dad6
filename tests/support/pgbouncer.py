"""PgBouncer in transaction mode, with its default settings, in front of a PostgreSQL."""

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest

from tests.support.factories import free_port
from tests.support.postgres import as_owner


class PgBouncer:
    """``url`` leads through the pooler to the database that was given."""

    def __init__(self, database_url: str) -> None:
        program = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/bin:/usr/bin")
        if program is None:
            pytest.fail("PgBouncer is not installed: apt-get install pgbouncer")
        there = urlsplit(database_url)
        self._port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="gateway-pgbouncer-"))
        self._folder.chmod(0o755)
        configuration = self._folder / "pgbouncer.ini"
        configuration.write_text(
            f"[databases]\n* = host=127.0.0.1 port={there.port} user={there.username}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self._port}\n"
            "unix_socket_dir =\nauth_type = any\npool_mode = transaction\n"
        )
        self._process = subprocess.Popen(
            as_owner([program, "-q", str(configuration)]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        self.url = f"postgresql://{there.username}@127.0.0.1:{self._port}{there.path}"

    def __enter__(self) -> Self:
        ends_at = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port)).close()
            except OSError:
                assert self._process.poll() is None, "PgBouncer ended"
                assert time.monotonic() < ends_at, "PgBouncer does not listen after 10 s"
                time.sleep(0.02)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        shutil.rmtree(self._folder)
