"""All commands in one group, and how a command ends: with an exit code and a line, no traceback.

A command is a function of the environment (click's ``obj``) and its own options. It prints what a
person wants to read, never a secret (but the key that ``make-key`` was asked for) and never a full
phone number. One file holds each group of commands.
"""

import click

from gateway.cli import check, keys, records, retry, serve, status, webhooks
from gateway.errors import ConfigurationError, GatewayError
from gateway.version import VERSION


class _Gateway(click.Group):
    """Prints a refusal on standard error and exits with 1; click does the rest."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            click.echo(error, err=True)
        except GatewayError as error:
            click.echo(error.detail, err=True)
        return ctx.exit(1)


@click.group(
    cls=_Gateway,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    commands=[
        serve.worker,
        serve.release,
        keys.make_key,
        check.check,
        status.status,
        records.show_one,
        records.list_newest,
        retry.retry,
        webhooks.webhooks,
    ],
)
@click.version_option(VERSION, message="%(version)s")
def gateway() -> None:
    """Run, check and repair a CRM Text opt-out gateway.

    Settings come from environment variables; 'check' says whether they are complete. Each
    command's --help has an example.

    Exit codes: 0 done, 1 failed, or settings are invalid, 2 usage error, 3 accepted, but opts
    nobody out (webhooks check and send).
    """
