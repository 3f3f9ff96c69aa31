"""Assembly of a clip's scene: all vertices, cameras and joints, from the seed of its plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from htt.hand import HANDS
from htt.scene.camera import head
from htt.scene.hand import skin as hand_skin
from htt.scene.hand.posed import Hand, HandPose
from htt.scene.motion.play import HandPath, Path, Performance, play
from htt.scene.motion.programs import Program, program
from htt.scene.passer import reach_across
from htt.scene.render.room import Room, make_room
from htt.scene.render.shading import Camera
from htt.scene.render.shadow import Caster
from htt.scene.rotations import about
from htt.scene.subject import Clothes, Subject, arm, dress, skin, subject, tone
from htt.scene.things import objects
from htt.scene.things.mesh import Mesh, merged
from htt.vocabulary import OBJECTS, VERB_AND_NOUN

PARTS = (*HANDS, "arms", "thing", "clutter", "passer")
"""Parts of the scene to which vertices belong; ``Stage.part`` holds indices into this tuple."""

_STREAMS = ("room", "object", "motion", "head", "clutter", "clothes", "passer")
_CLUTTER_APART_M = 0.13


@dataclass(frozen=True)
class Stage:
    """Geometry of a clip, ready for rendering.

    Attributes:
        vertices_m: [t v 3] float32, world.
        normals: [t v 3] float32, world, of any length.
        faces: [3 f] vertex indices.
        colours: [v 4] float32, RGB and gloss.
        part: [v] index into PARTS.
        caster: Points that cast shadows on the table.
        cameras: One camera per frame.
        joints_m: [t 42 3] camera space.
        hand_types: [t 2] index into HAND_TYPES of the left and the right hand.
        room: Surroundings and light.
    """

    vertices_m: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    part: np.ndarray
    caster: Caster
    cameras: list[Camera]
    joints_m: np.ndarray
    hand_types: np.ndarray
    room: Room


@dataclass(frozen=True)
class _Actor:
    """A mesh in all frames: vertices and normals [t v 3], faces [f 3], colours [v 4], and its part (one of PARTS)."""

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    part: str


def set_stage(
    action: int,
    subject_number: int,
    seed: int,
    frames: int,
    width: int,
    height: int,
    new_objects: bool = False,
    focal: float = head.FOCAL,
    distance: float = 1.0,
) -> Stage:
    """Return the stage of a clip, fully determined by the arguments.

    Args:
        action: Index into ACTIONS.
        subject_number: Number of the person, see ``htt.scene.subject.SUBJECTS``.
        seed: Seed of room, motion, head path, clutter, clothes, the other person's arm and new objects, each with its
            own random stream.
        frames: Number of frames of the clip.
        width: Width of the image, px.
        height: Height of the image, px.
        new_objects: Whether the objects are drawn from the seed; otherwise they are those that all clips share.
        focal: Focal length of the camera in image widths.
        distance: Distance of the camera from the work, as a multiple of the usual distance.
    """
    streams = {name: np.random.default_rng([seed, number]) for number, name in enumerate(_STREAMS)}
    person, room = subject(subject_number), make_room(streams["room"])
    verb, noun = VERB_AND_NOUN[action]
    script, backwards = program(verb, noun)
    thing = objects.make(noun, streams["object"] if new_objects else objects.shared(noun), script.opened)
    hands = person.hands(_coarseness(width))
    performance = play(script, backwards, thing, hands, frames, streams["motion"])
    if person.left_handed:
        performance = performance.mirrored()
    clothes = dress(streams["clothes"])
    actors, joints = _people(hands, performance, person, clothes, streams["clothes"])
    actors += _things(script, thing, performance)
    still = _still(_clutter(noun, script, performance, streams["clutter"], new_objects), frames)
    actors += _passer(hands, backwards, frames, streams["passer"])
    cameras = head.cameras(person.eye_m, frames, width, height, streams["head"], focal, distance)
    if backwards:
        cameras.reverse()
    types = np.stack([performance.left.type, performance.right.type], axis=1)
    return _assemble([*actors, still], joints, types, cameras, room, first=frames - 1 if backwards else 0)


def _coarseness(width: int) -> float:
    """Return the coarseness of the hand meshes at which triangles are about as large as two pixels."""
    return 1.35 if width <= 160 else 1.0


def _people(
    hands: tuple[Hand, Hand],
    performance: Performance,
    person: Subject,
    clothes: Clothes,
    rng: np.random.Generator,
) -> tuple[list[_Actor], np.ndarray]:
    """Return the hands and arms, and the joints [t 42 3] in the world frame."""
    actors, joints = [], []
    for hand, path in zip(hands, (performance.left, performance.right), strict=True):
        pose = _posed(hand, path)
        colours = skin(hand_skin.colours(hand.tints, person.tone, rng))
        actors.append(_Actor(*hand.skin(pose), hand.faces, colours, hand.side))
        forearm = Path(pose.rotations[:, hand_skin.FOREARM], pose.joints_m[:, 0])
        actors.append(_carried(arm(hand, person.tone, clothes, rng), forearm, "arms"))
        joints.append(pose.joints_m)
    return actors, np.concatenate(joints, axis=1)


def _passer(hands: tuple[Hand, Hand], backwards: bool, frames: int, rng: np.random.Generator) -> list[_Actor]:
    """Return hand and arm of another person who reaches across, with own skin colour and clothes, if there is one."""
    coming = reach_across(hands, frames, rng)
    if coming is None:
        return []
    hand, pose = coming
    pose = pose.reversed() if backwards else pose
    colour, clothes = tone(rng), dress(rng)
    skinned = _Actor(*hand.skin(pose), hand.faces, skin(hand_skin.colours(hand.tints, colour, rng)), "passer")
    forearm = Path(pose.rotations[:, hand_skin.FOREARM], pose.joints_m[:, 0])
    return [skinned, _carried(arm(hand, colour, clothes, rng), forearm, "passer")]


def _posed(hand: Hand, path: HandPath) -> HandPose:
    return hand.pose(path.palm.rotation, path.palm.position_m, path.angles, path.elbow_m)


def _things(script: Program, thing: objects.Thing, performance: Performance) -> list[_Actor]:
    actors = [_carried(thing.body, performance.thing, "thing")]
    part = thing.item if script.part == "item" else None if script.opened and not script.part else thing.lid
    if part is not None:
        actors.append(_carried(part, performance.part, "thing"))
    return actors


def _carried(mesh: Mesh, path: Path, part: str) -> _Actor:
    """Return a rigid mesh moved along a path."""
    turn = np.swapaxes(path.rotation, -1, -2)
    vertices, normals = mesh.vertices @ turn + path.position_m[:, None], mesh.normals @ turn
    return _Actor(vertices.astype(np.float32), normals.astype(np.float32), mesh.faces, mesh.colours, part)


def _still(mesh: Mesh | None, frames: int) -> _Actor:
    if mesh is None:
        empty = np.zeros((0, 3))
        mesh = Mesh(empty, empty, empty.astype(int), np.zeros((0, 4)))
    return _carried(mesh, Path(np.tile(np.eye(3), (frames, 1, 1)), np.zeros((frames, 3))), "clutter")


def _clutter(
    noun: str, script: Program, performance: Performance, rng: np.random.Generator, new_objects: bool
) -> Mesh | None:
    """Return the other objects on the table, placed apart, and the cup if needed; None if there are none."""
    meshes, taken = [], [performance.thing.position_m[0, :2], performance.thing.position_m[-1, :2]]
    if script.cup:
        meshes.append(objects.cup(rng).moved(np.eye(3), performance.cup_m))
        taken.append(performance.cup_m[:2])
    others = [other for other in OBJECTS if other != noun]
    for other in rng.permutation(others)[: rng.integers(0, 3)]:
        position = np.array([rng.choice([-1, 1]) * rng.uniform(0.17, 0.38), rng.uniform(0.08, 0.40)])
        thing = objects.make(str(other), rng if new_objects else objects.shared(str(other)))
        mesh = _dressed_body(thing).moved(about("z", rng.uniform(0, 2 * np.pi)), [*position, 0])
        if all(np.hypot(*(position - where)) > _CLUTTER_APART_M for where in taken):
            meshes.append(mesh)
            taken.append(position)
    return merged(meshes) if meshes else None


def _dressed_body(thing: objects.Thing) -> Mesh:
    """Return the mesh of a closed thing: the body with its lid, if it has one."""
    if thing.lid is None:
        return thing.body
    return merged([thing.body, thing.lid.moved(np.eye(3), (0, 0, thing.height_m))])


def _assemble(
    actors: list[_Actor],
    joints_world: np.ndarray,
    hand_types: np.ndarray,
    cameras: list[Camera],
    room: Room,
    first: int,
) -> Stage:
    """Return the stage; points that cast shadows are distributed over the surfaces in the frame ``first``."""
    counts = [actor.vertices.shape[1] for actor in actors]
    offsets = np.cumsum([0, *counts[:-1]])
    vertices = np.concatenate([actor.vertices for actor in actors], axis=1)
    faces = np.concatenate([actor.faces + offset for actor, offset in zip(actors, offsets, strict=True)])
    faces = np.ascontiguousarray(faces.T)
    part = np.repeat([PARTS.index(actor.part) for actor in actors], counts)
    joints = [camera.view(points) for camera, points in zip(cameras, joints_world, strict=True)]
    return Stage(
        vertices_m=vertices,
        normals=np.concatenate([actor.normals for actor in actors], axis=1),
        faces=faces,
        colours=np.concatenate([actor.colours for actor in actors]).astype(np.float32),
        part=part,
        caster=Caster.over(vertices[first], faces),
        cameras=cameras,
        joints_m=np.stack(joints),
        hand_types=hand_types,
        room=room,
    )
