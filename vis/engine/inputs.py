"""What goes into a model: checked, laid out flat for the engine, and put back together."""

import dataclasses
import functools
from collections.abc import Callable

import keras
import numpy as np
from keras import layers, ops, tree

from vis import backend
from vis.engine.graph import has_graph, walk
from vis.utils.contexts import Again
from vis.utils.formats import input_data_format, stated_format
from vis.utils.hints import columns_of, first_text, fits, is_dataset, is_picture, wrong_kind
from vis.utils.internals import consumers, producer
from vis.utils.validation import check_numeric, cut, is_integer, listed, shown, words_error, words_mend, words_shape


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a model is called.

    Args:
        nest: The structure in which the model takes its inputs, of anything.
        names: How messages call them.
        is_checked: Whether their shapes are known to be right.
        fixed_size: The batch size that the model was made for, if it takes no other.
    """

    nest: object
    names: list
    is_checked: bool
    fixed_size: int | None = None

    @property
    def key(self) -> str:
        """Tells layouts apart."""
        return str(tree.map_structure(lambda _: "", self.nest))

    def call(self, model, inputs):
        """Calls a model on tensors, flat, in inference mode; what it assigns to its variables is dropped.

        Raises:
            ValueError: The model refuses inputs whose shapes could not be checked beforehand.
        """
        scope = backend.untouched(model)
        with Again(scope), scope:
            return self.build(model, inputs)

    def build(self, model, inputs):
        """Calls a model as `call` does, but for good: one without weights gets them."""
        packed = tree.pack_sequence_as(self.nest, inputs)
        if self.is_checked:
            return model(packed, training=False)  # an error is the model's own
        try:
            return model(packed, training=False)
        except Exception as error:  # the user's code, it may raise anything
            shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in zip(self.names, inputs))
            raise ValueError(
                f"Model {model.name!r} could not be called on the input. Received: {shapes}. It must have the batch "
                f"axis first and fit the model (one sample: add an axis, image[None]). It said: {words_error(error)}"
            ) from error


@dataclasses.dataclass
class Batch:
    """Inputs of a model, all with the same number of samples.

    Args:
        arrays: The inputs, flat, each `(N, ...)`.
        formats: The data format of each.
        pack: Puts one value for each input into the structure that they came in.
        layout: How the model is called on them.
        columns: The names of the columns of each that came as a data frame, `None` for the others.
    """

    arrays: list
    formats: list
    pack: Callable
    layout: Layout
    columns: list | None = None

    @property
    def count(self) -> int:
        """The number of samples."""
        return len(self.arrays[0])

    def rows(self, indices) -> list:
        """Returns some samples, flat."""
        return [array[indices] for array in self.arrays]

    def is_float(self, index) -> bool:
        """Tells whether an input has a gradient."""
        return self.arrays[index].dtype.kind == "f"

    def holds_texts(self, index) -> bool:
        """Tells whether an input is strings, which are handed on as they are."""
        return self.arrays[index].dtype.kind in "US"

    def spatial_shape(self, index) -> tuple:
        """Returns an input's shape without the batch axis, and without the channels if it has any."""
        shape = self.arrays[index].shape
        if len(shape) < 3:
            return shape[1:]
        return shape[2:] if self.formats[index] == "channels_first" else shape[1:-1]

    def check_columns(self, name, index, given):
        """Raises where what the user gave beside an input is a data frame with other columns, or in another order.

        Args:
            name: The argument's name.
            index: Which input.
            given: What came: a data frame, a row of one, or anything else, which has no names.
        """
        own, other = (self.columns or [None] * len(self.arrays))[index], columns_of(given)
        if own is not None and other is not None and own != other:
            raise ValueError(
                f"`{name}` must have the columns of the inputs, in their order, as they are read by their place. "
                f"Received: {cut(listed(other), 80)}, and inputs of {cut(listed(own), 80)}. Give "
                f"`{name}[inputs.columns]`, or arrays."
            )

    def with_channels(self, index, mask):
        """Gives a mask `(B, *spatial)` a channel axis where the input has one."""
        if mask.ndim == self.arrays[index].ndim:
            return mask
        return mask[:, None] if self.formats[index] == "channels_first" else mask[..., None]


