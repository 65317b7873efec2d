"""Many ways to ask which parts of a photograph speak for its class, side by side.

Writes two pictures into `output/`, four photographs down and the methods across: `gallery.png`, and `relevance.png`
with layer-wise relevance propagation by several composites and its relatives. That takes some minutes; `--quick` takes
less than one. On this network, which ends in global pooling and one dense layer, Grad-CAM, HiResCAM and XGrad-CAM are
the same by definition.
"""

import matplotlib

matplotlib.use("Agg")

import argparse
import functools
import pathlib
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
from network import PHOTOS, efficientnet_lite0, load_photos, preprocess

import vis
from vis.utils import utils
from vis.visualization import overlay

OUTPUT = pathlib.Path(__file__).resolve().parent / "output"
BATCH_SIZE = 8
QUICK = ("Saliency", "SmoothGrad", "Integrated\ngradients", "Grad-CAM", "Layer-CAM", "Occlusion")
COMPOSITES = {
    "epsilon": "epsilon",
    "epsilon-\nplus-flat": "epsilon-plus-flat",
    "gamma": "epsilon-gamma",
    "alpha2-\nbeta1": "alpha2-beta1",
}
SMOOTH = "SmoothGrad\nof LRP"
QUICK_RELEVANCE = ("LRP\nepsilon-\nplus-flat", "DeepLIFT", SMOOTH, "Layer-CAM\nof LRP")
MIDDLE = "block10_add"  # of EfficientNet-Lite0: 14x14 positions


def prepare(name=None):
    """Returns a network with softmax output, and the function that prepares pixels for it.

    Args:
        name: Name of a model in `keras.applications`, whose ImageNet weights Keras downloads
            once. Default: EfficientNet-Lite0, which needs no download.
    """
    if name is None:
        return efficientnet_lite0(), preprocess
    models = {key: value for key, value in vars(keras.applications).items() if key[0].isupper() and callable(value)}
    if name not in models:
        raise SystemExit(f"keras.applications has no model {name!r}. Choose one of: {', '.join(models)}.")
    module = getattr(keras.applications, models[name].__module__.split(".")[-1])
    return models[name](weights="imagenet"), module.preprocess_input


def image_size(model):
    """Returns the rows and columns that a network takes; 224 each where any will do."""
    return tuple(length or 224 for length in model.input_shape[1:3])


