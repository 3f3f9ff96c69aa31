"""Effects of factors and contrasts of metrics, against numbers worked out by hand."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from htt.errors import ConfigError
from report_folders import study_folder, windows
from tune.experiments.designs import factorial
from tune.experiments.study import Study
from tune.reports import study as study_report
from tune.results import effects, study_results
from tune.results.stats import Claim

FACTORS = {
    "window": {"16 frames": {}, "1 frame": {"model.pose.window": 1}},
    "cues": {"all cues": {}, "feature": {"model.action.cues": ["feature"]}},
}
WINDOW, CUES = "window: 1 frame instead of 16 frames", "cues: feature instead of all cues"
ALL, NO_CUES, NO_WINDOW, NEITHER = factorial(**FACTORS)
DEPTH = {"2": {}, "1": {"model.pose.depth": 1}, "3": {"model.pose.depth": 3}}


def study(factors=FACTORS, variants=None, **changes):
    variants = factorial(**factors) if variants is None else variants
    return Study("?", variants, next(iter(variants)), factors=factors, **changes)


def weights(asked):
    return {effect.title: effect.weights for effect in effects.effects(asked)}


def test_effects_of_two_by_two_by_hand():
    found = weights(study())
    assert found == {
        WINDOW: {ALL: -0.5, NO_CUES: -0.5, NO_WINDOW: 0.5, NEITHER: 0.5},
        CUES: {ALL: -0.5, NO_CUES: 0.5, NO_WINDOW: -0.5, NEITHER: 0.5},
        f"{WINDOW} × {CUES}": {ALL: 1.0, NO_CUES: -1.0, NO_WINDOW: -1.0, NEITHER: 1.0},
    }
    values = {ALL: 20.0, NO_CUES: 23.0, NO_WINDOW: 24.0, NEITHER: 33.0}
    sums = [
        float(effects.sum_of(each, {name: np.array(one) for name, one in values.items()})) for each in found.values()
    ]
    assert sums == [28.5 - 21.5, 28.0 - 22.0, 33.0 - 24.0 - 23.0 + 20.0]


def test_three_level_factor_is_compared_with_the_reference():
    found = weights(study({**FACTORS, "depth": DEPTH}))
    assert "depth: 1 instead of 2" in found
    assert "depth: 3 instead of 2" in found
    assert len(found) == (1 + 1 + 2) + (1 + 2 + 2)
    third = found["depth: 3 instead of 2"]
    assert {name: weight for name, weight in third.items() if name.endswith(" 3")} == {
        name: 0.25 for name in third if name.endswith(" 3")
    }
    assert sum(third.values()) == 0
    for title, each in found.items():
        assert sum(each.values()) == pytest.approx(0), title


def test_fractional_factorial_has_no_effects():
    """An older version made such designs; their main effects are confounded with interactions."""
    factors = {**FACTORS, "depth": {"2": {}, "1": {"model.pose.depth": 1}}}
    half = {name: changes for name, changes in factorial(**factors).items() if len(changes) % 2 == 0}
    assert len(half) == 4
    assert effects.effects(study(factors, half)) == []


def truth(seed, name):
    """The effects of this world: the window 4 mm, cues 2 mm, both 3 mm more; seeds differ, equally in all variants."""
    window, cues = name in (NO_WINDOW, NEITHER), name in (NO_CUES, NEITHER)
    return 20.0 + 4 * window + 2 * cues + 3 * (window and cues) + 0.7 * seed


@pytest.fixture
def folder(tmp_path):
    made = study_folder(tmp_path / "run", factorial(**FACTORS), seeds=range(9), clips=False, study={"factors": FACTORS})
    trials = [
        dataclasses.replace(trial, metrics={"hand_error_mm": truth(trial.seed, trial.variant), "action_accuracy": 0.5})
        for trial in made.trials()
    ]
    made.write_trials(trials)
    return made


def test_effects_equal_those_of_the_simulation(folder):
    by_title = {effect.title: one for effect, one in effects.compared(study_results.read(folder), "hand_error_mm")}
    expected = {WINDOW: 4 + 3 / 2, CUES: 2 + 3 / 2, f"{WINDOW} × {CUES}": 3.0}
    assert {title: one.difference for title, one in by_title.items()} == pytest.approx(expected)
    for one in by_title.values():
        assert one.n == 9
        assert one.p == 2 / 2**9
        assert one.p_holm == 3 * 2 / 2**9, "corrected over the three effects"
        assert one.claim is Claim.WORSE
        assert one.low <= one.difference <= one.high
    flat = [one for _, one in effects.compared(study_results.read(folder), "action_accuracy")]
    assert {(one.difference, one.claim) for one in flat} == {(0.0, Claim.NONE)}


def test_effects_use_seeds_that_all_variants_have(folder):
    trials = [trial for trial in folder.trials() if (trial.variant, trial.seed) != (NEITHER, 3)]
    folder.write_trials(trials)
    counts = {one.n for _, one in effects.compared(study_results.read(folder), "hand_error_mm")}
    assert counts == {8}
    folder.write_trials([trial for trial in trials if trial.variant != NEITHER])
    (nothing,) = {one.n for _, one in effects.compared(study_results.read(folder), "hand_error_mm")}
    assert nothing == 0


def test_effects_are_in_report_and_csv(folder):
    study_report.write(folder)
    said = folder.report.read_text()
    assert f"| {WINDOW} | +5.50 mm | +5.50 to +5.50 mm | 0.012 | worse |" in said
    assert f"| {WINDOW} × {CUES} | +3.00 mm | +3.00 to +3.00 mm | 0.012 | together worse than added up |" in said
    assert "Effect of a factor: mean" in said
    lines = (folder.path / "effects.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 3
    assert lines[4].startswith(f"hand_error_mm,mm,{WINDOW},window,9,5.5")


@pytest.mark.usefixtures("undrawn")
def test_study_without_factors_has_no_effects(tmp_path):
    folder = study_folder(tmp_path / "run", factorial(**FACTORS))
    study_report.write(folder)
    assert "Effect of a factor: mean" not in folder.report.read_text()
    assert not (folder.path / "effects.csv").exists()
    assert effects.effects(Study("?", factorial(**FACTORS), ALL)) == []


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({**factorial(**FACTORS), "odd": {"optim.lr": 1.0}}, r"combinations of levels and nothing else; \['odd'\] are"),
        ({**factorial(**FACTORS), "odd": {"model.pose.window": 3}}, r"\['odd'\] are not"),
        (dict(list(factorial(**FACTORS).items())[:3]), "those of window and cues are not. Use factorial of"),
    ],
)
def test_variants_that_form_no_design_are_refused(variants, message):
    with pytest.raises(ConfigError, match=message):
        study(variants=variants)


def test_factors_survive_the_record():
    asked = study()
    again = Study.from_plain(asked.plain())
    assert again.levels() == asked.levels() == {
        ALL: {"window": "16 frames", "cues": "all cues"},
        NO_CUES: {"window": "16 frames", "cues": "feature"},
        NO_WINDOW: {"window": "1 frame", "cues": "all cues"},
        NEITHER: {"window": "1 frame", "cues": "feature"},
    }  # fmt: skip
    assert weights(again) == weights(asked)


@pytest.mark.usefixtures("undrawn")
def test_report_judges_the_effects_of_a_metric_once(tmp_path, monkeypatch):
    folder = study_folder(tmp_path / "run", factorial(**FACTORS), study={"factors": FACTORS})
    judged, compared = [], effects.compared
    monkeypatch.setattr(effects, "compared", lambda results, metric: judged.append(metric) or compared(results, metric))
    study_report.write(folder)
    assert sorted(judged) == ["action_accuracy", "hand_error_mm"]
    assert WINDOW in (folder.path / "report.md").read_text()
    assert WINDOW in (folder.path / "effects.csv").read_text()


PAIR = ("action_accuracy", "action_accuracy_hard")


@pytest.fixture
def voted(tmp_path):
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


def test_effects_and_contrasts_use_groups(voted, tmp_path):
    factors = study_folder(tmp_path / "factors", factorial(**FACTORS), study={"factors": FACTORS})
    for folder in (voted, factors):
        for path in folder.clips.iterdir():
            pl.read_parquet(path).with_columns(group=pl.lit("r")).write_parquet(path)
    found = [one for _, one in effects.compared(study_results.read(factors), "hand_error_mm")]
    found += effects.contrast(study_results.read(voted), *PAIR).values()
    assert len(found) == 3 + 2
    assert all(np.isnan(one.low) and not one.claim.differs for one in found), "all clips are one group"


def test_contrast_compares_two_metrics_within_each_training(voted):
    found = effects.contrast(study_results.read(voted), *PAIR)
    same, more = found["1 frame"], found["2 frames"]
    assert (same.difference, same.low, same.high, same.p_holm, same.n) == (0.0, 0.0, 0.0, 1.0, 8)
    assert same.claim is Claim.NONE
    assert more.difference == pytest.approx(1 / 12)
    assert more.p_holm == 2 * 2 / 2**8, "the smallest there is with eight seeds, for two comparisons"
    assert more.low <= 1 / 12 <= more.high


def test_contrast_without_common_clips_uses_seeds_only(voted):
    for trial in voted.trials():
        path = voted.clips / f"{trial.id}.parquet"
        pl.read_parquet(path).drop("correct_hard").write_parquet(path)
    found = effects.contrast(study_results.read(voted), *PAIR)["2 frames"]
    assert (found.difference, found.low, found.high) == pytest.approx((1 / 12, 1 / 12, 1 / 12))
    assert found.claim is Claim.BETTER


@pytest.mark.usefixtures("undrawn")
def test_contrast_is_shown_beside_the_second_metric(voted):
    study_report.write(voted)
    text = voted.report.read_text()
    _, of_hard = text.split("## Action accuracy, hard vote")
    said, table = of_hard.split("Action accuracy, hard vote minus action accuracy, within each trial:")[0:2]
    assert "| Variant | Difference | 95 % interval | p (Holm) | Claim |" in table
    assert "| 2 frames | +8.3 points |" in table
    assert "within each trial" not in said
    assert text.count("within each trial") == 1
