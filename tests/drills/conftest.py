"""What drills share: an environment with short leases, and figures that the summary shows."""

from collections.abc import Callable, Iterator

import pytest

from gateway.ledger.ledger import Ledger
from tests.drills.load import Report
from tests.support.factories import make_environment
from tests.support.fake_crmtext import FakeCrmText
from tests.support.ledgers import make_ledger
from tests.support.postgres import database_url, postgres  # noqa: F401, fixtures

_FIGURES = "figures"


@pytest.fixture
def environment(crmtext: FakeCrmText, database_url: str) -> dict[str, str]:  # noqa: F811
    """No limit to the pace, and leases of 11 seconds."""
    return make_environment(
        CRMTEXT_URL=crmtext.url,
        CRMTEXT_TIMEOUT="1",
        CRMTEXT_RATE="0",
        DATABASE_URL=database_url,
    )


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:  # noqa: F811
    opened = make_ledger(database_url)
    yield opened
    opened.engine.dispose()


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Report:
    """Shows figures in the summary at the end."""
    return lambda figures: record_property(_FIGURES, str(figures))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    lines = [
        f"{one.nodeid.rpartition('::')[2]}: {figures}"
        for one in reports
        for name, figures in getattr(one, "user_properties", [])
        if name == _FIGURES and one.when == "call"
    ]
    if lines:
        terminalreporter.section("drills")
        terminalreporter.write_line("\n".join(lines))
