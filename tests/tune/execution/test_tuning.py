"""A tuned ablation with the stand-in training: a search for each variant, and their best with fresh seeds."""

import dataclasses
import math
import re

import pytest

from driven import Notes, ended, output, wait_for
from fake_training import curve
from htt import console
from htt.config import override
from htt.errors import ConfigError, RunError
from tune import ablate as command
from tune.execution import search as search_execution
from tune.experiments import checks
from tune.experiments import spec as specs
from tune.experiments.space import Choice, LogUniform
from tune.experiments.spec import TUNING_SEED, StudySpec
from tune.experiments.study import Study
from tune.reports import report
from tune.results import study_results
from tune.results.run_folder import RunFolder
from unrayed import replace_tune

CUES = "model.action.cues"
VARIANTS = {"all": {}, "hands & no object": {CUES: ["hands"]}}
"""Of the best rate, 1e-3, both are equally good."""
RATES = {"optim.lr": LogUniform(1e-5, 1e-1)}
TUNED = {"tune": 4, "space": "fake", "domains": RATES}
AWAY = {"optim.lr": 1e-2}
"""Shared settings that suit no variant."""


@pytest.fixture
def trained(monkeypatch):
    """The values of all trials that were trained, without Ray."""
    values = []
    replace_tune(monkeypatch, values, clips=True)
    return values


def pairs_of(outcome):
    return [trial.pair for trial in outcome.trials]


def searches(outcome):
    """Return the folders of the searches, in order."""
    return [RunFolder(path) for path in sorted((outcome.folder.path / "tuning").iterdir())]


def test_variants_are_searched_alike_and_trained_afresh(trained, ablate):
    outcome = ablate(VARIANTS, values=AWAY, **TUNED)
    found = searches(outcome)
    assert [each.name for each in found] == ["1-all", "2-hands-no-object"]
    spec = outcome.folder.record.study
    for (variant, changes), each in zip(VARIANTS.items(), found, strict=True):
        search, trials = each.record.search, each.trials()
        assert (search.trials, search.seed, search.metric, search.domains) == (4, 0, "hand_error_mm", RATES)
        assert len(trials) == 4
        base = search.config()
        assert base.train.seed == TUNING_SEED
        assert base == override(spec.study.config(spec.config(), variant, 0), {"train.seed": TUNING_SEED})
        assert list(base.model.action.cues) == changes.get(CUES, ["feature", "hands", "object"])
        best = min(trials, key=lambda trial: trial.metrics["hand_error_mm"])
        tuned = spec.tuned[variant]
        assert (tuned.values, tuned.value) == (best.values, best.metrics["hand_error_mm"])
        assert (tuned.trials, tuned.seconds) == (4, pytest.approx(sum(trial.seconds for trial in trials)))
        for seed in range(2):
            (ours,) = [trial for trial in outcome.trials if trial.pair == (f"{variant}, tuned", seed)]
            assert ours.values == {**changes, **best.values, "train.seed": seed}
            assert ours.metrics["hand_error_mm"] == curve(override(spec.config(), ours.values), 4)
    drawn = [[trial.values for trial in each.trials()] for each in found]
    assert drawn[0][0] == AWAY, "the shared settings are tried first"
    assert drawn[0][:2] == drawn[1][:2], "the same seed draws the same first samples"
    assert pairs_of(outcome) == [
        (f"{name}{end}", seed) for seed in range(2) for end in ("", ", tuned") for name in VARIANTS
    ]
    assert [trial.number for trial in outcome.trials] == list(range(1, 9))
    assert len(trained) == 4 + 2 * 4 + 4


