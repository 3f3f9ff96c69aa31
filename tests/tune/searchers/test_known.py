import math

import pytest

from htt.config import Config, override
from htt.data.location import data_key
from htt.data.prepare import facts
from htt.model import size
from tune.experiments.constraints import parse
from tune.results.run_folder import Trial
from tune.searchers.known import Known

BASE = override(Config(), {"model.width": 64, "train.epochs": 4, "data.source": "synthetic"})


def trained(values, state="complete", **changes):
    metrics = changes.pop("metrics", {"hand_error_mm": 5.0})
    plain = {
        "id": "t1", "number": 1, "fingerprint": override(BASE, values).fingerprint(), "state": state, "epochs": 4,
        "seconds": 9.0, "finished_s": 3.0, "values": values, "metrics": metrics, "best": metrics, "curve": (7.0, 5.0),
        "data": data_key(BASE),
    }  # fmt: skip
    return Trial(**{**plain, **changes})


LR = {"optim.lr": 1e-3}


def test_a_configuration_that_was_trained_gives_its_result():
    known = Known(BASE, (), ["hand_error_mm"], [trained(LR)])
    found = known.answer(LR, "run")
    assert (found.state, found.seconds, found.taken_from) == ("reused", 0.0, "run/t1")
    assert (found.metrics, found.curve, found.epochs) == ({"hand_error_mm": 5.0}, (7.0, 5.0), 4)
    assert known.answer({"optim.lr": 2e-3}, "run") is None
    known.learn(trained({"optim.lr": 2e-3}, taken_from="before/t9 (abc)"))
    assert known.answer({"optim.lr": 2e-3}, "run").taken_from == "before/t9 (abc)"


@pytest.mark.parametrize(
    "other",
    [
        trained(LR, "pruned"),
        trained(LR, "failed"),
        trained(LR, "stopped"),
        trained(LR, data="other"),
        trained(LR, metrics={"loss": 1.0}),
        trained(LR, metrics={"hand_error_mm": math.nan}),
        trained({"optim.lr": 1e-3, "train.seed": 7}),
    ],
)
def test_what_gives_no_result(other):
    assert Known(BASE, (), ["hand_error_mm"], [other]).answer(LR, "run") is None


def test_a_result_that_breaks_a_constraint_says_so():
    metrics = {"hand_error_mm": 5.0, "latency_ms": 30.0}
    known = Known(BASE, parse(["latency_ms<=20"]), ["hand_error_mm"], [trained(LR, metrics=metrics)])
    assert known.answer(LR, "run").breaks == "latency_ms 30.0 ms > 20.0 ms"
    without = Known(BASE, parse(["memory_mb<=20"]), ["hand_error_mm"], [trained(LR, metrics=metrics)])
    assert without.answer(LR, "run") is None, "its memory was never measured"


def test_a_model_that_is_too_large_is_refused_by_its_size():
    small = size.parameters(BASE.model, facts(BASE))
    known = Known(BASE, parse([f"parameters<={small}", "latency_ms<=1"]), ["hand_error_mm"], [])
    assert known.answer(LR, "run") is None
    found = known.answer({"model.width": 128}, "run")
    large = size.parameters(override(BASE, {"model.width": 128}).model, facts(BASE))
    assert (found.state, found.epochs, found.metrics) == ("refused", 0, {"parameters": large})
    assert found.breaks.startswith("parameters ")
    assert "latency" not in found.breaks


def test_a_model_that_cannot_be_built_is_left_to_its_training(monkeypatch):
    def cannot(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(size, "parameters", cannot)
    assert Known(BASE, parse(["parameters<=1"]), ["hand_error_mm"], []).answer(LR, "run") is None
