"""Processes that are killed under load, as by the kernel when memory runs out."""

import os
import signal
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from gateway.ledger.ledger import Ledger
from tests.drills.load import Load, Report, reckon
from tests.support.factories import Served, serve
from tests.support.fake_crmtext import FakeCrmText, Reply, xml
from tests.support.ledgers import wait_until
from tests.support.processes import has_started, running_worker

pytestmark = [pytest.mark.drill, pytest.mark.xdist_group("drills 1")]

LEASE_SECONDS = 11
SLOW = Reply(delay=0.3, body=xml())  # so that a kill meets some in flight


def children(served: Served) -> list[int]:
    master = served.process.pid
    return [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]


def has_more_than(served: Served, known: list[int]) -> bool:
    """Whether there is a child that is none of those."""
    return bool(set(children(served)) - set(known))


def test_workers_are_killed(
    environment: dict[str, str],
    ledger: Ledger,
    crmtext: FakeCrmText,
    tmp_path: Path,
    report: Report,
) -> None:
    crmtext.answer_with(SLOW)
    with ExitStack() as stack:
        load = Load(stack.enter_context(serve(environment, tmp_path)).url)
        workers = [
            stack.enter_context(running_worker(environment, tmp_path, f"worker-{n}"))
            for n in range(2)
        ]
        for n in range(2):
            wait_until(partial(has_started, tmp_path, f"worker-{n}"), 20, "it has started")
        with load.callers(leaving=4):
            time.sleep(1.5)
            for n, worker in enumerate(workers):
                sent = len(crmtext.calls)
                worker.send_signal(signal.SIGKILL)
                assert worker.wait(5) == -signal.SIGKILL
                assert sent > 0
                stack.enter_context(running_worker(environment, tmp_path, f"new-{n}"))
                time.sleep(1)
        outcome = reckon(ledger, [crmtext], load.accepted, within=LEASE_SECONDS + 10)
    report(outcome)
    assert outcome.lost == 0
    assert outcome.accepted > 50
    assert outcome.sent_twice <= 2 * 32
    assert 0 < outcome.longest_take_over_seconds < LEASE_SECONDS + 5


def test_web_processes_are_killed_while_they_accept(
    environment: dict[str, str],
    ledger: Ledger,
    crmtext: FakeCrmText,
    tmp_path: Path,
    report: Report,
) -> None:
    with ExitStack() as stack:
        served = stack.enter_context(serve(environment, tmp_path))
        stack.enter_context(running_worker(environment, tmp_path))
        load = Load(served.url)
        with load.callers(leaving=8):
            _kill_children_and_master(stack, served, environment, tmp_path, load)
        outcome = reckon(ledger, [crmtext], load.accepted, within=LEASE_SECONDS + 10)
    report(f"{outcome}; unanswered {load.answers[0]}")
    assert outcome.lost == 0
    assert outcome.sent_twice == 0
    assert set(load.answers) <= {0, 202}
    assert outcome.accepted > 50


def test_web_processes_are_killed_while_their_callers_wait(
    environment: dict[str, str],
    ledger: Ledger,
    crmtext: FakeCrmText,
    tmp_path: Path,
    report: Report,
) -> None:
    crmtext.answer_with(SLOW)
    with ExitStack() as stack:
        served = stack.enter_context(serve(environment, tmp_path))
        stack.enter_context(running_worker(environment, tmp_path))
        load = Load(served.url)
        with load.callers(waiting=12):
            _kill_children_and_master(stack, served, environment, tmp_path, load)
        outcome = reckon(ledger, [crmtext], load.accepted, within=LEASE_SECONDS + 10)
    report(f"{outcome}; unanswered {load.answers[0]}")
    assert (outcome.lost, load.gave_up) == (0, 0)
    assert set(load.answers) <= {0, 200, 202}
    assert load.answers[0] > 0
    assert outcome.sent_twice <= 3 * 12
    assert outcome.longest_take_over_seconds < LEASE_SECONDS + 5
    # one opt-out for each key, however often it was repeated
    assert sum(ledger.summary().opt_outs.values()) == outcome.accepted


def test_every_2xx_ends_in_crm_texts_answer_whatever_is_killed(
    environment: dict[str, str],
    ledger: Ledger,
    crmtext: FakeCrmText,
    tmp_path: Path,
    report: Report,
) -> None:
    crmtext.answer_with(SLOW)
    with ExitStack() as stack:
        served = stack.enter_context(serve(environment, tmp_path))
        load = Load(served.url)
        with load.callers(mixed=12):
            for n in range(2):
                worker = stack.enter_context(running_worker(environment, tmp_path, f"worker-{n}"))
                wait_until(partial(has_started, tmp_path, f"worker-{n}"), 20, "it has started")
                time.sleep(0.5)
                worker.send_signal(signal.SIGKILL)
            _kill_children_and_master(stack, served, environment, tmp_path, load)
        stack.enter_context(running_worker(environment, tmp_path, "last"))
        outcome = reckon(ledger, [crmtext], load.accepted, within=LEASE_SECONDS + 10)
    report(f"{outcome}; answers {dict(load.answers)}")
    assert outcome.lost == 0
    assert set(load.answers) <= {0, 200, 202}
    assert min(load.answers[status] for status in (0, 200, 202)) > 0


def _kill_children_and_master(
    stack: ExitStack, served: Served, environment: dict[str, str], folder: Path, load: Load
) -> None:
    for _ in range(2):
        time.sleep(1)
        before = children(served)
        os.kill(before[0], signal.SIGKILL)
        wait_until(partial(has_more_than, served, before), 10, "another in its place")
    time.sleep(1)
    served.process.send_signal(signal.SIGKILL)
    served.process.wait(5)
    (folder / "next").mkdir()
    load.url = stack.enter_context(serve(environment, folder / "next")).url
    time.sleep(1)
