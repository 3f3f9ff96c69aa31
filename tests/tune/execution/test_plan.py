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
from planned_study import STUDY, finished, study_spec
from project import environment
from report_folders import study_folder, windows
from tune import ablate
from tune.execution import plan
from tune.execution.plan import parse_seeds, with_seeds
from tune.experiments import study
from tune.experiments.study import Study


def test_plan_orders_all_variants_of_a_seed_first():
    assert [(pair.number, *pair.key) for pair in study.pairs(STUDY)] == [
        (1, "a", 0), (2, "b", 0), (3, "a", 1), (4, "b", 1),
    ]  # fmt: skip
    assert study.pairs(STUDY)[3].values == {"model.pose.window": 1, "train.seed": 1}
    longer = study.pairs(with_seeds(STUDY, "0,7"))
    assert longer[:4] == study.pairs(STUDY)
    assert [pair.key for pair in longer[4:]] == [("a", 7), ("b", 7)]


@pytest.mark.parametrize(("text", "seeds"), [("3", (0, 1, 2)), ("0,1,7", (0, 1, 7)), ("5, 2", (5, 2))])
def test_parse_seeds_accepts_a_count_or_a_list(text, seeds):
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
def test_with_seeds_extends_by_total_or_list(own, text, seeds):
    assert with_seeds(dataclasses.replace(STUDY, seeds=own), text).seeds == seeds


@pytest.mark.parametrize(
    "text", ["", "x", "0", "-1", "1,", "1;2", "1.5", "3 4", "0,1 2", "1001", "9" * 20, "9" * 5000, "٣"]
)
def test_parse_seeds_refuses_what_is_no_number(text):
    with pytest.raises(ConfigError, match="--seeds must be a count up to 1000, such as 6, or a list, such as 0,1,2"):
        parse_seeds(text)


def test_plan_counts_remaining_trainings_and_parameters(tmp_path):
    made = plan.plan(study_spec(), runs=tmp_path)
    assert [pair.key for pair in made.left] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert made.base.optim.lr == 0.01
    config = STUDY.config(made.base, "a", 0)
    assert made.parameters["a"] == sum(each.numel() for each in HTT(config.model, facts(config)).parameters())
    assert "2 seeds cannot carry a claim" in made.warnings[0]
    assert made.expected_s is None


def test_set_takes_precedence_over_the_studys_base(tmp_path):
    made = plan.plan(study_spec(values={"optim.lr": 0.5}, assignments={"optim.lr": 0.5}), runs=tmp_path)
    assert made.base.optim.lr == 0.5
    assert made.study.config(made.base, "b", 1).optim.lr == 0.5


def test_plan_warns_of_variants_that_override_set(tmp_path):
    values = {"model.pose.window": 4}
    made = plan.plan(study_spec(values=values, assignments=values), runs=tmp_path)
    assert made.warnings[1:] == [
        "--set model.pose.window=4 has no effect on variants with their own model.pose.window: 'b'."
    ]
    momentum = study_spec(assignments={"optim.momentum": 0.8})
    assert plan.plan(momentum, runs=tmp_path).warnings == made.warnings[:1]


def test_ineffective_set_is_refused_or_noted_for_an_old_run(tmp_path):
    study = dataclasses.replace(STUDY, variants={"a": {"model.pose.window": 2}, "b": {"model.pose.window": 1}})
    useless = {"model.pose.window": 4, "train.seed": 5}
    with pytest.raises(ConfigError) as caught:
        plan.plan(study_spec(study, assignments=useless), runs=tmp_path)
    faults = [
        "--set model.pose.window=4 has no effect: every variant has its own model.pose.window.",
        "Cannot use --set train.seed=5: --seeds sets the seeds.",
    ]
    assert caught.value.faults == faults
    spec = study_spec(study, assignments=useless, name="older")
    assert plan.plan(spec, runs=tmp_path, resume=True).warnings[1:] == faults


def test_plan_finds_a_finished_training_and_its_duration(tmp_path):
    spec = study_spec(max_concurrent=1)
    config = STUDY.config(override(spec.config(), STUDY.base), "b", 1)
    folder = finished(tmp_path, config)
    made = plan.plan(spec, runs=tmp_path)
    assert list(made.shared) == [("b", 1)]
    assert made.shared["b", 1].trial.id == "t1"
    assert made.seconds == {"b": 30.0}, "whatever the seed"
    assert made.expected_s == 3 * 30.0
    assert plan.plan(study_spec(share=False), runs=tmp_path).shared == {}
    (folder.clips / "t1.parquet").unlink()
    assert plan.plan(spec, runs=tmp_path).shared == {}, "without its clips it cannot be compared clip by clip"