def read_inputs(model, inputs) -> Batch:
    """Returns a model's inputs, checked.

    Args:
        model: The model.
        inputs: What `model(...)` takes, batch axis first: an array, or a list, tuple or dict
            of arrays. Not changed.

    Raises:
        ValueError: Something is not numbers, not finite, empty, or of another shape than the
            model takes.
        TypeError: They are a data set.
    """
    if is_dataset(inputs):  # before several arrays are looked for in it
        raise wrong_kind("inputs", inputs)
    own = list(getattr(model, "inputs", None) or [])
    if not own:
        return _of_unknown_shape(model, inputs)
    values, names, pack = _in_order(model, own, inputs)
    formats = [input_data_format(tensor) for tensor in own]
    arrays = [
        _read(name, value, tuple(tensor.shape), keras.backend.standardize_dtype(tensor.dtype), form)
        for name, value, tensor, form in zip(names, values, own, formats)
    ]
    columns = _columns(values)
    return _of_one_length(Batch(arrays, formats, pack, _layout(model, own, names), columns))


def _columns(values):
    """Returns the names of the columns of each data frame; a single column has rows with names, not columns."""
    return [columns_of(value) if hasattr(value, "columns") else None for value in values]


def _layout(model, own, names):
    known = all(size is not None for tensor in own for size in tensor.shape[1:])
    fixed = next((tensor.shape[0] for tensor in own if tensor.shape[0] is not None), None)
    return Layout(_nest(model), names, known, fixed)


def read_checked(model, array) -> Batch:
    """Returns one input as `read_inputs` does, of which floats are not looked at a second time.

    Args:
        model: The model.
        array: What `vis.utils.validation.check_input` returned for the model's own input shape.
    """
    own = list(getattr(model, "inputs", None) or [])
    if len(own) != 1 or not keras.backend.is_float_dtype(keras.backend.standardize_dtype(own[0].dtype)):
        return read_inputs(model, array)
    return Batch([array], [input_data_format(own[0])], _first, _layout(model, own, ["inputs"]))


# Layers that hand numbers on as they are, and those that no longer do.
_NEUTRAL = (
    *(layers.InputLayer, layers.ZeroPadding2D, layers.Cropping2D, layers.Resizing, layers.Reshape, layers.Permute),
    *(layers.Flatten, layers.Dropout, layers.SpatialDropout2D, layers.GaussianNoise, layers.Identity),
    *(layers.RandomFlip, layers.RandomRotation, layers.RandomTranslation, layers.RandomZoom, layers.RandomCrop),
)
_SCALE_OF_BYTES = 1 / 50  # a layer that multiplies by less makes small numbers of bytes
_BRIGHT = 64  # no fraction, nor what is standardised, comes near
_LINEAR = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.Dense)


def takes_numbers_as_they_are(model) -> bool:
    """Tells whether a model's inputs go into convolutions or dense layers with nothing before that could scale them.

    Where it is not known, as in a model without a graph or with layers of the user's own, they do not.
    """
    ends = _ends(model)
    return bool(ends) and all(isinstance(end, _LINEAR) for end in ends)


def scales_bytes(model) -> keras.Layer | None:
    """Returns the layer that makes small numbers of the bytes that a model takes, if all that it takes goes into such.

    Of inputs between 0 and 1 it leaves nearly nothing.
    """
    ends = _ends(model)
    return ends[0] if ends and all(takes_bytes(end) for end in ends) else None


def takes_bytes(layer) -> bool:
    """Tells whether a layer rescales so much that bytes become small numbers."""
    if isinstance(layer, layers.Rescaling):
        return bool(0 < np.max(np.abs(layer.scale)) < _SCALE_OF_BYTES)
    variance = getattr(layer, "input_variance", None) if isinstance(layer, layers.Normalization) else None
    return variance is not None and bool(1 / np.sqrt(np.min(variance)) < _SCALE_OF_BYTES * 2)


