import numpy as np
import pytest

from htt.scene.hand.posed import Hand
from htt.scene.hand.skeleton import HandShape
from htt.scene.motion import grasp, programs
from htt.scene.motion.play import play, track
from htt.scene.things import objects
from htt.vocabulary import ACTIONS, OBJECTS, VERB_AND_NOUN

HANDS = tuple(Hand(side, HandShape(), 1.0, 1.6) for side in ("left", "right"))


def perform(verb, noun, seed=3, frames=24):
    script, backwards = programs.program(verb, noun)
    thing = objects.make(noun, np.random.default_rng(seed), script.opened)
    return play(script, backwards, thing, HANDS, frames, np.random.default_rng(seed))


def test_actions_are_in_the_order_of_h2o():
    assert len(ACTIONS) == len(set(ACTIONS)) == 36
    known = {1: "grab book", 5: "grab milk", 9: "place book", 17: "open lotion", 22: "close chips", 23: "pour milk"}
    known |= {24: "take out espresso", 28: "put in espresso", 31: "apply lotion", 32: "apply spray", 33: "read book"}
    known |= {34: "read espresso", 35: "spray spray", 36: "squeeze lotion"}
    assert {number: ACTIONS[number - 1] for number in known} == known
    assert OBJECTS == ("book", "espresso", "lotion", "spray", "milk", "cocoa", "chips", "cappuccino")


@pytest.mark.parametrize(("verb", "noun"), VERB_AND_NOUN)
def test_program_tracks_run_from_0_to_1(verb, noun):
    script, _ = programs.program(verb, noun)
    tracks = [script.position, script.tilt, script.slide, script.turn, script.carry]
    tracks += [track for role in (script.lead, script.support) for track in (role.reach, role.close)]
    for keys in tracks:
        times = [time for time, _ in keys]
        assert times == sorted(times)
        assert (times[0], times[-1]) == (0, 1)


def test_track_reaches_keys_and_their_midpoints():
    keys = ((0.0, (0.0, 2.0)), (0.5, (1.0, 2.0)), (1.0, (1.0, 0.0)))
    np.testing.assert_allclose(
        track(keys, np.array([0.0, 0.25, 0.5, 0.75, 1.0])), [(0, 2), (0.5, 2), (1, 2), (1, 1), (1, 0)]
    )


@pytest.mark.parametrize(("undoing", "doing", "noun"), [("place", "grab", "milk"), ("close", "open", "lotion")])
def test_play_reverses_motion_for_opposite_verbs(undoing, doing, noun):
    forward, backward = perform(doing, noun).thing.position_m, perform(undoing, noun).thing.position_m
    np.testing.assert_allclose(forward[-1], backward[0], atol=0.02)
    np.testing.assert_allclose(forward[0], backward[-1], atol=0.02)


def test_play_lifts_grabbed_object_in_the_hand():
    done = perform("grab", "chips")
    assert done.thing.position_m[0, 2] == pytest.approx(0)
    assert done.thing.position_m[-1, 2] > 0.03
    gap = np.linalg.norm(done.right.palm.position_m - done.thing.position_m, axis=1)
    assert gap[-1] < 0.16 < gap[0]


def test_mirrored_swaps_hands_and_flips_x():
    right = perform("pour", "milk")
    left = right.mirrored()
    np.testing.assert_allclose(left.left.palm.position_m * [-1, 1, 1], right.right.palm.position_m)
    np.testing.assert_allclose(left.thing.position_m[:, 0], -right.thing.position_m[:, 0])
    np.testing.assert_allclose(np.linalg.det(left.right.palm.rotation), 1.0)


def test_distance_to_box_and_cylinder():
    carton = objects.Thing("cocoa", None, None, None, np.array([0.03, 0.02, 0.05]), False)
    points = np.array([(0, 0, 0.05), (0.05, 0, 0.05), (0.03, 0.02, 0.2), (0.06, 0.06, 0.05)])
    np.testing.assert_allclose(carton.distance(points), [-0.02, 0.02, 0.1, 0.05])
    np.testing.assert_allclose(objects.knob(0.02, 0.1).distance(points[:2]), [-0.02, 0.03])


@pytest.mark.parametrize("noun", OBJECTS)
def test_take_touches_object_without_penetration(noun):
    thing = objects.make(noun, np.random.default_rng(0))
    for hand in HANDS:
        grip = grasp.take(hand, thing, "edge" if noun == "book" else "side")
        assert thing.distance(grip.palm_m) > 0
        pose = hand.pose(grip.rotation[None], grip.palm_m[None], grip.angles(grip.closure[None]))
        tips = thing.distance(pose.joints_m[0, [4, 8, 12, 16, 20]])
        assert tips.min() > -0.012
        assert (tips < 0.03).sum() >= 2


@pytest.mark.parametrize("noun", OBJECTS)
def test_make_places_object_on_table_at_full_height(noun):
    thing = objects.make(noun, np.random.default_rng(1))
    low, high = thing.body.vertices.min(axis=0), thing.body.vertices.max(axis=0)
    assert low[2] == pytest.approx(0, abs=1e-6)
    assert high[2] >= thing.height_m - 1e-6
    np.testing.assert_allclose(np.linalg.norm(thing.body.normals, axis=1), 1.0, atol=1e-6)
    assert ((thing.body.colours >= 0) & (thing.body.colours <= 1)).all()
