"""Folders in which web processes count: none piles up, and no gateway removes another's."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from tests.support.factories import Served, make_environment, run, serve
from tests.support.ledgers import wait_until

MAKE_A_FOLDER = "from gateway.web.metrics_folder import metrics_folder; print(metrics_folder())"


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """The temporary folder of all gateways of a test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.fixture
def environment(temporary: Path, database_url: str) -> dict[str, str]:
    return make_environment(DATABASE_URL=database_url, TMPDIR=str(temporary), WEB_CONCURRENCY="1")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(stack: ExitStack, environment: dict[str, str], directory: Path) -> Served:
    directory.mkdir()
    return stack.enter_context(serve(environment, directory))


def folders(temporary: Path) -> set[Path]:
    return set(temporary.glob("gateway-counts-*"))


def counts_requests(served: Served) -> bool:
    """Whether the gateway still counts, also in a web process that was started just now."""
    text = requests.get(f"{served.url}/metrics", timeout=9).text
    return "http_request_duration_seconds_count" in text


@pytest.mark.slow
def test_a_gateway_that_is_stopped_leaves_nothing_behind(
    environment: dict[str, str], temporary: Path, tmp_path: Path
) -> None:
    with serve(environment, tmp_path) as served:
        assert len(folders(temporary)) == 1
        served.stop()

    assert folders(temporary) == set()


@pytest.mark.slow
def test_what_killed_gateways_leave_behind_is_removed_at_the_next_start(
    environment: dict[str, str], temporary: Path, tmp_path: Path, stack: ExitStack
) -> None:
    for number in range(3):
        killed = start(stack, environment, tmp_path / str(number))
        os.killpg(killed.process.pid, signal.SIGKILL)
        killed.process.wait(9)
        assert len(folders(temporary)) == 1


@pytest.mark.slow
def test_two_gateways_on_one_machine_leave_each_other_alone(
    environment: dict[str, str], temporary: Path, tmp_path: Path, stack: ExitStack
) -> None:
    first = start(stack, environment, tmp_path / "first")
    requests.get(f"{first.url}/healthz", timeout=9)
    second = start(stack, environment, tmp_path / "second")
    assert len(folders(temporary)) == 2

    second.stop()

    assert len(folders(temporary)) == 1
    assert counts_requests(first)


@pytest.mark.slow
def test_reading_the_configuration_again_keeps_the_folder(
    environment: dict[str, str], temporary: Path, tmp_path: Path
) -> None:
    with serve(environment, tmp_path) as served:
        requests.get(f"{served.url}/healthz", timeout=9)
        before = folders(temporary)
        served.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(list(tmp_path.glob("*.ready"))) == 2, 20, "a new web process")

        assert folders(temporary) == before
        assert counts_requests(served)


def test_a_link_with_such_a_name_and_its_target_are_left_alone(
    temporary: Path, tmp_path: Path
) -> None:
    target = tmp_path / "of somebody else"
    target.mkdir()
    (temporary / "gateway-counts-link").symlink_to(target)
    (temporary / "gateway-counts-file").write_text("no folder")

    made = run("-c", MAKE_A_FOLDER, environment={"TMPDIR": str(temporary)}).stdout.strip()

    assert target.is_dir()
    assert {folder.name for folder in folders(temporary)} == {
        "gateway-counts-link",
        "gateway-counts-file",
        Path(made).name,
    }
