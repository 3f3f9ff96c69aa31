"""The configuration: overriding, refusing, round trips, fingerprints."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htt.config import Config, changed, flatten, from_plain, from_yaml, override, parse_set, read, to_yaml
from htt.errors import ConfigError


def test_defaults_are_the_papers_recipe():
    config = Config()
    assert (config.model.pose.window, config.model.action.length, config.data.spacing) == (16, 128, 2)
    assert (config.optim.name, config.optim.lr, config.optim.step_epochs, config.optim.step_factor) == (
        "adam", 3e-5, 15, 0.5,
    )  # fmt: skip
    assert (config.train.epochs, config.train.batch_size) == (45, 2)
    assert (config.loss.joints_px, config.loss.depth_m, config.loss.object, config.loss.action) == (1, 100, 1, 1)
    assert config.model.backbone.batch_norm == "frozen"


def test_override_gives_a_new_configuration():
    config = override(Config(), {"model.pose.window": 8, "model.action.cues": ["hands"]})
    assert config.model.pose.window == 8
    assert config.model.action.cues == ("hands",)
    assert Config().model.pose.window == 16


def test_one_error_lists_every_offender_with_the_nearest_right_name():
    values = {
        "model.pose.windw": 3,
        "optim.lr": -1.0,
        "optim.name": "adm",
        "train.epochs": "many",
        "data.spacing": True,
    }
    with pytest.raises(ConfigError) as caught:
        override(Config(), values)
    message = str(caught.value)
    assert message.startswith("5 values cannot be:")
    assert "model.pose.windw: there is no such field. Did you mean 'model.pose.window'?" in message
    assert "optim.lr: should be greater than 0; got -1.0" in message
    assert "optim.name: should be 'adam', 'adamw' or 'sgd'; got 'adm'" in message
    assert "train.epochs: should be a valid integer; got 'many'" in message
    assert "data.spacing: should be a valid integer; got True" in message


def test_heads_must_divide_the_width_and_the_error_says_which_do():
    with pytest.raises(ConfigError) as caught:
        override(Config(), {"model.width": 12, "model.pose.heads": 7})
    message = str(caught.value)
    assert "model.pose.heads must divide model.width; got 7 and 12. Heads that do: 1, 2, 3, 4, 6, 12" in message


def test_heads_matter_to_transformers_alone():
    values = {"model.width": 12, "model.pose.block": "identity", "model.action.block": "lstm"}
    assert override(Config(), values).model.pose.heads == 8


@pytest.mark.parametrize("cues", [[], ["hands", "hands"], ["foot"]])
def test_cues_are_some_of_three_each_once(cues):
    with pytest.raises(ConfigError, match=r"cues|at least one cue"):
        override(Config(), {"model.action.cues": cues})


def test_a_section_is_no_field():
    with pytest.raises(ConfigError, match=r"model\.pose: there is no such field"):
        override(Config(), {"model.pose": 3})


def test_unknown_fields_in_plain_data_are_refused():
    with pytest.raises(ConfigError, match=r"modell: there is no such field"):
        from_plain({"modell": {}})


def test_changed_is_the_difference():
    values = {"optim.lr": 1e-3, "model.pose.block": "lstm"}
    assert changed(override(Config(), values), Config()) == values


def test_set_reads_values_as_yaml_and_numbers_as_people_write_them():
    words = ["optim.lr=1e-4", "data.root=/data/h2o", "optim.clip_norm=null", "model.action.cues=[hands]"]
    assert parse_set(words) == {
        "optim.lr": 1e-4, "data.root": "/data/h2o", "optim.clip_norm": None, "model.action.cues": ["hands"],
    }  # fmt: skip


@pytest.mark.parametrize("word", ["optim.lr", "=3", ""])
def test_set_wants_path_and_value(word):
    with pytest.raises(ConfigError, match="--set takes path=value"):
        parse_set([word])


def test_runtime_is_no_part_of_the_fingerprint():
    config = Config()
    assert override(config, {"runtime.loader_workers": 3}).fingerprint() == config.fingerprint()


@given(st.sampled_from([path for path, value in flatten(Config()).items() if type(value) in (int, float)]))
def test_every_other_number_changes_the_fingerprint(path):
    config = Config()
    value = flatten(config)[path]
    for other in (value + 1, value * 0.5, 1 if isinstance(value, int) else 0.25):
        try:
            moved = override(config, {path: other})
        except ConfigError:
            continue
        same = other == value or path.startswith("runtime.")
        assert (moved.fingerprint() == config.fingerprint()) is same
        assert from_yaml(to_yaml(moved)) == moved


def test_yaml_round_trip(tmp_path):
    config = override(Config(), {"model.action.cues": ["object", "hands"], "optim.lr": 1e-5})
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config))
    assert read(file) == config
    file.write_text("found_by: {}\nconfig:\n  optim: {lr: 0.5}\n")
    assert read(file).optim.lr == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1, 2]", "must hold a mapping"), ("a: [", "must be YAML"), ("optim: 3", "optim: should be")],
)
def test_wrong_yaml_says_what_is_wrong(tmp_path, text, message):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read(file)


def test_yaml_is_loaded_safely(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(ConfigError, match="must be YAML"):
        read(file)


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match="must be a readable YAML file"):
        read(tmp_path / "none.yaml")


def test_configuration_needs_neither_torch_nor_ray():
    code = "import htt.config, sys; assert not {'torch', 'ray'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
