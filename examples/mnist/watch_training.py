"""What a small network looks at while it learns to read digits: pictures after every epoch, and an animation.

`python examples/mnist/watch_training.py` writes `output/training/epoch_000.png` and so on, and `epochs.gif`. Few digits
make an epoch here, so that much is left to learn after the first.
"""

import keras
from digits import find_digit, load_digits, parse_options
from keras import layers

import vis

DIGITS = (2, 4, 7, 8)
EPOCHS = 12
TRAINED_ON = 3000


def build_network():
    """Returns an untrained network that ends in global pooling, where Grad-CAM shows what the score uses."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu", padding="same"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu", padding="same"),
            layers.Conv2D(32, 3, activation="relu", padding="same"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def main(arguments=None):
    """Trains a network and writes what it looks at."""
    options = parse_options(__doc__, arguments)
    (x_train, y_train), (x_test, y_test) = load_digits()
    keras.utils.set_random_seed(0)
    model = build_network()
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy", metrics=["accuracy"])
    logger = vis.ExplanationLogger(
        x_test[[find_digit(y_test, digit) for digit in DIGITS]],
        {"saliency": vis.Saliency, "Grad-CAM": vis.GradCAM},
        options.output / "training",
        target=DIGITS,
        labels=[str(digit) for digit in DIGITS],
    )
    x, y = x_train[:TRAINED_ON], y_train[:TRAINED_ON]
    model.fit(x, y, epochs=2 if options.quick else EPOCHS, verbose=2, callbacks=[logger])
    print(f"test accuracy: {model.evaluate(x_test, y_test, verbose=0)[1]:.3f}")
    print(f"wrote {logger.paths[-1]}")


if __name__ == "__main__":
    main()
