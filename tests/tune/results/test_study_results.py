import math
from itertools import product

import numpy as np
import polars as pl
import pytest

import report_folders
from htt.config import Config, override
from htt.errors import RunError
from report_folders import record, study_folder, windows
from tune.results import study_results
from tune.results.run_folder import RunFolder
from tune.results.stats import Claim

VARIANTS = {"long": {}, "short": {"model.pose.window": 1}}
ERRORS = {("long", 0): [10, 20, 30], ("long", 1): [12, 22, 32], ("short", 0): [13, 23, 33], ("short", 1): [17, 27, 37]}
"""Of three clips: short is worse by 3 and by 5."""


def trial(number, variant, seed, **changes):
    error = np.mean(ERRORS[variant, seed]) + (1.5 if variant == "short" else 0.5)  # of frames, not of clips
    metrics = {"hand_error_mm": error, "action_accuracy": (1 + seed) / 4, "hand_auc": 0.5}
    plain = {"metrics": metrics, "seconds": 10.0 + seed, "curve": (50.0, error), "variant": variant, "seed": seed}
    return report_folders.trial(number, **{**plain, **changes})


def folder_of(path, trials, base=None, **study):
    folder = RunFolder(path / "run")
    plain = {
        "question": "?", "variants": VARIANTS, "reference": "long", "seeds": [0, 1],
        "metrics": ["hand_error_mm", "action_accuracy", "hand_auc"], **study,
    }  # fmt: skip
    base = (base or Config()).model_dump(mode="json")
    asked = {"base": base, "name": "run", "kind": "study", "study": plain, "parameters": {"long": 1000}}
    folder.write_record(record(**asked))
    folder.write_trials(trials)
    folder.clips.mkdir()
    for one in trials:
        correct = [True, None, one.seed == 1]
        clips = {"clip": ["a", "b", "c"], "hand_error_mm": ERRORS[one.pair], "correct": correct}
        pl.DataFrame(clips, schema_overrides={"hand_error_mm": pl.Float64}).write_parquet(
            folder.clips / f"{one.id}.parquet"
        )
    return folder


def all_trials(**changes):
    return [trial(number, *pair, **changes) for number, pair in enumerate(product(VARIANTS, (0, 1)))]


def test_difference_equals_that_of_displayed_means(tmp_path):
    found = study_results.results_by_metric(study_results.read(folder_of(tmp_path, all_trials())))[0]
    assert found.metric == "hand_error_mm"
    assert found.clips == 3
    assert found.reference.values.tolist() == [20.5, 22.5]
    assert (found.reference.summary.mean, found.reference.summary.n) == (21.5, 2)
    row, compared = found.others[0]
    assert row.variant == "short"
    assert (row.summary.mean, compared.difference, compared.n) == (26.5, pytest.approx(5.0), 2)
    assert row.seconds == 10.5
    assert found.reference.parameters == 1000
    assert math.isnan(row.parameters)


def test_clips_unknown_to_one_training_are_omitted(tmp_path):
    accuracy = study_results.results_by_metric(study_results.read(folder_of(tmp_path, all_trials())))[1]
    assert (accuracy.metric, accuracy.clips) == ("action_accuracy", 2)
    assert accuracy.others[0][1].difference == pytest.approx(0.0)


def add_groups(folder, trial_ids, groups):
    for each in trial_ids:
        path = folder.clips / f"{each}.parquet"
        pl.read_parquet(path).with_columns(group=pl.Series(groups)).write_parquet(path)


def test_groups_of_clips_are_those_of_any_trial(tmp_path):
    """A trial that was taken from an older run has a table without groups."""
    folder = folder_of(tmp_path, all_trials())
    older = study_results.results_by_metric(study_results.read(folder))[0]
    assert (older.clips, older.groups) == (3, 3)
    add_groups(folder, ["t1", "t2"], ["r", "r", "s"])
    results = study_results.read(folder)
    assert study_results.tables(results, "hand_error_mm")[1] == ["r", "r", "s"]
    found = study_results.results_by_metric(results)[0]
    assert (found.clips, found.groups) == (3, 2)
    assert found.others[0][1].difference == pytest.approx(older.others[0][1].difference)


def test_study_intervals_are_over_groups(tmp_path):
    """Clips that are copies of one another tell no more than one of them."""
    copies = np.repeat(np.arange(12), 3)
    intervals = {}
    for name, groups in (("once", None), ("copied", [f"r{each:02}" for each in copies]), ("alone", None)):
        folder = study_folder(tmp_path / name, windows(2), seeds=range(4), clips=True)
        for path in folder.clips.iterdir():
            clips = pl.read_parquet(path).with_columns(clip=pl.Series([f"c{each:02}" for each in range(12)]))
            if name != "once":
                clips = clips[copies.tolist()].with_columns(clip=pl.Series([f"c{each:02}" for each in range(36)]))
            clips = clips if groups is None else clips.with_columns(group=pl.Series(groups))
            clips.write_parquet(path)
        (_, compared) = study_results.results_by_metric(study_results.read(folder))[1].others[0]
        intervals[name] = compared.low, compared.high
    assert intervals["copied"] == pytest.approx(intervals["once"])
    low, high = intervals["alone"]
    assert intervals["once"][0] < low < high < intervals["once"][1]


