"""Command line of ``tune.reports.report``."""

from htt import console
from tune.reports.report import Options, main

if __name__ == "__main__":
    console.run(Options, main)