def test_both_comparisons_have_their_own_reference(monkeypatch, ablate):
    replace_tune(monkeypatch, [], clips=True, drawn=True)
    outcome = ablate({"good": {}, "slow": {"optim.step_epochs": 1}, "wide": {"model.width": 128}}, values=AWAY, **TUNED)
    shared, tuned = study_results.parts(study_results.read(outcome.folder))
    assert shared.order == ["good", "slow", "wide"]
    assert tuned.order == ["good, tuned", "slow, tuned", "wide, tuned"]
    errors = [study_results.results_by_metric(part)[0] for part in (shared, tuned)]
    found = outcome.folder.record.study.tuned["good"].values["optim.lr"]
    assert [result.reference.summary.mean for result in errors] == [
        pytest.approx(20 + 10 * 1 + 10 + 0.005),
        pytest.approx(20 + 10 * abs(math.log10(found / 1e-3)) + 10 + 0.005),
    ]
    for result in errors:
        assert {found.comparisons for _, found in result.others} == {2}
        assert {found.n for _, found in result.others} == {2}
    page = outcome.folder.report.read_text()
    assert "Each variant was trained at shared settings and, **tuned**, at its own best: 4 trials of the space" in page
    assert "## Cost of tuning" in page
    assert page.count("| good, tuned |") == 2, "a row for each metric"
    assert re.search(r"\| slow \| 4 \| 0 \| .* \| \d+\.\d mm \| \d+\.\d mm \| optim.lr: ", page), page
    assert "uses: 12 trials, 4.8 s of training in all." in page
    assert (outcome.folder.path / "forest-tuned-hand_error_mm.png").exists()
    assert '"good, tuned"' in (outcome.folder.path / "report.csv").read_text()


def test_variant_with_the_shared_settings_is_not_retrained(trained, ablate):
    outcome = ablate(VARIANTS, **{**TUNED, "tune": 2, "domains": {"optim.lr": Choice(1e-3, 1e-1)}})
    assert [each.values for each in outcome.folder.record.study.tuned.values()] == [{}, {}]
    assert len(trained) == 4 + 2 * 2
    shared, tuned = map(study_results.results_by_metric, study_results.parts(study_results.read(outcome.folder)))
    assert [row.values.tolist() for row in tuned[0].rows] == [row.values.tolist() for row in shared[0].rows]
    assert not study_results.read(outcome.folder).missing()


def test_search_of_all_configurations_ends_with_fewer_trials(trained, ablate):
    outcome = ablate(VARIANTS, **{**TUNED, "domains": {"optim.lr": Choice(1e-2, 1e-1)}})
    assert [each.trials for each in outcome.folder.record.study.tuned.values()] == [2, 2]
    with pytest.raises(RunError, match=r"Cannot change --tune when resuming study: it was started with 4, got 5\."):
        ablate(VARIANTS, resume=True, **{**TUNED, "domains": {"optim.lr": Choice(1e-2, 1e-1)}, "tune": 5})


def test_stopped_tuning_resumes_without_repeats(trained, ablate, monkeypatch):
    run, calls = search_execution.run, []

    def interrupted(spec, **how):
        calls.append(spec.name)
        outcome = run(dataclasses.replace(spec, trials=2), **how) if len(calls) == 2 else run(spec, **how)
        return dataclasses.replace(outcome, stopped="interrupted") if len(calls) == 2 else outcome

    monkeypatch.setattr(search_execution, "run", interrupted)
    stopped = ablate(VARIANTS, values=AWAY, **TUNED)
    assert stopped.exit_code == console.INTERRUPTED
    assert stopped.folder.name == "study"
    assert "**The variants are not tuned yet**: the searches of 4 trials each have not ended." in (
        stopped.folder.report.read_text()
    )
    record = searches(stopped)[1].record
    searches(stopped)[1].write_record(dataclasses.replace(record, spec=dataclasses.replace(record.spec, trials=4)))
    ended = ablate(VARIANTS, values=AWAY, resume=True, **TUNED)
    assert ended.exit_code == 0
    assert calls == ["1-all", "2-hands-no-object", "2-hands-no-object"]
    assert len(trained) == 4 + 2 * 4 + 4
    more = ablate(
        VARIANTS, values=AWAY, seeds=range(3), resume=True, **{**TUNED, "tuned": ended.folder.record.study.tuned}
    )
    assert len(trained) == 4 + 2 * 4 + 4 + 4
    assert [trial.number for trial in more.trials] == list(range(1, 13))
    text = more.folder.report.read_text()
    report.write(more.folder)
    assert more.folder.report.read_text() == text


