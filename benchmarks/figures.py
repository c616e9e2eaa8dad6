"""What a measurement gives back, and how several things are measured side by side."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median

from benchmarks.load import Load, Measured
from benchmarks.processes import Bench, Running

OPT_OUT = '{"phone_number": "NUMBER"}'
FORM = "method=optoutcustomer&phone_number=NUMBER"


@dataclass(frozen=True)
class Figure:
    """One number, and the aim that it is held against."""

    what: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def is_reached(self) -> bool:
        return not (
            (self.at_most is not None and self.value > self.at_most)
            or (self.at_least is not None and self.value < self.at_least)
        )

    def line(self) -> str:
        """A row of a table."""
        aim = "" if self.at_most is None else f"at most {self.at_most:,g}"
        aim = aim if self.at_least is None else f"at least {self.at_least:,g}"
        reached = ("yes" if self.is_reached else "**no**") if aim else ""
        digits = 0 if abs(self.value) >= 100 else 1 if abs(self.value) >= 10 else 2
        value = f"{self.value:,.{digits}f} {self.unit}".strip()
        return f"| {self.what} | {value} | {aim} | {reached} |"


@dataclass(frozen=True)
class Sample:
    """A round of load on one server; CPU in milliseconds for a request."""

    per_second: float
    p50: float
    p99: float
    cpu: float
    database_cpu: float
    generator_cpu: float


def gateways(bench: Bench, far_url: str = "") -> dict[str, Running]:
    """The gateway with no ledger and with both kinds of it."""
    return {
        "without ledger": bench.without_ledger(far_url),
        "SQLite": bench.gateway(bench.sqlite(), far_url),
        "Postgres": bench.gateway(bench.postgres(), far_url),
    }


def compare(
    bench: Bench, variants: Mapping[str, Running], load: Load, *, rounds: int = 5
) -> dict[str, Sample]:
    """The medians of several rounds, each variant once a round and in changing order."""
    samples: dict[str, list[Sample]] = {name: [] for name in variants}
    order = list(variants)
    for name in order:
        sample(bench, variants[name], replace(load, seconds=1.0))  # warms up
    for _ in range(rounds):
        for name in order:
            samples[name].append(sample(bench, variants[name], load))
        order.reverse()
    return {name: _middle(taken) for name, taken in samples.items()}


def sample(bench: Bench, server: Running, load: Load) -> Sample:
    database = bench.database()
    before = server.cpu(), database.cpu() if database else 0.0
    measured = answered(bench.measure(replace(load, url=server.url + load.url)))
    after = server.cpu(), database.cpu() if database else 0.0
    cpu, database_cpu = ((b - a) / measured.count for a, b in zip(before, after, strict=True))
    per_second, generator_cpu = measured.per_second, measured.cpu
    return Sample(per_second, measured.p50, measured.p99, cpu, database_cpu, generator_cpu)


def answered(measured: Measured) -> Measured:
    """The same; figures of refused or broken requests would mean nothing."""
    if not set(measured.answers) <= {"200", "202"}:
        raise RuntimeError(f"not every request was answered well: {measured.answers}")
    return measured


def _middle(samples: list[Sample]) -> Sample:
    return Sample(*(median(column) for column in zip(*map(_values, samples), strict=True)))


def _values(taken: Sample) -> tuple[float, ...]:
    return tuple(vars(taken).values())
