"""Whether a run that goes on, or takes over what others trained, still has the same data and the same code."""

import dataclasses
import json

import pytest

from cluster import revision
from cluster import run_folder as final_folder
from htt.config import Config, override
from htt.data.location import data_key
from htt.data.shards import manifest
from htt.data.shards.manifest import Manifest, Shard
from htt.errors import RunError
from htt.testing import tiny_config
from report_folders import record, search_folder, study_folder, trial, windows
from retrained_folders import asked as asked_again
from retrained_folders import end
from tune.execution.resume import check_same_data
from tune.experiments.candidate import Candidate
from tune.experiments.space import Choice, Space, Uniform
from tune.reports import report, retrain
from tune.results import retrain as retrain_results
from tune.results.cache import TrialCache
from tune.results.run_folder import RunFolder
from unrayed import FINITE, replace_tune


@pytest.fixture
def trained(monkeypatch):
    values = []
    replace_tune(monkeypatch, values)
    return values


@pytest.fixture
def other_code(monkeypatch):
    """Give a name to the code that runs from now on."""

    def run(name):
        monkeypatch.setattr(revision, "identity", lambda: name)

    return run


def shards(root, content):
    """A folder whose manifest promises one shard of this checksum."""
    root.mkdir(exist_ok=True)
    split = {"train": [Shard(file="a.arrow", bytes=1, sha256=content, clips=1, frames=1)]}
    sizes = {"hands": 1, "width": 96, "height": 54, "quality": 90}
    manifest.write(
        root,
        Manifest(source="synthetic", actions=["a"], objects=["o"], pixels="", splits=split, wanted={}, **sizes),
    )
    return {"data.root": str(root)}


def test_search_resume_refuses_other_shards_at_the_same_path(trained, search, tmp_path):
    first = shards(tmp_path / "shards", "1" * 64)
    began = search(trials=2, assignments=first).folder.record.data
    shards(tmp_path / "shards", "2" * 64)
    with pytest.raises(
        RunError, match=rf"its data changed\. It was started with {began[0]}, and .*shards is now synth"
    ):
        search(trials=4, assignments=first, resume=True)
    assert len(trained) == 2
    shards(tmp_path / "shards", "1" * 64)
    assert len(search(trials=4, assignments=first, resume=True).trials) == 4


def test_data_changed_during_a_search_fail_later_trials(trained, search, monkeypatch, tmp_path):
    first = shards(tmp_path / "shards", "1" * 64)
    add = TrialCache.add

    def swap(cache, ended, folder):
        add(cache, ended, folder)
        shards(tmp_path / "shards", "2" * 64)

    monkeypatch.setattr(TrialCache, "add", swap)
    outcome = search(trials=2, assignments=first)
    assert [one.state for one in outcome.trials] == ["complete", "failed"]
    assert outcome.trials[1].error.startswith("DataError: The data changed during the run: synthetic-")
    assert outcome.best.number == 1


def test_old_run_resume_compares_the_rows_of_its_trials(tmp_path):
    base = override(Config(), shards(tmp_path / "shards", "1" * 64))
    rows = [trial(1, data=data_key(base))]
    asked = record(name="run", base=base.model_dump(mode="json"))
    check_same_data(asked, rows, base, [base])
    shards(tmp_path / "shards", "2" * 64)
    with pytest.raises(RunError, match=r"started with synthetic-\w{12}, and .*/shards is now synthetic-\w{12}"):
        check_same_data(asked, rows, base, [base])
    check_same_data(asked, [trial(1, data="x", metrics={}, state="failed")], base, [base])


def test_resume_checks_each_trial_by_its_searched_data(tmp_path):
    frames = {"data.synthetic.frames": 12}
    own = data_key(override(Config(), frames))
    asked = record(name="run")
    check_same_data(asked, [trial(1, data=own, values=frames)], Config(), [Config()])
    with pytest.raises(RunError, match="its data changed"):
        check_same_data(asked, [trial(1, data=own)], Config(), [Config()])


def test_cache_finds_a_trial_of_searched_data(tmp_path):
    values = {"data.synthetic.frames": 12}
    candidate = Candidate.of(Config(), values)
    row = trial(1, fingerprint=candidate.fingerprint, values=values, data=data_key(candidate.config))
    cache = TrialCache(["hand_error_mm"])
    cache.add(row, RunFolder(tmp_path))
    assert cache.find(candidate).trial == row


def test_space_data_are_its_choices_or_the_base():
    space = Space({"data.synthetic.frames": Choice(12, 24), "data.spacing": Choice(1, 2)})
    assert [config.data.synthetic.frames for config in space.of_data(Config())] == [12, 24]
    assert Space({"optim.lr": Uniform(0.1, 0.2)}).of_data(Config()) == [Config()]
    assert len(Space({"data.synthetic.seed": Choice(*range(99))}).of_data(Config())) == 1


def test_search_resume_refuses_other_code_unless_allowed(trained, search, other_code):
    other_code("first")
    search(trials=2)
    other_code("second")
    with pytest.raises(
        RunError, match=r"trained by first \(started at commit .*current code is second.*add --share-any"
    ):
        search(trials=4, resume=True)
    outcome = search(trials=4, resume=True, share_any=True)
    assert outcome.folder.record.codes == ["first", "second"]
    assert [one.code for one in outcome.trials] == ["first", "first", "second", "second"]
    said = outcome.folder.report.read_text()
    assert "**Results of other code:** the run was started with first. trial 3, trial 4: by second." in said
    other_code("first")
    search(trials=4, resume=True)


