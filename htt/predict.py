"""Predict hands, objects and actions in a video, a folder of images or the picture of a camera.

::

    python -m htt.predict --checkpoint runs/NAME/checkpoint --video FILE --fov 69
    python -m htt.predict --checkpoint FOLDER --video IMAGES --intrinsics 636.7,636.3,635.3,366.9
    python -m htt.predict --checkpoint runs/NAME/checkpoint --camera 0 --show

A video gets ``predictions.parquet``, a row per frame, and ``overlay.mp4``. With ``--show``, predictions are shown in a
window while frames arrive.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from htt import camera, console, files
from htt.errors import ConfigError, shown
from htt.text import plural

if TYPE_CHECKING:  # else imported late: these modules take seconds to import, and --help should be fast
    from htt.inference.predictor import Predictions, Predictor
    from htt.inference.stream import Current
    from htt.inference.window import Window
    from htt.video import FrameSource

FOV_DEG = 90.0
"""Horizontal field of view if none is given, degrees: that of H2O's camera."""


@dataclass
class Options(console.Options):
    """Predict hands, objects and actions in a video, a folder of images or the picture of a camera."""

    checkpoint: str
    """Folder of a checkpoint or of a published model, or the hub name of a published model."""
    video: console.OptionalPath = None
    """Video file, or folder of images."""
    camera: console.OptionalInt = None
    """Number of a camera, from 0, in place of a video."""
    out: console.OptionalPath = None
    """Folder of the results (default: predictions-NAME in the current folder, NAME of the video)."""
    intrinsics: console.OptionalText = None
    """Focal lengths and principal point of the frames, px: f_x,f_y,c_x,c_y."""
    fov: console.OptionalFloat = None
    """Horizontal field of view of the frames, degrees, in place of --intrinsics (default: 90)."""
    fit: Literal["crop", "letterbox"] = "crop"
    """Treatment of frames with another aspect ratio than the model's images: cut the edges off, or add black bars."""
    precision: Literal["training", "fp32", "bf16", "fp16"] = "training"
    """Arithmetic: that of the training, or another."""
    fuse: bool = False
    """Fold batch norm into the convolutions: faster, and equal up to rounding."""
    overlay: bool = True
    """Write overlay.mp4."""
    show: bool = False
    """Show predictions in a window while frames arrive, in place of files."""


def main(options: Options) -> None:
    """Predict, write or show the results, and print them."""
    if (options.video is None) == (options.camera is None):
        raise ConfigError("Give one source: --video FILE (or a folder of images), or --camera NUMBER.")
    check_camera(options)
    from htt.inference.window import Window
    from htt.video import open_camera, open_source

    window = Window("HTT") if options.show else None
    source = open_camera(options.camera) if options.camera is not None else open_source(options.video or Path())
    from htt.inference.predictor import Predictor

    precision = None if options.precision == "training" else options.precision
    predictor = Predictor.load(options.checkpoint, precision=precision, fuse=options.fuse)
    matrix = intrinsics_of(options, source)
    for line in facts(predictor, source, options):
        console.print_folded(line)
    if options.show or options.camera is not None:
        live(predictor, source, matrix, options, window)
    else:
        predict(predictor, source, matrix, options)


def check_camera(options: Options) -> None:
    """Raise a ``ConfigError`` if the intrinsics of the options are invalid, before a model is loaded."""
    if options.intrinsics is not None and options.fov is not None:
        raise ConfigError("Cannot use both --intrinsics and --fov. Drop one of them.")
    if options.intrinsics is not None:
        _numbers(options.intrinsics)
    if options.fov is not None and not 1 <= options.fov < 179:
        raise ConfigError(f"--fov must be a horizontal angle of 1 to 179 degrees; got {options.fov:g}.")


def _numbers(text: str) -> list[float]:
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)) or min(numbers[:2]) <= 0:
        raise ConfigError(
            f"--intrinsics must be four numbers f_x,f_y,c_x,c_y in px, with positive focal lengths; got {shown(text)}. "
            "For example 636.7,636.3,635.3,366.9."
        )
    return numbers


def intrinsics_of(options: Options, source: FrameSource) -> np.ndarray:
    """Return the intrinsics [3 3] of a source's frames."""
    if options.intrinsics is not None:
        return camera.intrinsics(*_numbers(options.intrinsics))
    width, height = source.size
    fov = FOV_DEG if options.fov is None else options.fov
    focal = width / 2 / math.tan(math.radians(fov) / 2)
    return camera.intrinsics(focal, focal, width / 2, height / 2)


