"""What the system allows a process (``ulimit``), and what it can serve within that."""

import resource
from contextlib import suppress
from dataclasses import dataclass

# Nearly all time of a request is waiting for CRM Text, so threads, and many: 256 callers may wait
# in one process (gunicorn spreads kept connections unevenly), and 8 are kept for the rest.
MOST_THREADS = 264
MOST_CONNECTIONS = 1000

# The database's, with three files for each of 6 connections to SQLite, and the server's own.
_OTHER_FILES = 40


@dataclass(frozen=True)
class Capacity:
    """What a web process serves at once; ``warning`` says why it is less than it could be."""

    threads: int
    connections: int
    warning: str | None = None


def capacity(processes: int) -> Capacity:
    """For each of so many web processes."""
    files, tasks = _limit(resource.RLIMIT_NOFILE), _limit(resource.RLIMIT_NPROC)
    free = max(files - _OTHER_FILES, 12)
    threads = min(
        MOST_THREADS,
        free // 3,  # each with a client and a call to CRM Text; a third for clients that wait
        max(tasks // 2 // processes, 4),  # all that the user runs counts, so not more than half
    )
    connections = min(MOST_CONNECTIONS, free - threads)
    if (threads, connections) == (MOST_THREADS, MOST_CONNECTIONS):
        return Capacity(threads, connections)
    tight = [
        f"{files} open files (ulimit -n)" if connections < MOST_CONNECTIONS else "",
        f"{tasks} threads (ulimit -u)" if threads < min(MOST_THREADS, free // 3) else "",
    ]
    return Capacity(
        threads,
        connections,
        f"The system allows {' and '.join(filter(None, tight))}, so each web process serves "
        f"{connections} connections with {threads} threads instead of {MOST_CONNECTIONS} with "
        f"{MOST_THREADS}. Raise the limit if that is too few.",
    )


def raise_limit_of_files() -> None:
    """To what the system lets a process raise it to by itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _limit(kind: int) -> int:
    soft, _ = resource.getrlimit(kind)
    return 1_000_000 if soft == resource.RLIM_INFINITY else soft
