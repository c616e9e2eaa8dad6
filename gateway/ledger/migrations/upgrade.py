"""The release step: creates the ledger's tables or brings them up to this release."""

from dataclasses import dataclass
from importlib.resources import files
from math import inf

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from gateway.errors import LedgerUnavailable
from gateway.ledger.causes import cause_of
from gateway.ledger.migrations import VERSIONS, is_newer, refuse_encoding, version_of
from gateway.ledger.patience import BUSY_SECONDS, deadline
from gateway.ledger.sqlite import creating

# Any number will do, as long as nothing else in the database locks the same one.
_UPGRADE_LOCK = 5_307_411


@dataclass(frozen=True)
class Upgrade:
    """The versions of the tables before and after; None: there were no tables."""

    before: str | None
    after: str


def upgrade(engine: Engine) -> Upgrade:
    """Brings the tables up to this release; of two upgrades at once, one waits for the other.

    Tables of a newer release are left alone. Raises LedgerUnavailable; the tables are then as they
    were.
    """
    configuration = Config()
    configuration.set_main_option("script_location", str(files("gateway.ledger.migrations")))
    try:
        # On SQLite beginning takes the write lock.
        seconds = inf if engine.dialect.name == "postgresql" else BUSY_SECONDS
        with creating(), deadline(seconds), engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                # A large table's index takes long, and so does waiting for another upgrade; but a
                # table must not be waited for long, since everybody else queues up behind that.
                connection.execute(text("SET LOCAL statement_timeout = 0"))
                connection.execute(text("SET LOCAL lock_timeout = 0"))
                connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
                connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            refuse_encoding(connection)
            configuration.attributes["connection"] = connection
            before = version_of(connection)
            if before is not None and is_newer(before):
                return Upgrade(before, before)
            command.upgrade(configuration, "head")
            return Upgrade(before, VERSIONS[-1])
    except SQLAlchemyError as error:
        what = f"The database tables cannot be created or upgraded: {cause_of(error)}."
        raise LedgerUnavailable(what) from error
