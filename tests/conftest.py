"""What all tests share: two processes, a cache of their own, one thread, and a tiny rendered benchmark.

Each process takes one file after another; those that need several hosts go to the same. Ray's core ends the process
that uses it, with code 1 and without a word, when the raylet of an orphan or, for a minute, the GCS of any does not
answer. That is then the failure of one test with a name; pytest itself starts no Ray.
"""

import os
from pathlib import Path

import pytest

pytest_plugins = ["skip_report"]

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch: idle threads spin


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

    return HostsTogether(config, log)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Rendered data go to a folder of this test run."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("HTT_CACHE")
    os.environ["HTT_CACHE"] = str(folder)
    yield folder
    os.environ.pop("HTT_CACHE") if before is None else os.environ.update(HTT_CACHE=before)


@pytest.fixture(scope="session")
def tiny_splits(cache):
    """Training and validation clips of the tiny benchmark, rendered once."""
    from htt.testing import tiny_config
    from htt.training.tasks import open_splits

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
