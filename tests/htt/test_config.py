"""The configuration: overriding, refusing, round trips, fingerprints."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
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


def test_override_lists_all_invalid_settings_in_one_error():
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
    assert message.startswith("5 invalid settings:")
    assert "model.pose.windw: no such field. Did you mean 'model.pose.window'?" in message
    assert "optim.lr: should be greater than 0; got -1.0" in message
    assert "optim.name: should be 'adam', 'adamw' or 'sgd'; got 'adm'" in message
    assert "train.epochs: should be a valid integer; got 'many'" in message
    assert "data.spacing: should be a valid integer; got True" in message


def test_heads_must_divide_the_width_and_the_error_says_which_do():
    with pytest.raises(ConfigError) as caught:
        override(Config(), {"model.width": 12, "model.pose.heads": 7})
    message = str(caught.value)
    heads = "model.pose.heads must divide model.width; got 7 and 12. Valid numbers of heads: 1, 2, 3, 4, 6, 12"
    assert heads in message


def test_heads_matter_to_transformers_alone():
    values = {"model.width": 12, "model.pose.block": "identity", "model.action.block": "lstm"}
    assert override(Config(), values).model.pose.heads == 8


@pytest.mark.parametrize("cues", [[], ["hands", "hands"], ["foot"]])
def test_cues_are_some_of_three_each_once(cues):
    with pytest.raises(ConfigError, match=r"cues|at least one cue"):
        override(Config(), {"model.action.cues": cues})


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ([0.5, 0.2], r"data: observed must be the smallest and then the largest share; got \[0\.5, 0\.2\]\. Swap them"),
        ([0.0, 1.0], r"data\.observed\.0: should be greater than 0; got 0"),
        ([0.5, 1.1], r"data\.observed\.1: should be less than or equal to 1; got 1\.1"),
        ([0.5], r"^data\.observed: must list two numbers, as in \[0\.2, 1\]; got \[0\.5\]$"),
        ([0.5, 0.6, 0.7], r"^data\.observed: must list two numbers, .*; got \[0\.5, 0\.6, 0\.7\]$"),
        ([], r"^data\.observed: must list two numbers, .*; got \[\]$"),
        (0.5, r"^data\.observed: must list two numbers, .*; got 0\.5$"),
        (["a", "b"], r"data\.observed\.0: should be a valid number; got 'a'"),
    ],
)
def test_observed_shares_are_two_in_order(shares, message):
    with pytest.raises(ConfigError, match=message):
        override(Config(), {"data.observed": shares})


def test_encoder_has_one_learning_rate():
    with pytest.raises(ConfigError, match=r"both backbone_lr 1e-05 and backbone_lr_factor 0\.1\. Set optim\."):
        override(Config(), {"optim.backbone_lr": 1e-5, "optim.backbone_lr_factor": 0.1})


def test_recomputing_needs_frozen_batch_norm():
    with pytest.raises(ConfigError, match=r"recompute needs frozen batch norm.*; got batch_norm live\. Set model\."):
        override(Config(), {"model.backbone.recompute": True, "model.backbone.batch_norm": "live"})


TAUGHT = {"data.labelled": 0.1, "data.unlabelled": "pseudo_labels", "train.ema": 0.99}
STILL = dict.fromkeys(
    (f"data.augment.{name}" for name in ("hue", "saturation", "contrast", "brightness", "centre")), 0.0
)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"data.labelled": 1.0},
            r"data\.unlabelled pseudo_labels needs clips whose labels are not used; got data\.labelled 1",
        ),
        ({"train.ema": 0.0}, r"pseudo_labels needs a teacher, .*; got train\.ema 0\. Set train\.ema"),
        (
            {"data.augment.views": 1},
            r"needs three different images of a clip; got data\.augment\.views 1 and a .* of 0\.5",
        ),
        ({"data.augment.views": 0}, r"three different images of a clip; got data\.augment\.views 0"),
        ({**STILL, "data.augment.blur_px": 0.0}, r"got data\.augment\.views none and a largest extent .* of 0\. Set"),
        ({"model.action.given": ["hands"]}, r"model\.action\.given needs labels that .* do not have; got hands\. Set"),
        ({"data.labelled": 0.0}, r"data\.labelled: should be greater than 0; got 0"),
        ({"data.unlabelled": "some"}, r"data\.unlabelled: should be 'ignore', 'pseudo_labels', 'actions' or 'poses'"),
    ],
)
def test_clips_without_labels_need_a_use_that_makes_sense(values, message):
    assert override(Config(), {**TAUGHT, "data.augment.views": 2}).data.labelled == 0.1
    assert override(Config(), {**TAUGHT, **STILL}).data.augment.blur_px > 0
    with pytest.raises(ConfigError, match=message):
        override(Config(), {**TAUGHT, **values})


def test_features_of_a_frozen_encoder_are_not_compiled():
    frozen = {"model.backbone.trained": False, "model.backbone.weights": "rendered", "train.compile": "on"}
    with pytest.raises(ConfigError, match=r"^train\.compile on needs .*; got .* Set data\.augment\.views to"):
        override(Config(), frozen)
    assert override(Config(), {**frozen, "data.augment.views": 0}).train.compile == "on"


def test_override_refuses_a_section_as_field():
    with pytest.raises(ConfigError, match=r"model\.pose: no such field"):
        override(Config(), {"model.pose": 3})


def test_unknown_fields_in_plain_data_are_refused():
    with pytest.raises(ConfigError, match=r"modell: no such field"):
        from_plain({"modell": {}})


def test_changed_is_the_difference():
    values = {"optim.lr": 1e-3, "model.pose.block": "lstm"}
    assert changed(override(Config(), values), Config()) == values


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("optim.lr=1e-4", 1e-4),
        ("optim.lr=1", 1.0),
        ("train.epochs=010", 10),
        ("train.seed=0", 0),
        ("data.root=/data/h2o #2", "/data/h2o #2"),
        ("data.root=2024", "2024"),
        ("data.root=2024-13-45", "2024-13-45"),
        ("data.root=a: b", "a: b"),
        ("data.root=none", None),
        ("model.backbone.weights=null", None),
        ("optim.clip_norm=none", None),
        ("optim.clip_norm=2", 2.0),
        ("train.scaling=none", "none"),
        ("model.backbone.name=on", "on"),
        ("runtime.tensorboard=off", False),
        ("runtime.tensorboard=True", True),
        ("model.action.cues=[hands]", ["hands"]),
        ("data.synthetic.focal=[0.6, 1]", [0.6, 1.0]),
        ("data.synthetic.held_out_focal=0.6", [0.6]),
        ("data.synthetic.held_out_focal=none", None),
        ("model.action.cues=hands, object", ["hands", "object"]),
        ("model.action.cues=['hands', \"object\"]", ["hands", "object"]),
        ("data.observed=[0.2, 1]", [0.2, 1.0]),
        ("data.observed=.5,0.75", [0.5, 0.75]),
    ],
)
def test_set_value_is_parsed_by_field_type(word, value):
    """The same from the command line, from a file of a configuration, and in the configuration itself."""
    path, _, text = word.partition("=")
    assert parse_set([word]) == {path: value}
    assert type(parse_set([word])[path]) is type(value)
    config = override(Config(), parse_set([word]))
    assert flatten(config)[path] == value
    assert from_yaml(to_yaml(config)) == config
    if "#" not in text and ": " not in text and "," not in text:
        *sections, name = path.split(".")
        nested = f"{{{name}: {text}}}"
        for section in reversed(sections):
            nested = f"{{{section}: {nested}}}"
        assert flatten(from_yaml(nested))[path] == value


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("train.epochs=1:30", "train.epochs: should be a valid integer; got '1:30'"),
        ("train.epochs=0x10", "train.epochs: should be a valid integer; got '0x10'"),
        ("train.epochs=" + "9" * 5000, "train.epochs: should be a valid integer; got '999"),
        ("optim.lr=" + "9" * 5000, "optim.lr: should be"),
        ("optim.lr=none", "optim.lr: should be a valid number; got 'none'"),
        (
            "model.backbone.weights=",
            "model.backbone.weights: must be non-empty text without control characters; got ''",
        ),
        ("data.root=", "data.root: must be non-empty text"),
        ("data.root=a\0b", "data.root: must be non-empty text"),
        ("optim.clip_norm=", "optim.clip_norm: should be a valid number; got ''"),
        ("model.action.cues=", "must list at least one cue"),
        ("data.synthetic.focal=", "data.synthetic.focal: must list at least one number; got []"),
        ("data.synthetic.distance=[1, 9]", "data.synthetic.distance.1: should be less than or equal to 5; got 9.0"),
        ("data.synthetic.distance=[far]", "data.synthetic.distance.0: should be a valid number; got 'far'"),
        ("data.root." + "x" * 5000 + "=1", "no such field"),
    ],
)
def test_set_refuses_invalid_value_with_a_short_message(word, message):
    with pytest.raises(ConfigError) as caught:
        override(Config(), parse_set([word]))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


def test_set_takes_each_field_once():
    with pytest.raises(ConfigError, match=r"Duplicate --set optim\.lr: each field may be given once"):
        parse_set(["optim.lr=1e-4", " optim.lr = 1e-3"])


@pytest.mark.parametrize("text", ["lr: 1e-4", "lr: '1e-4'", "lr: 0.0001", "lr: 1.0e-04"])
def test_yaml_value_is_parsed_by_field_type(text):
    assert from_yaml(f"optim: {{{text}}}").optim.lr == 1e-4


@pytest.mark.parametrize("text", ["weights:", "weights: ''", "weights: ' '"])
def test_weights_are_never_random_by_accident(text):
    with pytest.raises(ConfigError, match=r"model\.backbone\.weights: must be non-empty text|valid"):
        from_yaml(f"model: {{backbone: {{{text}}}}}")


def test_numbers_of_numpy_are_pythons_own():
    config = override(Config(), {"optim.lr": np.float64(1e-3), "model.pose.window": np.int64(4)})
    assert (type(config.optim.lr), type(config.model.pose.window)) == (float, int)
    assert from_yaml(to_yaml(config)) == config


NUMBERS = [path for path, value in flatten(Config()).items() if type(value) in (int, float)]
OPTIONAL = ["optim.clip_norm", "train.windows_per_epoch", "runtime.cache_gb", "runtime.save_minutes"]


@pytest.mark.parametrize("path", [*NUMBERS, *OPTIONAL])
def test_override_refuses_numbers_that_cannot_be_trained_with(path):
    import torch

    from htt.training.optim import learning_rate, optimizer

    config = override(Config(), {"optim.name": "sgd"})
    taken, faults = [], []
    for value in (math.inf, -math.inf, math.nan, -1, 0, 1e300, 2**70, -(2**70)):
        number = value if isinstance(flatten(config)[path], int) and isinstance(value, int) else float(value)
        try:
            made = override(config, {path: number})
        except ConfigError as error:
            faults.append(str(error))
            continue
        taken.append(value)
        torch.manual_seed(made.train.seed)
        optimizer(made.optim, [torch.nn.Parameter(torch.zeros(1))])
        rate = learning_rate(made.optim, 0, 10, made.train.epochs)
        assert math.isfinite(rate)
        assert torch.tensor(rate, dtype=torch.float32).isfinite()
        assert torch.tensor(made.model.pose.depth_offset_m * made.loss.depth_m, dtype=torch.float32).isfinite()
        assert from_yaml(to_yaml(made)) == made
    assert set(taken) <= {0, -1}, taken
    assert all(path in fault for fault in faults)
    assert (-1 in taken) is (path == "model.pose.depth_offset_m")


@pytest.mark.parametrize("word", ["optim.lr", "=3", ""])
def test_set_wants_path_and_value(word):
    with pytest.raises(ConfigError, match="expected path=value"):
        parse_set([word])


def test_runtime_is_no_part_of_the_fingerprint():
    config = Config()
    assert override(config, {"runtime.loader_workers": 3}).fingerprint() == config.fingerprint()


@settings(deadline=None)
@given(st.sampled_from([path for path, value in flatten(Config()).items() if type(value) in (int, float)]))
def test_fingerprint_changes_with_numbers_outside_runtime(path):
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
    [("[1, 2]", "expected a mapping"), ("a: [", "must be YAML"), ("optim: 3", "optim: should be")],
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


def test_read_names_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="must be a readable YAML file"):
        read(tmp_path / "none.yaml")
