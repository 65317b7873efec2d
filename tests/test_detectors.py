"""The target for detectors: D-RISE's formula by hand, the place of what is planted, decodings, and what is refused."""

from contextlib import nullcontext

import keras
import numpy as np
import pytest
import zoo
from conftest import value_of
from keras import layers, ops
from zoo import hub

import vis
from vis.detectors import Anchors, corners, d_fine, retinanet
from vis.targets import Box, Target
from vis.utils.validation import VisualizationWarning

PROPOSALS, CLASSES = 7, 3


def detector(seed=0):
    """A random detector of inputs (6, 5, 2): boxes anywhere, class scores, and an objectness."""
    inputs = keras.Input((6, 5, 2))
    x = layers.Flatten()(layers.Conv2D(4, 3, activation="tanh", name="conv")(inputs))
    outputs = {
        "place": layers.Reshape((PROPOSALS, 4))(layers.Dense(PROPOSALS * 4)(x)),
        "kind": layers.Reshape((PROPOSALS, CLASSES))(layers.Dense(PROPOSALS * CLASSES)(x)),
        "any": layers.Dense(PROPOSALS)(x),
    }
    return zoo.set_weights(keras.Model(inputs, outputs)), zoo.draw(4, 6, 5, 2, seed=seed)


def decode(outputs):
    """Boxes that mostly lie on the image, of a width and a height above 0."""
    place = ops.sigmoid(outputs["place"])
    start, size = place[..., :2] - 0.2, 0.1 + 0.7 * place[..., 2:]
    boxes = ops.concatenate([start, start + size], axis=-1)
    return boxes, ops.sigmoid(outputs["kind"]), ops.sigmoid(outputs["any"])


def without_objectness(outputs):
    return decode(outputs)[:2]


def overlap(one, other):
    """The intersection over the union, in words of the paper: areas of rectangles."""
    one = np.clip(one, 0, 1)
    width = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def by_hand(outputs, boxes, classes, decoding=decode):
    """The maximum over the proposals of overlap x class x objectness, one by one."""
    parts = [value_of(part).astype("float64") for part in decoding(outputs)]
    objectness = parts[2] if len(parts) == 3 else np.ones(parts[0].shape[:2])
    found = []
    for i, (box, wanted) in enumerate(zip(boxes, classes)):
        values = []
        for place, scores, certain in zip(parts[0][i], parts[1][i], objectness[i]):
            kind = (
                scores[wanted]
                if np.ndim(wanted) == 0
                else np.dot(scores, wanted) / np.linalg.norm(scores) / np.linalg.norm(wanted)
            )
            values.append(overlap(place, box) * kind * certain)
        found.append(max(values))
    return np.array(found)


BOXES = np.array([[0.1, 0.2, 0.7, 0.9], [0.0, 0.0, 1.0, 1.0], [0.3, 0.1, 0.5, 0.8], [0.2, 0.6, 0.9, 1.0]], "float32")
WANTED = {"classes": [2, 0, 1, 1], "probabilities": np.abs(zoo.draw(4, CLASSES, seed=5)) + 0.1}


def scored(model, x, target):
    return target.score(model(x))


@pytest.mark.parametrize("decoding", [decode, without_objectness])
@pytest.mark.parametrize("wanted", WANTED)
def test_the_score_is_d_rises_similarity(wanted, decoding):
    model, x = detector()
    got = scored(model, x, Box(BOXES, WANTED[wanted], decoding))
    np.testing.assert_allclose(got, by_hand(model(x), BOXES, WANTED[wanted], decoding), rtol=1e-5)
    assert got.min() > 0.01 and len(set(got.round(4))) == 4


def test_one_box_and_class_may_stand_for_all():
    model, x = detector()
    expected = by_hand(model(x), BOXES[[0] * 4], [1] * 4)
    for box, kind in ((BOXES[0], 1), (BOXES[:1], [1]), (BOXES[0].tolist(), np.array([1, 1, 1, 1]))):
        np.testing.assert_allclose(scored(model, x, Box(box, kind, decode)), expected, rtol=1e-5)
    one_hot = np.eye(CLASSES)[1:2]
    expected = by_hand(model(x), BOXES[[0] * 4], one_hot[[0] * 4])
    np.testing.assert_allclose(scored(model, x, Box(BOXES[0], one_hot, decode)), expected, rtol=1e-5)


