"""Where does a network look when it calls voxels brain? Relevance of a head's voxels, in slices and turning around.

A 3-D U-Net marks the brain in an MRI volume of a head. Two scores are explained: the mean logit of all voxels that it
marks; and that of a place at the top that looks like brain and is not marked. Writes `brain.png` (three slices down,
the explanations across) and `brain.gif` (the relevance of the first score as a maximum projection that turns) into
`output/`. That takes about two minutes on two cores, and 11 GB of memory; `--quick` takes the head at half its
resolution, for which the network was not made: it shows only that everything runs.
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
MISSED, RADIUS = (64, 84, 86), 6  # of the place that is explained besides
SIGHT = 40  # voxels from its centre along each axis: nothing beyond changes what the network says of it
PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}  # and the axis that is cut


def find_brain(model, head):
    """Returns what the network marks, `(D, H, W)` booleans: its largest piece."""
    marked = keras.ops.convert_to_numpy(model(head))[0, ..., 0] > 0.5
    pieces, count = ndimage.label(marked)
    if not count:
        raise SystemExit("The network marks no voxel of this volume as brain.")
    return pieces == 1 + np.argmax(ndimage.sum_labels(marked, pieces, range(1, count + 1)))


def missed(brain):
    """Returns the voxels of a place that are not marked, the part of the volume that they can see, and the centre."""
    place = [len(brain) * index // 128 for index in MISSED]
    distances = np.linalg.norm(np.indices(brain.shape) - np.reshape(place, (3, 1, 1, 1)), axis=0)
    seen = tuple(
        slice(max(0, (centre - SIGHT) // 8 * 8), min(edge, -(-(centre + SIGHT) // 8) * 8))
        for centre, edge in zip(place, brain.shape)
    )
    return (distances <= RADIUS) & ~brain, seen, place


def explain(model, head, brain):
    """Yields a name, a map `(D, H, W)`, the voxels that it explains, and where slices are cut."""
    middle = [edge // 2 for edge in brain.shape]
    beside, seen, place = missed(brain)
    everything = (slice(None),) * 3
    looks = {
        "relevance of\nwhat is marked": (vis.LRP(model, "epsilon-plus"), brain, everything, middle),
        "relevance of a\nplace not marked": (vis.LRP(model, "epsilon-gamma"), beside, seen, place),
        "Grad-CAM of\nwhat is marked": (vis.GradCAM(model, "up0_conv"), brain, everything, middle),
    }
    for name, (explainer, voxels, part, cut) in looks.items():
        start = time.perf_counter()
        values = np.zeros(brain.shape, "float32")
        values[part] = np.squeeze(explainer(head[(slice(None), *part)], vis.targets.Region(voxels[part][None])))
        print(f"{' '.join(name.split()):32s} {time.perf_counter() - start:6.1f} s", flush=True)
        yield name, values, voxels, cut


def upright(volume, plane, cut):
    """Returns a slice as it is looked at: the top of the head, or the face in the axial plane, is up.

    Args:
        volume: `(D, H, W)`.
        plane: "sagittal", "coronal" or "axial".
        cut: A point of the slice, by its three indices.
    """
    axis = PLANES[plane]
    return np.take(volume, cut[axis], axis=axis).T[::-1]


def scaled(values, percentile):
    """Returns values in [-1, 1], with 0 at 0; what is above a percentile of those that are not 0 is cut off."""
    strengths = np.abs(values)[values != 0]
    return np.clip(values / np.percentile(strengths, percentile), -1, 1) if strengths.size else values


def tinted(grey, values):
    """Returns a grey picture with signed values in colour over it: red is above 0, blue below, 0 is transparent."""
    alpha = np.abs(values)[..., None] ** 0.7
    return (1 - alpha) * grey[..., None] + alpha * SIGNED((values + 1) / 2)[..., :3]


def draw(head, looks):
    """Returns a figure: three slices down, the explanations across; what is explained has a golden outline.

    Args:
        head: `(D, H, W)`, in [0, 1].
        looks: List of what `explain` yields.
    """
    figure = Figure(figsize=(2.5 * len(looks) + 0.4, 2.5 * len(PLANES) + 0.6), layout="compressed")
    axes = figure.subplots(len(PLANES), len(looks))
    for column, (name, values, voxels, cut) in zip(axes.T, looks):
        values = scaled(values, 99.7)
        for axis, plane in zip(column, PLANES):
            axis.imshow(tinted(upright(head, plane, cut), upright(values, plane, cut)))
            if upright(voxels, plane, cut).any():
                axis.contour(upright(voxels, plane, cut), [0.5], colors="gold", linewidths=0.8)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        column[0].set_title(name, fontsize=11)
    for axis, plane in zip(axes[:, 0], PLANES):
        axis.set_ylabel(plane, fontsize=11)
    return figure


def turning(head, values, frames):
    """Yields pictures of the strongest values along the line of sight, over the head's mean, turning around."""
    values = scaled(values, 99.98)  # few voxels are the strongest ones that are seen
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

    model, head = brain_unet3d(), load_head(64 if options.quick else 128)
    brain = find_brain(model, head)
    print(f"brain: {brain.mean():.3f} of the volume")
    looks = list(explain(model, head, brain))
    volume, strengths = head[0, ..., 0], np.abs(looks[0][1])
    print(f"{strengths[brain].sum() / strengths.sum():.0%} of the relevance of what is marked lies inside of it")

    draw(volume, looks).savefig(options.output / "brain.png", dpi=110)
    frames = turning(volume, looks[0][1], 4 if options.quick else FRAMES)
    vis.plotting.save_gif(list(frames), options.output / "brain.gif", fps=10)
    print(f"wrote {options.output / 'brain.png'} and {options.output / 'brain.gif'}")


if __name__ == "__main__":
    main()
