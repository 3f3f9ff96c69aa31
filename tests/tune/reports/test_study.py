import csv
import dataclasses
import io
import math
import re

import polars as pl
import pytest
from pyarrow import fs

from htt.config import Config, override
from htt.errors import RunError
from report_folders import LONG, search_folder, study_folder, windows
from tune.execution import study_progress
from tune.reports import study
from tune.results import study_results
from tune.results.sync import Storage

FIGURES = {"forest", "seeds", "time", "curves"}


def written(folder):
    study.write(folder)
    return {ending: (folder.path / f"report.{ending}").read_text() for ending in ("md", "html", "tex", "csv")}


@pytest.fixture(scope="module")
def claims(tmp_path_factory):
    """Nine seeds: the second variant is worse by 5 mm, the third better by 4, the fourth the same."""
    effects = dict(zip(windows(4), (0.0, 5.0, -4.0, 0.02), strict=True))
    names = list(windows(4))
    folder = study_folder(
        tmp_path_factory.mktemp("claims") / "run", windows(4), seeds=range(9), effects=effects,
        parameters=dict.fromkeys(names, 1_200_000), base={**Config().model_dump(mode="json")},
        study={"notes": {names[1]: "a note with * and <b>"}},
    )  # fmt: skip
    return folder, written(folder)


def test_claims_are_stated_in_words(claims):
    _, said = claims
    for text in (said["md"], said["html"].replace("<strong>", "**").replace("</strong>", "**").replace("\u00a0", " ")):
        assert "Hand error: **2 frames** is worse than 1 frame, +4.89 mm (95 % interval +4.81 to" in text
        assert "Hand error: **4 frames** is better than 1 frame, −4.08 mm (95" in text
        assert "Hand error: no difference can be claimed for: 8 frames." in text
        assert "Incomplete" not in text


def seeds_captions(text):
    return re.findall(r"[A-Z][a-z ]+ of each trial\. A line joins .*", text)


def test_seeds_caption_claims_only_what_is_claimed(claims, tmp_path):
    """Nine seeds claim two variants; with two seeds nothing is claimed, however the lines lean."""
    _, said = claims
    _, of_error = seeds_captions(said["md"])
    assert "Bars are means. A difference to the reference is claimed only for 2 frames, 4 frames." in of_error
    few = written(study_folder(tmp_path / "run", windows(2), seeds=range(2)))["md"]
    assert "not enough seeds to claim" in few
    for caption in seeds_captions(few):
        assert "No difference is claimed, even where all lines point in the same direction." in caption
    assert "accident" not in few


@pytest.mark.usefixtures("undrawn")
def test_incomplete_data_are_stated_beside_paper_values(tmp_path):
    paper = {"paper_value": {"1 frame": {"action_accuracy": 0.871}}}
    base = override(Config(), {"data.source": "h2o"}).model_dump(mode="json")
    said = "Incomplete data: split 'val' has 1 of 122 clips and 3 of 11,638 frames"
    text = written(study_folder(tmp_path / "run", windows(2), study=paper, base=base, incomplete=[said]))["md"]
    assert f"**{said}**" in text
    assert "on H2O's whole validation split; these trials did not use all of its clips, so the values cannot be" in text


@pytest.mark.usefixtures("undrawn")
def test_clip_intervals_state_the_number_of_people(tmp_path):
    folder = study_folder(tmp_path / "run", windows(2), seeds=range(2))
    assert "The clips are of" not in written(folder)["md"], "older runs do not say"
    for path in folder.clips.iterdir():
        table = pl.read_parquet(path)
        table.with_columns(subject=pl.lit("subject3")).write_parquet(path)
    assert "The clips are of one person: intervals over clips say how" in written(folder)["md"]


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (
            12,
            "over seeds and the 12 clips of the validation split on which every trial was evaluated (hierarchical boot",
        ),
        (7, "over seeds and the 12 clips in 7 groups of the validation split on which every trial was evaluated"),
        (7, "(hierarchical bootstrap; clips of a group, such as one recording or one motion, are alike, so groups are"),
        (
            1,
            "All 12 clips of the validation split are of one group (one recording, or one motion), so differences have",
        ),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_intervals_state_numbers_of_clips_and_groups(tmp_path, capsys, groups, said):
    folder = study_folder(tmp_path / "run", windows(2), seeds=range(6), effects={"1 frame": 0.0, "2 frames": 5.0})
    for path in folder.clips.iterdir():
        group = pl.Series([f"r{clip % groups}" for clip in range(12)])
        pl.read_parquet(path).with_columns(group=group).write_parquet(path)
    text = written(folder)["md"]
    assert said in text
    assert ("Hand error: **2 frames** is worse" in text) == (groups > 1), "without an interval nothing is claimed"
    study_progress.show_results(folder)
    assert "nan" not in (text + capsys.readouterr().out)


