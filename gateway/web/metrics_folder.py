"""The folder in which the web processes of one gunicorn count together, for ``/metrics``."""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

_PREFIX = "gateway-counts-"


@cache  # gunicorn reads its configuration again at SIGHUP, and goes on counting
def metrics_folder() -> str:
    """A new folder for this process and its children; removes those that killed ones left behind.

    A lock tells a folder in use from one left behind. It is never released: the kernel does that
    when the last of the processes has ended, however it ended.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # in use, or another user's
            _remove_unless_locked(folder)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(_open(folder), fcntl.LOCK_EX)
        if folder.exists():  # else another gateway that starts now took it for one left behind
            return str(folder)


def _remove_unless_locked(folder: Path) -> None:
    lock = _open(folder)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
