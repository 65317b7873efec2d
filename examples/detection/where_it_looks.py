"""Where a face detector looks for a face, what it makes of a hat, and what makes a cat nearly a face.

Writes two pictures into `output/`, which takes a minute on two cores:

* `faces.png`: three boxes (gold) in two photographs, with the maps of four methods. The first is the face that the
  detector finds, with the points that it finds in it. The second was drawn by hand around the hat: there it finds
  nothing, and what comes nearest to that box is the face below. The third is what it takes for a face in the cat, with
  a score just below the threshold of 0.5.
* `hidden.png`: what is left of the face's likeness when a part of the photograph is grey.

Red is what speaks for the box. Each map has a scale of its own: the numbers below it are in units of the likeness,
which is overlap times score, 0 to 1. The two CAMs are made of gradients, so only their patterns count. A head reads a
face of this size from one cell of an 8x8 grid. Only there has it a gradient, so Grad-CAM at that grid has nothing but
the weights of one cell for all of them.
"""

import argparse
import pathlib

import keras
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from network import SIZE, blazeface, decode, find_faces, load_photos, overlap, prepare

import vis
from vis.targets import Box

OUTPUT = pathlib.Path(__file__).resolve().parent / "output"
SIGNED = matplotlib.colormaps["RdBu_r"]
HAT = (0.33, 0.0, 0.70, 0.22)  # left, top, right, bottom
LAST, EARLY = "block15_out", "block4_out"  # the grid of 8x8 cells that large faces are read from, and one of 32x32
GREY = 127  # of a pixel that is hidden: 0 for the network, as with RISE and occlusion


def boxes_to_explain(model, photos):
    """Returns words, the number of the photograph, a box and points for each row of the picture."""
    officer, cat = find_faces(model, prepare(photos), least=0.4)
    face, almost = officer[0], cat[0]
    return [
        (f"a face: score {face['score']:.2f}", 0, face["box"], face["points"]),
        ("the hat", 0, np.array(HAT, "float32"), np.empty((0, 2))),
        (f"nearly a face: {almost['score']:.2f}", 1, almost["box"], almost["points"]),
    ]


def likeness(model, photos, boxes):
    """Returns overlap and score of the proposal that is most like a box in each photograph, `(N, 2)`.

    Their product is what `vis.targets.Box` explains.

    Args:
        model: The network.
        photos: `(N, 128, 128, 3)`, 0 to 255.
        boxes: `(N, 4)`.
    """
    proposals, scores = map(keras.ops.convert_to_numpy, decode(model(prepare(photos))))
    overlaps = np.array([[overlap(np.clip(one, 0, 1), box) for one in own] for own, box in zip(proposals, boxes)])
    best = (overlaps * scores[..., 0]).argmax(axis=1)[:, None]
    return np.concatenate([np.take_along_axis(numbers, best, 1) for numbers in (overlaps, scores[..., 0])], axis=1)


def explain(model, images, boxes, num_masks, stride):
    """Yields titles and maps `(N, 128, 128)`."""
    target = Box(boxes, 0, decode)
    rise = vis.RISE(model, num_masks=num_masks, seed=0)(images, target)
    yield "D-RISE", rise - np.median(rise, axis=(1, 2), keepdims=True)
    yield "occlusion, 32 pixels", vis.Occlusion(model, patch=32, stride=stride)(images, target)
    yield "Grad-CAM, 8x8 cells", vis.GradCAM(model, LAST)(images, target)
    yield "Layer-CAM, 32x32 cells", vis.LayerCAM(model, EARLY)(images, target)


def parts(points):
    """Returns the parts of the officer's photograph that are hidden: dict of masks `(128, 128)`.

    Args:
        points: Of the face, `(6, 2)`: eyes, nose, mouth and ears.
    """
    rows, columns = np.indices((SIZE, SIZE)) + 0.5
    right_eye, left_eye, nose, mouth, right_ear, left_ear = (
        np.hypot(columns - x, rows - y) <= SIZE / 14 for x, y in points * SIZE
    )
    face = (columns > 41) & (columns < 92) & (rows > 25) & (rows < 75)
    hat = (columns > 40) & (columns < 92) & (rows < 29)
    return {
        "nothing": np.zeros((SIZE, SIZE), bool),
        "the uniform": rows > 78,
        "the flag": columns < 36,
        "the hat": hat,
        "all but the face": ~face,
        "all but face and hat": ~(face | hat),
        "the ears": right_ear | left_ear,
        "the nose": nose,
        "the mouth": mouth,
        "both eyes": right_eye | left_eye,
        "eyes, nose and mouth": right_eye | left_eye | nose | mouth,
        "the face": face,
    }