def _ends(model):
    seen = set()
    return [end for tensor in getattr(model, "inputs", None) or [] for end in _first_layers(tensor, seen)]


def _first_layers(tensor, seen):
    """Returns the first operations on an input that are not neutral, in nested models too, each once."""
    found, queue = [], consumers(producer(tensor))
    while queue:
        operation = queue.pop()
        if id(operation) in seen:
            continue
        seen.add(id(operation))
        if isinstance(operation, _NEUTRAL):
            queue += consumers(operation)
        elif has_graph(operation):
            found += [one for inner in operation.inputs for one in _first_layers(inner, seen)]
        else:
            found.append(operation)
    return found


def farthest_mean(model) -> float:
    """Returns how many standard deviations 0 is away from a mean that a model's normalisation takes off, at most.

    0.0 where there is no `Normalization` layer that knows means.
    """
    found = [0.0]
    for _, operation in walk(model):
        if isinstance(operation, layers.Normalization) and getattr(operation, "mean", None) is not None:
            mean, variance = (ops.convert_to_numpy(part) for part in (operation.mean, operation.variance))
            found.append(float(np.max(np.abs(mean) / np.sqrt(np.maximum(variance, 1e-12)))))
    return max(found)


def are_bytes(batch, index) -> bool:
    """Tells whether an input of floats holds pictures as files do: grey or RGB, from 0 to 255.

    Below a quarter of that only whole numbers are taken for bytes; resized ones have fractions.
    """
    array = batch.arrays[index]
    if not _are_pictures(batch, index) or array.min() < 0 or not 1 < array.max() <= 255:
        return False
    return bool(array.max() > _BRIGHT or all((one == np.round(one)).all() for one in array))


def are_fractions(batch, index) -> bool:
    """Tells whether an input of floats holds pictures between 0 and 1, not all black."""
    array = batch.arrays[index]
    return _are_pictures(batch, index) and bool(array.min() >= 0 and 0 < array.max() <= 1)


def _are_pictures(batch, index):
    array = batch.arrays[index]
    axis = 1 if batch.formats[index] == "channels_first" else -1
    return array.ndim == 4 and batch.is_float(index) and array.shape[axis] in (1, 3)


def single_layout(model, shape) -> Layout:
    """Returns how a model with one input is called.

    Args:
        model: The model.
        shape: Its input shape as far as it is known, or `None`; inputs are checked against it beforehand.
    """
    return Layout(_nest(model), ["input"], shape is not None and None not in shape[1:])


def plain_batch(array, form) -> Batch:
    """Returns one checked input of a model as a batch.

    Args:
        array: The input `(N, ...)`.
        form: Where its channels are.
    """
    return Batch([array], [form], _first, Layout(0, ["input"], True))


def _nest(model):
    return tree.map_structure(lambda _: 0, model.input) if isinstance(model, keras.Function) else 0


def _of_unknown_shape(model, inputs):
    """Reads the inputs of a subclassed model, which does not say what it takes."""
    several = isinstance(inputs, dict) or _is_list_of_arrays(inputs)
    values = tree.flatten(inputs) if several else [inputs]
    names = [f"inputs ({i})" for i in range(len(values))] if several else ["inputs"]
    shape = None if several else model_input_shape(model)
    form = model_input_format(model) if len(values) == 1 else keras.config.image_data_format()
    arrays = [_read(name, value, shape, _dtype_of(value), form) for name, value in zip(names, values)]
    nest = tree.map_structure(lambda _: 0, inputs) if several else 0
    pack = functools.partial(tree.pack_sequence_as, nest)
    columns = _columns(values)
    return _of_one_length(Batch(arrays, [form] * len(arrays), pack, Layout(nest, names, False), columns))


def _is_list_of_arrays(inputs):
    return isinstance(inputs, (list, tuple)) and bool(inputs) and all(hasattr(v, "shape") for v in tree.flatten(inputs))


def _first(flat):
    return flat[0]


