"""The eight things hands handle, each instance of its own size, colours and label; all from formulas.

An object's frame: z up along its axis, origin in the middle of its underside; metres. A thing may have a second part:
the lid that is opened, or the item that is taken out of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from htt.scene.rotations import about, smooth_step
from htt.scene.things.mesh import Mesh, box, lathe, merged

OBJECTS = ("book", "espresso", "lotion", "spray", "milk", "cocoa", "chips", "cappuccino")
"""The nouns in H2O's order: index 0 is H2O's object 1."""

_PLASTIC, _PAPER = 0.16, 0.03
_INSIDE = (0.10, 0.08, 0.07, 0.0)
_BOX_POINTS = 7


@dataclass(frozen=True)
class Kind:
    """What all instances of a noun share: size in metres (round ones: diameter twice, height), usual colours."""

    size_m: tuple[float, float, float]
    colour: tuple[float, float, float]
    accent: tuple[float, float, float]
    round: bool = False


KINDS = {
    "book": Kind((0.150, 0.210, 0.024), (0.70, 0.30, 0.25), (0.90, 0.85, 0.60)),
    "espresso": Kind((0.060, 0.060, 0.080), (0.25, 0.15, 0.12), (0.75, 0.60, 0.25)),
    "lotion": Kind((0.060, 0.060, 0.150), (0.90, 0.90, 0.85), (0.35, 0.60, 0.50), round=True),
    "spray": Kind((0.064, 0.064, 0.150), (0.30, 0.60, 0.85), (0.95, 0.90, 0.30), round=True),
    "milk": Kind((0.070, 0.070, 0.180), (0.85, 0.90, 0.95), (0.20, 0.35, 0.75)),
    "cocoa": Kind((0.075, 0.055, 0.140), (0.50, 0.30, 0.15), (0.95, 0.60, 0.20)),
    "chips": Kind((0.074, 0.074, 0.190), (0.85, 0.20, 0.15), (0.95, 0.80, 0.15), round=True),
    "cappuccino": Kind((0.090, 0.060, 0.115), (0.75, 0.60, 0.40), (0.45, 0.15, 0.20)),
}
_LOOK_ALIKES = 0.2
"""Share of the instances that have the usual colours of another noun: colour is a hint, the shape is what counts."""


@dataclass(frozen=True)
class Thing:
    """One instance of an object.

    Attributes:
        noun: One of OBJECTS.
        body: The mesh that is held.
        lid: What "open" takes off, its frame at the top of the body; None where nothing opens.
        item: What "take out" draws from the body, its frame at the top of the body.
        half_m: [3] half the size.
        round: Whether it is a cylinder rather than a box.
    """

    noun: str
    body: Mesh
    lid: Mesh | None
    item: Mesh | None
    half_m: np.ndarray
    round: bool

    @property
    def height_m(self) -> float:
        """From the underside to the top."""
        return float(2 * self.half_m[2])

    def distance(self, points_m: np.ndarray) -> np.ndarray:
        """Signed distance [...] (m) of points [... 3] in the object's frame to its hull, negative inside."""
        offset = points_m - [0.0, 0.0, self.half_m[2]]
        if self.round:
            radius = np.hypot(offset[..., 0], offset[..., 1]) - self.half_m[0]
            excess = np.stack([radius, np.abs(offset[..., 2]) - self.half_m[2]], axis=-1)
        else:
            excess = np.abs(offset) - self.half_m
        distance: np.ndarray = np.linalg.norm(np.maximum(excess, 0.0), axis=-1) + np.minimum(excess.max(axis=-1), 0.0)
        return distance


def knob(radius_m: float, height_m: float) -> Thing:
    """A bare cylinder to close a hand on: a lid or an item as the fingers feel it."""
    return Thing("knob", box((0, 0, 0), (0, 0, 0, 0)), None, None, np.array([radius_m, radius_m, height_m / 2]), True)


def make(noun: str, rng: np.random.Generator, opened: bool = False) -> Thing:
    """An instance of ``noun`` drawn from ``rng``; ``opened`` shows the book's pages or a box without its top."""
    kind = KINDS[noun]
    size = np.array(kind.size_m) * rng.uniform(0.92, 1.08)
    look = KINDS[str(rng.choice(OBJECTS))] if rng.random() < _LOOK_ALIKES else kind
    main, accent = (
        np.append(np.clip(np.array(usual) + rng.uniform(-0.12, 0.12, 3), 0.03, 1), _PAPER)
        for usual in (look.colour, look.accent)
    )
    body, lid, item = _BUILDERS[noun](size, main, accent, opened)
    thing = Thing(noun, body, lid, item, size / 2, kind.round)
    return replace(thing, body=_labelled(thing, accent, rng))


