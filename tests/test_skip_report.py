import pytest

pytest_plugins = "pytester"

TESTS = """
import pytest

@pytest.mark.parametrize("number", range(2))
@pytest.mark.skipif(True, reason="no browser here")
def test_page(number): pass

def test_disk(): pytest.skip("only root mounts a disk")

@pytest.mark.slow
def test_long(): pass

@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_longer(number): pass

def test_runs(): pass
"""
INI = "[pytest]\nmarkers = slow: takes minutes\naddopts = -m 'not slow'"


@pytest.mark.parametrize("processes", [0, 2])
def test_summary_lists_skipped_tests_and_counts_slow_ones(pytester, processes):
    pytester.makepyfile(test_some=TESTS)
    pytester.makeini(INI)
    lines = list(filter(None, pytester.runpytest_inprocess("-p", "skip_report", f"-n{processes}").outlines))
    title = next(number for number, line in enumerate(lines) if "tests that did not run" in line)
    assert lines[title + 1 : -1] == [
        "2 skipped: no browser here",
        "    test_some.py::test_page[0]",
        "    test_some.py::test_page[1]",
        "1 skipped: only root mounts a disk",
        "    test_some.py::test_disk",
        "4 slow tests were not selected: pytest -m slow",
    ]
    assert "1 passed, 3 skipped" in lines[-1]


def test_summary_of_a_module_that_is_skipped_as_a_whole_names_it(pytester):
    pytester.makepyfile(test_module='import pytest\npytest.skip("needs Linux", allow_module_level=True)')
    result = pytester.runpytest_inprocess("-p", "skip_report", "-n0")
    result.stdout.fnmatch_lines(["1 skipped: needs Linux", "    test_module.py"])


def test_summary_says_nothing_where_every_test_ran(pytester):
    pytester.makepyfile(test_some="def test_runs(): pass")
    result = pytester.runpytest_inprocess("-p", "skip_report", "-n0")
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*did not run*")
