"""The sides of one channel: five images made alone, and five that must differ. Takes some minutes."""

from recipes import QUICK_STEPS, RANGE, crops, grid, load_network, parse_options, save, to_pixels

import vis
from vis.losses import ActivationMaximization, Diversity

LAYER, CHANNEL, SIZE = "block9_project_bn", 31, 160
WEIGHTS = (0, 10)


def main(arguments=None):
    """Runs the example."""
    options = parse_options(__doc__, arguments)
    model = load_network(SIZE)
    count, steps = (2, QUICK_STEPS) if options.quick else (5, 192)
    pictures, captions = [], []
    for weight in WEIGHTS:
        loss = ActivationMaximization(LAYER, CHANNEL)
        if weight:
            loss = loss + weight * Diversity(LAYER)
        fv = vis.FeatureVisualization(model, loss, transforms=crops(0.7, 0.1), input_range=RANGE)
        pictures += list(to_pixels(fv(num_images=count, steps=steps, seed=0)))
        activations = -fv.history["ActivationMax Loss"][-1]
        captions += [f"{'diverse' if weight else 'alone'}, activation {value:.1f}" for value in activations]
        print(loss, "->", {name: values[-1].mean().round(2) for name, values in fv.history.items()})
    save(grid(pictures, captions, cols=count), options.output / "diversity.jpg")


if __name__ == "__main__":
    main()
