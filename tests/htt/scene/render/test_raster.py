import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from htt.camera import intrinsics, project
from htt.scene.render.raster import rasterise

WIDTH, HEIGHT = 8, 6
CAMERA = intrinsics(1.0, 1.0, 0.0, 0.0)
"""A point (u z, v z, z) lands on pixel place (u, v)."""


def place(pixels, depth):
    """Camera-space points above the given pixel places."""
    depth = np.broadcast_to(np.asarray(depth, float), len(pixels))
    return np.concatenate([np.asarray(pixels, float) * depth[:, None], depth[:, None]], axis=1)


def draw(points, faces):
    return rasterise(points, np.asarray(faces).T, CAMERA, WIDTH, HEIGHT)


def picture(seen):
    image = np.full(WIDTH * HEIGHT, -1)
    image[seen.pixel] = seen.face
    return image.reshape(HEIGHT, WIDTH)


def test_rasterise_covers_pixels_of_a_known_triangle():
    # Clockwise on the screen with y down is counter-clockwise seen from outside.
    seen = draw(place([(1, 1), (1, 4.5), (4.5, 1)], 2.0), [(0, 1, 2)])
    expected = np.full((HEIGHT, WIDTH), -1)
    for row, column in ((1, 1), (1, 2), (2, 1), (1, 3), (2, 2), (3, 1)):
        expected[row, column] = 0
    np.testing.assert_array_equal(picture(seen), expected)


def test_rasterise_skips_back_faces():
    assert len(draw(place([(1, 1), (4, 1), (1, 4)], 2.0), [(0, 1, 2)]).pixel) == 0


def test_rasterise_shows_nearer_triangle_in_any_order():
    corners = [(0, 0), (0, 6), (8, 0)]
    points = np.concatenate([place(corners, 3.0), place(corners, 1.0)])
    near = [(0, 1, 2), (3, 4, 5)]
    assert set(draw(points, near).face) == {1}
    assert set(draw(points, near[::-1]).face) == {0}


def test_rasterise_cuts_intersecting_triangles():
    corners = [(0, 0), (0, 6), (8, 0)]
    points = np.concatenate([place(corners, 2.0), place(corners, [1.0, 1.0, 5.0])])
    image = picture(draw(points, [(0, 1, 2), (3, 4, 5)]))
    assert image[0, 0] == 1
    assert image[0, 6] == 0


def test_rasterise_weights_are_perspective_correct():
    points = place([(0, 0), (0, 6), (8, 0)], [1.0, 2.0, 4.0])
    seen = draw(points, [(0, 1, 2)])
    np.testing.assert_allclose(seen.weights.sum(axis=1), 1.0, rtol=1e-5)
    surface = seen.weights @ points
    centres = np.stack([seen.pixel % WIDTH + 0.5, seen.pixel // WIDTH + 0.5], axis=1)
    np.testing.assert_allclose(project(surface, CAMERA), centres, atol=1e-4)


def test_rasterise_skips_triangles_out_of_view():
    behind = place([(1, 1), (1, 4), (4, 1)], 2.0) * [1, 1, -1]
    half = place([(1, 1), (1, 4), (4, 1)], [2.0, 2.0, -1.0])
    beside = place([(10, 1), (10, 4), (14, 1)], 2.0)
    for points in (behind, half, beside):
        assert len(draw(points, [(0, 1, 2)]).pixel) == 0


@given(st.lists(st.tuples(st.floats(-20, 28), st.floats(-20, 26)), min_size=3, max_size=3), st.floats(0.5, 5))
@settings(deadline=None)
def test_rasterise_covers_exactly_the_centres_inside(corners, depth):
    corners = np.array(corners)
    covered = picture(draw(place(corners, depth), [(0, 1, 2)])) == 0
    column, row = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    margins = []
    for start, end in ((0, 1), (1, 2), (2, 0)):
        edge = corners[end] - corners[start]
        side = edge[1] * (column - corners[start, 0]) - edge[0] * (row - corners[start, 1])
        margins.append(side / max(np.hypot(*edge), 1e-9))
    margin = np.min(margins, axis=0)
    # Within a hundredth of a pixel of an edge either answer is right.
    assert covered[margin > 0.01].all()
    assert not covered[margin < -0.01].any()
