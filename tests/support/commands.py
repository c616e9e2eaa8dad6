"""Runs the commands, in a process of their own or in the test's."""

from collections.abc import Mapping
from dataclasses import dataclass
from subprocess import CompletedProcess

from click.testing import CliRunner

from gateway.cli import commands
from tests.support.factories import make_environment, run
from tests.support.signing import NUMBER, SECRET, SENDERS

ONE_OF_EACH = "\n".join(
    f"[{recipe}]\nrecipe = '{recipe}'\nsecret_env = 'HOOK_SECRET'" for recipe in SENDERS
)
HOOKS = {
    "WEBHOOK_SOURCES": ONE_OF_EACH,
    "HOOK_SECRET": SECRET,
    "PUBLIC_URL": "https://gateway.example.com",
}


def gateway(*arguments: str, **changes: str) -> CompletedProcess[str]:
    """``python -m gateway``, in an environment with these changes."""
    return run("-m", "gateway", *arguments, environment=make_environment(**changes))


@dataclass(frozen=True)
class Printed:
    exit_code: int
    out: str
    err: str

    @property
    def steps(self) -> Mapping[str, str]:
        """What is said of each topic."""
        found: dict[str, str] = {}
        topic = ""
        for line in self.out.splitlines():
            topic = line[:16].strip() or topic
            found[topic] = " ".join(filter(None, [found.get(topic), line[16:].strip()]))
        return found


def gateway_here(*arguments: str, **changes: str) -> Printed:
    """The same in this process, which is faster. No command shows the test's secret or number."""
    environment = make_environment(**changes)
    ran = CliRunner().invoke(
        commands.gateway, arguments, obj=environment, prog_name="gateway", catch_exceptions=False
    )
    assert SECRET not in ran.output
    assert NUMBER not in ran.output
    return Printed(ran.exit_code, ran.stdout, ran.stderr)
