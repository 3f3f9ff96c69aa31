"""What ``tune/best.py`` refuses before anything starts: one sentence each."""

import pytest
from report_folders import search_folder

from htt import console
from tune import best


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    search_folder(tmp_path / "runs" / "run", 6)
    search_folder(tmp_path / "runs" / "none", 0)
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
        (["run", "--retrain-seeds", "1"], "--retrain-seeds must be 2 or more: one seed has no interval; got 1."),
        (["run", "--retrain-seeds", "-5"], "--retrain-seeds must be 2 or more: one seed has no interval; got -5."),
        (["none", "--retrain-seeds", "5"], "At least one trial must have given hand_error_mm; none of the 0 in"),
        (["failed", "--retrain-seeds", "5"], "At least one trial must have given hand_error_mm; none of the 4 in"),
        (["rum", "--retrain-seeds", "5"], "Did you mean 'run'?"),
        (["run", "--workers", "2", "--name", "x"], "--workers, --name say how to train again; add --retrain-seeds 5"),
        (["run", "--retrain-seeds", "5", "--name", "a/b"], "--name takes letters, digits"),
        (["run", "--retrain-seeds", "5", "--max-concurrent", "0"], "--max-concurrent must be 1 or more; got 0"),
        (["run", "--retrain-seeds", "5", "--set", "train.seed=1"], "--set must leave train.seed to --retrain-seeds"),
        (["run", "--retrain-seeds", "5", "--set", "optim.lrr=1"], "Did you mean 'optim.lr'?"),
        (["run", "--retrain-seeds", "5", "--set", "model.backbone.name=resnet19"], "there is no 'resnet19'"),
        (["run", "--retrain-seeds", "5", "--name", "full"], "full holds something else. Choose another --name."),
        (["run", "--top", "0"], "--top must be 1 or more; got 0."),
    ],
)
def test_a_mistake_is_one_sentence(run, tmp_path, capsys, words, message):
    (tmp_path / "runs" / "run" / "full").mkdir()
    (tmp_path / "runs" / "run" / "full" / "file").touch()
    assert run(*words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("error:") == 1
    assert not (tmp_path / "runs" / "run" / "retrain").exists()


def test_without_retraining_the_table_says_how_to(run, tmp_path, capsys):
    console.run(best.Options, best.main, ["run", "--top", "2"])
    said = capsys.readouterr().out
    assert "python tune/best.py runs/run --retrain-seeds 5" in said
    assert (tmp_path / "runs" / "run" / "best.yaml").exists()
