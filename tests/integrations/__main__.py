"""`make integrations`: makes the environments, runs the tests of both markers, and says what was skipped and why.

Arguments go to pytest (`ARGS="-k ray"`).
"""

from __future__ import annotations

import sys
import time

import pytest
from tests.integrations.environments import NotMade, make, names


class Table:
    """Collects what each test came to; the plugin prints it at the end."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[str, float, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A skip or failure of any phase counts; else the call's result."""
        if report.when == "call" or not report.passed:
            why = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
            self._rows[report.nodeid] = (report.outcome, report.duration, why)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One line for each test."""
        terminalreporter.section("integrations: what ran, what was skipped and why")
        for name, (outcome, seconds, why) in self._rows.items():
            terminalreporter.write_line(f"{outcome:8} {seconds:6.1f} s  {name}")
            if why:
                terminalreporter.write_line(f"{'':19}{why}")
        outcomes = [outcome for outcome, _, _ in self._rows.values()]
        counted = ", ".join(f"{outcomes.count(each)} {each}" for each in ("passed", "skipped", "failed"))
        terminalreporter.write_line(counted)


def main() -> int:
    """The exit status of pytest; an environment that cannot be made makes its tests skip, with the reason."""
    for name in names():
        started = time.monotonic()
        try:
            make(name)
            said = f"ready after {time.monotonic() - started:.0f} s"
        except NotMade as e:
            said = f"cannot be made here, its tests are skipped: {e}"
        sys.stdout.write(f"environment {name}: {said}\n")
        sys.stdout.flush()
    options = ["-q", "-n", "0", "-p", "no:cacheprovider", "-m", "integrations or kubernetes", "tests"]
    return int(pytest.main([*options, *sys.argv[1:]], plugins=[Table()]))


if __name__ == "__main__":
    raise SystemExit(main())