@pytest.mark.parametrize("wanted", WANTED)
def test_rise_of_a_box_is_d_rise(wanted):
    """Masks weighted by the similarity of what the detector says of the masked image."""
    model, x = detector()
    explainer, count = vis.RISE(model, num_masks=20, grid=3, seed=4), 20
    masks = np.stack([explainer._mask((6, 5), 4, number) for number in range(count)])
    expected = np.zeros((4, 6, 5))
    for mask in masks:
        scores = by_hand(model(x * mask[None, :, :, None]), BOXES, WANTED[wanted])
        expected += scores[:, None, None] * mask
    got = explainer(x, Box(BOXES, WANTED[wanted], decode))
    np.testing.assert_allclose(got, expected / (count * 0.5), rtol=1e-4, atol=1e-6)


CELLS = np.array([[x, y, x + 8, y + 8] for y in range(0, 32, 8) for x in range(0, 32, 8)]) / 32


def cell_detector(dtype=None):
    """A detector that finds class 1 in those of 4x4 cells that are bright in red, class 0 where green."""
    inputs = keras.Input((32, 32, 3))
    grid = layers.AveragePooling2D(8, data_format="channels_last", dtype=dtype, name="grid")(inputs)
    kinds = layers.Conv2D(2, 1, data_format="channels_last", dtype=dtype, name="kinds")(grid)
    model = keras.Model(inputs, layers.Reshape((16, 2), dtype=dtype)(kinds))
    model.get_layer("kinds").set_weights([np.array([[[[0, 6], [6, 0], [0, 0]]]], "float32"), np.array([-3.0, -3.0])])
    return model


def cells(outputs):
    boxes = ops.tile(ops.convert_to_tensor(CELLS.astype("float32"))[None], (outputs.shape[0], 1, 1))
    return boxes, ops.sigmoid(outputs)


def planted(row, column, channel=0):
    image = np.zeros((1, 32, 32, 3), "float32")
    image[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8, channel] = 1
    return image


METHODS = {
    "D-RISE": lambda model: vis.RISE(model, num_masks=300, grid=8, seed=0),
    "occlusion": lambda model: vis.Occlusion(model, patch=8, stride=4),
    "saliency": lambda model: vis.Saliency(model),
    "Grad-CAM": lambda model: vis.HiResCAM(model, "grid"),
    "integrated gradients": lambda model: vis.IntegratedGradients(model, steps=3),
}


def seen(name, model, x, target, **options):
    maps = METHODS[name](model)(x, target, **options)
    return np.abs(maps).sum(axis=-1) if maps.ndim == 4 else maps


