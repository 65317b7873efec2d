"""Networks of other packages on the index: keras-tcn and medicai."""

import keras
import numpy as np

SEED = 7


def tcn():
    from tcn import TCN

    inputs = keras.Input((16, 3))
    x = TCN(nb_filters=4, kernel_size=2, dilations=(1, 2), return_sequences=False)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    return model, np.random.default_rng(SEED).normal(size=(3, 16, 3)).astype("float32")


def _medical(name, size, **options):
    def build():
        from medicai import models

        inputs = np.random.default_rng(SEED).random((2, *size, 1)).astype("float32")
        return getattr(models, name)(input_shape=(*size, 1), num_classes=3, **options), inputs

    return build


medicai_densenet = _medical("DenseNet121", (32, 32, 32))
medicai_resnet = _medical("ResNet18", (32, 32))
