"""Command that checks the machines before anything starts on them.

::

    python -m cluster.preflight                                                  # this machine
    python -m cluster.preflight --address auto --config best.yaml --storage s3://bucket/runs
    ray job submit --address http://127.0.0.1:8265 --working-dir . -- python -m cluster.preflight --storage /shared/runs
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from htt import console
from htt.errors import ConfigError


@dataclass
class Options(console.Options):
    """Check that every machine of a cluster is ready; exits with 2 if one is not."""

    config: console.OptionalPath = None
    """YAML file of the configuration to train, such as runs/<name>/best.yaml (default: no data are checked)."""
    preset: console.OptionalText = None
    """Preset to train instead, a module of htt/presets."""
    set: console.Assignments = field(default_factory=list)
    """Change a field, as in --set data.root=/data/h2o-shards; may be repeated."""
    storage: str = "runs"
    """Folder or URI (s3://, gs://) that all machines must be able to write to."""
    address: console.OptionalText = None
    """Ray cluster to join, "auto" or host:port (default: this machine)."""
    json: bool = False
    """Print the reports of all machines, as JSON."""


def main(options: Options) -> None:
    """Check the machines and print the result."""
    if options.config and options.preset:
        raise ConfigError("Expected at most one of --config FILE and --preset NAME; got both.")
    loading = console.print_later()
    from cluster import connect  # imported late: Ray takes seconds to import, and --help must be fast
    from cluster.preflight import check, nodes
    from cluster.preflight.faults import find_faults
    from htt.config import Config, override, parse_set, read
    from htt.registry import preset

    loading.cancel()
    start = read(options.config) if options.config else preset(options.preset) if options.preset else Config()
    config = override(start, parse_set(options.set))
    with connect.connect(options.address, train=False):
        machines = nodes.nodes()
        required = check.requirements([config], machines, storage=options.storage)
        driver, reports = check.collect(machines, required)
    faults = find_faults(reports, driver, required)
    if options.json:
        plain = {"driver": driver.plain(), "machines": [each.plain() for each in reports]}
        console.out.print_json(json.dumps({**plain, "faults": list(map(asdict, faults))}))
    check.raise_faults(faults)
    if not options.json:
        console.out.print(check.ready_message(machines, required), markup=False)


if __name__ == "__main__":
    console.run(Options, main)
