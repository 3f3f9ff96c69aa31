import pytest
import yaml

from cluster import revision
from htt.config import Config, override
from htt.data.location import data_key
from htt.errors import ConfigError
from report_folders import record
from tune.experiments.constraints import parse
from tune.experiments.space import Choice, LogUniform, Space
from tune.experiments.spec import SearchSpec
from tune.results.run_folder import RunFolder, Trial
from tune.results.selection import best_text
from tune.searchers import warm_start

SPACE = Space({"optim.lr": LogUniform(1e-4, 1e-2), "model.action.cues": Choice(["hands"], ["hands", "object"])})
BASE = override(
    Config(), {"data.source": "synthetic", "train.epochs": 4, "optim.lr": 1e-3, "model.action.cues": ["hands"]}
)


def trial(number, values=None, **changes):
    metrics = {"hand_error_mm": 20.0 + number, "latency_ms": 10.0 * number}
    plain = {
        "id": f"t{number}", "number": number, "fingerprint": "", "state": "complete", "epochs": 4, "seconds": 1.0,
        "finished_s": 1.0, "values": {"optim.lr": 1e-3} if values is None else values, "metrics": metrics,
        "best": metrics, "curve": (30.0, 25.0, 23.0, 20.0 + number), "data": data_key(BASE),
        "code": revision.identity(),
    }  # fmt: skip
    return Trial(**{**plain, **changes})


def run(path, trials, base=BASE, **asked):
    folder = RunFolder(path / "before")
    plain = {"name": "before", "base": base.model_dump(mode="json"), **asked}
    folder.write_record(record(**plain))
    folder.write_trials(trials)
    return folder


def ask(objectives=("hand_error_mm",), constraints=(), base=BASE):
    return SearchSpec(
        domains=SPACE.domains,
        base=base.model_dump(mode="json"),
        objectives=tuple(objectives),
        constraints=parse(constraints),
    )


def test_fitting_trials_become_rows_and_misfits_are_counted(tmp_path):
    trials = [
        trial(1),
        trial(2, {"optim.lr": 2e-3, "model.action.cues": ["hands", "object"]}),
        trial(3, state="pruned", epochs=2, curve=(30.0, 23.0)),
        trial(4, {"optim.lr": 1.0}),
        trial(5, {"optim.lr": 1.0, "model.action.cues": ["feature"]}),
        trial(6, {"model.width": 64}),
        trial(7, state="failed"),
        trial(8, state="stopped"),
        trial(9, metrics={"loss": 1.0}),
        trial(10, data="other"),
        trial(11, {"no.such": 1}),
    ]
    run(tmp_path, trials)
    found = warm_start.earlier(RunFolder(tmp_path / "before"), ask())
    assert [one.id for one in found.trials] == ["t1", "t2", "t3"]
    assert found.trials[0].values == {"optim.lr": 1e-3, "model.action.cues": ["hands"]}
    assert [one.state for one in found.trials] == ["complete", "complete", "pruned"]
    assert found.trials[0].taken_from == "before/t1 (abc123)"
    assert found.trials[0].curve == (30.0, 25.0, 23.0, 21.0)
    assert str(found) == (
        "Warm start with 3 of the 11 trials of before; left out: 1 outside the space (optim.lr), "
        "1 outside the space (optim.lr, model.action.cues), 1 of another base (model.width), 1 failed, 1 stopped, "
        "1 without hand_error_mm, 1 of other data, 1 of another version."
    )


def test_trial_of_an_equal_base_fits_and_of_another_does_not(tmp_path):
    other = override(BASE, {"optim.lr": 5e-3, "runtime.tensorboard": False})
    run(tmp_path, [trial(1, {"model.action.cues": ["hands"]})], other)
    found = warm_start.earlier(RunFolder(tmp_path / "before"), ask())
    assert [one.values["optim.lr"] for one in found.trials] == [5e-3], "a base's value counts, and runtime does not"
    run(tmp_path, [trial(1)], override(BASE, {"train.seed": 3}))
    assert warm_start.earlier(RunFolder(tmp_path / "before"), ask()).misfits == {"of another base (train.seed)": 1}


def test_metric_not_selected_by_has_no_curve(tmp_path):
    run(tmp_path, [trial(2)])
    found = warm_start.earlier(
        RunFolder(tmp_path / "before"), ask(("latency_ms", "hand_error_mm"), ["latency_ms<=15"])
    ).trials[0]
    assert found.curve == ()
    assert found.violation == "latency_ms 20.0 ms > 15.0 ms"
    missing = warm_start.earlier(RunFolder(tmp_path / "before"), ask(constraints=["memory_mb<=1"]))
    assert missing.misfits == {"without memory_mb": 1}


def test_point_accepts_words_mapping_or_best_yaml(tmp_path):
    mapping = tmp_path / "point.yaml"
    mapping.write_text("optim.lr: 5e-3\n")
    best = tmp_path / "best.yaml"
    asked = record(name="before", base=override(BASE, {"train.seed": 4}).model_dump(mode="json"))
    best.write_text(best_text(asked, trial(1, {"optim.lr": 7e-3}), "hand_error_mm", 1))
    texts = ["optim.lr=2e-3 model.action.cues=[hands,object]", str(mapping), str(best), "optim.lr=2e-3", str(mapping)]
    assert warm_start.points(texts, SPACE, BASE) == [
        {"optim.lr": 2e-3, "model.action.cues": ["hands", "object"]},
        {"optim.lr": 5e-3, "model.action.cues": ["hands"]},
        {"optim.lr": 7e-3, "model.action.cues": ["hands"]},
        {"optim.lr": 2e-3, "model.action.cues": ["hands"]},
    ]
    assert yaml.safe_load(best.read_text())["config"]["train"]["seed"] == 4


def test_point_may_be_longer_than_a_file_name(tmp_path):
    text = f"optim.lr=2e-3 'model.action.cues=[hands{' ' * 300}]'"
    assert warm_start.points([text], SPACE, BASE) == [{"optim.lr": 2e-3, "model.action.cues": ["hands"]}]


def test_points_list_all_faults_in_one_error(tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("{")
    texts = [
        "optim.lr=1",
        "optim.lrr=1 model.width=3",
        str(broken),
        "optim.lr",
        "missing.yaml",
        "optim.lr=-1",
        "optim.lr='1e-3",
    ]
    with pytest.raises(ConfigError) as caught:
        warm_start.points(texts, SPACE, BASE)
    said = str(caught.value)
    for words in (
        "8 invalid settings",
        "--point optim.lr=1: optim.lr must be in the space, 0.0001 to 0.01, logarithmic; got 1",
        "optim.lrr is not searched. Did you mean 'optim.lr'?",
        "model.width is not searched",
        "broken.yaml: it must be YAML",
        "Invalid --point 'optim.lr': expected path=value, such as optim.lr=1e-4",
        "missing.yaml: it must be a readable YAML file",
        "--point optim.lr='1e-3: Unbalanced quotation marks: no closing quotation.",
        "--point optim.lr=-1: optim.lr: should be greater than 0",
    ):
        assert words in said, said
