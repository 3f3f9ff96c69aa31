"""The choice of finalists, and the results of both stages, from run folders alone."""

import dataclasses

import pytest
import yaml

from htt.config import Config, override
from report_folders import record, search_folder, trial
from tune.experiments.spec import SearchSpec
from tune.results import finalists, run_record
from tune.results.run_folder import RunFolder

FROZEN = {"model.backbone.name": "resnet_tiny", "model.backbone.weights": "rendered", "model.backbone.trained": False}


def numbered(trials):
    return [dataclasses.replace(each, fingerprint=each.fingerprint or f"f{each.number}") for each in trials]


def chosen(asked, trials, count):
    return [each.number for each in finalists.choose(asked, numbered(trials), count)]


def test_finalists_are_the_best_complete_distinct_trials():
    trials = [trial(1, 30), trial(2, 20), trial(3, 10, state="pruned"), trial(4, 25), trial(5, 5, state="failed"),
              trial(6, 20, state="cached"), trial(7, 1, violation="parameters 3.0 M > 2.0 M")]  # fmt: skip
    assert chosen(record(), trials, 2) == [2, 4]
    assert chosen(record(), trials, 9) == [2, 4, 1], "fewer, if fewer are complete"
    twice = [trial(1, 20, fingerprint="a"), trial(2, 20, fingerprint="a"), trial(3, 30)]
    assert chosen(record(), twice, 2) == [1, 3]


def test_finalists_of_objectives_come_from_successive_fronts():
    asked = record(objectives=("hand_error_mm", "action_accuracy"), pick="action_accuracy>=0.75")
    trials = [trial(1, 20, 0.5), trial(2, 21, 0.8), trial(3, 30, 0.9), trial(4, 22, 0.8)]
    assert chosen(asked, trials, 3) == [2, 4, 3], "the second best of the rule is not on the first front"


def spec(**options):
    base = override(Config(), FROZEN).model_dump(mode="json")
    return SearchSpec(base=base, finalists=2, **options)


def test_variants_are_distinct_and_have_the_studys_seeds():
    """Without features, configurations that differ only in their views are one."""
    both = [trial(number, values={"data.augment.views": number, "train.seed": 3}) for number in (1, 2)]
    study = finalists.study_of(spec(finalist_start="scratch", finalist_seeds=3), both, {})
    assert list(study.variants) == ["trial 1, on features", "trial 1, end to end from scratch"]
    assert study.seeds == (1, 2, 4), "not 0 of the base, and not 3 of the trials"
    study.check(spec().config())
    weights = finalists.study_of(spec(), both, {"t1": "/a", "t2": "/b"})
    assert list(weights.variants)[1:] == ["trial 1, end to end", "trial 2, end to end"]
    weights.check(spec().config())
    moved = finalists.study_of(spec(), both, {"t1": "/new/a", "t2": "/new/b"})
    assert finalists.is_same(weights, moved)
    assert not finalists.is_same(weights, finalists.study_of(spec(finalist_lr=1e-3), both, {"t1": "/a", "t2": "/b"}))


def test_metrics_are_those_of_the_data():
    blind = trial(1, metrics={"action_accuracy": 0.5})
    assert finalists.study_of(spec(metric="action_accuracy"), [blind], {"t1": "/a"}).metrics == ("action_accuracy",)


def test_finalist_folders_are_in_order_of_creation():
    listed = ["tune", "finalists-10", "finalists", "finalists-2", "my-finalists", "finalists-x"]
    assert finalists.names(listed) == ["finalists", "finalists-2", "finalists-10"]


def test_old_search_has_no_finalists(tmp_path):
    folder = search_folder(tmp_path / "run", 5)
    plain = yaml.safe_load((folder.path / "run.yaml").read_text())
    for name in SearchSpec.FINALISTS:
        del plain["spec"][name]
    (folder.path / "run.yaml").write_text(yaml.safe_dump(plain))
    old = RunFolder(folder.path)
    assert not old.record.search.finalists
    assert finalists.newest(old) is None
    assert not finalists.is_under_way(old)
    assert finalists.read(old, old.trials()) is None


def test_record_keeps_the_options_of_finalists():
    options = {"finalists": 3, "finalist_seeds": 2, "finalist_start": "both", "finalist_epochs": 7, "finalist_lr": 1e-4}
    asked = dataclasses.replace(record(), spec=dataclasses.replace(record().search, **options))
    again = run_record.of_plain(yaml.safe_load(asked.text())).search
    assert {name: getattr(again, name) for name in options} == options
    assert set(options) == SearchSpec.FINALISTS
    assert SearchSpec.FINALISTS <= SearchSpec.CHANGEABLE


def test_finalist_budget_is_reserved():
    assert SearchSpec(time_budget_s=90.0).stage_one_s == 90.0
    assert SearchSpec(time_budget_s=90.0, finalists=1).stage_one_s == pytest.approx(72.0)
    assert SearchSpec(finalists=1).stage_one_s is None
