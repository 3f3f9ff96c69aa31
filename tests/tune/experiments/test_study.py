import subprocess
import sys

import numpy as np
import pytest
import yaml

import tune.experiments.studies
from htt import registry, yaml_text
from htt.config import Config, flatten, override
from htt.errors import ConfigError
from htt.model.size import parameters
from htt.testing import tiny_info
from tune.experiments.power import seeds_needed
from tune.experiments.spaces import quick
from tune.experiments.study import Study

NAMES = registry.names(tune.experiments.studies)
BASES = {"paper": Config(), "quick": quick.SPACE.start()}
WINDOWS = {"1 frame": {"model.pose.window": 1}, "16 frames": {"model.pose.window": 16}}


def study(**changes):
    return Study(**{"question": "?", "variants": WINDOWS, "reference": "16 frames", **changes})


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", NAMES)
def test_shipped_studies_are_valid_and_have_enough_seeds(name, base):
    asked = registry.load(tune.experiments.studies, name).STUDY
    assert [warning for warning in asked.check(BASES[base]) if "are the same on clips of" not in warning] == []
    assert asked.question.endswith("?")
    assert len(asked.seeds) == seeds_needed(len(asked.compared))
    assert Study.from_plain(yaml.safe_load(yaml.safe_dump(asked.plain()))) == Study.from_plain(asked.plain())


@pytest.mark.parametrize("name", NAMES)
def test_study_of_block_p_windows_trains_on_equal_windows(name):
    asked = registry.load(tune.experiments.studies, name).STUDY
    if any("model.pose.window" in values for values in asked.variants.values()):
        assert asked.base["data.shifted_starts"] is False, "shifted starts are as many as the window is long"


def test_studies_of_the_paper_exist():
    assert {"headline", "pose_window", "action_length", "cues", "structure", "shifted_starts", "spacing"} <= set(NAMES)
    assert {"temporal_core", "pose_into_action", "vote", "batch_norm", "backbone", "loss_weights"} <= set(NAMES)
    assert "window_and_cues" in NAMES


def test_compression_compares_latency_of_smaller_models():
    asked = registry.load(tune.experiments.studies, "compression").STUDY
    assert asked.metrics == ("action_accuracy", "hand_error_mm", "latency_ms")
    sizes = {name: parameters(config.model, tiny_info()) for name, config in asked.configs(Config()).items()}
    assert max(sizes, key=sizes.get) == asked.reference
    assert min(sizes, key=sizes.get) == "width 64"


def test_headline_has_four_comparisons_and_eight_seeds():
    headline = registry.load(tune.experiments.studies, "headline").STUDY
    assert headline.others == ["1 frame", "feature alone", "hands and object", "per-frame vote"]
    assert headline.seeds == tuple(range(8))


def test_student_is_taught_in_one_variant_and_compared_with_larger_ones():
    asked = registry.load(tune.experiments.studies, "student").STUDY
    base = override(registry.preset("bench"), {"distill.teacher": "runs/teacher/checkpoint"})
    configs = asked.configs(base)
    taught = [name for name, config in configs.items() if config.distill.action and config.distill.pose]
    assert taught == ["width 32, taught"]
    assert configs["width 32, taught"].model == configs[asked.reference].model
    sizes = [parameters(config.model, tiny_info()) for config in configs.values()]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 2 * sizes[0]


@pytest.mark.parametrize("name", ["headline", "oracles", "new_objects", "student", "forecast"])
def test_benchmark_studies_run_on_features(name):
    frozen = {"model.backbone.trained": False, "model.backbone.batch_norm": "frozen", "data.augment.views": 0}
    asked = registry.load(tune.experiments.studies, name).STUDY
    asked.check(base := override(registry.preset("bench"), frozen))
    assert all(config.on_features for config in asked.configs(base).values())
    assert not any(config.on_features for config in asked.configs(registry.preset("bench")).values())


def test_variant_overrides_in_order_base_study_variant_seed():
    asked = study(base={"model.pose.window": 8, "optim.lr": 1e-3}, variants={**WINDOWS, "base": {}})
    config = asked.config(override(Config(), {"optim.lr": 1.0, "train.epochs": 3}), "base", 4)
    assert (config.optim.lr, config.train.epochs, config.model.pose.window, config.train.seed) == (1e-3, 3, 8, 4)
    assert asked.config(Config(), "1 frame", 0).model.pose.window == 1


