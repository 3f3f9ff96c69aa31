from dataclasses import replace

import pytest

from cluster.preflight.faults import DRIVER, FREE_BYTES, REMEDIES, Report, Requirements, find_faults, listed

CODE = {"htt/config.py": "aa", "htt/hand.py": "bb"}
VERSIONS = {"python": "3.11.2", "torch": "2.13.0"}
ROOT = "/data/h2o"
REQUIRED = Requirements(roots=(ROOT,), storage="/shared/runs")


def report(machine="a", **changes):
    good = Report(
        machine,
        commit="abc",
        code=CODE,
        versions=VERSIONS,
        data={ROOT: ("d1", 0)},
        disks={"cache": ("/cache", 5 * 10**9, 1), "results": ("/shared/runs", 5 * 10**9, 2)},
        promised_gpus=2.0,
        gpus={"torch": "2.13.0", "count": 2, "faults": []},
        clock_s=(-0.01, 0.01),
        host_address=("a", "10.0.0.5"),
    )
    return replace(good, **changes)


DRIVER_SAYS = report(DRIVER, promised_gpus=0.0, gpus=None)


def faults(required=REQUIRED, driver=DRIVER_SAYS, **changes):
    found = find_faults([report("good"), report(**changes)], driver, required)
    assert {fault.machine for fault in found} <= {"a", DRIVER}
    assert all(fault.remedy == f"{REMEDIES[fault.check]}." for fault in found)
    return [(fault.check, fault.found, fault.expected) for fault in found]


def test_find_faults_of_equal_machines_is_empty():
    assert faults() == []


def test_find_faults_reports_only_missing_answer_of_silent_machine():
    silent = Report("a", error="no answer within 60 s")
    [fault] = find_faults([silent], DRIVER_SAYS, REQUIRED)
    assert (fault.check, fault.found, fault.expected) == ("answer", "no answer within 60 s", "an answer")


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ({**CODE, "htt/hand.py": "cc"}, "htt/hand.py differs, commit abc"),
        ({"htt/config.py": "aa"}, "htt/hand.py is missing, commit abc"),
        ({}, "htt/config.py and htt/hand.py are missing, commit abc"),
        ({**CODE, "htt/new.py": "dd"}, "htt/new.py differs, commit abc"),
        ({"htt/config.py": "zz"}, "htt/config.py differs and htt/hand.py is missing, commit abc"),
    ],
)
def test_find_faults_names_differing_code_files(code, found):
    assert faults(code=code) == [("code", found, "the driver's code, commit abc")]


def test_find_faults_ignores_commit_of_equal_code():
    assert faults(commit="unknown") == []


@pytest.mark.parametrize(
    ("versions", "found", "wanted"),
    [
        ({**VERSIONS, "torch": "2.12.0"}, "torch 2.12.0", "torch 2.13.0"),
        ({"python": "3.11.2"}, "torch missing", "torch 2.13.0"),
        ({"python": "3.12.1", "torch": "2.1"}, "python 3.12.1, torch 2.1", "python 3.11.2, torch 2.13.0"),
    ],
)
def test_find_faults_names_differing_versions(versions, found, wanted):
    assert faults(versions=versions) == [("versions", found, wanted)]


def test_find_faults_ignores_library_the_driver_lacks():
    assert faults(versions={**VERSIONS, "more": "1"}) == []


def test_find_faults_names_differing_manifest():
    assert faults(data={ROOT: ("d2", 0)}) == [("data", "/data/h2o has manifest d2", "the driver's, d1")]


def test_find_faults_reports_unread_data_without_comparison():
    unread = {"data": {ROOT: None}, "failed": [("data", "there is none")]}
    assert faults(**unread) == [("data", "there is none", "readable data: /data/h2o")]
    driver = report(DRIVER, **unread)
    assert [fault[1] for fault in faults(driver=driver, data={ROOT: ("d2", 0)})] == ["there is none"]


def test_find_faults_reports_unshared_storage():
    found = "/shared/runs does not contain the file that the driver wrote"
    assert faults(storage=False) == [("storage", found, "one folder shared by all machines")]


@pytest.mark.parametrize("check", [name for name in REMEDIES if name not in ("answer", "clock")])
def test_find_faults_reports_failure_of_every_check(check):
    [(named, found, wanted)] = faults(failed=[(check, "no answer within 40 s")])
    assert (named, found) == (check, "no answer within 40 s")
    assert wanted


def test_find_faults_includes_driver():
    driver = report(DRIVER, failed=[("storage", "read-only")])
    [fault] = find_faults([report()], driver, REQUIRED)
    assert (fault.machine, fault.check) == (DRIVER, "storage")


