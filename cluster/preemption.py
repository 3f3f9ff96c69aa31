"""Command that tells Ray when the cloud takes this machine back, so that trainings can save their state in time.

::

    python -m cluster.preemption --cloud aws &   # on every spot machine, after `ray start`; the cluster files do this

The cloud notifies a spot machine before it stops it: two minutes before on AWS, half a minute before on Google Cloud.
From then on Ray places nothing new on the machine, and a final training saves a checkpoint (``htt.training.saving``).

Sources: AWS EC2 user guide, "Spot Instance interruption notices"; Google Compute Engine, "Detect if a VM is preempted".
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from htt import console
from htt.errors import ClusterError

POLL_S = 5.0
"""Interval between two queries of the metadata service, s, as AWS recommends."""
BACKOFF = 12
"""Factor on this interval while the metadata service refuses to answer."""
ANSWER_S = 2.0
"""Timeout of one query, s; the machine's host answers metadata queries immediately."""
GOOGLE_S = 30.0
"""Time between Google's notice and the end of the machine, s."""
MARGIN_S = 5.0
"""Part of the remaining time that is reserved for the shutdown of the machine, s."""
AWS = "http://169.254.169.254"
GOOGLE = "http://metadata.google.internal"


@dataclass
class Options(console.Options):
    """Wait for the cloud's preemption notice for this machine, report it to Ray, and exit."""

    cloud: Literal["aws", "gcp"] = "aws"
    """Cloud of this machine."""


def main(options: Options) -> None:
    """Wait for the notice, then drain the node."""
    left_s = wait(CLOUDS[options.cloud])
    console.out.print(f"The cloud stops this machine in {left_s:.0f} s; draining its Ray node.")
    drain(left_s)


def wait(query: Callable[[], float | None], poll_s: float = POLL_S) -> float:
    """Query the cloud until it announces the end of this machine; return the seconds left, less ``MARGIN_S``.

    A metadata service that does not answer is queried again. One that refuses, or whose answer cannot be parsed, is
    reported once and queried less often.
    """
    refused = False
    while True:
        try:
            left_s = query()
            refused = False
        except (urllib.error.HTTPError, ValueError, KeyError) as error:
            left_s = None
            if not refused:
                console.err.print(
                    f"Cannot read preemption notices: the cloud's metadata service answers with {error}. Allow this "
                    "machine to query the service, or stop this command: trainings then resume from their last "
                    f"checkpoint. The service is queried every {poll_s * BACKOFF:g} s from now on.",
                    markup=False,
                )
            refused = True
        except OSError:
            left_s = None
        if left_s is not None:
            return max(left_s - MARGIN_S, 0.0)
        time.sleep(poll_s * (BACKOFF if refused else 1))


def aws(base: str = AWS) -> float | None:
    """Return the seconds until this EC2 machine is stopped, or None if there is no notice."""
    token = _ask(f"{base}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, method="PUT")
    notice = _ask(f"{base}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token or ""})
    if notice is None:
        return None
    ends = datetime.strptime(json.loads(notice)["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    return (ends - datetime.now(timezone.utc)).total_seconds()


def gcp(base: str = GOOGLE) -> float | None:
    """Return the seconds until this Google machine is stopped, or None if there is no notice."""
    preempted = _ask(f"{base}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return GOOGLE_S if preempted == "TRUE" else None


CLOUDS: Mapping[str, Callable[[], float | None]] = {"aws": aws, "gcp": gcp}


def drain(left_s: float, pause_s: float = POLL_S) -> None:
    """Make Ray drain this node, which is stopped in ``left_s`` seconds; retry while there is time.

    Raises:
        ClusterError: Ray did not accept the notice in time.
    """
    words = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "the cloud takes this machine back"]
    ends = time.monotonic() + left_s
    while True:
        remaining_s = str(max(0, int(ends - time.monotonic())))
        done = subprocess.run(["ray", "drain-node", *words, "--deadline-remaining-seconds", remaining_s], check=False)
        if done.returncode == 0:
            return
        if time.monotonic() + pause_s > ends:
            raise ClusterError(
                f"Cannot report the preemption to Ray: `ray drain-node` failed with exit code {done.returncode} in "
                "every attempt. Trainings resume from their last checkpoint. Look for the reason with: ray status."
            )
        time.sleep(pause_s)


def _ask(url: str, headers: Mapping[str, str], method: str = "GET") -> str | None:
    """Return the answer of the metadata service, or None for status 404."""
    request = urllib.request.Request(url, headers=dict(headers), method=method)
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


if __name__ == "__main__":
    console.run(Options, main)
