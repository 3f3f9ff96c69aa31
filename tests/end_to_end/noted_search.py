"""``tune/search.py`` with the stand-in training of the tests, which notes its host: submitted as a job of a cluster."""

import socket
import sys
from pathlib import Path

if __name__ == "__main__":
    tests = Path(__file__).resolve().parents[1]
    sys.path[0] = str(tests.parent)
    sys.path.append(str(tests / "tune"))

import fake_training
import ray.cloudpickle

import tune.spaces
from htt import console
from tune import runner, search
from tune.trial import Training


def train(config, folder, report, resume=None):
    fake_training.note(config, {"trial": folder.name, "host": socket.gethostname()})
    fake_training.train(config, folder, report, resume)


if __name__ == "__main__":
    ray.cloudpickle.register_pickle_by_value(fake_training)  # workers find the project, not what is beside its tests
    tune.spaces.__path__.append(str(tests / "tune" / "spaces"))
    runner.project_training = lambda: Training(train, fake_training.trainer, fake_training.prepare)
    console.run(search.Options, search.main)
