"""A study with the stand-in training: what is trained, kept, gone on with, and taken over."""

import dataclasses

import polars as pl
import pytest

from fake_training import TRAINING, clips_of, curve, events, note
from htt.config import override
from htt.errors import RunError, TrainingError
from tune.results.run_folder import RunFolder
from unrayed import replace_tune

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("undrawn")]


@pytest.fixture
def trained(monkeypatch):
    """The values of all trials that were trained, without Ray: for what does not depend on how trials run."""
    values = []
    replace_tune(monkeypatch, values, clips=True)
    return values


RATES = {"good": {}, "high": {"optim.lr": 1e-2}}


def starts(tmp_path):
    """Trainings that were begun."""
    return [event for event in events(tmp_path / "events") if "start" in event]


def keys(trials):
    return [trial.pair for trial in trials]


def test_study_from_spec_to_results(local_ray, ablate, tmp_path):
    outcome = ablate(RATES)
    folder = RunFolder(tmp_path / "study")
    trials = folder.trials()
    assert keys(trials) == [("good", 0), ("high", 0), ("good", 1), ("high", 1)]
    assert [trial.number for trial in trials] == [1, 2, 3, 4]
    assert [trial.state for trial in trials] == ["complete"] * 4
    record = folder.record
    base = record.config()
    for trial in trials:
        assert trial.values == {**RATES[trial.variant], "train.seed": trial.seed}
        config = override(base, trial.values)
        assert trial.fingerprint == config.fingerprint()
        assert trial.metrics["hand_error_mm"] == curve(config, 4)
        assert trial.curves["hand_error_mm"] == trial.curve == tuple(curve(config, epoch) for epoch in range(1, 5))
        assert trial.curves["action_accuracy"] == tuple(1 / value for value in trial.curve)
        assert pl.read_parquet(folder.clips / f"{trial.id}.parquet").to_dict(as_series=False) == clips_of(config, 4)
    assert (record.kind, record.spec.study_name, record.spec.metric) == ("study", "fake", "hand_error_mm")
    study = record.spec.study
    assert (study.reference, study.seeds, study.variants) == ("good", (0, 1), RATES)
    assert set(record.parameters) == {"good", "high"}
    assert outcome.stopped is None
    assert "P(better)" in folder.report.read_text() or "not enough seeds" in folder.report.read_text()
    assert not folder.best.exists()
    shown = (tmp_path / "shown").read_text()
    assert "good, seed 0" in shown
    assert "best so far" not in shown


def test_variant_of_other_data_is_prepared_before_trainings(local_ray, ablate, tmp_path):
    """Else the first trial of each process would render them, all at once, in its own time."""
    variants = {"base": {}, "long clips": {"data.synthetic.frames": 12}, "spaced": {"data.spacing": 3}}

    def prepare(config):
        note(config, {"prepared": config.data.synthetic.frames})

    outcome = ablate(variants, seeds=(0,), training=dataclasses.replace(TRAINING, prepare=prepare))
    told = [event for event in events(tmp_path / "events") if "epoch" not in event]
    order = ["start" if "start" in event else event["prepared"] for event in told]
    usual = outcome.folder.record.config().data.synthetic.frames
    assert order == [usual, 12, "start", "start", "start"], "spacing is a matter of windows, not of data"
    keys = {trial.variant: trial.data for trial in outcome.trials}
    assert keys["base"] == keys["spaced"] != keys["long clips"]


def test_added_seeds_alone_are_trained(trained, ablate, tmp_path, monkeypatch):
    before = ablate(RATES).trials
    assert len(trained) == 4
    begun = RunFolder(tmp_path / "study").record
    assert (begun.first_seeds, begun.later_commits) == (2, [])
    monkeypatch.setattr("cluster.revision.commit", lambda: "newer")
    after = ablate(RATES, seeds=(0, 1, 5), resume=True).trials
    assert after[:4] == before
    assert keys(after[4:]) == [("good", 5), ("high", 5)]
    assert len(trained) == 6
    record = RunFolder(tmp_path / "study").record
    assert record.spec.study.seeds == (0, 1, 5)
    assert (record.first_seeds, record.later_commits, record.commit) == (2, ["newer"], begun.commit)


def test_finished_study_starts_nothing(trained, ablate, tmp_path, monkeypatch):
    ablate(RATES, seeds=(0,))
    folder = RunFolder(tmp_path / "study")
    folder.report.unlink()
    monkeypatch.setattr("cluster.connect.connect", lambda *_: pytest.fail("nothing is left to train"))
    ablate(RATES, seeds=(0,), resume=True)
    assert folder.report.exists()


def test_failed_training_is_retried_and_written_once(local_ray, ablate, tmp_path):
    variants = {"good": {}, "nan": {"optim.momentum": 0.1}, "bug": {"optim.momentum": 0.2}}
    first = ablate(variants, seeds=(0,))
    assert [trial.state for trial in first.trials] == ["complete", "failed", "failed"]
    assert first.trials[1].error.startswith("NonFiniteLossError")
    again = ablate(variants, seeds=(0,), resume=True)
    assert keys(again.trials) == keys(first.trials)
    assert again.trials[0] == first.trials[0]
    assert {again.trials[1].id, again.trials[2].id}.isdisjoint({first.trials[1].id, first.trials[2].id})
    assert len([event for event in starts(tmp_path) if event["start"] == 0]) == 5
    assert "failed" in again.folder.report.read_text()
    assert [path.stem for path in again.folder.clips.iterdir()] == [first.trials[0].id]