def test_plan_looks_for_runs_in_a_storage_folder(tmp_path):
    spec = study_spec(storage=str(tmp_path))
    finished(tmp_path, STUDY.config(override(spec.config(), STUDY.base), "b", 1))
    made = plan.plan(spec, runs=tmp_path / "elsewhere")
    assert (list(made.shared), made.seconds) == ([("b", 1)], {"b": 30.0})


@pytest.mark.parametrize(
    "changes",
    [{"data": "synthetic-of-another-scene"}, {"metrics": {"hand_error_mm": 9.0}}, {"state": "stopped"},
     {"fingerprint": "0" * 12}],
)  # fmt: skip
def test_plan_does_not_reuse_a_different_training(tmp_path, changes):
    spec = study_spec()
    finished(tmp_path, STUDY.config(override(spec.config(), STUDY.base), "b", 1), **changes)
    assert plan.plan(spec, runs=tmp_path).shared == {}


def test_plan_names_a_variant_that_cannot_be_built(tmp_path):
    study = Study("?", {"a": {}, "odd": {"model.backbone.name": str(tmp_path)}}, "a", seeds=(0,))
    with pytest.raises(ConfigError, match=r"(?s)Cannot build the model of a variant.*'odd'"):
        plan.plan(study_spec(study), runs=tmp_path)


def test_plan_reports_missing_data_before_any_start(tmp_path):
    with pytest.raises(DataError, match=r"python -m htt\.data\.convert --source h2o"):
        plan.plan(study_spec(values={"data.source": "h2o"}), runs=tmp_path)
    with pytest.raises(DataError, match="/no/such"):
        plan.plan(study_spec(values={"data.root": "/no/such"}), runs=tmp_path)


def test_dry_run_refuses_a_taken_name(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "asked.yaml").write_text("kind: search\n")
    options = ["--study", "headline", "--dry-run", "--name", "mine", "--storage", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        console.run(ablate.Options, ablate.main, options)
    assert ended.value.code == 2
    assert "Cannot use a name twice: " in capsys.readouterr().err


def test_dry_run_prints_the_plan_without_ray(tmp_path):
    code = (
        "import sys; from tune import ablate\n"
        "ablate.main(ablate.Options(study='headline', preset='quick', seeds='2', dry_run=True))\n"
        "assert 'ray' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    assert "5 variants x 2 seeds (0, 1) = 10 trainings" in done.stdout
    assert "pose.window: 1" in done.stdout
    assert "Or train one seed first: python tune/ablate.py --study headline --preset quick --seeds 1\n" in done.stdout
    assert "2 seeds cannot carry a claim" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--study must name a study. Available: "),
        (["--study", "headlin"], "Did you mean 'headline'?"),
        (["--study", "headline", "--preset", "papre"], "Did you mean 'paper'?"),
        (
            ["--study", "headline", "--preset", "quick", "--config", "x.yaml"],
            "Cannot combine --preset with --config. Drop one of them.",
        ),
        (["--study", "headline", "--seeds", "many"], "--seeds must be a count"),
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
        (["--study", "pose_window", "--set", "model.pose.window=2"], "has no effect: every variant has its own"),
        (["--resume", "nothing"], "No run 'nothing' in runs/"),
        (["--resume", "nothing", "--study", "headline"], "Cannot combine --study with --resume."),
    ],
)
def test_ablate_refuses_in_one_sentence(refused, tmp_path, options, message):
    assert message in refused(ablate, *options, cwd=tmp_path)
    assert not (tmp_path / "runs").exists()


def test_resumed_study_keeps_the_resources_of_its_trials(tmp_path):
    study_folder(tmp_path / "run", windows(2), seeds=(0, 1), workers_per_trial=2, cpus_per_worker=0.5)
    run = ["--resume", str(tmp_path / "run")]

    def resumed(*words):
        options = tyro.cli(ablate.Options, args=[*run, *words])
        options.arguments = [*run, *words]
        return ablate.resume(options)

    for given in ([], ["--workers-per-trial", "2", "--cpus-per-worker", "0.5"]):
        found, runs = resumed(*given)
        assert runs == tmp_path
        assert (found.workers_per_trial, found.cpus_per_worker, found.gpus_per_trial) == (2, 0.5, 0.0)
    with pytest.raises(RunError, match=r"change --cpus-per-worker when .* started with 0\.5, got 1\.0\. Drop"):
        resumed("--workers-per-trial", "2", "--cpus-per-worker", "1")
