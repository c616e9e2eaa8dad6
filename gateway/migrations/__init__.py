"""Creating and upgrading the ledger's tables.

A version must leave the previous release of the gateway working, since that still serves while the
tables change: add tables, and columns with a default; take away only what no release uses any more.
"""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, func, select, text
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
                # A large table's index takes long, and so does waiting for another upgrade; but a
                # table must not be waited for long, since everybody else queues up behind that.
                connection.execute(text("SET LOCAL statement_timeout = 0"))
                connection.execute(text("SET LOCAL lock_timeout = 0"))
                connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
                connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            configuration.attributes["connection"] = connection
            if not _is_newer(_version(connection), _scripts()):
                command.upgrade(configuration, "head")
    except SQLAlchemyError as error:
        why = " ".join(str(error.__cause__ or error).split())
        raise LedgerUnavailable(f"The ledger's tables cannot be upgraded: {why}") from error


def is_current(engine: Engine) -> bool:
    """Whether the tables are those of this release or of a newer one. Raises LedgerUnavailable."""
    try:
        with reading(engine) as connection:
            version = _version(connection)
    except SQLAlchemyError as error:
        raise LedgerUnavailable("The ledger cannot be reached.") from error
    return version == _scripts().get_current_head() or _is_newer(version, _scripts())


def _version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_configuration())


def _is_newer(version: str | None, scripts: ScriptDirectory) -> bool:
    """Whether only a later release knows this version; it leaves this one working."""
    return version is not None and version not in {one.revision for one in scripts.walk_revisions()}


def _configuration() -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(files(__name__)))
    return configuration
