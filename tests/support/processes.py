"""The gateway's own processes, for tests that stop, kill and freeze them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.factories import ROOT


@contextmanager
def running_worker(
    environment: Mapping[str, str], directory: Path, name: str = "worker"
) -> Iterator[subprocess.Popen[bytes]]:
    """``python -m gateway worker``, until the block ends; its output goes to a file."""
    with (directory / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "worker"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()


def has_started(directory: Path, name: str = "worker") -> bool:
    """Whether the worker is at work, and so listens to signals."""
    return b"worker started" in (directory / f"{name}.log").read_bytes()
