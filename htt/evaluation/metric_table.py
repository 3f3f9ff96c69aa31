"""Table of every metric of the project: unit, direction and description. Imports no torch.

``EVALUATED`` are measures of predictions, ``COSTS`` costs of the model; ``METRICS`` are both.

Searches, reports and checkpoints take units and directions from here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from htt.config import LossConfig
from htt.hand import HANDS


@dataclass(frozen=True)
class Metric:
    """Description of one metric."""

    name: str
    unit: str
    """mm, px, m, nats, ms, MB, or "" for a fraction of 1, for a count and for the loss."""
    higher_is_better: bool
    title: str
    """Title for a table head or the axis of a plot."""
    sentence: str
    """Description for a reader who does not know the metric."""

    def number(self, value: float) -> str:
        """Return a value as text with its unit: ``31.2 %``, ``84.6 mm``.

        >>> METRICS["action_accuracy"].number(0.3125)
        '31.2 %'
        """
        if self.is_gain:
            return self.difference(value)
        if self.unit:
            return f"{value:.4g} {self.unit}" if abs(value) < 10 else f"{value:.1f} {self.unit}"
        if self.is_area:
            return f"{value:.3f}"
        if self.is_count:
            return count(value)
        return f"{100 * value:.1f} %" if self.is_fraction else f"{value:.4g}"

    def span(self, low: float, high: float) -> str:
        """Return two values as text with one unit: ``31.2 to 40.1 %``."""
        first, last = self.number(low), self.number(high)
        unit = last.partition(" ")[2]
        return f"{first.removesuffix(unit).strip()} to {last}"

    def difference(self, value: float) -> str:
        """Return a difference with its sign and unit: ``+3.1 points``, ``−14.0 mm``."""
        unit = "points" if self.is_fraction else self.unit
        return f"{self._signed(value)} {unit}".strip()

    def difference_span(self, low: float, high: float) -> str:
        """Return the interval of a difference: ``−14.0 to −10.8 mm``."""
        return f"{self._signed(low)} to {self.difference(high)}"

    def _signed(self, value: float) -> str:
        """Return a difference with its sign but without its unit, with as many digits as the metric itself."""
        if self.is_fraction:
            text = f"{100 * value:+.1f}"
        elif self.is_area:
            text = f"{value:+.3f}"
        else:
            places = 1 if abs(value) >= 10 else 2
            text = f"{value:+.{places}f}" if self.unit in ("mm", "px") else f"{value:+.3g}"
        return text.replace("-", "−") if float(text) else text[1:]

    @property
    def is_area(self) -> bool:
        """True for the area under a curve, between 0 and 1."""
        return "_auc" in self.name

    @property
    def is_count(self) -> bool:
        """True for a number of things."""
        return self.name == "parameters"

    @property
    def is_fraction(self) -> bool:
        """True for a value between 0 and 1 that is shown as percent."""
        return self.name.endswith(("accuracy", "accuracy_hard"))

    @property
    def is_gain(self) -> bool:
        """True for a difference of two errors, which may be negative."""
        return "_gain_" in self.name

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest possible value."""
        if self.is_gain:
            return -math.inf, math.inf
        return 0.0, 1.0 if self.is_fraction or self.is_area else math.inf

    @property
    def mode(self) -> str:
        """Direction in a search: "max" or "min"."""
        return "max" if self.higher_is_better else "min"


LOSSES = (
    Metric("loss", "", False, "Loss", "Weighted sum of all loss terms, minimised by the training."),
    Metric("loss_joints_px", "px", False, "2D loss", "Mean absolute error of a joint's position in the image."),
    Metric("loss_depth_m", "m", False, "Depth loss", "Mean absolute error of a joint's depth."),
    Metric("loss_object", "nats", False, "Object loss", "Cross entropy of each frame's object."),
    Metric("loss_action", "nats", False, "Action loss", "Cross entropy of each window's action."),
    Metric("loss_hand_type", "nats", False, "Hand type loss", "Cross entropy of what each hand does in a frame."),
    Metric("loss_forecast_px", "px", False, "Forecast 2D loss", "Mean absolute error of the 2D forecast."),
    Metric("loss_forecast_depth_m", "m", False, "Forecast depth loss", "Mean absolute error of the forecast of depth."),
)

EARLY = "action_early_auc"
"""Metric that an evaluation gives on request only: with ``runtime.early_action``."""

ACCURACIES = (
    Metric("object_accuracy", "", True, "Object accuracy", "Fraction of frames with a correctly predicted object."),
    Metric(
        "hand_type_accuracy",
        "",
        True,
        "Hand type accuracy",
        "Fraction of visible hands in the frames whose type, such as a grasp, is predicted correctly.",
    ),
    Metric(
        "action_accuracy",
        "",
        True,
        "Action accuracy",
        "Fraction of clips with a correctly predicted action, by the summed probabilities of their windows.",
    ),
    Metric(
        "action_accuracy_hard",
        "",
        True,
        "Action accuracy, hard vote",
        "Fraction of clips with a correctly predicted action, by one vote per window; in a tie the highest summed "
        "probability decides.",
    ),
    Metric(
        EARLY,
        "",
        True,
        "Early action AUC",
        "Area under the curve of the accuracy of actions over the observed share of each clip, from 10 to 100 %; the "
        "mean accuracy over these shares.",
    ),
)


