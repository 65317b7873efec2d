"""What layers see in photographs, exaggerated: made from noise, one row a photograph."""

from recipes import QUICK_STEPS, RANGE, grid, load_network, load_photo, parse_options, save, to_pixels

import vis
from vis.input_modifiers import Jitter, Rotate, Scale
from vis.losses import Caricature

LAYERS = ("block6_project_bn", "block10_project_bn", "block14_project_bn")
PHOTOS = ("cat", "espresso", "officer")
TRANSFORMS = [Jitter(4), Scale(0.95, 1.05), Rotate(3)]  # weak ones: the places of the activations count


def exaggerate(model, layer, photo, steps):
    """Returns an image whose activations are like the photograph's, but longer."""
    fv = vis.FeatureVisualization(model, Caricature(layer, photo), transforms=TRANSFORMS, input_range=RANGE)
    image = fv(steps=steps, seed=0)[0]
    print(f"{layer}: {-next(iter(fv.history.values()))[-1, 0]:.1f} times as long and as like")
    return image


def main(arguments=None):
    """Runs the example."""
    options = parse_options(__doc__, arguments)
    names, layers, steps = (PHOTOS[:1], LAYERS[:1], QUICK_STEPS) if options.quick else (PHOTOS, LAYERS, 160)
    model, pictures, captions = load_network(), [], []
    for name in names:
        photo = load_photo(name)
        images = [photo[0]] + [exaggerate(model, layer, photo, steps) for layer in layers]
        pictures += [to_pixels(image) for image in images]
        captions += [name, *(layer.removesuffix("_bn") for layer in layers)]
    save(grid(pictures, captions, cols=1 + len(layers)), options.output / "caricature.jpg")


if __name__ == "__main__":
    main()
