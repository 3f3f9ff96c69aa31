"""Report of a run, either a search or a study, from its folder alone.

::

    python -m tune.reports search-quick-20260101-120000        # write report.md and report.html again
    python -m tune.reports NAME --storage s3://bucket/runs     # a run that is only in a bucket
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from htt import console
from tune.reports.commands import relative
from tune.results.run_folder import RunFolder
from tune.results.sync import locate


@dataclass
class Options(console.Options):
    """Write the report of a run again, from what its folder holds."""

    run: Annotated[str, tyro.conf.Positional]
    """The run: its name in runs/, or its folder."""
    storage: console.OptionalText = None
    """Folder or URI (s3://, gs://) of the runs, as the run had it (default: runs). The report is written here."""


def write(folder: RunFolder) -> None:
    """Write the report of a run: ``report.md`` and ``report.html``, and for a study ``report.tex`` and ``report.csv``.

    Raises:
        RunError: the folder holds no readable run.
        StorageError: the disk is full or not writable.
    """
    from tune.reports import search, study  # imported late: matplotlib loads slowly, and only writing needs it

    (study if folder.record.kind == "study" else search).write(folder)


def main(options: Options) -> None:
    """Write the report and print the paths of its files."""
    folder = locate(options.run, options.storage)
    write(folder)
    console.out.print(f"Report  {relative(folder.report)}", markup=False)
    console.out.print(f"Page    {relative(folder.report.with_suffix('.html'))}", markup=False)
