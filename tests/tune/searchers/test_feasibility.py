from htt.config import Config, override
from htt.data.prepare import facts
from htt.model import size
from tune.experiments.constraints import parse
from tune.searchers.feasibility import SizeCheck

BASE = override(Config(), {"model.width": 64, "train.epochs": 4, "data.source": "synthetic"})


def test_violation_is_the_size_of_a_too_large_model():
    small = size.parameters(BASE.model, facts(BASE))
    check = SizeCheck(parse([f"parameters<={small}", "latency_ms<=1"]))
    assert check.violation(BASE) is None
    wide = override(BASE, {"model.width": 128})
    found, violation = check.violation(wide)
    assert found == size.parameters(wide.model, facts(wide))
    assert violation.startswith("parameters ")
    assert "latency" not in violation


def test_violation_of_an_invalid_model_is_left_to_training(monkeypatch):
    def fail(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(size, "parameters", fail)
    assert SizeCheck(parse(["parameters<=1"])).violation(BASE) is None
