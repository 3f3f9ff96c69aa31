"""The texts of reports, compared with those kept in ``tests/golden/reports``.

After an intended change write them again: ``WRITE_GOLDEN=1 pytest -n0 tests/tune/reports/test_golden_reports.py``.
"""

import csv
import dataclasses
import io
import json
import math
import os
from pathlib import Path

import pytest

from htt.config import Config, override
from report_folders import LONG, search_folder, study_folder, windows
from retrained_folders import asked, end
from tune.experiments.designs import factorial
from tune.reports import report, retrain

GOLDEN = Path(__file__).parents[2] / "golden" / "reports"
NASTY = "a <b> | `c` *d* 100 % & $e_f$"


def search(path):
    folder = search_folder(
        path, 30, clips=True, base_trial=12, codes=["code one"], constraints=["hand_error_mm<=60"],
        baselines={"hand_error_mm": 144.9, "action_accuracy": 1 / 36},
    )  # fmt: skip
    changes = {
        3: {"state": "cached", "taken_from": "earlier/t1 (abc)", "code": "code one"},
        4: {"state": "stopped", "code": None},
        5: {"error": f"Error: {NASTY}"},
        6: {"code": "code two"},
        7: {"violation": "hand_error_mm 61.0 mm > 60.0 mm", "metrics": {"hand_error_mm": 61.0, "action_accuracy": 0.5}},
    }
    default = {"code": "code one"}
    folder.write_trials([dataclasses.replace(each, **changes.get(each.number, default)) for each in folder.trials()])
    report.write(folder)


def front(path):
    folder = search_folder(
        path, 30, objectives=["hand_error_mm", "action_accuracy", "parameters"], constraints=["parameters<=2500000"],
        warm_start=["before"], points=[{"optim.lr": 1e-3}], pick="action_accuracy>=0.5",
        incomplete=["Incomplete data: split 'val' has 1 of 122 clips"],
    )  # fmt: skip
    trials = []
    for each in folder.trials():
        metrics = {**each.metrics, "parameters": 1e5 * each.number} if each.metrics else {}
        breaks = "parameters 2.6 M > 2.5 M" if metrics.get("parameters", 0) > 2.5e6 else None
        trials.append(dataclasses.replace(each, metrics=metrics, violation=breaks))
    refused = {
        "state": "infeasible",
        "violation": "parameters 9.0 M > 2.5 M",
        "metrics": {"parameters": 9e6},
        "epochs": 0,
    }
    trials.append(dataclasses.replace(trials[0], id="r", number=31, **refused))
    folder.write_trials(trials)
    report.write(folder)


def study(path):
    variants = {**windows(3), f"{LONG} {NASTY}": {"model.action.cues": ["hands", "object"]}, "=1+1": {"optim.lr": 1e-3}}
    names = list(variants)
    folder = study_folder(
        path, variants, seeds=range(9), effects=dict(zip(names, (0.0, 5.0, -4.0, 0.02, 3.0), strict=True)),
        missing=[(names[4], 2), (names[4], 3)], failed=[(names[3], 0)],
        parameters={name: 1_000_000 + 200_000 * number for number, name in enumerate(names)},
        base=override(Config(), {"data.source": "h2o"}).model_dump(mode="json"),
        study={
            "notes": {names[1]: f"a note with {NASTY}"}, "primary": names[1:4], "base": {"optim.lr": 0.01},
            "paper_value": {names[0]: {"action_accuracy": 0.871}},
            "metrics": ["action_accuracy", "hand_error_mm", "action_accuracy_hard"],
            "contrasts": [["action_accuracy", "action_accuracy_hard"]],
        },
        incomplete=["Incomplete data: split 'val' has 1 of 122 clips"],
        later_commits=["def", "fed"], first_seeds=6, codes=["code one"],
    )  # fmt: skip
    trials = []
    for each in folder.trials():
        hard = each.metrics["action_accuracy"] - 0.02 * math.sin(3 * each.seed) if each.metrics else math.nan
        metrics = {**each.metrics, "action_accuracy_hard": hard} if each.metrics else {}
        taken = f"headline/{each.id} (abc)" if each.seed == 1 else None
        code = "code two" if each.seed == 8 else "code one"
        trials.append(dataclasses.replace(each, metrics=metrics, taken_from=taken, code=code))
    folder.write_trials(trials)
    report.write(folder)


def factors(path):
    levels = {
        "window": {"16 frames": {}, "1 frame": {"model.pose.window": 1}},
        "cues": {"all cues": {}, "feature": {"model.action.cues": ["feature"]}},
    }
    design = {"factors": levels, "metrics": ["hand_error_mm"]}
    report.write(study_folder(path, factorial(**levels), seeds=range(9), clips=False, study=design))


def retraining(path):
    """Four seeds, one of which failed; two were trained by other code than the first."""
    found = asked(path, 4, assignments={"optim.lr": 0.5})
    found = dataclasses.replace(
        found, command="python tune/best.py retraining --retrain-seeds 4", commit="abc123", started="2026-01-01",
        codes=["code one"], found_code=None, failed={4: f"NonFiniteLossError: {NASTY}"},
    )  # fmt: skip
    for seed in found.seeds[:3]:
        end(found, seed)
        codes = ["code one", "code two"] if seed == 2 else ["code one"]
        (found.folder(seed) / "began.json").write_text(json.dumps({"data": None, "commit": "abc123", "codes": codes}))
    retrain.write(found)


@pytest.mark.parametrize("make", [search, front, study, factors, retraining], ids=lambda make: make.__name__)
@pytest.mark.usefixtures("undrawn")
def test_report_texts_equal_the_golden_ones(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    name = make.__name__
    make(tmp_path / name)
    folder = tmp_path / name / ("retrain" if make is retraining else "")
    written = {
        path.name: path.read_text() for path in sorted(folder.iterdir()) if path.suffix in (".md", ".tex", ".csv")
    }
    golden = GOLDEN / name
    if os.environ.get("WRITE_GOLDEN"):
        golden.mkdir(parents=True, exist_ok=True)
        for file, text in written.items():
            (golden / file).write_text(text)
    assert list(written) == sorted(path.name for path in golden.iterdir())
    for file, text in written.items():
        wanted = (golden / file).read_text()
        if file.endswith(".csv"):
            assert_same_cells(text, wanted)
        else:
            assert text == wanted, file


def assert_same_cells(text, wanted):
    """Compare CSV; numbers have a tolerance, since other versions of NumPy and SciPy differ in the last digits."""
    assert text.count("\n") == wanted.count("\n")
    rows = zip(csv.reader(io.StringIO(text)), csv.reader(io.StringIO(wanted)), strict=True)
    for row, wanted_row in rows:
        for cell, wanted_cell in zip(row, wanted_row, strict=True):
            try:
                number = float(wanted_cell)
            except ValueError:
                assert cell == wanted_cell
            else:
                assert float(cell) == pytest.approx(number, rel=1e-9)
                assert cell.isdigit() == wanted_cell.isdigit(), "a whole number stays one"
