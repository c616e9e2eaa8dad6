"""Opt-outs that the gateway takes over: accepting, a CRM Text that hangs, a long backlog."""

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from statistics import median

from sqlalchemy import insert, select, text

from benchmarks.figures import OPT_OUT, Figure, answered, compare, gateways
from benchmarks.load import Load
from benchmarks.processes import LATER, NOW, WEBHOOK, Bench
from gateway.assembly import open_ledger
from gateway.consent import Outcome, Status
from gateway.ledger.intake import Entry
from gateway.ledger.ledger import Ledger
from gateway.ledger.search import Criteria
from gateway.ledger.tables import attempts, opt_outs
from gateway.settings import Settings
from tests.support.factories import make_opt_out_request

_ACCEPT = Load("/v1/opt-outs", OPT_OUT, LATER, callers=8)
_EVENT = '{"event": "sms_unsubscribed", "phone": "NUMBER", "id": "NUMBER"}'
_WEBHOOK = Load("/v1/webhooks/braze", _EVENT, WEBHOOK, callers=8)
_DUE, _BATCH, _SETTLED = 100_000, 500, 300_000
_OPTED_OUT = Outcome(None, http_status=200)


def accepting(bench: Bench) -> list[Figure]:
    """``Prefer: respond-async``: a 202 when the opt-out is on disk."""
    variants = gateways(bench)
    figures = []
    for name, one in compare(bench, variants, _ACCEPT).items():
        figures += [
            Figure(f"{name}, 8 callers: accepted", one.per_second, "/s"),
            Figure(f"{name}, 8 callers: p99", one.p99, "ms", at_most=25),
            Figure(f"{name}, 8 callers: CPU a request", one.cpu, "ms"),
        ]
    postgres = {"Postgres": variants["Postgres"]}
    crowd = compare(bench, postgres, replace(_ACCEPT, callers=32))["Postgres"]
    share = crowd.per_second / 1000 / (os.cpu_count() or 1) * 100
    return [
        *figures,
        Figure("Postgres, 32 callers: accepted", crowd.per_second, "/s", at_least=1000),
        Figure("… of all cores, the web processes", crowd.cpu * share, "%"),
        Figure("… of all cores, PostgreSQL", crowd.database_cpu * share, "%"),
        Figure("… of all cores, the load generator", crowd.generator_cpu * share, "%"),
    ]


def hanging(bench: Bench) -> list[Figure]:
    """CRM Text hangs: 256 callers wait in vain, and so does the worker; 8 others come by."""
    figures = []
    for name, url in (("SQLite", bench.sqlite()), ("Postgres", bench.postgres())):
        gateway = bench.gateway(url)
        bench.worker(url)
        loads = {
            f"{name}: p99 of the 202": (replace(_ACCEPT, url=gateway.url + _ACCEPT.url), 25),
            f"{name}: p99 of a webhook": (replace(_WEBHOOK, url=gateway.url + _WEBHOOK.url), 100),
        }
        before = {what: bench.measure(load).p99 for what, (load, _) in loads.items()}
        bench.far_side("/delay/60")
        stuck = Load(gateway.url + "/v1/opt-outs", OPT_OUT, NOW, callers=256, requests=256)
        started = bench.load(stuck)
        while bench.far_side()["waiting"] < 256:
            time.sleep(0.1)
        for what, (load, aim) in loads.items():
            during = answered(bench.measure(load)).p99
            figures += [
                Figure(f"{what} while CRM Text answers", before[what], "ms"),
                Figure(f"{what} while it hangs", during, "ms", at_most=aim),
            ]
        bench.far_side("/delay/0")
        started.terminate()
        started.wait()
    return figures


def backlog(bench: Bench) -> list[Figure]:
    """100,000 due opt-outs, then 300,000 settled ones beside them."""
    return [
        *_backlog(bench, "SQLite", bench.sqlite()),
        *_backlog(bench, "Postgres", bench.postgres()),
    ]


