import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import htt
import tune.experiments.spaces
from htt import registry
from htt.config import Config, override
from htt.errors import ConfigError
from tune.experiments.space import Choice, Integer, LogUniform, Space, Uniform


@pytest.mark.parametrize("name", registry.names(tune.experiments.spaces))
def test_shipped_spaces_are_valid_and_documented(name):
    space = registry.load(tune.experiments.spaces, name).SPACE
    space.check(space.start())
    assert space.description
    assert all(domain.why for domain in space.domains.values())
    assert space.of(space.start()) is not None, "the base itself should be a sample, to be tried first"


@pytest.mark.parametrize("name", registry.names(tune.experiments.spaces))
def test_shipped_spaces_name_existing_backbones(name):
    folder = Path(htt.__file__).parent / "model" / "backbones"
    backbone = registry.load(tune.experiments.spaces, name).SPACE.start().model.backbone.name
    assert (folder / f"{backbone}.py").exists()


def test_check_lists_every_fault_with_the_nearest_name():
    space = Space(
        {
            "optim.lrr": Uniform(0, 1),
            "train.epochs": Choice(0, 1),
            "model.pose.dropout": Uniform(0.5, 1.5),
            "model.pose.block": Integer(1, 2),
        }
    )
    with pytest.raises(ConfigError) as caught:
        space.check(Config())
    text = str(caught.value)
    assert "5 faults" in text
    assert "optim.lrr: no such field. Did you mean 'optim.lr'?" in text
    assert "train.epochs: should be greater than or equal to 1; got 0" in text
    assert "model.pose.dropout: should be less than 1; got 1.5" in text
    assert "model.pose.block: should be a valid string; got 1" in text


def test_check_finds_invalid_combinations_of_valid_values():
    space = Space({"model.width": Choice(64, 60), "model.pose.heads": Choice(8, 4)})
    with pytest.raises(ConfigError, match=r"model\.pose\.heads must divide model\.width; got 8 and 60"):
        space.check(Config())


def test_check_accepts_values_valid_only_in_combination():
    base = override(Config(), {"model.action.heads": 1})
    Space({"model.width": Choice(96, 192), "model.pose.heads": Choice(3, 6)}).check(base)


def test_empty_space_is_refused():
    with pytest.raises(ConfigError, match="must search at least one path"):
        Space({}).check(Config())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Choice(), "at least one value"),
        (lambda: Choice(1, 2, 1), "each value once; got 1 again"),
        (lambda: Uniform(2, 1), "low end to a higher one; got 2 and 1"),
        (lambda: Uniform(0, math.inf), "got 0 and inf"),
        (lambda: LogUniform(0, 1), "must start above 0; got 0"),
        (lambda: Integer(1, 4, 2), "must reach its high end in whole steps"),
        (lambda: Integer(1, 4.5), "takes whole numbers"),
    ],
)
def test_invalid_domain_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_samples_lie_inside_and_depend_on_the_seed():
    space = Space({"a": Choice([1], [2]), "b": Uniform(0, 1), "c": LogUniform(1e-3, 1), "d": Integer(2, 8, 3)})
    draws = [space.draw(random.Random(seed)) for seed in range(50)]
    assert all(domain.holds(draw[path]) for draw in draws for path, domain in space.domains.items())
    assert {draw["d"] for draw in draws} == {2, 5, 8}
    assert draws[7] == space.draw(random.Random(7))


def test_without_removes_fixed_paths():
    space = Space({"optim.lr": LogUniform(1e-4, 1e-2), "train.epochs": Integer(1, 3)}, base={"train.seed": 3})
    assert list(space.without(["optim.lr"]).domains) == ["train.epochs"]
    assert space.without(["optim.lr"]).start({"optim.lr": 1.0}).train.seed == 3


def test_of_returns_the_sample_of_a_configuration():
    space = Space({"optim.lr": LogUniform(1e-4, 1e-2), "model.action.cues": Choice(["hands"], ["hands", "object"])})
    config = override(Config(), {"optim.lr": 1e-3, "model.action.cues": ["hands"]})
    assert space.of(config) == {"optim.lr": 1e-3, "model.action.cues": ["hands"]}
    assert space.of(override(config, {"optim.lr": 1.0})) is None


def test_spaces_results_and_reports_import_no_torch_or_ray():
    code = (
        "import sys, tune.experiments.space, tune.results.run_folder, tune.reports.report, tune.best;"
        "import tune.experiments.spaces.quick, tune.experiments.spaces.paper;"
        "print([name for name in ('torch', 'ray', 'optuna') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_check_names_every_unknown_plug_in():
    space = Space({"optim.lr": LogUniform(1e-4, 1e-3)}, base={})
    base = override(Config(), {"model.pose.block": "transfomer", "data.source": "h3o"})
    with pytest.raises(ConfigError) as caught:
        space.check(base)
    assert "no such plug-in 'transfomer'" in str(caught.value)
    assert "no such plug-in 'h3o'" in str(caught.value)


def test_numpy_numbers_in_a_domain_become_pythons():
    space = Space(
        {
            "model.pose.window": Choice(*np.array([4, 8])),
            "optim.lr": LogUniform(*np.logspace(-5, -3, 2)),
            "train.epochs": Integer(np.int64(1), np.int64(3), np.int64(2)),
            "model.pose.dropout": Uniform(np.float32(0), np.float64(0.5)),
        }
    )
    space.check(space.start())
    sample = space.draw(random.Random(0))
    assert [type(value) for value in sample.values()] == [int, float, int, float]
    assert str(space.domains["train.epochs"]) == "1 to 3, every 2"
    assert str(space.domains["model.pose.window"]) == "one of 4, 8"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform("a", 1), "Uniform must go from a low end to a higher one; got 'a' and 1"),
        (lambda: LogUniform(1e-5, [2]), r"LogUniform must go from .*; got 1e-05 and \[2\]"),
        (lambda: Integer(1, 2**70 + 0.5, 1), "Integer takes whole numbers"),
        (lambda: Uniform(-1e308, 1e308), "Uniform must go from"),
        (lambda: Integer(0, 10**400), "Integer must go from"),
        (lambda: Uniform(0, math.nan), "Uniform must go from"),
        (
            lambda: Space({"train.seed": Integer(0, 2**70)}).check(Config()),
            "train.seed: should be less than 4294967296",
        ),
        (lambda: Integer(1, 3, "x"), "Integer takes whole numbers"),
        (lambda: Space({"optim.lr": [1e-5, 1e-3]}).check(Config()), "optim.lr must have a domain, such as Choice"),
    ],
)
def test_value_that_is_no_domain_is_one_sentence(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
