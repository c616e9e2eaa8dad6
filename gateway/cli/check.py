"""``check``: whether the settings are complete, and what they say."""

from collections.abc import Mapping

import click

from gateway.accounts import ApiKey
from gateway.cli.columns import show
from gateway.settings import Settings


@click.command()
@click.pass_obj
def check(environ: Mapping[str, str]) -> None:
    """Check all settings and show the result.

    \b
    Example:
      python -m gateway check
    """
    settings = Settings.from_env(environ)
    rate = settings.crmtext_calls_per_second
    is_sqlite = settings.database_url.get_backend_name() == "sqlite"
    first, *others = (f"{store.keyword}, user {store.username}" for store in settings.stores)
    show("stores", [f"{first}, the default", *others])
    show("API keys", map(_key_words, settings.api_keys))
    show("CRM Text", [f"{settings.crmtext_url}, {settings.crmtext_timeout_seconds} s a call"])
    show("rate limit", [f"{rate:g} calls a second" if rate else "none"])
    show("database", ["SQLite, for one machine" if is_sqlite else "Postgres"])
    show("delivery", [f"{settings.delivery_days:g} days"])
    show("listens on", [f"{settings.host}, port {settings.port}"])
    show("public URL", [settings.public_url or "none"])
    sources = settings.webhook_sources.values()
    show(
        "webhooks",
        [f"{source.name} ({source.recipe or 'no recipe'})" for source in sources] or ["none"],
    )
    show("warnings", settings.warnings)
    click.echo("The settings are complete; the database and CRM Text were not asked.")


def _key_words(key: ApiKey) -> str:
    stores = ["all stores"] if key.stores is None else sorted(key.stores)
    return ", ".join([key.name, *stores, *(f"may {right}" for right in sorted(key.rights))])
