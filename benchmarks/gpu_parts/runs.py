"""Parts that start trainings and searches in processes of their own, as a user does."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpu_parts.setting import Setting
from htt.config import Config, override, to_yaml
from htt.training import checkpoint
from htt.training.encoding import data_folder
from tune.experiments.spaces.quick import FROZEN, SPACE
from tune.results.run_folder import RunFolder
from tune.results.selection import ranked

SEARCH = Path(__file__).parents[2] / "tune" / "search.py"
TRAIN = """
import sys
from pathlib import Path
from htt.config import read
from htt.training.tasks import train
folder = Path(sys.argv[1])
resume = folder / "checkpoint" if len(sys.argv) > 2 else None
def report(metrics, saved):
    print("epoch", metrics["epoch"], metrics["train_seconds"], metrics["loss"], flush=True)
train(read(folder / "config.yaml"), folder, report, resume)
print("done", flush=True)
"""
"""Program that trains the configuration in a folder, from its checkpoint if a second argument is given."""
FEW_CLIPS = {"data.synthetic.train_clips": 36, "data.synthetic.val_clips": 36, "data.synthetic.test_clips": 1,
             "data.synthetic.frames": 8}  # fmt: skip
"""Data of a search of the tiny size."""
AROUND_S = 35.0
"""Duration of a search without its trials: start of Ray, report."""


def data(setting: Setting) -> Iterator[str]:
    """Render the benchmark and encode its features, on which the next parts train, unless they are in the cache."""
    for name, values in (("rendered", {}), ("encoded", FROZEN)):
        began = time.monotonic()
        _prepare(setting, _config(setting, values))
        yield f"- {name} in {time.monotonic() - began:.0f} s"


def features_trial(setting: Setting) -> Iterator[str]:
    """Train a trial of the default search on stored features."""
    config = _config(setting, {**FROZEN, "train.epochs": 2 if setting.tiny else 4})
    _prepare(setting, config)
    began = time.monotonic()
    last = _trained(setting, config, "features")
    yield (
        f"{config.train.epochs} epochs on features of rendered clips: {time.monotonic() - began:.0f} s with the start "
        f"of the process; the training part of the last epoch {float(last[2]):.2f} s."
    )


def resume(setting: Setting) -> Iterator[str]:
    """Kill a training after its first epoch, resume it, and compare with an undisturbed one."""
    config = _config(setting, {"train.epochs": 3, "train.deterministic": True})
    _prepare(setting, config)
    folders = [setting.scratch / "whole", setting.scratch / "killed"]
    whole = _started(folders[0], config)
    with _started(folders[1], config) as child:
        try:
            while child.stdout and (line := child.stdout.readline()) and not line.startswith("epoch 1"):
                pass
        finally:
            child.kill()
    _ended(whole)
    _ended(_started(folders[1], config, "resume"))
    one, other = (checkpoint.load(folder / "checkpoint")[0].state_dict() for folder in folders)
    worst = max(float((one[name].double() - other[name].double()).abs().max()) for name in one)
    yield f"Killed after an epoch and resumed, with `train.deterministic`: weights differ by at most {worst:.1e}."
    if worst:
        raise RuntimeError(f"a resumed training differs by {worst:.1e}")


def sharing(setting: Setting) -> Iterator[str]:
    """Train twice side by side on one device, and twice one after the other."""
    config = _config(setting, {**FROZEN, "train.epochs": 1 if setting.tiny else 4})
    _prepare(setting, config)
    began = time.monotonic()
    for number in (1, 2):
        _trained(setting, config, f"alone-{number}")
    alone = time.monotonic() - began
    yield f"Two trainings one after the other: {alone:.1f} s, with the start of each process."
    began = time.monotonic()
    _trained(setting, config, "beside-1", "beside-2")
    beside = time.monotonic() - began
    yield f"Side by side on one device: {beside:.1f} s; ratio **{beside / alone:.2f}**."


def fractions(setting: Setting) -> Iterator[str]:
    """Run a search whose trials have two workers on half a GPU each: the workers of a trial share the GPU by gloo."""
    gpus = ["--gpus-per-trial", "1"] if setting.gpu else []
    words = ["--workers-per-trial", "2", *gpus, "--cpus-per-worker", "0.5", "--trials", "1"]
    folder, seconds = _search(setting, "fractions", [*words, "--set", "train.epochs=1"])
    states = [trial.state for trial in folder.trials()]
    if states != ["complete"]:
        raise RuntimeError(f"its trials ended as {states}: {[trial.error for trial in folder.trials()]}")
    yield f"A trial of two workers on half a GPU each ended complete, in {seconds:.0f} s with the start of Ray."


def search(setting: Setting) -> Iterator[str]:
    """Run the default search twice, each for half of the time that is left, or once if it is tiny; give the best."""
    budget_s = max(10.0, setting.limit_s / 2 - AROUND_S)
    limit = ["--trials", "2", "--set", "train.epochs=1"] if setting.tiny else ["--time-budget", f"{budget_s:.0f}s"]
    shared = ["--gpus-per-trial", "0.25"] if setting.gpu else []
    yield f"The default search with {' '.join([*limit, *shared])}."
    yield from ("", "| seed | seconds | trials | failed | hand error, mm | actions, % |", "|---|---|---|---|---|---|")
    errors = []
    for seed in (0,) if setting.tiny else (0, 1):
        folder, seconds = _search(setting, f"seed-{seed}", [*limit, *shared, "--seed", str(seed), "--finalists", "0"])
        trials = folder.trials()
        best = ranked(trials, "hand_error_mm")[0]
        failed = [str(trial.error) for trial in trials if trial.state == "failed"]
        errors += failed
        yield (
            f"| {seed} | {seconds:.0f} | {len(trials)} | {len(failed)} | {best.metrics['hand_error_mm']:.1f} | "
            f"{100 * best.metrics['action_accuracy']:.1f} |"
        )
    if errors:
        raise RuntimeError(f"{len(errors)} trials failed: {errors[0]}")


def _config(setting: Setting, values: Mapping[str, Any]) -> Config:
    """Return the base of the default search, or a tiny configuration, with an encoder that is trained."""
    own = {**SPACE.base, "model.backbone.trained": True, "data.augment.views": None}
    base = setting.config if setting.tiny else override(Config(), own)
    return override(base, {"runtime.tensorboard": False, **values})


def _prepare(setting: Setting, config: Config) -> None:
    """Render and encode what is missing in the cache; the tiny data without Ray."""
    data_folder(config, workers=1 if setting.tiny else None)


def _started(folder: Path, config: Config, *more: str) -> subprocess.Popen[str]:
    """Start a training in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(to_yaml(config))
    return subprocess.Popen([sys.executable, "-c", TRAIN, str(folder), *more], stdout=subprocess.PIPE, text=True)


