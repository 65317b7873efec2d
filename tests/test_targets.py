"""Targets with data of their own: their rows follow their samples, and another row needs no new trace."""

import keras
import numpy as np
import pytest
import zoo
from conftest import value_of
from keras import layers, ops

import vis
from vis.targets import Contrast, NextToken, Region, Similarity, Target


def plain(units=4):
    model = keras.Sequential([keras.Input((6, 5, 2)), layers.Flatten(), layers.Dense(8, "tanh"), layers.Dense(units)])
    return zoo.set_weights(model), zoo.draw(5, 6, 5, 2)


def weighted(outputs, weights):
    return ops.sum(outputs * weights, axis=-1)


METHODS = {
    "saliency": lambda m: vis.Saliency(m),
    "noise": lambda m: vis.SmoothGrad(m, num_samples=3, seed=0),
    "steps": lambda m: vis.IntegratedGradients(m, steps=3),
    "pairs": lambda m: vis.ExpectedGradients(m, np.zeros((2, 6, 5, 2)), 3, 0),
    "ways": lambda m: vis.GuidedIntegratedGradients(m, steps=3),
    "windows": lambda m: vis.Occlusion(m, patch=3),
    "masks": lambda m: vis.RISE(m, num_masks=7, seed=0),
}


@pytest.mark.parametrize("name", METHODS)
def test_rows_follow_their_samples(name):
    """One by one, with each sample's own row as a constant of a plain function."""
    model, x = plain()
    rows = zoo.draw(5, 4, seed=3)
    explainer = METHODS[name](model)
    whole = explainer(x, Target(weighted, rows))
    for batch_size in (1, 2, 4):
        cut = explainer(x, Target(weighted, rows), batch_size=batch_size)
        np.testing.assert_allclose(cut, whole, rtol=1e-4, atol=1e-6)
    for i in range(5):
        alone = METHODS[name](model)(x[i : i + 1], lambda o, i=i: ops.sum(o * ops.convert_to_tensor(rows[i]), axis=-1))
        np.testing.assert_allclose(whole[i], alone[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", [vis.GradCAM, vis.AblationCAM, vis.ScoreCAM])
def test_rows_follow_their_samples_in_class_activation_maps(method):
    model, x = zoo.make("residual")
    rows = zoo.draw(3, 3, seed=3)
    whole = method(model)(x, Target(weighted, rows), batch_size=2)
    order = [2, 0, 1]
    np.testing.assert_allclose(
        method(model)(x[order], Target(weighted, rows[order])), whole[order], rtol=1e-4, atol=1e-6
    )


def test_a_thousand_rows_are_one_trace():
    model, x = plain()
    traces = []

    def counted(outputs, weights):
        traces.append(None)
        return weighted(outputs, weights)

    explainer = vis.Saliency(model)
    for i in range(3):
        explainer(x[:1], Target(counted, zoo.draw(1, 4, seed=i)))
    before = len(traces)
    for i in range(1000 if keras.backend.backend() != "torch" else 3):
        explainer(x[:1], Target(counted, zoo.draw(1, 4, seed=i)))
    assert len(traces) - before == (3 if keras.backend.backend() == "torch" else 0)


def test_another_object_of_the_same_kind_is_the_same_trace():
    model, x = plain()
    explainer = vis.Saliency(model)
    for i in range(4):
        explainer(x, Similarity(zoo.draw(5, 4, seed=i)))
        explainer(x, Contrast(i, (i + 1) % 4))
        explainer(x, i)
    assert len(explainer.evaluator.memory._shelves["functions"]) == 2


def test_contrast_is_the_difference_of_two_classes():
    model, x = plain()
    explainer = vis.Saliency(model)
    got = explainer(x, Contrast([0, 1, 2, 3, 0], 1 - np.array([0, 1, 1, 1, 0])))
    expected = explainer(x, [0, 1, 2, 3, 0]) - explainer(x, [1, 0, 0, 0, 1])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="different classes"):
        Contrast(1, 1)
    with pytest.raises(ValueError, match="out of range. Received: 7"):
        explainer(x, Contrast(7, 0))
    with pytest.raises(TypeError, match="`other` must be a class index"):
        Contrast(1, 0.5)


def slopes(model, x, score, step=1e-2):
    """Finite differences along one direction for each sample."""
    direction = zoo.draw(*x.shape, seed=8)
    high, low = (score(value_of(model(x + s * step * direction)).astype("float64")) for s in (1, -1))
    return (high - low) / (2 * step), direction


def along(maps, direction):
    return (maps * direction).reshape(len(maps), -1).sum(axis=1)


def test_similarity_is_the_cosine():
    model, x = plain()
    others = zoo.draw(5, 4, seed=3)

    def cosine(outputs):
        dots = [a @ b for a, b in zip(outputs, others)]
        return np.array([d / np.linalg.norm(a) / np.linalg.norm(b) for d, a, b in zip(dots, outputs, others)])

    expected, direction = slopes(model, x, cosine)
    np.testing.assert_allclose(along(vis.Saliency(model)(x, Similarity(others)), direction), expected, atol=2e-3)
    np.testing.assert_allclose(
        vis.Saliency(model)(x, Similarity(others[0])), vis.Saliency(model)(x, Similarity(others[[0] * 5])), rtol=1e-5
    )
    two = keras.Model(model.inputs, {"first": model.outputs[0], "second": layers.Dense(2)(model.outputs[0])})
    np.testing.assert_allclose(
        vis.Saliency(two)(x, Similarity(others, output="first")), vis.Saliency(model)(x, Similarity(others)), rtol=1e-4
    )
    for wrong, words in ((others[:, :3], "shape of the model's output"), (others[:3], "one row for each of 5 samples")):
        with pytest.raises(ValueError, match=words):
            vis.Saliency(model)(x, Similarity(wrong))
    with pytest.raises(ValueError, match="must not be zero"):
        Similarity(np.zeros(4))


def dense_output(channels):
    model = keras.Sequential([keras.Input((6, 5, 2)), layers.Conv2D(channels, 3, padding="same")])
    return zoo.set_weights(model), zoo.draw(3, 6, 5, 2)


@pytest.mark.parametrize("channel", [0, 2])
def test_region_is_the_mean_inside(channel):
    model, x = dense_output(3)
    masks = (zoo.draw(3, 6, 5, seed=2) > 0).astype("float32")
    expected, direction = slopes(
        model, x, lambda o: np.array([a[..., channel][m > 0].mean() for a, m in zip(o, masks)])
    )
    got = vis.Saliency(model)(x, Region(masks, channel))
    np.testing.assert_allclose(along(got, direction), expected, atol=2e-3)
    single, x = dense_output(1)
    whole = vis.Saliency(single)(x, Region(masks[:1] > 0))
    np.testing.assert_allclose(whole, vis.Saliency(single)(x, Region(masks[[0, 0, 0]], 0)), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Region(np.zeros((3, 6, 5))), "or an empty mask"),
        (lambda: Region(-np.ones((3, 6, 5))), "with negative values"),
        (lambda: Region(np.ones((3, 5, 6)), 0), "must have the size of the model's output"),
        (lambda: Region(np.ones((3, 6, 5))), "must be one of the 3 channels"),
        (lambda: Region(np.ones((3, 6, 5)), 3), "must be one of the 3 channels"),
        (lambda: Region(np.ones((2, 6, 5)), 0), "one row for each of 3 samples.*`array\\[None\\]`"),
    ],
)
def test_regions_that_do_not_fit(make, words):
    model, x = dense_output(3)
    with pytest.raises(ValueError, match=words) as error:
        vis.Saliency(model)(x, make())
    assert len(str(error.value)) < 400


