"""Drawing of predictions: hands over a frame, and below it the object, the actions and their time line.

Hands of a forecast are faint, at their places in later frames: if the camera moves, the scene moves with it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from htt import files
from htt.errors import StorageError
from htt.hand import BONES, FINGER_OF_BONE, HANDS, JOINTS_PER_HAND, WRIST, hand_names
from htt.inference.predictor import Predictions
from htt.inference.results import Segment
from htt.training.board import FINGER_COLOURS

OVERLAY = "overlay.mp4"
ENCODERS = {
    "libx264": {"crf": "20", "preset": "veryfast"},
    "libopenh264": {"b": "8000000"},
    "mpeg4": {"q": "3"},
}
"""{encoder: its options}, the best first; which of them exist depends on the build of FFmpeg."""
HAND_COLOURS = {"left": (64, 224, 224), "right": (255, 226, 84)}
"""RGB of the palm and the name of each hand."""
ACTION_COLOURS = (
    (78, 121, 167), (242, 142, 43), (225, 87, 89), (118, 183, 178), (89, 161, 79),
    (237, 201, 72), (176, 122, 161), (255, 157, 167), (156, 117, 95), (140, 140, 150),
)  # fmt: skip
"""RGB of actions, by index and repeated; Tableau's ten colours."""
SHORTEST_PX, LONGEST_PX = 960, 1280
"""Range of the longer side of the drawn frame."""
PANEL, TEXT, DIM, TRACK = (20, 22, 27), (236, 238, 242), (150, 156, 166), (48, 52, 61)
OUTLINE = (24, 24, 24)
SMOOTH = 2
"""Factor by which hands are drawn larger and then reduced, for smooth lines."""
TOP = 3
"""Number of actions with a bar."""
FAINT = (0.5, 0.35, 0.2)
"""Opacity of forecast hands: a third, two thirds, and the whole of the forecast ahead."""


@dataclass(frozen=True)
class State:
    """Predictions that are drawn with one frame."""

    joints_px: np.ndarray
    """[j 2], pixels of the frame."""
    object: tuple[str, float]
    """Most probable object, and its probability."""
    actions: Sequence[tuple[str, float]]
    """Most probable actions with their probabilities; empty if none is known yet."""
    time_s: float
    forecast_px: np.ndarray | None = None
    """[s j 2], hands of later frames in their pixels, or None; see ``shown_ahead``."""


