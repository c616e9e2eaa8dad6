"""The processes that are measured: started, watched through /proc, stopped."""

import contextlib
import hashlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from socket import create_connection

import certifi

from benchmarks.load import Load, Measured
from tests.support.factories import free_port
from tests.support.fake_crmtext import self_signed
from tests.support.postgres import Postgres

_TICKS = os.sysconf("SC_CLK_TCK")
_SECONDS_TO_START = 15
_KEY, _TOKEN = "a-key-for-benchmarks", "a-token-for-benchmarks"

NOW = {"Authorization": f"Bearer {_KEY}"}
LATER = NOW | {"Prefer": "respond-async"}
WEBHOOK = {"X-Hook-Token": _TOKEN}


class Running:
    """A process and its children."""

    def __init__(self, pid: int, url: str = "") -> None:
        self._pid = pid
        self.url = url

    def cpu(self) -> float:
        """Milliseconds of user and system time so far, those of ended children included."""
        ticks = 0
        for pid in self._tree():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(map(int, after_name[11:15]))
        return ticks * 1000 / _TICKS

    def memory(self) -> float:
        """MB of all processes, each with its share of what they share (PSS)."""
        kilobytes = 0
        for pid in self._tree():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                kilobytes += int(line.split()[1]) if line.startswith("Pss:") else 0
        return kilobytes / 1024

    def _tree(self) -> list[int]:
        found = [self._pid]
        for pid in found:  # grows while it is walked
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += map(int, (task / "children").read_text().split())
        return found


class Bench:
    """Starts what a measurement asks for, in a folder of its own; ``close`` ends all of it."""

    def __init__(self) -> None:
        self._exits = contextlib.ExitStack()
        self._folder = Path(self._exits.enter_context(tempfile.TemporaryDirectory(prefix="bench")))
        certificate, key = self_signed(self._folder)
        # As large as the usual one: reading it is most of what a new connection costs.
        bundle = self._folder / "bundle.pem"
        bundle.write_text(Path(certifi.where()).read_text() + certificate.read_text())
        self._far_side, https = str(free_port()), str(free_port())
        self.far_url = f"http://127.0.0.1:{self._far_side}/smapi/rest"
        self.far_https_url = f"https://127.0.0.1:{https}/smapi/rest"
        self._postgres: Postgres | None = None
        self._ledgers = 0
        self.environment = {
            "PATH": os.environ["PATH"],
            "REQUESTS_CA_BUNDLE": str(bundle),
            "SSL_CERT_FILE": str(bundle),
            "CRMTEXT_URL": self.far_url,
            "CRMTEXT_AUTH_STRINGS": "benchmark:secret-password:PIZZA",
            "CRMTEXT_RATE": "0",
            "CRMTEXT_TIMEOUT": "20",
            "GATEWAY_API_KEYS": f"bench:{hashlib.sha256(_KEY.encode()).hexdigest()}",
            "WEBHOOK_SOURCES": '[braze]\nrecipe = "braze"\nsecret_env = "TOKEN"\n',
            "TOKEN": _TOKEN,
            "WEB_CONCURRENCY": "2",
        }
        far_side = ["benchmarks.far_side", self._far_side, https, str(certificate), str(key)]
        self._start(far_side, {}, port=int(https))

    def close(self) -> None:
        self._exits.close()

    def far_side(self, path: str = "/state") -> Mapping[str, int]:
        """What the far side has seen, or is to do from now on."""
        connection = http.client.HTTPConnection("127.0.0.1", int(self._far_side))
        connection.request("GET", path)
        state: dict[str, int] = json.load(connection.getresponse())
        connection.close()
        return state

    def plain(self, far_url: str = "") -> Running:
        options = "--config python:benchmarks --worker-class sync --no-control-socket"
        quiet = ["--log-level", "warning", "--workers", "2"]
        return self._serve([*options.split(), *quiet, "benchmarks.plain:app"], "", far_url)

    def without_ledger(self, far_url: str = "") -> Running:
        return self._serve(["benchmarks.without_ledger:app"], "sqlite:///unused", far_url)

    def gateway(self, database_url: str, far_url: str = "") -> Running:
        return self._serve(["wsgi:app"], database_url, far_url)

    def worker(self, database_url: str) -> Running:
        return self._start(["gateway", "worker"], {"DATABASE_URL": database_url})

    def sqlite(self) -> str:
        """The address of a new ledger."""
        self._ledgers += 1
        return self._release(f"sqlite:///{self._folder}/{self._ledgers}.db")

    def postgres(self) -> str:
        """The address of a new ledger, on a server that is started at the first time."""
        if self._postgres is None:
            self._postgres = Postgres()
            self._exits.callback(self._postgres.stop, "immediate")
        return self._release(self._postgres.new_database())

    def database(self) -> Running | None:
        """PostgreSQL's processes, if they are running."""
        if self._postgres is None:
            return None
        ((folder,),) = self._postgres.execute("SHOW data_directory")
        return Running(int(Path(f"{folder}/postmaster.pid").read_text().split()[0]))

    def load(self, load: Load) -> "subprocess.Popen[bytes]":
        """A load generator at work; ``finish`` waits for what it measures."""
        given = json.dumps(asdict(load))
        return self._popen(["benchmarks.load", given], {}, stdout=subprocess.PIPE)

    def measure(self, load: Load) -> Measured:
        return finish(self.load(load))

    def _release(self, database_url: str) -> str:
        if self._popen(["gateway", "release"], {"DATABASE_URL": database_url}).wait():
            raise RuntimeError("the ledger was not made")
        return database_url

    def _serve(self, arguments: list[str], database_url: str, far_url: str) -> Running:
        port = free_port()
        given = {"PORT": str(port), "DATABASE_URL": database_url}
        given |= {"CRMTEXT_URL": far_url or self.far_url}
        gunicorn = ["gunicorn", "--bind", f"127.0.0.1:{port}", "--backlog", "2048"]
        return self._start([*gunicorn, *arguments], given, port)

    def _start(self, module: list[str], given: Mapping[str, str], port: int = 0) -> Running:
        process = self._popen(module, given)
        self._exits.callback(_stop, process)
        ends_at = time.monotonic() + _SECONDS_TO_START
        while port:
            try:
                create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > ends_at:
                    raise
                time.sleep(0.05)
        return Running(process.pid, f"http://127.0.0.1:{port}")

    def _popen(
        self, module: list[str], given: Mapping[str, str], stdout: int = subprocess.DEVNULL
    ) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(  # noqa: S603, every word is written in this file
            [sys.executable, "-m", *module], env={**self.environment, **given}, stdout=stdout
        )


def finish(process: "subprocess.Popen[bytes]") -> Measured:
    output, _ = process.communicate()
    return Measured(**json.loads(output))


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()  # still waits for a far side that hangs
        process.wait()
