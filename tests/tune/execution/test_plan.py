"""What a study will train is told, and checked, before Ray is there."""

import dataclasses
import subprocess
import sys

import pytest
import tyro

from htt import console
from htt.config import override
from htt.data.prepare import facts
from htt.errors import ConfigError, DataError, RunError
from htt.model.htt import HTT
from planned_study import STUDY, ablation, finished
from project import environment
from report_folders import study_folder, windows
from tune import ablate
from tune.execution import plan
from tune.execution.plan import parse_seeds, with_seeds
from tune.experiments import study
from tune.experiments.study import Study


def test_all_variants_of_a_seed_come_before_the_next_seed():
    assert [(pair.number, *pair.key) for pair in study.pairs(STUDY)] == [
        (1, "a", 0), (2, "b", 0), (3, "a", 1), (4, "b", 1),
    ]  # fmt: skip
    assert study.pairs(STUDY)[3].values == {"model.pose.window": 1, "train.seed": 1}
    longer = study.pairs(with_seeds(STUDY, "0,7"))
    assert longer[:4] == study.pairs(STUDY)
    assert [pair.key for pair in longer[4:]] == [("a", 7), ("b", 7)]


@pytest.mark.parametrize(("text", "seeds"), [("3", (0, 1, 2)), ("0,1,7", (0, 1, 7)), ("5, 2", (5, 2))])
def test_seeds_are_a_count_or_a_list(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("own", "text", "seeds"),
    [
        ((0, 1), "4", (0, 1, 2, 3)),
        (range(10, 16), "8", (*range(10, 16), 0, 1)),
        ((1, 4), "5", (1, 4, 0, 2, 3)),
        ((0, 1, 2), "2", (0, 1, 2)),
        ((0, 1), "1,7,5", (0, 1, 7, 5)),
    ],
)
def test_a_resumed_study_has_as_many_seeds_in_the_end_or_those_that_are_listed_too(own, text, seeds):
    assert with_seeds(dataclasses.replace(STUDY, seeds=own), text).seeds == seeds


@pytest.mark.parametrize(
    "text", ["", "x", "0", "-1", "1,", "1;2", "1.5", "3 4", "0,1 2", "1001", "9" * 20, "9" * 5000, "٣"]
)
def test_seeds_that_are_no_numbers(text):
    with pytest.raises(ConfigError, match="--seeds takes a count up to 1000, such as 6, or a list, such as 0,1,2; got"):
        parse_seeds(text)


def test_the_plan_counts_what_is_to_be_done_and_how_large_models_are(tmp_path):
    made = plan.plan(ablation(tmp_path))
    assert [pair.key for pair in made.left] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert made.base.optim.lr == 0.01
    config = STUDY.config(made.base, "a", 0)
    assert made.parameters["a"] == sum(each.numel() for each in HTT(config.model, facts(config)).parameters())
    assert "2 seeds cannot carry a claim" in made.warnings[0]
    assert made.expected_s is None


def test_what_the_command_line_sets_goes_before_the_studys_base(tmp_path):
    made = plan.plan(ablation(tmp_path, values={"optim.lr": 0.5}, assignments={"optim.lr": 0.5}))
    assert made.base.optim.lr == 0.5
    assert made.study.config(made.base, "b", 1).optim.lr == 0.5


def test_the_plan_warns_of_variants_that_keep_a_value_of_their_own(tmp_path):
    made = plan.plan(ablation(tmp_path, values={"model.pose.window": 4}, assignments={"model.pose.window": 4}))
    assert made.warnings[1:] == [
        "--set model.pose.window=4 reaches only variants without a model.pose.window of their own; not 'b'."
    ]
    assert plan.plan(ablation(tmp_path, assignments={"optim.momentum": 0.8})).warnings == made.warnings[:1]


def test_what_reaches_no_variant_is_refused_and_of_an_older_run_said(tmp_path):
    study = dataclasses.replace(STUDY, variants={"a": {"model.pose.window": 2}, "b": {"model.pose.window": 1}})
    useless = {"model.pose.window": 4, "train.seed": 5}
    with pytest.raises(ConfigError) as caught:
        plan.plan(ablation(tmp_path, study, assignments=useless))
    faults = [
        "--set must reach a variant; each has a model.pose.window of its own, and got model.pose.window=4.",
        "--set must leave train.seed to --seeds; got train.seed=5.",
    ]
    assert caught.value.faults == faults
    assert plan.plan(ablation(tmp_path, study, assignments=useless, resume=True)).warnings[1:] == faults


def test_a_finished_training_elsewhere_is_found_and_tells_the_time(tmp_path):
    asked = ablation(tmp_path, max_concurrent=1)
    config = STUDY.config(override(asked.base, STUDY.base), "b", 1)
    folder = finished(tmp_path, config)
    made = plan.plan(asked)
    assert list(made.shared) == [("b", 1)]
    assert made.shared["b", 1].trial.id == "t1"
    assert made.seconds == {"b": 30.0}, "whatever the seed"
    assert made.expected_s == 3 * 30.0
    assert plan.plan(ablation(tmp_path, share=False)).shared == {}
    (folder.clips / "t1.parquet").unlink()
    assert plan.plan(asked).shared == {}, "without its clips it cannot be compared clip by clip"