@pytest.mark.parametrize("name", METHODS)
def test_the_map_lies_on_what_was_planted(name):
    """Two objects: each box is explained by its own, and the other is not in its map."""
    model, x = cell_detector(), planted(2, 1) + planted(0, 3)
    for row, column in ((2, 1), (0, 3)):
        box = np.array([column, row, column + 1, row + 1]) / 4
        values = seen(name, model, x, Box(box, 1, cells))[0]
        inside = np.zeros((32, 32), bool)
        inside[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = True
        assert inside[np.unravel_index(values.argmax(), values.shape)]
        spread = values - np.median(values)
        assert spread[inside].mean() > 5 * abs(spread[~inside].mean())


@pytest.mark.parametrize("name", METHODS)
def test_chunks_do_not_matter(name):
    model = cell_detector()
    x = np.concatenate([planted(2, 1) + planted(0, 3), planted(1, 1, 1) + planted(1, 3), planted(3, 0)])
    target = Box([[0.25, 0.5, 0.5, 0.75], [0.25, 0.2, 0.5, 0.5], [0.0, 0.7, 0.3, 1.0]], [1, 0, 1], cells)
    whole = seen(name, model, x, target)
    for batch_size in (1, 2):
        np.testing.assert_allclose(seen(name, model, x, target, batch_size=batch_size), whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_mixed_precision(name):
    target, x = Box([0.25, 0.5, 0.5, 0.75], 1, cells), 0.7 * planted(2, 1)
    expected = seen(name, cell_detector(), x, target)
    got = METHODS[name](cell_detector("mixed_bfloat16"))(x, target)
    assert got.dtype == "float32"
    got = np.abs(got).sum(axis=-1) if got.ndim == 4 else got
    np.testing.assert_allclose(got, expected, atol=0.12 * expected.max())  # JAX sums a cell's 64 pixels in bfloat16


@pytest.mark.parametrize("gradient_of", ["score", "similarity"])
def test_gradients_are_those_of_the_best_proposal(gradient_of):
    """Finite differences; of the score, with overlaps and the choice held as they are."""
    model, x = detector()
    target = Box(BOXES, WANTED["classes"], decode, gradient_of=gradient_of)
    parts = [value_of(part).astype("float64") for part in decode(model(x))]
    held = np.array([[overlap(place, box) for place in own] for own, box in zip(parts[0], BOXES)])
    kinds = np.array(WANTED["classes"])
    best = [(held[i] * parts[1][i, :, kinds[i]] * parts[2][i]).argmax() for i in range(4)]

    def score(images):
        if gradient_of == "similarity":
            return by_hand(model(images), BOXES, kinds)
        _, scores, certain = (value_of(part).astype("float64") for part in decode(model(images)))
        return np.array([held[i, b] * scores[i, b, kinds[i]] * certain[i, b] for i, b in enumerate(best)])

    direction, step = zoo.draw(*x.shape, seed=8), 1e-2
    expected = (score(x + step * direction) - score(x - step * direction)) / (2 * step)
    maps = vis.Saliency(model, logits=False)(x, target)
    np.testing.assert_allclose((maps * direction).reshape(4, -1).sum(axis=1), expected, atol=2e-3)


def test_a_box_that_the_detector_found_has_the_gradient_of_its_score():
    """There the overlap is 1, its peak, which has no gradient to speak of."""
    model, x = detector()
    boxes, scores, _ = (value_of(part) for part in decode(model(x)))
    found, kinds = np.clip(boxes[:, 0], 0, 1), scores[:, 0].argmax(axis=-1)

    def first(outputs):
        return [part[:, :1] for part in decode(outputs)]

    def likely(outputs, rows):
        _, likely, certain = first(outputs)
        return ops.sum(likely[:, 0] * rows, axis=-1) * certain[:, 0]

    got = vis.Saliency(model)(x, Box(found, kinds, first))
    expected = vis.Saliency(model)(x, Target(likely, np.eye(CLASSES)[kinds]))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_with_the_place_shares_sum_to_the_likeness():
    model, x = detector()
    target = Box(BOXES, WANTED["classes"], decode, gradient_of="similarity")
    shares = vis.IntegratedGradients(model, steps=300, logits=False)(x, target).reshape(4, -1).sum(axis=1)
    expected = scored(model, x, target) - scored(model, np.zeros_like(x), target)
    np.testing.assert_allclose(shares, expected, atol=5e-3)
    assert np.abs(expected).max() > 0.02


def test_what_is_outside_of_the_image_does_not_count():
    model, x = detector()
    inside = Box([0.0, 0.3, 0.6, 1.0], 1, decode)
    np.testing.assert_array_equal(Box([-0.4, 0.3, 0.6, 1.3], 1, decode).arrays(1)[0], inside.arrays(1)[0])

    def wide(outputs):
        boxes, scores, certain = decode(outputs)
        beyond = ops.where(boxes <= 0, boxes - 5, ops.where(boxes >= 1, boxes + 5, boxes))
        return beyond, scores, certain

    boxes = value_of(decode(model(x))[0])
    assert (boxes < 0).any()
    expected = scored(model, x, inside)
    np.testing.assert_allclose(scored(model, x, Box([0.0, 0.3, 0.6, 1.0], 1, wide)), expected, rtol=1e-5)


def test_proposals_without_a_size_are_nothing():
    def upside_down(outputs):
        boxes, scores, certain = decode(outputs)
        return boxes * 0 + ops.convert_to_tensor(np.array([0.6, 0.2, 0.5, 0.9], "float32")), scores, certain

    model, x = detector()
    target = Box([0.1, 0.1, 0.9, 0.9], 0, upside_down)
    for ask in (lambda: scored(model, x, target), lambda: vis.Saliency(model)(x, target)):
        with pytest.warns(
            VisualizationWarning, match="likeness 0 of the first sample.*100% of the boxes without a size"
        ):
            assert not ask().any()


@pytest.mark.parametrize("method", [vis.Saliency, vis.Occlusion])
def test_what_decode_returns_is_looked_at_in_every_method(method):
    model, x = detector()

    def logits(outputs):
        boxes, scores, certain = decode(outputs)
        return boxes, 10 * scores - 5, certain

    def pixels(outputs):
        boxes, scores, certain = decode(outputs)
        return 32 * boxes, scores, certain

    def nothing(outputs):
        boxes, scores, certain = decode(outputs)
        return boxes[:, :0], scores[:, :0], certain[:, :0]

    box = [0.1, 0.1, 0.9, 0.9]
    for wrong, words in ((logits, "class scores from 0 to 1"), (nothing, "proposals, 4")):
        with pytest.raises(ValueError, match=words):
            method(model)(x, Box(box, 0, wrong))
    with pytest.warns(VisualizationWarning, match="where most should be 0 to 1"):
        method(model)(x, Box(box, 0, pixels))


def test_a_detector_that_ends_in_a_sigmoid():
    """Methods of gradients leave the sigmoid out, so that `decode` would get logits."""
    inner, x = detector()
    found = inner.output
    model = keras.Model(inner.inputs, {**found, "kind": layers.Activation("sigmoid")(found["kind"])})

    def plain(outputs):
        boxes, _, certain = decode(outputs)
        return boxes, outputs["kind"], certain

    target = Box([0.1, 0.1, 0.9, 0.9], 0, plain)
    with pytest.raises(ValueError, match="from 0 to 1.*leave them out: give the explainer `logits=False`") as caught:
        vis.Saliency(model)(x, target)
    assert len(str(caught.value)) < 400
    expected = vis.Saliency(inner)(x, Box([0.1, 0.1, 0.9, 0.9], 0, decode))
    np.testing.assert_allclose(vis.Saliency(model, logits=False)(x, target), expected, atol=1e-6)
    assert vis.Occlusion(model)(x, target).any()


def test_outputs_that_are_no_probabilities_may_be_decoded_into_some():
    model, x = detector()
    moved = layers.Lambda(lambda kinds: kinds - 40.0)
    logs = keras.Model(model.inputs, {**model.output, "kind": moved(model.output["kind"])})

    def raised(outputs):
        return decode({**outputs, "kind": outputs["kind"] + 40.0})

    box = [0.1, 0.1, 0.9, 0.9]
    np.testing.assert_allclose(scored(logs, x, Box(box, 0, raised)), scored(model, x, Box(box, 0, decode)), rtol=1e-4)


def test_another_box_needs_no_new_trace():
    model, x = detector()
    traces = []

    def counted(outputs):
        traces.append(None)
        return decode(outputs)

    explainer = vis.Saliency(model)
    for i in range(3):
        explainer(x, Box(BOXES, [i % 3] * 4, counted))
    before = len(traces)
    for i in range(10):
        explainer(x, Box(BOXES[::-1] * (0.5 + i / 20), [i % 3] * 4, counted))
    checks = 10  # of the structure, for each box
    assert len(traces) - before == (10 + checks if keras.backend.backend() == "torch" else checks)


def test_nothing_of_the_users_is_changed():
    model, x = detector()
    weights = [value_of(weight).copy() for weight in model.weights]
    boxes, wanted, images = BOXES.copy(), WANTED["probabilities"].copy(), x.copy()
    vis.RISE(model, num_masks=4, seed=0)(x, Box(boxes, wanted, decode))
    vis.Saliency(model)(x, Box(boxes, wanted, decode))
    np.testing.assert_array_equal(boxes, BOXES)
    np.testing.assert_array_equal(wanted, WANTED["probabilities"])
    np.testing.assert_array_equal(images, x)
    for before, weight in zip(weights, model.weights):
        np.testing.assert_array_equal(before, value_of(weight))


# --- formats and decodings

FORMATS = ["xyxy", "yxyx", "xywh", "center_xywh", "rel_xyxy", "rel_yxyx", "rel_xywh", "rel_center_xywh"]


@pytest.mark.parametrize("form", FORMATS)
def test_formats_are_those_of_keras(form):
    pixels = np.array([[10.0, 20, 50, 90], [0, 0, 200, 100]], "float32")
    given = value_of(
        keras.utils.bounding_boxes.convert_format(pixels, source="xyxy", target=form, height=100, width=200)
    )
    size = None if form.startswith("rel") else (100, 200)
    expected = pixels / [200, 100, 200, 100]
    np.testing.assert_allclose(corners("boxes", given, form, size), expected, rtol=1e-6)
    np.testing.assert_allclose(Box(given, 0, decode, form, size).arrays(2)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("form", ["center_yxhw", "rel_center_yxhw"])
def test_centers_may_be_rows_first(form):
    size = None if form.startswith("rel") else (100, 200)
    given = np.array([55, 30, 70, 40]) / ([1] * 4 if size else [100, 200, 100, 200])
    np.testing.assert_allclose(corners("boxes", given, form, size), [0.05, 0.2, 0.25, 0.9], rtol=1e-6)


def test_anchors_move_and_grow_as_in_keras():
    anchors = np.array([[10.0, 20, 50, 90], [0, 0, 200, 100], [60, 50, 80, 99]], "float32")
    outputs = {"bbox_regression": 0.4 * zoo.draw(2, 3, 4), "cls_logits": zoo.draw(2, 3, 5, seed=1)}
    boxes, scores = map(value_of, Anchors(anchors, (100, 200))(outputs))
    expected = keras.utils.bounding_boxes.decode_deltas_to_boxes(
        anchors, ops.convert_to_tensor(outputs["bbox_regression"]), "xyxy", "xyxy", encoded_format="center_xywh"
    )
    np.testing.assert_allclose(boxes * [200, 100, 200, 100], value_of(expected), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-outputs["cls_logits"])), rtol=1e-5)
    relative = Anchors(anchors / [200, 100, 200, 100], format="rel_xyxy")
    np.testing.assert_allclose(value_of(relative(outputs)[0]), boxes, rtol=1e-5, atol=1e-6)
    outputs["bbox_regression"][..., 2:] = 500  # a size that float32 does not hold
    assert np.isfinite(value_of(Anchors(anchors, (100, 200))(outputs)[0])).all()


def test_equal_anchors_are_the_same_function():
    model, traces = keras.Sequential([keras.Input((16, 2)), layers.Dense(6)]), []
    x = zoo.draw(2, 16, 2)

    class Counted(Anchors):
        def __call__(self, outputs):
            traces.append(None)
            return super().__call__({"bbox_regression": outputs[..., :4], "cls_logits": outputs[..., 4:]})

    explainer = vis.Saliency(model)
    for _ in range(5):
        explainer(x, Box(CELLS[3], 1, Counted(CELLS, format="rel_xyxy")))
    assert len(explainer.evaluator.memory._shelves["functions"]) == 1
    assert Anchors(CELLS, format="rel_xyxy") != Anchors(CELLS * 0.5, format="rel_xyxy")
    assert repr(Anchors(CELLS, format="rel_xyxy")) == "Anchors(16)"


# --- what is refused


def wrong_shape(outputs):
    boxes, scores, _ = decode(outputs)
    return boxes, scores[..., 0]


def cls_only(outputs):
    return decode(outputs)[1]


def swapped(outputs):
    return decode(outputs)[::-1]


REFUSED = {
    "upside down": (lambda: Box([0.5, 0.2, 0.3, 0.9], 0, decode), "a width and a height above 0.*0.5, 0.2, 0.3, 0.9"),
    "second upside down": (lambda: Box([BOXES[0], [0, 0.9, 1, 0.2]], 0, decode), r"Received: \(0, 0.9, 1, 0.2\)"),
    "outside": (lambda: Box([1.2, 0.2, 1.5, 0.9], 0, decode), "on the image.*outside"),
    "pixels": (lambda: Box([10, 20, 50, 90], 0, decode), "fractions of the image.*image_size=\\(height, width\\)"),
    "fractions": (lambda: Box([0.1, 0.2, 0.5, 0.9], 0, decode, "xyxy", (32, 32)), "in pixels"),
    "no size": (lambda: Box([10, 20, 50, 90], 0, decode, "xyxy"), "`image_size` must be given for boxes in pixels"),
    "a size too many": (lambda: Box([0.1, 0.2, 0.5, 0.9], 0, decode, image_size=(9, 9)), "and for them only"),
    "unknown format": (lambda: Box([0.1, 0.2, 0.5, 0.9], 0, decode, "rel_xyyx"), "Unknown format.*Did you mean"),
    "three numbers": (lambda: Box([0.1, 0.2, 0.5], 0, decode), "four numbers each. Received: shape \\(3,\\)"),
    "many a sample": (lambda: Box(np.ones((2, 3, 4)) * BOXES[1], 0, decode), "one box each"),
    "none": (lambda: Box(np.ones((0, 4)), 0, decode), "one box each"),
    "negative class": (lambda: Box(BOXES, -1, decode), "`classes` must be at least 0"),
    "negative probability": (lambda: Box(BOXES, -np.ones((4, 3)), decode), "with negative values"),
    "unknown gradient": (lambda: Box(BOXES, 0, decode, gradient_of="box"), "Unknown gradient_of.*score"),
    "too few boxes": (lambda: Box(BOXES[:3], 0, decode), "one row for each of 4 samples"),
    "class too large": (lambda: Box(BOXES, [0, 1, 3, 0], decode), "from 0 to 2. Received: 3"),
    "probabilities of others": (lambda: Box(BOXES, np.ones((4, 5)), decode), "each of the 3 classes.*\\(4, 5\\)"),
    "scores without classes": (lambda: Box(BOXES, 0, wrong_shape), r"`decode` must return.*Received: \(\d+, 7, 4\)"),
    "no boxes": (lambda: Box(BOXES, 0, cls_only), "`decode` must return boxes"),
    "another order": (lambda: Box(BOXES, 0, swapped), "`decode` must return boxes"),
    "another head": (lambda: Box(BOXES, 0, d_fine), "hold 'pred_boxes' and 'logits'. Received.*'place'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name):
    make, words = REFUSED[name]
    model, x = detector()
    with pytest.raises(ValueError, match=words) as error:
        vis.Saliency(model)(x, make())
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Box(BOXES, 0, None), "`decode` must be a function"),
        (lambda: Box(BOXES, 0.5, decode), "`classes` must be a class index"),
        (lambda: Box(BOXES, 0, decode, "xyxy", 32), "`image_size` must be a pair"),
        (lambda: retinanet(detector()[0]), "which has an `anchor_generator`"),
    ],
)
def test_what_is_no_value_of_that_kind_is_refused(make, words):
    with pytest.raises(TypeError, match=words) as error:
        make()
    assert len(str(error.value)) < 400


