"""Tell Ray when the cloud takes this machine back, so that trainings save themselves while they can.

::

    python -m cluster.preemption --cloud aws &   # on every spot machine, after its `ray start`: the cluster files do it

A spot machine learns from its cloud that it will be gone, two minutes before on AWS, half a minute on Google Cloud.
From then on Ray places nothing new on it, and a final training saves where it stands (``htt.training.saving``).

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
"""As AWS advises."""
SLOWER = 12
"""So many times longer between questions to a cloud that refuses to answer."""
ANSWER_S = 2.0
"""A cloud's metadata are answered by the machine's own host, at once."""
GOOGLE_S = 30.0
"""What Google leaves a machine after its notice."""
MARGIN_S = 5.0
"""Of the time that is left, kept for the machine's own end."""
AWS = "http://169.254.169.254"
GOOGLE = "http://metadata.google.internal"


@dataclass
class Options(console.Options):
    """Wait for the cloud's notice that this machine goes, and tell Ray; ends with it."""

    cloud: Literal["aws", "gcp"] = "aws"
    """Whose machine this is."""


def main(options: Options) -> None:
    """Wait, and tell."""
    left_s = wait(CLOUDS[options.cloud])
    console.out.print(f"This machine will be gone in {left_s:.0f} s; telling Ray.")
    drain(left_s)


def wait(look: Callable[[], float | None], poll_s: float = POLL_S) -> float:
    """Ask the cloud until it says that the machine goes; the seconds that are left are returned.

    A cloud that does not answer is asked again. One that refuses to, or says what cannot be read, is named once, and
    asked more seldom.
    """
    refused = False
    while True:
        try:
            left_s = look()
            refused = False
        except (urllib.error.HTTPError, ValueError, KeyError) as error:
            left_s = None
            if not refused:
                console.err.print(
                    f"The cloud must say when it takes this machine back; its metadata service answers with {error}. "
                    "Allow this machine to ask it, or end this command: trainings then go on from what they saved "
                    f"last. It is asked every {poll_s * SLOWER:g} s from now on.",
                    markup=False,
                )
            refused = True
        except OSError:
            left_s = None
        if left_s is not None:
            return max(left_s - MARGIN_S, 0.0)
        time.sleep(poll_s * (SLOWER if refused else 1))


def aws(base: str = AWS) -> float | None:
    """Seconds until this EC2 machine goes; none, as long as nobody wants it back."""
    token = _ask(f"{base}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, method="PUT")
    said = _ask(f"{base}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token or ""})
    if said is None:
        return None
    ends = datetime.strptime(json.loads(said)["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    return (ends - datetime.now(timezone.utc)).total_seconds()


def gcp(base: str = GOOGLE) -> float | None:
    """Seconds until this Google machine goes; none, as long as nobody wants it back."""
    said = _ask(f"{base}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return GOOGLE_S if said == "TRUE" else None


CLOUDS: Mapping[str, Callable[[], float | None]] = {"aws": aws, "gcp": gcp}


def drain(left_s: float, pause_s: float = POLL_S) -> None:
    """Tell Ray that this machine goes, and when; a Ray that does not answer is told again, while there is time.

    Raises:
        ClusterError: it never took the notice.
    """
    words = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "the cloud takes this machine back"]
    ends = time.monotonic() + left_s
    while True:
        remaining_s = str(max(0, int(ends - time.monotonic())))
        told = subprocess.run(["ray", "drain-node", *words, "--deadline-remaining-seconds", remaining_s], check=False)
        if told.returncode == 0:
            return
        if time.monotonic() + pause_s > ends:
            raise ClusterError(
                f"Ray must take the notice that its machine goes; `ray drain-node` left with {told.returncode} until "
                "the end. Trainings go on from what they saved last; see why with: ray status."
            )
        time.sleep(pause_s)


def _ask(url: str, headers: Mapping[str, str], method: str = "GET") -> str | None:
    """What the metadata server says; none, where it knows nothing of that."""
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
