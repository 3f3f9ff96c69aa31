"""Every figure is drawn with few and many, short and long names, and no two of its words may touch."""

import dataclasses

import numpy as np
import pytest
from matplotlib.text import Text

from htt.pages import style
from readable import assert_readable
from report_folders import search_folder, study_folder, windows
from tune.reports.figures import search, study
from tune.reports.figures.axes import axes
from tune.reports.importance import importance, intervals
from tune.results import selection, study_results
from tune.results.selection import ranked

STUDIES = [(2, False), (4, False), (8, True), (12, True)]


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    found = {}
    for count, long in STUDIES:
        parameters = {name: 50_000 * 3**number for number, name in enumerate(windows(count, long=long))}
        path = tmp_path_factory.mktemp("studies") / f"of-{count}"
        results = study_results.read(study_folder(path, windows(count, long=long), parameters=parameters))
        found[count] = results, study_results.results_by_metric(results)
    return found


@pytest.mark.parametrize("count", [count for count, _ in STUDIES])
@pytest.mark.parametrize("metric", [0, 1])
def test_study_figures_are_all_drawn(studies, count, metric):
    results, found = studies[count]
    result = found[metric]
    assert_readable(study.forest(result))
    assert_readable(study.seeds(result, results.seeds))
    for by in ("seconds", "parameters"):
        assert_readable(study.cost(result, by))
    curves = study.curves(result)
    if metric == 1:
        assert_readable(curves)
    else:
        assert curves is None, "only the hand error was recorded epoch by epoch"


@pytest.mark.parametrize("seeds", [1, 2, 9, 14])
def test_study_figures_accept_few_and_many_seeds(tmp_path, seeds):
    results = study_results.read(study_folder(tmp_path / "run", windows(3), seeds=range(seeds)))
    result = study_results.results_by_metric(results)[1]
    assert_readable(study.forest(result))
    assert_readable(study.seeds(result, results.seeds))


def test_study_figures_accept_a_study_just_started(tmp_path):
    names = list(windows(3))
    missing = [(name, seed) for name in names for seed in range(6) if (name, seed) != (names[0], 0)]
    results = study_results.read(study_folder(tmp_path / "run", windows(3), missing=missing))
    result = study_results.results_by_metric(results)[1]
    figure = study.forest(result)
    assert_readable(figure)
    said = [text.get_text() for text in figure.findobj(Text)]
    assert said.count("no seed in common with the reference") == 2
    assert_readable(study.seeds(result, results.seeds))
    assert study.cost(result, "seconds") is None


def test_claimed_differences_are_filled_and_coloured(tmp_path):
    effects = dict(zip(windows(3), (0.0, 6.0, -6.0), strict=True))
    results = study_results.read(study_folder(tmp_path / "run", windows(3), seeds=range(8), effects=effects))
    figure = study.forest(study_results.results_by_metric(results)[1])
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o" and len(line.get_xdata()) == 1]
    assert [(dot.get_markerfacecolor(), round(dot.get_xdata()[0])) for dot in dots] == [
        (style.BAD, 6),
        (style.GOOD, -6),
    ]
    (side,) = figure.axes[0].patches
    assert side.get_extents().transformed(figure.axes[0].transData.inverted()).x1 == pytest.approx(0), "lower is better"


def test_seed_lines_join_variants(studies):
    results, found = studies[4]
    figure = study.seeds(found[1], results.seeds)
    joined = [line for line in figure.axes[0].lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 4]
    assert len(joined) == 6
    assert list(joined[2].get_xdata()) == [row.values[2] for row in found[1].rows]


def test_cost_figure_has_better_upwards(studies):
    _, (accuracy, error) = studies[2]
    for result, inverted in ((accuracy, False), (error, True)):
        assert study.cost(result, "seconds").axes[0].yaxis_inverted() == inverted


@pytest.mark.parametrize("count", [2, 3, 60, 200])
def test_search_figures_are_all_drawn(tmp_path, count):
    folder = search_folder(tmp_path / "run", count)
    trials, record = folder.trials(), folder.record
    order = ranked(trials, record.spec.metric)
    scales = axes(record, order)
    assert_readable(search.progress(order, record.spec.metric))
    assert_readable(search.parallel(order, scales, record.spec.metric))
    assert_readable(search.pareto(trials, ["hand_error_mm", "action_accuracy"]))
    references = {"base, trial 1": 31.0, "mean pose": 144.9}
    assert_readable(search.progress(order, record.spec.metric, references))
    assert_readable(search.curves(order, record.spec.metric, references))
    assert_readable(search.slices(order, scales, record.spec.metric))
    shares = importance(order, scales, record.spec.metric)
    if shares:
        assert_readable(search.bars(shares, intervals(order, scales, record.spec.metric, shares)))


