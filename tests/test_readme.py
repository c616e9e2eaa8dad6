"""What the README says is what the code does."""

import json
import os
import re
import shlex
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask.testing import FlaskClient

from gateway.app import create_app
from gateway.consent import Status
from gateway.errors import ERRORS
from gateway.sandbox.customers import MAGIC_NUMBERS
from gateway.settings import Settings
from gateway.web.docs.enums import MEANINGS
from tests.support.factories import ROOT, make_environment
from tests.support.fake_crmtext import FakeCrmText

README = (ROOT / "README.md").read_text(encoding="utf-8")


DEMO = {"Authorization": "Bearer demo-key-for-the-sandbox"}
# What is another at each run.
ID_OR_TIME = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f-]{27}|[0-9]{4}-[0-9-]+T[0-9:.]+Z")


def section(heading: str) -> str:
    return README.split(f"## {heading}\n")[1].split("\n## ")[0]


def table(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    rows = [line.strip("|").split("|") for line in section(heading).splitlines() if line[:1] == "|"]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_the_table_of_codes_is_that_of_the_code() -> None:
    assert table("Error codes") == [
        [f"`{code}`", str(kind.status), "yes" if kind.retryable else "no", kind.title]
        for code, kind in ERRORS.items()
    ]


def test_the_table_of_statuses_is_that_of_the_openapi_document() -> None:
    meanings = MEANINGS[Status].items()
    assert table("Opt someone out") == [[f"`{status}`", meaning] for status, meaning in meanings]


class AskedFor(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, environment: dict[str, str]) -> None:
        super().__init__(environment)
        self.names: set[str] = set()

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]  # always a text
        self.names.add(name)
        return super().get(name, default)


def test_the_table_of_settings_names_every_variable_that_is_read() -> None:
    environment = AskedFor(make_environment())
    Settings.from_env(environment)
    assert {row[0].strip("`") for row in table("Settings")} == environment.names


def test_the_table_of_numbers_is_that_of_the_sandbox() -> None:
    assert [row[:2] for row in table("Test numbers")] == [
        [number, magic.explanation] for number, magic in MAGIC_NUMBERS.items()
    ]


@pytest.mark.parametrize("mark", ["run", "test"])
def test_each_command_is_a_script_on_the_line_after_its_mark(mark: str) -> None:
    assert f"\n<!-- {mark} -->\n```sh\nscript/{mark}\n```\n" in README
    assert os.access(ROOT / "script" / mark, os.X_OK)


@pytest.fixture
def client(crmtext: FakeCrmText, database_url: str) -> FlaskClient:
    """The gateway as the run command starts it."""
    lines = (ROOT / "dev.env").read_text(encoding="utf-8").splitlines()
    environment = dict(line.split("=", 1) for line in lines if line[:1] not in ("#", ""))
    there = {"CRMTEXT_URL": crmtext.url, "DATABASE_URL": database_url, "CRMTEXT_TIMEOUT": "3"}
    return create_app(Settings.from_env(environment | there)).test_client()


def curl(client: FlaskClient, command: str) -> str:
    """The body that the command's request is answered with."""
    _, _, address, *options = shlex.split(command.replace("\\\n", ""))
    given = list(zip(options[::2], options[1::2], strict=True))
    headers = [text.split(": ", 1) for option, text in given if option == "-H"]
    [body] = [text for option, text in given if option == "-d"]
    path = address.removeprefix("http://127.0.0.1:8000")
    return client.post(path, headers=headers, data=body).text


def test_the_first_request_is_answered_as_shown(client: FlaskClient) -> None:
    [command] = re.findall(r"```sh\n(curl .*?)```", section("Opt someone out"), re.DOTALL)
    [shown] = re.findall(r"```json\n(.*?)```", section("Opt someone out"), re.DOTALL)
    answer = json.dumps(json.loads(curl(client, command)), indent=2) + "\n"
    assert ID_OR_TIME.sub("…", answer) == ID_OR_TIME.sub("…", shown)


def test_the_second_request_is_for_a_number_that_crmtext_does_not_know(
    client: FlaskClient,
) -> None:
    promises = section("What an answer promises")
    [command] = re.findall(r"```sh\n(curl .*?)```", promises, re.DOTALL)
    assert json.loads(curl(client, command))["code"] == "customer_not_found"


@pytest.mark.slow
def test_each_number_is_answered_as_the_table_says(client: FlaskClient) -> None:
    def answer(number: str) -> list[str]:
        """What the table shows of it: HTTP's status, and the codes that tell what happened."""
        body = {"phone_number": number}
        response = client.application.test_client().post("/v1/opt-outs", headers=DEMO, json=body)
        found = response.get_json()
        codes = [found["code"]] if response.status_code >= 400 else [found["status"]]
        error = found.get("error")
        return [str(response.status_code), *codes, *([error["code"]] if error else [])]

    rows = table("Test numbers")
    with ThreadPoolExecutor(len(rows)) as pool:  # some take as long as a call may
        answers = list(pool.map(answer, [number for number, *_ in rows]))
    shown = [re.findall("`([a-z_0-9]+)`", says.partition(";")[0]) for *_, says in rows]
    assert answers == shown


def test_the_webhook_source_starts_the_gateway() -> None:
    [source] = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    environment = make_environment(WEBHOOK_SOURCES=source, HELPDESK_SECRET="its secret")
    assert list(Settings.from_env(environment).webhook_sources) == ["helpdesk"]
