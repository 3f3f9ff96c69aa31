"""What a search is told, reuses, refuses and picks: objectives, constraints, warm starts, points, finite spaces."""

import contextlib
import dataclasses
import shutil
from types import SimpleNamespace

import optuna
import polars as pl
import pytest
import yaml

import report_folders
from fake_training import BASE, TRAINING, clips_of
from htt.config import override
from htt.errors import ConfigError, DataError, RunError, TrainingError
from htt.presets import poses
from htt.training.tasks import Facts
from tune.execution import runner
from tune.execution.recorder import MAX_INFEASIBLE, Recorder
from tune.experiments.constraints import parse
from tune.experiments.space import Choice, Integer, LogUniform, Space
from tune.results.run_folder import RunFolder
from tune.searchers.feasibility import SizeCheck
from tune.searchers.optuna_searcher import Searcher
from tune.searchers.optuna_study import open_journal
from unrayed import CUES, FINITE, replace_tune


@pytest.fixture
def trained(monkeypatch):
    """The values of all trials that were trained."""
    values = []
    replace_tune(monkeypatch, values)
    return values


def test_restored_search_tells_the_study_why_a_trial_failed():
    told = []
    rows = {
        kind: dataclasses.replace(report_folders.trial(number), id=kind, state="failed", error="-", error_kind=kind)
        for number, kind in enumerate(("DeviceMemoryError", "NonFiniteLossError"))
    }
    searcher = SimpleNamespace(keep_only=lambda _, ended: told.append(ended))
    Recorder._reconcile(
        SimpleNamespace(_reconciled=False, done=rows, searcher=searcher, generator=SimpleNamespace(count=0)), []
    )
    assert told == [{kind: {"error_kind": kind} for kind in rows}]


def study_of(folder):
    return optuna.load_study(study_name=folder.name, storage=open_journal(folder.journal))


def states_of(folder):
    return [trial.state.name for trial in study_of(folder).get_trials()]


def test_exhausted_space_ends_a_search_without_repeats(trained, search, tmp_path):
    outcome = search(FINITE, trials=None, time_budget_s=600.0)
    states = [trial.state for trial in outcome.trials]
    assert (outcome.stopped, states.count("complete"), len(trained)) == ("used up", 4, 4)
    assert set(states) <= {"complete", "cached"}
    assert "Every configuration of space fake has been tried." in (tmp_path / "shown").read_text()
    assert [trial.number for trial in outcome.trials] == list(range(1, len(states) + 1))
    assert states_of(outcome.folder) == ["COMPLETE"] * len(states)
    resumed = search(FINITE, trials=None, time_budget_s=600.0, resume=True)
    assert resumed.trials == outcome.trials
    assert len(trained) == 4


def test_only_trials_of_several_workers_start_a_dashboard(trained, search, monkeypatch):
    asked = []
    connect = lambda _, *, train: asked.append(train) or contextlib.nullcontext()  # noqa: E731
    monkeypatch.setattr(runner.connect, "connect", connect)
    search(name="alone", trials=1)
    search(name="group", trials=1, workers_per_trial=2)
    assert asked == [False, True]


def prepared(**facts):
    """A training whose data are as told."""
    return dataclasses.replace(TRAINING, prepare=lambda config: Facts(**facts))


@pytest.mark.parametrize(
    "asked",
    [
        {"metric": "hand_error_left_mm"},
        {"objectives": ("hand_error_mm", "hand_error_left_mm")},
        {"constraints": parse(["hand_error_left_mm<=30"])},
        {"objectives": ("hand_error_mm", "latency_ms"), "pick": "hand_error_left_mm<=30"},
    ],
)
def test_search_refuses_a_metric_the_data_lack(trained, search, tmp_path, asked):
    training = prepared(unknown={"hand_error_left_mm": "the data have the right hand alone"})
    with pytest.raises(ConfigError) as refused:
        search(FINITE, training=training, **asked)
    said = str(refused.value)
    assert said.startswith("The data cannot give hand_error_left_mm: the data have the right hand alone. Metrics they")
    assert "hand_error_right_mm" in said
    assert trained == []
    assert not (tmp_path / "run").exists()


def test_study_refuses_a_metric_the_data_lack(trained, ablate, tmp_path):
    training = prepared(unknown={"action_accuracy": "the actions of these clips are unknown"})
    with pytest.raises(ConfigError, match="cannot give action_accuracy: the actions of these clips are unknown"):
        ablate({"a": {}, "b": {"optim.lr": 1e-2}}, training=training)
    assert trained == []