def _dtype_of(value):
    """Takes whole numbers for indices, but bytes for pixels."""
    name = str(getattr(value, "dtype", "float32"))
    return "int32" if name.endswith(("int16", "int32", "int64")) else "float32"


def named_input(model, batch, name, argument="input_name") -> int:
    """Returns the index of an input, given by its name or its number in an argument.

    Raises:
        ValueError: There is no such input.
    """
    packed = batch.pack(list(range(len(batch.arrays))))
    names = {tensor.name: i for i, tensor in enumerate(getattr(model, "inputs", None) or [])}
    names.update(packed if isinstance(packed, dict) else {})
    index = name if is_integer(name) else names.get(name)
    if index not in range(len(batch.arrays)):
        raise ValueError(
            f"`{argument}` must name one of the model's inputs. Received: {shown(name)}. Choose from "
            f"{listed(sorted(names))}, or a number from 0 to {len(batch.arrays) - 1}."
        )
    return index


def _in_order(model, own, inputs):
    """Returns `(values, names, pack)` of the inputs, in the order of the model's own."""
    if isinstance(inputs, dict):
        keys = _keys(model, own, inputs)
        names = [f"inputs['{key}']" for key in keys]
        return [inputs[key] for key in keys], names, lambda flat: dict(zip(keys, flat))
    listed = isinstance(inputs, (list, tuple))
    if len(own) == 1:
        if listed and len(inputs) == 1 and _rank(inputs[0]) == len(own[0].shape):
            return list(inputs), ["inputs[0]"], type(inputs)
        return [inputs], ["inputs"], _first
    nest = model.input if isinstance(model, keras.Function) else None
    if isinstance(nest, dict) and listed:
        raise ValueError(
            f"`inputs` must be a dict, as model {model.name!r} takes one, with the keys {cut(str(sorted(nest)), 120)}. "
            f"Received: a list.{_words_texts(inputs)}"
        )
    if not listed or len(inputs) != len(own):
        came = f"{len(inputs)} of them" if listed else f"{type(inputs).__name__} of shape {np.shape(inputs)}"
        takes = cut(", ".join(f"{tensor.name!r} {words_shape(tensor.shape)}" for tensor in own), 150)
        columns, names = columns_of(inputs), [tensor.name for tensor in own]
        mend = _words_texts(inputs)
        if columns is not None and set(names) <= set(columns):
            mend = f" Give `{{name: inputs[[name]].to_numpy() for name in {cut(str(names), 60)}}}`."
        raise ValueError(
            f"`inputs` must be a list, tuple or dict of {len(own)} arrays, as model {model.name!r} takes {takes}. "
            f"Received: {came}.{mend}"
        )
    return list(inputs), [f"inputs[{i}]" for i in range(len(own))], list if isinstance(inputs, list) else tuple


def _words_texts(inputs):
    """Words what to do with texts where a model takes token ids, or returns nothing."""
    pair = isinstance(inputs, (list, tuple)) and len(inputs) == 2 and isinstance(inputs[0], dict)
    if pair:
        return " Of a pair with labels give the first, `inputs[0]`."
    is_text = first_text(inputs) is not None
    return " Make token ids of texts first, such as by `model.preprocessor(texts)` of keras-hub." if is_text else ""


def _rank(value):
    """Returns the number of axes, or `None` where parts are of several shapes."""
    try:
        return np.ndim(value)
    except ValueError:
        return None


def _keys(model, own, inputs):
    nest = model.input if isinstance(model, keras.Function) else None
    keys = tree.flatten({key: key for key in nest}) if isinstance(nest, dict) else [tensor.name for tensor in own]
    if set(keys) != set(inputs):
        raise ValueError(
            f"`inputs` must have the keys [{listed(sorted(keys))}], one for each input of model {model.name!r}. "
            f"Received: [{listed(sorted(map(str, inputs)), 100)}]."
            f"{' Or give the array itself.' if len(own) == 1 else ''}"
        )
    return keys


