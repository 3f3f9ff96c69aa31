"""Training loop in three functions: ``train_epoch``, ``evaluate``, ``fit``.

They know neither machines nor searches: ``Group`` stands for the workers, ``report`` receives each epoch's numbers and
checkpoint, and the caller decides what to do with both. Every number is a mergeable sum before it is a mean, so one
worker, several workers and a resumed run report the same.

Randomness is a function of (seed, epoch, step): the order of windows, their augmentation and dropout need no state that
a crash could lose.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from htt import device
from htt.batch import Batch, Layout, Prediction
from htt.config import Config
from htt.data.loading import order
from htt.data.loading.clips import Clips
from htt.data.loading.loader import EpochLoader, EvaluationLoader, TrainingLoader
from htt.data.loading.splits import Splits
from htt.device import memory_errors, use_tf32
from htt.errors import ConfigError
from htt.evaluation import clip_table, early
from htt.evaluation.cost import cost, known_cost
from htt.evaluation.metrics import Evaluation
from htt.group import Group
from htt.losses import Mean, counts_of, counts_of_labels, distillation, losses, merge, pseudo_losses, share, total
from htt.model.htt import HTT
from htt.model.weights import read_state
from htt.training import checkpoint, finite, optim
from htt.training.augment import augment
from htt.training.average import Average
from htt.training.board import Board
from htt.training.checkpoint import Progress
from htt.training.finite import FiniteCheck
from htt.training.loading import load_start, open_teacher
from htt.training.pseudo import Pseudo, pseudo_labels
from htt.training.pseudo import weight as pseudo_weight
from htt.training.saving import Saver, Saving, over_workers, terms_so_far

EpochCallback = Callable[[dict[str, float], "Path | None"], None]
"""Callback that gets an epoch's metrics and, on the first worker, the folder of its checkpoint."""
COMPILER: str | Callable[..., Any] = "inductor"
"""Compiler of ``train.compile``, as named by ``torch.compile``."""
COMPILED_FROM = 20_000
"""Steps from which ``train.compile`` auto compiles on a GPU: an estimate, of a tenth of their time for compiling."""


def fit(
    config: Config,
    splits: Splits,
    report: EpochCallback,
    *,
    folder: Path,
    group: Group | None = None,
    resume: Path | None = None,
    saving: Saving | None = None,
) -> HTT:
    """Train from scratch, from ``model.weights`` or from a checkpoint to the last epoch, and return the model.

    Args:
        config: complete configuration of the training.
        splits: training clips, and validation clips for the metrics of each epoch, if there are any.
        report: callback on every worker after every epoch; metrics are merged over the workers, the same for all.
        folder: folder for checkpoints and TensorBoard files.
        group: this worker and the others, or None for one worker on the CPU.
        resume: folder of a checkpoint to resume from, or None; resuming gives the result of an uninterrupted training.
        saving: schedule of checkpoints within an epoch, or None to save only after epochs.

    Raises:
        NonFiniteLossError: a loss term became NaN or infinite.
        DeviceMemoryError: a batch or the model does not fit into the device's memory.
        CheckpointError: ``resume`` or ``model.weights`` belongs to another model, or ``distill.teacher`` to other data.
    """
    group = group or Group()
    model, teacher, optimizer = _new(config, splits, group, started=resume is not None)
    precision = Precision(config.train.precision, group.device)
    start = checkpoint.restore(resume, model, optimizer) if resume else Progress(epoch=0)
    precision.restore(start.extra.get("scaler", {}))
    average = open_average(model, config, resume)
    history = list(start.extra.get("epochs", []))
    costs = known_cost(history)
    loader = TrainingLoader(splits.train, config, group.rank, group.size)
    parallel = group.parallel(compiled(model, config, group, config.train.epochs * loader.steps_per_epoch))
    val = EvaluationLoader(splits.val, config, group.rank, group.size) if splits.val else None  # with its processes
    board = Board(folder / "tensorboard", config, enabled=config.runtime.tensorboard and group.first)
    whole = (model, optimizer, config, splits.info, group, precision.state, history, saving, average)
    saver = Saver(folder / "checkpoint", *whole)
    how: dict[str, Any] = {"group": group, "precision": precision}
    with memory_errors(config, group.device), _compiler_errors(), contextlib.closing(board):  # also if a report ends it
        for epoch in range(start.epoch, config.train.epochs):
            began = time.monotonic()
            entered = start if epoch == start.epoch else Progress(epoch)
            own: dict[str, Any] = {"entered": entered, "saver": saver, "teacher": teacher, "average": average}
            terms = train_epoch(parallel, loader, optimizer, config, epoch, **own, **how)
            trained_s = time.monotonic() - began
            with average.applied() if average else contextlib.nullcontext():
                metrics_of_val, clips = validate(model, splits, config, val, on_batch=board.first(epoch + 1), **how)
                if splits.val and not costs:
                    costs = cost(model, splits.val, config, group=group, autocast=precision.autocast)
            seconds = {"train_seconds": trained_s, "seconds": time.monotonic() - began}
            metrics = {"epoch": epoch + 1, **metrics_of_val, **costs, **_train_metrics(terms, optimizer), **seconds}
            board.scalars(epoch + 1, metrics)
            history.append(metrics)
            report(metrics, saver.epoch(clips))
    if average:
        average.apply()
    return model