def shown_ahead(forecast_px: np.ndarray | None) -> np.ndarray | None:
    """Return the frames of a forecast [s j 2] that are drawn: a third, two thirds, and the whole of it ahead."""
    if forecast_px is None:
        return None
    ahead: np.ndarray = forecast_px[-(-len(forecast_px) * np.arange(1, len(FAINT) + 1) // len(FAINT)) - 1]
    return ahead


class Part(NamedTuple):
    """Part of the time line."""

    start_s: float
    end_s: float
    action: int
    name: str


@dataclass(frozen=True)
class Painter:
    """Drawing of the frames of one video."""

    frame: tuple[int, int]
    """Width and height of the frames, px."""
    hands: int
    parts: Sequence[Part] = ()
    """Parts of the time line; empty to draw none."""

    @functools.cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of the drawn frame, px; even, as video encoders need."""
        longest = max(self.frame)
        scale = min(max(longest, SHORTEST_PX), LONGEST_PX) / longest
        width, height = (max(2, 2 * round(scale * side / 2)) for side in self.frame)
        return width, height

    @functools.cached_property
    def unit(self) -> float:
        """Size of text and lines, px per px of a picture that is 960 px wide."""
        return max(self.size[0], 700) / 960

    @functools.cached_property
    def panel(self) -> int:
        """Height of the part below the frame, px."""
        return 2 * round((118 + (38 if self.parts else 0)) * self.unit / 2)

    def paint(self, frame: np.ndarray, state: State) -> np.ndarray:
        """Return a frame [h w 3] with its predictions."""
        width, height = self.size
        image = Image.new("RGB", (width, height + self.panel), PANEL)
        image.paste(Image.fromarray(frame).resize(self.size, Image.Resampling.BILINEAR), (0, 0))
        later = [] if state.forecast_px is None else list(zip(state.forecast_px, FAINT, strict=True))
        for joints_px, opacity in (*reversed(later), (state.joints_px, 1.0)):
            joints = joints_px * (np.array(self.size) / self.frame)
            for place, hand in enumerate(hand_names(self.hands)):
                self._hand(image, joints[JOINTS_PER_HAND * place :][:JOINTS_PER_HAND], hand, opacity)
        canvas = ImageDraw.Draw(image)
        self._classes(canvas, state)
        if self.parts:
            self._time_line(canvas, state.time_s)
        return np.asarray(image)

    def _hand(self, image: Image.Image, joints: np.ndarray, hand: str, opacity: float) -> None:
        """Draw one hand, smooth, in the part of the image that holds it; without its name if it is faint."""
        unit, margin = self.unit, 30 * self.unit
        low = np.maximum(np.floor(joints.min(axis=0) - margin), 0)
        high = np.minimum(np.ceil(joints.max(axis=0) + margin), self.size)
        if not np.isfinite(joints).all() or (high - low < 1).any():
            return
        box = tuple(np.concatenate([low, high]).astype(int).tolist())
        large = image.crop(box).resize(tuple((SMOOTH * (high - low)).astype(int)), Image.Resampling.NEAREST)
        canvas, at = ImageDraw.Draw(large), [tuple(point) for point in (SMOOTH * (joints - low)).tolist()]
        colours = [
            HAND_COLOURS[hand] if parent == WRIST else FINGER_COLOURS[FINGER_OF_BONE[bone]]
            for bone, (parent, _) in enumerate(BONES)
        ]
        thick = SMOOTH * unit
        for extra, plain in ((2.5, OUTLINE), (0.0, None)):  # an outline first, for bright backgrounds
            for (parent, child), colour in zip(BONES, colours, strict=True):
                canvas.line([at[parent], at[child]], fill=plain or colour, width=round((3.6 + extra) * thick))
            for joint, (x, y) in enumerate(at):
                radius = (4.4 if joint == WRIST else 2.8 + extra / 2) * thick
                fill = plain or (HAND_COLOURS[hand] if joint == WRIST else (255, 255, 255))
                canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
        drawn = large.reduce(SMOOTH)
        image.paste(drawn if opacity == 1 else Image.blend(image.crop(box), drawn, opacity), box[:2])
        x, y = joints[WRIST]
        if opacity == 1 and len(HANDS) == self.hands and 0 <= x < self.size[0] and 0 <= y < self.size[1] - 24 * unit:
            ImageDraw.Draw(image).text(
                (x + 8 * unit, y + 4 * unit), hand, HAND_COLOURS[hand], _font(round(15 * unit)),
                stroke_width=max(1, round(unit)), stroke_fill=(0, 0, 0),
            )  # fmt: skip

    def _classes(self, canvas: ImageDraw.ImageDraw, state: State) -> None:
        """Draw the object on the left, and the actions with their bars on the right."""
        unit, (width, top) = self.unit, self.size
        head, word = _font(round(13 * unit)), _font(round(17 * unit))
        left, middle, right = 18 * unit, width * 0.3, width - 18 * unit
        canvas.text((left, top + 10 * unit), "OBJECT", DIM, head)
        canvas.text((middle, top + 10 * unit), "ACTION" if state.actions else "ACTION  …", DIM, head)
        name, value = state.object
        canvas.text((left, top + 30 * unit), _short(name, word, middle - 2 * left), TEXT, word)
        self._bar(canvas, (left, top + 56 * unit, middle - 1.5 * left), value, TEXT)
        canvas.text((left, top + 68 * unit), f"{100 * value:.0f} %", DIM, head)
        start = middle + (right - middle) * 0.42
        for row, (name, value) in enumerate(state.actions[:TOP]):
            y, colour = top + (30 + 28 * row) * unit, TEXT if row == 0 else DIM
            canvas.text((middle, y), _short(name, word, start - middle - left), colour, word)
            self._bar(canvas, (start, y + 7 * unit, right - 52 * unit), value, colour)
            canvas.text((right, y + 2 * unit), f"{100 * value:.0f} %", colour, head, anchor="ra")

    def _bar(self, canvas: ImageDraw.ImageDraw, place: tuple[float, float, float], share: float, colour: Any) -> None:
        left, top, right = place
        height = 7 * self.unit
        canvas.rounded_rectangle((left, top, right, top + height), height / 2, TRACK)
        if share * (right - left) > height:
            canvas.rounded_rectangle((left, top, left + share * (right - left), top + height), height / 2, colour)

    def _time_line(self, canvas: ImageDraw.ImageDraw, time_s: float) -> None:
        """Draw the most probable action of each part of the video, and the current time."""
        unit, (width, top) = self.unit, self.size
        left, right, y = 18 * unit, width - 18 * unit, top + 118 * unit
        font, total = _font(round(12 * unit)), self.parts[-1].end_s
        for part in self.parts:
            colour = ACTION_COLOURS[part.action % len(ACTION_COLOURS)]
            a, b = (left + (right - left) * time / total for time in (part.start_s, part.end_s))
            canvas.rectangle((a, y, max(a, b - 1.5 * unit), y + 22 * unit), colour)
            if label := _short(part.name, font, b - a - 10 * unit):
                canvas.text((a + 6 * unit, y + 11 * unit), label, (0, 0, 0), font, anchor="lm")
        x = left + (right - left) * min(time_s / total, 1)
        canvas.rectangle((x - 1.5 * unit, y - 5 * unit, x + 1.5 * unit, y + 27 * unit), TEXT)
        canvas.text((right, top + 10 * unit), f"{time_s:.1f} s", DIM, _font(round(13 * unit)), anchor="ra")


@functools.cache
def _font(size: int) -> Any:
    return ImageFont.load_default(max(size, 8))


@functools.lru_cache(1024)
def _short(text: str, font: Any, width: float) -> str:
    """Return text that is at most ``width`` px wide, shortened if needed; empty if not even a letter fits."""
    if font.getlength(text) <= width:
        return text
    most = next((count for count in range(len(text) - 1, 0, -1) if font.getlength(f"{text[:count]}…") <= width), 0)
    return f"{text[:most].rstrip()}…" if most else ""


def states(predictions: Predictions, found: Sequence[Segment], frame_rate: float) -> Iterable[State]:
    """Yield what is drawn with each frame of a video."""
    objects, names = predictions.objects(), predictions.info.actions
    for segment in found:
        best = np.argsort(-segment.probabilities, kind="stable")[:TOP]
        top = [(names[action], float(segment.probabilities[action])) for action in best]
        for frame in range(segment.first, segment.end):
            ahead = None if predictions.forecast_px is None else shown_ahead(predictions.forecast_px[frame])
            yield State(predictions.joints_px[frame], objects[frame], top, frame / frame_rate, ahead)


def parts(found: Sequence[Segment], names: Sequence[str], frame_rate: float) -> list[Part]:
    """Return the time line of a video; successive segments of one action are one part."""
    line: list[Part] = []
    for segment in found:
        action, end_s = int(segment.probabilities.argmax()), segment.end / frame_rate
        if line and line[-1].action == action:
            line[-1] = line[-1]._replace(end_s=end_s)
        else:
            line.append(Part(segment.first / frame_rate, end_s, action, names[action]))
    return line


def write(
    folder: Path,
    frames: Iterable[np.ndarray],
    predictions: Predictions,
    found: Sequence[Segment],
    frame_rate: float,
    on_frames: Callable[[int], object] = lambda _: None,
) -> Path:
    """Write ``overlay.mp4`` and return its path.

    Args:
        folder: folder of the file.
        frames: frames that were predicted, read again.
        predictions: their predictions.
        found: segments of the predictions.
        frame_rate: frames per second of the predictions.
        on_frames: callback that gets 1 after each frame.

    Raises:
        StorageError: the disk is full or not writable, or FFmpeg has no encoder for mp4.
    """
    painter: Painter | None = None
    line = parts(found, predictions.info.actions, frame_rate)
    with files.replacing(folder / OVERLAY) as path, av.open(str(path), "w", format="mp4") as container:
        stream: Any = None
        for frame, state in zip(frames, states(predictions, found, frame_rate), strict=False):
            if painter is None:
                painter = Painter((frame.shape[1], frame.shape[0]), predictions.info.hands, line)
                stream = _stream(container, painter, frame_rate)
            picture = av.VideoFrame.from_ndarray(painter.paint(frame, state), format="rgb24")
            container.mux(stream.encode(picture))
            on_frames(1)
        container.mux(stream.encode())
    return folder / OVERLAY


def _stream(container: Any, painter: Painter, frame_rate: float) -> Any:
    """Add a video stream of the best encoder that FFmpeg has."""
    for name, options in ENCODERS.items():
        if name in av.codecs_available:
            stream = container.add_stream(name, rate=Fraction(frame_rate).limit_denominator(1001), options=options)
            stream.width, stream.height = painter.size[0], painter.size[1] + painter.panel
            stream.pix_fmt = "yuv420p"
            return stream
    raise StorageError(
        f"Cannot write {OVERLAY}: FFmpeg has none of the encoders {', '.join(ENCODERS)}. Use --no-overlay."
    )
