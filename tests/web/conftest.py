"""What the tests of the web room share beside the fixtures of all."""

import shutil
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from gateway.app import create_app
from tests.support.factories import make_settings


@pytest.fixture(scope="module")
def refused_client(empty_ledger: Path, tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """For requests that leave no record, and so can share a gateway. Nobody is behind it."""
    file = shutil.copy(empty_ledger, tmp_path_factory.mktemp("refused") / "gateway.db")
    return create_app(make_settings(DATABASE_URL=f"sqlite:///{file}")).test_client()
