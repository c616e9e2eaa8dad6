"""What is printed for a person: a topic, and its lines in a column beside it."""

from collections.abc import Iterable
from datetime import UTC, datetime
from unicodedata import category

import click

_WIDTH = 16


def show(topic: str, lines: Iterable[str]) -> None:
    for position, line in enumerate(lines):
        click.echo(f"{'' if position else topic:{_WIDTH}}{printable(line)}")


def printable(text: str) -> str:
    """The text without what would control the terminal; what callers sent may hold anything."""
    return "".join(
        "\ufffd" if category(char).startswith("C") and char != "\t" else char for char in text
    )


def time_words(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
