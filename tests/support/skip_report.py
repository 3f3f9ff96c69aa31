"""Pytest plugin that ends the output with the tests that did not run: the skipped ones by reason, and how many slow."""

from collections import defaultdict

import pytest

SLOW = pytest.StashKey[int]()
"""Number of deselected tests with the mark ``slow``."""
KEY = "deselected_slow"


def pytest_configure(config):
    config.stash[SLOW] = 0


def pytest_deselected(items):
    for item in items:
        item.config.stash[SLOW] += item.get_closest_marker("slow") is not None


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """In a process of xdist: send the count to the process that prints the summary."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[KEY] = session.config.stash[SLOW]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """Every process of xdist collects, and deselects, the same tests."""
    count = getattr(node, "workeroutput", {}).get(KEY, 0)
    node.config.stash[SLOW] = max(node.config.stash[SLOW], count)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter, config):
    result = yield
    by_reason = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        by_reason[reason(report)].append(report.nodeid)
    slow = config.stash[SLOW]
    if by_reason or slow:
        terminalreporter.section("tests that did not run")
    for each, names in sorted(by_reason.items()):
        terminalreporter.line(f"{len(names)} skipped: {each}")
        for name in sorted(names):
            terminalreporter.line(f"    {name}")
    if slow:
        terminalreporter.line(f"{slow} slow tests were not selected: pytest -m slow")
    return result


def reason(report):
    """Return why a test was skipped."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
