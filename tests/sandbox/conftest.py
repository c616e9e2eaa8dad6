"""A sandbox, and a client of it."""

from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from gateway.sandbox.server import Sandbox
from tests.support.sandbox_calls import connect


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[HTTPConnection]:
    connection = connect(sandbox)
    yield connection
    connection.close()
