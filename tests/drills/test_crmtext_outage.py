"""CRM Text is down for longer than several retries, then back."""

import time
from pathlib import Path

import pytest

from gateway.ledger.ledger import Ledger
from tests.drills.load import Load, Report, reckon
from tests.support.factories import serve
from tests.support.fake_crmtext import FakeCrmText
from tests.support.ledgers import wait_until
from tests.support.processes import running_worker

pytestmark = [pytest.mark.drill, pytest.mark.xdist_group("drills 2")]


def test_crm_text_is_down_and_comes_back(
    environment: dict[str, str],
    ledger: Ledger,
    crmtext: FakeCrmText,
    tmp_path: Path,
    report: Report,
) -> None:
    port = crmtext.server_port
    with serve(environment, tmp_path) as served, running_worker(environment, tmp_path) as worker:
        load = Load(served.url)
        with load.callers(leaving=4):
            wait_until(lambda: len(load.accepted) > 20, 10, "the load has begun")
            crmtext.stop()
            time.sleep(1)
        wait_until(lambda: _most_attempts(ledger, load) >= 3, 15, "it was tried several times")
        with FakeCrmText(port) as back:
            outcome = reckon(ledger, [crmtext, back], load.accepted, within=20)
        assert worker.poll() is None
    report(f"{outcome}; tried {_most_attempts(ledger, load)} times")
    assert outcome.lost == 0
    assert set(load.answers) == {202}


def _most_attempts(ledger: Ledger, load: Load) -> int:
    found = [ledger.find(opt_out_id) for opt_out_id in list(load.accepted.values())[-20:]]
    return max(opt_out.attempts for opt_out in found if opt_out)