def test_study_with_a_model_without_images_keeps_the_hands_of_the_others(trained, ablate, monkeypatch):
    """Only if no variant predicts hands, a metric of theirs is refused."""
    variants = {"images": {}, "poses": {path: value for path, value in poses.PRESET.items() if path != "optim.lr"}}
    why = {"hand_error_mm": "a model without an image encoder predicts no hands"}
    training = dataclasses.replace(
        TRAINING, prepare=lambda config: Facts(unpredicted={} if config.model.backbone.reads_images else why)
    )
    for order in (variants, dict(reversed(variants.items()))):
        outcome = ablate(order, training=training, name="-".join(order))
        assert len(outcome.trials) == 4
    both = {"poses": variants["poses"], "slower": {**variants["poses"], "optim.lr": 1e-4}}
    with pytest.raises(ConfigError, match="cannot give hand_error_mm: a model without an image encoder predicts no"):
        ablate(both, training=training, name="both")


def test_study_with_a_model_without_forecast_keeps_the_forecasts_of_the_others(trained, ablate):
    """Only if no variant forecasts, or none that far, a metric of forecasts is refused."""
    why = {"forecast_error_mm": "the model has no forecast", "forecast_error_200ms_mm": "0.2 s are 6 frames"}

    def facts(config):
        frames = config.model.forecast.frames
        return Facts(unpredicted={name: text for name, text in why.items() if frames < (1 if "no" in text else 6)})

    training = dataclasses.replace(TRAINING, prepare=facts)
    variants = {str(frames): {"model.forecast.frames": frames} for frames in (0, 3)}
    metrics = ("hand_error_mm", "forecast_error_mm")
    assert len(ablate(variants, training=training, metrics=metrics).trials) == 4
    with pytest.raises(ConfigError, match=r"cannot give forecast_error_200ms_mm: 0\.2 s are 6 frames"):
        ablate(variants, training=training, metrics=(*metrics, "forecast_error_200ms_mm"), name="far")


def test_incomplete_data_are_in_record_and_report(trained, search, tmp_path):
    said = "Incomplete data: split 'val' has 1 of 122 clips and 3 of 11,638 frames"
    baselines = {"hand_error_mm": 144.9, "action_accuracy": 1 / 36}
    outcome = search(FINITE, trials=2, training=prepared(incomplete=[said], baselines=baselines))
    assert outcome.folder.record.incomplete == [said]
    assert outcome.folder.record.baselines == baselines
    assert f"**{said}**" in outcome.folder.report.read_text()
    assert f"warning: {said}" in (tmp_path / "shown").read_text()
    search(FINITE, trials=3, resume=True)
    assert outcome.folder.record.incomplete == [said]
    assert outcome.folder.record.baselines == baselines


def test_trial_without_an_objective_fails_with_a_reason(trained, search):
    with pytest.raises(TrainingError, match="memory_mb must be a finite number; got none"):
        search(FINITE, trials=2, objectives=("hand_error_mm", "memory_mb"))


def test_complete_search_resumes_without_ray(trained, search, tmp_path, monkeypatch):
    first = search(FINITE, trials=3, algorithm="random")
    monkeypatch.setattr(runner.connect, "connect", lambda _: pytest.fail("Ray was started for nothing"))
    (tmp_path / "run" / "report.md").unlink()
    again = search(FINITE, trials=2, algorithm="random", resume=True)
    assert (again.trials, again.best, again.stopped) == (first.trials, first.best, "nothing left")
    assert (tmp_path / "run" / "report.md").exists()
    said = (tmp_path / "shown").read_text()
    assert f"All 3 trials of run have ended. Add more with: --resume {tmp_path / 'run'} --trials NUMBER\n" in said
    assert said.count("Starting on") == 1


def test_interrupted_search_announces_its_stop_at_once(trained, search, monkeypatch, tmp_path):
    def interrupted(*arguments):
        recorder = arguments[-1]
        recorder.stop("interrupted")
        recorder.stop("time budget")

    monkeypatch.setattr(runner, "_tune", interrupted)
    assert search(FINITE, trials=3).stopped == "interrupted"
    assert (tmp_path / "shown").read_text().count("Stopping: saving running trials") == 1


