"""Searches in two stages with the stand-in training: what is trained when, what wins, and what is gone on with."""

import os
import shutil
import signal

import pytest

import unrayed
from driven import Notes, output, wait_for
from fake_training import BASE, metrics_of
from htt.config import override, read
from htt.errors import ConfigError, TrainingError
from tune import best
from tune.execution.recorder import Recorder
from tune.experiments.space import Choice, Space
from tune.experiments.study import SEED
from tune.reports import finalists as reports
from tune.results import finalists, retrain
from tune.results.run_folder import RunFolder

pytestmark = pytest.mark.ray
FROZEN = {"model.backbone.name": "resnet_tiny", "model.backbone.weights": "rendered", "model.backbone.trained": False,
          "data.augment.views": 0}  # fmt: skip
DEPTHS = Space({"model.pose.depth": Choice(1, 2, 3)}, base={**BASE, **FROZEN, "optim.lr": 1e-3})
STAGES = {
    "finalist_epochs": 4,
    "scheduler": "none",
    "algorithm": "random",
    "trials": 6,
    "finalists": 2,
    "finalist_seeds": 2,
}
END_TO_END = {1: -5.0, 2: 1.0, 3: 4.0}
"""{depth: change of the error when the encoder is trained}; on features, a layer costs 2 mm."""


def metrics(config, epoch):
    depth, found = config.model.pose.depth, metrics_of(config, epoch)
    more = END_TO_END[depth] if config.model.backbone.trained else 2.0 * depth
    return {**found, "hand_error_mm": found["hand_error_mm"] + more}


class Trained(list):
    """Values of all trainings; Ctrl-C comes before the training of stage two with the number ``stop``, from 1."""

    stop = 0

    def append(self, values):
        if SEED in values and len(self.stage_two) + 1 == self.stop:
            self.stop = 0
            raise KeyboardInterrupt
        super().append(values)

    @property
    def stage_two(self):
        return [values for values in self if SEED in values]

    @property
    def end_to_end(self):
        return [values for values in self if values.get("model.backbone.trained")]


def stand_in(monkeypatch, **options):
    values = Trained()
    monkeypatch.setattr(unrayed, "metrics_of", metrics)
    unrayed.replace_tune(monkeypatch, values, clips=True, **options)
    return values


@pytest.fixture
def trained(monkeypatch):
    return stand_in(monkeypatch)


def shown(tmp_path):
    return (tmp_path / "shown").read_text()


def test_best_of_both_stages_is_written(monkeypatch, search, tmp_path):
    trained = stand_in(monkeypatch, drawn=True)
    outcome = search(DEPTHS, **STAGES)
    first, second = sorted({trial.values["model.pose.depth"] for trial in outcome.trials})[:2]
    assert (first, second) == (1, 2)
    folder = finalists.newest(outcome.folder)
    assert folder.name == "finalists"
    study = folder.record.study.study
    best_one, next_one = (
        next(trial for trial in outcome.trials if trial.values == {"model.pose.depth": depth}) for depth in (1, 2)
    )
    assert list(study.variants) == [
        f"trial {best_one.number}, on features",
        f"trial {best_one.number}, end to end",
        f"trial {next_one.number}, end to end",
    ]
    assert study.seeds == (1, 2), "the base has seed 0"
    assert study.variants[study.reference] == {"model.pose.depth": 1}
    weights = outcome.folder.path / "tune" / best_one.id / "checkpoint_000000"
    changes = {"model.pose.depth": 1, "model.backbone.trained": True, "data.augment.views": None, "train.epochs": 4,
               "optim.lr": 3e-4, "model.weights": str(weights)}  # fmt: skip
    assert study.variants[f"trial {best_one.number}, end to end"] == changes
    assert weights.is_dir()
    assert trained.end_to_end == [
        {**study.variants[f"trial {trial.number}, end to end"], SEED: seed}
        for seed in (1, 2)
        for trial in (best_one, next_one)
    ]
    config = outcome.folder.record.config()
    wanted = [metrics(override(config, {**changes, SEED: seed}), 4)["hand_error_mm"] for seed in (1, 2)]
    assert outcome.best.metrics["hand_error_mm"] == pytest.approx(sum(wanted) / 2)
    assert read(outcome.folder.best) == override(config, changes)
    assert outcome.exit_code == 0
    report = outcome.folder.report.read_text()
    assert f"Best configuration: trial {best_one.number}, end to end, with 30.2 mm (the mean of 2 seeds)" in report
    assert "a rank correlation needs 4 finalists; got 2 finalists end to end." in report
    valued = f"as the best of {len(outcome.trials)}; with 2 fresh seeds on features"
    assert f"trial {best_one.number} had 32.0 mm in stage one, {valued}" in report
    assert (folder.path / "report.html").exists()
    assert "Stage two: 2 finalists end to end" in shown(tmp_path)


