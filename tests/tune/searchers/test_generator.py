"""The generator asks the searcher for a trial only when one may start, and makes each candidate once."""

from ray.tune.experiment import Experiment

from htt.config import Config
from tune.searchers.generator import TrialGenerator, TrialSearcher


class Counting(TrialSearcher):
    """Searcher that counts how often it is asked for a name."""

    def __init__(self):
        super().__init__("loss", "min")
        self.names = 0

    def next_name(self):
        self.names += 1
        return str(self.names)

    def number(self, trial_id):
        return int(trial_id)

    def keep_only(self, trials, ended):
        """Keep all."""

    def suggest(self, trial_id):
        return {"values": {"optim.lr": 0.5}}


def generator(concurrent=2):
    made = TrialGenerator(Counting(), Config(), concurrent=concurrent, trials=9)
    made.add_configurations([Experiment("run", lambda config: None, num_samples=9, max_failures=3)])
    return made


def test_generator_finds_no_name_while_no_trial_may_start():
    made = generator()
    started = [made.next_trial() for _ in range(50)]
    assert [trial.trial_id for trial in started if trial] == ["1", "2"]
    assert made.trial_searcher.names == 2, "a name is looked for among all trials of a study"
    made.on_trial_complete("1", {"loss": 1.0})
    assert made.next_trial().trial_id == "3"


def test_trial_has_experiment_settings_and_small_configuration():
    trial = generator().next_trial()
    assert (trial.config, trial.max_failures) == ({"values": {"optim.lr": 0.5}}, 3)


def test_candidate_is_made_once_and_released():
    made = generator()
    trial = made.next_trial()
    candidate = made.candidate(trial)
    assert candidate is made.candidate(trial)
    assert (candidate.config.optim.lr, candidate.fingerprint) == (0.5, candidate.config.fingerprint())
    made.forget(trial.trial_id)
    assert made.candidate(trial) is not candidate


def test_settled_trial_completes_without_start():
    made = generator()
    made.settle = lambda trial_id, candidate: {"loss": candidate.config.optim.lr} if trial_id != "3" else None
    assert made.next_trial().trial_id == "3"
    assert made.count == 3


def test_restored_generator_accepts_more_trials():
    made = generator()
    made.set_state({"counter": 4, "total_samples": 4, "finished": True, "experiment": None})
    assert not made.is_finished()
    assert made.get_state()["counter"] == 4
    made.trials = 4
    assert made.is_finished()
