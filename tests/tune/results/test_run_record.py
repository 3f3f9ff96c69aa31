"""The record of a run: written and read exactly, and read from the folders of older versions."""

import dataclasses
import shutil

import pytest
import yaml

import tune.experiments.spaces
from fake_training import SPACE
from htt import console
from htt.config import Config, override
from htt.errors import RunError
from planned_study import STUDY, finished, study_spec
from project import SUPPORT
from report_folders import search_folder, study_folder, trial
from tune import ablate, best, search
from tune.execution import plan
from tune.execution.resume import check_name
from tune.experiments.constraints import parse
from tune.experiments.space import Choice, Integer, LogUniform, Space, Uniform
from tune.experiments.spec import SearchSpec, StudySpec, Tuned
from tune.reports import report
from tune.results import run_record
from tune.results.run_folder import RunFolder
from tune.results.run_record import RunRecord
from tune.results.sync import Storage
from tune.searchers import warm_start

OLD = """\
command: python tune/search.py --space fake --trials 3 --name old
base:
  model:
    width: 64
  train:
    epochs: 4
time_budget_s: 600.0
assignments: {}
workers_per_trial: 2
cpus_per_worker: 0.5
gpus_per_trial: null
storage: runs
started: 2026-01-01T00:00:00+0000
commit: abc123
versions:
  python: 3.11.7
later_commits:
- def456
incomplete: []
data: []
codes:
- code-of-then
"""
OLD_SEARCH = f"""\
name: old
space: fake
domains:
  optim.lr: 1e-05 to 0.1, logarithmic
  model.action.cues: one of ['hands'], ['hands', 'object']
metric: hand_error_mm
seed: 3
trials: 0
algorithm: tpe
scheduler: asha
objectives:
- hand_error_mm
- action_accuracy
constraints:
- hand_error_mm<=90
pick: first
warm_start: []
points:
- optim.lr: 0.01
kind: search
study_name: ''
study: {{}}
parameters: {{}}
first_seeds: 0
choices:
  model.action.cues:
  - - hands
  - - hands
    - object
{OLD}"""
OLD_STUDY = f"""\
name: old
space: ''
domains: {{}}
metric: action_accuracy
seed: 0
trials: 4
algorithm: listed
scheduler: none
objectives: []
constraints: []
pick: knee
warm_start: []
points: []
kind: study
study_name: which
study:
  question: Which?
  variants:
    a: {{}}
    b:
      model.pose.window: 1
  reference: a
  base: {{}}
  seeds:
  - 0
  - 1
  metrics:
  - action_accuracy
  - hand_error_mm
  contrasts: []
  primary: []
  paper_value: {{}}
  notes: {{}}
  factors: {{}}
parameters:
  a: 10
  b: 10
first_seeds: 2
choices: {{}}
{OLD}"""
OLD_BASE = override(Config(), {"model.width": 64, "train.epochs": 4})


