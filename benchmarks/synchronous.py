"""Callers who wait for CRM Text: the gateway, the plain version, and no gateway at all."""

import time
from dataclasses import replace

from benchmarks.figures import FORM, OPT_OUT, Figure, Sample, answered, compare, gateways
from benchmarks.load import Load
from benchmarks.processes import NOW, Bench, Running, finish

_LOAD = Load("/v1/opt-outs", OPT_OUT, NOW, callers=16)


def over_https(bench: Bench) -> list[Figure]:
    """HTTPS to CRM Text, 16 callers: the gateway against the plain version."""
    url = bench.far_https_url
    taken = compare(
        bench,
        {"plain": bench.plain(url), **gateways(bench, url)},
        _LOAD,
    )
    plain = taken.pop("plain")
    figures = [Figure("plain: CPU a request", plain.cpu, "ms")]
    for name, one in taken.items():
        ratio = one.per_second / plain.per_second
        figures += [
            Figure(f"{name}: throughput against plain", ratio, "times", at_least=15),
            Figure(f"{name}: CPU against plain", one.cpu / plain.cpu, at_most=0.06),
        ]
    return figures


def over_http(bench: Bench) -> list[Figure]:
    """HTTP to CRM Text, 16 callers: what the ledger costs, and the plain version."""
    taken = compare(
        bench,
        {"plain": bench.plain(), **gateways(bench)},
        _LOAD,
    )
    plain = taken["plain"]
    aims = {"without ledger": 0.7, "SQLite": 1.0, "Postgres": 1.0}
    figures = []
    for name, one in taken.items():
        figures += _absolute(name, one)
        if name in aims:
            cpu = one.cpu / plain.cpu
            figures.append(Figure(f"{name}: CPU against plain", cpu, at_most=aims[name]))
    return figures


def _absolute(name: str, one: Sample) -> list[Figure]:
    return [
        Figure(f"{name}: throughput", one.per_second, "/s"),
        Figure(f"{name}: p50", one.p50, "ms"),
        Figure(f"{name}: p99", one.p99, "ms"),
        Figure(f"{name}: CPU a request", one.cpu, "ms"),
    ]


def one_caller(bench: Bench) -> list[Figure]:
    """One caller over HTTPS: what the gateway adds to CRM Text's own time."""
    far_side = Running(0, bench.far_https_url.removesuffix("/smapi/rest"))
    direct = compare(bench, {"direct": far_side}, Load("/smapi/rest", FORM))["direct"]
    taken = compare(bench, gateways(bench, bench.far_https_url), replace(_LOAD, callers=1))
    figures = [Figure("direct: p99", direct.p99, "ms")]
    for name, one in taken.items():
        figures += [
            Figure(f"{name}: p50 less direct", one.p50 - direct.p50, "ms"),
            Figure(f"{name}: p99 less direct", one.p99 - direct.p99, "ms", at_most=3),
        ]
    return figures


def connections(bench: Bench) -> list[Figure]:
    """New connections to CRM Text (HTTPS) in 1,000 requests."""
    gateway = bench.gateway(bench.sqlite(), bench.far_https_url)
    load = replace(_LOAD, url=gateway.url + _LOAD.url, requests=1000)
    figures = []
    for what, callers in (("1 caller, from the start", 1), ("16 callers, warm", 16)):
        if callers > 1:
            bench.measure(replace(load, callers=callers))
        before = bench.far_side()["connections"]
        answered(bench.measure(replace(load, callers=callers)))
        opened = bench.far_side()["connections"] - before
        figures.append(Figure(what, opened, at_most=5))
    return figures


def waiting(bench: Bench) -> list[Figure]:
    """256 callers on a CRM Text that takes 1 s, over HTTPS."""
    load = replace(_LOAD, callers=256, seconds=9)
    variants = gateways(bench, bench.far_https_url)
    bench.far_side("/delay/1")
    direct = bench.measure(replace(load, url=bench.far_https_url, body=FORM))
    figures = [Figure("direct: throughput", direct.per_second, "/s")]
    for name, gateway in variants.items():
        started = bench.load(replace(load, url=gateway.url + load.url))
        time.sleep(6)
        memory = gateway.memory()
        measured = answered(finish(started))
        in_flight = bench.far_side()["most_waiting"]
        share = measured.per_second / direct.per_second
        figures += [
            Figure(f"{name}: throughput against direct", share, at_least=0.9),
            Figure(f"{name}: most in flight at once", in_flight, at_least=256),
            Figure(f"{name}: memory of all web processes (PSS)", memory, "MB", at_most=120),
        ]
    bench.far_side("/delay/0")
    return figures
