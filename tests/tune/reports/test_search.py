import dataclasses
import re
import shlex

import pytest

from report_folders import DOMAINS, leave_undrawn, search_folder
from tune.reports import search
from tune.reports.commands import next_commands
from tune.results.selection import PAIR, best_text, pareto_front, ranked


def written(folder):
    search.write(folder)
    return folder.report.read_text(), (folder.path / "report.html").read_text()


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = search_folder(tmp_path_factory.mktemp("searched") / "run", 60)
    return folder, *written(folder)


def test_figures_are_in_the_page_and_beside_the_report(searched):
    folder, text, page = searched
    names = ["progress", "curves", "parallel", "slices", "importance", "pareto"]
    assert re.findall(r'<figure id="([^"]+)"', page) == names
    for name in names:
        assert f"]({name}.png)" in text
        assert (folder.path / f"{name}.png").exists()
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page)
    assert page.count("<figcaption>") == 6


def test_page_has_the_text_of_the_report(searched):
    _, text, page = searched
    for words in ("python tune/search.py", "optim.lr", "logarithmic", "python cluster/launch.py --config", "best.yaml"):
        assert words in text
        assert words in page
    for path in DOMAINS:
        assert f">{path.removeprefix('model.')}</text>" in page, "text of figures is text"


def test_table_lists_ten_trials_and_names_failed_ones(searched):
    _, text, _ = searched
    assert len(re.findall(r"^\| +\d+ \| (?:complete|pruned) +\| +\d ", text, re.MULTILINE)) == 10
    assert "- trial 5: NonFiniteLossError: no" in text
    assert "(38 complete, 10 pruned, 12 failed)" in text


def test_pareto_front_is_a_table(searched):
    folder, text, _ = searched
    listed = text[text.index("Trials on the front:") :]
    best = pareto_front(folder.trials(), PAIR)
    assert [int(number) for number in re.findall(r"^\| (\d+) \|", listed, re.MULTILINE)] == [one.number for one in best]


def test_objectives_constraints_and_warm_start_are_stated(tmp_path):
    wishes = {
        "objectives": list(PAIR), "constraints": ["parameters<=1500000"], "warm_start": ["before"], "pick": "first",
        "points": [{"optim.lr": 1e-3}],
    }  # fmt: skip
    folder = search_folder(tmp_path / "run", 30, **wishes)
    trials = folder.trials()
    best = min((one for one in trials if one.metrics), key=lambda one: one.metrics["hand_error_mm"])
    outside = {"violation": "parameters 2.0 M > 1.5 M"}
    trials = [
        dataclasses.replace(one, metrics={**one.metrics, "parameters": 2e6}, **(outside if one is best else {}))
        for one in trials
        if one.metrics
    ]
    refused = dataclasses.replace(
        trials[0],
        id="r",
        number=99,
        state="infeasible",
        metrics={"parameters": 9e6},
        violation="parameters 9.0 M > 1.5 M",
    )
    folder.write_trials([*trials, refused])
    text, page = written(folder)
    second = sorted(one.metrics["hand_error_mm"] for one in trials)[1]
    (picked,) = [one for one in trials if one.metrics["hand_error_mm"] == second]
    for words in (
        "Objectives: `hand_error_mm`, `action_accuracy`; the scheduler watches the first. Trial picked from the Pareto "
        "front: the best hand_error_mm on the front (first).",
        "Constraints: `parameters<=1500000`.",
        "Warm start with trials of `before`. 1 initial point.",
        "Selected by `hand_error_mm` (lower is better) and `action_accuracy` (higher is better) on the validation",
        f"Picked: trial {picked.number}, the best hand\\_error\\_mm on the front (first).",
        "## Best by hand error alone",
        f"Changes of the picked trial {picked.number} to the base configuration:",
        f"The ring is the picked trial {picked.number}. Crosses violate a constraint.",
        "2 trials cannot be selected because of violated constraints; 1 of them was infeasible before training and not "
        "trained.",
    ):
        assert words.replace("\\_", "_") in text.replace("\\_", "_"), words
    outside = text[text.index("## Constraint violations") :]
    assert re.findall(r"^\| (\d+) \| (\w+) \|", outside, re.MULTILINE) == [
        (str(best.number), best.state), ("99", "infeasible"),
    ]  # fmt: skip
    assert "violates a constraint</text>" in page


def test_report_of_one_metric_states_pick_and_rule(searched):
    folder, text, _ = searched
    best = ranked(folder.trials(), "hand_error_mm")[0]
    assert f"Picked: trial {best.number}, the lowest hand_error_mm." in text.replace("\\_", "_")
    assert text.count("Picked") == 1
    assert best_text(folder.record, best, "hand_error_mm", 60).count("rule: the lowest hand_error_mm") == 1


