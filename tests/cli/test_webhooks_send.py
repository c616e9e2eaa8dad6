"""``webhooks send``: a signed sample for a running gateway, and what came back."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from gateway.app import create_app
from gateway.consent import Status
from gateway.settings import Settings
from gateway.webhooks.recipes import read_recipes
from tests.support.commands import HOOKS, ONE_OF_EACH, Printed, gateway_here
from tests.support.factories import make_settings
from tests.support.signing import NUMBER
from tests.support.webhooks import on_record

BY_HAND = """
[helpdesk]
secret_env = "HOOK_SECRET"
opt_out = "stop"
phone_numbers = "phone"
signature = {header = "X-Signature"}
"""
SOURCES = ONE_OF_EACH + BY_HAND


@dataclass(frozen=True)
class Running:
    """A gateway that answers at ``url``."""

    url: str
    settings: Settings

    def send(self, source: str, *options: str, **changes: str) -> Printed:
        hooks = HOOKS | {"WEBHOOK_SOURCES": SOURCES} | changes
        return gateway_here("webhooks", "send", source, "--to", self.url, *options, **hooks)


@pytest.fixture
def running(database_url: str) -> Iterator[Running]:
    settings = make_settings(DATABASE_URL=database_url, **(HOOKS | {"WEBHOOK_SOURCES": SOURCES}))
    server = make_server("127.0.0.1", 0, create_app(settings), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Running(f"http://127.0.0.1:{server.port}", settings)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", read_recipes())
def test_the_sample_of_every_recipe_opts_someone_out(recipe: str, running: Running) -> None:
    printed = running.send(recipe)
    assert (printed.exit_code, printed.err) == (0, "")
    steps = printed.steps
    assert steps["sent"].startswith(f"POST {running.url}/v1/webhooks/{recipe} ")
    assert steps["sent"].endswith(" bytes, signed with HOOK_SECRET")
    assert steps["answer"].startswith("200 OK <Resp" if recipe == "twilio" else "202 ACCEPTED {")
    assert steps["result"] == "accepted"
    [opt_out] = on_record(running.settings)
    assert (opt_out.phone_number, opt_out.status) == (NUMBER, Status.PENDING)
    running.send(recipe)
    assert len(on_record(running.settings)) == 2  # each sample is a message of its own


def test_the_number_may_be_chosen(running: Running) -> None:
    assert running.send("shopify", "--number", "(999) 555-0001").exit_code == 0
    assert [one.phone_number for one in on_record(running.settings)] == ["9995550001"]


def test_a_source_by_hand_needs_a_body(running: Running, tmp_path: Path) -> None:
    printed = running.send("helpdesk")
    what = "[helpdesk] has no recipe and so no sample; pass a body with --body FILE."
    assert (printed.exit_code, printed.out) == (2, "")
    assert printed.err.endswith(f"Error: {what}\n")
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"stop": 1, "phone": NUMBER}))
    assert running.send("helpdesk", "--body", str(body)).steps["result"] == "accepted"
    assert len(on_record(running.settings)) == 1


@pytest.mark.parametrize(
    ("body", "exit_code", "result"),
    [
        ({"stop": 1, "phone": NUMBER}, 0, "accepted"),
        ({"stop": 1, "phone": "1"}, 3, "accepted, but opts nobody out"),
        ({"stop": False}, 3, "accepted; nothing in it is an opt-out"),
        ("{", 1, "refused"),
    ],
)
def test_the_exit_code_tells_the_result(
    body: object, exit_code: int, result: str, running: Running, tmp_path: Path
) -> None:
    file = tmp_path / "body.json"
    file.write_text(body if isinstance(body, str) else json.dumps(body))
    printed = running.send("helpdesk", "--body", str(file))
    assert (printed.exit_code, printed.steps["result"]) == (exit_code, result)


def test_another_secret_is_refused_by_the_gateway(running: Running) -> None:
    shopify = "[shopify]\nrecipe = 'shopify'\nsecret_env = 'HOOK_SECRET'"
    printed = running.send("shopify", HOOK_SECRET="other", WEBHOOK_SOURCES=shopify)
    assert printed.exit_code == 1
    assert printed.steps["answer"].startswith("401 UNAUTHORIZED {")
    assert "The webhook signature is wrong." in printed.out
    assert printed.steps["result"] == "refused"


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://[x", "https://127.0.0.1:9/a"])
def test_an_unreachable_gateway_is_reported_in_one_line(address: str) -> None:
    printed = gateway_here("webhooks", "send", "shopify", "--to", address, **HOOKS)
    assert (printed.exit_code, len(printed.err.splitlines())) == (1, 1)
    assert printed.err.startswith(f"No answer from {address}/v1/webhooks/shopify (")


def test_without_an_address_it_goes_to_the_public_url_or_to_this_machine() -> None:
    hooks = HOOKS | {"PUBLIC_URL": "http://127.0.0.1:9/gateway"}
    printed = gateway_here("webhooks", "send", "shopify", **hooks)
    assert "No answer from http://127.0.0.1:9/gateway/v1/webhooks/shopify (" in printed.err
    source = "[shop]\nrecipe = 'shopify'\nsecret_env = 'HOOK_SECRET'"
    hooks = {"WEBHOOK_SOURCES": source, "HOOK_SECRET": "secret", "PORT": "9"}
    printed = gateway_here("webhooks", "send", "shop", **hooks)
    assert "No answer from http://127.0.0.1:9/v1/webhooks/shop (" in printed.err


@pytest.mark.parametrize("address", ["127.0.0.1:8000", "ftp://x", ""])
def test_an_invalid_address_is_a_usage_error(address: str) -> None:
    printed = gateway_here("webhooks", "send", "shopify", "--to", address, **HOOKS)
    assert printed.exit_code == 2


def test_the_body_for_twilio_must_be_a_form(tmp_path: Path) -> None:
    file = tmp_path / "body"
    file.write_bytes(b"\xff")
    printed = gateway_here("webhooks", "send", "twilio", "--body", str(file), **HOOKS)
    assert printed == Printed(1, "", "The body cannot be signed: it is not a form.\n")


class _Stranger(BaseHTTPRequestHandler):
    """Answers 200 to anything, and is no gateway."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>\x1b[2J hello")

    def log_message(self, *_: object) -> None:
        pass


def test_an_answer_of_another_server_does_not_count_as_accepted() -> None:
    with HTTPServer(("127.0.0.1", 0), _Stranger) as server:
        threading.Thread(target=server.handle_request).start()
        address = f"http://127.0.0.1:{server.server_port}"
        printed = gateway_here("webhooks", "send", "shopify", "--to", address, **HOOKS)
    assert (printed.exit_code, printed.steps["result"]) == (1, "refused")
    assert "\x1b" not in printed.out
