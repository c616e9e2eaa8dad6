"""``python -m gateway.sandbox``."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest

from gateway.sandbox.customers import MAGIC_NUMBERS
from gateway.sandbox.server import PATH, Sandbox
from tests.support.factories import ROOT
from tests.support.sandbox_calls import basic


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_program_ends_at_once_and_quietly_in_the_middle_of_a_hanging_call(
    ending: signal.Signals,
) -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "gateway.sandbox", "--port", "0"],
        cwd=ROOT,
        env={**os.environ, "PORT": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with program:
        assert program.stdout is not None
        url = json.loads(program.stdout.readline())["listening"]
        with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0)) as client:
            form = "method=optoutcustomer&phone_number=9995550630"
            client.sendall(
                f"POST {PATH} HTTP/1.1\r\nAuthorization: {basic()}\r\n"
                f"Content-Length: {len(form)}\r\n\r\n{form}".encode()
            )
            logged = json.loads(program.stdout.readline())
            program.send_signal(ending)
            started = time.monotonic()
            rest, errors = program.communicate(timeout=5)

    assert logged["phone_number"] == "******0630"
    assert (program.returncode, rest, errors) == (0, "", "")
    assert time.monotonic() - started < 1


def test_the_program_explains_every_magic_number() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "gateway.sandbox", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    listed = re.findall(r"^    (\d{10})  (.+)$", shown.stdout, re.MULTILINE)
    assert dict(listed) == {number: magic.explanation for number, magic in MAGIC_NUMBERS.items()}


def test_the_program_says_in_one_line_why_it_cannot_listen(sandbox: Sandbox) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "gateway.sandbox", "--port", str(sandbox.server_port)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert refused.returncode == 1
    assert "cannot listen on 127.0.0.1 port" in refused.stderr.splitlines()[-1]
    assert "Traceback" not in refused.stderr


def test_nothing_in_the_gateway_imports_the_sandbox() -> None:
    sources = [
        *ROOT.glob("*.py"),
        *(ROOT / "gateway").glob("[!s]*/**/*.py"),
        *ROOT.glob("schemas/*.py"),
    ]
    imports = re.compile(r"^\s*(from|import)\b.*\bsandbox\b", re.MULTILINE)

    assert [path.name for path in sources if imports.search(path.read_text())] == []
