"""Terminal output at the end of a retraining: results of the fresh seeds beside the search's own number."""

from __future__ import annotations

import shlex

from htt import console
from htt.text import plural
from tune.reports import commands, retrain
from tune.results.retrain import TEST, Retraining


def show(found: Retraining) -> None:
    """Print the results of the fresh seeds on both splits, the failed seeds, and the path of the report."""
    if found.done:
        title = f"Trial {found.found_by['trial']} with {plural(len(found.done), 'fresh seed')}"
        console.out.print(f"\n{title}", style="bold")
        table = retrain.table(found, retrain.shown(found))
        console.out.print(table.terminal(console.width()), markup=False)
        console.out.print("")
        for line in retrain.in_short(found):
            console.print_folded(line)
        console.print_folded(
            "The search's value is the best of many and so optimistic; the test split was not used for selection."
        )
    for warning in found.incomplete:
        console.print_message("warning:", warning)
    for seed, why in found.failed.items():
        console.out.print(f"Failed: seed {seed}: {why}", markup=False)
    path = commands.relative(found.path)
    console.out.print(f"\nReport  {path}/report.md\nPage    {path}/report.html", markup=False)
    for seed in found.done[:1]:
        console.out.print(f"Models  {path}/seed-{seed}/checkpoint, and of every other seed", markup=False)
        split = "test" if found.metrics(TEST) else "val"
        checkpoint = f"{path}/seed-{seed}/checkpoint"
        command = ["python", "-m", "htt.evaluate", "--checkpoint", checkpoint, "--split", split]
        console.out.print(f"\nNext:\n  {shlex.join(command)}", markup=False)
