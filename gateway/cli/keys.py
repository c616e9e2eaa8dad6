"""``make-key``: an API key for a caller."""

import hashlib
import secrets

import click

from gateway.accounts import KEY_NAME, ApiKey, Right
from gateway.cli.columns import show
from gateway.cli.parameters import read_keyword


def _read_name(text: str) -> str:
    if KEY_NAME.fullmatch(text):
        return text
    raise click.BadParameter("a name has 1 to 64 letters, digits and . _ -")


@click.command()
@click.argument("name", type=_read_name)
@click.option(
    "--store",
    "stores",
    metavar="KEYWORD",
    type=read_keyword,
    multiple=True,
    help="Bind the key to this store; may be repeated. Without it, the key may act on all stores.",
)
@click.option(
    "--right",
    "rights",
    type=click.Choice([right.value for right in Right]),
    multiple=True,
    help="A right beyond opting out (reserved: nothing uses it yet); may be repeated.",
)
def make_key(name: str, stores: tuple[str, ...], rights: tuple[str, ...]) -> None:
    """Create an API key for a caller.

    Prints the key, and the entry for GATEWAY_API_KEYS. NAME says whose key it is; to replace a
    key, create another with the same NAME, and remove the old entry when the caller has changed.

    \b
    Example:
      python -m gateway make-key billing --store PIZZA
      python -m gateway make-key call-centre --right desk
    """
    key = secrets.token_urlsafe(32)
    digest = hashlib.sha256(key.encode()).digest()
    made = ApiKey(name, digest, frozenset(stores) or None, frozenset(map(Right, rights)))
    show("key", [key])
    show("entry", [made.entry])
    click.echo(
        "\nGive the key to its caller; it is shown only once and stored nowhere. Add the entry to\n"
        "GATEWAY_API_KEYS, beside those already there, and restart the gateway."
    )