def cup(rng: np.random.Generator) -> Mesh:
    """A mug to pour into."""
    radius, height = rng.uniform(0.036, 0.044), rng.uniform(0.075, 0.095)
    colour, inside = np.append(rng.uniform(0.3, 0.95, 3), _PLASTIC), np.array(_INSIDE)
    profile = [(0, 0), (1, 0), (1, 0), (1, 1), (0.88, 1), (0.8, 0.3), (0, 0.3)]
    return lathe(np.array(profile) * [radius, height], [*[colour] * 5, inside, inside])


_Parts = tuple[Mesh, Mesh | None, Mesh | None]


def _book(size: np.ndarray, main: np.ndarray, _accent: np.ndarray, opened: bool) -> _Parts:
    if not opened:
        pages = box(size * [0.97, 0.97, 0.8], (0.93, 0.91, 0.85, 0.0)).moved(np.eye(3), (0.003, 0, 0.1 * size[2]))
        covers = [box(size * [1, 1, 0.1], main, _BOX_POINTS).moved(np.eye(3), (0, 0, z * size[2])) for z in (0, 0.9)]
        spine = box(size * [0.03, 1, 1], main).moved(np.eye(3), (-0.485 * size[0], 0, 0))
        return merged([pages, *covers, spine]), None, None
    halves = []
    for side in (-1, 1):
        cover = box(size * [0.5, 1, 0.15], main)
        page = box(size * [0.47, 0.96, 0.25], (0.94, 0.92, 0.87, 0.0), 13).moved(np.eye(3), (0, 0, 0.15 * size[2]))
        # Lines of print: every second row of the page's grid, but for the margins.
        rows = np.round((page.vertices[:, 1] / size[1] / 0.96 + 0.5) * 12).astype(int)
        inner = np.abs(page.vertices[:, 0]) < 0.4 * 0.47 * size[0]
        page.colours[(rows % 2 == 1) & inner & (page.normals[:, 2] > 0.5), :3] = 0.45
        halves.append(merged([cover, page]).moved(about("y", -0.22 * side), (side * 0.245 * size[0], 0, 0)))
    return merged(halves), None, None


def _carton(size: np.ndarray, main: np.ndarray, accent: np.ndarray, opened: bool) -> _Parts:
    body = box(size, main, _BOX_POINTS)
    if opened:
        inner = np.abs(body.vertices[:, :2]) < 0.45 * size[:2]
        body.colours[inner.all(axis=1) & (body.normals[:, 2] > 0.5)] = _INSIDE
    sachet = box((0.040, 0.010, 0.075), (*np.clip(accent[:3] * 0.5 + 0.45, 0, 1), _PLASTIC), 3)
    return body, None, sachet.moved(np.eye(3), (0, 0, -0.03))


def _capsule_box(size: np.ndarray, main: np.ndarray, accent: np.ndarray, opened: bool) -> _Parts:
    body, _, _ = _carton(size, main, accent, opened)
    metal = np.array([*np.clip(accent[:3] * 0.6 + 0.3, 0, 1), 0.35])
    profile = [(0, 0), (0.012, 0), (0.012, 0), (0.016, 0.022), (0.019, 0.024), (0.019, 0.024), (0, 0.025)]
    return body, None, lathe(profile, [metal] * len(profile), 12)


def _milk(size: np.ndarray, main: np.ndarray, accent: np.ndarray, _opened: bool) -> _Parts:
    lower = box(size * [1, 1, 0.82], main, _BOX_POINTS)
    roof = box(size * [1, 1, 0.18], accent, 3)
    top = roof.vertices[:, 2] > 0.17 * size[2]
    roof.vertices[top, :2] *= 0.5
    cap = np.append(np.clip(accent[:3] * 0.6 + 0.1, 0, 1), _PLASTIC)
    return merged([lower, roof.moved(np.eye(3), (0, 0, 0.82 * size[2]))]), _cap(0.016, 0.018, cap), None


def _bottle(size: np.ndarray, main: np.ndarray, accent: np.ndarray, _opened: bool) -> _Parts:
    body = _banded(size[0] / 2, size[2], main, accent, shoulder=0.5)
    return body, _cap(0.017, 0.028, np.array([*np.clip(accent[:3] * 0.5, 0, 1), _PLASTIC])), None


