import numpy as np
import pytest

from htt.hand import BONES, JOINTS_PER_HAND
from htt.scene.hand.mesh import hand_mesh
from htt.scene.hand.posed import FINGER_DIRECTION, PALM_NORMAL, Hand, finger_angles
from htt.scene.hand.skeleton import LENGTHS_MM, REST_ANGLES, HandShape, bend
from htt.scene.hand.surface_nets import surface_nets
from htt.scene.things.mesh import box, lathe

SHAPE, COARSE = HandShape(), 1.35


@pytest.fixture(scope="module", params=["left", "right"])
def hand(request):
    return Hand(request.param, SHAPE, 1.0, COARSE)


def still(hand, closure, rotation=None):
    closure = np.atleast_2d(closure)
    rotation = np.eye(3) if rotation is None else rotation
    turned = np.tile(rotation, (len(closure), 1, 1))
    return hand.pose(turned, np.zeros((len(closure), 3)), finger_angles(closure, 0.5, 0.5))


def volume(vertices, faces):
    a, b, c = vertices[faces].swapaxes(0, 1)
    return np.einsum("fc,fc->", a, np.cross(b, c)) / 6


def test_surface_nets_finds_a_sphere():
    axes = [np.linspace(-1.5, 1.5, 31)] * 3
    values = np.linalg.norm(np.stack(np.meshgrid(*axes, indexing="ij"), -1), axis=-1) - 1
    vertices, quads = surface_nets(values, axes)
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), 1.0, atol=0.02)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    assert volume(vertices, triangles) == pytest.approx(4 / 3 * np.pi, rel=0.03)


@pytest.mark.parametrize(
    "mesh", [box((1, 2, 3), (0, 0, 0, 0), 3), lathe([(0, 0), (1, 0), (1, 2), (0, 2)], np.zeros((4, 4)))]
)
def test_box_and_lathe_normals_point_outward(mesh):
    assert volume(mesh.vertices, mesh.faces) > 5
    a, b, c = mesh.vertices[mesh.faces].swapaxes(0, 1)
    across = np.cross(b - a, c - a)
    assert (np.einsum("fc,fc->f", across, mesh.normals[mesh.faces].mean(axis=1)) >= -1e-9).all()


def test_bend_keeps_lengths_of_straight_fingers():
    frames, joints = bend(SHAPE, np.zeros((1, 5, 4)))
    assert frames.shape == (1, 5, 3, 3, 3)
    fingers = joints[0, 1:].reshape(5, 4, 3)
    np.testing.assert_allclose(np.linalg.norm(np.diff(fingers, axis=1), axis=-1), LENGTHS_MM)
    np.testing.assert_allclose(np.linalg.norm(fingers[:, 3] - fingers[:, 0], axis=-1), LENGTHS_MM.sum(axis=1))


def test_hand_mesh_has_plausible_volume_and_normalised_weights():
    mesh = hand_mesh(SHAPE, COARSE)
    np.testing.assert_allclose(mesh.weights.sum(axis=1), 1.0)
    assert (mesh.weights >= 0).all()
    assert ((mesh.weights > 0).sum(axis=1) <= 4).all()
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1.0)
    assert 2e5 < volume(mesh.vertices, mesh.faces) < 8e5, "a hand with half a forearm is 0.2 to 0.8 litres"


def test_skin_of_rest_pose_equals_mesh(hand):
    pose = hand.pose(np.eye(3)[None], hand.palm_m[None], REST_ANGLES[None])
    mirror = [-1 if hand.side == "left" else 1, 1, 1]
    np.testing.assert_allclose(hand.skin(pose)[0][0], hand_mesh(SHAPE, COARSE).vertices / 1000 * mirror, atol=1e-5)


def test_skin_surrounds_joints(hand):
    pose = still(hand, np.full(5, 0.3))
    vertices = hand.skin(pose)[0][0]
    gap = np.linalg.norm(vertices[:, None] - pose.joints_m[0], axis=-1).min(axis=0)
    assert (gap < 0.035).all()
    tips = [4, 8, 12, 16, 20]
    assert (gap[tips] < 0.010).all(), "a tip is on the skin"


def test_pose_closes_fingers_with_constant_bone_lengths(hand):
    pose = still(hand, [[0.0] * 5, [0.9] * 5])
    length = np.stack([np.linalg.norm(pose.joints_m[:, b] - pose.joints_m[:, a], axis=-1) for a, b in BONES])
    np.testing.assert_allclose(length[:, 0], length[:, 1])
    reach = np.linalg.norm(pose.joints_m[:, 8::4] - pose.joints_m[:, :1], axis=-1)
    assert (reach[1] < 0.75 * reach[0]).all()


def test_orientation_directs_palm_and_fingers(hand):
    rotation = hand.orientation([0, 0, -2], [0.5, 1, 3])
    np.testing.assert_allclose(rotation @ PALM_NORMAL, [0, 0, -1], atol=1e-12)
    np.testing.assert_allclose(rotation @ FINGER_DIRECTION, np.array([0.5, 1, 0]) / np.hypot(0.5, 1), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_left_hand_mirrors_right_hand():
    left, right = (still(Hand(side, SHAPE, 1.0, COARSE), np.full(5, 0.4)).joints_m[0] for side in ("left", "right"))
    np.testing.assert_allclose(left * [-1, 1, 1], right, atol=1e-12)
    assert right.shape == (JOINTS_PER_HAND, 3)
    assert right[1, 0] < right[17, 0], "a right palm facing down has its thumb on the left"


def test_pose_turns_forearm_towards_elbow(hand):
    elbow = np.array([0.2, -0.3, -0.1])
    pose = hand.pose(np.eye(3)[None], np.zeros((1, 3)), finger_angles(np.zeros((1, 5)), 0, 0), elbow)
    towards = elbow - pose.joints_m[0, 0]
    np.testing.assert_allclose(-pose.rotations[0, 16][:, 1], towards / np.linalg.norm(towards), atol=1e-9)