def choose_methods(size, quick=False):
    """Returns a dict from the methods' names to functions of a model that make the explainers.

    Args:
        size: Rows and columns of the images.
        quick: Whether to take few methods, and few samples. Default `False`.
    """
    patch = tuple(length // (4 if quick else 7) for length in size)
    stride = patch if quick else tuple(length // 2 for length in patch)
    samples = 5 if quick else 50
    methods = {
        "Saliency": vis.Saliency,
        "Guided\nbackprop": functools.partial(vis.Saliency, backprop_modifier="guided"),
        "SmoothGrad": functools.partial(vis.SmoothGrad, num_samples=samples, seed=0),
        "Integrated\ngradients": functools.partial(vis.IntegratedGradients, steps=samples),
        "Guided\nGrad-CAM": vis.GuidedGradCAM,
        "Grad-CAM": vis.GradCAM,
        "Grad-CAM++": vis.GradCAMPlusPlus,
        "Layer-CAM": vis.LayerCAM,
        "HiResCAM": vis.HiResCAM,
        "XGrad-CAM": vis.XGradCAM,
        "EigenCAM": vis.EigenCAM,
        "Score-CAM": functools.partial(vis.ScoreCAM, max_channels=32),
        "Occlusion": functools.partial(vis.Occlusion, patch=patch, stride=stride),
        "RISE": functools.partial(vis.RISE, num_masks=1000, seed=0),
    }
    return {name: methods[name] for name in QUICK} if quick else methods


def choose_relevance(layer=None, quick=False):
    """Returns a dict from names to functions of a model that make the explainers of the second picture.

    Args:
        layer: The layer of the class activation map. Default `None`: the last one with positions.
        quick: Whether to take few methods, and few samples. Default `False`.
    """
    methods = {f"LRP\n{name}": functools.partial(vis.LRP, composite=rules) for name, rules in COMPOSITES.items()}
    methods |= {
        "DeepLIFT": vis.DeepLIFT,
        SMOOTH: functools.partial(
            vis.SmoothGrad, num_samples=2 if quick else 20, noise_level=0.1, seed=0, backprop_modifier="epsilon-plus"
        ),
        "Layer-CAM": functools.partial(vis.LayerCAM, layer=layer),
        "Layer-CAM\nof LRP": functools.partial(vis.LayerCAM, layer=layer, backprop_modifier="epsilon-plus"),
    }
    return {name: methods[name] for name in QUICK_RELEVANCE} if quick else methods


def explain(model, images, methods):
    """Yields the attributions of the top class by each method, and tells how long they took."""
    for name, method in methods.items():
        start = time.perf_counter()
        yield method(model)(images, batch_size=BATCH_SIZE)
        print(f"{' '.join(name.split()):22s} {time.perf_counter() - start:6.1f} s", flush=True)


def pictures_of(photos, attributions):
    """Returns RGB pictures of attributions: pixels by themselves, regions over the photographs."""
    if attributions.ndim == photos.ndim:
        return heat(vis.heatmap(attributions))
    # RISE's maps hold the score itself, so that the lowest region is far from 0.
    lowest = np.maximum(np.min(attributions, axis=(1, 2), keepdims=True), 0)
    regions = vis.heatmap(attributions - lowest, sign="positive")
    return overlay(heat(regions), photos, alpha=0.5)


def relevance_figure(photos, images, found, labels):
    """Returns a figure of relevance: red speaks for the top class, blue against it, white is 0.

    Args:
        photos: uint8 `(N, H, W, 3)`.
        images: What the network took.
        found: Dict from names to attributions: of the images' shape, or `(N, H, W)` of regions.
        labels: Words to the left of the rows.
    """
    columns = {}
    for name, values in found.items():
        values = values * images if name == SMOOTH else values  # gradients times input are relevance
        columns[name] = values.sum(axis=-1) if values.ndim == images.ndim else pictures_of(photos, values)
    return vis.plotting.gallery(photos, columns, labels, size=1.5, sign="signed")


def heat(maps):
    """Returns maps of values in [0, 1] as coloured RGB pictures, black to yellow."""
    return matplotlib.colormaps["inferno"](maps, bytes=True)[..., :3]


def top_classes(model, images):
    """Returns the name and the probability of each image's top class, as words."""
    probabilities = model.predict(images, batch_size=BATCH_SIZE, verbose=0)
    names = utils.lookup_imagenet_labels(probabilities.argmax(axis=1).tolist())
    return [f"{name}\n{100 * p:.0f} %" for name, p in zip(names, probabilities.max(axis=1))]


def draw(columns, titles, labels, size=1.3):
    """Returns a figure with a grid of pictures.

    Args:
        columns: List of columns, each a list of RGB pictures.
        titles: Words above the columns.
        labels: Words to the left of the rows.
        size: Width of a picture in inches. Default 1.3.
    """
    figure, axes = plt.subplots(
        len(labels),
        len(columns),
        figsize=(len(columns) * size + 1, len(labels) * size + 0.4),
        squeeze=False,
        layout="compressed",
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    for axis, picture in zip(axes.T.flat, [picture for column in columns for picture in column]):
        axis.imshow(picture)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, fontsize=10)
    for axis, label in zip(axes[:, 0], labels):
        axis.set_ylabel(label, fontsize=10, rotation=0, ha="right", va="center")
    return figure


def parse_options(arguments=None):
    """Returns the options of the command line: `quick`, `output`, `model`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two photographs, few methods, few samples")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT, help="folder for the picture")
    parser.add_argument("--model", metavar="NAME", help="a model of keras.applications, which Keras downloads")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Runs the example."""
    options = parse_options(arguments)
    model, prepare_pixels = prepare(options.model)
    photos = load_photos(image_size(model), PHOTOS[:2] if options.quick else PHOTOS)
    images = np.asarray(prepare_pixels(photos.astype("float32")))
    methods = choose_methods(photos.shape[1:3], options.quick)

    columns = [photos] + [pictures_of(photos, found) for found in explain(model, images, methods)]
    labels = top_classes(model, images)
    figure = draw(columns, titles=["photograph", *methods], labels=labels)
    options.output.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output / "gallery.png", dpi=150, bbox_inches="tight", pad_inches=0.05)
    plt.close(figure)
    print(f"wrote {options.output / 'gallery.png'}")

    methods = choose_relevance(None if options.model else MIDDLE, options.quick)
    found = dict(zip(methods, explain(model, images, methods)))
    figure = relevance_figure(photos, images, found, labels)
    figure.savefig(options.output / "relevance.png", dpi=150)
    print(f"wrote {options.output / 'relevance.png'}")


if __name__ == "__main__":
    main()
