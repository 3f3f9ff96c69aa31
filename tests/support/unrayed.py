"""Search with the stand-in training and without Ray: what Tune does for one trial after the other, in a loop.

It knows no scheduler, no retry and no lost worker: those are tested with Ray, in ``test_search.py``.
"""

import contextlib

import polars as pl
from ray.tune.experiment import Experiment

from fake_training import BASE, clips_of, diverges, metrics_of
from htt.config import override
from report_folders import leave_undrawn
from tune.execution import experiment, runner
from tune.execution.trainable import ERROR
from tune.experiments.space import Choice, Space
from tune.searchers.generator import EPOCH

CUES = {"model.action.cues": Choice(["hands"], ["hands", "object"])}
FINITE = Space(
    {"optim.lr": Choice(1e-3, 1e-2), **CUES}, base={**BASE, "optim.lr": 1e-3, "model.action.cues": ["hands"]}
)


def replace_tune(patch, trained, stop_at=None, *, clips=False, drawn=False):
    """Make experiments train in this process.

    Args:
        patch: a MonkeyPatch.
        trained: a list that takes the values of each trial that is trained.
        stop_at: {trial's place: epoch after which the scheduler stops it}.
        clips: whether checkpoints with the results of clips are left, as studies keep them.
        drawn: whether the figures of reports are drawn, which takes most of the time of such a run.
    """

    def tune(running, function, samples, scheduler, recorder):
        samples.add_configurations(Experiment("unrayed", lambda _: None, num_samples=samples.trials))
        recorder.on_step_begin(trials=[])
        while not samples.is_finished() and (trial := samples.next_trial()) is not None:
            trained.append(trial.config["values"])
            config = override(running.base, trial.config["values"])
            recorder.on_trial_start(trial=trial)
            for epoch in range(1, (stop_at or {}).get(len(trained), config.train.epochs) + 1):
                result = {**metrics_of(config, epoch), "time_total_s": 0.1 * epoch}
                if epoch == 2 and diverges(config):
                    result = {EPOCH: 1, running.metric: float("nan"), ERROR: "NonFiniteLossError: no"}
                trial.run_metadata.last_result = result
                samples.on_trial_result(trial.trial_id, result)
                recorder.on_trial_result(trial=trial, result=result)
                if ERROR in result:
                    break
            if clips and ERROR not in result:
                saved = running.storage.local / experiment.STATE / trial.trial_id / "checkpoint_000000"
                saved.mkdir(parents=True)
                pl.DataFrame(clips_of(config, epoch)).write_parquet(saved / "clips.parquet")
            samples.on_trial_complete(trial.trial_id, result)
            recorder.on_trial_complete(trial=trial)
            recorder.on_step_begin(trials=[])

    if not drawn:
        leave_undrawn(patch)
    patch.setattr(runner, "_tune", tune)
    patch.setattr(runner.connect, "connect", lambda *_, **__: contextlib.nullcontext())
    patch.setattr(runner.resources, "require", lambda *_: 1)
    patch.setattr(runner.resources, "machines", list)
    patch.setattr(runner.check, "check", lambda *_, **__: None)