def test_what_decode_raises_says_where_it_came_from():
    model, x = detector()
    with pytest.raises(KeyError, match="boxes") as error:
        vis.Saliency(model)(x, Box(BOXES, 0, lambda outputs: outputs["boxes"]))
    assert "raised by `decode`, called on the model's outputs, of shape {" in error.value.__notes__[0]


def test_anchors_that_do_not_fit_are_refused():
    for anchors in (CELLS[0], CELLS[:, [2, 1, 0, 3]]):
        with pytest.raises(ValueError, match="each with a width and a height above 0"):
            Anchors(anchors, format="rel_xyxy")
    outputs = {"bbox_regression": np.zeros((1, 9, 4)), "cls_logits": np.zeros((1, 9, 2))}
    with pytest.raises(ValueError, match="16 anchors and 9 rows"):
        Anchors(CELLS, format="rel_xyxy")(outputs)
    with pytest.raises(ValueError, match="hold 'bbox_regression' and 'cls_logits'. Received: 'ndarray'|ndarray"):
        Anchors(CELLS, format="rel_xyxy")(np.zeros((1, 9, 4)))


# --- keras-hub


class Whole(layers.Layer):
    """Stands for the suppression of overlapping boxes, and suppresses none."""

    bounding_box_format = "yxyx"

    def call(self, boxes, logits, images=None):
        return {"boxes": boxes, "scores": ops.sigmoid(logits)}


