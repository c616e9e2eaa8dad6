"""Options and arguments that several commands read in the same way."""

import click

from gateway.accounts import STORE_KEYWORD


def read_keyword(text: str) -> str:
    """A store's keyword in upper case; whether a store has it is for the settings to say."""
    if STORE_KEYWORD.fullmatch(text.upper()):
        return text.upper()
    raise click.BadParameter("not a store's keyword")
