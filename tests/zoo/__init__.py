"""Models of every kind that an explainer must take, each with inputs that fit it."""

import keras
import numpy as np
from keras import layers, ops


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def set_weights(model):
    """Gives a model the same weights on every backend."""
    generator = np.random.default_rng(1)
    for variable in model.variables:
        if "seed" not in variable.path:
            value = generator.normal(0.05, 0.3, variable.shape)
            variable.assign(np.abs(value) + 0.5 if "variance" in variable.path else value)
    return model


def backbone(name="backbone"):
    inputs = keras.Input((9, 7, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="conv1")(inputs)
    return keras.Model(inputs, layers.Conv2D(5, 2, activation="relu", name="conv2")(x), name=name)


def nested():
    """A Functional backbone in a Functional head."""
    inputs = keras.Input((9, 7, 3))
    x = layers.Flatten()(backbone()(inputs))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x)), draw(3, 9, 7, 3)


def nested_in_sequential():
    """A Functional backbone in a Sequential, with a Sequential head."""
    head = keras.Sequential([layers.GlobalAveragePooling2D(), layers.Dense(3), layers.Softmax()], name="head")
    return keras.Sequential([keras.Input((9, 7, 3)), keras.Sequential([backbone()]), head]), draw(3, 9, 7, 3)


def lazy_sequential():
    """A Sequential that was never called on a symbolic input, only on data."""
    model = keras.Sequential(
        [layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(3, activation="softmax")]
    )
    x = draw(3, 9, 7, 3)
    model(x)
    return model, x


@keras.saving.register_keras_serializable("zoo")
class Subclassed(keras.Model):
    """Layers in a list, a branch that skips, and a softmax layer at the end."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [layers.Conv2D(4, 3, padding="same", activation="relu", name=f"conv{i}") for i in range(2)]
        self.pool = layers.GlobalAveragePooling2D()
        self.head = layers.Dense(3, activation="softmax")

    def call(self, x, training=False):
        x = self.blocks[0](x)
        return self.head(self.pool(x + self.blocks[1](x)))


def subclassed():
    model, x = Subclassed(), draw(3, 9, 7, 3)
    model(x)
    return model, x


class SubclassedOps(Subclassed):
    """A softmax that no layer makes."""

    def __init__(self):
        super().__init__()
        self.head = layers.Dense(3)

    def call(self, x, training=False):
        return ops.softmax(super().call(x))


def subclassed_ops():
    model, x = SubclassedOps(), draw(3, 9, 7, 3)
    model(x)
    return model, x


def subclassed_in_functional():
    """A subclassed block in a Functional model."""

    class Block(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.conv = layers.Conv2D(4, 3, activation="relu", name="inner")
            self.pool = layers.GlobalAveragePooling2D()

        def call(self, x):
            return self.pool(self.conv(x))

    inputs = keras.Input((9, 7, 3))
    return keras.Model(inputs, layers.Dense(3)(Block()(inputs))), draw(3, 9, 7, 3)


def shared_layer():
    """One convolution that is called twice."""
    inputs = keras.Input((9, 7, 3))
    conv = layers.Conv2D(3, 3, padding="same", activation="relu", name="shared")
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(conv(conv(inputs))))), draw(3, 9, 7, 3)


def residual():
    """Connections around the layers."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", name="first")(inputs)
    y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", name="inner")(x)))
    x = layers.ReLU(name="joined")(layers.Add()([x, y]))
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x)), draw(3, 8, 8, 3)


def two_inputs_list():
    """An image and a vector."""
    image, vector = keras.Input((9, 7, 3), name="image"), keras.Input((4,), name="vector")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu", name="conv")(image))
    x = layers.Dense(3, activation="softmax")(layers.Concatenate()([x, vector]))
    return keras.Model([image, vector], x), [draw(3, 9, 7, 3), draw(3, 4, seed=1)]


def two_inputs_dict():
    """The same by name, in an order that is not the alphabet's."""
    model, (image, vector) = two_inputs_list()
    inputs = {"pixels": keras.Input((9, 7, 3), name="pixels"), "extra": keras.Input((4,), name="extra")}
    outputs = model([inputs["pixels"], inputs["extra"]])
    return keras.Model(inputs, outputs), {"pixels": image, "extra": vector}


def two_outputs_dict():
    """Two heads."""
    inputs = keras.Input((9, 7, 3))
    x = layers.Flatten()(layers.Conv2D(4, 3, activation="relu", name="conv")(inputs))
    outputs = {"class": layers.Dense(3, activation="softmax", name="class")(x), "size": layers.Dense(1, name="size")(x)}
    return keras.Model(inputs, outputs), draw(3, 9, 7, 3)


