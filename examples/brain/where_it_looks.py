"""Where does a network look when it calls voxels brain? Relevance of a head's voxels, in slices and turning around.

A 3-D U-Net marks the brain in an MRI volume of a head. The score that is explained is the mean logit of all voxels
that it marks, and, for contrast, that of a small region at the top of the brain's border. Writes `brain.png` (three
slices down, the methods across) and `brain.gif` (the relevance of the first score as a maximum projection that turns)
into `output/`. That takes some minutes on two cores and 6 GB of memory; `--quick` takes the head at a quarter of its
resolution, for which the network was not made: see only that everything runs.
"""

import argparse
import pathlib
import time

import keras
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from network import brain_unet3d, load_head
from scipy import ndimage

import vis

OUTPUT = pathlib.Path(__file__).resolve().parent / "output"
SIGNED = matplotlib.colormaps["RdBu_r"]
FRAMES = 36
PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}  # and the axis that is cut


def find_brain(model, head):
    """Returns what the network marks, `(D, H, W)` booleans: its largest piece."""
    marked = keras.ops.convert_to_numpy(model(head))[0, ..., 0] > 0.5
    pieces, count = ndimage.label(marked)
    if not count:
        raise SystemExit("The network marks no voxel of this volume as brain.")
    return pieces == 1 + np.argmax(ndimage.sum_labels(marked, pieces, range(1, count + 1)))


def top_of(brain, radius):
    """Returns the part of a mask that lies within a radius of its highest voxel in the middle plane."""
    middle = len(brain) // 2
    back, height = np.nonzero(brain[middle])
    highest = np.argmax(height)
    centre = np.array([middle, back[highest], height[highest]])
    distances = np.linalg.norm(np.indices(brain.shape) - centre[:, None, None, None], axis=0)
    return brain & (distances <= radius)


def explain(model, head, brain):
    """Yields names and maps `(D, H, W)`, and tells how long each took."""
    whole, top = (vis.targets.Region(mask[None]) for mask in (brain, top_of(brain, len(brain) // 21)))
    methods = {
        "relevance,\nwhole brain": (vis.LRP(model, "epsilon-gamma"), whole),
        "relevance,\ntop of the brain": (vis.LRP(model, "epsilon-gamma"), top),
        "Grad-CAM,\nwhole brain": (vis.GradCAM(model, "down2_conv2"), whole),
    }
    for name, (explainer, target) in methods.items():
        start = time.perf_counter()
        values = np.squeeze(explainer(head, target))
        print(f"{' '.join(name.split()):32s} {time.perf_counter() - start:6.1f} s", flush=True)
        yield name, values


def upright(volume, plane, index=None):
    """Returns a slice as it is looked at: the top of the head, or the face in the axial plane, is up.

    Args:
        volume: `(D, H, W)`.
        plane: "sagittal", "coronal" or "axial".
        index: Which slice. Default `None`: the middle one.
    """
    axis = PLANES[plane]
    index = volume.shape[axis] // 2 if index is None else index
    return np.take(volume, index, axis=axis).T[::-1]


def scaled(values):
    """Returns values in [-1, 1], with 0 at 0; the strongest percent of those that are not 0 is cut off."""
    strengths = np.abs(values)[values != 0]
    return np.clip(values / np.percentile(strengths, 99), -1, 1) if strengths.size else values


def tinted(grey, values):
    """Returns a grey picture with signed values in colour over it: red is above 0, blue below, 0 is transparent."""
    alpha = np.sqrt(np.abs(values))[..., None]
    return (1 - alpha) * grey[..., None] + alpha * SIGNED((values + 1) / 2)[..., :3]


def draw(head, brain, maps):
    """Returns a figure: three slices down; the head with the brain's outline and the maps across."""
    figure = Figure(figsize=(2.3 * (1 + len(maps)), 2.3 * len(PLANES) + 0.5), layout="compressed")
    for row, plane in zip(figure.subplots(len(PLANES), 1 + len(maps)), PLANES):
        grey = upright(head, plane)
        row[0].imshow(grey, cmap="gray", vmin=0, vmax=1)
        row[0].contour(upright(brain, plane), [0.5], colors="gold", linewidths=1)
        row[0].set_ylabel(plane, fontsize=11)
        for axis, values in zip(row[1:], maps.values()):
            axis.imshow(tinted(grey, scaled(upright(values, plane))))
        for axis in row:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    for axis, title in zip(figure.axes, ["head, outline of\nwhat is called brain", *maps]):
        axis.set_title(title, fontsize=11)
    return figure


def turning(head, values, frames):
    """Yields pictures of the strongest values along the line of sight, over the head's mean, turning around."""
    values = scaled(values)
    for degrees in np.linspace(0, 360, frames, endpoint=False):
        seen, turned = (ndimage.rotate(volume, degrees, (0, 1), reshape=False, order=1) for volume in (head, values))
        strongest = np.take_along_axis(turned, np.abs(turned).argmax(axis=1)[:, None], axis=1)[:, 0]
        grey = seen.mean(axis=1)
        yield tinted((grey / max(grey.max(), 1e-6)).T[::-1], strongest.T[::-1])


def main(arguments=None):
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small head and few frames")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT, help="folder for the pictures")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)

    model, head = brain_unet3d(), load_head(32 if options.quick else 128)
    brain = find_brain(model, head)
    print(f"brain: {brain.mean():.3f} of the volume")
    maps = dict(explain(model, head, brain))
    volume = head[0, ..., 0]
    for name, values in maps.items():
        share = np.abs(values)[brain].sum() / np.abs(values).sum()
        print(f"{' '.join(name.split())}: {share:.0%} of the strength inside of the brain")

    draw(volume, brain, maps).savefig(options.output / "brain.png", dpi=110)
    frames = turning(volume, next(iter(maps.values())), 4 if options.quick else FRAMES)
    vis.plotting.save_gif(list(frames), options.output / "brain.gif", fps=10)
    print(f"wrote {options.output / 'brain.png'} and {options.output / 'brain.gif'}")


if __name__ == "__main__":
    main()
