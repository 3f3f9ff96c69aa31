"""``tune/search.py`` with the stand-in training of the tests, which notes its host: submitted as a job of a cluster."""

import socket
import sys
from pathlib import Path

if __name__ == "__main__":
    tests = Path(__file__).resolve().parents[1]
    sys.path[0] = str(tests.parent)
    sys.path.append(str(tests / "support"))

import ray.cloudpickle

import fake_training
import tune.experiments.spaces
from htt import console
from tune import search
from tune.execution import search as search_execution
from tune.execution.trainable import TrialFunctions


def train(config, folder, report, resume=None):
    fake_training.note(config, {"trial": folder.name, "host": socket.gethostname()})
    fake_training.train(config, folder, report, resume)


if __name__ == "__main__":
    ray.cloudpickle.register_pickle_by_value(fake_training)  # workers find the project, not what is beside its tests
    tune.experiments.spaces.__path__.append(str(tests / "support" / "spaces"))
    search_execution.project_functions = lambda: TrialFunctions(train, fake_training.trainer, fake_training.prepare)
    console.run(search.Options, search.main)