def test_find_faults_names_each_full_disk_once():
    full = FREE_BYTES - 1
    disks = {"cache": ("/c", full, 1), "temporary files": ("/tmp", full, 1), "results": ("/r", 3 * 10**8, 2)}
    assert faults(disks=disks) == [
        ("disk", "1.0 GB free for cache, in /c", "1.0 GB"),
        ("disk", "0.3 GB free for results, in /r", "1.0 GB"),
    ]
    assert faults(disks={"cache": ("/c", FREE_BYTES, 1)}) == []


def test_find_faults_requires_cache_space_for_remote_data():
    required = replace(REQUIRED, roots=("s3://bucket/h2o",))
    data = {"s3://bucket/h2o": ("d", 6 * 10**9)}
    driver = replace(DRIVER_SAYS, disks={}, data=data)
    small = {"temporary files": ("/tmp", 5 * 10**9, 1), "cache": ("/c", 5 * 10**9, 1)}
    fault = ("disk", "5.0 GB free for cache, in /c", "7.0 GB")
    found = find_faults([report(disks=small, data=data)], driver, required)
    assert [(each.check, each.found, each.expected) for each in found] == [fault]
    bounded = replace(required, cache_gb=4.0)
    assert find_faults([report(disks=small, data=data)], driver, bounded) == []
    assert [
        each.expected for each in find_faults([report(disks=small, data=data)], driver, replace(required, cache_gb=4.5))
    ] == ["5.5 GB"]
    large = {"cache": ("/c", 7 * 10**9, 1)}
    assert find_faults([report(disks=large, data=data)], driver, required) == []


@pytest.mark.parametrize(
    ("gpus", "found"),
    [
        (
            {"torch": "2.13.0+cpu", "count": 0, "faults": []},
            [("torch 2.13.0+cpu finds 0", "the 2 that Ray may allocate")],
        ),
        ({"torch": "2.13.0", "count": 3, "faults": []}, []),
        (
            {"torch": "2.13.0", "count": 2, "faults": ["GPU 0: out of memory", "GPU 1: no kernel image"]},
            [("GPU 0: out of memory", "working GPUs"), ("GPU 1: no kernel image", "working GPUs")],
        ),
    ],
)
def test_find_faults_compares_gpus_with_those_of_ray(gpus, found):
    assert faults(gpus=gpus) == [("GPUs", *each) for each in found]
    assert faults(required=replace(REQUIRED, gpus=False), gpus=gpus) == []


@pytest.mark.parametrize(
    ("clock_s", "found"),
    [
        ((3.21, 3.3), ["3.2 s ahead"]),
        ((-61.0, -60.0), ["60.0 s behind"]),
        ((1.9, 2.5), []),
        ((-2.5, -1.9), []),
        ((-5.0, 30.0), []),
    ],
)
def test_find_faults_reports_clock_beyond_round_trip(clock_s, found):
    assert faults(clock_s=clock_s) == [("clock", each, "within 2 s of the driver's") for each in found]


def test_find_faults_names_unreachable_machines():
    closed = [("b", "10.0.0.6:41234 timed out"), ("c", "10.0.0.7:41235 refused")]
    found = "cannot connect to b (10.0.0.6:41234 timed out) and c (10.0.0.7:41235 refused)"
    assert faults(unreachable=closed) == [("ports", found, "connections to the other machines")]


@pytest.mark.parametrize("address", ["127.0.1.1", "::1", "127.0.0.1"])
def test_find_faults_reports_loopback_host_name(address):
    expected = "an address that other machines can reach"
    assert faults(host_address=("a", address)) == [("address", f"its host name a resolves to {address}", expected)]
    assert faults(required=replace(REQUIRED, gloo=False), host_address=("a", address)) == []
    assert faults(host_address=("a", "")) == []


def test_find_faults_returns_all_faults_of_all_machines():
    found = find_faults(
        [report("a", code={}), report("b", storage=False, versions={}), Report("c", "gone")], DRIVER_SAYS, REQUIRED
    )
    assert [(fault.machine, fault.check) for fault in found] == [
        ("a", "code"),
        ("b", "versions"),
        ("b", "storage"),
        ("c", "answer"),
    ]


def test_report_of_ignores_unknown_fields():
    assert Report.of("a", {"commit": "x", "gpus": None, "what_is_new": 1}, promised_gpus=1.0) == Report(
        "a", commit="x", promised_gpus=1.0
    )


def test_listed_shortens_many_names():
    assert [listed("a"), listed("ab"), listed("abcd"), listed("abcdefg")] == [
        "a",
        "a and b",
        "a, b, c and d",
        "a, b, c and 4 more",
    ]
