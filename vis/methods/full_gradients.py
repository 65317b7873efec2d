"""Full gradients: the score shared out among the input and the biases of all layers."""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import layers, ops

from vis.engine.feature_maps import feature_map, not_searched, spatial_shape
from vis.engine.graph import operations, walk
from vis.engine.inputs import read_inputs
from vis.engine.requests import Request, Site
from vis.engine.surrogates import CONVOLUTIONS, LINEAR
from vis.engine.survey import Seen, output_shapes_of
from vis.methods.explainer import check_finite
from vis.methods.perturbation import PerturbationExplainer
from vis.utils.formats import channels_last, data_format
from vis.utils.images import resize
from vis.utils.validation import VisualizationWarning, cut

if TYPE_CHECKING:
    from vis.engine.tasks import Task
    from vis.utils.types import Index, Inputs, LayerLike, TargetLike, Tensor


class FullGrad(PerturbationExplainer):
    """The input's share of the score and that of every bias, each at its position, drawn into one map.

    For a network of linear pieces (ReLU, max pooling), gradient times input leaves out what the biases add; together
    the two are the score, exactly. The map shows the size of all shares, not their sign. Its limits: each layer is
    scaled by itself before they are summed, so the map is in no unit; biases without positions (of dense layers on
    vectors) are not in it; and where a network is not made of linear pieces, the shares do not sum to the score.
    `parts` gives them as they are, `bias_layers` the layers.

    Source: Srinivas & Fleuret 2019, "Full-Gradient Representation for Neural Network Visualization", proposition 1 and
    equation 7; each layer as a whole is rescaled to [0, 1], as the authors do. A batch normalisation has the bias
    beta - gamma mean / std; a rescaling its offset.

    Args:
        model: Any built or callable Keras model. Not changed.
        input_name: Of which of several inputs the map is: its name, or its number. Default `None`: the one with
            spatial axes; where two are alike, one must be named.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `True`.

    Returns:
        When called, as by `vis.methods.explainer.Explainer.__call__`, float32 `(N, *spatial)`, values >= 0, without a
        unit.

    Raises:
        ValueError: The input has no positions, an argument is wrong, or the score does not depend on the inputs.
        TypeError: An argument is of the wrong kind.

    Warns:
        VisualizationWarning: There are biases with positions that cannot be included, such as those inside of
            attention or of a recurrent layer; they are named, once.

    Examples:
        >>> import keras
        >>> conv = keras.layers.Conv2D(1, 1, activation="relu", kernel_initializer="ones", bias_initializer="ones")
        >>> model = keras.Sequential([keras.Input((2, 2, 1)), conv, keras.layers.GlobalAveragePooling2D()])
        >>> FullGrad(model)(np.array([[[[4.0], [0.0]], [[2.0], [-4.0]]]])).tolist()
        [[[2.0, 1.0], [1.5, 0.0]]]
    """

    def __init__(
        self,
        model: keras.Layer,
        *,
        input_name: str | Index | None = None,
        output_layer: LayerLike | None = None,
        logits: bool = True,
    ) -> None:
        super().__init__(model, input_name=input_name, output_layer=output_layer, logits=logits)

    def bias_layers(self, inputs: Inputs) -> list[str | tuple[str, int]]:
        """Returns the layers whose biases have shares: their paths, with the number of the call if there are several.

        Args:
            inputs: What the model takes; the first sample is run, to see which layers run.

        Raises:
            ValueError: The inputs are wrong.
        """
        batch = self.evaluator.ready(read_inputs(self.model, inputs))
        return [self._name(batch, one) for one in self._sites(batch)]

    def parts(
        self, inputs: Inputs, target: TargetLike = None, batch_size: int = 32, verbose: int = 0
    ) -> dict[str | tuple[str, int], np.ndarray]:
        """Returns the shares of the score as they are: signed, in its units, each in the shape of its layer's output.

        For a network of linear pieces, all that is returned for a sample sums to its score.

        Args:
            inputs: See `__call__`.
            target: See `__call__`.
            batch_size: See `__call__`.
            verbose: See `__call__`.

        Returns:
            Dict of float32 arrays `(N, ...)`: under `"inputs"` (of several, under `"inputs[0]"` or
            `"inputs['name']"` and so on) what the inputs share, and under each of `bias_layers` what its bias does.

        Raises:
            ValueError: See `__call__`.
            TypeError: See `__call__`.

        Warns:
            VisualizationWarning: There are biases that cannot be read; they are named, once.
        """
        task = self.evaluator.task(inputs, target, batch_size, verbose)
        sites = self._sites(task.batch)
        self._tell(self._found(task.batch)[1])
        found = task.map(_request(sites, bias_shares))
        values = [*_input_shares(task.batch, slice(None), found), *found["summaries"]]
        names = [*task.batch.layout.names, *(self._name(task.batch, one) for one in sites)]
        return dict(zip(names, check_finite(values)))

    def explain(self, task: Task) -> np.ndarray:
        """Returns the sums of the rescaled shares, resized to the input."""
        batch, index = task.batch, self._drawn(task.batch)
        shape = self.spatial_shape(batch, index)
        drawn = self._drawn_sites(batch, index)
        maps = np.zeros((task.count, *shape), "float32")
        for images, _, results in task.rows(_request([one.site for one in drawn], bias_sizes)):
            share = np.abs(_input_shares(batch, images, results)[index])
            axes = tuple(range(1, share.ndim))
            share -= share.min(axis=axes, keepdims=True)
            channels = tuple(
                axis for axis in axes if share.ndim > maps.ndim and axis == self._channel_axis(batch, index)
            )
            maps[images] += _divided(share.sum(axis=channels), share.max(axis=axes))
            for one, (total, most) in zip(drawn, results["summaries"]):
                part = _divided(total, most)
                part = part if one.grid is None else one.grid.restore(part[..., None])[..., 0]
                maps[images] += resize(part, shape)
        return maps

    def _drawn(self, batch):
        """Returns the index of the input that the map is of."""
        index = self.perturbed(batch)
        name, array = batch.layout.names[index], batch.arrays[index]
        if not batch.is_float(index):
            raise ValueError(
                f"`{name}` holds whole numbers, which have no gradient. Received: {array.dtype}. Name another input by "
                "`input_name=`, or use a method with `input_layer='tokens'`, such as vis.IntegratedGradients."
            )
        if array.ndim < 3:
            raise ValueError(
                f"`{name}` must have positions and channels to be drawn on. Received: shape {array.shape}. Use "
                "`FullGrad.parts`, which gives the shares of the inputs and of every bias as they are."
            )
        return index

    def _channel_axis(self, batch, index):
        return 1 if batch.formats[index] == "channels_first" else batch.arrays[index].ndim - 1

    def _found(self, batch):
        """Returns the shapes that the layers with a bias put out, under their places, and the paths of other layers."""
        return self.evaluator.memory.once("biases", lambda: self._search(batch))

    def _search(self, batch):
        in_loops = {id(one) for _, loop in operations(self.model) if isinstance(loop, _LOOPS) for _, one in walk(loop)}
        own = operations(self.model)
        places = [i for i, (_, one) in enumerate(own) if has_bias(one) and id(one) not in in_loops]
        shapes = output_shapes_of(self.model, self.evaluator.network, batch, places)
        others = [
            path for i, (path, one) in enumerate(own) if i not in shapes and (has_bias(one) or _may_have_bias(one))
        ]
        return {place: shapes[place] for place in places if place in shapes}, others

    def _sites(self, batch):
        """Returns every call of a layer with a bias."""
        own = [operation for _, operation in operations(self.model)]
        return [
            Site(place, call, "into activation" if _has_activation(own[place]) else "output")
            for place, shapes in self._found(batch)[0].items()
            for call in range(len(shapes))
        ]

    def _name(self, batch, one):
        path = operations(self.model)[one.place][0]
        return (path, one.call) if len(self._found(batch)[0][one.place]) > 1 else path

    def _drawn_sites(self, batch, index):
        """Returns those calls whose outputs are maps of an input, as `FeatureMap`; the others are told, once."""
        shapes, others = self._found(batch)
        skipped, found, others = not_searched(self.model), [], list(others)
        for one in self._sites(batch):
            layer, shape = one.layer(self.model), shapes[one.place][one.call]
            if not any(size > 1 for size in spatial_shape(layer, shape)):
                continue  # of a vector, or of one position
            if index not in self._sees(batch, one):
                continue  # it belongs to another input
            image = feature_map(layer, Seen(one.place, one.call, shape, inputs=frozenset([index])), batch)
            if image is None or image.input != index or id(layer) in skipped:
                others.append(operations(self.model)[one.place][0])
            else:
                found.append(dataclasses.replace(image, site=one))
        self._tell(others)
        return found

    def _sees(self, batch, one):
        """Returns the inputs that a call depends on, as far as that is known."""
        calls = [seen for seen in self.evaluator.survey(batch).seen if seen.place == one.place]
        calls = [seen for seen in calls if seen.call == one.call] or calls[-1:]
        return calls[0].inputs if calls else frozenset(range(len(batch.arrays)))

    def _tell(self, others):
        if others and self.evaluator.is_first_time(("biases", *others)):
            warnings.warn(
                f"FullGrad leaves out biases of {len(others)} layers, which have no place on the input (inside of "
                "attention), run in a loop or a branch, or are not known to be added: "
                f"{cut(', '.join(map(repr, others)), 150)}. What it gives is not all of the score.",
                VisualizationWarning,
                stacklevel=3,
            )


