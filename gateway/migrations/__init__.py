"""Creating and upgrading the ledger's tables.

A version must leave the previous release of the gateway working, since that still serves while the
tables change: add tables, and columns with a default; take away only what no release uses any more.
"""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from gateway.database import reading
from gateway.errors import LedgerUnavailable

# Any number will do, as long as nothing else in the database locks the same one.
_UPGRADE_LOCK = 5_307_411


def upgrade(engine: Engine) -> None:
    """Brings the tables up to this release; of two upgrades at once, one waits for the other.

    Raises LedgerUnavailable; the tables are then as they were.
    """
    configuration = _configuration()
    try:
        with engine.begin() as connection:  # on SQLite this takes the write lock
            if engine.dialect.name == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
            configuration.attributes["connection"] = connection
            command.upgrade(configuration, "head")
    except SQLAlchemyError as error:
        raise LedgerUnavailable(f"The ledger's tables cannot be upgraded: {error}") from error


def is_current(engine: Engine) -> bool:
    """Whether the tables are those of this release. Raises LedgerUnavailable."""
    try:
        with reading(engine) as connection:
            version = MigrationContext.configure(connection).get_current_revision()
    except SQLAlchemyError as error:
        raise LedgerUnavailable("The ledger cannot be reached.") from error
    return version == ScriptDirectory.from_config(_configuration()).get_current_head()


def _configuration() -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(files(__name__)))
    return configuration
