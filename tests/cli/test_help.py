"""Help, usage errors and faults, which all commands have in common."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from gateway.cli import commands
from gateway.version import VERSION
from tests.support.commands import Printed, gateway, gateway_here
from tests.support.factories import ROOT


def all_commands(group: click.Group = commands.gateway) -> Iterator[list[str]]:
    """Each command as it is typed."""
    for name, command in group.commands.items():
        inner = all_commands(command) if isinstance(command, click.Group) else [[]]
        yield from ([name, *rest] for rest in inner)


@pytest.mark.parametrize("command", list(all_commands()), ids=" ".join)
def test_help_has_an_example_of_each_command(command: list[str]) -> None:
    printed = gateway_here(*command, "--help")
    assert (printed.exit_code, printed.err) == (0, "")
    assert f"Example:\n    python -m gateway {' '.join(command)}" in printed.out


def test_help_names_every_exit_code() -> None:
    codes = gateway_here("--help").out.partition("Exit codes: ")[2].partition("\n\n")[0]
    assert re.findall(r"\d", codes) == ["0", "1", "2", "3"]


def test_help_lists_all_commands() -> None:
    printed = gateway_here("--help")
    listed = re.findall(r"^  ([a-z-]+) {2,}", printed.out.partition("Commands:")[2], re.M)
    assert listed == sorted(commands.gateway.commands)
    assert "..." not in printed.out.partition("Commands:")[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ["bake"],
        ["make-key"],
        ["make-key", "two words"],
        ["make-key", "a:b"],
        ["make-key", "x" * 65],
        ["make-key", "billing", "--store", "PIZ"],
        ["make-key", "billing", "--store", "PIZZA,BURGER"],
        ["make-key", "billing", "--store", "PIZZA:BURGER"],
        ["make-key", "billing", "--store", "12345"],
        ["retry"],
        ["retry", "--dry-run"],
        ["retry", "--all", "--code", "crmtext_timeout"],
        ["retry", "--code", "oops"],
        ["webhooks", "check", "shopify"],
        ["webhooks", "check", "shopify", "-", "--at", "yesterday"],
    ],
)
def test_a_usage_error_exits_with_2_and_says_what_is_wrong(arguments: list[str]) -> None:
    printed = gateway_here(*arguments)
    assert (printed.exit_code, printed.out) == (2, "")
    assert "\nError: " in printed.err


@pytest.mark.parametrize("arguments", [[], ["webhooks"]])
def test_a_group_without_a_command_exits_with_2_and_shows_its_help(arguments: list[str]) -> None:
    printed = gateway_here(*arguments)
    assert (printed.exit_code, printed.out) == (2, "")
    assert printed.err.startswith("Usage: ")


def test_the_version_is_one_word() -> None:
    assert gateway_here("--version") == Printed(0, f"{VERSION}\n", "")


def test_options_are_never_abbreviated() -> None:
    printed = gateway_here("retry", "--al")
    assert printed.exit_code == 2
    assert "No such option '--al'" in printed.err


def test_a_closed_pipe_is_not_a_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        left = subprocess.run(
            [sys.executable, "-m", "gateway", "--help"],
            cwd=ROOT,
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writing)
    assert (left.returncode, left.stderr) == (1, b"")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["check", "worker", "release", "status", "webhooks list"])
def test_all_faults_are_named_at_once_on_standard_error(command: str) -> None:
    faulty = gateway(
        *command.split(), CRMTEXT_AUTH_STRINGS="a:s3cret", CRMTEXT_RATE="many", PORT="x"
    )
    assert (faulty.returncode, faulty.stdout) == (1, "")
    assert [line.split(":")[0] for line in faulty.stderr.splitlines()] == [
        "CRMTEXT_AUTH_STRINGS",
        "CRMTEXT_RATE",
        "PORT",
    ]
    assert "s3cret" not in faulty.stderr