def test_name_of_a_final_training_is_taken(trained, search, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("optim: {}\n")
    with pytest.raises(RunError, match=r"run is a final training\. Choose another --name\.$"):
        search(FINITE, trials=3)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.yaml"]


def taken_over(search):
    """Options of a search whose first two trials another run has trained."""
    before = search(FINITE, trials=2, name="before")
    words = [[f"{path}={value}".replace(" ", "") for path, value in one.values.items()] for one in before.trials]
    return {"warm_start": ("before",), "points": tuple(" ".join(each).replace("'", "") for each in words)}


def test_cached_trials_count_and_survive_a_resume(trained, search, tmp_path):
    options = taken_over(search)
    first = search(FINITE, trials=3, **options)
    again = search(FINITE, trials=4, resume=True)
    assert [trial.state for trial in again.trials] == ["cached", "cached", "complete", "complete"]
    assert again.trials[:3] == first.trials
    for trial in again.trials[:2]:
        (origin,) = [one for one in first.folder.earlier() if trial.taken_from == one.taken_from]
        assert (trial.metrics, trial.values, trial.seconds) == (origin.metrics, origin.values, 0.0)
    assert "as before/" in (tmp_path / "shown").read_text()
    assert len(trained) == 4


@pytest.mark.parametrize("seed", range(4))
def test_search_of_a_whole_finite_space_tries_each_once(trained, search, seed):
    outcome = search(FINITE, trials=4, seed=seed)
    assert [trial.state for trial in outcome.trials] == ["complete"] * 4
    assert len({str(values) for values in trained}) == 4


def test_failed_trial_is_no_result_and_not_repeated_forever(trained, search):
    space = Space({"optim.momentum": Choice(0.1, 0.9)}, base=BASE)
    outcome = search(space, trials=None, time_budget_s=600.0)
    assert outcome.stopped == "used up"
    assert {trial.values["optim.momentum"]: trial.state for trial in outcome.trials} == {0.1: "failed", 0.9: "complete"}


@pytest.mark.parametrize("where", [(Searcher, "on_trial_complete"), (Recorder, "settle")], ids=["study", "row"])
def test_killed_driver_settles_each_trial_once(trained, search, monkeypatch, where):
    options = taken_over(search)

    class Killed(BaseException):
        """An end that nothing catches, as that of SIGKILL."""

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(*where, killed)
        patch.setattr(Searcher, "close", lambda _: None)
        with pytest.raises(Killed):
            search(FINITE, trials=3, **options)
    outcome = search(FINITE, trials=3, resume=True)
    assert [trial.number for trial in outcome.trials] == [1, 2, 3]
    assert [trial.state for trial in outcome.trials] == ["cached", "cached", "complete"]
    assert states_of(outcome.folder) == ["COMPLETE"] * (2 + 3)
    assert len(trained) == 3


BOTH = {"metric": "hand_error_mm", "objectives": ("hand_error_mm", "latency_ms")}


def test_several_objectives_give_a_front_and_a_pick(monkeypatch, search):
    replace_tune(monkeypatch, [], stop_at={3: 2, 5: 1}, drawn=True)
    outcome = search(trials=8, seed=1, pick="latency_ms<=15", **BOTH)
    spec = outcome.folder.record.spec
    assert (spec.metric, spec.objectives, spec.pick) == ("hand_error_mm", BOTH["objectives"], "latency_ms<=15")
    assert {trial.metrics["latency_ms"] for trial in outcome.trials} == {10.0, 20.0}
    assert states_of(outcome.folder) == [trial.state.upper() for trial in outcome.trials]
    assert outcome.trials[2].state == outcome.trials[4].state == "pruned"
    fast = [trial for trial in outcome.trials if trial.metrics["latency_ms"] == 10.0]
    assert outcome.best == min(fast, key=lambda trial: trial.metrics["hand_error_mm"])
    found_by = yaml.safe_load(outcome.folder.best.read_text())["found_by"]
    assert found_by["rule"] == "the best hand_error_mm on the front with latency_ms<=15"
    assert found_by["objectives"]["latency_ms"] == 10.0
    assert f"Picked: trial {outcome.best.number}," in outcome.folder.report.read_text()
    with pytest.raises(RunError, match="Cannot change --seed and --objective and --pick when"):
        search(trials=9, resume=True)
    more = search(trials=9, seed=1, pick="latency_ms<=15", resume=True, **BOTH)
    assert more.trials[:8] == outcome.trials


def test_bound_that_no_trial_keeps_picks_none(trained, search):
    with pytest.raises(RunError, match=r"satisfies --pick latency_ms<=5.*The nearest is.*latency_ms 10.0 ms > 5 ms"):
        search(trials=2, pick="latency_ms<=5", **BOTH)


WIDTHS = Space({"model.width": Choice(32, 64, 128)}, base={**BASE, "optim.lr": 1e-3})


def sizes():
    """{width: numbers the model learns}."""
    start, check = override(WIDTHS.start(), {"data.source": "synthetic"}), SizeCheck(parse(["parameters<=1"]))
    return {width: check.violation(override(start, {"model.width": width}))[0] for width in (32, 64, 128)}


def test_infeasible_model_is_not_trained_and_never_best(trained, search):
    constraints = parse([f"parameters<={sizes()[64]}", "latency_ms<=15"])
    space = Space({**WIDTHS.domains, **CUES}, base={**WIDTHS.base, "model.action.cues": ["hands", "object"]})
    outcome = search(space, trials=None, time_budget_s=600.0, constraints=constraints)
    first = {}
    for trial in outcome.trials:
        first.setdefault((trial.values["model.width"], len(trial.values["model.action.cues"])), trial)
    assert {key: trial.state for key, trial in first.items()} == {
        (32, 1): "complete", (32, 2): "complete", (64, 1): "complete", (64, 2): "complete",
        (128, 1): "infeasible", (128, 2): "infeasible",
    }  # fmt: skip
    assert len(trained) == 4
    assert {first[64, 2].violation, first[32, 2].violation} == {"latency_ms 20.0 ms > 15.0 ms"}
    assert first[64, 1].violation is None
    assert first[128, 1].violation.startswith("parameters ")
    assert outcome.best.values["model.action.cues"] == ["hands"]
    assert yaml.safe_load(outcome.folder.best.read_text())["found_by"]["constraints"] == list(map(str, constraints))
    assert "Constraint violations" in outcome.folder.report.read_text()
    study = study_of(outcome.folder)
    assert all(excess <= 0 for excess in study.best_trial.constraints.values())
    refused = [trial for trial in study.get_trials() if trial.state.name == "PRUNED"]
    assert len(refused) == sum(trial.state == "infeasible" for trial in outcome.trials)
    assert all(trial.constraints[str(constraints[0])] > 0 for trial in refused)
    again = search(space, trials=None, time_budget_s=600.0, constraints=constraints, resume=True)
    assert again.trials == outcome.trials
    with pytest.raises(RunError, match="Cannot change --constraint when resuming run"):
        search(space, trials=None, time_budget_s=600.0, resume=True)


def test_unsatisfiable_constraints_are_one_sentence(trained, search, tmp_path):
    with pytest.raises(RunError, match=r"satisfies the constraints, out of 3\. The nearest is .* > 10"):
        search(WIDTHS, trials=3, constraints=parse(["parameters<=10"]))
    assert not trained
    folder = RunFolder(tmp_path / "run")
    assert not folder.best.exists()
    assert "No trial satisfies the constraints `parameters<=10` yet." in folder.report.read_text()


def test_search_of_only_infeasible_trials_gives_up(trained, search):
    space = Space({"train.seed": Integer(0, 10**6)}, base=BASE)
    with pytest.raises(RunError, match=f"out of {MAX_INFEASIBLE}"):
        search(space, trials=None, time_budget_s=600.0, constraints=parse(["parameters<=10"]))


def test_search_whose_trials_fail_names_the_failures(trained, search):
    space = Space({"optim.momentum": Choice(0.1), "train.seed": Integer(0, 10**6)}, base=BASE)
    with pytest.raises(TrainingError, match="NonFiniteLossError"):
        search(space, trials=9, constraints=parse(["latency_ms<=1"]))


def make_old(folder):
    """Replace the record of a run by that of an older version."""
    plain = yaml.safe_load((folder.path / "run.yaml").read_text())
    spec, domains = plain.pop("spec"), folder.record.spec.domains
    choices = {path: list(domain.values) for path, domain in domains.items() if isinstance(domain, Choice)}
    texts = {path: str(domain) for path, domain in domains.items()}
    old = {**plain, **spec, "domains": texts, "choices": choices, "trials": spec["trials"] or 0}
    for name in ("schema", "share_any", "max_concurrent", "address"):
        del old[name]
    (folder.path / "asked.yaml").write_text(yaml.safe_dump(old))
    (folder.path / "run.yaml").unlink()


def test_old_search_resumes_and_gets_a_new_record(trained, search):
    space = Space({"optim.lr": LogUniform(1e-4 / 3, 1e-2), **CUES}, base=BASE)
    first = search(space, trials=2, seed=3)
    make_old(first.folder)
    assert RunFolder(first.folder.path).record.schema == 0
    more = search(space, trials=3, seed=3, resume=True)
    assert more.trials[:2] == first.trials
    record = RunFolder(first.folder.path).record
    assert (record.schema, record.spec.domains, record.spec.trials) == (1, space.domains, 2)
    other = Space({**space.domains, "optim.lr": LogUniform(1e-4, 1e-2)}, base=BASE)
    make_old(more.folder)
    with pytest.raises(RunError, match=r"Cannot change the space when resuming run\. Start a new run"):
        search(other, trials=4, seed=3, resume=True)


def test_warm_start_and_points_enter_a_search_once(trained, search, tmp_path):
    before = search(trials=4, name="before")
    options = {"warm_start": ("before",), "points": ("optim.lr=2e-3 model.action.cues=[hands]",)}
    outcome = search(trials=3, name="after", seed=5, **options)
    assert [trial.number for trial in outcome.trials] == [1, 2, 3]
    assert outcome.trials[0].values == {"optim.lr": 2e-3, "model.action.cues": ["hands"]}
    assert len(states_of(outcome.folder)) == 7
    assert [trial.id for trial in outcome.folder.earlier()] == [trial.id for trial in before.trials]
    assert outcome.trials[1].state == "cached"
    assert outcome.trials[1].values == before.best.values, "it ends with nothing worse than it began with"
    assert "Warm start with 4 of the 4 trials of before." in (tmp_path / "shown").read_text()
    spec = outcome.folder.record.spec
    assert (spec.warm_start, spec.points) == (("before",), (outcome.trials[0].values,))
    shutil.rmtree(before.folder.path)
    again = search(trials=5, name="after", seed=5, resume=True)
    assert [trial.number for trial in again.trials] == [1, 2, 3, 4, 5]
    assert len(states_of(again.folder)) == 9


def test_warm_start_finds_a_run_in_the_same_storage(trained, search, tmp_path):
    place = str(tmp_path / "shared")
    search(trials=2, name="before", storage=place)
    outcome = search(trials=1, name="after", storage=place, warm_start=("before",))
    assert outcome.folder.path == tmp_path / "shared" / "after"
    assert "Warm start with 2 of the 2 trials of before." in (tmp_path / "shown").read_text()


def test_run_killed_before_its_start_starts_anew(trained, search, tmp_path):
    search(trials=1)
    (tmp_path / "run" / "run.yaml").unlink()
    (tmp_path / "run" / "trials.parquet").unlink()
    assert len(states_of(search(trials=2).folder)) == 2


def test_result_of_an_earlier_run_is_cached(trained, search):
    before = search(FINITE, trials=1, name="before")
    outcome = search(FINITE, trials=1, name="after", warm_start=("before",))
    (trial,) = outcome.trials
    assert (trial.state, trial.values) == ("cached", before.trials[0].values)
    assert trial.taken_from.startswith(f"before/{before.trials[0].id} (")
    assert outcome.best == trial
    assert len(trained) == 1


def test_cached_trial_states_a_violated_constraint(trained, search, tmp_path):
    search(FINITE, trials=1, name="before")
    options = {"warm_start": ("before",), "constraints": parse(["latency_ms<=5"])}
    with pytest.raises(RunError, match="No trial satisfies the constraints, out of 1"):
        search(FINITE, trials=1, name="after", **options)
    (trial,) = RunFolder(tmp_path / "after").trials()
    assert (trial.state, trial.violation) == ("cached", "latency_ms 10.0 ms > 5 ms")
    assert len(trained) == 1


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"objectives": ("loss", "los"), "metric": "loss"}, ConfigError, r"No such metric: .los.\. .*mean .loss.\?"),
        ({"objectives": ("loss", "loss"), "metric": "loss"}, ConfigError, "each metric once; got loss twice"),
        ({"pick": "knees"}, ConfigError, "--pick must be knee, first or a bound"),
        ({"warm_start": ("nothing",)}, RunError, "No run 'nothing' in"),
        ({"points": ("optim.lr=1",)}, ConfigError, "optim.lr must be in the space, 1e-05 to 0.1"),
    ],
)
def test_settling_lists_all_faults_in_one_error(trained, search, tmp_path, options, kind, message):
    with pytest.raises(kind, match=f"(?s){message}"):
        search(**options)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


