"""Relevance and DeepLIFT beside two independent implementations, as stored arrays: Zennit and Captum.

`tests/reference/make_relevance.py` makes the arrays and says what is to be known of those two.
"""

import keras
import numpy as np
import pytest
from conftest import ROOT, value_of
from keras import layers

import vis
from vis.backprop_modifiers import EpsilonGammaBox

NAMES = ["epsilon", "epsilon-plus", "epsilon-plus-flat", "epsilon-gamma", "alpha2-beta1", "alpha2-beta1-flat"]
NAMES += ["deep-taylor", "epsilon-gamma-box"]
TARGETS = [0, 0, 0]


@pytest.fixture(scope="module")
def arrays():
    with np.load(ROOT / "tests/reference/relevance.npz") as stored:
        return dict(stored)


class Builder:
    """Makes layers, and remembers those with weights in the order in which they are stored."""

    def __init__(self):
        self.made = []

    def __call__(self, layer, x):
        self.made.append(layer)
        return layer(x)

    def conv(self, x, filters, size, bias=False):
        return self(layers.Conv2D(filters, size, padding="same", use_bias=bias), x)

    def norm(self, x):
        return self(layers.BatchNormalization(epsilon=1e-3), x)

    def block(self, x, filters):
        y = layers.ReLU()(self.norm(self.conv(x, filters, 3)))
        y = self.norm(self.conv(y, filters, 3))
        around = x if x.shape[-1] == filters else self.norm(self.conv(x, filters, 1))
        return layers.ReLU()(layers.Add()([y, around]))

    def head(self, x):
        return self(layers.Dense(4), self(layers.Dense(8, activation="relu"), layers.Flatten()(x)))

    def model(self, inputs, outputs, arrays, name):
        model, place = keras.Model(inputs, outputs), 0
        for layer in self.made:
            own = [arrays[f"{name}_{place + i}"] for i in range(len(layer.weights))]
            layer.set_weights(own)
            place += len(own)
        assert f"{name}_{place}" not in arrays
        return model


@pytest.fixture(scope="module")
def residual(arrays):
    build, inputs = Builder(), keras.Input((16, 16, 3))
    x = layers.ReLU()(build.norm(build.conv(inputs, 5, 3, bias=True)))
    x = build.block(build.block(layers.MaxPooling2D()(x), 5), 6)
    return build.model(inputs, build.head(layers.AveragePooling2D(2)(x)), arrays, "residual")


def pooled(build, x):
    return layers.MaxPooling2D()(layers.ReLU()(build.conv(x, 5, 3, bias=True)))


def averaged(build, x):
    x = layers.AveragePooling2D(2)(layers.ReLU()(build.conv(x, 5, 3, bias=True)))
    return layers.AveragePooling2D(2)(layers.ReLU()(build.conv(x, 6, 3, bias=True)))


def close(got, wanted, tolerance):
    assert np.abs(wanted).max() > 1e-2
    for one, other in zip(got, wanted):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


def test_the_networks_are_the_same(residual, arrays):
    close(value_of(residual(arrays["images"])), arrays["residual_scores"], 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_relevance_is_that_of_zennit(name, residual, arrays):
    box = EpsilonGammaBox([-3.0, -4.0, -3.5], [3.0, 4.0, 5.0])
    explainer = vis.LRP(residual, box if name == "epsilon-gamma-box" else name)
    close(explainer(arrays["images"], TARGETS), arrays[name], 1e-5)


@pytest.mark.parametrize("body, baseline", [(pooled, None), (averaged, "baseline")])
def test_contributions_are_those_of_captum(body, baseline, arrays):
    build, inputs, name = Builder(), keras.Input((16, 16, 3)), body.__name__
    model = build.model(inputs, build.head(body(build, inputs)), arrays, name)
    explainer = vis.DeepLIFT(model, baseline and arrays[baseline])
    close(explainer(arrays["images"], TARGETS), arrays[f"deeplift_{name}"], 1e-4)