def facts(predictor: Predictor, source: FrameSource, options: Options) -> Iterator[str]:
    """Yield sentences on the source and on everything that is assumed about it."""
    info, (width, height) = predictor.info, source.size
    rate = predictor.frame_rate
    if source.frame_rate is None:
        yield f"{source.name}: {width}x{height} px; images are taken to be {rate:g} frames/s, the rate of the training."
    elif options.camera is not None or options.show:
        used = f"up to {predictor.stream_rate:g} are used"
        yield f"{source.name}: {width}x{height} px, {source.frame_rate:.4g} frames/s; {used}."
    else:
        duration = "" if source.seconds is None else f", {source.seconds:.1f} s"
        same = abs(source.frame_rate - rate) < 0.01
        to = "the rate of the training" if same else f"resampled to {rate:g}, the rate of the training"
        yield f"{source.name}: {width}x{height} px, {source.frame_rate:.4g} frames/s{duration}; {to}."
    if width * info.height != height * info.width:
        done = (
            "the edges are cut off (--fit crop)" if options.fit == "crop" else "black bars are added (--fit letterbox)"
        )
        yield f"The model's images are {info.width}x{info.height} px, of another aspect ratio: {done}."
    if options.intrinsics is None and options.fov is None:
        yield (
            f"note: a horizontal field of view of {FOV_DEG:g} degrees is assumed, and every depth depends on it. Give "
            "--fov or --intrinsics."
        )
    if info.hands == 1:
        yield "The model knows one hand, the right one: 21 joints per frame."


def predict(predictor: Predictor, source: FrameSource, matrix: np.ndarray, options: Options) -> None:
    """Predict a video, write the table and the overlay, and print their paths."""
    out = options.out or Path(f"predictions-{Path(source.name).resolve().stem}")
    with files.writing(out):
        written = write(out, predictor, source, matrix, options)
    for path in written:
        console.out.print(f"{path}")


def write(out: Path, predictor: Predictor, source: FrameSource, matrix: np.ndarray, options: Options) -> list[Path]:
    """Predict a video, print the result, and return the paths of its files."""
    from htt.inference import overlay, results
    from htt.video import at_rate

    rate = predictor.frame_rate
    expected = _expected(source, rate)
    with console.Counting("Predicting", expected, "frames") as counting:
        predictions = results.predict_video(predictor, source, matrix, options.fit, counting.advance)
    if source.problem:
        console.print_message("warning:", source.problem)
    about = {"checkpoint": str(options.checkpoint), "source": source.name, "intrinsics": matrix.tolist()}
    paths = [results.write(out, predictions, rate, {**about, "fit": options.fit})]
    if options.overlay:
        found = results.segments(predictions, predictor.chunk)
        with console.Counting("Drawing", len(predictions.window), "frames") as counting:
            paths.append(overlay.write(out, at_rate(source, rate), predictions, found, rate, counting.advance))
    print_result(predictions)
    return paths


def _expected(source: FrameSource, rate: float) -> int:
    """Return the number of frames to be predicted, as far as it is known before."""
    paths = getattr(source, "paths", None)
    return len(paths) if paths else max(1, round((source.seconds or 0.0) * rate))


def print_result(predictions: Predictions) -> None:
    """Print the actions of a video and its objects."""
    names = [name for name, _ in predictions.objects()]
    shares = sorted(((names.count(name) / len(names), name) for name in set(names)), reverse=True)[:3]
    windows = plural(len(predictions.action_probabilities), "window")
    actions = ", ".join(f"{name} {100 * share:.0f} %" for name, share in predictions.top_actions())
    console.print_folded(f"Action (mean of {windows}): {actions}")
    console.print_folded(
        f"Object (share of frames): {', '.join(f'{name} {100 * share:.0f} %' for share, name in shares)}"
    )


def live(
    predictor: Predictor, source: FrameSource, matrix: np.ndarray, options: Options, window: Window | None
) -> None:
    """Predict frame after frame, and show each in a window, or print the action whenever it is known anew."""
    from htt.inference.overlay import Painter, State, shown_ahead
    from htt.video import at_rate, thinned

    painter = Painter(source.size, predictor.info.hands)
    stream, rate = predictor.stream(matrix, options.fit), predictor.stream_rate
    is_camera = options.camera is not None
    started = time.monotonic()
    for frame in thinned(source.frames(), rate) if is_camera else at_rate(source, rate):
        current = stream(frame)
        seconds = time.monotonic() - started if is_camera else current.frame / rate
        best = int(current.object_probabilities.argmax())
        seen = predictor.info.objects[best], float(current.object_probabilities[best])
        actions = top_actions(predictor, current)
        state = State(current.joints_px, seen, actions, seconds, shown_ahead(current.forecast_px))
        if window and not window.show(painter.paint(frame, state)):
            return
        if current.settled and not window:
            listed = ", ".join(f"{name} {100 * value:.0f} %" for name, value in actions)
            per_s = (current.frame + 1) / max(time.monotonic() - started, 1e-3)
            console.out.print(f"{seconds:7.1f} s  {listed}; {seen[0]} {100 * seen[1]:.0f} %; {per_s:.0f} frames/s")
    if source.problem:
        console.print_message("warning:", source.problem)


def top_actions(predictor: Predictor, current: Current) -> list[tuple[str, float]]:
    """Return the three most probable actions so far; none if none is known yet."""
    if current.action_probabilities is None:
        return []
    order = np.argsort(-current.action_probabilities, kind="stable")[:3]
    return [(predictor.info.actions[action], float(current.action_probabilities[action])) for action in order]


if __name__ == "__main__":
    console.run(Options, main)
