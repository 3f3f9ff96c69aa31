"""The best configuration of a finished run, as a table and as a file. Needs neither Ray nor a GPU.

::

    python tune/best.py search-quick-20260101-120000
    python tune/best.py RUN --metric action_accuracy --top 5 --out action.yaml
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # tune/ and cluster/ hold no top-level modules: the project's root does
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from dataclasses import dataclass
from typing import Annotated

import tyro

from htt import console
from htt.errors import ConfigError, RunError
from tune import report, results, table


@dataclass
class Options(console.Options):
    """Show the best trials of a run and write the best configuration."""

    run: Annotated[str, tyro.conf.Positional]
    """The run: its name in runs/, or its folder."""
    top: int = 10
    """Trials to show."""
    metric: str | None = None
    """What to select by; none: what the search selected by."""
    out: Path | None = None
    """Where to write the configuration; none: the run's best.yaml, or best-<metric>.yaml for another metric."""


def main(options: Options) -> None:
    """Show the table and write the file."""
    if options.top < 1:
        raise ConfigError(f"--top must be 1 or more; got {options.top}.")
    folder = results.find(options.run)
    asked, trials = folder.asked(), folder.trials()
    metric = options.metric or asked.metric
    recorded = list(dict.fromkeys(name for trial in trials for name in trial.metrics))
    results.check_metric(metric, recorded or None)
    order = results.ranked(trials, metric)
    if not order:
        raise RunError(f"At least one trial must have given {metric}; none of the {len(trials)} in {folder.path} did.")
    table.show(trials, metric, options.top)
    chosen = folder.best if metric == asked.metric else folder.path / f"best-{metric}.yaml"
    out = options.out or chosen
    results.write_text(out, results.best_text(asked, order[0], metric, len(trials)))
    console.out.print(f"\nBest configuration  {report.shown(out)}\n\nNext:")
    console.out.print(f"  python cluster/launch.py --config {report.shown(out)}", markup=False)


if __name__ == "__main__":
    console.run(Options, main)
