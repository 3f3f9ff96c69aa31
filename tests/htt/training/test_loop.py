"""Training: it learns, it resumes to the last bit, several workers equal one, and it says when it breaks."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import torch
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

from htt.batch import Layout
from htt.config import AugmentConfig, override, to_yaml
from htt.data.loading.loader import TrainingLoader
from htt.errors import ConfigError, NonFiniteLossError
from htt.evaluation import clip_table
from htt.group import Group
from htt.model.htt import HTT
from htt.model.weights import read_state
from htt.testing import random_batch, tiny_config, tiny_info
from htt.training import checkpoint, loop, optim
from htt.training.augment import augment
from htt.training.average import Average
from htt.training.finite import FiniteCheck
from htt.training.loop import Precision, evaluate, fit, step_generator, train_epoch, train_step
from htt.training.saving import Saving

NO_AUGMENTATION = {f"data.augment.{name}": 0.0 for name in AugmentConfig.model_fields if name != "views"}


def assert_same_weights(first, second):
    other = second.state_dict()
    for name, value in first.state_dict().items():
        assert torch.equal(value, other[name]), name


def test_fit_learns_a_few_clips(tiny_splits, tmp_path, train):
    config = tiny_config(
        **{"train.epochs": 12, "model.backbone.batch_norm": "live", "optim.lr": 3e-3, "model.pose.depth_scale_m": 2e-3},
        **NO_AUGMENTATION,
    )
    reports, _ = train(config, tiny_splits, tmp_path)
    assert [report["epoch"] for report in reports] == list(range(1, 13))
    for term in ("joints_px", "depth_m", "action"):
        assert reports[-1][f"train_{term}"] < 0.7 * reports[0][f"train_{term}"], term


def test_fit_with_equal_seeds_gives_equal_weights(tiny_splits, tmp_path, train):
    _, first = train(tiny_config(), tiny_splits, tmp_path / "a")
    _, second = train(tiny_config(), tiny_splits, tmp_path / "b")
    _, other = train(tiny_config(**{"train.seed": 1}), tiny_splits, tmp_path / "c")
    assert_same_weights(first, second)
    assert not torch.equal(first.action_head.weight, other.action_head.weight)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_resumed_fit_equals_an_uninterrupted_one(tiny_splits, tmp_path, name, train):
    config = tiny_config(
        **{"train.epochs": 4, "optim.name": name, "model.pose.dropout": 0.2, "model.backbone.batch_norm": "live",
           "optim.schedule": "cosine", "optim.warmup_epochs": 1.5, "optim.backbone_lr": 3e-4}
    )  # fmt: skip
    undisturbed_reports, undisturbed = train(config, tiny_splits, tmp_path / "whole")
    train(config, tiny_splits, tmp_path / "parts", stop_after=2)
    reports, resumed = train(config, tiny_splits, tmp_path / "parts", resume=tmp_path / "parts" / "checkpoint")
    assert_same_weights(undisturbed, resumed)
    drop = {"seconds", "train_seconds", "latency_ms"}
    strip = [{name: value for name, value in report.items() if name not in drop} for report in undisturbed_reports[2:]]
    assert [{name: value for name, value in report.items() if name not in drop} for report in reports] == strip


def test_average_of_the_weights_is_evaluated_saved_and_resumed(tiny_splits, tmp_path, train):
    config = tiny_config(**{"train.epochs": 3, "train.ema": 0.9})
    plain = tiny_config(**{"train.epochs": 3})
    reports, averaged = train(config, tiny_splits, tmp_path / "whole")
    _, weights = train(plain, tiny_splits, tmp_path / "plain")
    assert evaluate(averaged, tiny_splits.val, config).result()["loss"] == reports[-1]["loss"]
    assert_same_weights(checkpoint.load(tmp_path / "whole" / "checkpoint")[0], averaged)
    assert not torch.equal(averaged.action_head.weight, weights.action_head.weight)
    own = HTT(config.model, tiny_splits.info)
    checkpoint.restore(tmp_path / "whole" / "checkpoint", own, optim.optimizer(config.optim, own.parameters()))
    assert_same_weights(own, weights)
    train(config, tiny_splits, tmp_path / "parts", stop_after=1)
    _, resumed = train(config, tiny_splits, tmp_path / "parts", resume=tmp_path / "parts" / "checkpoint")
    assert_same_weights(resumed, averaged)


def test_average_follows_its_formula():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    average = Average(model, 0.5)
    expected = 0.0
    for step, value in enumerate((1.0, 4.0, 2.0) * 5):
        torch.nn.init.constant_(model.weight, value)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.state()["weight"].item() == pytest.approx(expected)
    with average.applied():
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == value


def test_checkpoint_keeps_clips_also_after_resume(tiny_splits, tmp_path, train):
    config = tiny_config()
    _, model = train(config, tiny_splits, tmp_path / "whole")
    found = evaluate(model, tiny_splits.val, config)
    kept = pl.read_parquet(tmp_path / "whole" / "checkpoint" / "clips.parquet")
    assert kept.equals(clip_table.of_split(found.sums(), tiny_splits.val))
    assert kept["clip"].to_list() == tiny_splits.val.ids
    train(config, tiny_splits, tmp_path / "parts", stop_after=1)
    first = pl.read_parquet(tmp_path / "parts" / "checkpoint" / "clips.parquet")
    assert not first.equals(kept)
    train(config, tiny_splits, tmp_path / "parts", resume=tmp_path / "parts" / "checkpoint")
    assert pl.read_parquet(tmp_path / "parts" / "checkpoint" / "clips.parquet").equals(kept)


def test_epoch_starts_at_a_cursor(tiny_splits, tmp_path):
    config = tiny_config(**{"model.pose.dropout": 0.3})

    def fresh():
        torch.manual_seed(0)
        model = HTT(config.model, tiny_splits.info)
        return model, optim.optimizer(config.optim, model.parameters())

    whole, optimizer = fresh()
    loader = TrainingLoader(tiny_splits.train, config)
    train_epoch(whole, loader, optimizer, config, 0)

    part, optimizer = fresh()
    head = [batch for batch, _ in zip(loader.epoch(0), range(3), strict=False)]

    class Head:
        steps_per_epoch, step_windows = loader.steps_per_epoch, loader.step_windows

        def epoch(self, epoch, start):
            return iter(head)

    train_epoch(part, Head(), optimizer, config, 0)
    progress = checkpoint.Progress(0, 3 * loader.step_windows)
    checkpoint.save(tmp_path / "c", part, optimizer, progress, config, tiny_splits.info, {})
    again, optimizer = fresh()
    progress = checkpoint.restore(tmp_path / "c", again, optimizer)
    train_epoch(again, loader, optimizer, config, progress.epoch, entered=progress)
    assert_same_weights(whole, again)


KILLED = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)  # as the process that resumes: sums in another order would be other numbers
from htt.config import read
from htt.training.tasks import train
folder = Path(sys.argv[1])
def report(metrics, saved):
    print("epoch", metrics["epoch"], flush=True)
    if metrics["epoch"] == 4:
        sys.stdin.read()  # until it is killed, however late that is
train(read(folder / "config.yaml"), folder, report)
"""


