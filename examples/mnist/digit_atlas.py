"""An activation atlas of the MNIST network: the strokes that its last convolution knows, and the digits they are for.

`python examples/mnist/digit_atlas.py` writes `output/digit_atlas.png` and `output/digit_atlas.html`, a page to zoom in.
"""

from digits import load_digits, parse_options, train

from vis.concepts import ActivationAtlas
from vis.parameterizations import Fourier


def main(arguments=None):
    """Runs the example."""
    options = parse_options(__doc__, arguments)
    digits = load_digits(options.full)
    model = train(digits, options.output / "mnist.keras", options.quick, options.retrain)
    images, grid, steps = digits[1][0], 9, 128
    if options.quick:
        images, grid, steps = images[:50], 3, 3
    atlas = ActivationAtlas(model, 1, grid, num_positions=4, seed=0).fit(images, batch_size=128)
    atlas.visualize(steps, batch_size=32, input_range=(0, 1), parameterization=Fourier(), transforms=[])
    names = [str(digit) for digit in range(10)]
    atlas.figure(names).savefig(options.output / "digit_atlas.png", dpi=90)
    atlas.to_html(options.output / "digit_atlas.html", names, "Strokes of digits")
    print(f"{len(atlas.cells)} cells; wrote {options.output / 'digit_atlas.html'}")


if __name__ == "__main__":
    main()
