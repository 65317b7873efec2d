"""Which pixels decide where the edge of a person is, for a network that marks persons in pictures.

Writes two pictures into `output/`, which takes half a minute on two cores:

* `edge.png`: four stretches of the edge (cyan) of the mask (gold) in a photograph, and three answers to the question of
  what the mean probability of "person" in a band along the stretch comes from. Red: without the place, the band is less
  of a person, and the edge moves in. Blue: it moves out. The numbers below are how much the probability falls where a
  window is hidden. Grad-CAM is at the deepest grid, of 16x16 cells.
* `reach.png`: how much of the integrated gradients, by their size, is how near to the stretch.
"""

import argparse
import pathlib

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from network import load_photos, prepare, selfie_segmentation

import vis
from vis.targets import Region

OUTPUT = pathlib.Path(__file__).resolve().parent / "output"
SIGNED = matplotlib.colormaps["RdBu_r"]
WIDTH = 3  # pixels of the band on either side of the edge
STRETCHES = {  # rows and columns, from and to
    "the hat": (0, 50, 0, 256),
    "the cheek": (70, 130, 150, 256),
    "the sleeve by the flag": (165, 235, 0, 100),
    "the sleeve by the sky": (165, 235, 170, 256),
}


def distance_to(mask):
    """Returns how far each pixel is from the nearest one of a mask, in pixels, `(H, W)`."""
    rows, columns = np.indices(mask.shape)
    squares = np.full(mask.shape, np.inf)
    for row, column in np.argwhere(mask):
        squares = np.minimum(squares, (rows - row) ** 2 + (columns - column) ** 2)
    return np.sqrt(squares)


def edge_of(marked):
    """Returns the pixels of a mask that have one beside them which does not belong to it, booleans `(H, W)`."""
    around = np.pad(marked, 1, mode="edge")
    kept = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return marked & ~kept


def bands(marked):
    """Returns the bands along the stretches of a mask's edge, dict of booleans `(256, 256)`."""
    whole, found = edge_of(marked), {}
    for words, (top, bottom, left, right) in STRETCHES.items():
        part = np.zeros_like(whole)
        part[top:bottom, left:right] = whole[top:bottom, left:right]
        found[words] = distance_to(part) <= WIDTH
    return found


def explain(model, images, masks, steps, stride):
    """Yields titles and maps `(N, 256, 256)`."""
    target = Region(masks)
    yield "occlusion, 32 pixels", vis.Occlusion(model, patch=32, stride=stride, baseline="mean")(images, target)
    # from grey, which is what is seen where nothing is
    shares = vis.IntegratedGradients(model, steps=steps, baseline=0.5)(images, target)
    yield "integrated gradients", shares.sum(axis=-1)
    yield "Grad-CAM", vis.GradCAM(model, "block7_out")(images, target)