def _of_hands() -> Iterator[Metric]:
    """Yield error and area under the curve: in camera space and relative to the wrist, of all hands and of each."""
    for aligned, space, words in (
        ("", "", "in camera space"),
        ("_ra", " (wrist-aligned)", "relative to the wrist, without it"),
    ):
        for hand in ("", *HANDS):
            suffix = f"{aligned}_{hand}" if hand else aligned
            whose = f"the {hand} hand's joints" if hand else "the joints of all hands"
            shown = f"{hand.capitalize()} hand" if hand else "Hand"
            yield Metric(
                f"hand_error{suffix}_mm",
                "mm",
                False,
                f"{shown} error{space}",
                f"Mean distance of {whose} from their true positions, {words}; averaged over each joint first.",
            )
            yield Metric(
                f"hand_auc{suffix}",
                "",
                True,
                f"{shown} AUC{space}",
                f"Area under the curve of the share of {whose} within a distance, {words}.",
            )


TIMES_MS = (100, 200, 500, 1000)
"""Times ahead at which the error of a forecast is a metric of its own, ms."""
BASELINES = ("kept", "velocity")
"""Forecasts without a head, from the model's own hands: the last pose is kept, or moves on with its velocity."""


def frame_at(time_ms: int, frame_rate: float) -> int | None:
    """Return the number of frames that are this time, or None if it is not a whole number up to one per cent."""
    frames = time_ms * frame_rate / 1000
    return round(frames) if round(frames) and abs(frames - round(frames)) <= 0.01 * frames else None


def at_time(name: str, time_ms: int) -> str:
    """Return the metric of a forecast at one time ahead: ``forecast_error_mm`` -> ``forecast_error_200ms_mm``."""
    return f"{name.removesuffix('_mm')}_{time_ms}ms_mm"


def _of_forecast() -> Iterator[Metric]:
    """Yield the errors of forecast hands and of both baselines, and the gains over these: as a whole, and at times."""
    distance = "Mean distance of the joints of all hands from their true positions"
    kept = "the last pose is kept: the model's own hands of the frame, seen without later frames"
    velocity = "the model's own hands move on with the velocity between the frame and the one before"
    gain, better = "less the error of the forecast", "above 0, the forecast is better"
    for time_ms in (None, *TIMES_MS):
        at, ahead = (f" at {time_ms / 1000:g} s", f"{time_ms / 1000:g} s ahead") if time_ms else ("", "in later frames")
        for name, up, title, sentence in (
            ("error", False, "Forecast error", f"{distance} {ahead}, in camera space; averaged over each joint first."),
            ("kept_error", False, "Last pose error", f"{distance} {ahead} if {kept}."),
            ("velocity_error", False, "Constant velocity error", f"{distance} {ahead} if {velocity}."),
            ("gain_over_kept", True, "Gain over last pose", f"Error of the last pose {ahead} {gain}; {better}."),
            ("gain_over_velocity", True, "Gain over constant velocity", f"Error of a constant velocity {ahead} {gain}; "
             f"{better}."),
        ):  # fmt: skip
            plain = f"forecast_{name}_mm"
            yield Metric(at_time(plain, time_ms) if time_ms else plain, "mm", up, f"{title}{at}", sentence)


COSTS = (
    Metric("parameters", "", False, "Parameters", "Number of trainable parameters."),
    Metric(
        "latency_ms",
        "ms",
        False,
        "Latency",
        "Median time of one clip's prediction on the device that trained: all windows of the validation clip of median "
        "length, batched as in an evaluation; images are decoded before. Measured once per training, while other "
        "trials of the machine wait.",
    ),
    Metric(
        "memory_mb",
        "MB",
        False,
        "Memory",
        "Peak memory of tensors during that prediction, in millions of bytes: weights, frames, activations. Memory "
        "that a library uses inside one operation is not included.",
    ),
)

HEADS = {
    "hand_type": ("hand_type",),
    "hand": ("joints_px", "depth_m"),
    "object": ("object",),
    "action": ("action",),
    "forecast": ("forecast", "joints_px", "depth_m"),
}
"""{start of the names of a head's metrics: loss terms that train the head}; the first that fits counts."""


def head_of(metric: str) -> str:
    """Return the head that a metric measures or that is named, a key of ``HEADS``; "" if there is none."""
    return next((head for head in HEADS if f"{metric}_".startswith(f"{head}_")), "")


def untrained_by(metric: str, loss: LossConfig) -> list[str]:
    """Return the loss terms of weight 0 that would train what a metric measures; empty if it is trained."""
    kind, _, term = metric.partition("_")
    of_term = {"forecast_px": ("forecast", "joints_px"), "forecast_depth_m": ("forecast", "depth_m")}
    terms = of_term.get(term, (term,)) if kind == "loss" and term else HEADS.get(head_of(metric), ())
    return [each for each in terms if not getattr(loss, each)]


EVALUATED = {metric.name: metric for metric in (*LOSSES, *_of_hands(), *ACCURACIES, *_of_forecast())}
"""Metrics of an evaluation, by name."""
METRICS = {**EVALUATED, **{metric.name: metric for metric in COSTS}}
"""All metrics, by name."""


def count(number: float) -> str:
    """Return a number of things as text: ``873``, ``1.2 k``, ``11.7 M``."""
    for letter, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            return f"{number / size:.1f} {letter}" if number < 99.95 * size else f"{number / size:.0f} {letter}"
    return f"{number:.0f}"
