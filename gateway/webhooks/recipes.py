"""The recipes that ship with the gateway: how known senders sign and tell of an opt-out."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("recipes.toml")


@cache
def read_recipes() -> Mapping[str, Mapping[str, object]]:
    """The tables of recipes.toml by name: a source's keys, but for its secret."""
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))