WEIGHTS = Space({"loss.joints_px": Choice(0.1, 1.0), "train.epochs": Choice(2, 4, 8)}, base={**BASE, "train.epochs": 4})


@pytest.mark.parametrize(
    "options",
    [
        {"metric": "loss"},
        {"metric": "hand_error_mm", "objectives": ("hand_error_mm", "loss")},
        {"constraints": parse(["loss<=3"])},
        {"objectives": ("hand_error_mm", "latency_ms"), "pick": "loss<=3"},
    ],
)
def test_loss_does_not_compare_trials_of_other_weights(trained, search, options):
    with pytest.raises(ConfigError, match=r"by loss: each has its own loss\.joints_px, .* such as hand_error_mm or"):
        search(WEIGHTS, **options)
    assert not trained


def test_loss_compares_trials_of_equal_weights(trained, search):
    fixed = {"loss.joints_px": 1.0}
    assert search(WEIGHTS, metric="loss", trials=1, assignments=fixed).best is not None


def test_trial_is_complete_after_its_own_epochs(trained, search):
    outcome = search(WEIGHTS, trials=6)
    assert {(trial.state, trial.epochs) for trial in outcome.trials} == {("complete", each) for each in (2, 4, 8)}
    assert states_of(outcome.folder) == ["COMPLETE"] * 6


