"""The stream of trials asks the searcher for a trial only where one may start."""

from ray.tune.experiment import Experiment
from ray.tune.search import Searcher

from tune.searchers.generator import Samples


class Counting(Searcher):
    """A searcher that counts how often it is asked for a name."""

    def __init__(self):
        super().__init__("loss", "min")
        self.names = 0

    def next_name(self):
        self.names += 1
        return str(self.names)

    def suggest(self, trial_id):
        return {"values": {}}

    def on_trial_complete(self, trial_id, result=None, error=False):
        pass

    def save(self, checkpoint_path):
        pass

    def restore(self, checkpoint_path):
        pass


def test_next_name_is_not_looked_for_while_no_trial_may_start():
    searcher = Counting()
    samples = Samples(searcher, concurrent=2, trials=9)
    samples.add_configurations([Experiment("run", lambda config: None, num_samples=9)])
    started = [samples.next_trial() for _ in range(50)]
    assert [trial.trial_id for trial in started if trial] == ["1", "2"]
    assert searcher.names == 2, "a name is looked for among all trials of a study"
    samples.on_trial_complete("1", {"loss": 1.0})
    assert samples.next_trial().trial_id == "3"