def _backlog(bench: Bench, name: str, url: str) -> list[Figure]:
    ledger = open_ledger(Settings.from_env(bench.environment | {"DATABASE_URL": url}))
    _enqueue(ledger, 2_000)
    alone = _claiming(bench, ledger)
    began_at = time.perf_counter()
    _enqueue(ledger, _DUE)
    seconds = time.perf_counter() - began_at
    crowded = _claiming(bench, ledger)
    some_id, some_number = _add_settled(ledger)
    full = _claiming(bench, ledger)
    found = _time(lambda: ledger.find(some_id))
    searched = _time(lambda: ledger.search(Criteria(phone_number=some_number), 50))
    ledger.engine.dispose()
    worker = bench.worker(url)
    time.sleep(3)
    calls, cpu = bench.far_side()["calls"], worker.cpu()
    time.sleep(8)
    calls, cpu = bench.far_side()["calls"] - calls, worker.cpu() - cpu
    memory = worker.memory()
    return [
        Figure(f"{name}: enqueuing 100,000 in batches of {_BATCH}", seconds, "s"),
        Figure(f"{name}: CPU of claiming and settling one, of 2,000", alone, "ms"),
        Figure(f"{name}: … beside 100,000 due", crowded / alone, "times", at_most=1.2),
        Figure(f"{name}: … and 300,000 settled", full / alone, "times", at_most=1.2),
        Figure(f"{name}: looking up an id then", found, "ms"),
        Figure(f"{name}: looking up a number then", searched, "ms"),
        Figure(f"{name}: one worker delivers", calls / 8, "/s"),
        Figure(f"{name}: its CPU for each", cpu / calls, "ms"),
        Figure(f"{name}: its memory (PSS)", memory, "MB"),
    ]


def _enqueue(ledger: Ledger, count: int) -> None:
    for start in range(0, count, _BATCH):
        numbers = range(2_000_000_000 + start, 2_000_000_000 + start + _BATCH)
        ledger.accept([Entry([make_opt_out_request(str(number))]) for number in numbers])


def _claiming(bench: Bench, ledger: Ledger) -> float:
    """Milliseconds of CPU for claiming and settling one, the database's included."""
    batches = []
    database = bench.database()
    for _ in range(11):
        before = time.process_time() * 1000 + (database.cpu() if database else 0)
        count = 0
        for _ in range(5):
            for claim in ledger.claim_due(32, patience_seconds=0).claims:
                opted_out = ledger.after_attempt(claim, _OPTED_OUT, 1.0)
                ledger.end_attempt(claim, opted_out, _OPTED_OUT)
                count += 1
        after = time.process_time() * 1000 + (database.cpu() if database else 0)
        batches.append((after - before) / count)
    return median(batches)


def _add_settled(ledger: Ledger) -> tuple[str, str]:
    """Adds copies of a settled opt-out and its attempt; the id and number of one of them."""
    with ledger.engine.begin() as connection:
        done = opt_outs.c.status == Status.OPTED_OUT
        row = connection.execute(select(opt_outs).where(done).limit(1)).one()
        for start in range(0, _SETTLED, 10_000):
            copies = [
                {**row._mapping, "id": str(uuid.uuid4()), "phone_number": str(3 * 10**9 + number)}
                for number in range(start, start + 10_000)
            ]
            connection.execute(insert(opt_outs), copies)
            tried = {"started_at": row.created_at, "outcome": "opted_out"}
            connection.execute(insert(attempts), [tried | {"opt_out_id": c["id"]} for c in copies])
        connection.execute(text("ANALYZE"))  # as autovacuum would do by and by
    return copies[0]["id"], copies[0]["phone_number"]


def _time(call: Callable[[], object]) -> float:
    """The median in milliseconds."""
    taken = []
    for _ in range(200):
        began_at = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began_at) * 1000)
    return median(taken)
