"""What a vision transformer attends to, and which patches make it call a place salient.

Writes two pictures into `output/`, which takes about two minutes on two cores:

* `heads.png`: where the class token looks, head by head, at four depths.
* `places.png`: a place in each photograph (gold), and five answers to the question of what its saliency comes from.
  Rollout and attention relevance go by the attention, LRP goes through all of the network, Grad-CAM stops at the grid
  of patches before the decoder.

Red speaks for the place, blue against it; the other maps have no sign. This network has no class: its decoder reads the
patches and drops the class token. What the class token gathers comes into the answer only where patches attend to it
later, so its attention in the last block says nothing of the answer, and is left out.
"""

import argparse
import pathlib

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from network import BLOCKS, GRID, NAMES, PATCH, load_photos, prepare, saliency_vit

import vis

OUTPUT = pathlib.Path(__file__).resolve().parent / "output"
SIGNED, HEAT = matplotlib.colormaps["RdBu_r"], matplotlib.colormaps["inferno"]
DEPTHS = (0, 4, 8, BLOCKS - 2)  # the last is that before the last block
PLACES = {  # row, column and radius
    "cat": ("an eye", 86, 71, 14),
    "espresso": ("the spoon", 155, 140, 14),
    "rocket": ("the top", 85, 110, 14),
    "officer": ("the face", 80, 116, 14),
}


def place(name):
    """Returns the mask `(224, 224)` of the place that is explained in a photograph."""
    _, row, column, radius = PLACES[name]
    rows, columns = np.indices((GRID * PATCH, GRID * PATCH))
    return np.hypot(rows - row, columns - column) <= radius


def class_attention(model, images, depths=DEPTHS):
    """Returns how much the class token looks at each patch, `(N, depths, heads, 16, 16)`."""
    layers = [f"block{depth}_attention" for depth in depths]
    maps = vis.attention_maps(model, images, layers=layers)
    return np.stack([maps[layer][:, :, 0, 1:].reshape(len(images), -1, GRID, GRID) for layer in layers], axis=1)


def explain(model, images, masks):
    """Yields titles and maps `(N, 224, 224)` of what the saliency inside of the masks comes from."""
    target = vis.targets.Region(masks)
    yield "rollout", on_image(vis.AttentionRollout(model, upsample=False)(images, target))
    yield "attention\nrelevance", on_image(vis.AttentionRelevance(model, upsample=False)(images, target))
    pixels = vis.LRP(model, "attention")(images, target)
    yield "LRP, summed\nover patches", on_image(pixels.reshape(-1, GRID, PATCH, GRID, PATCH * 3).sum(axis=(2, 4)))
    yield "Grad-CAM", vis.GradCAM(model, "grid")(images, target)


def on_image(maps):
    """Returns values of patches `(N, 16, 16)` as maps `(N, 224, 224)`."""
    return np.kron(maps, np.ones((1, PATCH, PATCH)))


def scaled(values):
    """Returns a map in [-1, 1], with 0 at 0; the strongest hundredth of it is cut off."""
    return np.clip(values / (np.percentile(np.abs(values), 99) or 1), -1, 1)


def coloured(photo, values):
    """Returns a grey photograph with a map over it: heat, or red and blue where some of it is below 0."""
    grey = np.repeat(photo.mean(axis=-1, keepdims=True) / 255, 3, axis=-1)
    is_signed = values.min() < 0
    colours = SIGNED((values + 1) / 2) if is_signed else HEAT(values)
    alpha = np.maximum(np.abs(values)[..., None] ** 0.7, 0 if is_signed else 0.25)
    return (1 - alpha) * grey + alpha * colours[..., :3]


def bare(axis, picture, **options):
    """Draws a picture without ticks or a frame."""
    axis.imshow(picture, **options)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def draw_heads(photos, attention, names, depths=DEPTHS):
    """Returns a figure with a panel for each photograph: depths down, heads across.

    Args:
        photos: `(N, 224, 224, 3)`.
        attention: What `class_attention` returns.
        names: Of the photographs.
        depths: Numbers of the blocks.
    """
    heads = attention.shape[2]
    panels = min(2, len(photos))
    lines = -(-len(photos) // panels)
    figure = Figure(figsize=(panels * 0.75 * (heads + 2.4), lines * (0.75 * len(depths) + 0.5)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    for part, photo, own, name in zip(figure.subfigures(lines, panels, squeeze=False).flat, photos, attention, names):
        grid = part.add_gridspec(len(depths), heads + 2)
        axis = part.add_subplot(grid[:2, :2])
        bare(axis, photo)
        axis.set_title(name, fontsize=10)
        for row, (depth, maps) in enumerate(zip(depths, own)):
            for head, values in enumerate(maps):
                axis = part.add_subplot(grid[row, 2 + head])
                bare(axis, values, cmap=HEAT)
                axis.set_title(f"head {head}" if row == 0 else "", fontsize=8)
                axis.set_ylabel("" if head else f"block {depth}", fontsize=8)
    return figure


def draw_places(photos, saliency, masks, found, names):
    """Returns a figure: photographs down; across, the place, the output of the network, and what explains it.

    Args:
        photos: `(N, 224, 224, 3)`.
        saliency: `(N, 224, 224)`, what the network says.
        masks: `(N, 224, 224)` booleans, the places.
        found: Dict from titles to maps `(N, 224, 224)`.
        names: Of the photographs.
    """
    titles = ["photograph", "saliency", *found]
    figure = Figure(figsize=(1.7 * len(titles) + 0.5, 1.7 * len(photos) + 0.5), layout="compressed")
    axes = figure.subplots(len(photos), len(titles), squeeze=False)
    for i, (row, photo, mask, name) in enumerate(zip(axes, photos, masks, names)):
        pictures = [photo, matplotlib.colormaps["gray"](saliency[i])]
        pictures += [coloured(photo, scaled(values[i])) for values in found.values()]
        for axis, picture in zip(row, pictures):
            bare(axis, picture)
            axis.contour(mask, [0.5], colors="gold", linewidths=1)
        row[0].set_ylabel(f"{name}:\n{PLACES[name][0]}", fontsize=10)
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, fontsize=10)
    return figure


def main(arguments=None):
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one photograph")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT, help="folder for the pictures")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)

    names = NAMES[:1] if options.quick else NAMES
    model, photos = saliency_vit(), load_photos(names)
    images, masks = prepare(photos), np.stack([place(name) for name in names])
    saliency = model.predict(images, verbose=0)[..., 0]
    for name, values, mask in zip(names, saliency, masks):
        print(f"{name:9s} {PLACES[name][0]:10s} saliency {values[mask].mean():.2f}, of all {values.mean():.2f}")

    draw_heads(photos, class_attention(model, images), names).savefig(options.output / "heads.png", dpi=110)
    found = dict(explain(model, images, masks))
    draw_places(photos, saliency, masks, found, names).savefig(options.output / "places.png", dpi=110)
    print(f"wrote {options.output / 'heads.png'} and {options.output / 'places.png'}")


if __name__ == "__main__":
    main()
