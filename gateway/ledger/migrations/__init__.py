"""The ledger's tables, version by version; whether those of a database are the right ones.

A version must leave the previous release of the gateway working, since that still serves while the
tables change: add tables, and columns with a default; take away only what no release uses any more.
"""

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from gateway.errors import LedgerUnavailable
from gateway.ledger.causes import cause_of
from gateway.ledger.database import reading

# What this release knows, oldest first; a test holds it to the files in versions/. Alembic itself
# is left to the release step: web processes are smaller without it.
VERSIONS = ("0001", "0002", "0003")


def is_current(engine: Engine) -> bool:
    """Whether the tables are those of this release or of a newer one. Raises LedgerUnavailable."""
    try:
        with reading(engine) as connection:
            refuse_encoding(connection)
            version = version_of(connection)
    except SQLAlchemyError as error:
        raise LedgerUnavailable(f"The database cannot be used: {cause_of(error)}.") from error
    return version == VERSIONS[-1] or is_newer(version)


def require_current(engine: Engine) -> None:
    """Raises LedgerUnavailable, with what to do, where ``is_current`` is not so."""
    if not is_current(engine):
        what = "The database tables do not match this version; run 'python -m gateway release'."
        raise LedgerUnavailable(what)


def refuse_encoding(connection: Connection) -> None:
    """Raises LedgerUnavailable if the database cannot store every text."""
    if connection.dialect.name == "postgresql":
        encoding = connection.scalar(text("SHOW server_encoding"))
        if encoding != "UTF8":
            raise LedgerUnavailable(
                f"The database's encoding is {encoding}, which cannot store every text; create one "
                "with ENCODING 'UTF8'."
            )


def version_of(connection: Connection) -> str | None:
    """The version of the tables; None where there are none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return version


def is_newer(version: str | None) -> bool:
    """Whether only a later release knows this version; it leaves this one working."""
    return version is not None and version not in VERSIONS
