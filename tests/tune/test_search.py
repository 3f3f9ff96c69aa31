"""The command line of a search: what it refuses, before Ray is there."""

import pytest
from conftest import HERE

import tune.spaces
from tune import search

MISTAKES = {
    "an unknown path": (["--set", "optim.lrr=1"], "optim.lrr: there is no such field. Did you mean 'optim.lr'?"),
    "a value out of range": (["--set", "optim.momentum=2"], "optim.momentum: should be less than 1; got 2"),
    "an unknown backbone": (["--set", "model.backbone.name=resnet19"], "there is no 'resnet19'"),
    "an unknown space": (["--space", "quik"], "There are: fake, paper, quick. Did you mean 'quick'?"),
    "an unknown metric": (["--metric", "hand_eror_mm"], "Did you mean 'hand_error_mm'?"),
    "nonsense for a time": (
        ["--time-budget", "soon"],
        "such as 90s, 8m or 1h30m; got 'soon'",
    ),
    "no such cluster": (["--address", "127.0.0.1:1"], "A Ray cluster must answer at '127.0.0.1:1'"),
    "no such run": (["--resume", "nothing"], "A run is named by its folder in runs/; got 'nothing'"),
    "a resumed run's wishes": (
        ["--resume", "nothing", "--point", "x=1", "--warm-start", "y"],
        "leave --warm-start, --point, --set and --name out",
    ),
    "two metrics": (
        ["--metric", "loss", "--objective", "latency_ms"],
        "--metric is the first --objective; got loss and latency_ms. Leave one out.",
    ),
    "an objective twice": (["--objective", "loss", "--objective", "loss"], "names each metric once; got loss twice"),
    "no bound": (["--constraint", "parameters<5"], "such as 'parameters<=2e6'; got 'parameters<5'"),
    "no rule": (["--pick", "kneee"], "Did you mean 'knee'?"),
    "no earlier run": (["--warm-start", "nothing"], "A run is named by its folder in runs/; got 'nothing'"),
    "a point outside": (["--point", "optim.lr=1"], "optim.lr must be 0.0003 to 0.003, logarithmic"),
    "a resumed run's name": (["--resume", "nothing", "--name", "x"], "--name out"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_nothing(refused, monkeypatch, tmp_path, mistake):
    monkeypatch.setattr(tune.spaces, "__path__", [*tune.spaces.__path__, str(HERE / "spaces")])
    words, message = MISTAKES[mistake]
    assert message in refused(search, *words, cwd=tmp_path)
    assert not (tmp_path / "runs").exists()