def in_cells(maps, edge=8):
    """Returns maps `(N, 256, 256)` with the sum of each cell on all of its pixels: grains of both signs cancel."""
    count, height, width = maps.shape
    sums = maps.reshape(count, height // edge, edge, width // edge, edge).sum(axis=(2, 4))
    return np.kron(sums, np.ones((1, edge, edge)))


def coloured(photo, values):
    """Returns a grey photograph with a map over it, red above 0 and blue below; what is strongest is cut off."""
    values = np.clip(values / (np.percentile(np.abs(values), 99.5) or 1), -1, 1)
    grey = np.repeat(photo.mean(axis=-1, keepdims=True) / 255, 3, axis=-1)
    alpha = np.abs(values)[..., None] ** 0.6
    return (1 - alpha) * (0.5 + grey / 2) + alpha * SIGNED((values + 1) / 2)[..., :3]


def reach(values, far, distances):
    """Returns how much of a map's absolute values is within each distance, 0 to 1.

    Args:
        values: `(H, W)`.
        far: How far each pixel is, `(H, W)`.
        distances: Numbers.
    """
    sizes = np.abs(values)
    return np.array([sizes[far <= distance].sum() for distance in distances]) / sizes.sum()


def bare(axis, picture):
    """Draws a picture without ticks or a frame."""
    axis.imshow(picture)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def draw_edges(photo, probabilities, masks, found):
    """Returns a figure: stretches down; across, where they are, and the maps.

    Args:
        photo: `(256, 256, 3)`.
        probabilities: `(256, 256)`, what the network says.
        masks: Dict from words to bands `(256, 256)`.
        found: Dict from titles to maps, one for each band.
    """
    figure = Figure(figsize=(2.3 * (1 + len(found)), 2.5 * len(masks) + 0.2), layout="compressed")
    axes = figure.subplots(len(masks), 1 + len(found), squeeze=False)
    for line, (row, (words, mask)) in enumerate(zip(axes, masks.items())):
        bare(row[0], photo)
        row[0].contourf(mask, [0.5, 1], colors="cyan", alpha=0.6)
        row[0].set_ylabel(words, fontsize=10)
        for axis, (title, maps) in zip(row[1:], found.items()):
            bare(axis, coloured(photo, maps[line]))
            axis.contour(mask, [0.5], colors="black", linewidths=0.6)
            axis.set_title(title if line == 0 else "", fontsize=10)
            low, high = maps[line].min(), maps[line].max()
            axis.set_xlabel(f"{low:.2f} to {high:.2f}" if title.startswith("occlusion") else "", fontsize=8)
        row[0].contour(probabilities, [0.5], colors="gold", linewidths=1)
    return figure


def draw_reach(far, maps):
    """Returns a figure: a curve for each band, of how much of its map lies within a distance.

    Args:
        far: Dict from words to how far each pixel is from the band, `(256, 256)`.
        maps: `(bands, 256, 256)`.
    """
    figure = Figure(figsize=(5.5, 3.4), layout="constrained")
    axis, distances = figure.subplots(), np.arange(0, 161, 4)
    for number, ((words, pixels), values) in enumerate(zip(far.items(), maps)):
        axis.plot(distances, reach(values, pixels, distances), color=f"C{number}", label=words)
        even = reach(np.ones_like(values), pixels, distances)
        axis.plot(distances, even, ":", color=f"C{number}", label="if it were even" if number == 0 else None)
    axis.set(xlabel="pixels from the stretch", ylabel="share of the map", xlim=(0, 160), ylim=(0, 1))
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def main(arguments=None):
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few windows and steps")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT, help="folder for the pictures")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)

    model, photos = selfie_segmentation(), load_photos(["officer"])
    images = prepare(photos)
    probabilities = model.predict(images, verbose=0)[0, ..., 0]
    masks = bands(probabilities > 0.5)
    steps, stride = (4, 32) if options.quick else (50, 8)
    together = np.repeat(images, len(masks), axis=0)
    found = dict(explain(model, together, np.stack(list(masks.values())), steps, stride))
    shares, far = found["integrated gradients"], {words: distance_to(mask) for words, mask in masks.items()}
    for (words, mask), hidden, values in zip(masks.items(), found["occlusion, 32 pixels"], shares):
        near, wide = reach(values, far[words], [16, 48])
        print(f"{words:23s} {probabilities[mask].mean():.2f} person; hiding costs {hidden.min():.2f} to ", end="")
        print(f"{hidden.max():.2f}; {near:.2f} of the gradients within 16 pixels, {wide:.2f} within 48")
    drawn = {**found, "integrated gradients": in_cells(shares)}
    draw_edges(photos[0], probabilities, masks, drawn).savefig(options.output / "edge.png", dpi=110)
    draw_reach(far, shares).savefig(options.output / "reach.png", dpi=110)
    print(f"wrote {options.output / 'edge.png'} and {options.output / 'reach.png'}")


if __name__ == "__main__":
    main()