def open_average(model: HTT, config: Config, resume: Path | None = None) -> Average | None:
    """Return the moving average of the weights, or None without ``train.ema``; a checkpoint's model is its average."""
    if not config.train.ema:
        return None
    average = Average(model, config.train.ema)
    if resume:
        average.restore(read_state(resume / checkpoint.MODEL))
    return average


def _new(
    config: Config, splits: Splits, group: Group, *, started: bool
) -> tuple[HTT, HTT | None, torch.optim.Optimizer]:
    """Return the model as it is before the first step, its teacher if there is one, and its optimiser.

    A model that a started training restores needs no weights.
    """
    device.prepare(group.device, deterministic=config.train.deterministic)
    torch.manual_seed(config.train.seed)
    model = HTT(config.model, splits.info)
    if not started:
        load_start(model)
    with memory_errors(config, group.device):
        model, teacher = model.to(group.device), open_teacher(config, model, group.device)
    return model, teacher, optim.optimizer(config.optim, model.parameters(), model.features.backbone)


def compiled(model: HTT, config: Config, group: Group, steps: int) -> nn.Module:
    """Return the model for the steps of a training, compiled if ``train.compile`` says so; its weights are the model's.

    There is one graph for any number of frames.

    Args:
        model: model on its device.
        config: complete configuration of the training.
        group: this worker and the others.
        steps: number of steps of the whole training.
    """
    choice = config.train.compile
    pays = group.device.type == "cuda" and steps >= COMPILED_FROM and (model.features.trained or config.on_features)
    if choice == "off" or (choice == "auto" and not pays):
        return model
    torch.compiler.reset()  # one process may run many trainings
    torch._dynamo.config.suppress_errors = choice == "auto"  # a machine without a C compiler trains all the same
    return cast(nn.Module, torch.compile(model, dynamic=True, backend=COMPILER))


@contextlib.contextmanager
def _compiler_errors() -> Iterator[None]:
    """Convert errors of a compiler to ``ConfigError``."""
    try:
        yield
    except RuntimeError as error:
        if all(kind.__name__ != "BackendCompilerFailed" for kind in type(error).__mro__):  # its module imports slowly
            raise
        reason = (str(getattr(error, "inner_exception", error)).strip().splitlines() or [type(error).__name__])[-1]
        raise ConfigError(
            f"Cannot compile the network with train.compile on: {reason}. Set train.compile to auto or off."
        ) from error


def _train_metrics(terms: dict[str, Mean], optimizer: torch.optim.Optimizer) -> dict[str, float]:
    means = {f"train_{name}": float(mean.value) for name, mean in terms.items() if mean.count}
    return {**means, "lr": optimizer.param_groups[0]["lr"]}