_LOOPS = (layers.RNN, layers.TimeDistributed, layers.Bidirectional)  # what is inside may run in a loop
_AFFINE = (layers.BatchNormalization, layers.Normalization, layers.Rescaling)
_NORMALIZING = (layers.LayerNormalization, layers.GroupNormalization)


def has_bias(operation: Any) -> bool:
    """Tells whether an operation adds a bias that is known here."""
    if isinstance(operation, layers.Rescaling):
        return bool(np.any(np.asarray(operation.offset) != 0))
    if isinstance(operation, _AFFINE):
        return True
    name = "beta" if isinstance(operation, _NORMALIZING) else "bias"
    return isinstance(operation, LINEAR + CONVOLUTIONS + _NORMALIZING) and getattr(operation, name, None) is not None


def _may_have_bias(operation):
    """Tells whether a layer has a weight of its own that is called as biases are."""
    if not isinstance(operation, keras.Layer) or isinstance(operation, keras.Model):
        return False
    inner = {id(weight) for _, one in walk(operation) if isinstance(one, keras.Layer) for weight in one.weights}
    return any(id(w) not in inner and w.name in ("bias", "beta") for w in operation.weights)


def _has_activation(layer):
    return isinstance(layer, LINEAR + CONVOLUTIONS) and layer.activation not in (None, keras.activations.linear)


