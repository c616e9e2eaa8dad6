"""What the tests of the web room share beside the fixtures of all."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from gateway.app import create_app
from gateway.sandbox.server import Sandbox
from tests.support.factories import (
    DEMO_KEY,
    Served,
    make_environment,
    make_settings,
    serve,
    sha256,
)
from tests.support.fake_crmtext import FakeCrmText
from tests.support.wire import QUICK


@pytest.fixture(scope="module")
def refused_client(empty_ledger: Path, tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """For requests that leave no record, and so can share a gateway. Nobody is behind it."""
    file = shutil.copy(empty_ledger, tmp_path_factory.mktemp("refused") / "gateway.db")
    return create_app(make_settings(DATABASE_URL=f"sqlite:///{file}")).test_client()


@pytest.fixture(scope="package")
def sandboxed_gateway(
    empty_ledger: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a gateway that runs against the sandbox and knows the demo key."""
    directory = tmp_path_factory.mktemp("sandboxed")
    file = shutil.copy(empty_ledger, directory / "gateway.db")
    with Sandbox() as sandbox:
        environment = make_environment(
            CRMTEXT_URL=sandbox.url,
            DATABASE_URL=f"sqlite:///{file}",
            GATEWAY_API_KEYS=f"demo:{sha256(DEMO_KEY)}",
            WEB_CONCURRENCY="1",
        )
        with serve(environment, directory) as served:
            yield served.url


@pytest.fixture(scope="package")
def upstream() -> Iterator[FakeCrmText]:
    with FakeCrmText() as running:
        yield running


@pytest.fixture(scope="package")
def served(
    upstream: FakeCrmText, empty_ledger: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """One gunicorn for all tests that only talk to it."""
    directory = tmp_path_factory.mktemp("served")
    ledger = directory / "gateway.db"
    ledger.write_bytes(empty_ledger.read_bytes())
    environment = make_environment(
        CRMTEXT_URL=upstream.url, DATABASE_URL=f"sqlite:///{ledger}", WEB_CONCURRENCY="1"
    )
    with serve(environment, directory, configuration=QUICK) as running:
        yield running
