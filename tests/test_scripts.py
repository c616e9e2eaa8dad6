"""The scripts that the README tells people to run, from a folder as a checkout has it."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.support.factories import NUMBER, ROOT, free_port

# What script/run works with. Its database is made beside it.
CHECKOUT = ["gateway", "schemas", "script", "dev.env", "gunicorn.conf.py", "wsgi.py"]
CHECKOUT += ["Procfile.dev", "requirements.txt", "requirements-dev.txt", ".venv"]


def _is_set_up() -> bool:
    wanted = [(ROOT / name).read_bytes() for name in ("requirements.txt", "requirements-dev.txt")]
    installed = ROOT / ".venv/installed-requirements.txt"
    return installed.exists() and installed.read_bytes() == b"".join(wanted)


needs_setup = pytest.mark.skipif(not _is_set_up(), reason="script/setup would install something")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in CHECKOUT:
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@contextmanager
def running(checkout: Path, **variables: int | str) -> Iterator[subprocess.Popen[str]]:
    """``script/run``, with its output in one pipe, until the block ends."""
    process = subprocess.Popen(
        ["script/run"],
        cwd=checkout,
        env=_environment() | {name: str(value) for name, value in variables.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}


@pytest.mark.slow
@needs_setup
def test_run_says_what_to_open_and_ctrl_c_ends_everything(checkout: Path) -> None:
    ports = {"PORT": free_port(), "SANDBOX_PORT": free_port()}
    url = f"http://127.0.0.1:{ports['PORT']}"
    # Conda's HOST, and a proxy that nobody runs.
    others = {"HOST": "x86_64-conda-linux-gnu", "http_proxy": "http://127.0.0.1:9"}

    with running(checkout, **ports, **others) as process:
        assert process.stdout is not None
        lines = iter(process.stdout)
        ready = next(line for line in lines if line.startswith("Ready: "))
        key = {"Authorization": "Bearer demo-key-for-the-sandbox"}
        body = {"phone_number": NUMBER}
        answer = requests.post(f"{url}/v1/opt-outs", json=body, headers=key, timeout=10)
        os.killpg(process.pid, signal.SIGINT)
        rest = list(lines)

    assert ready.split()[1] == f"{url}/docs"
    assert answer.json()["status"] == "opted_out"
    assert sum("stopped" in line for line in rest if "system" in line) == 3
    for port in ports.values():
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


@needs_setup
@pytest.mark.parametrize("name", ["PORT", "SANDBOX_PORT"])
def test_run_names_a_port_that_is_in_use(checkout: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ports = {"PORT": free_port(), "SANDBOX_PORT": free_port(), name: port}
        with running(checkout, **ports) as process:
            output, _ = process.communicate(timeout=30)

    assert process.returncode == 1
    assert output == (
        f"Port {port} ({name}) is in use by another program. Stop that program, or choose another "
        f"port: {name}=NUMBER script/run\n"
    )


@pytest.mark.parametrize(
    ("python", "said"),
    [
        (None, "Python 3.11 or later is needed. Found: no python3.\n"),
        ("echo Python 3.9.6; exit 1", "Python 3.11 or later is needed. Found: Python 3.9.6.\n"),
        (
            'case "$*" in *ensurepip*) exit 1;; esac',
            "python3 cannot make virtual environments: its venv module is missing.\n",
        ),
    ],
)
def test_setup_says_what_is_missing(tmp_path: Path, python: str | None, said: str) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "env", "dirname", "cat", "cmp"):
        (tools / name).symlink_to(str(shutil.which(name)))
    if python:
        (tools / "python3").write_text(f"#!/bin/sh\n{python}\n")
        (tools / "python3").chmod(0o755)
    (tmp_path / "script").symlink_to(ROOT / "script")

    setup = subprocess.run(
        [tmp_path / "script/setup"],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (setup.returncode, setup.stdout) == (1, "")
    assert setup.stderr.startswith(said)


def test_setup_leaves_the_environment_of_another_checkout_alone(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "kept").touch()
    (tmp_path / ".venv").symlink_to(other)
    (tmp_path / "script").symlink_to(ROOT / "script")

    setup = subprocess.run([tmp_path / "script/setup"], capture_output=True, text=True, check=False)

    assert (setup.returncode, setup.stdout) == (1, "")
    assert setup.stderr.startswith(".venv is a link to a folder without Python and pip")
    assert (other / "kept").exists()


@pytest.mark.slow
def test_setup_makes_the_environment_of_a_renamed_checkout_anew(tmp_path: Path) -> None:
    checkout, renamed = tmp_path / "checkout", tmp_path / "renamed"
    checkout.mkdir()
    (checkout / "script").symlink_to(ROOT / "script")
    for name in ("requirements.txt", "requirements-dev.txt"):
        (checkout / name).touch()

    subprocess.run([checkout / "script/setup"], check=True)
    checkout.rename(renamed)
    subprocess.run([renamed / "script/setup"], check=True)
    third = subprocess.run([renamed / "script/setup"], capture_output=True, check=True)

    assert (renamed / ".venv/bin/pip").read_text().splitlines()[0].startswith(f"#!{renamed}/")
    assert third.stderr == b""


@pytest.mark.slow
@needs_setup
def test_test_takes_what_pytest_takes() -> None:
    script = str(ROOT / "script/test")
    command = [script, "--quick", "tests/drills", "--collect-only", "-q"]
    quick = subprocess.run(command, capture_output=True, text=True, check=False)

    assert "Quick: without drills, " in quick.stdout
    assert "no tests collected" in quick.stdout
