"""The controller drops trials whose rows are on disk, and no others."""

from types import SimpleNamespace

import ray.tune.tune
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial

from tune.execution.controller import DroppingController, forgetting


class Loop(DroppingController):
    """As much of the loop as forgetting looks at."""

    def __init__(self, trials, written, busy=()):
        self.forgotten = set()
        self._is_written, self._forgot = written.__contains__, self.forgotten.add
        self._trials = list(trials)
        self._stopped_trials = {trial for trial in trials if trial.status == Trial.TERMINATED}
        self._failed_trials = {trial for trial in trials if trial.status == Trial.ERROR}
        self._live_trials = {trial for trial in trials if trial.status == Trial.RUNNING}
        self._trials_to_cache = set(trials)
        self._trial_metadata = {trial.trial_id: "state" for trial in trials}
        self._trial_to_actor = dict.fromkeys(busy)

    def _cleanup_cached_actors(self, force_all=False):
        """None is there."""

    _cleanup_stopping_actors = _cleanup_cached_actors


def trials(*states):
    made = []
    for place, state in enumerate(states):
        trial = Trial("stand-in", stub=True, trial_id=str(place))
        trial.status = state
        made.append(trial)
    return made


def test_controller_keeps_running_unrecorded_and_newest_trials(tmp_path):
    ended, failed, running, unwritten, stopping, newest = those = trials(
        Trial.TERMINATED, Trial.ERROR, Trial.RUNNING, Trial.TERMINATED, Trial.TERMINATED, Trial.TERMINATED
    )
    for trial in those:
        trial.storage = SimpleNamespace(trial_driver_staging_path=str(tmp_path / trial.trial_id))
        (tmp_path / trial.trial_id).mkdir()
    loop = Loop(those, written={"0", "1", "4", "5"}, busy=[stopping])
    loop.on_step_end()
    assert loop.forgotten == {"0", "1"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3", "4", "5"]
    assert loop._trials == [running, unwritten, stopping, newest]
    assert set(loop._trial_metadata) == {"2", "3", "4", "5"}
    for several in (loop._stopped_trials, loop._failed_trials, loop._live_trials, loop._trials_to_cache):
        assert not several & {ended, failed}


def test_forgetting_restores_the_controller():
    with forgetting(lambda _: True, print):
        assert ray.tune.tune.TuneController.func is DroppingController
    assert ray.tune.tune.TuneController is TuneController
