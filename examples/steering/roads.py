"""What the steering example works on: drawn roads, and a small network that reads the angle off them.

The ground is flat and the road is an arc, seen from a car that drives along it. Only the bend of the road tells the
angle: colours, light, horizon, position in the lane, clouds, trees and bushes are drawn at random, and the road is
drawn over them, so that they say nothing of it.
"""

import argparse
import pathlib

import keras
import numpy as np
from keras import layers

OUTPUT = pathlib.Path(__file__).resolve().parent / "output"
SHAPE = (64, 96, 3)
EPOCHS = 10
SEED = 7
BEND = 0.05  # how far a full bend moves the road sideways at the lower edge, in picture widths
FINE = 2  # each pixel is the mean of FINE x FINE finer ones, so that edges are smooth


def random_scene(generator):
    """Returns all that a picture shows beside the angle, as a dict for `draw`.

    Args:
        generator: A `numpy.random.Generator`.
    """
    between = generator.uniform
    return {
        "horizon": between(0.3, 0.42),  # of the picture's height
        "offset": between(-0.12, 0.12),  # of the car in its lane, in picture widths at the lower edge
        "heading": between(-0.05, 0.05),  # of the car, as a shift of the whole view in picture widths
        "half_width": between(0.4, 0.55),  # of the road at the lower edge, in picture widths
        "dash": between(0, 1),  # where the dashes of the centre line begin
        "sky": between((0.3, 0.5, 0.75), (0.75, 0.85, 1.0)),
        "grass": between((0.15, 0.3, 0.05), (0.6, 0.6, 0.3)),
        "road": between(0.2, 0.5) + between(-0.03, 0.03, 3),
        "paint": between((0.8, 0.75, 0.4), (1.0, 1.0, 1.0)),
        "light": between(0.65, 1.1),
        "clouds": _blobs(
            generator, 4, rows=(0.0, 0.3), sizes=((0.02, 0.06), (0.06, 0.2)), dark=0.75, bright=1.0, tint=0.0
        ),
        "bushes": _blobs(generator, 5, rows=(0.4, 1.0), sizes=((0.02, 0.08), (0.02, 0.1)), dark=0.05, bright=0.5),
        "trees": _blobs(generator, 6, rows=(0.0, 0.0), sizes=((0.06, 0.2), (0.015, 0.05)), dark=0.05, bright=0.35),
        "grain": int(generator.integers(2**31)),
    }


def _blobs(generator, most, rows, sizes, dark, bright, tint=0.3):
    """Returns up to `most` blobs, each `(row, column, height, width, colour)` in parts of the picture."""
    return [
        (
            generator.uniform(*rows),
            generator.uniform(0, 1),
            generator.uniform(*sizes[0]),
            generator.uniform(*sizes[1]),
            generator.uniform(dark, bright) * generator.uniform((1 - tint, 1 - tint / 3, 1 - tint), 1, 3),
        )
        for _ in range(generator.integers(most + 1))
    ]