def _spray(size: np.ndarray, main: np.ndarray, accent: np.ndarray, _opened: bool) -> _Parts:
    body = _banded(size[0] / 2, size[2], main, accent, shoulder=0.4)
    dark = np.array([*np.clip(accent[:3] * 0.4 + 0.05, 0, 1), _PLASTIC])
    neck = _cap(0.014, 0.024, dark).moved(np.eye(3), (0, 0, size[2]))
    head = box((0.022, 0.060, 0.022), dark).moved(np.eye(3), (0, 0.012, size[2] + 0.022))
    trigger = box((0.010, 0.010, 0.040), dark).moved(about("x", 0.35), (0, 0.030, size[2] - 0.012))
    return merged([body, neck, head, trigger]), None, None


def _chips(size: np.ndarray, main: np.ndarray, accent: np.ndarray, opened: bool) -> _Parts:
    radius = size[0] / 2
    body = _banded(radius, size[2], main, accent, shoulder=1.0)
    if opened:
        body.colours[(body.normals[:, 2] > 0.5) & (np.hypot(*body.vertices[:, :2].T) < 0.9 * radius)] = _INSIDE
    chip = lathe([(0, 0), (0.026, 0.004), (0.026, 0.004), (0, 0.006)], [(0.90, 0.75, 0.35, 0.0)] * 4, 12)
    upright = chip.moved(about("x", np.pi / 2), (0, 0, 0.01))
    return body, _cap(1.03 * radius, 0.014, np.append(accent[:3] * 0.6, _PLASTIC)), upright


_BUILDERS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, bool], _Parts]] = {
    "book": _book,
    "espresso": _capsule_box,
    "lotion": _bottle,
    "spray": _spray,
    "milk": _milk,
    "cocoa": _carton,
    "chips": _chips,
    "cappuccino": _carton,
}


def _banded(radius: float, height: float, main: np.ndarray, accent: np.ndarray, shoulder: float) -> Mesh:
    """A cylinder with a band in the accent colour; ``shoulder`` is the top's radius relative to the body's."""
    main, accent = np.append(main[:3], _PLASTIC), np.append(accent[:3], _PLASTIC)
    # Radius and height as shares of the body's; a place named twice is a sharp edge or a change of colour.
    lower: list[tuple[float, float]] = [(0, 0), (1, 0), (1, 0), (1, 0.2)]
    band: list[tuple[float, float]] = [(1, 0.2), (1, 0.4), (1, 0.6)]
    upper: list[tuple[float, float]] = [(1, 0.6), (1, 0.9), (1, 0.9)] if shoulder < 1 else [(1, 0.6)]
    upper += [(shoulder, 1), (shoulder, 1), (0.85 * shoulder, 1), (0, 1)]
    profile, colours = [*lower, *band, *upper], [*[main] * len(lower), *[accent] * len(band), *[main] * len(upper)]
    return lathe(np.array(profile) * [radius, height], colours, 18)


def _cap(radius: float, height: float, colour: np.ndarray) -> Mesh:
    profile = [(0, 0), (radius, 0), (radius, 0), (0.96 * radius, height), (0.96 * radius, height), (0, height)]
    return lathe(profile, [colour] * len(profile), 14)


def _labelled(thing: Thing, accent: np.ndarray, rng: np.random.Generator) -> Mesh:
    """The body with a soft-edged patch of a third colour around it or on its broad sides, and a second stripe."""
    body, colour = thing.body, rng.uniform(0.1, 0.95, 3)
    if thing.noun == "book" and (body.normals[:, 2] > 0.5).sum() > 150:
        return body
    place = body.vertices / (2 * thing.half_m)
    middle, extent = rng.uniform(0.35, 0.65), rng.uniform(0.08, 0.18)
    if thing.noun == "book":
        radius = np.hypot(place[:, 0] - rng.uniform(-0.1, 0.1), 1.4 * (place[:, 1] - rng.uniform(-0.2, 0.2)))
        mask = smooth_step((extent + 0.1 - radius) / 0.12) * (np.abs(body.normals[:, 2]) > 0.5)
    else:
        angle = np.abs((np.arctan2(place[:, 1], place[:, 0]) - rng.uniform(-3, 0) + np.pi) % (2 * np.pi) - np.pi)
        mask = smooth_step((extent - np.abs(place[:, 2] - middle)) / 0.06) * smooth_step((1.1 - angle) / 0.3)
        mask *= np.abs(body.normals[:, 2]) < 0.5
    colours = body.colours.copy()
    colours[:, :3] += mask[:, None] * (colour - colours[:, :3])
    if not thing.round and thing.noun != "book":
        stripe = np.abs(place[:, 2] - rng.choice([0.0, 0.85])) < 0.17
        colours[stripe & (np.abs(body.normals[:, 2]) < 0.5), :3] = accent[:3]
    return replace(body, colours=colours)
