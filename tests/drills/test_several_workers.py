"""Several workers on one ledger: when all goes well, and when one is frozen for a while."""

import json
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.errors import LedgerUnavailable
from gateway.ledger.ledger import Ledger
from tests.drills.load import Report, reckon
from tests.support.fake_crmtext import FakeCrmText, Reply, xml
from tests.support.ledgers import accepted, found, wait_until
from tests.support.processes import running_worker

pytestmark = [pytest.mark.drill, pytest.mark.xdist_group("drills 2")]

LEASE_SECONDS = 11


def test_two_workers_send_nothing_twice_and_keep_to_the_rate_limit(
    environment: dict[str, str],
    ledger: Ledger,
    crmtext: FakeCrmText,
    tmp_path: Path,
    report: Report,
) -> None:
    environment |= {"CRMTEXT_RATE": "60"}
    crmtext.answer_with(Reply(delay=0.2, body=xml()))
    numbers = [f"9995{number:06}" for number in range(240)]
    known = {number: accepted(ledger, number).id for number in numbers}
    with ExitStack() as stack:
        for n in range(2):
            stack.enter_context(running_worker(environment, tmp_path, f"worker-{n}"))
        outcome = reckon(ledger, [crmtext], known, within=30)
    moments = [call.received_at for call in crmtext.calls]
    busiest = max(sum(at <= moment < at + 1 for moment in moments) for at in moments)
    shares = [len(attempted(tmp_path, f"worker-{n}")) for n in range(2)]
    report(f"{outcome}; busiest second {busiest} of 60, shares {shares}")
    assert (outcome.lost, outcome.sent_twice) == (0, 0)
    assert busiest <= 60
    assert min(shares) > 0
    assert dict(ledger.summary().attempts) == {"opted_out": 240}


def test_two_workers_without_a_rate_limit_send_nothing_twice(
    environment: dict[str, str],
    ledger: Ledger,
    crmtext: FakeCrmText,
    tmp_path: Path,
    report: Report,
) -> None:
    numbers = [f"9995{number:06}" for number in range(600)]
    known = {number: accepted(ledger, number).id for number in numbers}
    with ExitStack() as stack:
        for n in range(2):
            stack.enter_context(running_worker(environment, tmp_path, f"worker-{n}"))
        outcome = reckon(ledger, [crmtext], known, within=30)
    shares = [len(attempted(tmp_path, f"worker-{n}")) for n in range(2)]
    report(f"{outcome}; shares {shares}")
    assert (outcome.lost, outcome.sent_twice) == (0, 0)
    assert dict(ledger.summary().attempts) == {"opted_out": 600}


def test_a_worker_that_was_frozen_past_its_lease_ends_nothing_that_another_took(
    environment: dict[str, str],
    ledger: Ledger,
    crmtext: FakeCrmText,
    tmp_path: Path,
    report: Report,
) -> None:
    known = {f"9995{n:06}": accepted(ledger, f"9995{n:06}").id for n in range(10)}
    crmtext.answer_with(Reply(delay=0.9, body=xml("404", "no such customer")))
    with (
        running_worker(environment, tmp_path, "frozen") as frozen,
        running_worker(environment | {"CRMTEXT_RATE": "1000"}, tmp_path, "other") as other,
    ):
        other.send_signal(signal.SIGSTOP)
        wait_until(lambda: len(crmtext.calls) == 10, 20, "all are in flight")
        _freeze(frozen, ledger)
        crmtext.answer_with(Reply(body=xml("400", "Customer is opted out")))
        other.send_signal(signal.SIGCONT)
        outcome = reckon(ledger, [crmtext], known, within=LEASE_SECONDS + 8)
        after = [found(ledger, opt_out_id) for opt_out_id in known.values()]
        assert {(one.status, one.already_opted_out) for one in after} == {("opted_out", True)}
        frozen.send_signal(signal.SIGCONT)
        wait_until(lambda: len(attempted(tmp_path, "frozen")) == 10, 10, "it goes on")
        frozen.send_signal(signal.SIGTERM)
        assert frozen.wait(10) == 0
    report(outcome)
    assert {line["recorded"] for line in attempted(tmp_path, "frozen")} == {False}
    assert [found(ledger, opt_out_id) for opt_out_id in known.values()] == after
    assert (outcome.lost, outcome.sent_twice) == (0, 10)


def attempted(folder: Path, name: str) -> list[dict[str, object]]:
    """The worker's log lines of its attempts."""
    lines = (folder / f"{name}.log").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["message"].startswith("attempt ")]


def _freeze(process: subprocess.Popen[bytes], ledger: Ledger) -> None:
    """Stops the process, but not in a moment in which it holds SQLite's only lock."""
    while True:
        time.sleep(0.1)
        process.send_signal(signal.SIGSTOP)
        try:
            ledger.retry("nobody's")
        except LedgerUnavailable:
            process.send_signal(signal.SIGCONT)
        else:
            return
