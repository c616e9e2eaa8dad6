"""PostgreSQL is stopped under load, as when its provider maintains it, and started again."""

import time
from pathlib import Path
from typing import Literal

import pytest

from gateway.ledger.migrations.upgrade import upgrade
from tests.drills.load import Load, Report, reckon
from tests.support.factories import make_environment, serve
from tests.support.fake_crmtext import FakeCrmText, Reply, xml
from tests.support.ledgers import make_ledger, wait_until
from tests.support.postgres import Postgres
from tests.support.processes import running_worker

pytestmark = [pytest.mark.drill, pytest.mark.xdist_group("drills 2")]


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_postgres_is_stopped_and_started(
    mode: Literal["fast", "immediate"],
    postgres: Postgres,
    crmtext: FakeCrmText,
    tmp_path: Path,
    report: Report,
) -> None:
    url = postgres.new_database()
    ledger = make_ledger(url)
    upgrade(ledger.engine)
    environment = make_environment(
        CRMTEXT_URL=crmtext.url, CRMTEXT_TIMEOUT="1", CRMTEXT_RATE="0", DATABASE_URL=url
    )
    crmtext.answer_with(Reply(delay=0.1, body=xml()))
    with serve(environment, tmp_path) as served, running_worker(environment, tmp_path) as worker:
        load = Load(served.url)
        with load.callers(leaving=4, waiting=8):
            time.sleep(1.5)
            postgres.stop(mode)
            time.sleep(1.5)
            postgres.start()
            known = len(load.accepted)
            back = wait_until(lambda: len(load.accepted) > known + 5, 10, "accepting again")
            time.sleep(1)
        outcome = reckon(ledger, [crmtext], load.accepted, within=20)
        assert worker.poll() is None
    report(f"{outcome}; told 503 {load.answers[503]}, accepting again after {back:.1f} s")
    assert (outcome.lost, load.gave_up) == (0, 0)
    assert set(load.answers) <= {200, 202, 409, 503}
    assert set(load.problems) <= {"ledger_unavailable", "idempotency_key_in_use"}
    assert load.answers[503] > 0
    ledger.engine.dispose()