def test_killed_fit_resumes_to_equal_weights(tiny_splits, tmp_path, train):
    config = tiny_config(**{"train.epochs": 5})
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "epoch 1\n"
        time.sleep(0.3)  # into some later epoch, anywhere
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    reached = checkpoint.read(tmp_path / "checkpoint").progress.epoch
    assert 1 <= reached < 5
    _, resumed = train(config, tiny_splits, tmp_path, resume=tmp_path / "checkpoint")
    _, undisturbed = train(config, tiny_splits, tmp_path / "whole")
    assert_same_weights(undisturbed, resumed)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param({"model.action.given": ["hands", "object"]}, marks=pytest.mark.slow),
        pytest.param({"train.parts": 2}, marks=pytest.mark.slow),
        pytest.param({"train.compile": "on"}, marks=pytest.mark.slow),
        pytest.param({"model.forecast.frames": 3, "model.forecast.action": True}, marks=pytest.mark.slow),
    ],
)
def test_fit_on_two_workers_equals_one_worker(two_workers, tiny_splits, tmp_path, changes, train):
    """The same global batches, clips of different lengths on each worker, metrics merged: the same training.

    With some seeds, rounding (3e-8) moves an activation of the encoder across zero in epoch 2, and its ReLU passes the
    gradient on in one run only: weights differ by 7e-6. In float64 they differ by 1e-16.
    """
    how = {"optim.name": "sgd", "optim.lr": 1e-3, "train.seed": 2, **changes, **NO_AUGMENTATION}
    config = tiny_config(**{"train.batch_size": 3, **how})
    together = two_workers(config, tmp_path)
    reports, alone = train(override(config, {"train.compile": "off"}), tiny_splits, tmp_path / "alone")
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(together.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    merged = checkpoint.read(tmp_path / "checkpoint").metrics
    for name in ("hand_error_mm", "loss", "action_accuracy", "train_joints_px", "train_object"):
        assert merged[name] == pytest.approx(reports[-1][name], rel=1e-4), name


def test_non_finite_loss_names_epoch_step_and_term(tiny_splits, tmp_path, train):
    config = tiny_config(**{"optim.name": "sgd", "optim.lr": 1e6})
    with pytest.raises(NonFiniteLossError, match=r"in epoch 1, step [1-9]") as caught:
        train(config, tiny_splits, tmp_path)
    assert set(caught.value.terms) <= {"joints_px", "depth_m", "object", "action"}
    assert caught.value.terms


def test_non_finite_single_term_is_named():
    config, info = tiny_config(), tiny_info()
    model = HTT(config.model, info)
    with torch.no_grad():
        model.action_head.bias[0] = float("nan")
    with pytest.raises(NonFiniteLossError) as caught:
        train_step(model, random_batch(info), optim.optimizer(config.optim, model.parameters()), config)
    assert caught.value.terms == ("action",)


def test_late_check_names_the_step_and_saves_no_broken_weights(tiny_splits, tmp_path, monkeypatch):
    """On a GPU a step is checked during the next one."""
    config, steps, saved = tiny_config(**{"optim.name": "sgd", "optim.lr": 1e6}), [], []

    def keep(folder):
        weights = checkpoint.load(folder)[0].state_dict().values()
        saved.append(all(bool(value.isfinite().all()) for value in weights))

    for late in (0, 1):
        checks = FiniteCheck(torch.device("cpu"))
        checks._steps_late = late
        monkeypatch.setattr(loop, "FiniteCheck", lambda _, checks=checks: checks)
        with pytest.raises(NonFiniteLossError) as caught:
            fit(config, tiny_splits, lambda *_: None, folder=tmp_path / str(late),
                saving=Saving(keep, lambda: False, every_s=0.0 if late else None))  # fmt: skip
        steps.append((caught.value.epoch, caught.value.step, caught.value.terms))
    assert steps[0] == steps[1]
    assert len(saved) >= 1
    assert saved[0] or len(saved) == 1


@pytest.mark.parametrize("changes", [{"train.parts": 2}, {"train.parts": 9}, {"model.backbone.recompute": True}])
def test_step_with_less_memory_is_the_same_step(changes):
    """Windows of different lengths, one of them with unknown labels."""
    batch = random_batch(tiny_info(), (5, 8, 2))
    batch.action[1], batch.object[3:6], batch.joint_valid[2:9] = -1, -1, False
    moved = []
    for config in (tiny_config(**{"optim.name": "sgd"}), tiny_config(**{"optim.name": "sgd", **changes})):
        torch.manual_seed(0)
        model = HTT(config.model, tiny_info()).train()
        terms = train_step(model, batch, optim.optimizer(config.optim, model.parameters()), config)
        moved.append((_weights(model), {name: mean.value.item() for name, mean in terms.items()}))
    torch.testing.assert_close(moved[1][0], moved[0][0], rtol=1e-5, atol=1e-7)
    assert moved[1][1] == pytest.approx(moved[0][1], rel=1e-5)


def test_parts_of_a_step_that_are_not_finite_are_named():
    config, info = tiny_config(**{"train.parts": 2}), tiny_info()
    model = HTT(config.model, info)
    with torch.no_grad():
        model.action_head.bias[0] = float("nan")
    with pytest.raises(NonFiniteLossError) as caught:
        train_step(model, random_batch(info), optim.optimizer(config.optim, model.parameters()), config)
    assert caught.value.terms == ("action",)
    assert model.pose_head.layers[0].weight.isfinite().all(), "no step was taken"


class Waits(TorchDispatchMode):
    """Operations for which a CPU must wait for a GPU, because their result or its size is needed."""

    NAMES = ("nonzero", "_local_scalar_dense", "masked_select", "item", "unique")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put", "index_put_") else []
        if name in self.NAMES or any(index is not None and index.dtype == torch.bool for index in indices):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def test_step_makes_the_cpu_wait_for_no_result_of_the_gpu():
    config, batch = tiny_config(**{"optim.clip_norm": 1.0}), random_batch(tiny_info())
    model = HTT(config.model, tiny_info())
    optimizer = optim.optimizer(config.optim, model.parameters())
    layout = Layout.of(batch.valid, config.model.pose.window)

    def step(given):
        seen = augment(batch, config.data.augment, torch.Generator().manual_seed(0), given)
        train_step(model, seen, optimizer, config, layout=given, check=lambda *_: None)

    step(layout)  # the first step makes the optimiser's state
    with Waits() as waits:
        step(layout)
    assert waits.found == []
    with Waits() as waits:
        step(None)
    assert "nonzero" in waits.found


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that ``train.compile`` gives to a compiler, which runs them as they are."""
    found = []

    def compiler(graph, _):
        found.append(graph.code)
        return graph

    monkeypatch.setattr(loop, "COMPILER", compiler)
    yield found
    torch.compiler.reset()
    torch._dynamo.config.suppress_errors = False


def test_compiled_training_is_the_same_training_in_one_graph(graphs, tiny_splits, tmp_path, train):
    """Its checkpoint has the names of one that is not compiled."""
    config = tiny_config(**{"train.ema": 0.5, "model.action.dropout": 0.1, "train.batch_size": 6})  # no two sizes equal
    plain_reports, plain = train(config, tiny_splits, tmp_path / "plain")
    assert graphs == []
    config = override(config, {"train.compile": "on"})
    counters.clear()
    reports, model = train(config, tiny_splits, tmp_path / "whole")
    assert (len(graphs), sum(counters["graph_break"].values())) == (1, 0), "for windows of many lengths"
    assert_same_weights(plain, model)
    assert reports[-1]["loss"] == plain_reports[-1]["loss"]
    for file in (checkpoint.MODEL, checkpoint.TRAINING):
        kept, names = (read_state(tmp_path / name / "checkpoint" / file).keys() for name in ("whole", "plain"))
        assert kept == names


@pytest.mark.slow
def test_compiled_training_resumes_to_equal_weights(graphs, tiny_splits, tmp_path, train):
    config = tiny_config(**{"train.compile": "on", "train.batch_size": 6})
    _, model = train(config, tiny_splits, tmp_path / "whole")
    train(config, tiny_splits, tmp_path / "parts", stop_after=1)
    _, resumed = train(config, tiny_splits, tmp_path / "parts", resume=tmp_path / "parts" / "checkpoint")
    assert_same_weights(resumed, model)


def test_only_long_trainings_on_a_gpu_are_compiled_unless_asked(graphs):
    model, long = HTT(tiny_config().model, tiny_info()), loop.COMPILED_FROM
    cases = [("auto", "cpu", long), ("auto", "cuda", long - 1), ("off", "cuda", long), ("auto", "cuda", long),
             ("on", "cpu", 1)]  # fmt: skip
    found = [
        loop.compiled(model, tiny_config(**{"train.compile": choice}), Group(device=torch.device(device)), steps)
        for choice, device, steps in cases
    ]
    assert [each is model for each in found] == [True, True, True, False, False]
    frozen = tiny_config(**{"model.backbone.trained": False, "model.backbone.weights": "rendered"})
    model = HTT(frozen.model, tiny_info())
    assert loop.compiled(model, frozen, Group(device=torch.device("cuda")), long) is model


def test_compiler_that_fails_is_one_sentence_or_left_out(graphs, monkeypatch, tiny_splits, tmp_path, train):
    def compiler(*_):
        raise RuntimeError("no C compiler")

    monkeypatch.setattr(loop, "COMPILER", compiler)
    config = tiny_config(**{"train.compile": "on"})
    with pytest.raises(ConfigError, match=r"train\.compile on: .*no C compiler.* Set train\.compile to auto or off\."):
        train(config, tiny_splits, tmp_path)
    auto, gpu = tiny_config(**{"train.compile": "auto"}), Group(device=torch.device("cuda"))
    loop.compiled(HTT(config.model, tiny_info()), auto, gpu, loop.COMPILED_FROM)
    assert torch._dynamo.config.suppress_errors, "torch then runs what it cannot compile as it is"


def _weights(model):
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def test_gradient_norm_is_clipped():
    config, info = tiny_config(**{"optim.name": "sgd", "optim.lr": 1.0, "optim.clip_norm": 1e-3}), tiny_info()
    model = HTT(config.model, info)
    before = _weights(model)
    train_step(model, random_batch(info), optim.optimizer(config.optim, model.parameters()), config)
    moved = _weights(model) - before
    assert moved.norm().item() == pytest.approx(1e-3, rel=0.02)


def test_unsupported_precision_is_refused():
    with pytest.raises(ConfigError, match=r"train.precision fp16 is not supported on this cpu. Available: fp32, bf16"):
        Precision("fp16", torch.device("cpu"))


def test_bf16_stays_close_to_fp32():
    info = tiny_info()
    losses = {}
    for name in ("fp32", "bf16"):
        config = tiny_config(**{"train.precision": name})
        torch.manual_seed(0)
        model = HTT(config.model, info)
        optimizer = optim.optimizer(config.optim, model.parameters())
        terms = train_step(model, random_batch(info), optimizer, config, precision=Precision(name, torch.device("cpu")))
        losses[name] = {term: mean.value.item() for term, mean in terms.items()}
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)
    assert losses["bf16"] != losses["fp32"]


def test_randomness_differs_per_step_and_worker():
    drawn = [
        torch.rand(1, generator=step_generator(seed, step, Group(rank, 2))).item()
        for seed in (0, 1) for step in (0, 1) for rank in (0, 1)
    ]  # fmt: skip
    assert len(set(drawn)) == 8


def test_evaluation_sees_each_frame_once_for_any_batch(tiny_splits):
    results = []
    for batch_size in (1, 7):
        config = tiny_config(**{"train.batch_size": batch_size})
        torch.manual_seed(0)
        model = HTT(config.model, tiny_splits.info)
        results.append(evaluate(model, tiny_splits.val, config).result())
    assert results[0] == pytest.approx(results[1], rel=1e-4)


def test_fit_without_validation_reports_training_only(tiny_splits, tmp_path, train):
    alone = dataclasses.replace(tiny_splits, val=None)
    reports, model = train(tiny_config(), alone, tmp_path / "alone")
    both, same = train(tiny_config(), tiny_splits, tmp_path / "both")
    assert [name for name in reports[0] if not name.startswith("train_")] == ["epoch", "lr", "seconds"]
    for report, other in zip(reports, both, strict=True):
        assert report["train_joints_px"] == other["train_joints_px"]
    assert_same_weights(model, same)


def test_tensorboard_has_scalars_configuration_and_predictions(tiny_splits, tmp_path, train):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = tiny_config(**{"runtime.tensorboard": True, "runtime.overlays": 2})
    reports, _ = train(config, tiny_splits, tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    errors = [event.value for event in events.Scalars("hand/hand_error_mm")]
    assert errors == pytest.approx([report["hand_error_mm"] for report in reports], rel=1e-5)
    assert sorted(events.Tags()["images"]) == ["predictions/0", "predictions/1"]
    assert events.Images("predictions/0")[-1].height == 270
    assert "_hparams_/session_start_info" in events.summary_metadata


def test_stopped_fit_closes_tensorboard_with_configuration(tiny_splits, tmp_path, train):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    config = tiny_config(**{"runtime.tensorboard": True, "runtime.overlays": 0, "optim.lr": 0.00125})
    train(config, tiny_splits, tmp_path, stop_after=1)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    parts = {name: plugin_data_pb2.HParamsPluginData.FromString(events.PluginTagToContent("hparams")[name])
             for name in events.PluginTagToContent("hparams")}  # fmt: skip
    beside = parts["_hparams_/session_start_info"].session_start_info.hparams
    assert beside["optim.lr"].number_value == 0.00125
    named = {info.name.tag for info in parts["_hparams_/experiment"].experiment.metric_infos}
    assert "hand/hand_error_mm" in named <= set(events.Tags()["scalars"]) | {"epoch/epoch"}
    held = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if name.isdigit()
            and os.path.exists(f"/proc/self/fd/{name}")]  # fmt: skip
    assert not [path for path in held if str(tmp_path) in path]


def test_fit_leaves_no_stray_files(tiny_splits, tmp_path, train):
    train(tiny_config(), tiny_splits, tmp_path)
    assert sorted(path.name for path in Path(tmp_path).iterdir()) == ["checkpoint"]


def test_image_only_fit_learns_actions_only(tiny_splits, tmp_path, train):
    off = {"loss.joints_px": 0.0, "loss.depth_m": 0.0, "loss.object": 0.0, "model.action.cues": ["feature"]}
    config = tiny_config(**off)
    torch.manual_seed(config.train.seed)
    before = HTT(config.model, tiny_splits.info).state_dict()
    reports, model = train(config, tiny_splits, tmp_path)
    moved = {
        name.partition(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {"features", "pose_block", "action_block", "action_head", "action_input"}
    assert reports[-1]["train_action"] < reports[0]["train_action"]
    assert reports[-1]["loss"] == pytest.approx(reports[-1]["loss_action"])


def test_given_cues_are_used_in_training_and_evaluation(tiny_splits, tmp_path):
    """The action loss of the first step and the evaluation do not depend on the object head."""
    config = tiny_config(**{"model.action.given": ["object"], "train.epochs": 1})
    outcomes = []
    for seed in (1, 2):
        torch.manual_seed(0)
        model = HTT(config.model, tiny_splits.info)
        torch.manual_seed(seed)
        torch.nn.init.normal_(model.object_head.classify.weight)
        before = evaluate(model, tiny_splits.val, config).result()
        optimizer = optim.optimizer(config.optim, model.parameters())
        terms = train_step(model, random_batch(tiny_splits.info), optimizer, config)
        outcomes.append((before["loss_action"], before["loss_object"], terms["action"].value.item()))
    assert outcomes[0][0] == outcomes[1][0]
    assert outcomes[0][1] != outcomes[1][1]
    assert outcomes[0][2] == outcomes[1][2]
