"""A plugin that shows the figures of drills at the end, also when other processes ran them."""

import pytest

FIGURES = "figures"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    lines = [
        f"{one.nodeid.rpartition('::')[2].partition('@')[0]}: {figures}"
        for one in reports
        for name, figures in getattr(one, "user_properties", [])
        if name == FIGURES and one.when == "call"
    ]
    if lines:
        terminalreporter.section("drills")
        terminalreporter.write_line("\n".join(lines))