def train_epoch(
    model: nn.Module,
    loader: EpochLoader,
    optimizer: torch.optim.Optimizer,
    config: Config,
    epoch: int,
    *,
    entered: Progress | None = None,
    group: Group | None = None,
    precision: Precision | None = None,
    saver: Saver | None = None,
    teacher: HTT | None = None,
    average: Average | None = None,
) -> dict[str, Mean]:
    """Train one epoch, from ``entered`` on, and return the means of the loss terms over all workers."""
    group = group or Group()
    precision = precision or Precision("fp32", group.device)
    entered = entered or Progress(epoch)
    sums = terms_so_far(entered, group)
    checks = FiniteCheck(group.device)
    model.train()
    first = entered.cursor // loader.step_windows  # steps of this number of workers; another number has other steps
    for taken, batch in enumerate(loader.epoch(epoch, entered.cursor)):
        group.between_steps()
        step = first + taken
        done = epoch * loader.steps_per_epoch + step
        rate = optim.learning_rate(config.optim, done, loader.steps_per_epoch, config.train.epochs)
        optim.set_learning_rate(optimizer, rate * order.times(config.train, group.size))
        random = step_generator(config.train.seed, done, group)
        check = functools.partial(checks.add, epoch + 1, step)
        with memory_errors(config, group.device, len(batch.valid), batch.frames.shape):
            layout = Layout.of(batch.valid, config.model.pose.window).to(group.device)
            seen, pseudo = augment(batch.to(group.device), config.data.augment, random, layout), None
            if average and config.data.unlabelled == "pseudo_labels":
                seen, labels = pseudo_labels(batch, seen, average.model, config, precision.autocast)
                layout = Layout.of(batch.valid[: len(seen.valid)], config.model.pose.window).to(group.device)
                pseudo = Pseudo(labels, pseudo_weight(config, done, config.train.epochs * loader.steps_per_epoch))
            how: dict[str, Any] = {"precision": precision, "layout": layout, "check": check, "teacher": teacher}
            how["pseudo"] = pseudo
            terms = train_step(model, seen, optimizer, config, group=group, **how)
        sums = merge(sums, terms) if sums else terms
        if average:
            average.update(done)
        if saver:
            cursor = entered.cursor + (taken + 1) * loader.step_windows
            saver.step(epoch, cursor, loader.steps_per_epoch * loader.step_windows, sums, checks.finish)
    checks.finish()
    return over_workers(sums, group)


def train_step(
    model: nn.Module,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    config: Config,
    *,
    group: Group | None = None,
    precision: Precision | None = None,
    layout: Layout | None = None,
    check: Callable[[Sequence[str], Tensor], None] = finite.check,
    teacher: HTT | None = None,
    pseudo: Pseudo | None = None,
) -> dict[str, Mean]:
    """Take one optimiser step on an (augmented) batch, and return this worker's loss terms.

    Each term is divided by its count over all workers, so that several workers take the step that one worker would take
    with the joined batch, even if their counts of frames differ.

    Args:
        model: model on the group's device.
        batch: this worker's part of the step, on that device.
        optimizer: optimiser of the model.
        config: complete configuration of the training.
        group: this worker and the others, or None for one worker on the CPU.
        precision: arithmetic, or None for fp32.
        layout: positions of the batch's frames, or None to derive them.
        check: callback that gets the terms and, the same on all workers, a flag for each that is not finite.
        teacher: model of ``distill.teacher`` on that device, or None.
        pseudo: pseudo-labels of the batch, or None.
    """
    group = group or Group()
    precision = precision or Precision("fp32", group.device)
    several = config.train.parts > 1  # the same on all workers, even if one has a single window
    labels = pseudo.labels if pseudo else None
    how = {"distilled": teacher is not None, "hand_types": config.model.predicts_hand_types}
    counts = group.sum(counts_of_labels(batch, **how, pseudo=labels)) if several else None
    optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Mean] = {}
    parts = batch.split(config.train.parts)
    labels_of_parts = labels.split(config.train.parts) if labels else [None] * len(parts)
    joint = model if isinstance(model, nn.parallel.DistributedDataParallel) else None
    for number, part in enumerate(parts, 1):
        last = number == len(parts)  # its backward pass averages the sums of all parts over the workers
        with contextlib.nullcontext() if last or joint is None else joint.no_sync():
            teachers = teacher, labels_of_parts[number - 1]
            terms = _terms(model, part, config, precision, None if several else layout, *teachers)
            if counts is None:
                counts, broken = group.sum(torch.stack([counts_of(terms), _broken(terms)]))
                check(list(terms), broken)  # raises on all workers at once, or the others would wait forever
            weight = pseudo.weight if pseudo else 0.0
            precision.backward(total(share(terms, counts, group.size), config.loss, config.distill, weight))
        done = {name: Mean(mean.total.detach(), mean.count) for name, mean in terms.items()}
        sums = merge(sums, done) if sums else done
    if several:
        check(list(sums), group.sum(_broken(sums)))
    precision.step(optimizer, config.optim.clip_norm)
    return sums


def _terms(
    model: nn.Module,
    batch: Batch,
    config: Config,
    precision: Precision,
    layout: Layout | None,
    teacher: HTT | None,
    pseudo: Batch | None,
) -> dict[str, Mean]:
    """Return the loss terms of a batch, with those of the teacher and of its pseudo-labels if there are any."""
    inputs = batch.frames, batch.valid, batch.intrinsics
    with precision.autocast():
        prediction = model(*inputs, truth=batch.truth, layout=layout)
    terms = losses(prediction, batch, smoothing=config.train.label_smoothing)
    if teacher is not None:
        alike = teacher.config.pose.window == config.model.pose.window
        with torch.no_grad(), precision.autocast():
            soft = teacher(*inputs, truth=batch.truth, layout=layout if alike else None)
        terms |= distillation(prediction, soft, batch, config.distill.temperature)
    if pseudo is not None:
        terms |= pseudo_losses(prediction, pseudo, config.train.label_smoothing)
    return terms


