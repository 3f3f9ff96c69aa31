"""``tune/search.py`` and ``tune/ablate.py`` with the stand-in training, for tests that kill them; run as a script."""

import sys
from pathlib import Path

from fake_training import TRAINING

import tune.spaces
import tune.studies
from htt import console
from tune import ablate, ablation, runner, search

if __name__ == "__main__":
    here = Path(__file__).parent
    tune.spaces.__path__.append(str(here / "spaces"))
    tune.studies.__path__.append(str(here / "studies"))
    runner.project_training = ablation.project_training = lambda: TRAINING
    script, words = (ablate, sys.argv[2:]) if sys.argv[1:2] == ["ablate"] else (search, sys.argv[1:])
    console.run(script.Options, script.main, words)