@pytest.mark.usefixtures("undrawn")
def test_next_commands_start_with_fresh_seeds_and_are_quoted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = search_folder(tmp_path / "my runs" / "run", 12)
    best = ranked(folder.trials(), "hand_error_mm")[0]
    kept = folder.path / "tune" / best.id / "checkpoint_000003"
    for place in (kept, kept.with_name("checkpoint_000001")):
        place.mkdir(parents=True)
        (place / "checkpoint.json").write_text("{}")
    commands = next_commands(folder, best).splitlines()
    assert shlex.split(commands[0]) == ["python", "tune/best.py", "my runs/run", "--retrain-seeds", "5"]
    assert shlex.split(commands[1]) == ["python", "cluster/launch.py", "--config", "my runs/run/best.yaml"]
    assert shlex.split(commands[2])[3:] == [
        "--checkpoint",
        f"my runs/run/tune/{best.id}/checkpoint_000003",
        "--split",
        "val",
    ]
    text, _ = written(folder)
    assert commands[0] in text
    (kept / "checkpoint.json").unlink()
    (kept.with_name("checkpoint_000001") / "checkpoint.json").unlink()
    assert "htt.evaluate" not in next_commands(folder, best)
    assert next_commands(folder, None).splitlines()[0].endswith("--top 10")


def test_report_states_that_no_trial_keeps_the_constraints(tmp_path):
    folder = search_folder(tmp_path / "run", 5, constraints=["parameters<=10"])
    folder.write_trials([dataclasses.replace(one, violation="parameters 1.0 M > 10") for one in folder.trials()])
    text, _ = written(folder)
    assert "No trial satisfies the constraints `parameters<=10` yet." in text
    assert "launch.py" not in text


def test_few_trials_have_no_importance(tmp_path):
    text, page = written(search_folder(tmp_path / "run", 11))
    assert "Too few trials: 9 trials have a value" in text
    assert 'id="importance"' not in page
    assert 'id="parallel"' in page


def test_one_trial_is_not_compared(tmp_path):
    _, page = written(search_folder(tmp_path / "run", 1))
    assert re.findall(r'<figure id="([^"]+)"', page) == ["progress", "curves"]


def test_report_of_a_search_without_results(tmp_path):
    folder = search_folder(tmp_path / "run", 1)
    folder.write_trials([])
    text, page = written(folder)
    assert "No trial has a value yet." in text
    assert "launch.py" not in text
    assert "<figure" not in page


@pytest.mark.usefixtures("undrawn")
def test_special_characters_are_literal(tmp_path):
    folder = search_folder(tmp_path / "run", 5)
    trials = [
        dataclasses.replace(one, error="Error: a <b> | `c` *d*" if one.error else None) for one in folder.trials()
    ]
    folder.write_trials(trials)
    text, page = written(folder)
    assert r"- trial 5: Error: a \<b\> \| \`c\` \*d\*" in text
    assert "trial 5: Error: a &lt;b&gt; | `c` *d*" in page


@pytest.mark.usefixtures("undrawn")
def test_predictions_are_inline_in_the_page(tmp_path):
    folder = search_folder(tmp_path / "run", 2)
    assert "Predictions" not in written(folder)[0]
    folder.predictions.write_bytes(b"a picture")
    text, page = written(folder)
    assert "## Predictions\n\n![Validation frames" in text
    assert "](predictions.png)" in text
    assert '<figure id="predictions">' in page
    assert 'src="data:image/png;base64,YSBwaWN0dXJl"' in page


def test_base_and_baselines_are_rows_outside_the_ten_best(tmp_path, monkeypatch):
    baselines = {"hand_error_mm": 144.9, "action_accuracy": 1 / 36}
    base = ranked(search_folder(tmp_path / "run", 60).trials(), "hand_error_mm")[-1]
    folder = search_folder(tmp_path / "run", 60, base_trial=base.number, baselines=baselines)
    text, page = written(folder)
    table = text[text.index("## Best trials") :]
    assert re.search(rf"\| +{base.number} \(base\) \| {base.state} ", table)
    assert re.search(r"\| +no images \| – +\| +– \| +144\.9 mm \| +2\.8 % \|", table)
    assert f">base, trial {base.number}, " in page, "a line of the figures"
    leave_undrawn(monkeypatch)
    of_poses = search_folder(tmp_path / "poses", 60, baselines={"action_accuracy": 1 / 36})
    assert re.search(r"\| +chance \| – +\| +– \|", written(of_poses)[0]), "the trials may see no images"


def test_search_of_one_known_metric_has_no_front(tmp_path):
    folder = search_folder(tmp_path / "run", 5)
    trials = [dataclasses.replace(one, metrics={**one.metrics}) for one in folder.trials()]
    for one in trials:
        one.metrics.pop("action_accuracy", None)
    folder.write_trials([dataclasses.replace(one, best=one.metrics) for one in trials])
    text, _ = written(folder)
    assert "Pareto" not in text
