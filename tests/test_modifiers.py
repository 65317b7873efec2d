"""Gradient modifiers and input modifiers."""

import keras
import numpy as np
import pytest
from conftest import value_of

from vis import grad_modifiers
from vis.input_modifiers import InputModifier, Jitter


@pytest.mark.parametrize(
    "name, expected",
    [
        ("negate", [2.0, -0.0, -4.0]),
        ("absolute", [2.0, 0.0, 4.0]),
        ("relu", [0.0, 0.0, 4.0]),
        ("invert", [-0.5, 1e7, 0.25]),
        ("small_values", [0.5, 1e7, 0.25]),
    ],
)
def test_gradient_modifiers(name, expected):
    grads = np.array([-2.0, 0.0, 4.0], "float32")
    modifier = grad_modifiers.get(name)
    np.testing.assert_allclose(value_of(modifier(grads)), expected, rtol=1e-6)
    assert grads.tolist() == [-2.0, 0.0, 4.0]
    assert modifier is getattr(grad_modifiers, name)


def test_get_passes_callables_through():
    assert grad_modifiers.get(np.sign) is np.sign


@pytest.mark.parametrize("name", ["near_names", "ops", "get", "positive", ""])
def test_get_knows_exactly_these_names(name):
    with pytest.raises(ValueError, match="Unknown grad_modifier"):
        grad_modifiers.get(name)


def test_get_refuses_other_kinds():
    with pytest.raises(TypeError, match="NoneType"):
        grad_modifiers.get(None)


def test_input_modifier_changes_nothing_by_itself():
    x = np.ones(3)
    assert InputModifier().pre(x) is x
    assert InputModifier().post(x) is x


def test_jitter_is_a_true_roll(rng):
    x = rng.random((2, 6, 8, 3)).astype("float32")
    before = x.copy()
    jitter = Jitter((2, 3), seed=1)
    seen = set()
    for _ in range(200):
        y = jitter.pre(x)
        offsets = [
            (i, j) for i in range(-2, 3) for j in range(-3, 4) if np.array_equal(y, np.roll(x, (i, j), axis=(1, 2)))
        ]
        assert len(offsets) == 1
        seen.update(offsets)
    assert len(seen) == 35  # every offset of [-2, 2] x [-3, 3] comes up
    np.testing.assert_array_equal(x, before)


def test_jitter_below_one_is_a_fraction_of_the_axis_at_hand():
    jitter = Jitter(0.25)
    assert jitter.pixels((8, 20)) == [2, 5]
    assert jitter.pixels((40,)) == [10]
    assert Jitter([0.5, 3]).pixels((8, 20)) == [4, 3]
    assert Jitter((0, 1)).pixels((8, 20)) == [0, 1]


def test_jitter_with_a_seed_repeats():
    x = np.arange(64.0).reshape(1, 8, 8, 1)
    first, second = (np.stack([j.pre(x) for _ in range(5)]) for j in (Jitter(3, seed=5), Jitter(3, seed=5)))
    np.testing.assert_array_equal(first, second)


def test_jitter_leaves_the_channels_alone():
    x = np.arange(2 * 5 * 6).reshape(1, 2, 5, 6)
    y = Jitter(2, seed=0, data_format="channels_first").pre(x)
    assert set(y[0, 0].ravel()) == set(x[0, 0].ravel())


@pytest.mark.parametrize("jitter", [-1, [0.1, -0.1], float("nan"), "much", [[1]], None])
def test_jitter_refuses(jitter):
    with pytest.raises(ValueError, match="`jitter` must be"):
        Jitter(jitter)


def test_jitter_with_a_wrong_count():
    with pytest.raises(ValueError, match="each of the 2 spatial axes. Received: 3 numbers"):
        Jitter((1, 2, 3)).pre(np.zeros((1, 4, 4, 1)))


def test_jitter_reads_the_global_setting_by_default(monkeypatch):
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    x = np.arange(2 * 5 * 6).reshape(1, 2, 5, 6)
    assert set(Jitter(2, seed=0).pre(x)[0, 1].ravel()) == set(x[0, 1].ravel())
