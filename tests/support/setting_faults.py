"""Secrets for settings, and what is wrong with an environment."""

from gateway.errors import ConfigurationError
from tests.support.factories import make_settings, sha256

A = sha256("a")
B = sha256("b")
C = sha256("c")
SECRET = "hunter2-hunter2"


def faults(**changes: str) -> tuple[str, ...]:
    """What is wrong with an environment; nothing if it is taken."""
    try:
        make_settings(**changes)
    except ConfigurationError as error:
        return error.faults
    return ()
