"""A gateway with a webhook source of each recipe."""

from dataclasses import replace

import pytest
from sqlalchemy import make_url

from gateway.settings import Settings
from tests.support.factories import make_settings
from tests.support.fake_crmtext import FakeCrmText
from tests.support.webhooks import HOOKS


@pytest.fixture(scope="session")
def settings_with_sources() -> Settings:
    """Read once, since reading so many sources takes long."""
    return make_settings(**HOOKS)


@pytest.fixture
def settings(settings_with_sources: Settings, crmtext: FakeCrmText, database_url: str) -> Settings:
    return replace(
        settings_with_sources, crmtext_url=crmtext.url, database_url=make_url(database_url)
    )
