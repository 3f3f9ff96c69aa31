"""What a retraining shows on a terminal in the end: fresh seeds beside the search's own number."""

from __future__ import annotations

import shlex

from htt import console
from tune import columns, listing, retrain_report, words
from tune.retrained import TEST, Retrained


def show(found: Retrained) -> None:
    """Print what the fresh seeds gave on both splits, which failed, and where the report is."""
    if found.done:
        title = f"Trial {found.found_by['trial']} with {words.plural(len(found.done), 'fresh seed')}"
        console.out.print(f"\n[bold]{title}[/]")
        heads, rows = retrain_report.table(found)
        columns.show([heads, *rows])
        console.out.print("")
        for line in retrain_report.in_short(found):
            console.out.print(line, markup=False)
        console.out.print(
            "The search's number was picked from many and so is optimistic; the test split had no part in any choice."
        )
    for warning in found.incomplete:
        console.err.print(f"[bold yellow]warning:[/] {console.escape(warning)}")
    for seed, why in found.failed.items():
        console.out.print(f"Failed: seed {seed}: {why}", markup=False)
    path = listing.shown(found.path)
    console.out.print(f"\nReport  {path}/report.md\nPage    {path}/report.html", markup=False)
    for seed in found.done[:1]:
        console.out.print(f"Models  {path}/seed-{seed}/checkpoint, and of every other seed", markup=False)
        split = "test" if found.metrics(TEST) else "val"
        checkpoint = f"{path}/seed-{seed}/checkpoint"
        command = ["python", "-m", "htt.evaluate", "--checkpoint", checkpoint, "--split", split]
        console.out.print(f"\nNext:\n  {shlex.join(command)}", markup=False)