def test_best_command_gives_the_winner_of_both_stages(trained, search, capsys, monkeypatch, tmp_path):
    outcome = search(DEPTHS, **STAGES)
    before = outcome.folder.best.read_text()
    outcome.folder.best.unlink()
    monkeypatch.chdir(tmp_path)
    best.main(best.Options(run="run", storage=str(tmp_path)))
    assert outcome.folder.best.read_text() == before
    printed = capsys.readouterr().out
    assert "Stages one and two by hand error" in printed
    assert "end to end" in printed
    section = reports.section(outcome.folder, outcome.trials)
    planned = retrain.plan(outcome.folder, section.best, "hand_error_mm", 2)
    assert planned.seeds == [3, 4], "0 is the search's, 1 and 2 are the finalists'"
    assert planned.config == read(outcome.folder.best)
    best.main(best.Options(run="run", storage=str(tmp_path), metric="action_accuracy"))
    assert "Stages one and two" not in capsys.readouterr().out, "stage two did not select by it"


def test_stage_one_stays_if_no_finalist_is_better(trained, search, monkeypatch):
    monkeypatch.setitem(END_TO_END, 1, 9.0)
    outcome = search(DEPTHS, **STAGES)
    assert outcome.best.values == {"model.pose.depth": 1}
    assert outcome.best in outcome.trials
    assert read(outcome.folder.best).model.weights is None
    report = outcome.folder.report.read_text()
    assert f"No finalist is better than the best of stage one, trial {outcome.best.number} with 32.0 mm" in report


def test_finalists_from_scratch_train_as_long_as_their_trials(trained, search):
    outcome = search(DEPTHS, **{**STAGES, "finalists": 1, "finalist_start": "both", "finalist_epochs": 2})
    whole, scratch = (values for values in trained.end_to_end if values[SEED] == 1)
    assert (whole["train.epochs"], whole["optim.lr"]) == (2, 3e-4)
    assert whole["model.weights"]
    assert scratch.keys() == {"model.pose.depth", "model.backbone.trained", "data.augment.views", SEED}
    names = list(finalists.newest(outcome.folder).record.study.study.variants)
    assert names[2].endswith("end to end from scratch")
    assert outcome.best.variant == names[2]


def test_ctrl_c_in_stage_two_is_resumed_there(trained, search, tmp_path):
    trained.stop = 2
    stopped = search(DEPTHS, **STAGES)
    assert (stopped.stopped, stopped.exit_code) == ("interrupted", 130)
    assert stopped.best in stopped.trials, "no seed is complete for all finalists"
    assert "No seed is complete for all finalists yet" in stopped.folder.report.read_text()
    done = [trial.id for trial in finalists.newest(stopped.folder).trials()]
    assert len(done) == 1
    again = search(DEPTHS, **STAGES, resume=True)
    assert len(trained.stage_two) == 6
    assert again.trials == stopped.trials
    after = finalists.newest(again.folder).trials()
    assert [trial.id for trial in after][:1] == done
    assert [trial.state for trial in after] == ["complete"] * 6
    assert again.best.variant.endswith("end to end")
    assert "All 6 trials" not in shown(tmp_path)
    search(DEPTHS, **STAGES, resume=True)
    assert len(trained.stage_two) == 6, "nothing is left"


def test_finished_search_gets_finalists_and_more_seeds_later(trained, search):
    outcome = search(DEPTHS, **{**STAGES, "finalists": 0})
    assert finalists.newest(outcome.folder) is None
    assert "Finalists" not in outcome.folder.report.read_text()
    search(DEPTHS, **STAGES, resume=True)
    assert len(trained.stage_two) == 6
    search(DEPTHS, **{**STAGES, "finalist_seeds": 3}, resume=True)
    assert len(trained.stage_two) == 9
    assert RunFolder(outcome.folder.path).record.search.finalist_seeds == 3
    assert finalists.newest(outcome.folder).name == "finalists"


def test_other_finalists_are_a_study_that_reuses_trainings(trained, search):
    outcome = search(DEPTHS, **{**STAGES, "finalists": 1})
    assert len(trained.stage_two) == 4
    search(DEPTHS, **STAGES, resume=True)
    folder = finalists.newest(outcome.folder)
    assert folder.name == "finalists-2"
    assert len(trained.stage_two) == 6
    assert [bool(trial.taken_from) for trial in folder.trials()] == [True, True, False] * 2