def coloured(photo, values):
    """Returns a grey photograph with a map over it, red above 0 and blue below; what is strongest is cut off."""
    values = np.clip(values / (np.percentile(np.abs(values), 99.8) or 1), -1, 1)
    grey = np.repeat(photo.mean(axis=-1, keepdims=True) / 255, 3, axis=-1)
    alpha = 0.85 * np.abs(values)[..., None] ** 0.8
    return (1 - alpha) * grey + alpha * SIGNED((values + 1) / 2)[..., :3]


def bare(axis, picture):
    """Draws a picture `(H, W, 3)` of the whole photograph without ticks or a frame."""
    axis.imshow(picture, extent=(0, 1, 1, 0))
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def draw_faces(photos, large, rows, scores, found):
    """Returns a figure: boxes down; across, the photograph and its maps.

    Args:
        photos: `(N, 128, 128, 3)`, as the network sees them.
        large: `(N, H, W, 3)`, the same with more pixels.
        rows: What `boxes_to_explain` returns.
        scores: Of the rows, what `likeness` returns.
        found: Dict from titles to maps `(rows, 128, 128)`.
    """
    figure = Figure(figsize=(2.3 * (1 + len(found)), 2.55 * len(rows) + 0.2), layout="compressed")
    for line, (axes, (words, number, box, points)) in enumerate(
        zip(figure.subplots(len(rows), 1 + len(found), squeeze=False), rows)
    ):
        bare(axes[0], large[number])
        axes[0].scatter(*points.T, s=6, color="gold")
        axes[0].set_ylabel(words, fontsize=10)
        axes[0].set_xlabel("overlap {:.2f} x score {:.2f}".format(*scores[line]), fontsize=8)
        for axis, (title, maps) in zip(axes[1:], found.items()):
            bare(axis, coloured(photos[number], maps[line]))
            axis.set_title(title if line == 0 else "", fontsize=10)
            low, high = maps[line].min(), maps[line].max()
            words = f"{low:.3f} to {high:.3f}" if "CAM" not in title else "" if high > low else "zero"
            axis.set_xlabel(words, fontsize=8)
        for axis in axes:
            left, top, right, bottom = np.clip(box, 0.005, 0.995)
            axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color="gold", linewidth=1.2))
    return figure


def draw_hidden(photo, masks, scores):
    """Returns a figure: below each photograph with a part in grey, what is left of the face's likeness.

    Args:
        photo: `(128, 128, 3)`.
        masks: Dict from words to masks `(128, 128)`.
        scores: The likeness for each.
    """
    columns = 6
    figure = Figure(figsize=(1.75 * columns, 2.1 * -(-len(masks) // columns)), layout="compressed")
    axes = figure.subplots(-(-len(masks) // columns), columns, squeeze=False)
    for axis, (words, mask), score in zip(axes.flat, masks.items(), scores):
        bare(axis, np.where(mask[..., None], GREY, photo))
        axis.set_title(f"{words}: {score:.2f}", fontsize=9)
    return figure


def main(arguments=None):
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few masks, so that maps are rough")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT, help="folder for the pictures")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)

    model, names = blazeface(), ("officer", "cat")
    photos, large = load_photos(names), load_photos(names, 320)
    rows = boxes_to_explain(model, photos)
    numbers, boxes = [number for _, number, *_ in rows], np.stack([box for _, _, box, _ in rows])
    scores = likeness(model, photos[numbers], boxes)
    for (words, *_), (shared, score) in zip(rows, scores):
        print(f"{words:22s} nearest proposal: overlap {shared:.2f} x score {score:.2f}")
    found = dict(explain(model, prepare(photos[numbers]), boxes, *((100, 16) if options.quick else (4000, 4))))
    draw_faces(photos, large, rows, scores, found).savefig(options.output / "faces.png", dpi=110)

    masks = parts(rows[0][3])
    hidden = np.stack([np.where(mask[..., None], GREY, photos[0]) for mask in masks.values()])
    left = likeness(model, hidden, boxes[[0] * len(hidden)]).prod(axis=1)
    for words, score in zip(masks, left):
        print(f"hidden: {words:22s} {score:.2f}")
    draw_hidden(photos[0], masks, left).savefig(options.output / "hidden.png", dpi=110)
    print(f"wrote {options.output / 'faces.png'} and {options.output / 'hidden.png'}")


if __name__ == "__main__":
    main()