def _ended(child: subprocess.Popen[str]) -> list[str]:
    """Wait for a training; return the words of its last epoch."""
    lines = child.communicate()[0].splitlines()
    if child.returncode or lines[-1:] != ["done"]:
        raise RuntimeError(f"a training left with {child.returncode}; its error is above")
    return lines[-2].split() if len(lines) > 1 else []


def _trained(setting: Setting, config: Config, *names: str) -> list[str]:
    """Train in processes side by side, one per folder; return the words of the last epoch of the first."""
    children = [_started(setting.scratch / name, config) for name in names]
    lasts = [_ended(child) for child in children]
    return lasts[0]


def _search(setting: Setting, name: str, options: Sequence[str]) -> tuple[RunFolder, float]:
    """Run a search; return its folder and its duration, s."""
    few = [word for path, value in FEW_CLIPS.items() for word in ("--set", f"{path}={value}")] if setting.tiny else []
    began = time.monotonic()
    command = [sys.executable, str(SEARCH), "--name", name, *options, *few]
    done = subprocess.run(command, cwd=setting.scratch, capture_output=True, text=True, check=False)
    if done.returncode:
        text = " ".join((done.stdout + done.stderr).split())
        raise RuntimeError(f"the search left with {done.returncode}: {text[-250:]}")
    return RunFolder(setting.scratch / "runs" / name), time.monotonic() - began
