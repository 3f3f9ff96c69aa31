import math

import optuna
import pytest

from htt.errors import StorageError
from tune.algorithms import Code, Searcher, open_journal, scheduler
from tune.samples import Samples
from tune.space import Choice, Integer, LogUniform, Space, Uniform

SPACE = Space({"optim.lr": LogUniform(1e-4, 1e-2), "model.action.cues": Choice(["hands"], ["hands", "object"])})


@pytest.fixture
def make(tmp_path):
    def searcher(**options):
        options = {"study": "run", "metric": "hand_error_mm", "mode": "min", "epochs": 4, **options}
        return Searcher(SPACE, tmp_path / "optuna.journal", **options)

    return searcher


def result(epoch, value):
    return {"epoch": epoch, "hand_error_mm": value, "training_iteration": 1}


def states(searcher):
    return [trial.state.name for trial in searcher.study.get_trials()]


def test_optuna_is_told_the_truth(make):
    searcher = make()
    for name in ("whole", "stopped", "nan", "crashed", "silent"):
        searcher.suggest(name)
    searcher.on_trial_result("whole", result(1, 9.0))
    searcher.on_trial_complete("whole", result(4, 5.0))
    searcher.on_trial_result("stopped", result(1, 8.0))
    searcher.on_trial_complete("stopped", result(2, 7.0))
    searcher.on_trial_complete("nan", result(4, math.nan))
    searcher.on_trial_complete("crashed", error=True)
    searcher.on_trial_complete("silent", None)
    assert states(searcher) == ["COMPLETE", "PRUNED", "FAIL", "FAIL", "FAIL"]
    whole, stopped = searcher.study.get_trials()[:2]
    assert (whole.value, whole.intermediate_values) == (5.0, {1: 9.0, 4: 5.0})
    assert stopped.intermediate_values == {1: 8.0, 2: 7.0}


def test_lists_survive(make):
    samples = [make().suggest(str(number))["values"]["model.action.cues"] for number in range(12)]
    assert all(sample in (["hands"], ["hands", "object"]) for sample in samples)
    assert len({str(sample) for sample in samples}) == 2


@pytest.mark.parametrize(
    "domain", [Choice(1, 4), Choice("a", ["b"]), Uniform(0, 1), LogUniform(1, 2), Integer(2, 6, 2)]
)
def test_every_domain_has_words_in_optuna(domain):
    code = Code(domain)
    for value in domain.probes():
        assert code.decode(code.encode(value)) == value
        assert code.distribution._contains(code.distribution.to_internal_repr(code.encode(value)))


@pytest.mark.parametrize("algorithm", ["tpe", "random"])
def test_a_restored_search_goes_on_as_if_undisturbed(make, tmp_path, algorithm):
    def play(searcher, names):
        for name in names:
            values = searcher.suggest(name)["values"]
            searcher.on_trial_complete(name, result(4, abs(math.log10(values["optim.lr"]) + 3)))
            yield values

    names = [f"t{number}" for number in range(14)]
    whole = list(play(make(algorithm=algorithm, seed=5), names))
    (tmp_path / "optuna.journal").unlink()
    first = list(play(make(algorithm=algorithm, seed=5), names[:11]))
    rest = list(play(make(algorithm=algorithm, seed=5), names[11:]))
    assert first + rest == whole


def test_another_seed_asks_for_something_else(make, tmp_path):
    one = make(seed=1).suggest("a")
    (tmp_path / "optuna.journal").unlink()
    assert make(seed=2).suggest("a") != one


def test_the_starting_point_is_tried_once(make):
    first = {"optim.lr": 1e-3, "model.action.cues": ["hands"]}
    assert make(first=[first]).suggest("a") == {"values": first}
    again = make(first=[first])
    assert again.suggest("b") != {"values": first}
    assert len(again.study.get_trials()) == 2


def test_a_trial_lost_with_its_driver_is_handed_out_again(make):
    lost = make()
    lost.suggest("known")
    values = lost.suggest("lost")
    back = make()
    back.keep_only({"known": {}}, {})
    assert back.suggest("new") == values
    back.on_trial_complete("new", result(4, 1.0))
    back.on_trial_complete("known", result(4, 2.0))
    assert states(back) == ["COMPLETE", "COMPLETE"]


def test_a_trial_that_ended_unnoticed_is_told_and_not_handed_out_again(make):
    lost = make()
    values = lost.suggest("ended")
    back = make()
    back.keep_only({}, {"ended": result(4, 1.0)})
    assert states(back) == ["COMPLETE"]
    assert back.suggest("new") != values


def test_an_interrupted_trial_does_not_stay_running_and_can_be_gone_on_with(make):
    stopped = make()
    stopped.suggest("a")
    stopped.on_trial_result("a", result(1, 9.0))
    stopped.suggest("b")
    stopped.close()
    assert states(stopped) == ["PRUNED", "FAIL"]
    back = make()
    back.keep_only({"a": {}}, {})
    back.on_trial_result("a", result(2, 8.0))
    back.on_trial_complete("a", result(4, 5.0))
    assert states(back) == ["PRUNED", "FAIL", "COMPLETE"]
    assert back.study.get_trials()[-1].intermediate_values == {1: 9.0, 2: 8.0, 4: 5.0}


def test_what_ended_is_not_told_twice(make):
    make().suggest("a")
    first = make()
    first.on_trial_complete("a", result(4, 5.0))
    again = make()
    again.on_trial_result("a", result(4, 5.0))
    again.on_trial_complete("a", result(4, 6.0))
    assert again.study.best_value == 5.0


def test_a_dashboard_finds_the_study_by_its_name(make, tmp_path):
    make(study="search-quick-1").suggest("a")
    storage = open_journal(tmp_path / "optuna.journal")
    assert optuna.get_all_study_names(storage) == ["search-quick-1"]


def test_a_damaged_journal_is_one_error(tmp_path):
    path = tmp_path / "optuna.journal"
    path.write_text("no journal\n" * 3)
    with pytest.raises(StorageError, match="must be a whole Optuna journal"):
        optuna.get_all_study_names(open_journal(path))


def test_halving_remembers_what_the_study_knows(make):
    searcher = make()
    for name, value in (("a", 5.0), ("b", 6.0), ("c", 7.0)):
        searcher.suggest(name)
        searcher.on_trial_result(name, result(1, value))
    asha = scheduler("asha", mode="min", epochs=4, searcher=make())
    asha.set_search_properties("hand_error_mm", "min")

    class Trial:
        trial_id = "new"

    asha.on_trial_add(None, Trial)
    assert asha.on_trial_result(None, Trial, result(1, 9.0)) == "STOP"


def test_a_restored_stream_may_be_asked_for_more(make):
    samples = Samples(make(), concurrent=1, trials=9)
    samples.set_state({"counter": 4, "total_samples": 4, "finished": True, "experiment": None})
    assert not samples.is_finished()
