"""The README's tables say what the code does."""

import re
from pathlib import Path

from gateway.errors import ERRORS
from gateway.sandbox.server import MAGIC_NUMBERS
from gateway.settings import Settings
from tests.support.factories import make_environment

README = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_the_table_of_codes_is_that_of_the_code() -> None:
    assert table("Error codes") == [
        [f"`{code}`", str(kind.status), "yes" if kind.retryable else "no", kind.title]
        for code, kind in ERRORS.items()
    ]


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
    assert [row[:2] for row in table("Numbers that make trouble")] == [
        [number, magic.explanation] for number, magic in MAGIC_NUMBERS.items()
    ]


def test_the_two_commands_stand_on_one_line_directly_under_their_marks() -> None:
    for mark in ("run", "test"):
        assert re.search(rf"^<!-- {mark} -->\n```sh\n[^\n]+\n```\n", README, re.MULTILINE)
