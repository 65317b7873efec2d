"""Feature maps: which layers have one, of which input, and its positions in a row.

A class activation map needs a layer whose output has the positions of an input: the feature map of a convolution,
or the tokens of a vision transformer, which are the squares of a grid in a row.
"""

import collections
import dataclasses
import re

import keras
import numpy as np

from vis.engine.graph import layers, operations
from vis.engine.requests import Site
from vis.engine.survey import is_built_in, is_elementwise
from vis.utils.formats import data_format
from vis.utils.internals import children, producer, producers
from vis.utils.validation import check_count, is_integer, shown

# Their output is that of another layer, at shifted positions.
_SHIFTING = tuple(getattr(keras.layers, f"{kind}{n}D") for kind in ("ZeroPadding", "Cropping") for n in (1, 2, 3))

# Class and register tokens that models put before the patches: none, class (ViT), class and
# distillation (DeiT), class and four registers (DINOv2).
_EXTRA_TOKENS = (0, 1, 2, 5)
_ATTENTION = re.compile("atten|attn", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Grid:
    """A row of tokens as the squares of a grid.

    Args:
        extra: The places of the class and register tokens.
        shape: The grid's size.
    """

    extra: tuple
    shape: tuple

    def restore(self, array):
        """Returns `(N, tokens, channels)` as `(N, *grid, channels)`."""
        return np.delete(array, self.extra, axis=1).reshape(len(array), *self.shape, array.shape[-1])


@dataclasses.dataclass(frozen=True)
class FeatureMap:
    """One call of a layer, seen as a map of an input.

    Args:
        site: The call.
        input: Index of the input whose positions these are; `None` where no input has as many spatial axes.
        grid: How tokens lie, or `None` where positions are axes already.
        sees: Indices of the inputs that it depends on.
    """

    site: Site
    input: int | None
    grid: Grid | None
    sees: frozenset

    def restore(self, layer, array):
        """Returns an output of the layer as `(N, *spatial, channels)`."""
        if self.grid is not None:
            return self.grid.restore(array)
        return np.moveaxis(array, 1, -1) if data_format(layer) == "channels_first" else array

    def size_at_input(self, batch, rank, path) -> tuple:
        """Returns the spatial shape of the input that the map is of.

        Args:
            batch: The inputs.
            rank: The number of spatial axes of the map, its tokens on their grid.
            path: The layer's path, for messages.

        Raises:
            ValueError: No input has as many spatial axes.
        """
        if self.input is None:
            listed = ", ".join(str(array.shape) for array in batch.arrays)
            raise ValueError(
                f"The feature map of layer {path!r} has {rank} spatial axes, but no input that it depends on has: it "
                f"cannot be resized to one. Received: inputs {listed}. Choose another `layer`, or give "
                "`upsample=False`."
            )
        shape = batch.spatial_shape(self.input)
        return shape if len(shape) == rank else batch.arrays[self.input].shape[1:]  # images without a channel axis


def spatial_shape(layer, shape) -> tuple:
    """Returns the spatial part of a layer's output shape; `()` for a vector."""
    if len(shape) < 3:
        return ()
    return tuple(shape[2:] if data_format(layer) == "channels_first" else shape[1:-1])


def feature_maps(model, survey, batch, output=None, tokens=None) -> list:
    """Returns the feature maps that come before what is explained, the last one first.

    Args:
        model: The model.
        survey: Its `vis.engine.survey.Survey`.
        batch: The inputs.
        output: The layer that is explained; `None` for the model's output.
        tokens: See `read_tokens`.
    """
    own, skipped = [operation for _, operation in operations(model)], not_searched(model)
    shapes = collections.defaultdict(set)
    for one in survey.seen:
        shapes[one.place].add(one.shape)
    ends = [i for i, one in enumerate(survey.seen) if own[one.place] is output]
    found = []
    for one in survey.seen[: ends[-1]] if ends else survey.seen:
        at_one_scale = len(shapes[one.place]) == 1  # a detector's head runs at each scale, and none has it all
        is_point = all(size == 1 for size in spatial_shape(own[one.place], one.shape))
        if id(own[one.place]) not in skipped and one.keeps_rows and not (one.is_distribution or is_point):
            found += [feature_map(own[one.place], one, batch, tokens)] if at_one_scale else []
    found = [one for one in reversed(found) if one is not None]
    fitting = [one for one in found if one.input is not None]
    ranks = [len(batch.spatial_shape(one.input)) for one in fitting]
    # Of an image and a text, maps of the image are meant.
    return [one for one, rank in zip(fitting, ranks) if rank == max(ranks)] or found


def feature_map(layer, seen, batch, tokens=None) -> FeatureMap | None:
    """Returns what a layer puts out as a map of an input, or `None` where it has no positions.

    Args:
        layer: The layer.
        seen: Its `vis.engine.survey.Seen`.
        batch: The inputs.
        tokens: See `read_tokens`.
    """
    spatial = spatial_shape(layer, seen.shape)
    if not spatial:
        return None
    site = Site(seen.place, seen.call)
    index = input_of_size(batch, spatial, seen.inputs)
    if index is not None or len(seen.shape) != 3:
        return FeatureMap(site, index, None, seen.inputs)
    for index in by_size(batch, seen.inputs):
        grid = token_grid(seen.shape[1], batch.spatial_shape(index), tokens)
        if grid is not None:
            return FeatureMap(site, index, grid, seen.inputs)
    return FeatureMap(site, None, None, seen.inputs)


def input_of_size(batch, spatial, indices=None):
    """Returns the index of the input that a map is of, or `None` where none has as many spatial axes.

    It is the one of the same size, as tokens are; else the largest one.

    Args:
        batch: The inputs.
        spatial: The map's spatial shape.
        indices: Which inputs may be meant; default all.
    """
    order = by_size(batch, indices)
    found = [index for index in order if batch.spatial_shape(index) == spatial]
    found += [index for index in order if len(batch.spatial_shape(index)) == len(spatial)]
    shapes = {index: batch.arrays[index].shape[1:] for index in order}  # images may have no channel axis
    found += [index for index in order if len(shapes[index]) == len(spatial) and 1 not in shapes[index]]
    return next(iter(found), None)


def by_size(batch, indices=None) -> list:
    """Returns the indices of inputs, those with the most positions first."""
    indices = range(len(batch.arrays)) if indices is None else sorted(indices)
    return sorted(indices, key=lambda index: -np.prod(batch.spatial_shape(index)))


def read_tokens(tokens) -> tuple | None:
    """Returns the places of the class and register tokens that the user names, or `None`.

    Args:
        tokens: How many stand before the patches, a list of their places (from the end if negative), or `None`.

    Raises:
        ValueError, TypeError: It is something else.
    """
    if tokens is None:
        return None
    if is_integer(tokens):
        return tuple(range(check_count("tokens", tokens)))
    places = list(tokens) if isinstance(tokens, (list, tuple, np.ndarray, range)) else [None]
    if not all(map(is_integer, places)) or len(set(places)) < len(places):
        raise TypeError(
            "`tokens` must be how many class and register tokens stand before the patches, or a list of their places. "
            f"Received: {shown(tokens)}. For three behind the patches: `tokens=[-3, -2, -1]`."
        )
    return tuple(int(place) for place in places)


def token_grid(tokens, image, extra=None) -> Grid | None:
    """Returns how a row of tokens lies on an image, or `None` where no grid fits.

    Args:
        tokens: The number of tokens.
        image: The image's spatial shape.
        extra: The places of the class and register tokens, from the end if negative; `None` to find them out: none, or
            the first 1, 2 or 5.
    """
    if tokens is None or (len(image) < 2 and extra is None) or not _are_places(extra or (), tokens):
        return None
    known = [tuple(range(count)) for count in _EXTRA_TOKENS] if extra is None else [tuple(i % tokens for i in extra)]
    for apart in known:
        for side in range(2, min(image) + 1):
            patch, rest = divmod(min(image), side)
            shape = tuple(size // patch for size in image) if not rest else ()
            if shape and np.prod(shape) == tokens - len(apart) and all(size % patch == 0 for size in image):
                return Grid(apart, shape)
    return None


def _are_places(places, count):
    """Tells whether places are different ones among a number of tokens."""
    return all(-count <= i < count for i in places) and len({i % count for i in places}) == len(places)


def beside(model, maps, path, output=None) -> list:
    """Lists the paths of those feature maps that the score depends on by a way around a layer.

    Known only as far as the model is a graph. Of several outputs, those count that depend on the layer, and a path
    is listed if all of them have it: which of them the score is made of is not known.

    Args:
        model: The model.
        maps: Its feature maps.
        path: The layer's path.
        output: The path of the layer that is explained; `None` for the model's output.
    """
    paths, found = dict(operations(model)), []
    own = [name for name, _ in operations(model)]
    container, parent, end = model, "", None if output is None else paths[output.split("/")[0]]
    for part in path.split("/"):
        if not isinstance(container, (keras.Function, keras.Sequential)):
            break
        ends = [end] if end is not None else [producer(tensor) for tensor in getattr(container, "outputs", None) or []]
        inner = paths[parent + part]
        around, end = _around(ends, inner), None
        for image in maps:
            head = parent + own[image.site.place][len(parent) :].split("/")[0]
            if own[image.site.place].startswith(parent) and id(paths.get(head)) in around:
                found.append(own[image.site.place])
        container, parent = inner, f"{parent}{part}/"
    return found


def _around(ends, layer):
    """Collects what all outputs that depend on a layer are computed from as well, by a way around it."""
    ways = [_reached(end, layer) for end in ends if id(layer) in _reached(end)]
    return set.intersection(*ways) if ways else set()


def _reached(end, without=None):
    """Collects what an operation is computed from, not counting what only one other operation needs."""
    found, queue = set(), [end]
    while queue:
        operation = queue.pop()
        if operation is not None and operation is not without and id(operation) not in found:
            found.add(id(operation))
            queue += producers(operation)
    return found


def not_searched(model):
    """Collects layers whose output is no map of its own.

    Those inside of Keras's own layers and of attention (queries, keys and weights), paddings and croppings, and
    operations that are no layers but for sums and the like.
    """
    found = set()
    for _, operation in operations(model):
        if isinstance(operation, _SHIFTING) or not (isinstance(operation, keras.Layer) or is_elementwise(operation)):
            found.add(id(operation))
    for _, layer in layers(model):
        if isinstance(layer, keras.Model):
            continue
        inside = [inner for _, inner in operations(layer)]
        weights = any(isinstance(inner, keras.layers.Softmax) for inner in children(layer))
        if is_built_in(layer) or weights or _ATTENTION.search(type(layer).__name__):
            found.update(map(id, inside))
    return found


def no_grid(layer, shape, sizes, tokens=None) -> str:
    """Words that the tokens of a layer are no grid of any input."""
    extra = "perhaps after 1, 2 or 5 class and register tokens" if tokens is None else f"without {len(tokens)} of them"
    return (
        'reshape="tokens" needs an output (N, tokens, channels) with the tokens of a grid of squares, '
        f"{extra}. Received: layer {layer.name!r} with output shape {shape}, for inputs of size "
        f"{', '.join(map(str, sizes))}. Name the other tokens: `tokens=3` for three before the patches, "
        "`tokens=[-3, -2, -1]` for three behind. Or choose another layer, or resize the images."
    )
