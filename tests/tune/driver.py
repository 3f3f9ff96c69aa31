"""``tune/search.py`` with the stand-in training, for tests that kill it; run as a script."""

import sys
from pathlib import Path

from fake_training import TRAINING

import tune.spaces
from htt import console
from tune import runner, search

if __name__ == "__main__":
    tune.spaces.__path__.append(str(Path(__file__).parent / "spaces"))
    runner.project_training = lambda: TRAINING
    console.run(search.Options, search.main, sys.argv[1:])
