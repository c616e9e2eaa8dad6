"""What 'pip install .' installs."""

import tomllib
from fnmatch import fnmatch
from importlib import import_module

from tests.support.factories import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_all_that_is_read_at_run_time_is_installed() -> None:
    """setuptools leaves out what is not Python unless a pattern names it."""
    everything = [*(ROOT / "gateway").rglob("*.*"), *(ROOT / "schemas").rglob("*.*")]
    files = [file for file in everything if file.suffix not in (".py", ".pyc")]
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]

    assert files
    assert [file for file in files if not any(fnmatch(file.name, each) for each in patterns)] == []


def test_the_command_is_there() -> None:
    module, _, name = PROJECT["project"]["scripts"]["gateway"].partition(":")

    assert callable(getattr(import_module(module), name))
