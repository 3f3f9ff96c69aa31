"""Command line of ``cluster.preflight.check``."""

from cluster.preflight.check import Options, main
from htt import console

if __name__ == "__main__":
    console.run(Options, main)
