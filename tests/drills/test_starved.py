"""The gateway with too little of something: disk, a reader of its log, files, threads, memory."""

import os
import secrets
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import requests

from tests.drills.load import Report
from tests.drills.test_killed_processes import children
from tests.support.factories import BEARER, make_environment, serve
from tests.support.fake_crmtext import FakeCrmText

pytestmark = [pytest.mark.drill, pytest.mark.xdist_group("drills 2")]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tiny", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> None:
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


@pytest.fixture
def on_sqlite(crmtext: FakeCrmText, database_url: str) -> dict[str, str]:
    return make_environment(CRMTEXT_URL=crmtext.url, CRMTEXT_RATE="0", DATABASE_URL=database_url)


def opt_out(url: str, number: int) -> int:
    fields = {"phone_number": f"999444{number:04}"}
    answer = requests.post(f"{url}/v1/opt-outs", json=fields, headers=BEARER, timeout=10)
    return answer.status_code


@pytest.mark.parametrize("full", ["before the start", "later"])
def test_the_temporary_folder_is_on_a_full_disk(
    tiny_disk: Path, on_sqlite: dict[str, str], tmp_path: Path, report: Report, full: str
) -> None:
    if full == "before the start":
        fill(tiny_disk)
    with serve(on_sqlite | {"TMPDIR": str(tiny_disk)}, tmp_path) as served:
        if full == "later":
            fill(tiny_disk)
        answers = [opt_out(served.url, number) for number in range(60)]
        metrics = requests.get(f"{served.url}/metrics", timeout=10)
        code = served.stop()

    report({"answered 200": answers.count(200), "of": len(answers)})
    assert answers == [200] * 60
    assert metrics.status_code == 200
    assert code == 0
    assert "was sent SIG" not in served.stdout.read_text()


def test_nobody_reads_the_log(on_sqlite: dict[str, str], tmp_path: Path, report: Report) -> None:
    os.mkfifo(tmp_path / "stdout")
    unread = os.open(tmp_path / "stdout", os.O_RDONLY | os.O_NONBLOCK)
    with serve(on_sqlite, tmp_path) as served:
        began = time.monotonic()
        answers = [opt_out(served.url, number) for number in range(500)]
        health = requests.get(f"{served.url}/healthz", timeout=10)
        seconds = time.monotonic() - began
        code = served.stop()
    os.close(unread)

    report({"answers": dict(Counter(answers)), "seconds": round(seconds, 1)})
    assert answers == [200] * 500
    assert (health.status_code, code) == (200, 0)


@pytest.mark.parametrize("files", [64, 128, 256, 1024])
def test_few_files_may_be_open(
    on_sqlite: dict[str, str], tmp_path: Path, report: Report, files: int
) -> None:
    limit = ["prlimit", f"--nofile={files}:{files}"]
    with serve(on_sqlite, tmp_path, within=limit) as served:
        with ThreadPoolExecutor(100) as callers:
            answers = list(callers.map(partial(opt_out, served.url), range(600)))
        again = [opt_out(served.url, number) for number in range(20)]
        processes = children(served)
        served.stop()

    report({"answers": dict(Counter(answers)), "later": dict(Counter(again))})
    said = served.stdout.read_text() + served.stderr.read_text()
    assert set(answers) <= {200, 202, 503}
    assert set(again) <= {200, 202}
    assert said.count("Booting worker") == len(processes) == 2
    assert f"The system allows {files} open files" in said
    assert "Too many open files" not in said


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
@pytest.mark.parametrize("threads", [256, 40, 10])
def test_few_threads_may_run(
    on_sqlite: dict[str, str], tmp_path: Path, report: Report, threads: int
) -> None:
    # Root is exempt from the limit. Somebody else may still open the files of the test; a user of
    # the test's own, since the limit counts all processes of a user.
    user = 20_000 + secrets.randbelow(40_000)
    somebody = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    somebody += ["--inh-caps=-all,+dac_override", "--ambient-caps=+dac_override"]
    somebody += ["--bounding-set=-all,+dac_override"]
    limit = [*somebody, "prlimit", f"--nproc={threads}:{threads}"]
    with serve(on_sqlite, tmp_path, within=limit) as served:
        with ThreadPoolExecutor(100) as callers:
            answers = list(callers.map(partial(opt_out, served.url), range(300)))
        processes = children(served)
        code = served.stop()

    report({"answers": dict(Counter(answers))})
    said = served.stdout.read_text()
    assert set(answers) <= {200, 202}
    assert said.count("Booting worker") == len(processes) == 2
    assert f"The system allows {threads} threads" in said
    assert code == 0