def language_model():
    ids = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4, name="emb")(ids)
    x = layers.Conv1D(6, 2, padding="causal", activation="tanh")(x)
    return zoo.set_weights(keras.Model(ids, layers.Dense(9)(x))), np.arange(15).reshape(3, 5) % 9


@pytest.mark.parametrize("log_probability", [False, True])
def test_next_token(log_probability):
    model, ids = language_model()
    explainer = vis.Saliency(model, input_layer="emb")

    def by_hand(outputs, token, position):
        scores = outputs[:, position]
        return (ops.log_softmax(scores) if log_probability else scores)[:, token]

    got = explainer(ids, NextToken([3, 4, 8], [1, 2, -1], log_probability))
    for i, (token, position) in enumerate([(3, 1), (4, 2), (8, 4)]):
        expected = explainer(ids, lambda o, t=token, p=position: by_hand(o, t, p))
        np.testing.assert_allclose(got[i], expected[i], rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="within the vocabulary of the model's output, from 0 to 8. Received: 9"):
        explainer(ids, NextToken(9))
    with pytest.raises(ValueError, match="within the positions.*from -5 to 4. Received: 5"):
        explainer(ids, NextToken(1, [0, 5, 1]))
    classifier, x = plain()
    with pytest.raises(ValueError, match="needs outputs \\(N, positions, vocabulary\\)"):
        vis.Saliency(classifier)(x, NextToken(1))


def test_the_score_that_is_explained_can_be_looked_at():
    model, x = plain()
    outputs, others = value_of(model(x)), zoo.draw(5, 4, seed=3)
    expected = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(outputs, others)]
    for given in (outputs, model(x)):
        got = Similarity(others).score(given)
        assert isinstance(got, np.ndarray) and got.dtype == "float32"
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    np.testing.assert_allclose(Target(weighted, others).score(outputs), (outputs * others).sum(axis=1), rtol=1e-4)
    with pytest.raises(ValueError, match="one row for each of 4 samples"):
        Similarity(others).score(outputs[:4])
    dense, x = dense_output(3)
    with pytest.raises(ValueError, match="must have the size"):
        Region(np.ones((1, 5, 6)), 0).score(dense(x))


def test_a_target_is_checked():
    with pytest.raises(TypeError, match="must be a function"):
        Target(3)
    with pytest.raises(ValueError, match="one row for each sample. Received: the single number"):
        Target(weighted, 3.0)
    model, x = plain()
    with pytest.raises(ValueError, match="one row for each of 5 samples. Received: an array of shape \\(4, 4\\)"):
        vis.Saliency(model)(x, Target(weighted, zoo.draw(4, 4)))
    with pytest.raises(TypeError, match="`target` of a data set"):
        vis.Saliency(model).stream([x], Target(weighted, zoo.draw(5, 4)))
    rows = zoo.draw(5, 4)
    before = rows.copy()
    vis.Saliency(model)(x, Target(weighted, rows))
    np.testing.assert_array_equal(rows, before)