def test_variants_of_a_seed_differ_in_their_changes_only():
    asked = study()
    first, second = (flatten(asked.config(Config(), name, 5)) for name in WINDOWS)
    assert {path for path in first if first[path] != second[path]} == {"model.pose.window"}


def test_study_has_the_seeds_its_claims_need():
    assert study().seeds == tuple(range(6))
    many = {f"{k}": {"model.pose.window": k} for k in (1, 2, 4, 8, 16)}
    assert study(variants=many, reference="16").seeds == tuple(range(8))
    assert study(variants=many, reference="16", primary=["1"]).seeds == tuple(range(6))
    assert study(seeds=[3, 1]).seeds == (3, 1)


def test_study_lists_all_faults_in_one_error():
    with pytest.raises(ConfigError) as caught:
        study(
            reference="16 frame",
            seeds=[0, 1, 0],
            metrics=["hand_eror_mm"],
            primary=["2 frames"],
            paper_value={"3 frames": {"action_accuracy": 0.9}},
            notes={"4 frames": "?"},
        )
    text = str(caught.value)
    assert text.startswith("Invalid study; 6 faults:")
    assert "the reference must be one of the variants; got '16 frame'" in text
    assert "Available: 1 frame, 16 frames. Did you mean '16 frames'?" in text
    assert "each seed must be named once; got [0, 1, 0]." in text
    assert "got ['hand_eror_mm']. Did you mean 'hand_error_mm'?" in text
    assert "primary must name variants; got ['2 frames']." in text
    assert "paper_value must name variants; got ['3 frames']." in text
    assert "notes must name variants; got ['4 frames']." in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": {"16 frames": {}}}, "must have a variant beside the reference; got '16 frames' alone"),
        ({"metrics": []}, "one at least; got none"),
        (
            {"variants": {"1 frame": {}, "16 frames": {"loss.object": 0.0}}, "metrics": ["loss"]},
            "metrics must mean the same for all variants; loss is weighted by loss.object, which they change",
        ),
        ({"primary": ["16 frames"]}, "must name what is compared to the reference"),
        ({"paper_value": {"1 frame": {"mepe": 35.0}}}, r"metrics must be those an evaluation gives.*got \['mepe'\]"),
    ],
)
def test_invalid_study_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        study(**changes)


def test_check_lists_every_invalid_variant_in_one_error():
    asked = study(
        variants={
            **WINDOWS,
            "typo": {"model.pose.windw": 2},
            "zero": {"model.pose.window": 0},
            "no such blocks": {"model.pose.block": "mamba", "model.action.block": "gru"},
            "uneven": {"model.pose.heads": 7},
            "again": {"model.pose.window": 1},
            "as it is": {},
            "seeded": {"train.seed": 3, "model.pose.window": 2},
        },
        seeds=range(9),
    )
    with pytest.raises(ConfigError) as caught:
        asked.check(Config())
    text = str(caught.value)
    assert text.startswith("Invalid study; 8 faults:")
    assert "'typo': model.pose.windw: no such field. Did you mean 'model.pose.window'?" in text
    assert "'zero': model.pose.window: should be greater than or equal to 1; got 0" in text
    assert "'no such blocks': model.pose.block: no such plug-in 'mamba'." in text
    assert "'no such blocks': model.action.block: no such plug-in 'gru'." in text
    assert "'uneven': model.pose.heads must divide model.width; got 7 and 512" in text
    assert "'again' must differ from '1 frame'; on this base both are the same configuration." in text
    assert "'as it is' must differ from '16 frames'" in text
    assert "'seeded': train.seed must be left to the study's seeds" in text


def test_check_states_a_fault_of_all_variants_once():
    with pytest.raises(ConfigError) as caught:
        study(base={"model.widht": 64}, seeds=range(-1, 6)).check(Config())
    assert str(caught.value).splitlines() == [
        "Invalid study; 2 faults:",
        "  - model.widht: no such field. Did you mean 'model.width'?",
        "  - train.seed: should be greater than or equal to 0; got -1",
    ]


def test_check_accepts_a_base_valid_only_with_variants():
    base = {"model.width": 60}
    variants = {"6 heads": {"model.pose.heads": 6}, "4 heads": {"model.pose.heads": 4}}
    asked = study(base={**base, "model.action.heads": 4}, variants=variants, reference="6 heads")
    assert asked.check(Config()) == []


