"""Two workers of one training, without Ray."""

import subprocess
import sys

import pytest

from htt.config import to_yaml
from htt.training import checkpoint
from htt.training.loop import fit

WORKER = """
import os, sys, torch, torch.distributed
from pathlib import Path
import htt.model.backbones.resnet_tiny  # that of the trainings: transformers takes seconds, once for both
from htt.config import read
from htt.group import Group
from htt.training import loop
from htt.training.loop import fit
from htt.training.tasks import open_splits
from htt.training.saving import Saving
folder, stop_after = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
loop.COMPILER = "aot_eager"  # with its forward and backward graph, and without a C++ compiler
child = os.fork()  # once all is imported, which takes seconds, and before there are threads
rank = 0 if child else 1
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
config = read(folder / "config.yaml")
reports, kept = [], []
class Stop(Exception): pass
def keep(saved):
    kept.append(saved)
    if len(kept) == stop_after:
        raise Stop
saving = Saving(keep, noticed=lambda: False, every_s=0.0) if stop_after else None
try:
    fit(config, open_splits(config), lambda metrics, saved: reports.append((metrics, saved)), folder=folder,
        group=Group(rank, 2), saving=saving)
    said = {name: value for name, value in reports[-1][0].items() if "seconds" not in name}
except Stop:
    said = len(kept)
assert all((saved is None) == (rank == 1) for saved in kept + [saved for _, saved in reports])
torch.distributed.destroy_process_group()
(folder / f"said-{rank}").write_text(str(said))
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture
def two_workers():
    """Train with two workers, to the end or until so many steps have been saved; gives the model that is saved then."""

    def train(config, folder, *, stop_after=0):
        (folder / "config.yaml").write_text(to_yaml(config))
        command = [sys.executable, "-c", WORKER, str(folder), str(stop_after)]
        subprocess.run(command, check=True, timeout=600)
        said = [(folder / f"said-{rank}").read_text() for rank in (0, 1)]
        assert said[0] == said[1]
        return checkpoint.load(folder / "checkpoint")[0]

    return train


@pytest.fixture(scope="session")
def train():
    """Train in this process, to the end or until an epoch was reported; gives the reports, and the model at the end."""

    class StoppedError(Exception):
        pass

    def run(config, splits, folder, *, stop_after=None, **how):
        reports = []

        def report(metrics, saved):
            reports.append(metrics)
            assert checkpoint.read(saved).progress.epoch == metrics["epoch"]
            if metrics["epoch"] == stop_after:
                raise StoppedError

        try:
            return reports, fit(config, splits, report, folder=folder, **how)
        except StoppedError:
            return reports, None

    return run
