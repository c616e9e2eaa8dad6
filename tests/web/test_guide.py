"""The guide on the page of the documentation: its examples work, and docs/api.md is the same."""

import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest
import requests

from gateway.web.docs.document import guide
from tests.support.api_page import COMMAND, FILE, api_page
from tests.support.factories import DEMO_KEY
from tests.test_readme import table as readme_table

ADDRESS = "http://127.0.0.1:8000"


def test_the_page_in_the_repository_is_that_of_the_gateway() -> None:
    is_current = FILE.read_text(encoding="utf-8") == api_page()
    assert is_current, f"docs/api.md is out of date. Run: {COMMAND}"


def test_the_guides_numbers_are_answered_as_the_readme_says() -> None:
    rows = [line.strip("|").split("|") for line in guide().splitlines() if line[:5] == "| 999"]
    assert len(rows) > 5
    known = readme_table("Test numbers")
    assert [row for row in rows if [cell.strip() for cell in row] not in known] == []


EXAMPLES = {
    "sh": ["bash", "-c"],
    "python": [sys.executable, "-c"],
    "js": ["node", "--input-type=module", "-e"],
}


def run_example(language: str, address: str) -> str:
    """What the guide's example prints, asking a server at ``address``."""
    program, *options = EXAMPLES[language]
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is missing")
    result = subprocess.run(
        [found, *options, example_in(language).replace(ADDRESS, address)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def example_in(language: str) -> str:
    [example] = re.findall(rf"```{language}\n(.*?)```", guide(), re.DOTALL)
    return str(example)


@pytest.mark.parametrize("language", EXAMPLES)
def test_an_example_opts_someone_out(sandboxed_gateway: str, language: str) -> None:
    assert "opted_out" in run_example(language, sandboxed_gateway)

    items = requests.post(
        f"{sandboxed_gateway}/v1/opt-outs/search",
        headers={"Authorization": f"Bearer {DEMO_KEY}"},
        json={"reference": re.findall("ticket-[0-9]+", example_in(language))[0]},
        timeout=10,
    ).json()["items"]
    assert [(one["status"], one["source"]) for one in items] == [("opted_out", "api:demo")]


class Unsteady(BaseHTTPRequestHandler):
    """A server that is unavailable at first."""

    requests: ClassVar[list[tuple[str | None, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.requests.append((self.headers["Idempotency-Key"], body))
        is_first = len(self.requests) == 1
        answer = b'{"code": "ledger_unavailable"}' if is_first else b'{"status": "opted_out"}'
        self.send_response(503 if is_first else 200)
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.mark.slow
@pytest.mark.parametrize("language", EXAMPLES)
def test_an_example_repeats_the_same_request(language: str) -> None:
    Unsteady.requests.clear()
    server = HTTPServer(("127.0.0.1", 0), Unsteady)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        said = run_example(language, f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    assert "opted_out" in said
    first, second = Unsteady.requests
    assert first == second
    assert first[0] in re.findall("ticket-[0-9]+", example_in(language))
