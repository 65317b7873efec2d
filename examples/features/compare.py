"""The same channels and classes made of pixels, of frequencies, and of phases (MaCo). Takes some minutes.

From top to bottom: plain pixels without transforms; `Fourier` with the standard transforms; `Fourier` with
crops; `MagnitudeConstrained`, where what did not matter fades, by the importance.
"""

import keras
import numpy as np
from recipes import (
    QUICK_STEPS,
    RANGE,
    crops,
    grid,
    load_network,
    load_photos,
    parse_options,
    preprocess,
    save,
    to_pixels,
)

import vis
from vis.losses import ActivationMaximization
from vis.parameterizations import Fourier, MagnitudeConstrained, Pixels, spectrum_of
from vis.utils.utils import lookup_imagenet_labels

CHOICES = [("block6_project_bn", [71]), ("block9_project_bn", [31, 41]), ("predictions", [145, 292])]
SIZE = 192


def ways():
    """Returns a dict from words to the parameterization, the transforms and the learning rate."""
    photos = preprocess(load_photos((SIZE, SIZE)))
    return {
        "plain pixels": (Pixels(), [], 0.05),
        "Fourier": (Fourier(), None, 0.05),
        "crops": (Fourier(decay=1.1), crops(), 0.03),
        "MaCo": (MagnitudeConstrained(spectrum_of(photos, RANGE)), crops(), 0.3),
    }


def faded(images, importance):
    """Returns pictures over white, opaque where the importance is high."""
    limits = np.percentile(importance, [20, 90], axis=(1, 2))[..., None, None]
    alpha = np.clip((importance - limits[0]) / (limits[1] - limits[0]), 0, 1)[..., None]
    return np.round(alpha * to_pixels(images) + (1 - alpha) * 255).astype("uint8")


def main(arguments=None):
    """Runs the example."""
    options = parse_options(__doc__, arguments)
    model, steps = load_network(SIZE), QUICK_STEPS if options.quick else 192
    pictures, captions, chosen = [], [], list(ways().items())[:: 3 if options.quick else 1]
    for words, (parameterization, transforms, rate) in chosen:
        for layer, indices in CHOICES[: 1 if options.quick else None]:
            fv = vis.FeatureVisualization(
                model,
                ActivationMaximization(layer, 0),
                parameterization,
                transforms,
                optimizer=keras.optimizers.Adam(rate),
                input_range=RANGE,
            )
            images = fv.many(indices, steps=steps, seed=0)
            print(f"{words}, {layer}: at the end", -fv.history["ActivationMax Loss"][-1].round(1))
            pictures += list(faded(images, fv.importance) if words == "MaCo" else to_pixels(images))
            names = (
                lookup_imagenet_labels(indices) if layer == "predictions" else [f"{layer[:-11]} : {i}" for i in indices]
            )
            captions += [f"{name.split(',')[0]}, {words}" for name in names]
    cols = len(pictures) // len(chosen)
    save(grid(pictures, captions, cols=cols, size=168), options.output / "compare.jpg")


if __name__ == "__main__":
    main()