def test_equal_variants_on_short_clips_are_a_warning():
    windows = {f"{k} frames": {"model.pose.window": k} for k in (16, 32, 64)}
    asked = study(variants=windows, reference="16 frames", base={"data.shifted_starts": False, "data.spacing": 1})
    short = override(Config(), {"data.synthetic.frames": 30})
    assert asked.check(short) == [
        "'32 frames' and '64 frames' are the same on clips of at most 30 frames; a seed gives them the same values."
    ]
    assert asked.check(override(Config(), {"data.synthetic.frames": 64})) == []
    assert asked.check(override(short, {"data.source": "h2o"})) == [], "nobody knows before the data are read"
    shifted = study(variants=windows, reference="16 frames", base={"data.shifted_starts": True})
    assert shifted.check(short) == [], "there are as many starts as the window is long"


@pytest.mark.parametrize(
    ("variants", "base", "alike"),
    [
        (WINDOWS, {"data.shifted_starts": False}, True),
        (WINDOWS, {"data.shifted_starts": True}, False),
        ({"1 frame": {"model.action.length": 8}, "16 frames": {}}, {}, False),
        ({"1 frame": {"data.spacing": 1}, "16 frames": {"data.spacing": 2}}, {"data.shifted_starts": False}, False),
        ({"1 frame": {"optim.lr": 1e-3}, "16 frames": {}}, {}, True),
        ({"1 frame": {"data.observed": [0.5, 1.0]}, "16 frames": {}}, {}, False),
        ({"1 frame": {"data.labelled": 0.5}, "16 frames": {}}, {}, False),
    ],
)
def test_variants_that_cut_clips_alike_share_windows(variants, base, alike):
    assert study(variants=variants, base=base).cut_alike(Config()) is alike


def test_contrasts_must_be_pairs_of_the_studys_metrics():
    good = [("action_accuracy", "hand_error_mm")]
    assert study(contrasts=good).contrasts == tuple(good)
    assert Study.from_plain(study(contrasts=good).plain()).contrasts == tuple(good)
    for bad in (("action_accuracy", "loss"), ("action_accuracy", "action_accuracy"), ("action_accuracy",)):
        with pytest.raises(ConfigError, match="contrasts must be pairs of the study's metrics"):
            study(contrasts=[bad])


def test_too_few_seeds_are_a_warning_with_possible_claims():
    many = {f"{k}": {"model.pose.window": k} for k in (1, 2, 4, 16)}
    assert study(variants=many, reference="16", seeds=range(6)).check(Config()) == [
        "6 seeds cannot carry a claim over 3 comparisons at the 5 % level; 7 can. With 6, a difference could be "
        "claimed over 1 named in `primary`. Intervals are given all the same."
    ]
    assert study(seeds=range(5)).check(Config()) == [
        "5 seeds cannot carry a claim over 1 comparison at the 5 % level; 6 can. With 5, a difference could be "
        "claimed over none, however clear. Intervals are given all the same."
    ]


def test_paper_values_apply_to_the_papers_data_only():
    asked = registry.load(tune.experiments.studies, "pose_window").STUDY
    assert asked.paper(override(Config(), {"data.source": "h2o"}), "16 frames") == {"action_accuracy": 110 / 122}
    assert asked.paper(override(Config(), {"data.source": "h2o"}), "1 frame") == {}
    assert asked.paper(Config(), "16 frames") == {}


def test_studies_import_no_torch_or_ray():
    modules = ", ".join(f"tune.experiments.studies.{name}" for name in NAMES)
    code = f"import sys, {modules}; print([name for name in ('torch', 'ray', 'polars') if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_numpy_numbers_in_a_study_become_pythons():
    asked = Study(
        question="?",
        variants={"a": {"model.pose.window": np.int64(4)}, "b": {"optim.lr": np.float64(1e-3)}},
        reference="a",
        seeds=np.arange(3),
    )
    again = Study.from_plain(yaml_text.load(yaml_text.dump(asked.plain()), "it"))
    assert [type(seed) for seed in again.seeds] == [int] * 3
    assert again.config(Config(), "a", 0) == asked.config(Config(), "a", 0)


def test_from_plain_refuses_an_invalid_study():
    for plain in ({"question": "?"}, {"question": "?", "variants": 3, "reference": "a"}):
        with pytest.raises(ConfigError, match="must hold a study"):
            Study.from_plain(plain)
