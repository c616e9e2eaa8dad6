"""A gateway with a webhook source of each recipe."""

import pytest

from gateway.settings import Settings
from tests.support.factories import make_settings
from tests.support.fake_crmtext import FakeCrmText
from tests.support.webhooks import HOOKS


@pytest.fixture
def settings(crmtext: FakeCrmText, database_url: str) -> Settings:
    return make_settings(CRMTEXT_URL=crmtext.url, DATABASE_URL=database_url, **HOOKS)
