"""What ``tune/best.py`` refuses before anything starts: one sentence each."""

import dataclasses

import pytest
import yaml

from htt import console
from report_folders import search_folder, study_folder, windows
from tune import best
from tune.results import selection
from tune.results.selection import ranked

OBJECTIVES = ("action_accuracy", "hand_error_mm")
PICK = "hand_error_mm<=30"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    search_folder(tmp_path / "runs" / "run", 6)
    search_folder(tmp_path / "runs" / "front", 12, objectives=OBJECTIVES, pick=PICK)
    search_folder(tmp_path / "runs" / "none", 0)
    study_folder(tmp_path / "runs" / "study", windows(2), seeds=(0, 1), clips=False)
    failed = [trial for trial in search_folder(tmp_path / "runs" / "failed", 20).trials() if trial.state == "failed"]
    best.RunFolder(tmp_path / "runs" / "failed").write_trials(failed)

    def start(*words):
        with pytest.raises(SystemExit) as left:
            console.run(best.Options, best.main, words)
        return left.value.code

    return start


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--retrain-seeds", "1"], "Invalid --retrain-seeds 1: expected 2 to 1000, since one seed"),
        (["run", "--retrain-seeds", "10000000000"], "Invalid --retrain-seeds 10000000000: expected 2 to 1000"),
        (["run", "--retrain-seeds", "-5"], "Invalid --retrain-seeds -5: expected 2 to 1000"),
        (["none", "--retrain-seeds", "5"], "No trial has a value of hand_error_mm, out of 0 in"),
        (["failed", "--retrain-seeds", "5"], "No trial has a value of hand_error_mm, out of 4 in"),
        (["rum", "--retrain-seeds", "5"], "Did you mean 'run'?"),
        (
            ["run", "--workers", "2", "--name", "x"],
            "--workers, --name need --retrain-seeds, such as",
        ),
        (["run", "--retrain-seeds", "5", "--name", "a/b"], "Invalid --name 'a/b': expected letters, digits"),
        (["run", "--retrain-seeds", "5", "--max-concurrent", "0"], "--max-concurrent must be 1 or more; got 0"),
        (
            ["run", "--retrain-seeds", "5", "--set", "train.seed=1"],
            "Cannot --set train.seed=1: seeds are",
        ),
        (["run", "--retrain-seeds", "5", "--set", "optim.lrr=1"], "Did you mean 'optim.lr'?"),
        (["run", "--retrain-seeds", "5", "--set", "model.backbone.name=resnet19"], "no such plug-in 'resnet19'"),
        (["run", "--retrain-seeds", "5", "--name", "full"], "full: it holds other files. Choose another --name."),
        (["none", "--pick", "knee"], "by; no trial has both hand_error_mm and action_accuracy."),
        (["front", "--pick", "kne"], "Did you mean 'knee'?"),
        (["front", "--pick", "knee", "--metric", "loss"], "several metrics to choose by; drop --metric."),
        (["front", "--pick", "hand_error_mm<=1"], "satisfies hand_error_mm<=1, out of 12 in runs/front."),
        (["run", "--top", "0"], "--top must be 1 or more; got 0."),
        (
            ["study"],
            "Expected a search; study is a study, which compares variants over all their seeds and has no best trial. "
            "Read its report, runs/study/report.md, and train the variant you choose: "
            "python cluster/launch.py --config FILE --set PATH=VALUE",
        ),
        (["run", "--out", "x" * 300], "--out must be a file in a folder, such as best.yaml; File name too long."),
        (["x" * 300], "No run 'xxx"),
        (["run", "--out", "runs"], "--out must be a file in a folder, such as best.yaml; runs is a folder."),
        (["run", "--out", "runs/run/run.yaml/x.yaml"], "runs/run/run.yaml is a file."),
        (["run", "--out", "runs/run/run.yaml/x/y.yaml"], "runs/run/run.yaml is a file."),
        (["study", "--retrain-seeds", "5"], "study is a study, which compares variants over all their seeds and has"),
    ],
)
def test_user_error_is_one_sentence(run, tmp_path, capsys, words, message):
    (tmp_path / "runs" / "run" / "full").mkdir()
    (tmp_path / "runs" / "run" / "full" / "file").touch()
    assert run(*words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("error:") == 1
    assert not (tmp_path / "runs" / "run" / "retrain").exists()
    assert not list(tmp_path.glob("runs/*/best*.yaml"))


def test_table_without_retraining_states_how_to_retrain(run, tmp_path, capsys):
    console.run(best.Options, best.main, ["run", "--top", "2"])
    said = capsys.readouterr().out
    assert said.partition("Next:\n")[2].splitlines() == [
        "  python tune/best.py runs/run --retrain-seeds 5", "  python cluster/launch.py --config runs/run/best.yaml",
    ]  # fmt: skip
    assert (tmp_path / "runs" / "run" / "best.yaml").exists()


@pytest.mark.parametrize(
    ("words", "file", "picked"),
    [
        ([], "best.yaml", PICK),
        (["--pick", PICK], "best.yaml", PICK),
        (["--pick", "first"], "best-first.yaml", "first"),
        (["--pick", "hand_error_mm<=40"], "best-hand_error_mm-40.yaml", "hand_error_mm<=40"),
    ],
)
def test_front_is_shown_and_picked_from(run, tmp_path, capsys, words, file, picked):
    console.run(best.Options, best.main, ["front", *words])
    said = capsys.readouterr().out
    folder = best.RunFolder(tmp_path / "runs" / "front")
    expected = selection.select(selection.pareto_front(folder.trials(), OBJECTIVES), OBJECTIVES, picked)
    same = f" --pick '{picked}'" if "<" in picked else f" --pick {picked}"
    assert f"python tune/best.py runs/front{same if words else ''} --retrain-seeds 5" in said
    assert f"Picked: trial {expected.number}, {selection.rule_text(picked, OBJECTIVES)}." in said
    found = yaml.safe_load((folder.path / file).read_text())["found_by"]
    assert (found["trial"], found["rule"]) == (expected.number, selection.rule_text(picked, OBJECTIVES))
    assert list(found["objectives"]) == list(OBJECTIVES)


def test_pick_of_a_search_with_one_objective_is_from_the_front_of_hand_and_action(run, tmp_path, capsys):
    console.run(best.Options, best.main, ["run", "--pick", "action_accuracy>=0.8"])
    folder = best.RunFolder(tmp_path / "runs" / "run")
    assert [trial.number for trial in selection.pareto_front(folder.trials(), selection.PAIR)] == [1, 2]
    assert "Picked: trial 2, the best hand_error_mm on the front with action_accuracy>=0.8." in capsys.readouterr().out
    found = yaml.safe_load((folder.path / "best-action_accuracy-0.8.yaml").read_text())["found_by"]
    assert (found["trial"], found["metric"]) == (2, "hand_error_mm")
    assert found["objectives"] == {name: folder.trials()[1].metrics[name] for name in selection.PAIR}
    assert not folder.best.exists()


def test_metric_option_picks_by_that_metric_alone(run, tmp_path, capsys):
    console.run(best.Options, best.main, ["front", "--metric", "action_accuracy"])
    folder = best.RunFolder(tmp_path / "runs" / "front")
    highest = ranked(folder.trials(), "action_accuracy")[0]
    said = capsys.readouterr().out
    assert f"Picked: trial {highest.number}, the highest action_accuracy." in said
    assert "front of" not in said
    found = yaml.safe_load((folder.path / "best-action_accuracy.yaml").read_text())["found_by"]
    assert found["trial"] == ranked(folder.trials(), "action_accuracy")[0].number
    assert found["rule"] == "the highest action_accuracy"
    assert "objectives" not in found


@pytest.mark.parametrize(
    ("choice", "name"),
    [({}, "retrain"), ({"pick": "first"}, "retrain-first"), ({"metric": "hand_error_mm"}, "retrain-hand_error_mm")],
)
def test_picked_trial_is_retrained(run, tmp_path, choice, name):
    options = best.Options("front", retrain_seeds=2, **choice)
    folder = best.RunFolder(tmp_path / "runs" / "front")
    chosen = best.choose(options, folder.record, folder.trials(), folder)
    again, _ = best.retraining_of(options, folder, chosen)
    assert again.path.name == name
    assert again.found_by["trial"] == chosen.trial.number
    assert again.config.optim.lr == chosen.trial.values["optim.lr"]


def test_more_workers_than_windows_are_refused_before_any_start(run, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        console.run(best.Options, best.main, ["front", "--retrain-seeds", "2", "--workers", "3"])
    assert "Cannot share a step of 2 windows (train.batch_size) among 3 workers." in capsys.readouterr().err
    assert not (tmp_path / "runs" / "front" / "retrain").exists()


def test_best_refuses_the_loss_if_its_weights_were_searched(run, tmp_path, capsys):
    folder = best.RunFolder(tmp_path / "runs" / "run")
    folder.write_trials([dataclasses.replace(one, metrics={**one.metrics, "loss": 1.0}) for one in folder.trials()])
    assert run("run", "--metric", "loss") == 2
    assert "Cannot compare trials by loss: each has its own loss.action" in capsys.readouterr().err.replace("\n", " ")