def test_a_storage_that_is_a_folder_is_where_others_are_looked_for(tmp_path):
    asked = dataclasses.replace(ablation(tmp_path / "elsewhere"), storage=str(tmp_path))
    finished(tmp_path, STUDY.config(override(asked.base, STUDY.base), "b", 1))
    made = plan.plan(asked)
    assert (list(made.shared), made.seconds) == ([("b", 1)], {"b": 30.0})


@pytest.mark.parametrize(
    "changes",
    [{"data": "synthetic-of-another-scene"}, {"metrics": {"hand_error_mm": 9.0}}, {"state": "stopped"},
     {"fingerprint": "0" * 12}],
)  # fmt: skip
def test_what_is_not_the_same_training_is_not_taken_over(tmp_path, changes):
    asked = ablation(tmp_path)
    finished(tmp_path, STUDY.config(override(asked.base, STUDY.base), "b", 1), **changes)
    assert plan.plan(asked).shared == {}


def test_a_model_that_cannot_be_built_is_named_with_its_variant(tmp_path):
    study = Study("?", {"a": {}, "odd": {"model.backbone.name": str(tmp_path)}}, "a", seeds=(0,))
    with pytest.raises(ConfigError, match=r"(?s)Every variant's model must be one that can be built.*'odd'"):
        plan.plan(ablation(tmp_path, study))


def test_data_that_are_missing_are_said_before_anything_starts(tmp_path):
    with pytest.raises(DataError, match=r"python -m htt\.data\.convert --source h2o"):
        plan.plan(ablation(tmp_path, values={"data.source": "h2o"}))
    with pytest.raises(DataError, match="/no/such"):
        plan.plan(ablation(tmp_path, values={"data.root": "/no/such"}))


def test_dry_run_refuses_a_name_that_is_taken(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "asked.yaml").write_text("kind: search\n")
    options = ["--study", "headline", "--dry-run", "--name", "mine", "--storage", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        console.run(ablate.Options, ablate.main, options)
    assert ended.value.code == 2
    assert "A run's name is used once; " in capsys.readouterr().err


def test_a_dry_run_says_it_all_and_needs_no_ray(tmp_path):
    code = (
        "import sys; from tune import ablate\n"
        "ablate.main(ablate.Options(study='headline', preset='quick', seeds='2', dry_run=True))\n"
        "assert 'ray' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    assert "4 variants x 2 seeds (0, 1) = 8 trainings" in done.stdout
    assert "pose.window: 1" in done.stdout
    assert "One seed tells: python tune/ablate.py --study headline --preset quick --seeds 1\n" in done.stdout
    assert "2 seeds cannot carry a claim" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--study names the question. There are: "),
        (["--study", "headlin"], "Did you mean 'headline'?"),
        (["--study", "headline", "--preset", "papre"], "Did you mean 'paper'?"),
        (
            ["--study", "headline", "--preset", "quick", "--config", "x.yaml"],
            "from --preset or from --config; got both",
        ),
        (["--study", "headline", "--seeds", "many"], "--seeds takes a count"),
        (["--study", "headline", "--set", "optim.lrr=1"], "Did you mean 'optim.lr'?"),
        (["--study", "headline", "--set", "model.action.heads=7"], "model.action.heads must divide model.width"),
        (["--study", "headline", "--set", "model.backbone.name=resnet19"], "no such plug-in 'resnet19'"),
        (["--study", "headline", "--set", "data.source=h2o"], "python -m htt.data.convert --source h2o"),
        (["--study", "headline", "--max-concurrent", "0"], "--max-concurrent must be 1 or more; got 0"),
        (["--study", "headline", "--name", "../x"], "Invalid --name '../x': expected letters"),
        (["--study", "headline", "--workers-per-trial", "0"], "--workers-per-trial must be 1 or more; got 0"),
        (["--study", "headline", "--cpus-per-worker", "0"], "--cpus-per-worker must be a number above 0; got 0"),
        (["--study", "headline", "--cpus-per-worker", "nan"], "--cpus-per-worker must be a number above 0; got nan"),
        (["--study", "headline", "--gpus-per-trial", "-1"], "--gpus-per-trial must be a number of 0 or more; got -1"),
        (["--study", "pose_window", "--set", "model.pose.window=2"], "--set must reach a variant; each has a"),
        (["--resume", "nothing"], "A run is named by its folder in runs/; got 'nothing'"),
        (["--resume", "nothing", "--study", "headline"], "leave --study, --preset, --config, --set and --name out"),
    ],
)
def test_the_command_line_refuses_in_one_sentence(refused, tmp_path, options, message):
    assert message in refused(ablate, *options, cwd=tmp_path)
    assert not (tmp_path / "runs").exists()


def test_a_resumed_study_keeps_its_trials_share_of_the_machines(tmp_path):
    study_folder(tmp_path / "run", windows(2), seeds=(0, 1), workers_per_trial=2, cpus_per_worker=0.5)
    run = ["--resume", str(tmp_path / "run")]

    def options(*words):
        return tyro.cli(ablate.Options, args=[*run, *words])

    for given in ([], ["--workers-per-trial", "2", "--cpus-per-worker", "0.5"]):
        found, _ = ablate.resume(options(*given))
        assert (found.workers_per_trial, found.cpus_per_worker, found.gpus_per_trial) == (2, 0.5, 0.0)
    with pytest.raises(RunError, match=r"run began with --cpus-per-worker 0.5, and got --cpus-per-worker 1.0. Leave"):
        ablate.resume(options("--workers-per-trial", "2", "--cpus-per-worker", "1"))
