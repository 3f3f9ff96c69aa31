"""People: shape of the hands, skin colour, leading hand and position of the head.

The number of people is limited because a hand mesh takes a tenth of a second to build; clothes differ in each clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from htt.scene.hand.posed import Hand
from htt.scene.hand.skeleton import HandShape
from htt.scene.things.mesh import Mesh, grid_faces

SUBJECTS = {"train": range(24), "val": range(100, 106), "test": range(200, 206)}
"""Numbers of the subjects of each split."""

_LEFT_HANDED_EVERY = 3
_TONES = ((0.93, 0.75, 0.65), (0.86, 0.64, 0.52), (0.72, 0.50, 0.38), (0.52, 0.35, 0.26), (0.36, 0.24, 0.18))
_EYE_M = np.array([0.0, -0.40, 0.50])
_SKIN_GLOSS, _CLOTH_GLOSS = 0.09, 0.0


@dataclass(frozen=True)
class Subject:
    """One person; ``number`` determines all other attributes.

    Attributes:
        number: Number of the person.
        shape: Shape of the hands.
        size: Scale of the hands, 1 for the adult mean.
        tone: [3] skin colour.
        eye_m: [3] mean position of the head camera (world).
        left_handed: Whether the left hand is the leading hand.
    """

    number: int
    shape: HandShape
    size: float
    tone: np.ndarray
    eye_m: np.ndarray
    left_handed: bool

    def hands(self, coarseness: float) -> tuple[Hand, Hand]:
        """Return the left and the right hand."""
        return (
            Hand("left", self.shape, self.size, coarseness),
            Hand("right", self.shape, self.size, coarseness),
        )


def subject(number: int) -> Subject:
    """Return the person with this number."""
    rng = np.random.default_rng([7, number])
    lengths = rng.uniform(0.92, 1.08) * rng.uniform(0.97, 1.03, 5)
    shape = HandShape(tuple(lengths.tolist()), girth=rng.uniform(0.9, 1.1), palm=rng.uniform(0.94, 1.06))
    size = rng.uniform(0.88, 1.10)
    colour = tone(rng)
    eye = _EYE_M + rng.uniform(-0.04, 0.04, 3)
    return Subject(number, shape, size, colour, eye, left_handed=number % _LEFT_HANDED_EVERY == 2)


def tone(rng: np.random.Generator) -> np.ndarray:
    """Return a skin colour [3] drawn from ``rng``."""
    colour: np.ndarray = np.clip(np.array(_TONES[rng.integers(len(_TONES))]) * rng.uniform(0.95, 1.05), 0, 1)
    return colour


@dataclass(frozen=True)
class Clothes:
    """Clothes on the forearms in one clip; ``sleeve`` [3] is a colour, or None for bare arms."""

    sleeve: np.ndarray | None


def dress(rng: np.random.Generator) -> Clothes:
    """Return clothes drawn from ``rng``."""
    colour = rng.uniform(0.08, 0.8, 3)
    colour += (colour.mean() - colour) * rng.uniform(0.2, 0.8)
    return Clothes(None if rng.random() < 0.3 else colour)


def arm(hand: Hand, tone: np.ndarray, clothes: Clothes, rng: np.random.Generator) -> Mesh:
    """Return a tube along the forearm (origin at the wrist, towards -y): a sleeve, or the upper part of a bare arm."""
    bare = clothes.sleeve is None
    begins = (0.075, 0.085, 0.10, 0.14) if bare else (0.060, 0.060, 0.064, 0.10)
    along = np.array([*begins, 0.18, 0.23, 0.29, 0.36, 0.45, 0.60, 0.80])
    thin, thick = 0.0255 * (0.5 + 0.5 * hand.shape.palm), 0.033
    radius = np.minimum(thin + (thick - thin) * (along - 0.010) / 0.085, 1.2 * thick) * hand.shape.girth * hand.size
    # The first ring lies inside the forearm, so that no gap shows.
    wider = (-0.003, -0.0012, -0.0004, -0.0004) if bare else (-0.004, 0.0045, 0.006, 0.006)
    radius += np.array([*wider, *np.full(len(along) - 4, 0.0 if bare else 0.008)])
    around = 14
    angle = np.arange(around + 1) * 2 * np.pi / around
    ring = np.stack([np.cos(angle), np.zeros_like(angle), 0.77 * np.sin(angle)], axis=1)
    folds = np.ones((len(along), around + 1))
    if not bare:
        folds[3:] += 0.07 * np.sin(3 * angle + 40 * along[3:, None] + rng.uniform(0, 6)) * np.cos(60 * along[3:, None])
    vertices = ring * (radius[:, None] * folds)[..., None]
    vertices[..., 1] = -along[:, None] * hand.size
    outward = np.stack([np.cos(angle), np.zeros_like(angle), np.sin(angle) / 0.77], axis=1)
    normals = np.tile(outward / np.linalg.norm(outward, axis=1, keepdims=True), (len(along), 1))
    colour = tone * 0.93 if clothes.sleeve is None else clothes.sleeve
    shade = (folds - 1.0).ravel() * 3.0 + 1.0 + 0.02 * rng.standard_normal(len(normals))
    colours = np.concatenate([np.clip(colour * shade[:, None], 0, 1), np.zeros((len(normals), 1))], axis=1)
    colours[:, 3] = _SKIN_GLOSS if bare else _CLOTH_GLOSS
    return Mesh(vertices.reshape(-1, 3), normals, grid_faces(len(along), around + 1), colours)


def skin(colours: np.ndarray) -> np.ndarray:
    """Return skin colours [v 3] with the gloss of skin appended, [v 4]."""
    return np.concatenate([colours, np.full((len(colours), 1), _SKIN_GLOSS)], axis=1)
