"""The recipes that ship with the gateway: how known senders sign and tell of an opt-out."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("recipes.toml")


@dataclass(frozen=True)
class Recipe:
    """A sender: where it documents its webhooks, and a source's keys, but for the secret.

    ``sample`` is a string.Template of a body; see ``gateway.webhooks.sample``.
    """

    documentation: str
    sample: str
    keys: Mapping[str, object]


@cache
def read_recipes() -> Mapping[str, Recipe]:
    """The recipes of recipes.toml by name."""
    return recipes_in(_FILE.read_text(encoding="utf-8"))


def recipes_in(text: str) -> Mapping[str, Recipe]:
    """Raises ValueError where a recipe lacks its documentation or its sample."""
    tables = tomllib.loads(text)
    for name, table in tables.items():
        missing = [key for key in ("documentation", "sample") if key not in table]
        if missing:
            raise ValueError(f"recipes.toml: [{name}] has no {' and no '.join(missing)}")
    return {
        name: Recipe(table.pop("documentation"), table.pop("sample"), table)
        for name, table in tables.items()
    }