@pytest.mark.parametrize(
    ("off", "unclaimed"), [("short", {"short"}), ("long", {"short", "shorter"})], ids=["variant", "reference"]
)
def test_metric_of_a_head_without_loss_is_never_claimed(tmp_path, off, unclaimed):
    variants = {name: {"optim.lr": 10.0**-place} for place, name in enumerate(("long", "short", "shorter"), 2)}
    variants[off] |= {"loss.joints_px": 0.0, "loss.depth_m": 0.0}
    folder = study_folder(tmp_path, variants, effects={"long": 0.0, "short": 9.0, "shorter": 6.0})
    accuracy, error = study_results.results_by_metric(study_results.read(folder))
    claims = {row.variant: found.claim for row, found in error.others}
    assert {name for name, claim in claims.items() if claim is Claim.UNTRAINED} == unclaimed
    assert [found.p_holm for row, found in error.others if row.variant not in unclaimed] == [2 / 64] * (
        3 - 1 - len(unclaimed)
    ), "six seeds carry the one comparison that is left"
    assert not {found.claim for _, found in accuracy.others} & {Claim.UNTRAINED}


def test_metric_without_clips_is_compared_by_seeds(tmp_path):
    folder = folder_of(tmp_path, all_trials())
    assert study_results.results_by_metric(study_results.read(folder))[2].clips == 0, (
        "no clip has an area of its own here"
    )
    (folder.clips / "t0.parquet").unlink()
    found = study_results.results_by_metric(study_results.read(folder))[0]
    assert (found.clips, found.others[0][1].difference) == (0, 5.0)


def test_curves_are_of_the_recorded_metric(tmp_path):
    found = study_results.results_by_metric(study_results.read(folder_of(tmp_path, all_trials())))
    assert found[0].curves == {"long": [(50.0, 20.5), (50.0, 22.5)], "short": [(50.0, 24.5), (50.0, 28.5)]}
    assert found[1].curves == {}


def test_missing_trainings_are_named_and_not_counted(tmp_path):
    trials = [
        trial(0, "long", 0),
        trial(1, "long", 1, state="stopped", epochs=1),
        trial(2, "short", 0, state="failed", error="NonFiniteLossError: no", metrics={}),
    ]
    results = study_results.read(folder_of(tmp_path, trials))
    assert results.missing() == {
        "long": ["seed 1 was stopped after 1 epoch"],
        "short": ["seed 1 not trained yet", "seed 0 failed (NonFiniteLossError: no)"],
    }
    found = study_results.results_by_metric(results)[0]
    assert found.reference.summary.n == 1
    row, compared = found.others[0]
    assert (row.summary.n, compared.n) == (0, 0)
    assert compared.claim is Claim.NOT_MEASURED


def test_repeated_training_counts_once_as_complete(tmp_path):
    again = [*all_trials(), trial(9, "long", 0, state="failed", error="late")]
    results = study_results.read(folder_of(tmp_path, again))
    assert results.pairs["long", 0].id == "t0"
    assert results.missing() == {}


def test_paper_value_is_shown_for_the_papers_data_only(tmp_path):
    paper = {"long": {"hand_error_mm": 14.4}}
    results = study_results.read(folder_of(tmp_path, all_trials(), paper_value=paper))
    assert math.isnan(study_results.results_by_metric(results)[0].reference.paper)
    h2o = override(Config(), {"data.source": "h2o"})
    results = study_results.read(folder_of(tmp_path / "h2o", all_trials(), h2o, paper_value=paper))
    first = study_results.results_by_metric(results)[0]
    assert first.reference.paper == 14.4
    assert math.isnan(first.rows[1].paper)


def test_claims_are_over_variants_named_beforehand(tmp_path):
    names = list(windows(3))
    folder = study_folder(tmp_path / "run", windows(3), study={"primary": names[1:2]})
    found = study_results.results_by_metric(study_results.read(folder))[1]
    claims = {row.variant: compared.claim for row, compared in found.others}
    assert claims == {names[1]: Claim.WORSE, names[2]: Claim.NOT_PRIMARY}


@pytest.mark.parametrize(("file", "text"), [("clips/t0.parquet", "no"), ("trials.parquet", "no"), ("run.yaml", "{")])
def test_damaged_folder_names_the_file(tmp_path, file, text):
    folder = folder_of(tmp_path, all_trials())
    (folder.path / file).write_text(text)
    with pytest.raises(RunError, match=file):
        study_results.read(RunFolder(folder.path))


def test_search_is_no_study(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_record(record(name="search"))
    with pytest.raises(RunError, match=r"Expected a study; search is a search\."):
        study_results.read(folder)
