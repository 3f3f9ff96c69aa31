"""When a run ends before it is done, because going on makes no sense; and that it says why."""

import pytest

from fake_training import BASE
from htt.config import override
from htt.errors import TrainingError
from tune.experiments.constraints import parse
from tune.experiments.space import Choice, Integer, Space
from tune.searchers.feasibility import SizeCheck
from unrayed import replace_tune

BAD = {f"bad {number}": {"optim.momentum": 0.1, "optim.lr": 10.0**-number} for number in (2, 3, 4)}


@pytest.fixture
def trained(monkeypatch):
    """The values of all trials that were trained."""
    values = []
    replace_tune(monkeypatch, values)
    return values


@pytest.mark.parametrize("kind", ["search", "study"])
def test_unnamed_runs_of_one_second_have_two_folders(trained, search, ablate, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("time.strftime", lambda *_: "20260101-120000")
    variants = {"a": {}, "b": {"optim.momentum": 0.5}}
    runs = [search(name=None, trials=1) if kind == "search" else ablate(variants, name=None) for _ in range(2)]
    names = [outcome.folder.name for outcome in runs]
    assert names == [f"{kind}-fake-20260101-120000", f"{kind}-fake-20260101-120000-2"]
    assert [outcome.folder.record.name for outcome in runs] == names


def test_study_continues_while_a_variant_is_untried(trained, ablate):
    outcome = ablate({**BAD, "good": {}}, seeds=(0, 1))
    assert [trial.state for trial in outcome.trials] == [*["failed"] * 3, "complete"] * 2
    assert outcome.stopped is None


def test_study_gives_up_when_all_variants_failed(trained, ablate):
    variants = {**BAD, "bad 5": {"optim.momentum": 0.1, "optim.lr": 1e-5}}
    for tries in (1, 2):
        with pytest.raises(TrainingError, match="No training was completed, out of 4"):
            ablate(variants, seeds=(0, 1), resume=tries > 1)
        assert len(trained) == 4 * tries


def test_search_gives_up_after_three_failures_each_time(trained, search):
    space = Space({"optim.momentum": Choice(0.1), "train.seed": Integer(0, 10**6)}, base=BASE)
    for tries in (1, 2):
        with pytest.raises(TrainingError, match=f"out of {3 * tries}:"):
            search(space, trials=9, resume=tries > 1)
        assert len(trained) == 3 * tries


def test_search_of_infeasible_trials_states_why_it_ends(trained, search, tmp_path, monkeypatch):
    for module in ("recorder", "search"):
        monkeypatch.setattr(f"tune.execution.{module}.MAX_INFEASIBLE", 3)
    start = {**BASE, "model.width": 32, "train.seed": 1}
    space = Space({"model.width": Choice(32, 64, 128), "train.seed": Integer(0, 10**6)}, base=start)
    small = override(space.start(), {"data.source": "synthetic", "model.width": 32})
    size, _ = SizeCheck(parse(["parameters<=1"])).violation(small)
    outcome = search(space, trials=99, algorithm="random", constraints=parse([f"parameters<={size}"]))
    assert outcome.stopped == "constraints"
    assert [trial.state for trial in outcome.trials[-3:]] == ["infeasible"] * 3
    assert outcome.best.values["model.width"] == 32
    said = "3 configurations in a row were infeasible. Start another run with a looser constraint or a smaller space."
    assert said in (tmp_path / "shown").read_text()
