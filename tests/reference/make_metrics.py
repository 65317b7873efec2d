"""Makes `metrics.npz`: numbers of other libraries for `tests/test_metrics.py`.

Imputation by pytorch-grad-cam 1.5.7 (without noise), deletion, insertion and mu-fidelity by Xplique 2.0.2, and
sparseness, complexity, pointing game, relevance mass and rank by Quantus 0.6.0. Run on TensorFlow, in an environment
that has torch, tensorflow and keras, after `pip install --no-deps grad-cam xplique quantus` and what they import:
`KERAS_BACKEND=tensorflow python tests/reference/make_metrics.py`.

What is to be known of them:

* Xplique hides `steps` equal parts by index where values are equal, and takes the mean over samples as its result; its
  curves begin at nothing hidden. The area is the trapezoid rule, as here.
* Its mu-fidelity shows subsets of a grid and takes Spearman's correlation, with random numbers of its own: only a model
  whose correlation is known can be compared.
* Quantus' pointing game takes the first of equal largest values.
"""

import pathlib
import sys
import unittest.mock

import keras
import numpy as np
import tensorflow as tf
import torch  # noqa: F401  # before TensorFlow
from scipy import ndimage

HERE = pathlib.Path(__file__).parent


def network(weights):
    """The small network of the curves."""
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.set_weights(weights)
    return model


def weights_of(draw):
    """Weights of the small network."""
    shapes = [(3, 3, 3, 4), (4,), (400, 3), (3,)]
    return [0.2 * draw.normal(size=shape).astype("float32") for shape in shapes]


def imputed(draw):
    """Imputation of smooth and of scattered holes."""
    for name in (
        "torchvision",
        "torchvision.transforms",
        "torchvision.transforms.functional",
    ):  # imported there for other things
        sys.modules.setdefault(name, unittest.mock.MagicMock())
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    image = ndimage.gaussian_filter(draw.normal(size=(40, 48, 3)), (3, 3, 0)).astype("float32")
    found = {"road_image": image}
    for name, values in (
        ("smooth", ndimage.gaussian_filter(draw.normal(size=(40, 48)), 4)),
        ("scattered", draw.normal(size=(40, 48))),
    ):
        hidden = values > np.median(values)
        channels_first = torch.tensor(np.moveaxis(image, -1, 0)).float()
        result = NoisyLinearImputer(noise=0.0)(channels_first, torch.tensor(~hidden).float())
        found |= {f"road_{name}_hidden": hidden, f"road_{name}": np.moveaxis(result.numpy(), 0, -1)}
    return found


def curves(draw):
    """Deletion and insertion."""
    from xplique.metrics import Deletion, Insertion

    weights = weights_of(draw)
    model = network(weights)
    images, maps = (draw.normal(size=shape).astype("float32") for shape in ((4, 12, 12, 3), (4, 12, 12)))
    targets = np.eye(3, dtype="float32")[[0, 1, 2, 1]]
    found = {f"weight_{i}": weight for i, weight in enumerate(weights)}
    found |= {"images": images, "maps": maps, "targets": targets}
    for name, metric in (("deletion", Deletion), ("insertion", Insertion)):
        made = metric(model, images, targets, batch_size=8, baseline_mode=0.0, steps=8, max_percentage_perturbed=1.0)
        found[name] = np.array([made.evaluate(tf.constant(maps))], "float64")
        found[f"{name}_curve"] = np.array(list(made.detailed_evaluate(tf.constant(maps)).values()), "float64")
    return found


def simple(draw):
    """What needs no model."""
    import quantus

    maps = np.abs(draw.normal(size=(5, 1, 10, 11))).astype("float64")
    masks = np.zeros((5, 1, 10, 11), bool)
    masks[:, :, 2:7, 3:9] = True
    found = {"plain_maps": maps[:, 0], "plain_masks": masks[:, 0]}
    one = {
        "sparseness": quantus.Sparseness(disable_warnings=True),
        "complexity": quantus.Complexity(disable_warnings=True),
        "pointing": quantus.PointingGame(disable_warnings=True),
        "mass": quantus.RelevanceMassAccuracy(disable_warnings=True),
        "rank": quantus.RelevanceRankAccuracy(disable_warnings=True),
    }
    for name, metric in one.items():
        with_mask = {"s_batch": masks} if name in ("pointing", "mass", "rank") else {}
        found[name] = np.array(metric.evaluate_batch(x_batch=maps, a_batch=maps.copy(), **with_mask), "float64")
    return found


if __name__ == "__main__":
    draw = np.random.default_rng(0)
    arrays = {}
    for part in (imputed, curves, simple):
        if len(sys.argv) < 2 or part.__name__ in sys.argv[1:]:
            arrays |= part(draw)
    np.savez_compressed(HERE / "metrics.npz", **arrays)
    print({name: array.shape for name, array in arrays.items()})
