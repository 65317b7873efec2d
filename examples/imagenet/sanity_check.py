"""Does a map depend on what the network learned? The weights are made random from the top down, and maps drawn anew.

The test of Adebayo et al. 2018, "Sanity Checks for Saliency Maps", by cascading randomisation, on EfficientNet-Lite0
and one photograph. Writes `sanity_check.png` into `output/`, with the rank correlation to the map of the trained
network (by strength) above each map.
"""

import argparse
import pathlib

import keras
import numpy as np
from network import efficientnet_lite0, load_photos, preprocess
from scipy.stats import spearmanr

import vis

HERE = pathlib.Path(__file__).resolve().parent
STAGES = {"trained": None, "last layer random": "predictions", "upper half random": "block8", "all random": "stem"}
TABBY = 281


def randomise_from(model, name, seed=0):
    """Returns a copy of a model whose layers from the first that begins with a name on have random weights.

    Kernels keep their mean and spread and are shuffled, which keeps the size of the activations. The statistics and
    scales of batch normalisation stay.

    Args:
        model: A Functional model; not changed.
        name: How the first layer's name begins. `None` makes none random.
        seed: Seed of the shuffling. Default 0.
    """
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    generator = np.random.default_rng(seed)
    names = [layer.name for layer in copy.layers]
    first = len(names) if name is None else next(i for i, own in enumerate(names) if own.startswith(name))
    for layer in copy.layers[first:]:
        if hasattr(layer, "kernel"):
            layer.set_weights(
                [generator.permuted(weight.ravel()).reshape(weight.shape) for weight in layer.get_weights()]
            )
    return copy


def explain(model, image):
    """Returns a dict from methods to their maps `(1, H, W)`."""
    maps = {
        "saliency": vis.Saliency(model)(image, TABBY),
        "guided": vis.Saliency(model, "guided")(image, TABBY),
        "integrated gradients": vis.IntegratedGradients(model, steps=30)(image, TABBY),
        "Grad-CAM": vis.GradCAM(model)(image, TABBY),
    }
    return {name: vis.heatmap(values) for name, values in maps.items()}


def main(arguments=None):
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two stages only")
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "output", help="folder for the picture")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)

    trained = efficientnet_lite0(classifier_activation=None)
    photo = load_photos((224, 224), ("cat",))
    stages = dict(list(STAGES.items())[: 2 if options.quick else None])
    maps = [explain(randomise_from(trained, name), preprocess(photo)) for name in stages.values()]
    columns = {name: np.concatenate([own[name] for own in maps]) for name in maps[0]}
    correlations = {
        name: [f"rank correlation {spearmanr(one.ravel(), column[0].ravel()).statistic:.2f}" for one in column]
        for name, column in columns.items()
    }
    figure = vis.plotting.gallery(np.repeat(photo, len(stages), axis=0), columns, list(stages), correlations, size=2.2)
    path = options.output / "sanity_check.png"
    figure.savefig(path, dpi=110)
    for name, words in correlations.items():
        print(f"{name}: {', '.join(words)}")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
