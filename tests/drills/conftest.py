"""What drills share: an environment with short leases, and figures for the summary."""

from collections.abc import Callable

import pytest

from tests.drills.figures import FIGURES
from tests.drills.load import Report
from tests.support.factories import make_environment
from tests.support.fake_crmtext import FakeCrmText


@pytest.fixture
def environment(crmtext: FakeCrmText, any_database_url: str) -> dict[str, str]:
    """No limit to the pace, and leases of 11 seconds."""
    return make_environment(
        CRMTEXT_URL=crmtext.url,
        CRMTEXT_TIMEOUT="1",
        CRMTEXT_RATE="0",
        DATABASE_URL=any_database_url,
    )


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Report:
    """Shows figures in the summary at the end."""
    return lambda figures: record_property(FIGURES, str(figures))