def bias_of(layer: keras.Layer, like: Tensor) -> Tensor:
    """Returns what a layer adds, so that it can be multiplied with a gradient at its output.

    Args:
        layer: A layer that `has_bias`.
        like: The gradient.
    """
    if isinstance(layer, _AFFINE):
        return ops.cast(layer(ops.zeros_like(like[:1]), training=False), "float32")
    rank = len(like.shape)
    if isinstance(layer, _NORMALIZING):
        bias, axes = layer.beta, layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    else:
        bias = layer.bias
        first = rank > 2 and getattr(layer, "data_format", None) == "channels_first"
        axes = [1] if first else range(rank - len(bias.shape), rank)
    shape = [1] * rank
    for axis, size in zip(axes, bias.shape):
        shape[axis] = size
    return ops.reshape(ops.cast(bias, "float32"), shape)


def bias_shares(layer: keras.Layer, output: Tensor, gradient: Tensor) -> Tensor:
    """Returns what the bias of a layer shares: itself times the gradient, at each position."""
    return gradient * bias_of(layer, gradient)


def bias_sizes(layer: keras.Layer, output: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the sizes of what the bias of a layer shares, from the least one on.

    Returns:
        `(sums over the channels (B, *spatial), the largest (B,))`.
    """
    size = channels_last(ops.absolute(bias_shares(layer, output, gradient)), data_format(layer))
    axes = tuple(range(1, len(size.shape)))
    size = size - ops.min(size, axis=axes, keepdims=True)
    return ops.sum(size, axis=-1), ops.max(size, axis=axes)


def _request(sites, summary):
    return Request(inputs=True, sites=tuple(sites), gradients=True, summary=summary)


def _input_shares(batch, images, results):
    """Returns gradient times input, for all inputs; those of whole numbers share nothing."""
    found, rows = iter(results["input_gradients"]), batch.rows(images)
    return [
        next(found) * array if batch.is_float(i) else np.zeros(array.shape, "float32") for i, array in enumerate(rows)
    ]


def _divided(maps, most):
    """Divides each map by a number, or leaves it at 0."""
    most = most.reshape(-1, *[1] * (maps.ndim - 1))
    return np.divide(maps, most, out=np.zeros_like(maps), where=most > 0)