def draw(angle, scene, without=()):
    """Returns the picture of a road, `(64, 96, 3)`, float32 in [0, 1].

    Args:
        angle: Steering angle, from -1 (full left) to 1 (full right).
        scene: What `random_scene` returns.
        without: What is left out: any of `"road"` (the tarmac), `"edges"` and `"centre"` (its lines). Default: nothing.
    """
    rows, columns = _places()
    picture = np.where((rows < scene["horizon"])[..., None], scene["sky"], scene["grass"])
    for row, column, height, width, colour in scene["clouds"] + scene["bushes"]:
        picture[((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 < 1] = colour
    for _, column, height, width, colour in scene["trees"]:  # pointed, on the horizon
        up = (scene["horizon"] - rows) / height
        picture[(up >= 0) & (np.abs(columns - column) < width * (1 - up))] = colour
    for part, mask in parts(angle, scene, fine=True).items():
        if part in ("road", "edges", "centre") and part not in without:
            picture[mask] = scene["road" if part == "road" else "paint"]
    grain = np.random.default_rng(scene["grain"]).normal(0, 0.02, SHAPE)
    return np.clip(scene["light"] * _coarse(picture) + grain, 0, 1).astype("float32")


def parts(angle, scene, fine=False):
    """Returns which pixels show what, as a dict of masks: "sky", "grass", "road", "edges", "centre".

    Args:
        angle: See `draw`.
        scene: See `draw`.
        fine: Whether the masks have the size of the finer picture that `draw` begins with. Default `False`.
    """
    rows, columns = _places()
    ground = rows > scene["horizon"]
    near = np.where(ground, (rows - scene["horizon"]) / (1 - scene["horizon"]), 1e-3)  # 1 / distance, 0 to 1
    # An arc that leaves the car's way by k z^2 at the distance z is seen k z beside it.
    middle = 0.5 + scene["heading"] + scene["offset"] * near + BEND * angle / near
    across = (columns - middle) / (scene["half_width"] * near)  # -1 to 1 from edge to edge
    dashed = (1.2 / near + scene["dash"]) % 1 < 0.5
    masks = {
        "sky": ~ground,
        "grass": ground & (np.abs(across) > 1),
        "road": ground & (np.abs(across) <= 1),
        "edges": ground & (np.abs(np.abs(across) - 0.91) < 0.045),
        "centre": ground & (np.abs(across) < 0.035) & dashed,
    }
    return masks if fine else {name: _coarse(mask[..., None])[..., 0] > 0.25 for name, mask in masks.items()}


def _places():
    """Returns the rows and columns of the finer pixels, in parts of the picture."""
    height, width = SHAPE[0] * FINE, SHAPE[1] * FINE
    return np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")


def _coarse(picture):
    return picture.reshape(SHAPE[0], FINE, SHAPE[1], FINE, -1).mean(axis=(1, 3))


def random_roads(count, seed):
    """Returns `(images, angles, scenes)` of random roads.

    Args:
        count: How many.
        seed: Seed of the scenes and the angles.

    Returns:
        Images `(count, 64, 96, 3)`, float32 in [0, 1]; angles `(count,)`, float32, each as likely as any other
        from -1 (full left) to 1 (full right); and the list of scenes.
    """
    generator = np.random.default_rng(seed)
    scenes = [random_scene(generator) for _ in range(count)]
    angles = generator.uniform(-1, 1, count).astype("float32")
    return np.stack([draw(angle, scene) for angle, scene in zip(angles, scenes)]), angles, scenes


def build_model():
    """Returns the untrained network: four convolutions, the mean over all places, one linear unit.

    The mean makes the angle a sum over places, one share for each cell of the last feature map, and this is what a
    class activation map draws. A Flatten in its place would give each place weights of its own, which Grad-CAM
    averages away. Without the normalisation it did not learn. A step of 2 goes with a kernel of 4: with an odd one,
    "same" pads one more at the end, and each cell would look at a place below and to the right of its own.
    """
    model = keras.Sequential([keras.Input(SHAPE)], name="steering")
    for number, (filters, size, step) in enumerate([(16, 4, 2), (24, 4, 2), (32, 4, 2), (48, 3, 1)], start=1):
        model.add(layers.Conv2D(filters, size, step, padding="same", use_bias=False, name=f"conv{number}"))
        model.add(layers.BatchNormalization(momentum=0.9, name=f"norm{number}"))
        model.add(layers.ReLU(name=f"relu{number}"))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(1, name="angle"))
    return model


def train(path, quick=False, retrain=False):
    """Returns the trained network.

    Args:
        path: File that keeps the trained network; it is loaded from there next time.
        quick: Whether to train on few roads, to see that everything runs. Such a network is
            neither kept nor loaded. Default `False`.
        retrain: Whether to train even if there is a trained network. Default `False`.
    """
    path = pathlib.Path(path)
    if path.exists() and not (quick or retrain):
        print(f"loading the trained network {path}")
        return keras.models.load_model(path)
    if quick:
        return _fitted(400, epochs=2)
    model = _fitted(8000, EPOCHS)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return model


def _fitted(count, epochs, batch_size=32):
    images, angles, _ = random_roads(count, SEED)
    keras.utils.set_random_seed(SEED)
    model = build_model()
    steps = epochs * int(np.ceil(count / batch_size))
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)), "mse")
    model.fit(images, angles, batch_size=batch_size, epochs=epochs, verbose=2)
    return model


def predict(model, images):
    """Returns the angles that the network reads off images, `(N,)`."""
    return model.predict(np.asarray(images), batch_size=64, verbose=0)[:, 0]


def parse_options(description, arguments=None):
    """Returns the options of the command line: `quick`, `retrain`, `output`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="see only that everything runs; the pictures are poor")
    parser.add_argument("--retrain", action="store_true", help="train even if there is a trained network")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT, help="folder for the network and the pictures")
    return parser.parse_args(arguments)