def test_trial_has_equal_numbers_everywhere(search, monkeypatch):
    replace_tune(monkeypatch, [])
    outcome = search(trials=3)
    assert [trial.id for trial in outcome.trials] == ["1", "2", "3"]
    assert [trial.number for trial in outcome.trials] == [1, 2, 3]
    best = yaml.safe_load(outcome.folder.best.read_text())["found_by"]["trial"]
    assert best == outcome.best.number
    study = optuna.load_study(study_name="run", storage=open_journal(outcome.folder.journal))
    assert [trial.user_attrs["trial"] for trial in study.trials] == ["1", "2", "3"]


def test_every_trial_keeps_its_clips_also_if_pruned(monkeypatch, search, tmp_path):
    replace_tune(monkeypatch, [], stop_at={2: 1}, clips=True, drawn=True)
    outcome = search(FINITE, trials=3)
    states = [trial.state for trial in outcome.trials]
    assert states == ["complete", "pruned", "complete"]
    for trial in outcome.trials:
        config = override(outcome.folder.record.config(), trial.values)
        clips = pl.read_parquet(outcome.folder.clips / f"{trial.id}.parquet").to_dict(as_series=False)
        assert clips == clips_of(config, trial.epochs)
    assert "95 % interval" in outcome.folder.report.read_text()


