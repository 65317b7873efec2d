"""An activation atlas of the dense layer behind the convolutions: how the network puts digits into order.

Each test digit has one activation there. Writes `atlas.png` and `atlas.html`, to zoom in, into `output/`. The network
is trained once, about a minute on two cores; the map takes another.
"""

import matplotlib

matplotlib.use("Agg")

import keras
from digits import parse_options, prepare

from vis.concepts import ActivationAtlas
from vis.input_modifiers import Jitter

LAYER = -3  # the dense layer before the scores; a dropout is between


def main(arguments=None):
    """Runs the example."""
    options = parse_options(__doc__, arguments)
    model, (images, _) = prepare(options)
    options.output.mkdir(parents=True, exist_ok=True)
    if options.quick:
        images = images[:200]
    atlas = ActivationAtlas(model, LAYER, grid=3 if options.quick else 10, min_count=3, seed=0).fit(images)
    print(f"{len(atlas.activations)} activations in {len(atlas.cells)} cells, at least {atlas.min_count} in each")
    atlas.visualize(steps=3 if options.quick else 200, transforms=[Jitter(1)], optimizer=keras.optimizers.Adam(0.02))
    names = list(map(str, range(10)))
    atlas.figure(names).savefig(options.output / "atlas.png", dpi=80)
    atlas.to_html(options.output / "atlas.html", names, title="How a network puts digits into order")
    print(f"wrote {options.output / 'atlas.html'}")


if __name__ == "__main__":
    main()