def real(name, monkeypatch):
    """A small detector of keras-hub, images, and all proposals as its own code decodes them."""
    pytest.importorskip("keras_hub", reason="keras-hub is an extra of the tests: zoo")
    keras.utils.set_random_seed(0)
    model, images = getattr(hub, name)()
    if name == "retinanet":  # untrained, it moves all anchors off the image
        for variable in model.box_head.prediction_layer.weights:
            variable.assign(0.1 * zoo.draw(*variable.shape) / np.sqrt(np.prod(variable.shape[:-1])))
    monkeypatch.setattr(model, "_prediction_decoder", Whole())
    own = model.decode_predictions(model(images), images)
    boxes = value_of(own["boxes"])[..., [1, 0, 3, 2]] / images.shape[1]
    return model, images, boxes, value_of(own["scores"])


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["retinanet", "d_fine"])
def test_detectors_of_keras_hub(name, monkeypatch):
    model, images, boxes, scores = real(name, monkeypatch)
    decoding = retinanet(model) if name == "retinanet" else d_fine
    got = [value_of(part) for part in decoding(model(images))]
    np.testing.assert_allclose(got[0], boxes, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got[1], scores, rtol=1e-4, atol=1e-6)

    on_image = np.clip(boxes[0], 0, 1)
    areas = np.prod(on_image[:, 2:] - on_image[:, :2], axis=-1)
    place, kind = on_image[areas.argmax()], 1
    overlaps = np.array([[overlap(one, place) for one in own] for own in boxes])
    best = (overlaps * scores[..., kind]).argmax(axis=1)
    target = Box(place, kind, decoding)
    expected = [overlaps[i, b] * scores[i, b, kind] for i, b in enumerate(best)]
    np.testing.assert_allclose(scored(model, images, target), expected, rtol=1e-3)

    weights = np.zeros(scores.shape[:2], "float32")
    for i, b in enumerate(best):
        weights[i, b] = overlaps[i, b]
    picked = Target(lambda outputs, rows: ops.sum(decoding(outputs)[1][..., kind] * rows, axis=-1), weights)
    explainer = vis.Saliency(model, logits=False)
    maps, scale = explainer(images, target), np.abs(explainer(images, picked)).max()
    assert scale > 0
    np.testing.assert_allclose(maps, explainer(images, picked), atol=1e-4 * scale)
    np.testing.assert_allclose(maps, explainer(images, target, batch_size=1), atol=1e-4 * scale)
    assert vis.RISE(model, num_masks=4, seed=0)(images, target).shape == images.shape[:3]
    around = pytest.warns(VisualizationWarning, match="by a way around it") if name == "d_fine" else nullcontext()
    with around:
        assert np.isfinite(vis.GradCAM(model)(images, target)).all()


def test_logits_are_no_class_scores():
    model, images = detector()

    def logits(outputs):
        boxes, _, objectness = decode(outputs)
        return boxes, 50 * outputs["kind"], objectness

    with pytest.raises(ValueError, match="class scores from 0 to 1") as error:
        vis.Saliency(model)(images, Box([0.1, 0.1, 0.5, 0.5], 1, logits))
    assert len(str(error.value)) < 400