@pytest.fixture
def old_search(tmp_path, monkeypatch):
    """The folder of a search of an older version, in runs/ of the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        tune.experiments.spaces, "__path__", [*tune.experiments.spaces.__path__, str(SUPPORT / "spaces")]
    )
    folder = RunFolder(tmp_path / "runs" / "old")
    folder.path.mkdir(parents=True)
    (folder.path / "asked.yaml").write_text(OLD_SEARCH)
    values = {"optim.lr": 0.01, "model.action.cues": ["hands"]}
    rows = [trial(1, 30.0, values=values), trial(2, 20.0, values={**values, "optim.lr": 0.001}, epochs=4)]
    folder.write_trials(rows)
    return folder


def resumed(script, *words):
    options = console.tyro.cli(script.Options, args=words)
    options.arguments = words
    return script.resume(options)[0]


DOMAINS = {
    "a": Choice(["hands"], ["hands", "object"], None, True, "none", 1e-7, why="all kinds"),
    "b": LogUniform(1e-5 / 3, 0.1),
    "c": Uniform(0, 1 / 3, why="thirds"),
    "d": Integer(2, 10, 4),
}


@pytest.mark.parametrize(
    "spec",
    [
        SearchSpec(
            name="run", domains=DOMAINS, base=Config().model_dump(mode="json"), constraints=parse(["parameters<=2e6"]),
            objectives=("hand_error_mm", "latency_ms"), points=({"a": ["hands"], "b": 1e-3},), time_budget_s=0.1,
            assignments={"optim.lr": 1e-5, "model.action.cues": ["hands"]}, seed=7, warm_start=("before",),
        ),
        StudySpec(name="run", study_name="which", study=dataclasses.replace(STUDY, primary=["b"]), share=False),
        StudySpec(
            name="run", study_name="which", study=STUDY, tune=9, space="quick", domains=DOMAINS,
            tuned={"a": Tuned({"optim.lr": 1e-3 / 3, "model.action.cues": ["hands"]}, 0.25, 9, 2, 1 / 3)},
        ),
    ],
    ids=["search", "study", "tuned study"],
)  # fmt: skip
def test_record_is_read_as_written(tmp_path, spec):
    record = RunRecord(spec=spec, data=["key"], parameters={"a": 5}, **run_record.provenance())
    RunFolder(tmp_path).write_record(record)
    assert RunFolder(tmp_path).record == record
    assert yaml.safe_load((tmp_path / "run.yaml").read_text())["schema"] == run_record.SCHEMA


def test_record_of_a_newer_schema_is_refused(tmp_path):
    folder = search_folder(tmp_path / "run", 1)
    plain = yaml.safe_load((folder.path / "run.yaml").read_text())
    (folder.path / "run.yaml").write_text(yaml.safe_dump({**plain, "schema": 2, "new": 1}))
    with pytest.raises(RunError, match=r"run\.yaml, the record of a run: its schema is 2, and this version reads up"):
        _ = RunFolder(folder.path).record


def test_search_resumes_without_its_space_file(tmp_path, monkeypatch):
    (tmp_path / "spaces").mkdir()
    module = tmp_path / "spaces" / "brief.py"
    monkeypatch.setattr(tune.experiments.spaces, "__path__", [str(tmp_path / "spaces")])
    monkeypatch.chdir(tmp_path)
    words = (
        "from tune.experiments.space import LogUniform, Space\nSPACE = Space({{'optim.lr': LogUniform(1e-5 / 3, {})}})"
    )
    module.write_text(words.format(0.1))
    spec = search.new(console.tyro.cli(search.Options, args=["--space", "brief", "--name", "run"]))
    RunFolder(tmp_path / "runs" / "run").write_record(RunRecord(spec=spec, **run_record.provenance()))
    for change in (lambda: module.write_text(words.format(0.2)), module.unlink):
        change()
        again = resumed(search, "--resume", "run", "--trials", "9")
        assert Space(again.domains) == Space({"optim.lr": LogUniform(1e-5 / 3, 0.1)})
        assert (again.trials, again.time_budget_s, again.config()) == (9, None, spec.config())


def test_old_search_is_read(old_search):
    record = old_search.record
    spec = record.spec
    assert (record.schema, record.kind, record.name, spec.space, spec.seed) == (0, "search", "old", "fake", 3)
    assert {path: str(domain) for path, domain in spec.domains.items()} == {
        path: str(domain) for path, domain in SPACE.domains.items()
    }
    assert spec.domains["model.action.cues"] == SPACE.domains["model.action.cues"]
    assert (spec.trials, spec.time_budget_s, spec.pick) == (None, 600.0, "first")
    assert (spec.workers_per_trial, spec.cpus_per_worker, spec.gpus_per_trial) == (2, 0.5, None)
    assert spec.constraints == parse(["hand_error_mm<=90"])
    assert spec.points == ({"optim.lr": 0.01},)
    assert record.config() == OLD_BASE
    assert (record.commit, record.later_commits, record.codes) == ("abc123", ["def456"], ["code-of-then"])


@pytest.mark.parametrize(
    "text", ["1 to 3", "0 to 1", "2 to 10, every 4", "0.1 to 0.25", "1e-07 to 1e+07, logarithmic", "one of a, b",
             "one of ['a', 'b'], ['c', 'b']", "1 to 1"],
)  # fmt: skip
def test_old_domain_is_read(text):
    old = {**yaml.safe_load(OLD_SEARCH), "domains": {"a.b": text}, "choices": {}}
    (domain,) = run_record.of_plain(run_record.upgrade(old)).spec.domains.values()
    assert str(domain).removeprefix("one of ") == text.removeprefix("one of ")


def test_old_search_has_a_report_and_a_best_trial(old_search, capsys):
    report.write(old_search)
    text = old_search.report.read_text()
    assert "1e-05 to 0.1, logarithmic" in text
    assert "python tune/search.py --space fake --trials 3 --name old" in text
    console.run(best.Options, best.main, ["old"])
    found_by = yaml.safe_load(old_search.best.read_text())["found_by"]
    assert (found_by["trial"], found_by["seed"], found_by["constraints"]) == (2, 3, ["hand_error_mm<=90"])
    assert "trial 2" in capsys.readouterr().out


def test_old_search_is_a_warm_start_and_resumes_its_domains(old_search, monkeypatch):
    spec = SearchSpec(domains=SPACE.domains, base=OLD_BASE.model_dump(mode="json"), share_any=True)
    assert len(warm_start.earlier(old_search, spec).trials) == 2
    again = resumed(search, "--resume", "old", "--time-budget", "1h")
    assert (again.domains, again.trials, again.time_budget_s, again.seed) == (SPACE.domains, None, 3600.0, 3)
    with pytest.raises(RunError, match="Cannot change --seed when resuming old: it was started with 3, got 4"):
        resumed(search, "--resume", "old", "--seed", "4")
    monkeypatch.setattr("fake_training.SPACE", Space({"optim.lr": LogUniform(1e-5, 0.2)}, base=SPACE.base))
    monkeypatch.delitem(__import__("sys").modules, "tune.experiments.spaces.fake")
    with pytest.raises(RunError, match=r"Cannot change the space when resuming old\. Start a new run"):
        resumed(search, "--resume", "old")


def test_name_of_an_old_run_is_taken(old_search):
    with pytest.raises(RunError, match="Cannot use a name twice"):
        check_name(Storage(old_search.name, old_search.path.parent), resume=False)


def test_old_study_has_a_report_resumes_and_is_cached(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    variants = {"a": {}, "b": {"model.pose.window": 1}}
    folder = study_folder(tmp_path / "runs" / "old", variants, seeds=(0, 1))
    (folder.path / "run.yaml").unlink()
    (folder.path / "asked.yaml").write_text(OLD_STUDY)
    folder = RunFolder(folder.path)
    assert folder.record.spec.study.variants == variants
    report.write(folder)
    assert "Which?" in folder.report.read_text()
    again = resumed(ablate, "--resume", "old", "--seeds", "3")
    assert (again.study.seeds, again.study_name, again.workers_per_trial) == ((0, 1, 2), "which", 2)
    assert again.config() == OLD_BASE
    spec = study_spec()
    reused = finished(tmp_path, STUDY.config(override(spec.config(), STUDY.base), "b", 1))
    shutil.move(reused.path / "run.yaml", tmp_path / "new.yaml")
    (reused.path / "asked.yaml").write_text(OLD_STUDY)
    assert list(plan.plan(spec, runs=tmp_path).shared) == [("b", 1)]
