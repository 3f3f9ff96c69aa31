"""Compute the features of a frozen encoder once, for all trials and machines.

::

    python -m htt.data.encode --data SHARDS --backbone facebook/dinov2-small --weights FOLDER --out FEATURES
    python -m htt.data.encode --data SHARDS --backbone resnet18 --weights weights.pth --views 4 --out s3://bucket/features

A search or training with ``model.backbone.trained=false`` computes missing features by itself and keeps them in the
cache. This command is for data so large that every machine should stream them from one place. Repeat it to resume an
interrupted encoding.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from htt import console
from htt.config import Config, flatten, override, parse_set
from htt.data.publish import publish
from htt.data.shards import manifest
from htt.data.store.remote import Remote, is_remote
from htt.text import plural


@dataclass
class Options(console.Options):
    """Compute the features of a frozen encoder for all images of a data set."""

    data: str
    """Folder or URI of converted shards of frames."""
    out: str
    """Folder or URI for the shards of features; runtime.features of a training."""
    backbone: str = "resnet18"
    """Encoder: a module of htt/model/backbones, a hub name or a local folder."""
    weights: console.OptionalText = None
    """Weights of the encoder: a file, a folder or a hub name (default: those of the hub name)."""
    views: int = 0
    """Augmented copies of each training clip, in addition to its plain images."""
    set: console.Assignments = field(default_factory=list)
    """Set a field of the configuration, as in --set model.backbone.normalise=imagenet; repeat for more."""
    workers: console.OptionalInt = None
    """Clips encoded at once (default: one per GPU, or per core without GPUs)."""


def main(options: Options) -> None:
    """Encode the images, copy the features to an object store if one is named, and print the next command."""
    from htt.training.encoding import encoded  # imported late: torch takes seconds, and --help must be fast

    values = _values(options)
    config = override(Config(), values)
    remote = Remote(options.out, name="--out") if is_remote(options.out) else None
    root = encoded(config, options.workers, out=None if remote else Path(options.out).expanduser())
    if remote:
        publish(root, remote)
    made = manifest.read(root)
    assert made.encoding is not None
    frames = sum(made.count(split)[1] for split in made.splits)
    console.out.print(
        f"{frames:,} frames as {made.encoding.width} values each, {plural(made.encoding.views, 'augmented view')}, in "
        f"{options.out}",
        markup=False,
    )
    if options.views:  # the copies depend on the augmentation, which a preset or space may change
        values |= {path: value for path, value in flatten(config).items() if path.startswith("data.augment.")}
    words = [
        f"--set {shlex.quote(f'{path}={json.dumps(value) if isinstance(value, bool) else value}')}"
        for path, value in values.items()
        if value is not None
    ]
    words.append(f"--set {shlex.quote(f'runtime.features={options.out}')}")
    console.out.print(f"\nNext:\n  python tune/search.py {' '.join(words)}", markup=False)


def _values(options: Options) -> dict[str, Any]:
    """Return the fields that a training on these features must have."""
    from htt.data.location import local_folder

    source = manifest.read(local_folder(options.data, name="--data"), "--data").source
    return {
        "data.source": source,
        "data.root": options.data,
        "data.augment.views": options.views,
        "model.backbone.name": options.backbone,
        "model.backbone.weights": options.weights,
        "model.backbone.trained": False,
        "model.backbone.batch_norm": "frozen",
        **parse_set(options.set),
    }


if __name__ == "__main__":
    console.run(Options, main)
