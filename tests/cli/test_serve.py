"""``worker`` and ``release``."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.ledger.migrations import VERSIONS
from tests.support.commands import Printed, gateway, gateway_here
from tests.support.factories import make_environment, run


def test_release_says_what_it_did(tmp_path: Path) -> None:
    file = tmp_path / "gateway.db"
    url = f"sqlite:///{file}"
    newest = VERSIONS[-1]

    created = gateway_here("release", DATABASE_URL=url)
    again = gateway_here("release", DATABASE_URL=url)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    newer = gateway_here("release", DATABASE_URL=url)

    assert [created, again, newer] == [
        Printed(0, f"Created the database tables, version {newest}.\n", ""),
        Printed(0, f"Nothing to do: the database tables are up to date, version {newest}.\n", ""),
        Printed(
            0, "Nothing to do: the database tables are of a newer release, version 9999.\n", ""
        ),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "url",
    [
        "postgres://u:s3cret@ss@127.0.0.1:9/x",
        "postgres://u:pa@s3cret/x@127.0.0.1:9/x",
        "postgres://u:s3cret@127.0.0.1:9/x",
        "postgres://s3cret/x",
    ],
)
def test_release_never_shows_a_part_of_the_password(url: str) -> None:
    refused = gateway("release", DATABASE_URL=url)

    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert "s3cret" not in refused.stdout + refused.stderr


STOPPED_WHILE_IT_IMPORTS = """
import os, signal, sys

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            os.kill(os.getpid(), signal.{number})

sys.meta_path.insert(0, Stop())
sys.argv = ["gateway", "worker"]
from gateway.__main__ import main
main()
"""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("module", ["click", "sqlalchemy", "gateway.delivery.worker"])
def test_a_worker_that_is_stopped_while_it_starts_ends_with_0(module: str, number: str) -> None:
    script = STOPPED_WHILE_IT_IMPORTS.format(module=module, number=number)
    ended = run("-c", script, environment=make_environment())

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
