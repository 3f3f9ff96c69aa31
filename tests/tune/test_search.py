"""The command line of a search, before Ray is there: what it refuses, and what a run is resumed with."""

import re

import pytest
import tyro

import tune.experiments.spaces
from htt.errors import RunError
from project import SUPPORT
from report_folders import search_folder
from tune import search
from tune.experiments import spec
from tune.experiments.spaces import quick
from tune.results.run_folder import RunFolder

MISTAKES = {
    "an unknown path": (["--set", "optim.lrr=1"], "optim.lrr: no such field. Did you mean 'optim.lr'?"),
    "a value out of range": (["--set", "optim.momentum=2"], "optim.momentum: should be less than 1; got 2"),
    "an unknown backbone": (["--set", "model.backbone.name=resnet19"], "no such plug-in 'resnet19'"),
    "an unknown space": (["--space", "quik"], "Available: fake, paper, poses, quick. Did you mean 'quick'?"),
    "an unknown metric": (["--metric", "hand_eror_mm"], "Did you mean 'hand_error_mm'?"),
    "finalists without an encoder": (
        ["--space", "poses", "--finalists", "2"],
        "--finalists 2 trains the image encoder of the best trials, and this search has none",
    ),
    "a metric of hands without images": (
        ["--space", "poses", "--metric", "hand_error_mm"],
        "hand_error_mm: a model without an image encoder (model.backbone.name none) predicts neither hands nor objects",
    ),
    "nonsense for a time": (
        ["--time-budget", "soon"],
        "such as 90s, 8m or 1h30m; got 'soon'",
    ),
    "no such cluster": (["--address", "127.0.0.1:1"], "No Ray cluster answers at '127.0.0.1:1'"),
    "no such run": (
        ["--resume", "nothing"],
        "No run 'nothing' in runs/. There are no runs yet",
    ),
    "a resumed run's wishes": (
        ["--resume", "nothing", "--point", "x=1", "--warm-start", "y"],
        "Cannot combine --point, --warm-start with --resume. Drop them, or start a new run.",
    ),
    "two metrics": (
        ["--metric", "loss", "--objective", "latency_ms"],
        "Cannot combine --metric loss with --objective latency_ms: the first objective is the metric.",
    ),
    "an objective twice": (["--objective", "loss", "--objective", "loss"], "names each metric once; got loss twice"),
    "no bound": (["--constraint", "parameters<5"], "as in 'parameters<=2e6'; got 'parameters<5'"),
    "no rule": (["--pick", "kneee", "--objective", "loss", "--objective", "latency_ms"], "Did you mean 'knee'?"),
    "a pick of one": (["--pick", "knee"], "got no --objective. Add another, or drop --pick."),
    "no worker": (["--workers-per-trial", "0"], "--workers-per-trial must be 1 or more; got 0."),
    "no core": (["--cpus-per-worker", "-1"], "--cpus-per-worker must be a number above 0; got -1"),
    "no such share": (["--gpus-per-trial", "-0.5"], "--gpus-per-trial must be a number of 0 or more; got -0.5"),
    "no earlier run": (
        ["--warm-start", "nothing"],
        "No run 'nothing' in runs/. There are no runs yet",
    ),
    "a point outside": (["--point", "optim.lr=1"], "optim.lr must be in the space, 0.0005 to 0.005, logarithmic"),
    "a resumed run's name": (["--resume", "nothing", "--name", "x"], "combine --name with"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_user_error_is_one_sentence_and_leaves_nothing(refused, monkeypatch, tmp_path, mistake):
    monkeypatch.setattr(
        tune.experiments.spaces, "__path__", [*tune.experiments.spaces.__path__, str(SUPPORT / "spaces")]
    )
    words, message = MISTAKES[mistake]
    assert message in refused(search, *words, cwd=tmp_path)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("asked", "given", "limits"),
    [
        ({"trials": 64}, [], (64, None)),
        ({"trials": 0, "time_budget_s": 420.0}, [], (None, 420.0)),
        ({"trials": 64, "time_budget_s": 420.0}, [], (64, 420.0)),
        ({"trials": 64}, ["--time-budget", "30m"], (None, 1800.0)),
        ({"trials": 0, "time_budget_s": 420.0}, ["--trials", "80"], (80, None)),
        ({"trials": 64, "time_budget_s": 420.0}, ["--trials", "80"], (80, None)),
        ({"trials": 64}, ["--trials", "80", "--time-budget", "30m"], (80, 1800.0)),
    ],
)
def test_resume_keeps_or_replaces_limits(tmp_path, asked, given, limits):
    search_folder(tmp_path / "run", 5, **asked)
    found = resumed(tmp_path / "run", *given)
    assert (found.trials, found.time_budget_s) == limits


@pytest.mark.parametrize(
    ("options", "limits"),
    [([], (None, 510.0)), (["--trials", "3"], (3, None)), (["--time-budget", "1h"], (None, 3600.0)),
     (["--trials", "3", "--time-budget", "1h"], (3, 3600.0))],
)  # fmt: skip
def test_new_search_has_a_time_budget_by_default(options, limits):
    found = search.new(tyro.cli(search.Options, args=options))
    assert (found.trials, found.time_budget_s) == limits


@pytest.mark.parametrize(
    ("options", "command"),
    [
        (["--trials", "64"], "python tune/search.py --resume run"),
        (["--resume", "run"], "python tune/search.py --resume run"),
        (["--resume", "run", "--trials", "80"], "python tune/search.py --resume run --trials 80"),
        (["--resume", "run", "--time-budget", "1h"], "python tune/search.py --resume run --time-budget 1h"),
    ],
)
def test_resume_command_has_the_same_limits(tmp_path, monkeypatch, options, command):
    """Those of a new run are written in it."""
    monkeypatch.chdir(tmp_path)
    assert search.again(tyro.cli(search.Options, args=options), RunFolder(tmp_path / "run")) == command


OTHERS = {
    "metric": "loss", "space": "paper", "seed": 0, "pick": "knee", "algorithm": "random", "scheduler": "none",
    "workers-per-trial": 1, "cpus-per-worker": 1.0,
}  # fmt: skip
BEGAN = {"seed": 5, "pick": "first", "workers_per_trial": 2, "cpus_per_worker": 0.5}


def resumed(folder, *words):
    given = ["--resume", str(folder), *words]
    options = tyro.cli(search.Options, args=given)
    options.arguments = given
    return search.resume(options)[0]


@pytest.mark.parametrize("option", OTHERS)
def test_resume_refuses_changed_options(tmp_path, option):
    record = search_folder(tmp_path / "run", 5, **BEGAN).record
    began = getattr(record.spec, option.replace("-", "_"))
    message = (
        f"Cannot change --{option} when resuming run: it was started with {began}, got {OTHERS[option]}. Drop the "
        "option or start a new run."
    )
    with pytest.raises(RunError, match=re.escape(message)):
        resumed(tmp_path / "run", f"--{option}", str(OTHERS[option]))
    assert getattr(resumed(tmp_path / "run", f"--{option}", str(began)), option.replace("-", "_")) == began


def test_resume_without_options_keeps_the_recorded_ones(tmp_path):
    search_folder(tmp_path / "run", 5, **BEGAN)
    found = resumed(tmp_path / "run")
    assert {name: getattr(found, name) for name in BEGAN} == BEGAN
    differs = (
        "Cannot change --cpus-per-worker and --seed when resuming run: it was started with 0.5 and 5, got 2.0 and 1. "
        "Drop the options or start a new run."
    )
    with pytest.raises(RunError, match=re.escape(differs)):
        resumed(tmp_path / "run", "--seed", "1", "--cpus-per-worker", "2")


def test_new_search_without_options_uses_defaults():
    found = search.new(tyro.cli(search.Options, args=[]))
    base = quick.SPACE.start().model_dump(mode="json")
    assert found == spec.SearchSpec(time_budget_s=510.0, domains=quick.SPACE.domains, base=base, finalists=2)
    assert search.new(tyro.cli(search.Options, args=["--scheduler", "none"])).scheduler == "none"
