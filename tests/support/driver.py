"""``tune/search.py`` and ``tune/ablate.py`` with the stand-in training, for tests that kill them; run as a script."""

import sys
from pathlib import Path

import tune.experiments.spaces
import tune.experiments.studies
from fake_training import TRAINING
from htt import console
from tune import ablate, search
from tune.execution import search as search_execution
from tune.execution import study

if __name__ == "__main__":
    here = Path(__file__).parent
    tune.experiments.spaces.__path__.append(str(here / "spaces"))
    tune.experiments.studies.__path__.append(str(here / "studies"))
    search_execution.project_functions = study.project_functions = lambda: TRAINING
    script, words = (ablate, sys.argv[2:]) if sys.argv[1:2] == ["ablate"] else (search, sys.argv[1:])
    console.run(script.Options, script.main, words)