def test_base_is_among_the_first_trials_and_marked(trained, search):
    outcome = search(FINITE, trials=2)
    assert trained[0] == {"optim.lr": 1e-3, "model.action.cues": ["hands"]}
    assert "1 (base)" in outcome.folder.report.read_text()


def test_prediction_picture_is_of_the_best_trial_only(monkeypatch, trained, search, tmp_path):
    drawn = []

    def draw(config, checkpoint, path):
        drawn.append((config.optim.lr, checkpoint.name))
        path.write_bytes(b"a picture")

    monkeypatch.setattr("tune.execution.predictions.draw", draw)
    monkeypatch.setattr("tune.reports.commands.newest_checkpoint", lambda *_: tmp_path / "checkpoint_000003")
    outcome = search(FINITE, trials=2)
    assert drawn == [(outcome.best.values["optim.lr"], "checkpoint_000003")]
    assert "](predictions.png)" in outcome.folder.report.read_text()
    monkeypatch.setattr("tune.reports.commands.newest_checkpoint", lambda *_: None)
    search(FINITE, trials=3, resume=True)
    assert not outcome.folder.predictions.exists()


def test_failed_picture_warns_and_costs_no_result(monkeypatch, trained, search, tmp_path, capsys):
    def draw(*_):
        raise DataError("no frames here")

    monkeypatch.setattr("tune.execution.predictions.draw", draw)
    monkeypatch.setattr("tune.reports.commands.newest_checkpoint", lambda *_: tmp_path)
    assert search(FINITE, trials=2).best is not None
    assert "No picture of predictions: no frames here" in capsys.readouterr().err