def test_budget_covers_both_stages(trained, search, monkeypatch):
    left = []

    def spent(recorder):
        left.append(recorder.experiment.time_budget_s)
        return 0.0 if len(recorder.done) >= 3 else 60.0

    monkeypatch.setattr(Recorder, "left_s", property(spent))
    limits = {"trials": None, "time_budget_s": 90.0}
    outcome = search(DEPTHS, **{**STAGES, **limits})
    assert outcome.stopped == "time budget"
    assert left[:3] == pytest.approx([72.0] * 3)
    assert 18.0 <= left[-1] <= 90.0, "a fifth, and what stage one leaves"
    assert len(finalists.newest(outcome.folder).trials()) == 3
    assert outcome.best.variant, "the first seed is complete"
    monkeypatch.undo()


def test_failed_finalists_keep_stage_one(trained, search, monkeypatch, capsys):
    def fails(*_, **__):
        raise TrainingError("out of memory")

    monkeypatch.setattr("tune.execution.study.run", fails)
    outcome = search(DEPTHS, **STAGES)
    assert outcome.best in outcome.trials
    assert read(outcome.folder.best).model.pose.depth == 1
    assert outcome.folder.report.exists()
    assert "The finalists are not complete: out of memory" in " ".join(capsys.readouterr().err.split())


def test_removed_checkpoint_is_one_sentence(trained, search, capsys):
    outcome = search(DEPTHS, **{**STAGES, "finalists": 0})
    shutil.rmtree(outcome.folder.path / "tune")
    search(DEPTHS, **STAGES, resume=True)
    assert "its checkpoint is no longer in" in " ".join(capsys.readouterr().err.split())
    search(DEPTHS, **{**STAGES, "finalist_start": "scratch"}, resume=True)
    assert len(trained.end_to_end) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"finalists": -1}, "--finalists must be 0 to 1000; got -1"),
        ({"finalists": 7}, "--finalists 7 needs as many trials; got --trials 6"),
        ({"finalist_seeds": 0}, "--finalist-seeds must be 1 to 1000; got 0"),
        ({"finalist_start": "weigths"}, "--finalist-start must be one of weights, scratch, both; got 'weigths'. Did"),
        ({"finalist_epochs": 0}, "--finalist-epochs must be 1 or more; got 0"),
        ({"finalist_lr": 0.0}, "--finalist-lr must be a number above 0; got 0"),
        ({"assignments": {"model.backbone.trained": True}}, "--finalists 2 needs a search with a frozen encoder"),
    ],
)
def test_invalid_finalists_are_refused_before_any_start(trained, search, tmp_path, options, message):
    with pytest.raises(ConfigError) as caught:
        search(DEPTHS, **{**STAGES, **options})
    assert message in str(caught.value)
    assert not trained
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_killed_stage_two_resumes_without_repeats(driver, tmp_path):
    folder, notes = RunFolder(tmp_path / "runs" / "run"), Notes(tmp_path / "notes")
    ask = ["--space", "fake", "--name", "run", "--trials", "2", "--scheduler", "none", "--finalists", "1"]
    fixed = [word for path, value in FROZEN.items() for word in ("--set", f"{path}={value}")]
    first = driver(*ask, *fixed, *notes.option, "--finalist-seeds", "3", "--max-concurrent", "1",
                   "--set", "optim.step_epochs=150")  # fmt: skip
    inner = RunFolder(folder.path / "finalists")
    wait_for(first, lambda: inner.exists() and len(inner.trials()) >= 2, tmp_path)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before, stage_one = {trial.id: trial for trial in inner.trials()}, folder.trials()
    assert folder.best.exists()
    again = driver("--resume", "run")
    assert again.wait(600) == 0, output(tmp_path, 1)
    assert folder.trials() == stage_one
    after = {trial.id: trial for trial in inner.trials()}
    assert {name: after[name] for name in before} == before
    assert [trial.state for trial in after.values()] == ["complete"] * 6
    whole = [event["trial"] for event in notes.all() if event.get("start") == 0]
    assert all(whole.count(name) == 1 for name in before)
    assert 2 + 6 <= len(set(whole)) <= 2 + 6 + 1, "only the one that was killed may start again, under another name"
    text = output(tmp_path, 1)
    assert "Searching space" not in text
    assert "Stages one and two by hand error" in text
    assert "Traceback" not in output(tmp_path, 0) + text
