"""What tests are made of: settings, requests, and the gateway served by a real gunicorn."""

import hashlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gateway.consent import OptOutRequest
from gateway.phone_number import read_phone_number
from gateway.settings import Settings

ROOT = Path(__file__).parents[2]
NUMBER = "9995551234"

# Two stores, the first of them with a colon in its password, and a key for all and one for one.
PIZZA = "pizzeria:pizza:secret:PIZZA"
BURGER = "burgerbar:burger-secret:BURGER"
API_KEY = "key-of-billing"
DEMO_KEY = "demo-key-for-the-sandbox"
BURGER_KEY = "key-of-the-burger-bar"
BEARER = {"Authorization": f"Bearer {API_KEY}"}
BURGER_BEARER = {"Authorization": f"Bearer {BURGER_KEY}"}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make_environment(**changes: str) -> dict[str, str]:
    """A sound environment; nobody answers at its CRMTEXT_URL. An empty text unsets a variable."""
    sound = {
        "CRMTEXT_AUTH_STRINGS": f"{PIZZA} {BURGER}",
        "CRMTEXT_URL": "http://127.0.0.1:9/smapi/rest",
        "CRMTEXT_TIMEOUT": "2",
        "CRMTEXT_RATE": "0",
        "GATEWAY_API_KEYS": f"billing:{sha256(API_KEY)} burger:{sha256(BURGER_KEY)}:BURGER",
        "DATABASE_URL": "sqlite:////nowhere/gateway.db",
    }
    return {name: text for name, text in (sound | changes).items() if text}


def make_settings(**changes: str) -> Settings:
    """The settings of ``make_environment``."""
    return Settings.from_env(make_environment(**changes))


def make_opt_out_request(
    phone_number: object = NUMBER,
    *,
    store: str = "PIZZA",
    source: str = "api:billing",
    request_id: str = "request-1",
    reference: str | None = None,
    reason: str | None = None,
    means: str | None = None,
    requested_at: datetime | None = None,
) -> OptOutRequest:
    return OptOutRequest(
        phone_number=read_phone_number(phone_number),
        store=store,
        source=source,
        request_id=request_id,
        reference=reference,
        reason=reason,
        means=means,
        requested_at=requested_at,
    )


def free_port() -> int:
    """A port below those that systems give to outgoing connections, so that it stays free."""
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@dataclass(frozen=True)
class Served:
    """A gunicorn at ``url``; it leads a process group of its own."""

    url: str
    port: int
    process: subprocess.Popen[bytes]
    stdout: Path
    stderr: Path

    def stop(self) -> int:
        """Ends it as a platform would, and waits; the exit code."""
        self.process.terminate()
        return self.process.wait(30)


@contextmanager
def serve(
    environment: Mapping[str, str],
    directory: Path,
    *,
    configuration: str = "",
    within: Sequence[str] = (),
) -> Iterator[Served]:
    """The gateway under gunicorn on a free port, until the block ends or the test stops it.

    Its output goes to files in ``directory``. ``configuration`` is Python that is put behind the
    repository's gunicorn.conf.py. ``within`` is a command that runs another (prlimit). The ledger
    has to exist already.
    """
    port = free_port()
    conf, stdout, stderr = (directory / name for name in ("gunicorn.py", "stdout", "stderr"))
    own = (ROOT / "gunicorn.conf.py").read_text(encoding="utf-8")
    conf.write_text("\n".join([own, configuration, _SAY_THAT_A_WORKER_IS_READY]), encoding="utf-8")
    with stdout.open("wb") as out, stderr.open("wb") as err:
        process = subprocess.Popen(
            [*within, sys.executable, "-m", "gunicorn", "-c", str(conf), "wsgi:app"],
            cwd=ROOT,
            env=_environment(environment) | {"PORT": str(port)},
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    try:
        _wait_until_ready(directory, int(environment.get("WEB_CONCURRENCY", "2")), process)
        yield Served(f"http://127.0.0.1:{port}", port, process, stdout, stderr)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run(*command: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """A Python command of the repository, run to its end."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=_environment(environment),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Nothing of the developer's own but what a program needs to start."""
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment}


# gunicorn listens before its workers are ready, and a signal to one that is not is lost.
_SAY_THAT_A_WORKER_IS_READY = """
_begin = post_worker_init
def post_worker_init(worker):
    _begin(worker)
    open(f"{__file__}.{worker.pid}.ready", "w").close()
"""


def _wait_until_ready(directory: Path, workers: int, process: subprocess.Popen[bytes]) -> None:
    ends_at = time.monotonic() + 30
    while len(list(directory.glob("*.ready"))) < workers:
        assert process.poll() is None, "gunicorn ended; see its output in the test's directory"
        assert time.monotonic() < ends_at, "gunicorn is not ready after 30 s"
        time.sleep(0.01)