def fake(**changes):
    study = Study("Which?", VARIANTS, "all", seeds=range(2), metrics=("hand_error_mm",))
    return StudySpec(
        study_name="fake", study=dataclasses.replace(study, **changes.pop("study", {})), **{**TUNED, **changes}
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tune": 1}, r"--tune must be 2 trials or more for each variant; got 1\."),
        ({"tune": None}, r"--tune and --space belong together"),
        ({"space": None}, r"--tune and --space belong together"),
        ({"domains": {}}, r"Nothing to tune: the study fake or --set fixes every path that the space fake searches"),
        ({"study": {"seeds": [TUNING_SEED]}}, r"seed 4294967295 is that of the searches"),
        ({"study": {"variants": {**VARIANTS, "a, tuned": {}}}}, r"'a, tuned' ends like that of a tuned variant"),
        (
            {"study": {"variants": {**VARIANTS, "off": {"loss.depth_m": 0.0}}}},
            r"'off': Cannot select trials by hand_error_mm: the weight loss\.depth_m is 0",
        ),
        ({"domains": {"optim.lr": LogUniform(1.0, 1e9)}}, r"'all': .*optim\.lr: should be less than or equal"),
    ],
)  # fmt: skip
def test_invalid_tuning_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        checks.check_tuning(fake(**changes))
    checks.check_tuning(fake())
    checks.check_tuning(fake(tune=None, space=None, domains={}))


def options(*words):
    return command.Options(study="headline", spec=specs.StudyOptions(**dict(words)))


def test_searches_leave_out_what_the_study_or_set_fixes():
    plain = options(("tune", 3), ("space", "quick"))
    found = command.new(plain).domains
    assert "model.pose.window" not in found, "a variant of the study changes it"
    assert {"optim.lr", "model.pose.depth"} <= set(found)
    assert command.new(dataclasses.replace(plain, set=["optim.lr=1e-3"])).domains.keys() == found.keys() - {"optim.lr"}
    assert command.new(options()).domains == {}


def test_dry_run_shows_all_trainings_of_a_tuned_study(refused, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--study", "headline", "--preset", "quick", "--seeds", "2", "--tune", "3", "--space", "quick", "--dry-run"]
    console.run(command.Options, command.main, words)
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "Tuning: each variant, the reference too, is searched with 3 trials of space quick, by action_accuracy" in said
    )
    assert "optim.lr: 0.0005 to 0.005, logarithmic" in said
    assert "Not searched, because the study or --set fixes it: model.pose.window." in said
    assert "In all at most 35 trainings: 10 at shared settings, 5 x 3 in the searches" in said
    assert refused(command, *words[:-1], "--space", "qick", cwd=tmp_path).count("Did you mean 'quick'?") == 1
    assert "--tune must be 2 trials or more" in refused(command, *words, "--tune", "1", cwd=tmp_path)


@pytest.mark.ray
@pytest.mark.slow
def test_killed_tuned_ablation_resumes(driver, tmp_path):
    notes = Notes(tmp_path / "notes")
    words = [
        "ablate",
        "--study",
        "fake",
        "--tune",
        3,
        "--space",
        "fake",
        "--name",
        "run",
        "--max-concurrent",
        1,
        *notes.option,
    ]
    process = driver(*words)
    folder = tmp_path / "runs" / "run"
    wait_for(process, lambda: len(RunFolder(folder / "tuning" / "1-1e-3").trials()) >= 1, tmp_path)
    process.kill()
    process.wait()
    assert not RunFolder(folder).record.study.tuned
    said = ended(driver("ablate", "--resume", "run"), tmp_path, 1)
    assert "each variant at its own best" in said, output(tmp_path, 1)
    run = RunFolder(folder)
    assert [trial.state for trial in run.trials()] == ["complete"] * len(run.trials())
    found = {name: each.trials for name, each in run.record.study.tuned.items()}
    assert found == {"1e-3": 2, "1e-2": 2, "1e-4": 2}, "without the rate, the space has two configurations"
    begun = [event["trial"] for event in notes.all() if event.get("start") == 0]
    assert [begun.count(trial.id) for trial in run.trials()] == [1] * 12, "no training of the study was begun twice"
    assert len(begun) <= 12 + 3 * 2 + 1, "of the searches, at most the trial that was killed"