def test_resume_accepts_another_commit_of_equal_code(trained, search, monkeypatch):
    search(trials=1)
    monkeypatch.setattr(revision, "commit", lambda: "newer")
    folder = search(trials=2, resume=True).folder
    assert (folder.record.later_commits, folder.record.codes) == (["newer"], [revision.identity()])
    assert "Results of other code" not in folder.report.read_text()


def test_warm_start_omits_trials_of_other_code(trained, search, other_code, tmp_path):
    other_code("first")
    before = search(FINITE, trials=1, name="before")
    other_code("second")
    (own,) = search(FINITE, trials=1, name="own", warm_start=("before",)).trials
    assert own.state == "complete"
    assert "left out: 1 of other code (--share-any includes them)." in (tmp_path / "shown").read_text()
    outcome = search(FINITE, trials=1, name="after", warm_start=("before",), share_any=True)
    (taken,) = outcome.trials
    assert (taken.state, taken.code, taken.metrics) == ("cached", "first", before.trials[0].metrics)
    assert "started with second. trial 1: by first." in outcome.folder.report.read_text()


def test_study_report_names_trainings_of_other_code(tmp_path):
    folder = study_folder(tmp_path / "run", windows(2), seeds=(0, 1), codes=["mine"])
    rows = [dataclasses.replace(one, code="mine" if one.number > 1 else "theirs") for one in folder.trials()]
    folder.write_trials(rows)
    report.write(folder)
    said = folder.report.read_text()
    assert f"started with mine. {rows[0].variant} with seed 0: by theirs." in said


def test_final_training_resume_refuses_other_data(tmp_path):
    config = override(tiny_config(), shards(tmp_path / "shards", "1" * 64))
    final_folder.write_folder(tmp_path / "run", config)
    final_folder.check_same(tmp_path / "run", config)
    shards(tmp_path / "shards", "2" * 64)
    with pytest.raises(RunError, match=r"Cannot resume .*/run: its data changed\. It was started with synthetic-"):
        final_folder.check_same(tmp_path / "run", config, share_any=True)


def test_final_training_resume_refuses_or_notes_other_code(tmp_path, other_code):
    place, storage = tmp_path / "here" / "run", str(tmp_path / "storage")
    other_code("first")
    final_folder.write_folder(place, tiny_config(), storage)
    other_code("second")
    for folder in (place, tmp_path / "there" / "run"):
        with pytest.raises(RunError, match=r"trained by first \(started at commit .*current code is second"):
            final_folder.check_same(folder, tiny_config(), storage=storage)
    final_folder.check_same(place, tiny_config(), storage=storage, share_any=True)
    final_folder.write_folder(place, tiny_config(), storage)
    assert json.loads((place / "began.json").read_text())["codes"] == ["first", "second"]


def test_final_training_of_an_older_version_resumes(tmp_path):
    final_folder.write_folder(tmp_path / "run", tiny_config())
    (tmp_path / "run" / "began.json").unlink()
    final_folder.check_same(tmp_path / "run", tiny_config())


def test_retraining_refuses_other_data(tmp_path):
    run = search_folder(tmp_path / "run", 3)
    base = override(run.record.config(), shards(tmp_path / "shards", "1" * 64))
    spec = dataclasses.replace(run.record.spec, base=base.model_dump(mode="json"))
    run.write_record(dataclasses.replace(run.record, spec=spec))
    row = dataclasses.replace(run.trials()[0], data=data_key(base))
    assert retrain_results.plan(run, row, "hand_error_mm", 2).data == data_key(base)
    shards(tmp_path / "shards", "2" * 64)
    with pytest.raises(RunError, match=rf"Cannot train .* on other data: trial {row.id} was trained on synthetic-"):
        retrain_results.plan(run, row, "hand_error_mm", 2)
    elsewhere = shards(tmp_path / "elsewhere", "3" * 64)
    assert retrain_results.plan(run, row, "hand_error_mm", 2, assignments=elsewhere).data is not None


def test_retraining_refuses_seeds_of_other_code(tmp_path, other_code):
    other_code("first")
    found = asked_again(tmp_path / "run", 2)
    for seed in found.seeds:
        end(found, seed)
    found.write()
    other_code("second")
    assert not asked_again(tmp_path / "run", 2).left, "what is finished can be shown by any code"
    with pytest.raises(RunError, match=r"trained by first \(started at commit .*current code is second"):
        asked_again(tmp_path / "run", 3)
    more = asked_again(tmp_path / "run", 3, share_any=True)
    end(more, 3)
    more.write()
    retrain.write(more)
    said = (more.path / "report.md").read_text()
    assert "the run was started with first." in said
    assert "seed 3: by second." in said


def test_old_run_resume_notes_that_its_code_is_unknown(trained, search):
    folder = search(trials=1).folder
    folder.write_record(dataclasses.replace(folder.record, codes=[], data=[]))
    folder.write_trials([dataclasses.replace(one, code=None) for one in folder.trials()])
    folder = search(trials=2, resume=True).folder
    assert folder.record.codes == ["unknown", revision.identity()]
    assert f"the run was started with unknown. trial 2: by {revision.identity()}." in folder.report.read_text()
