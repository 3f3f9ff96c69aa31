import numpy as np
import polars as pl
import pytest

from report_folders import study_folder, windows
from tune.reports import study
from tune.results import study_results
from tune.results.contrasts import contrast
from tune.results.stats import Claim

PAIR = ("action_accuracy", "action_accuracy_hard")


@pytest.fixture
def folder(tmp_path):
    """Eight seeds; by answers, one clip of twelve more is named rightly by each training of the second variant."""
    asked = {"metrics": list(PAIR), "contrasts": [list(PAIR)]}
    made = study_folder(tmp_path / "run", windows(2), seeds=range(8), study=asked)
    for trial in made.trials():
        path = made.clips / f"{trial.id}.parquet"
        soft = pl.read_parquet(path)["correct"].to_numpy()
        hard = soft.copy()
        if trial.variant == "2 frames":
            hard[np.flatnonzero(~soft)[0]] = True
        pl.read_parquet(path).with_columns(correct_hard=pl.Series(hard)).write_parquet(path)
    made.write_trials([_with_hard(made, trial) for trial in made.trials()])
    return made


def _with_hard(folder, trial):
    clips = pl.read_parquet(folder.clips / f"{trial.id}.parquet")
    trial.metrics["action_accuracy_hard"] = float(clips["correct_hard"].mean())
    return trial


def test_two_metrics_of_the_same_trainings_are_compared_within_each(folder):
    found = contrast(study_results.read(folder), *PAIR)
    same, more = found["1 frame"], found["2 frames"]
    assert (same.difference, same.low, same.high, same.p_holm, same.n) == (0.0, 0.0, 0.0, 1.0, 8)
    assert same.claim is Claim.NONE
    assert more.difference == pytest.approx(1 / 12)
    assert more.p_holm == 2 * 2 / 2**8, "the smallest there is with eight seeds, for two comparisons"
    assert more.low <= 1 / 12 <= more.high


def test_it_is_by_seeds_alone_where_clips_are_not_known_of_both(folder):
    for trial in folder.trials():
        path = folder.clips / f"{trial.id}.parquet"
        pl.read_parquet(path).drop("correct_hard").write_parquet(path)
    found = contrast(study_results.read(folder), *PAIR)["2 frames"]
    assert (found.difference, found.low, found.high) == pytest.approx((1 / 12, 1 / 12, 1 / 12))
    assert found.claim is Claim.BETTER


def test_the_report_shows_it_beside_the_second_metric(folder):
    study.write(folder)
    text = folder.report.read_text()
    _, of_hard = text.split("## Action accuracy, hard vote")
    said, table = of_hard.split("Action accuracy, hard vote minus action accuracy, within each trial:")[0:2]
    assert "| Variant | Difference | 95 % interval | p (Holm) | Claim |" in table
    assert "| 2 frames | +8.3 points |" in table
    assert "within each trial" not in said
    assert text.count("within each trial") == 1
