"""Settings of all tests: two processes, one cache, one thread, no deadlines, and a tiny rendered benchmark.

Each process takes one file after another, those that take longest first; files that need several hosts go to the same
process. Ray's core ends the process that uses it, with code 1 and without a word, when the raylet of an orphan or, for
a minute, the GCS of any does not answer. That is then the failure of one test with a name. Of pytest's own processes
only those that run ``local_ray`` start a Ray; elsewhere it is started by programs that a test runs.
"""

import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["skip_report"]

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch: idle threads spin
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job; programs of tests inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
# A test run starts over a hundred processes: each that must compile the project takes half a second more.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# A Ray of a test starts the workers that it needs, and no others.
os.environ.update(RAY_prestart_worker_first_driver="0")
# On a busy machine an example may take any time.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Two processes; for files named on the command line none but pytest's own, which starts at once."""
    named = [Path(str(word).partition("::")[0]) for word in config.args]
    return 0 if named and all(path.is_file() for path in named) else 2


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Each file as a whole to the next process that is free; all that need several hosts to the same."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class HostsTogether(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "hosts" if "mark.cluster" in (config.rootpath / file).read_text(encoding="utf-8") else file

        def remove_node(self, node):
            """Give what a process that died had before it to another, but not the test it died of: once is enough."""
            units = self.assigned_work[node].values()
            crashed = next(((unit, name) for unit in units for name, done in unit.items() if not done), None)
            if crashed:
                unit, name = crashed
                unit[name] = True
            super().remove_node(node)
            return name if crashed else None

    config.option.loadscopereorder = False  # the order is that of the collection, below
    return HostsTogether(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Put the files that take longest first, so that in the end no process waits for the other."""
    weights = Counter()
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        weights[item.path] += 500 if "cluster" in marks else 50 if "ray" in marks else 1
    items.sort(key=lambda item: (-weights[item.path], item.path))


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Put rendered data in a folder of this test run, which its processes share."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "cache"
    before = os.environ.get("HTT_CACHE")
    os.environ["HTT_CACHE"] = str(folder)
    yield folder
    os.environ.pop("HTT_CACHE") if before is None else os.environ.update(HTT_CACHE=before)


@pytest.fixture(scope="session")
def tiny_splits(cache):
    """Training and validation clips of the tiny benchmark, rendered once."""
    from htt.data.prepare import prepare
    from htt.testing import tiny_config
    from htt.training.tasks import open_splits

    prepare(tiny_config(), workers=1)  # several would start a Ray
    return open_splits(tiny_config())


@pytest.fixture
def refused(monkeypatch, capsys):
    """What a script says, in this process, that refuses its command line: in one sentence, before it starts Ray."""
    from htt import console

    def run(script, *words, cwd):
        monkeypatch.chdir(cwd)
        monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("a Ray was started"))
        with pytest.raises(SystemExit) as left:
            console.run(script.Options, script.main, [str(word) for word in words])
        said = "".join(capsys.readouterr())
        assert left.value.code == 2, said
        assert said.count("error:") == 1, said
        return said

    return run


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the figures of reports empty, for tests of texts and tables: drawing takes most of a report's time."""
    from report_folders import leave_undrawn

    leave_undrawn(monkeypatch)