def _broken(terms: Mapping[str, Mean]) -> Tensor:
    """Return [terms] 1 for each term that is not finite, else 0."""
    return torch.stack([~torch.isfinite(mean.total) for mean in terms.values()]).float()


def validate(
    model: nn.Module, splits: Splits, config: Config, loader: EvaluationLoader | None = None, **how: Any
) -> tuple[dict[str, float], pl.DataFrame | None]:
    """Return the metrics of the validation clips and a row for each clip; ({}, None) if there are no such clips.

    ``loader`` and ``how`` are further arguments of ``evaluate``.
    """
    if not splits.val:
        return {}, None
    evaluation = evaluate(model, splits.val, config, loader=loader, **how)
    return evaluation.result(), clip_table.of_split(evaluation.sums(), splits.val)


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    clips: Clips,
    config: Config,
    *,
    group: Group | None = None,
    precision: Precision | None = None,
    loader: EvaluationLoader | None = None,
    on_batch: Callable[[Batch, Prediction], None] | None = None,
) -> Evaluation:
    """Evaluate every frame of the clips once, and return the evaluation merged over the workers, the same on each.

    Args:
        model: model on the group's device.
        clips: clips of a split.
        config: configuration that says how clips are cut and batched.
        group: this worker and the others, or None for one worker on the CPU.
        precision: arithmetic, or None for ``train.precision``.
        loader: batches of these clips, or None to make a loader for this evaluation.
        on_batch: callback for each batch and its prediction.
    """
    group = group or Group()
    precision = precision or Precision(config.train.precision, group.device)
    model.eval()
    evaluation = Evaluation(clips.info, config.loss)
    for batch in loader or EvaluationLoader(clips, config, group.rank, group.size):
        group.between_steps()
        with memory_errors(config, group.device, len(batch.valid), batch.frames.shape), precision.autocast():
            layout = Layout.of(batch.valid, config.model.pose.window).to(group.device)
            moved = batch.to(group.device)
            if config.runtime.early_action and isinstance(model, HTT):
                prediction, shares = early.predict(model, moved, layout, clips.frame_counts)
            else:
                shares = None
                prediction = model(moved.frames, moved.valid, moved.intrinsics, truth=moved.truth, layout=layout)
        evaluation.update(prediction, moved, shares)
        if on_batch:
            on_batch(moved, prediction)
    return functools.reduce(Evaluation.merge, group.gather(evaluation))


def step_generator(seed: int, step: int, group: Group) -> torch.Generator:
    """Return the generator of one step's augmentation on one worker; seeds torch's own generator (dropout) alike."""
    mixed = np.random.SeedSequence([seed, step, group.rank]).generate_state(1, np.uint64)[0]
    # torch.manual_seed also queues the seed for every kind of device, with a traceback: 6 % of a small step.
    torch.default_generator.manual_seed(int(mixed >> 1))
    if group.device.type == "cuda":
        torch.cuda.manual_seed(int(mixed >> 1))
    return torch.Generator().manual_seed(int(mixed >> 1))


class Precision:
    """Arithmetic of a training: TF32, autocast of the forward pass, and the gradient scaling that fp16 needs."""

    def __init__(self, name: str, device: torch.device) -> None:
        gpu = device.type == "cuda"
        supported = {
            "fp32": True,
            "tf32": gpu and torch.cuda.is_tf32_supported(),
            "bf16": not gpu or torch.cuda.is_bf16_supported(including_emulation=False),
            "fp16": gpu,
        }
        if not supported[name]:
            available = ", ".join(precision for precision, fits in supported.items() if fits)
            raise ConfigError(f"train.precision {name} is not supported on this {device.type}. Available: {available}.")
        use_tf32(name == "tf32")
        self.dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(name)
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context of a forward pass."""
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def backward(self, loss: torch.Tensor) -> None:
        """Run the backward pass, which adds to the gradients."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: torch.optim.Optimizer, clip_norm: float | None) -> None:
        """Clip the gradient and take the optimiser's step."""
        if clip_norm is not None:
            self.scaler.unscale_(optimizer)
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, clip_norm)
        self.scaler.step(optimizer)
        self.scaler.update()

    def state(self) -> dict[str, Any]:
        """Return the scaler's state for a checkpoint."""
        return self.scaler.state_dict()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Set the state that ``state`` returned."""
        if state:
            self.scaler.load_state_dict(dict(state))
