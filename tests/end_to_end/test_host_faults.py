"""A host without power in the middle of a search: of the workers, whose trials go on elsewhere, and the head itself."""

import optuna
import pytest

from fake_training import curve, events, place
from htt.config import override
from tune.results.run_folder import RunFolder
from tune.searchers.optuna_study import open_journal

pytestmark = [pytest.mark.ray, pytest.mark.cluster]

EPOCHS, TRIALS = 4, 12
SHARED = "--storage /mnt/shared/runs"
SCRIPT = "tests/end_to_end/noted_search.py"


class Search:
    """One that runs on the cluster, as this process sees its files."""

    def __init__(self, shared, name):
        self.notes = shared / name
        self.folder = RunFolder(shared / "runs" / name)
        options = f"--space fake --scheduler none --trials {TRIALS} --set optim.step_epochs=1500"
        self.command = f"{SCRIPT} {options} --name {name} {SHARED} --set runtime.cache=/mnt/shared/{name}"

    def events(self):
        return events(self.notes) if place(self.notes).exists() else []

    def epochs(self):
        """{trial: the epochs that were begun, in order}."""
        begun = {}
        for event in self.events():
            if "epoch" in event:
                begun.setdefault(event["trial"], []).append(event["epoch"])
        return begun

    def hosts(self):
        """{trial: the hosts it was on, in order}."""
        seen = {}
        for event in self.events():
            if "host" in event:
                seen.setdefault(event["trial"], []).append(event["host"])
        return seen

    def under_way(self, host=None):
        """The trials that are past an epoch and not at their last, on a host or all of them."""
        ended = {trial.id for trial in self.folder.trials()}
        hosts = self.hosts()
        return {
            trial
            for trial, epochs in self.epochs().items()
            if 1 < epochs[-1] < EPOCHS and trial not in ended and host in (None, hosts[trial][-1])
        }


def check_whole(search, before, interrupted):
    """What holds of a search that lost hosts; ``interrupted`` are the trials that ran on them."""
    trials = search.folder.trials()
    after = {trial.id: trial for trial in trials}
    assert {name: after[name] for name in before} == before, "what was finished is kept as it was"
    assert [trial.number for trial in trials] == list(range(1, TRIALS + 1))
    assert [trial.state for trial in trials] == ["complete"] * TRIALS
    assert len(after) == TRIALS
    for trial in trials:  # as undisturbed: the stand-in's curve is a function of the configuration
        config = override(search.folder.record.config(), trial.values)
        assert trial.metrics["hand_error_mm"] == curve(config, EPOCHS)
    study = optuna.load_study(study_name=search.folder.path.name, storage=open_journal(search.folder.journal))
    assert [trial.state.name for trial in study.get_trials()] == ["COMPLETE"] * TRIALS
    begun = search.epochs()
    unknown = {name: epochs for name, epochs in begun.items() if name not in after}
    assert set(unknown) <= interrupted, "begun anew by another name"
    assert all(epochs == [1] for epochs in unknown.values()), "it had told nothing yet"
    assert {name: sorted(set(begun[name])) for name in after} == {name: [1, 2, 3, 4] for name in after}
    again = {name: len(epochs) - EPOCHS for name, epochs in begun.items() if len(epochs) > EPOCHS}
    assert set(again) <= interrupted, again
    assert max(again.values(), default=0) <= 1, again


@pytest.mark.slow
def test_dead_worker_costs_an_epoch_and_rejoins(cluster, tmp_path):
    search = Search(cluster.shared, "worker")
    job = cluster.start(search.command, tmp_path / "job")
    job.wait_for(lambda: len(search.folder.trials()) >= 3 and search.under_way("node1"))
    before = {trial.id: trial for trial in search.folder.trials()}
    cluster.hosts.kill("node1")
    lost = search.under_way("node1")
    job.wait_for(lambda: cluster.nodes()["node1"] == "DEAD")
    cluster.hosts.start("node1")
    job.ended()
    check_whole(search, before, lost)
    hosts = search.hosts()
    assert all(len(hosts[trial]) == 2 for trial in lost), "a lost trial went on once, somewhere"
    assert all(hosts[trial][1] != "node1" for trial in lost)
    cluster.wait_for_nodes(3)


@pytest.mark.slow
def test_search_resumes_after_its_head_was_lost(cluster, tmp_path):
    search = Search(cluster.shared, "head")
    job = cluster.start(search.command, tmp_path / "job")
    job.wait_for(lambda: len(search.folder.trials()) >= 3 and search.under_way())
    assert {host for of_trial in search.hosts().values() for host in of_trial} == {"head", "node1", "node2"}
    cluster.hosts.kill("head", silently=True)
    before = {trial.id: trial for trial in search.folder.trials()}
    lost = set(search.hosts()) - set(before)
    cluster.hosts.start("head")
    cluster.up()
    cluster.open_dashboard()
    cluster.wait_for_nodes(3)
    cluster.submit(f"{SCRIPT} --resume head {SHARED}")
    check_whole(search, before, lost)