@pytest.fixture
def ailing(tmp_path):
    """While this file is there, a momentum of 0.4 diverges."""
    mark = tmp_path / "events" / "ailing"
    mark.parent.mkdir()
    mark.touch()
    return mark


AILING = {"good": {}, "ailing": {"optim.momentum": 0.4}}


@pytest.mark.slow
def test_third_try_of_a_failed_training_is_kept(local_ray, ablate, ailing):
    """Tune goes on to know the trainings that failed: none is under way, or newer than what took its place."""
    tries = [ablate(AILING, seeds=(0,), resume=number > 0).trials for number in range(2)]
    assert [[trial.state for trial in each] for each in tries] == [["complete", "failed"]] * 2
    ailing.unlink()
    third = ablate(AILING, seeds=(0,), resume=True).trials
    assert [trial.state for trial in third] == ["complete", "complete"]
    assert third[1].instead_of == tuple(each[1].id for each in tries)
    fourth = ablate(AILING, seeds=(0, 1), resume=True).trials
    assert fourth[:2] == third
    assert [(trial.pair, trial.state) for trial in fourth[2:]] == [
        (("good", 1), "complete"),
        (("ailing", 1), "complete"),
    ]


def test_cached_result_of_a_failed_training_is_kept(trained, ablate, ailing):
    failed = ablate(AILING, seeds=(0,), name="one").trials[1]
    ailing.unlink()
    other = ablate(AILING, seeds=(0,), name="two").trials[1]
    taken = ablate(AILING, seeds=(0,), name="one", resume=True).trials[1]
    assert (taken.id, taken.state, taken.instead_of) == (other.id, "complete", (failed.id,))
    assert ablate(AILING, seeds=(0, 1), name="one", resume=True).trials[1] == taken


def test_study_whose_trainings_all_fail_states_why(trained, ablate):
    with pytest.raises(TrainingError, match=r"(?s)No training was completed.*NonFiniteLossError"):
        ablate({"a": {}, "b": {"optim.lr": 1e-2}}, values={"optim.momentum": 0.1})


def test_training_of_another_study_is_cached(trained, ablate):
    first = ablate(RATES, name="first")
    assert len(trained) == 4
    second = ablate({"reference": {}, "low": {"optim.lr": 1e-4}}, seeds=range(3), name="second")
    assert len(trained) == 4 + 4
    by_key = {trial.pair: trial for trial in second.trials}
    assert list(by_key) == [(name, seed) for seed in range(3) for name in ("reference", "low")]
    for seed in range(2):
        (ours,) = [trial for trial in first.trials if trial.pair == ("good", seed)]
        taken = by_key["reference", seed]
        assert taken.taken_from == f"first/{ours.id} ({first.folder.record.commit})"
        assert (taken.metrics, taken.curve, taken.seconds) == (ours.metrics, ours.curve, ours.seconds)
        ours_clips, clips = (one.folder.clips / f"{ours.id}.parquet" for one in (first, second))
        assert clips.read_bytes() == ours_clips.read_bytes()
    assert by_key["reference", 2].taken_from is None
    third = ablate({"again": {}, "high": {"optim.lr": 1e-2}}, name="third")
    assert len(trained) == 8, "all of it was there"
    assert {trial.taken_from.partition("/")[0] for trial in third.trials} == {"first"}
    ablate(RATES, name="fresh", share=False)
    assert len(trained) == 12


@pytest.mark.slow
def test_several_workers_leave_equal_numbers_and_clips(local_ray, ablate):
    alone = ablate(RATES, seeds=(0,), name="alone")
    group = ablate(RATES, seeds=(0,), name="group", workers_per_trial=2, share=False)
    for ours, theirs in zip(group.trials, alone.trials, strict=True):
        assert (ours.pair, ours.curve, ours.fingerprint) == (theirs.pair, theirs.curve, theirs.fingerprint)
        mine, other = (pl.read_parquet(one.folder.clips / f"{trial.id}.parquet") for one, trial in
                       ((group, ours), (alone, theirs)))  # fmt: skip
        assert mine.equals(other)


def test_run_is_resumed_by_its_own_command_only(trained, ablate, search):
    ablate(RATES, seeds=(0,), name="run")
    with pytest.raises(RunError, match=r"it is a study. Resume it with: python tune/ablate.py --resume run"):
        search(resume=True)
    search(trials=1, name="searched")
    with pytest.raises(RunError, match=r"it is a search. Resume it with: python tune/search.py --resume searched"):
        ablate(RATES, name="searched", resume=True)


def test_row_keeps_all_fields(trained, ablate):
    outcome = ablate(RATES, seeds=(0,))
    outcome.folder.write_trials(outcome.trials)
    assert outcome.folder.trials() == outcome.trials
    assert dataclasses.replace(outcome.trials[0]) == outcome.trials[0]
