"""What is printed for a person: a topic, and its lines in a column beside it."""

from collections.abc import Iterable

import click

_WIDTH = 16


def show(topic: str, lines: Iterable[str]) -> None:
    for position, line in enumerate(lines):
        click.echo(f"{'' if position else topic:{_WIDTH}}{line}")
