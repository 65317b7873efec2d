"""Feature maps: which layers have one, and its positions in a row.

The last spatial layer is read off the graph where the model has one, and seen on a forward
call of one sample where it has none.
"""

import functools
import math

import keras
import numpy as np
from keras import ops

from vis.graph import children, layers
from vis.losses import layer_output
from vis.network import Site
from vis.utils.formats import data_format
from vis.utils.utils import last_layers

# Class and register tokens that models put before the patches: none, class (ViT), class and
# distillation (DeiT), class and four registers (DINOv2).
_EXTRA_TOKENS = (0, 1, 2, 5)


def spatial_shape(layer, shape) -> tuple:
    """Returns the spatial part of a layer's output shape; `()` for a vector."""
    if len(shape) < 3:
        return ()
    return tuple(shape[2:] if data_format(layer) == "channels_first" else shape[1:-1])


def known_shape(layer):
    """Returns the shape of a layer's output as far as its graph tells, or `None`."""
    try:
        return tuple(layer_output(layer).shape)
    except ValueError:
        return None


def feature_map_sites(model, network, batch, tokens=False) -> list:
    """Returns the sites with a feature map that come before what is explained, last first.

    Args:
        model: The model.
        network: Its `vis.network.Network`.
        batch: The inputs.
        tokens: Whether the feature map is a row of tokens.
    """
    output = network.output.layer(model) if network.output else None
    found = _seen(model, network, batch) if _hides_layers(model) else _in_graph(model, output)
    places = {id(layer): place for place, (_, layer) in enumerate(layers(model))}
    if tokens:
        return [Site(places[id(layer)]) for layer, shape in reversed(found) if _is_token_row(shape)]
    spatial = [(layer, shape) for layer, shape in found if any(s != 1 for s in spatial_shape(layer, shape))]
    ranks = {len(batch.spatial_shape(i)) for i in range(len(batch.arrays))}
    fitting = [pair for pair in spatial if len(pair[1]) - 2 in ranks]
    return [Site(places[id(layer)]) for layer, _ in reversed(fitting or spatial)]


def _hides_layers(model):
    """Tells whether layers of the user's own, which may hold anything, are among the layers."""
    for child in [model, *(layer for _, layer in layers(model))]:
        is_graph = isinstance(child, (keras.Function, keras.Sequential))
        if not is_graph and children(child) and not _is_built_in(child):
            return True
    return False


def _is_built_in(layer):
    return type(layer).__module__.split(".")[0] == "keras"


def _in_graph(model, output):
    """Lists `(layer, shape)` in the order of the graph, up to what is explained."""
    ends = {id(layer) for layer in ([output] if output is not None else last_layers(model))}
    found = []
    for layer in _in_order(model):
        if layer is output:
            break
        if id(layer) in ends or isinstance(layer, (keras.layers.InputLayer, keras.Model)):
            continue
        shape = known_shape(layer)
        if shape is not None:
            found.append((layer, shape))
    return found


def _in_order(model):
    """Yields layers, those of nested models before these; the insides of other layers are theirs."""
    for child in children(model):
        if isinstance(child, keras.Model):
            yield from _in_order(child)
        if isinstance(child, keras.Layer):
            yield child


def _seen(model, network, batch):
    """Lists `(layer, shape)` in the order in which layers finished on one sample."""
    order, hidden = [], _insides_of_built_in(model)

    def tap(layer, output):
        if ops.is_tensor(output):
            order.append((layer, output))
        return output

    watched = [layer for _, layer in layers(model) if id(layer) not in hidden]
    taps = [(layer, functools.partial(tap, layer)) for layer in watched]
    output = network.output.layer(model) if network.output else None
    first = [ops.convert_to_tensor(array[:1]) for array in batch.arrays]
    outputs, _ = network.outputs(batch.layout, first, taps)
    ends = {id(tensor) for tensor in keras.tree.flatten(outputs)}
    found = [(layer, tuple(tensor.shape)) for layer, tensor in order if id(tensor) not in ends]
    if output is not None:
        last = max((i for i, (layer, _) in enumerate(found) if layer is output), default=len(found))
        found = found[:last]
    return list({id(layer): (layer, shape) for layer, shape in found}.values())


def _insides_of_built_in(model):
    """Collects what is inside Keras's own layers: it may run in a loop, where no tensor can be kept."""
    hidden = set()
    for _, layer in layers(model):
        if _is_built_in(layer) and not isinstance(layer, keras.Model):
            hidden.update(id(inner) for _, inner in layers(layer))
    return hidden


def _is_token_row(shape):
    return len(shape) == 3 and shape[1] is not None and _side(shape[1]) is not None


def _side(tokens):
    """Returns the side of the square grid in a row of tokens, or `None`."""
    side = math.isqrt(tokens)
    return side if side > 1 and tokens - side * side in _EXTRA_TOKENS else None


def restore_grid(array, layer, image_shape) -> np.ndarray:
    """Restores the square grid of a row of tokens: `(N, tokens, K)` to `(N, h, w, K)`.

    Class and register tokens, which stand at the beginning, are dropped.

    Args:
        array: The tokens.
        layer: The layer, for the message.
        image_shape: The spatial shape of the image.
    """
    side = _side(array.shape[1]) if array.ndim == 3 else None
    square = side is not None and len(set(image_shape)) == 1
    if not square:
        raise ValueError(
            'reshape="tokens" needs an output (N, tokens, channels) with the tokens of a square grid, perhaps after 1, '
            f"2 or 5 class and register tokens. Received: layer {layer.name!r} with output shape {array.shape}, of an "
            f"image of size {image_shape}. Choose another layer, or resize the images to squares."
        )
    return array[:, -side * side :].reshape(len(array), side, side, array.shape[-1])
