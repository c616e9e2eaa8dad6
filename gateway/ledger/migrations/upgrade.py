"""The release step: creates the ledger's tables or brings them up to this release."""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from gateway.errors import LedgerUnavailable
from gateway.ledger.migrations import is_newer, version_of

# Any number will do, as long as nothing else in the database locks the same one.
_UPGRADE_LOCK = 5_307_411


def upgrade(engine: Engine) -> None:
    """Brings the tables up to this release; of two upgrades at once, one waits for the other.

    Raises LedgerUnavailable; the tables are then as they were.
    """
    configuration = Config()
    configuration.set_main_option("script_location", str(files("gateway.ledger.migrations")))
    try:
        with engine.begin() as connection:  # on SQLite this takes the write lock
            if engine.dialect.name == "postgresql":
                # A large table's index takes long, and so does waiting for another upgrade; but a
                # table must not be waited for long, since everybody else queues up behind that.
                connection.execute(text("SET LOCAL statement_timeout = 0"))
                connection.execute(text("SET LOCAL lock_timeout = 0"))
                connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
                connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            configuration.attributes["connection"] = connection
            if not is_newer(version_of(connection)):
                command.upgrade(configuration, "head")
    except SQLAlchemyError as error:
        why = " ".join(str(error.__cause__ or error).split())
        raise LedgerUnavailable(f"The ledger's tables cannot be upgraded: {why}") from error
