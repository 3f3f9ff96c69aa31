"""``tune/best.py`` with the stand-in for final trainings, for a test that kills it; run as a script."""

import fake_final
from htt import console
from tune import best
from tune.execution import retrain

if __name__ == "__main__":
    retrain.RetrainFunctions = lambda made=retrain.RetrainFunctions: made(fake_final.run, fake_final.prepare)
    console.run(best.Options, best.main)