def test_table_has_all_values_of_a_variant(claims):
    folder, said = claims
    row = next(line for line in said["md"].splitlines() if line.startswith("| 2 frames |") and " mm " in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    result = study_results.results_by_metric(study_results.read(folder))[1]
    found = result.rows[1]
    assert cells[1:4] == ["pose.window: 2", "9", f"{found.summary.mean:.1f} mm"]
    assert cells[5] == f"+{found.comparison.difference:.2f} mm"
    assert cells[7:] == ["0.012", "\\< 0.01", "worse", "1.2 M", "53 s"]
    assert found.comparison.p_holm == 3 * 2 / 2**9


@pytest.mark.parametrize(("failed", "then"), [((), " --seeds 6"), ([("2 frames", 1)], "")])
def test_screen_states_what_is_missing_and_the_next_command(tmp_path, capsys, failed, then):
    folder = study_folder(tmp_path / "run", windows(2), seeds=range(2), failed=failed)
    study_progress.show_results(folder)
    said = capsys.readouterr().out
    assert ("Missing of 2 frames: seed 1" in said) == bool(failed)
    assert f"python tune/ablate.py --resume {folder.path}{then}\n" in said


def test_screen_asks_for_no_unneeded_seeds(tmp_path, capsys):
    study_progress.show_results(study_folder(tmp_path / "run", windows(2), seeds=range(6)))
    assert "--resume" not in capsys.readouterr().out


@pytest.mark.parametrize(("began", "said"), [(6, True), (8, False), (0, False)])
@pytest.mark.usefixtures("undrawn")
def test_seeds_added_later_are_named(tmp_path, began, said):
    text = written(study_folder(tmp_path / "run", windows(2), seeds=range(8), first_seeds=began))["md"]
    assert ("**2 seeds added later** to the first 6" in text) == said


@pytest.mark.usefixtures("undrawn")
def test_code_of_a_resumed_run_is_named(tmp_path):
    text = written(study_folder(tmp_path / "run", windows(2), later_commits=["def", "fed"]))["md"]
    assert "Resumed at commit def, fed." in text


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ({}, "seed, which were trained on different windows. Bars"),
        ({"data.shifted_starts": False}, "seed, which were trained on the same windows in the same order. Bars"),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_report_states_whether_seeds_saw_equal_windows(tmp_path, base, said):
    assert said in written(study_folder(tmp_path / "run", windows(2), study={"base": base}))["md"]


def test_cost_is_drawn_by_time_and_by_parameters(tmp_path):
    names = list(windows(3))
    counts = dict(zip(names, (1_000_000, 1_000_000, 1_200_000), strict=True))
    shown = set(
        re.findall(
            r"\]\(([a-z]+)-hand_error_mm\.png",
            written(study_folder(tmp_path / "run", windows(3), parameters=counts))["md"],
        )
    )
    assert shown == FIGURES | {"parameters"}


def test_every_metric_has_figures(claims):
    folder, said = claims
    shown = re.findall(r'<figure id="([^"]+)"', said["html"])
    metrics = {"action_accuracy": FIGURES - {"curves"}, "hand_error_mm": FIGURES}
    assert set(shown) == {f"{figure}-{metric}" for metric, names in metrics.items() for figure in names}
    for name in shown:
        assert f"]({name}.png)" in said["md"]
        assert (folder.path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert said["html"].count("<figcaption>") == len(shown) == said["html"].count('role="img" aria-label="')


def test_learning_curves_are_shown_for_every_metric(tmp_path):
    folder = study_folder(tmp_path / "run", windows(2))
    folder.write_trials(
        [
            dataclasses.replace(one, curves={**one.curves, "action_accuracy": [0.1, 0.2, one.seed / 10]})
            for one in folder.trials()
        ]
    )
    said = written(folder)
    assert set(re.findall(r'<figure id="curves-([^"]+)"', said["html"])) == {"hand_error_mm", "action_accuracy"}
    accuracy, _ = study_results.results_by_metric(study_results.read(folder))
    assert [curve[-1] for curve in accuracy.curves["1 frame"]] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


def test_report_files_reach_the_bucket(tmp_path, monkeypatch):
    def from_uri(uri):
        return fs.SubTreeFileSystem(str(tmp_path / "bucket"), fs.LocalFileSystem()), uri.removeprefix("mock://")

    (tmp_path / "bucket").mkdir()
    monkeypatch.setattr("cluster.storage.open_uri", from_uri)
    folder = study_folder(tmp_path / "run", windows(2))
    study.write(folder)
    Storage("run", tmp_path, "mock://runs").push_reports()
    here = {path.name for path in folder.path.iterdir() if path.is_file()}
    assert {"report.md", "report.html", "report.tex", "report.csv", "forest-hand_error_mm.png"} < here
    assert {path.name for path in (tmp_path / "bucket" / "runs" / "run").iterdir()} == here


def test_page_is_self_contained(claims):
    _, said = claims
    page = said["html"]
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page)
    assert page.count("<script>") == page.count("<script") == 1, "one script, inside the page"
    assert "url(http" not in page
    assert "@import" not in page
    assert "nan" not in re.sub(r"<(svg|script).*?</(svg|script)>", "", page, flags=re.DOTALL).lower()


def test_page_shows_no_unrounded_number(claims):
    _, said = claims
    words = re.sub(r"<style>.*?</style>", "", said["html"], flags=re.DOTALL)
    texts = re.findall(r">([^<]+)<", words)
    assert [text for text in texts if re.search(r"\d\.\d{4,}|e-\d\d", text)] == []


def test_csv_has_unrounded_numbers(claims):
    folder, said = claims
    rows = list(csv.DictReader(io.StringIO(said["csv"])))
    assert [row["variant"] for row in rows[4:]] == list(windows(4))
    result = study_results.results_by_metric(study_results.read(folder))[1]
    for row, found in zip(rows[4:], result.rows, strict=True):
        assert row["metric"] == "hand_error_mm"
        assert float(row["mean"]) == found.summary.mean
        assert float(row["iqm"]) == found.summary.iqm
        assert row["parameters"] == "1200000.0"
        assert row["paper"] == ""
        if found.comparison:
            assert float(row["difference"]) == found.comparison.difference
            assert float(row["p_better"]) == found.comparison.better
        else:
            assert (row["difference"], row["claim"]) == ("", "reference")


@pytest.mark.usefixtures("undrawn")
def test_latex_is_escaped_and_complete(tmp_path):
    text = written(study_folder(tmp_path / "run_1", windows(3, long=True)))["tex"]
    assert text.startswith("% \\usepackage{booktabs,graphicx}\n")
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 2
    assert LONG.replace("&", r"\&").replace("%", r"\%").replace("_", r"\_") in text
    assert r"\caption{run\_1: " in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    columns = {len(re.findall(r"(?<!\\)&", line)) for line in body}
    (layout,) = set(re.findall(r"\\begin{tabular}{(\w+)}", text))
    assert columns == {len(layout) - 1}
    assert text.isascii(), "pdflatex knows no other letters by itself"


@pytest.mark.usefixtures("undrawn")
def test_too_few_seeds_are_stated(tmp_path):
    said = written(study_folder(tmp_path / "run", windows(2), seeds=range(5)))
    assert "Hand error: not enough seeds to claim (5; 6 are needed at the 5 % level): 2 frames." in said["md"]
    assert "not enough seeds to claim" in said["tex"]


def test_incomplete_study_names_the_missing_first(tmp_path):
    names = list(windows(3))
    missing = [(names[1], seed) for seed in (2, 3, 4, 5)]
    failed = [(names[2], 0)]
    said = written(study_folder(tmp_path / "run", windows(3), missing=missing, failed=failed))
    assert "> **Incomplete:** 13 of 18 trials are complete" in said["md"]
    assert "- 2 frames: seeds 2, 3, 4, 5 not trained yet" in said["md"]
    assert "- 4 frames: seed 0 failed (NonFiniteLossError: loss became nan)" in said["md"]
    assert said["md"].index("Incomplete") < said["md"].index("In short")
    assert "<blockquote>" in said["html"]


def test_study_without_results_has_a_report(tmp_path):
    names = list(windows(2))
    folder = study_folder(tmp_path / "run", windows(2), missing=[(name, seed) for name in names for seed in range(6)])
    said = written(folder)
    assert "0 of 12 trials" in said["md"]
    assert "Action accuracy: not measured for: 2 frames." in said["md"]


def test_seeds_only_intervals_are_stated(tmp_path):
    said = written(study_folder(tmp_path / "run", windows(2), clips=False))
    assert "Of action accuracy, hand error, intervals of differences are over seeds only" in said["md"]


@pytest.mark.usefixtures("undrawn")
def test_paper_column_appears_where_the_paper_has_a_value(tmp_path):
    base = Config().model_dump(mode="json")
    base["data"]["source"] = "h2o"
    paper = {"paper_value": {"1 frame": {"action_accuracy": 0.871}}}
    said = written(study_folder(tmp_path / "run", windows(2), base=base, study=paper))["md"]
    heads = [line for line in said.splitlines() if line.startswith("| Variant |")]
    assert [head.endswith("| Paper |") for head in heads] == [True, False]
    assert "| 87.1 % |" in said
    assert "CVPR 2023, on H2O's whole validation split.\n" in said


def test_report_is_equal_when_written_again(claims, tmp_path):
    folder, said = claims
    assert written(folder) == said


def test_search_has_no_study_report(tmp_path):
    with pytest.raises(RunError, match=r"Expected a study; run is a search\."):
        study.write(search_folder(tmp_path / "run", 3))


def test_unknown_metric_is_shown_as_dashes(tmp_path):
    folder = study_folder(tmp_path / "run", windows(2), study={"metrics": ["loss", "hand_error_mm"]})
    said = written(folder)["md"]
    assert "| 1 frame | pose.window: 1 | 0 |" in said
    found = study_results.results_by_metric(study_results.read(folder))[0]
    assert math.isnan(found.reference.summary.mean)


@pytest.mark.usefixtures("undrawn")
def test_trainings_of_other_runs_are_named(tmp_path):
    folder = study_folder(tmp_path / "run", windows(2))
    trials = folder.trials()
    taken = [dataclasses.replace(one, taken_from=f"headline/{one.id} (abc)") if one.seed < 2 else one for one in trials]
    folder.write_trials(taken)
    assert "4 trials reused from other runs (commit): headline (abc)." in written(folder)["md"]