def time_distributed():
    """A film: frames through one convolution, then a recurrent layer."""
    inputs = keras.Input((4, 8, 8, 1))
    x = layers.TimeDistributed(layers.Conv2D(3, 3, activation="relu"), name="frames")(inputs)
    x = layers.TimeDistributed(layers.GlobalAveragePooling2D())(x)
    return keras.Model(inputs, layers.Dense(3)(layers.LSTM(5)(x))), draw(2, 4, 8, 8, 1)


def signal():
    """A 1-D signal of several channels."""
    inputs = keras.Input((20, 2))
    x = layers.Conv1D(4, 3, activation="relu")(inputs)
    x = layers.Flatten()(layers.MaxPooling1D()(x))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x)), draw(3, 20, 2)


def volume():
    """A volume."""
    inputs = keras.Input((6, 5, 4, 1))
    x = layers.Conv3D(3, 2, activation="relu")(inputs)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x))), draw(3, 6, 5, 4, 1)


def transformer(class_token=True):
    """A small vision transformer."""
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(8, 4, strides=4, name="patches")(inputs)
    x = layers.Reshape((9, 8))(x)
    if class_token:
        x = layers.ZeroPadding1D((1, 0))(x)
    x = layers.Add(name="embedded")([x, layers.MultiHeadAttention(2, 4)(layers.LayerNormalization()(x), x)])
    y = layers.LayerNormalization(name="normal")(x)
    x = layers.Add(name="mixed")([x, layers.MultiHeadAttention(2, 4)(y, y)])
    x = x[:, 0] if class_token else layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x)), draw(3, 12, 12, 3)


def text(recurrent):
    """Word indices, embedded."""
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(11, 6, name="embedding", mask_zero=recurrent)(inputs)
    x = layers.LSTM(5)(x) if recurrent else layers.GlobalMaxPooling1D()(layers.Conv1D(5, 3, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x)), np.arange(1, 22).reshape(3, 7) % 11


def segmentation():
    """A small U-Net."""
    inputs = keras.Input((8, 8, 3))
    down = layers.Conv2D(4, 3, padding="same", activation="relu", name="down")(inputs)
    x = layers.Conv2D(5, 3, padding="same", activation="relu", name="bottom")(layers.MaxPooling2D()(down))
    x = layers.Concatenate()([down, layers.UpSampling2D()(x)])
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="up")(x)
    return keras.Model(inputs, layers.Conv2D(2, 1, activation="softmax", name="mask")(x)), draw(3, 8, 8, 3)


def one_unit(activation="sigmoid"):
    """A binary classifier or, with a linear end, a regression."""
    inputs = keras.Input((9, 7, 3))
    x = layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(inputs))
    return keras.Model(inputs, layers.Dense(1, activation=activation)(x)), draw(3, 9, 7, 3)


def preprocessing():
    """Layers that prepare and augment."""
    inputs = keras.Input((9, 7, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = layers.GaussianNoise(0.5)(layers.RandomRotation(0.5)(layers.RandomFlip()(x)))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x)), 100 * np.abs(draw(3, 9, 7, 3))


def mixed_precision():
    """Computes in bfloat16."""
    policy = "mixed_bfloat16"
    inputs = keras.Input((9, 7, 3))
    x = layers.Conv2D(4, 3, activation="relu", dtype=policy)(inputs)
    x = layers.Dense(3, dtype=policy)(layers.Flatten(dtype=policy)(x))
    return keras.Model(inputs, layers.Activation("softmax", dtype="float32")(x)), draw(3, 9, 7, 3)


def frozen():
    """Nothing to train."""
    model, x = nested()
    model.trainable = False
    return model, x


MODELS = {
    "nested": nested,
    "nested in Sequential": nested_in_sequential,
    "lazy Sequential": lazy_sequential,
    "subclassed": subclassed,
    "subclassed in Functional": subclassed_in_functional,
    "shared layer": shared_layer,
    "residual": residual,
    "two inputs, list": two_inputs_list,
    "two inputs, dict": two_inputs_dict,
    "TimeDistributed": time_distributed,
    "signal": signal,
    "volume": volume,
    "transformer": transformer,
    "one unit": one_unit,
    "regression": lambda: one_unit(None),
    "preprocessing": preprocessing,
    "mixed precision": mixed_precision,
    "frozen": frozen,
}


def make(name):
    model, inputs = MODELS[name]()
    return set_weights(model), inputs
