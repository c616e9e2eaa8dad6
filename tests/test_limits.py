"""How much a web process takes on, by what the system allows it."""

import resource

import pytest

from gateway.limits import capacity

UNLIMITED = resource.RLIM_INFINITY


def allow(monkeypatch: pytest.MonkeyPatch, *, files: int, tasks: int) -> None:
    limits = {resource.RLIMIT_NOFILE: files, resource.RLIMIT_NPROC: tasks}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits[kind], UNLIMITED))


@pytest.mark.parametrize(
    ("files", "tasks", "processes", "expected"),
    [
        (UNLIMITED, UNLIMITED, 2, (264, 1000)),
        (1304, 4096, 2, (264, 1000)),
        (1024, 4096, 2, (264, 720)),
        (256, 4096, 2, (72, 144)),
        (64, 4096, 2, (8, 16)),
        (10, 4096, 2, (4, 8)),
        (8192, 256, 2, (64, 1000)),
        (8192, 256, 4, (32, 1000)),
        (8192, 1, 64, (4, 1000)),
    ],
)
def test_threads_and_connections_fit_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
    files: int,
    tasks: int,
    processes: int,
    expected: tuple[int, int],
) -> None:
    allow(monkeypatch, files=files, tasks=tasks)

    found = capacity(processes)

    assert (found.threads, found.connections) == expected
    assert (found.warning is None) == (expected == (264, 1000))


def test_the_warning_names_each_limit_that_is_too_low(monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, files=1024, tasks=256)

    assert capacity(2).warning == (
        "The system allows 1024 open files (ulimit -n) and 256 threads (ulimit -u), so each web "
        "process serves 920 connections with 64 threads instead of 1000 with 264. Raise the limit "
        "if that is too few."
    )
