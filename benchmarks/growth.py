"""CPU time that a trial costs the driver, after none and after ten thousand others.

::

    python benchmarks/growth.py                             # writes benchmarks/results/growth.md
    python benchmarks/growth.py --before 0 1000 --trials 20 --no-result
    python benchmarks/growth.py --without-tune              # sampler, study, rows and screen alone; no Ray is started

The training is the stand-in of the tests: four epochs of no work, a checkpoint each. A run is given so many finished
trials, in its study and its table, and goes on with ``--trials`` more. What is measured is the processor time of the
driver between two trials that end, all its threads together, in the middle of those that went on. Where a machine is
shared, the clock on the wall says little and processor time somewhat more: numbers of one call compare.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":  # benchmarks/ holds no top-level modules: the project's root does
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import contextlib
import itertools
import statistics
import tempfile
import time

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial
from rich.console import Console

from benchmarks.result import header, write

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "support"))  # the stand-in, here and on the workers
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])

import unrayed  # noqa: E402
from cluster import connect  # noqa: E402
from fake_training import SPACE, TRAINING, metrics_of  # noqa: E402
from htt.config import override  # noqa: E402
from htt.data.location import data_key  # noqa: E402
from tune.execution import progress  # noqa: E402
from tune.execution import search as search_execution  # noqa: E402
from tune.experiments import spec  # noqa: E402
from tune.results import run_record  # noqa: E402
from tune.results.run_folder import RunFolder, Trial  # noqa: E402
from tune.searchers.distributions import Code  # noqa: E402
from tune.searchers.optuna_study import TUNE_ID, open_journal  # noqa: E402

WARM = 5
"""Trials that do not count: processes start, and TPE looks at what was there before."""


def fill(search: spec.SearchSpec, folder: RunFolder, count: int) -> None:
    """Write a run with a number of finished trials."""
    base = search.config()
    folder.path.mkdir(parents=True)
    folder.write_record(run_record.RunRecord(spec=search, **run_record.provenance()))
    codes = {path: Code(domain) for path, domain in SPACE.domains.items()}
    distributions = {path: code.distribution for path, code in codes.items()}
    study = optuna.create_study(study_name=folder.name, storage=open_journal(folder.journal), direction="minimize")
    draw = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    rows = []
    os.fsync, kept = (lambda _: None), os.fsync  # thousands of lines of a journal at once
    for number in range(1, count + 1):
        params = draw.ask(distributions).params
        values = {path: codes[path].decode(value) for path, value in params.items()}
        config = override(base, values)
        metrics = {name: value for name, value in metrics_of(config, 4).items() if name not in ("epoch", "seconds")}
        error, trial_id = metrics["hand_error_mm"], f"{number:08x}"
        study.add_trial(
            create_trial(
                params=params, distributions=distributions, value=error, state=TrialState.COMPLETE,
                user_attrs={TUNE_ID: trial_id}, intermediate_values={4: error},
            )
        )  # fmt: skip
        rows.append(
            Trial(
                id=trial_id, number=number, fingerprint=f"f{number}", state="complete", epochs=4, seconds=1.0,
                finished_s=float(number), values=values, metrics=metrics, best=metrics, curve=(error,) * 4,
                data=data_key(config),
            )
        )  # fmt: skip
    os.fsync = kept
    if rows:
        folder.write_trials(rows)


def measure(scratch: Path, before: int, trials: int) -> list[float]:
    """Return the processor time of each trial, s, after a number of others."""
    name = f"after-{before}"
    search = spec.SearchSpec(space="fake", name=name, trials=before + trials, scheduler="none")
    search = search.over(SPACE, {"optim.step_epochs": 1})
    fill(search, RunFolder(scratch / name), before)
    ended: list[float] = []
    said = progress.Display.on_end

    def on_end(*given: object) -> None:
        said(*given)  # type: ignore[arg-type]
        ended.append(time.process_time())

    progress.Display.on_end = on_end  # type: ignore[method-assign,assignment]
    try:
        show = Console(file=open(os.devnull, "w"), width=200)  # noqa: SIM115
        search_execution.run(search, runs=scratch, resume=True, training=TRAINING, show=show)
    finally:
        progress.Display.on_end = said  # type: ignore[method-assign]
    return [later - earlier for earlier, later in itertools.pairwise(ended)][WARM:]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=int, nargs="+", default=[0, 1000, 10_000])
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--no-result", action="store_true", help="print only")
    parser.add_argument("--without-tune", action="store_true", help="leave out what Tune costs")
    options = parser.parse_args(arguments)
    if options.without_tune:
        unrayed.replace_tune(pytest.MonkeyPatch(), [])
    found = {}
    ray = contextlib.nullcontext() if options.without_tune else connect.connect(cpus=2)
    with tempfile.TemporaryDirectory() as scratch, ray:
        for before in options.before:
            found[before] = measure(Path(scratch), before, options.trials)
            print(f"after {before}: {1000 * statistics.median(found[before]):.1f} ms", flush=True)
    first = statistics.median(next(iter(found.values())))
    rows = [
        f"| {before} | {1000 * statistics.median(times):.1f} ms | {1000 * np.quantile(times, 0.9):.1f} ms "
        f"| {statistics.median(times) / first:.2f} |"
        for before, times in found.items()
    ]
    lines = [
        *header(
            "What a trial costs the driver",
            " ".join(["python benchmarks/growth.py", *arguments]),
            ("ray", "optuna", "polars"),
        ),
        "Processor time of the driver between two trials that end (stand-in training, four epochs, a checkpoint each, "
        f"two at once; TPE). {options.trials - WARM - 1} trials each. The machine was shared with other "
        "work: these are processor seconds, not the clock's."
        + (" Without Tune's part, whose state holds the trials under way alone." if options.without_tune else ""),
        "",
        f"| trials before | median | 90 % below | against {next(iter(found))} before |",
        "| ---: | ---: | ---: | ---: |",
        *rows,
    ]
    write("growth", lines, keep=not options.no_result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