def _read(name, value, shape, dtype, form):
    if dtype == "string":
        return _read_texts(name, value, shape, form)
    wrong = wrong_kind(name, value, shape, form)
    if wrong is not None:
        raise wrong
    is_array = isinstance(value, (list, tuple)) or hasattr(value, "shape") or is_picture(value)
    if shape is None and not is_array:
        raise ValueError(f"`{name}` must be numbers, as an array or a list. Received: {shown(value)}.")
    if isinstance(value, dict):
        raise ValueError(f"`{name}` must be an array. Received: a dict.")
    array = check_numeric(name, value)
    if shape is not None:
        _check_shape(name, value, array.shape, shape, form)
    if array.ndim < 1 or array.size == 0:
        raise ValueError(f"`{name}` must hold at least one sample. Received: shape {array.shape}.")
    if keras.backend.is_float_dtype(dtype):
        return array
    if (array != np.round(array)).any():
        raise ValueError(f"`{name}` must hold whole numbers, as the model takes {dtype}. Received: fractions.")
    return _exact(value, array).astype(dtype if dtype != "int64" else "int32")


def _read_texts(name, value, shape, form):
    """Returns strings, which are handed on as they are, as an array."""
    array = np.array(value.numpy() if hasattr(value, "numpy") else value)
    kinds = {str if isinstance(one, str) else bytes if isinstance(one, bytes) else None for one in array.flat}
    if len(kinds) != 1 or None in kinds:
        raise ValueError(
            f"`{name}` must be strings, as the model takes them, at least one and none missing. Received: "
            f"{shown(value)}. Make them so: `values.astype(str)`."
        )
    array = array.astype(*kinds)
    _check_shape(name, value, array.shape, shape, form)
    try:
        ops.convert_to_tensor(array[:1])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` are strings, which Keras takes on TensorFlow only. Received: the backend "
            f"{keras.config.backend()!r}. Look them up before, `codes = lookup(strings)`, and explain the model of "
            "codes; or set KERAS_BACKEND to 'tensorflow'."
        ) from error
    return array


def _exact(value, array):
    """Returns whole numbers as they came where float32 cannot hold them."""
    if not array.size or np.abs(array).max() < 2**24:
        return array
    given = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
    if np.abs(array).max() >= 2**31:
        raise ValueError(
            f"Whole numbers must be below 2147483648, as they are counted in 32 bits here. Received: up to "
            f"{given.max()}. Number them anew, such as by `np.unique(values, return_inverse=True)`."
        )
    return given


def _check_shape(name, value, given, shape, form):
    if not fits(given, shape):
        raise ValueError(
            f"`{name}` must have the shape {words_shape(shape)}. Received: shape {cut(str(given))}. "
            f"{words_mend(name, value, shape, form)}"
        )


def _of_one_length(batch):
    counts = {name: len(array) for name, array in zip(batch.layout.names, batch.arrays)}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"`{name}` has {count}" for name, count in counts.items())
        raise ValueError(f"`inputs` must all hold the same number of samples. Received: {listed}.")
    return batch


def model_input(model):
    """Returns the one symbolic input of a model, or `None` where it has none.

    Raises:
        ValueError: The model has several inputs.
    """
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) > 1:
        names = ", ".join(repr(t.name) for t in inputs)
        raise ValueError(
            f"The model must have one input. Received: model {model.name!r} with {len(inputs)} inputs ({names}). "
            "Wrap it in a Functional model that fixes the others."
        )
    return inputs[0] if inputs else None


def model_input_shape(model):
    """Returns a model's input shape, batch axis first, or `None` where it does not say.

    A subclassed model only tells how many axes it was built with.
    """
    tensor = model_input(model)
    if tensor is not None:
        return tuple(tensor.shape)
    built_with = (model.get_build_config() or {}).get("input_shape")
    known = isinstance(built_with, (tuple, list)) and all(d is None or isinstance(d, int) for d in built_with)
    return (None,) * len(built_with) if known and built_with else None


def model_input_format(model):
    """Returns the data format of a model's input."""
    tensor = model_input(model)
    if tensor is not None:
        return input_data_format(tensor)
    found = [stated_format(op) for _, op in walk(model)]
    return next((f for f in found if f), keras.config.image_data_format())
