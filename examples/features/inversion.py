"""What each depth keeps of a photograph: images with the same activations, made from noise."""

from recipes import QUICK_STEPS, RANGE, grid, load_network, load_photo, parse_options, save, to_pixels

import vis
from vis.input_modifiers import Jitter, Scale
from vis.losses import FeatureInversion
from vis.regularizers import TotalVariation

MOVES = [Jitter(2), Scale(0.97, 1.03)]  # weak ones: the places of the activations count
LAYERS = {  # the first keeps so much that it needs none
    "block2_project_bn": [],
    "block4_project_bn": MOVES,
    "block6_project_bn": MOVES,
    "block10_project_bn": MOVES,
    "block14_project_bn": MOVES,
}
PHOTO = "cat"


def invert(model, layer, photo, transforms, steps):
    """Returns an image that the layer cannot tell from the photograph, and how far it still is."""
    fv = vis.FeatureVisualization(
        model,
        FeatureInversion(layer, photo),
        transforms=transforms,
        regularizers=[(TotalVariation(None), 0.5)],
        input_range=RANGE,
    )
    image = fv(steps=steps, seed=0)[0]
    return image, float(next(iter(fv.history.values()))[-1, 0])


def main(arguments=None):
    """Runs the example."""
    options = parse_options(__doc__, arguments)
    model, photo = load_network(), load_photo(PHOTO)
    pictures, captions = [to_pixels(photo[0])], ["photograph"]
    for layer, transforms in list(LAYERS.items())[: 2 if options.quick else None]:
        image, distance = invert(model, layer, photo, transforms, QUICK_STEPS if options.quick else 256)
        pictures.append(to_pixels(image))
        captions.append(layer.removesuffix("_bn"))
        print(f"{layer}: squared distance {distance:.3f}, in squared lengths of the photograph's activations")
    save(grid(pictures, captions, cols=6), options.output / "inversion.jpg")


if __name__ == "__main__":
    main()
