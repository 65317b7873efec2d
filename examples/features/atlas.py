"""An activation atlas: what a layer puts out for pieces of four photographs, laid out and made visible.

Writes `atlas.jpg` and `atlas.html`, a page to zoom in.
"""

import numpy as np
from recipes import QUICK_STEPS, RANGE, load_network, load_photo, parse_options

from vis.concepts import ActivationAtlas
from vis.concepts.crops import enlarged, pieces
from vis.input_modifiers import Jitter, Rotate, Scale
from vis.utils.utils import lookup_imagenet_labels

LAYER = "block9_project_bn"
PHOTOS = ("cat", "espresso", "rocket", "officer")
SIDE = 72  # pixels of a cell's image
PIECE = 112  # pixels of a piece of a photograph, of 224


def cut(photos):
    """Returns pieces of photographs, in the size of the photographs."""
    return enlarged(np.stack(list(pieces(photos, (PIECE, PIECE)))), photos.shape[1:3])


def main(arguments=None):
    """Runs the example."""
    options = parse_options(__doc__, arguments)
    names, grid, positions, steps = (PHOTOS[:1], 2, 4, QUICK_STEPS) if options.quick else (PHOTOS, 8, 40, 192)
    model, small = load_network(), load_network(SIDE)
    photos = np.concatenate([load_photo(name) for name in names])
    atlas = ActivationAtlas(model, LAYER, grid, num_positions=positions, seed=0)
    atlas.fit(photos if options.quick else np.concatenate([photos, cut(photos)]))
    transforms = [Jitter(4), Scale(0.9, 1.1), Rotate(5), Jitter(2)]
    atlas.visualize(steps, model=small, input_range=RANGE, transforms=transforms)
    labels = lookup_imagenet_labels(range(1000))
    atlas.figure(labels).savefig(options.output / "atlas.jpg", dpi=110)
    atlas.to_html(options.output / "atlas.html", labels, "EfficientNet-Lite0 and four photographs")
    print(f"{len(atlas.cells)} cells; wrote {options.output / 'atlas.html'}")


if __name__ == "__main__":
    main()
