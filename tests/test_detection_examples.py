"""The examples of the face detector and of the person mask: both are rebuilt rightly, and their pictures fit."""

import importlib
import pathlib
import sys

import keras
import numpy as np
import pytest
from conftest import value_of

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"
# What jax.jit makes of the face detector on a CPU is wrong; the explainers compile.
compiles_rightly = pytest.mark.skipif(keras.backend.backend() == "jax", reason="jax.jit computes BlazeFace wrongly")


def loaded(folder, script):
    """Yields a script of an example as a module; other examples have a `network.py` too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES / folder))
        for name in ("network", script):
            patch.delitem(sys.modules, name, raising=False)
        yield importlib.import_module(script)
        for name in ("network", script):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def faces():
    yield from loaded("detection", "where_it_looks")


@pytest.fixture(scope="module")
def detection(faces):
    yield from loaded("detection", "network")


@pytest.fixture(scope="module")
def edges():
    yield from loaded("segmentation", "what_decides_the_edge")


@pytest.fixture(scope="module")
def segmentation(edges):
    yield from loaded("segmentation", "network")


@pytest.fixture(scope="module")
def detector(detection):
    return detection.blazeface()


@pytest.fixture(scope="module")
def photos(detection):
    return detection.load_photos()


def test_the_face_is_found_where_it_is_and_no_other(detection, detector, photos):
    assert detector.count_params() == 101_390
    *others, (face,) = detection.find_faces(detector, detection.prepare(photos))
    assert others == [[], [], []]
    assert abs(face["score"] - 0.889) < 1e-3 and face["rows"] == 11
    np.testing.assert_allclose(face["box"], [0.324, 0.195, 0.712, 0.583], atol=1e-3)
    points = dict(zip(detection.POINTS, face["points"]))
    assert points["right eye"][0] < points["nose"][0] < points["left eye"][0]  # of the person, who looks at us
    assert points["left eye"][1] < points["nose"][1] < points["mouth"][1] < 0.5
    nearly = [detection.find_faces(detector, detection.prepare(photos[[i]]), least=0.1)[0][0] for i in range(3)]
    np.testing.assert_allclose([one["score"] for one in nearly], [0.490, 0.291, 0.165], atol=2e-3)


def test_anchors_are_in_the_order_of_the_outputs(detection):
    anchors = detection.ANCHORS
    assert anchors.shape == (896, 2)
    np.testing.assert_allclose(anchors[[0, 1, 2, 32]] * 16, [[0.5, 0.5], [0.5, 0.5], [1.5, 0.5], [0.5, 1.5]])
    np.testing.assert_allclose(anchors[[512, 517, 518, 560]] * 8, [[0.5, 0.5], [0.5, 0.5], [1.5, 0.5], [0.5, 1.5]])


def test_boxes_are_decoded_as_the_listing_says(detection):
    numbers = np.zeros((1, 896, 16), "float32")
    numbers[0, 600, :4] = 12.8, -6.4, 25.6, 64
    boxes, scores = detection.decode({"boxes": keras.ops.convert_to_tensor(numbers), "scores": np.zeros((1, 896, 1))})
    x, y = detection.ANCHORS[600] + [0.1, -0.05]
    np.testing.assert_allclose(value_of(boxes)[0, 600], [x - 0.1, y - 0.25, x + 0.1, y + 0.25], atol=1e-6)
    assert (value_of(scores) == 0.5).all()


def test_rows_that_overlap_are_merged_by_their_scores(detection):
    boxes = np.array([[0, 0, 0.4, 0.4], [0.1, 0, 0.5, 0.4], [0.6, 0.6, 0.9, 0.9], [0, 0, 1, 1]])
    scores, points = np.array([0.6, 0.9, 0.7, 0.3]), np.zeros((4, 6, 2))
    first, second = detection._merged(boxes, scores, points, 0.5, 0.3)
    np.testing.assert_allclose(first["box"], 0.6 * boxes[0] + 0.4 * boxes[0] + [0.06, 0, 0.06, 0], atol=1e-6)
    assert first["score"] == 0.9 and first["rows"] == 2 and second["rows"] == 1


def test_the_likeness_is_that_of_the_target(faces, detection, detector, photos):
    boxes = np.array([faces.HAT, [0.1, 0.1, 0.8, 0.8]], "float32")
    got = faces.likeness(detector, photos[[3, 0]], boxes).prod(axis=1)
    target = faces.Box(boxes, 0, detection.decode)
    expected = target.score(detector(detection.prepare(photos[[3, 0]])))
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_the_face_is_found_by_all_of_itself_and_not_by_the_hat(faces, detection, detector, photos):
    """What the pictures say: no part of the face is needed, the whole is; the hat is no face, and the cat nearly is."""
    rows = faces.boxes_to_explain(detector, photos[[3, 0]])
    (_, _, face, points), (_, _, hat, _), (words, *_) = rows
    assert words == "nearly a face: 0.49"
    masks = faces.parts(points)
    hidden = np.stack([np.where(mask[..., None], faces.GREY, photos[3]) for mask in masks.values()])
    left = dict(zip(masks, faces.likeness(detector, hidden, np.stack([face] * len(masks))).prod(axis=1)))
    assert left["nothing"] > 0.8 and left["the face"] < 0.1
    assert min(left[part] for part in ("the nose", "the mouth", "both eyes", "the ears", "the hat", "the flag")) > 0.7
    assert 0.2 < left["eyes, nose and mouth"] < 0.5 and left["all but the face"] > 0.8
    shared, score = faces.likeness(detector, photos[[3]], hat[None])[0]
    assert shared < 0.1 and score > 0.7  # the face below


@compiles_rightly
def test_d_rise_looks_at_the_face(faces, detector, photos, detection):
    box = detection.find_faces(detector, detection.prepare(photos[[3]]))[0][0]["box"]
    values = dict(faces.explain(detector, detection.prepare(photos[[3]]), box[None], 400, 16))
    inside = np.zeros((128, 128), bool)
    left, top, right, bottom = (box * 128).astype(int)
    inside[top:bottom, left:right] = True
    for title, least in (("D-RISE", 0.01), ("occlusion, 32 pixels", 0.1)):
        (found,) = values[title]
        assert found[inside].mean() > found[~inside].mean() + least, title


def test_colours_and_frames(faces):
    photo = np.full((1, 3, 3), 128, "uint8")
    blue, grey, red = faces.coloured(photo, np.array([[-1.0, 0, 1]]))[0]
    assert blue[2] > blue[0] and red[0] > red[2]
    np.testing.assert_allclose(grey, 128 / 255)


@pytest.fixture(scope="module")
def segmenter(segmentation):
    return segmentation.selfie_segmentation()


def test_the_person_is_marked(segmentation, segmenter):
    assert segmenter.count_params() == 106_401
    masks = value_of(segmenter(segmentation.prepare(segmentation.load_photos())))[..., 0]
    np.testing.assert_allclose((masks > 0.5).mean(axis=(1, 2)), [0.02, 0.72, 0.00, 0.59], atol=6e-3)
    officer = masks[3] > 0.5
    assert officer[20:120, 90:170].mean() > 0.98 and officer[200:, 50:200].all()
    assert not officer[:150, 215:].any() and not officer[:150, :40].any()


def test_bands_follow_the_edge(edges):
    marked = np.zeros((256, 256), bool)
    marked[40:, 60:200] = True
    np.testing.assert_array_equal(edges.edge_of(marked)[38:43, 100], [False, False, True, False, False])
    assert not edges.edge_of(marked)[255, 100]  # the end of the picture is no edge
    bands = edges.bands(marked)
    rows, columns = np.nonzero(bands["the hat"])
    assert set(rows[columns == 100]) == set(range(37, 44))
    assert bands["the cheek"][100, 199] and not bands["the cheek"][100, 60]
    assert bands["the sleeve by the flag"][200, 60] and bands["the sleeve by the sky"][200, 199]


def test_distances_and_reach(edges):
    mask = np.zeros((5, 9), bool)
    mask[2, 2:4] = True
    distances = edges.distance_to(mask)
    assert distances[2, 3] == 0 and distances[2, 8] == 5 and abs(distances[0, 0] - np.sqrt(8)) < 1e-9
    values = np.zeros((5, 9))
    values[2, 2], values[2, 8] = 1, -3
    np.testing.assert_allclose(edges.reach(values, distances, [0, 4, 5]), [0.25, 0.25, 1])


def test_cells_hold_the_sums_of_their_pixels(edges):
    maps = np.zeros((1, 16, 16))
    maps[0, 3, 9], maps[0, 5, 10] = 2, -0.5
    cells = edges.in_cells(maps)
    assert (cells[0, :8, 8:] == 1.5).all() and cells.sum() == 1.5 * 64


def test_only_what_is_near_moves_the_edge(edges, segmentation, segmenter):
    """What the picture says: hiding the face does not move the edge of a sleeve, hiding the sleeve does."""
    photo = segmentation.load_photos(["officer"])[0]
    hidden = np.stack([photo] * 3)
    hidden[1, 60:140, 90:180] = photo.mean(axis=(0, 1))  # the face
    hidden[2, 165:235, 0:40] = photo.mean(axis=(0, 1))  # where the sleeve ends
    probabilities = value_of(segmenter(segmentation.prepare(hidden)))[..., 0]
    band = edges.bands(probabilities[0] > 0.5)["the sleeve by the flag"]
    whole, face, sleeve = probabilities[:, band].mean(axis=1)
    assert abs(whole - face) < 0.05 < abs(whole - sleeve)


@pytest.mark.slow
@pytest.mark.parametrize(
    "folder, names", [("detection", ["faces.png", "hidden.png"]), ("segmentation", ["edge.png", "reach.png"])]
)
def test_the_scripts_write_their_pictures(faces, edges, folder, names, tmp_path):
    if folder == "detection" and keras.backend.backend() == "jax":
        pytest.skip("jax.jit computes BlazeFace wrongly")
    {"detection": faces, "segmentation": edges}[folder].main(["--quick", "--output", str(tmp_path)])
    assert sorted(path.name for path in tmp_path.iterdir()) == names
