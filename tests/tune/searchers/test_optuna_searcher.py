import math
import threading
import time

import optuna
import pytest
from optuna.samplers._tpe.sampler import _split_trials

from htt.config import Config, override
from htt.errors import StorageError
from tune.experiments.constraints import parse
from tune.experiments.space import Choice, Integer, LogUniform, Space, Uniform
from tune.results.run_folder import Trial
from tune.searchers import optuna_study
from tune.searchers.distributions import Code
from tune.searchers.optuna_searcher import Searcher
from tune.searchers.optuna_study import epochs_of, open_journal
from tune.searchers.scheduler import scheduler

SPACE = Space({"optim.lr": LogUniform(1e-4, 1e-2), "model.action.cues": Choice(["hands"], ["hands", "object"])})


@pytest.fixture
def make(tmp_path):
    def searcher(space=SPACE, **options):
        options = {"study": "run", "objectives": ["hand_error_mm"], "epochs": 4, **options}
        return Searcher(space, tmp_path / "optuna.journal", **options)

    return searcher


def test_journal_lock_of_a_killed_process_is_removed_and_named(make, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(optuna_study, "LOCK_S", 0.2)
    make().suggest("first")
    lock = tmp_path / "optuna.journal.lock"
    lock.symlink_to(tmp_path / "moved away" / "optuna.journal")  # Optuna would look for its age for ever
    began = time.monotonic()
    make().suggest("second")
    assert time.monotonic() - began < 20  # Optuna itself waits for 30 s, if the link leads somewhere
    assert not lock.is_symlink()
    assert f"Removed {lock}: a killed process left it." in capsys.readouterr().err


def test_journal_lock_of_a_dashboard_is_waited_for(make, tmp_path, capsys):
    lock = tmp_path / "optuna.journal.lock"
    lock.symlink_to(tmp_path / "optuna.journal")
    threading.Timer(0.3, lock.unlink).start()
    make().suggest("first")
    assert capsys.readouterr().err == ""


def result(epoch, value):
    return {"epoch": epoch, "hand_error_mm": value, "training_iteration": 1}


def states(searcher):
    return [trial.state.name for trial in searcher.study.get_trials()]


def test_study_has_the_states_of_trials(make):
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


def test_suggest_returns_lists(make):
    samples = [make().suggest(str(number))["values"]["model.action.cues"] for number in range(12)]
    assert all(sample in (["hands"], ["hands", "object"]) for sample in samples)
    assert len({str(sample) for sample in samples}) == 2


@pytest.mark.parametrize(
    "domain", [Choice(1, 4), Choice("a", ["b"]), Uniform(0, 1), LogUniform(1, 2), Integer(2, 6, 2)]
)
def test_every_domain_has_a_distribution(domain):
    code = Code(domain)
    for value in domain.probes():
        assert code.decode(code.encode(value)) == value
        assert code.distribution._contains(code.distribution.to_internal_repr(code.encode(value)))


@pytest.mark.parametrize("algorithm", ["tpe", "random"])
def test_restored_search_continues_as_if_uninterrupted(make, tmp_path, algorithm):
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


def test_another_seed_suggests_another_sample(make, tmp_path):
    one = make(seed=1).suggest("a")
    (tmp_path / "optuna.journal").unlink()
    assert make(seed=2).suggest("a") != one


def test_initial_point_is_tried_once(make):
    first = {"optim.lr": 1e-3, "model.action.cues": ["hands"]}
    assert make(first=[first]).suggest("a") == {"values": first}
    again = make(first=[first])
    assert again.suggest("b") != {"values": first}
    assert len(again.study.get_trials()) == 2


def test_trial_lost_with_its_driver_is_suggested_again(make):
    lost = make()
    lost.suggest("known")
    values = lost.suggest("lost")
    back = make()
    back.keep_only({"known": {}}, {})
    assert back.suggest("new") == values
    back.on_trial_complete("new", result(4, 1.0))
    back.on_trial_complete("known", result(4, 2.0))
    assert states(back) == ["COMPLETE", "COMPLETE"]


def test_ended_unrecorded_trial_is_not_suggested_again(make):
    lost = make()
    values = lost.suggest("ended")
    back = make()
    back.keep_only({}, {"ended": result(4, 1.0)})
    assert states(back) == ["COMPLETE"]
    assert back.suggest("new") != values


def test_resumed_trial_keeps_its_number_and_later_samples(make):
    def drawn(search, trial_id):
        sample = search.suggest(trial_id)["values"]
        search.on_trial_complete(trial_id, result(4, 1.0))
        return sample

    whole = make(study="whole", algorithm="random")
    samples = [drawn(whole, name) for name in "abcd"]
    search = make(algorithm="random")
    parts = [drawn(search, "a"), search.suggest("b")["values"]]
    search.on_trial_result("b", result(1, 2.0))
    search.close()
    for _ in range(2):  # twice, to be sure
        search = make(algorithm="random")
        search.keep_only({"b": {}}, {})
        assert search.number("b") == 2
        search.close()
    search = make(algorithm="random")
    search.keep_only({"b": {}}, {})
    search.on_trial_complete("b", result(4, 1.0))
    parts += [drawn(search, name) for name in "cd"]
    assert parts == samples
    assert [search.number(name) for name in "abcd"] == [1, 2, 3, 4]


def test_interrupted_trial_is_not_running_and_can_be_resumed(make):
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


def test_end_of_a_trial_is_recorded_once(make):
    make().suggest("a")
    first = make()
    first.on_trial_complete("a", result(4, 5.0))
    again = make()
    again.on_trial_result("a", result(4, 5.0))
    again.on_trial_complete("a", result(4, 6.0))
    assert again.study.best_value == 5.0


def test_dashboard_finds_the_study_by_name(make, tmp_path):
    make(study="search-quick-1").suggest("a")
    storage = open_journal(tmp_path / "optuna.journal")
    assert optuna.get_all_study_names(storage) == ["search-quick-1"]


def test_damaged_journal_is_one_error(tmp_path):
    path = tmp_path / "optuna.journal"
    path.write_text("no journal\n" * 3)
    with pytest.raises(StorageError, match="Invalid Optuna journal"):
        optuna.get_all_study_names(open_journal(path))


def test_asha_restores_its_rungs_from_the_study(make):
    searcher = make()
    for name, value in (("a", 5.0), ("b", 6.0), ("c", 7.0)):
        searcher.suggest(name)
        searcher.on_trial_result(name, result(1, value))
    asha = scheduler("asha", epochs=4, searcher=make())
    asha.set_search_properties("hand_error_mm", "min")

    class Trial:
        trial_id = "new"

    asha.on_trial_add(None, Trial)
    assert asha.on_trial_result(None, Trial, result(1, 9.0)) == "STOP"


def test_resumed_trial_left_running_ends_with_its_result(make):
    make().suggest("a")
    stopped = make()
    stopped.close()
    for last in (False, True):
        back = make()
        back.keep_only({"a": {}}, {})
        back.on_trial_result("a", result(2 if last else 1, 8.0))
    back.on_trial_complete("a", result(4, 5.0))
    assert states(back) == ["FAIL", "COMPLETE"]
    assert back.study.get_trials()[-1].intermediate_values == {1: 8.0, 2: 8.0, 4: 5.0}


def play(searcher, names, error=lambda values: abs(math.log10(values["optim.lr"]) + 3), **more):
    """Suggest and finish trials; gives their values, as far as there were any."""
    for name in names:
        suggested = searcher.suggest(name)
        if suggested == searcher.FINISHED:
            return
        values = suggested["values"]
        searcher.on_trial_complete(name, {**result(4, error(values)), **more})
        yield values


BOTH = {"objectives": ["hand_error_mm", "action_accuracy"]}


def test_study_has_all_objectives_and_no_values_if_pruned(make):
    searcher = make(**BOTH)
    for name in ("whole", "stopped", "half", "crashed"):
        searcher.suggest(name)
    searcher.on_trial_result("whole", {**result(1, 9.0), "action_accuracy": 0.1})
    searcher.on_trial_complete("whole", {**result(4, 5.0), "action_accuracy": 0.5})
    searcher.on_trial_result("stopped", {**result(1, 8.0), "action_accuracy": 0.1})
    searcher.on_trial_complete("stopped", {**result(2, 7.0), "action_accuracy": 0.2})
    searcher.on_trial_complete("half", result(4, 5.0))
    searcher.on_trial_complete("crashed", error=True)
    assert states(searcher) == ["COMPLETE", "PRUNED", "FAIL", "FAIL"]
    assert [direction.name for direction in searcher.study.directions] == ["MINIMIZE", "MAXIMIZE"]
    whole, stopped = searcher.study.get_trials()[:2]
    assert (whole.values, stopped.values) == ([5.0, 0.5], None)
    assert (epochs_of(whole), epochs_of(stopped)) == ({1: 9.0, 4: 5.0}, {1: 8.0, 2: 7.0})


def test_several_objectives_continue_after_pruned_trials(make, tmp_path):
    def rounds(searcher, first, last):
        for number in range(first, last):
            values = searcher.suggest(f"t{number}")["values"]
            error, epoch = abs(math.log10(values["optim.lr"]) + 3), 2 if number % 3 == 0 else 4
            accuracy = 0.5 if number % 5 else 0.1
            searcher.on_trial_complete(f"t{number}", {**result(epoch, error), "action_accuracy": accuracy})
            yield values

    options = {**BOTH, "constraints": parse(["action_accuracy>=0.3"]), "seed": 3}
    whole = list(rounds(make(**options), 0, 24))
    (tmp_path / "optuna.journal").unlink()
    parts = [*rounds(make(**options), 0, 13), *rounds(make(**options), 13, 24)]
    assert parts == whole
    assert {"COMPLETE", "PRUNED"} == set(states(make(**options)))


def test_asha_restores_rungs_of_the_first_objective(make):
    searcher = make(**BOTH)
    for name, value in (("a", 5.0), ("b", 6.0), ("c", 7.0)):
        searcher.suggest(name)
        searcher.on_trial_result(name, result(1, value))
    asha = scheduler("asha", epochs=4, searcher=make(**BOTH))
    asha.set_search_properties("hand_error_mm", "min")

    class Trial:
        trial_id = "new"

    asha.on_trial_add(None, Trial)
    assert asha.on_trial_result(None, Trial, result(1, 9.0)) == "STOP"


def test_interrupted_trial_of_several_objectives_keeps_epochs(make):
    stopped = make(**BOTH)
    stopped.suggest("a")
    stopped.on_trial_result("a", {**result(1, 9.0), "action_accuracy": 0.1})
    stopped.close()
    back = make(**BOTH)
    back.keep_only({"a": {}}, {})
    back.on_trial_complete("a", {**result(4, 5.0), "action_accuracy": 0.5})
    assert states(back) == ["PRUNED", "COMPLETE"]
    assert epochs_of(back.study.get_trials()[-1]) == {1: 9.0, 4: 5.0}


def test_study_has_the_constraint_violations(make):
    searcher = make(constraints=parse(["parameters<=2e6", "latency_ms<=20"]))
    for name in ("kept", "broken", "refused", "unknown"):
        searcher.suggest(name)
    searcher.on_trial_complete("kept", {**result(4, 5.0), "parameters": 1e6, "latency_ms": 20.0})
    searcher.on_trial_complete("broken", {**result(4, 1.0), "parameters": 3e6, "latency_ms": 5.0})
    searcher.on_trial_complete("refused", {"parameters": 4e6, "epoch": 0})
    searcher.on_trial_complete("unknown", result(4, 2.0))
    assert states(searcher) == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"]
    found = [list(trial.constraints.values()) for trial in searcher.study.get_trials()]
    assert found == [[-0.5, 0.0], [0.5, -0.75], [1.0, 0.0], [1.0, 1.0]]
    assert searcher.study.best_value == 5.0, "what is infeasible is never the best"


def test_trial_without_memory_is_infeasible(make):
    searcher, told = make(), {"hand_error_mm": math.nan, "epoch": 0, "error_kind": "DeviceMemoryError"}
    for name in ("kept", "large", "late", "lost"):
        searcher.suggest(name)
    searcher.on_trial_result("late", result(1, 0.5))
    searcher.on_trial_complete("kept", result(4, 5.0))
    searcher.on_trial_complete("large", told)
    searcher.on_trial_complete("late", {**told, "epoch": 1})
    searcher.keep_only({}, {"lost": {"error_kind": "DeviceMemoryError"}})
    assert states(searcher) == ["COMPLETE", "PRUNED", "PRUNED", "PRUNED"]
    trials = searcher.study.get_trials()
    assert [trial.constraints for trial in trials] == [{}, *[{"memory": 1.0}] * 3]
    good, bad = _split_trials(searcher.study, trials, 1)
    assert ([trial.number for trial in good], len(bad)) == ([0], 3), "TPE avoids what does not fit"


FINITE = Space({"optim.lr": Choice(1e-3, 1e-2), "model.action.cues": Choice(["hands"], ["hands", "object"])})


@pytest.mark.parametrize("algorithm", ["tpe", "random"])
def test_finite_space_is_exhausted_without_repeats(make, algorithm):
    searcher = make(FINITE, algorithm=algorithm)
    tried = list(play(searcher, map(str, range(100))))
    assert len({str(values) for values in tried}) == 4
    assert len(tried) == 4
    assert searcher.used_up


def test_untried_configuration_of_a_large_space_is_drawn(make):
    large = Space({"train.seed": Integer(0, 10**9), "optim.lr": Choice(1e-3)})
    assert make(large).coverage.size == 10**9 + 1
    left = make(large).coverage.untried({(5, 1e-3)}, seed=1)
    assert set(left) == {"train.seed", "optim.lr"}
    assert make().coverage.size is None
    assert make(FINITE, study="other").coverage.untried(set(), seed=1) is not None


def earlier(number, mm, epochs=4, **changes):
    metrics = {"hand_error_mm": mm, "action_accuracy": mm / 10}
    plain = {
        "id": f"e{number}", "number": number, "fingerprint": f"f{number}", "state": "complete", "epochs": epochs,
        "seconds": 1.0, "finished_s": 1.0, "values": {"optim.lr": 10.0**-number, "model.action.cues": ["hands"]},
        "metrics": metrics, "best": metrics, "curve": tuple(mm + 3 - each for each in range(epochs)),
        "taken_from": f"before/e{number} (abc)",
    }  # fmt: skip
    return Trial(**{**plain, **changes})


EARLIER = [earlier(2, 4.0), earlier(3, 7.0, epochs=2)]


def test_study_counts_its_own_trials_after_a_warm_start(make):
    searcher = make(earlier=EARLIER, constraints=parse(["action_accuracy>=0.5"]))
    assert states(searcher) == ["COMPLETE", "PRUNED"]
    whole, stopped = searcher.study.get_trials()
    assert (whole.value, epochs_of(whole)) == (4.0, {1: 7.0, 2: 6.0, 3: 5.0, 4: 4.0})
    assert (epochs_of(stopped), stopped.params["model.action.cues"]) == ({1: 10.0, 2: 9.0}, '["hands"]')
    assert [next(iter(trial.constraints.values())) > 0 for trial in (whole, stopped)] == [True, False]
    searcher.suggest("a")
    again = make(earlier=EARLIER)
    assert again.number("a") == 1
    assert len(again.study.get_trials()) == 3


def test_study_of_several_objectives_accepts_a_warm_start(make):
    whole, stopped = make(earlier=EARLIER, **BOTH).study.get_trials()
    assert (whole.values, stopped.values, stopped.state.name) == ([4.0, 0.4], None, "PRUNED")
    assert epochs_of(stopped) == {1: 10.0, 2: 9.0}


LENGTHS = Space({"train.epochs": Choice(2, 4, 8), "optim.lr": LogUniform(1e-4, 1e-2)})


def test_trial_is_complete_after_its_own_number_of_epochs(make):
    searcher = make(LENGTHS, epochs=8, first=[{"train.epochs": each, "optim.lr": 1e-3} for each in (2, 4, 8)])
    for name, epochs in (("two", 2), ("four", 4), ("cut", 4)):
        searcher.suggest(name)
        searcher.on_trial_complete(name, result(epochs, 5.0))
    assert states(searcher) == ["COMPLETE", "COMPLETE", "PRUNED"]
    row = earlier(3, 7.0, epochs=2, values={"train.epochs": 2, "optim.lr": 1e-3})
    assert states(make(LENGTHS, epochs=8, study="after", earlier=[row])) == ["COMPLETE"]


def test_asha_reaches_to_the_longest_trial_of_the_space():
    base = override(Config(), {"train.epochs": 2})
    assert LENGTHS.longest(base) == 8
    assert SPACE.longest(base) == 2
    asha = scheduler("asha", epochs=LENGTHS.longest(base))
    asha.set_search_properties("hand_error_mm", "min")

    class Trial:
        trial_id = "four"

    asha.on_trial_add(None, Trial)
    assert [asha.on_trial_result(None, Trial, result(epoch, 1.0)) for epoch in (1, 2, 4)] == ["CONTINUE"] * 3
    assert asha.on_trial_result(None, Trial, result(8, 1.0)) == "STOP"


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("algorithm", ["tpe", "random"])
def test_running_configuration_is_not_suggested_again(make, seed, algorithm):
    searcher = make(FINITE, algorithm=algorithm, seed=seed)
    suggested = [searcher.suggest(str(number)) for number in range(5)]
    assert len({str(each["values"]) for each in suggested[:4]}) == 4
    assert suggested[4] == searcher.FINISHED


def test_searcher_names_metrics_for_the_dashboard(make):
    search = make(objectives=["hand_error_mm", "action_accuracy"])
    search.suggest("a")
    search.on_trial_complete("a", {**result(4, 1.0), "action_accuracy": 0.5, "latency_ms": 7.0})
    assert search.study.metric_names == ["hand_error_mm", "action_accuracy"]
    noted = search.study.get_trials()[0].user_attrs
    assert noted["latency_ms"] == 7.0
    assert "hand_error_mm" not in noted


def test_next_name_is_the_number_a_trial_gets(make):
    search = make(first=[{"optim.lr": 1e-3, "model.action.cues": ["hands"]}])
    names = []
    for _ in range(4):
        names.append(search.next_name())
        search.suggest(names[-1])
        search.on_trial_complete(names[-1], result(4, 1.0))
    assert names == ["1", "2", "3", "4"]
    assert [str(search.number(name)) for name in names] == names


def test_next_name_of_a_lost_trial_keeps_its_number(make):
    lost = make()
    for name in ("1", "2"):
        lost.suggest(name)
    names = []
    for _ in range(2):
        back = make()
        back.keep_only({"1": {}}, {})
        names.append(back.next_name())
        back.suggest(names[-1])
        assert back.number(names[-1]) == 2
    assert names == ["2-2", "2-3"], "what it left in its folder is not taken for another's"
    assert back.next_name() == "3"


def test_next_name_does_not_count_trials_of_earlier_runs(make):
    values = {"optim.lr": 1e-3, "model.action.cues": ["hands"]}
    row = Trial(
        id="x", number=9, fingerprint="f", state="complete", epochs=4, seconds=1.0, finished_s=1.0, values=values,
        metrics={"hand_error_mm": 1.0}, curve=(1.0,) * 4,
    )  # fmt: skip
    assert make(earlier=[row]).next_name() == "1"
