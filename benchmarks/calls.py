"""The call to CRM Text alone, in one process and over kept connections."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.figures import Figure
from benchmarks.processes import Bench
from gateway.accounts import Store
from gateway.crmtext.client import CrmText

_STORE = Store("PIZZA", "benchmark:secret-password:PIZZA")


def calls(bench: Bench) -> list[Figure]:
    """CrmText.opt_out by itself, its XML included."""
    os.environ["REQUESTS_CA_BUNDLE"] = bench.environment["REQUESTS_CA_BUNDLE"]
    figures = []
    for url in (bench.far_url, bench.far_https_url):
        scheme = url.partition(":")[0].upper()
        client = CrmText(url, 20, [_STORE])
        for threads in (1, 16):
            cpu, _ = _measured(client, threads, 6000 // threads)
            figures.append(Figure(f"{scheme}, threads: {threads}, CPU a call", cpu, "ms"))
        bench.far_side("/delay/0.1")
        cpu, per_second = _measured(client, 256, 40)
        bench.far_side("/delay/0")
        waiting = f"{scheme}, 256 callers, CRM Text takes 0.1 s"
        figures.append(Figure(f"{waiting}: CPU a call", cpu, "ms"))
        figures.append(Figure(f"{waiting}: calls", per_second, "/s"))
    return figures


def _measured(client: CrmText, threads: int, calls_each: int) -> tuple[float, float]:
    """Milliseconds of CPU a call, and calls a second, after a call or two to warm up."""

    def call_often(times: int) -> None:
        for _ in range(times):
            outcome = client.opt_out("9995551234", _STORE.keyword)
            if outcome.failure:
                raise RuntimeError(outcome.failure.detail)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(call_often, [2] * threads))
        cpu, began = time.process_time(), time.monotonic()
        list(pool.map(call_often, [calls_each] * threads))
        count = threads * calls_each
        cpu, seconds = time.process_time() - cpu, time.monotonic() - began
    return cpu / count * 1000, count / seconds
