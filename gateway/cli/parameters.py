"""Options and arguments that several commands read in the same way."""

from datetime import datetime

import click

from gateway.accounts import STORE_KEYWORD
from gateway.errors import ErrorCode
from gateway.phone_number import read_phone_number
from gateway.settings import Settings
from gateway.timestamps import TimestampFormat, read_timestamp


def read_keyword(text: str) -> str:
    """A store's keyword in upper case; whether a store has it is for the settings to say."""
    if STORE_KEYWORD.fullmatch(text.upper()):
        return text.upper()
    raise click.BadParameter("not a store's keyword")


def read_code(text: str) -> ErrorCode:
    if text in list(ErrorCode):
        return ErrorCode(text)
    raise click.BadParameter("not an error code; 'status' shows those on record")


def refuse_unknown_store(settings: Settings, store: str | None) -> None:
    """Raises a usage error for a store that is not configured: a typo must not look like "none"."""
    if store and settings.store(store) is None:
        known = ", ".join(store.keyword for store in settings.stores)
        raise click.BadParameter(f"must be one of {known}", param_hint="--store")


def read_time(text: str) -> datetime:
    for written_as in (TimestampFormat.RFC3339, TimestampFormat.UNIX):
        moment = read_timestamp(text, written_as)
        if moment is not None:
            return moment
    raise click.BadParameter("not a time like 2026-11-22T20:00:00Z")


def read_number(text: str) -> str:
    """The ten digits of a US number in any usual spelling."""
    number = read_phone_number(text)
    if number.digits is None:
        raise click.BadParameter(f"the phone number {number.flaw}")
    return number.digits
