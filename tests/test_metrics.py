"""What a process counts, kept in a file for the other processes."""

import os
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict

from gateway.metrics import ValuesInAFile

KEYS = ["a", "a longer key", "ünïcode"]
NAME = "counter_1.db"


def in_file(file: Path) -> dict[str, float]:
    """What prometheus_client itself reads from it."""
    found = MmapedDict.read_all_values_from_file(str(file))  # type: ignore[no-untyped-call]
    return {key: value for key, value, _, _ in found}


def test_prometheus_client_reads_what_was_written(tmp_path: Path) -> None:
    values = ValuesInAFile(str(tmp_path / NAME))
    assert in_file(tmp_path / NAME) == {}

    for round_ in (1, 2):
        for number, key in enumerate(KEYS):
            values.write_value(key, number + round_, 0.0)

    assert in_file(tmp_path / NAME) == {"a": 2, "a longer key": 3, "ünïcode": 4}
    assert [values.read_value(key) for key in KEYS] == [(2, 0), (3, 0), (4, 0)]
    values.close()


def test_a_new_value_is_0(tmp_path: Path) -> None:
    values = ValuesInAFile(str(tmp_path / NAME))

    assert values.read_value("a") == (0, 0)
    values.close()


def test_a_full_disk_delays_the_file_and_forgets_no_value() -> None:
    values = ValuesInAFile("/dev/full")

    values.write_value("a", 1, 0)
    values.write_value("a", 2, 0)

    assert values.read_value("a") == (2, 0)
    values.close()


def test_a_file_that_can_be_written_again_gets_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    values = ValuesInAFile(str(tmp_path / NAME))
    values.write_value("a", 1, 0)
    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", full)
        values.write_value("a", 2, 0)
        values.write_value("b", 3, 0)
    assert in_file(tmp_path / NAME) == {"a": 1}

    values.write_value("a", 4, 0)

    assert in_file(tmp_path / NAME) == {"a": 4, "b": 3}
    values.close()


def test_a_folder_that_is_gone_forgets_no_value(tmp_path: Path) -> None:
    values = ValuesInAFile(str(tmp_path / "gone" / NAME))

    values.write_value("a", 1, 0)

    assert values.read_value("a") == (1, 0)
    values.close()