def test_long_choice_labels_do_not_overlap(tmp_path):
    cues = [["feature"], ["hands"], ["object"], ["feature", "hands"], ["feature", "object"], ["hands", "object"]]
    cues.append(["feature", "hands", "object"])
    folder = search_folder(tmp_path / "run", 40, domains={"model.action.cues": f"one of {cues}"})
    trials = [
        dataclasses.replace(trial, values={"model.action.cues": cues[trial.number % 7]}) for trial in folder.trials()
    ]
    order = ranked(trials, "hand_error_mm")
    assert_readable(search.parallel(order, axes(folder.record, order), "hand_error_mm"))
    assert_readable(search.slices(order, axes(folder.record, order), "hand_error_mm"))


def test_learning_curves_end_where_pruned_and_omit_far_lines(tmp_path):
    order = ranked(search_folder(tmp_path / "run", 30).trials(), "hand_error_mm")
    figure = search.curves(order, "hand_error_mm", {"base": 31.0, "mean pose": 144.9})
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    best = lines[f"best, trial {order[0].number}"]
    assert list(best.get_ydata()) == list(order[0].curve)
    ends = [line for line in figure.axes[0].lines if line.get_marker() == "s"]
    assert len(ends) == sum(trial.state == "pruned" for trial in order) > 0
    assert "mean pose, 144.9 mm (beyond the figure)" in lines
    assert figure.axes[0].get_ylim()[1] < 144.9
    assert any(list(line.get_ydata()) == [31.0, 31.0] for line in figure.axes[0].lines)
    assert search.curves([dataclasses.replace(order[0], curve=(60.0,))], "hand_error_mm") is None


def test_parallel_coordinates_draw_the_best_trial_at_its_values(tmp_path):
    folder = search_folder(tmp_path / "run", 30)
    order = ranked(folder.trials(), "hand_error_mm")
    scales = axes(folder.record, order)
    lines = search.parallel(order, scales, "hand_error_mm").axes[0].lines
    (best,) = [line for line in lines if line.get_linewidth() > 2]
    across = {float(y): x for x, y in zip(best.get_xdata(), best.get_ydata(), strict=True)}
    place = [scale.path for scale in scales].index("optim.lr")
    assert across[place] == scales[place].place(order[0].values["optim.lr"])
    assert best.get_xdata()[-1] == 1.0, "the metric's better side is to the right"
    assert not np.isnan(best.get_xdata()).any(), "one line from the first axis to the last"


def test_three_objectives_are_two_panels(tmp_path):
    folder = search_folder(tmp_path / "run", 30)
    trials = [
        dataclasses.replace(one, metrics={**one.metrics, "object_accuracy": 0.01 * one.number})
        for one in folder.trials()
    ]
    assert_readable(search.pareto(trials, ["hand_error_mm", "action_accuracy", "object_accuracy"]))


def test_pareto_figure_marks_the_pick_and_infeasible_trials(tmp_path):
    folder = search_folder(tmp_path / "run", 30)
    trials = [
        dataclasses.replace(one, metrics={**one.metrics, "parameters": 1e5 * one.number} if one.metrics else {})
        for one in folder.trials()
    ]
    trials = [
        dataclasses.replace(one, violation="parameters" if one.metrics.get("parameters", 0) > 2e6 else None)
        for one in trials
    ]
    metrics = ["hand_error_mm", "parameters"]
    picked = selection.pareto_front(trials, metrics)[1]
    figure = search.pareto(trials, metrics, picked)
    assert_readable(figure)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert len(lines["violates a constraint"].get_xdata()) == sum(bool(one.violation and one.metrics) for one in trials)
    assert lines["violates a constraint"].get_ydata().min() > 2, "millions"
    assert list(lines["picked"].get_xdata()) == [picked.metrics["hand_error_mm"]]
    assert list(lines["picked"].get_ydata()) == [pytest.approx(picked.metrics["parameters"] / 1e6)]
    assert figure.axes[0].get_ylabel() == "Parameters [M]"
