"""Does the map know the network? What becomes of it when the weights are replaced by random ones."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from vis.engine.copying import copy_model
from vis.engine.evaluator import Evaluator
from vis.engine.graph import walk
from vis.engine.tasks import Task
from vis.methods.explainer import Explainer
from vis.metrics.complexity import entropy
from vis.metrics.faithfulness import rank_correlation
from vis.metrics.robustness import ExplainerMetric, rows
from vis.utils.validation import cut, pick, shown

if TYPE_CHECKING:
    from vis.utils.types import Inputs, Maps, TargetLike

ORDERS = ("bottom-up", "top-down", "independent")


class ParameterRandomization(ExplainerMetric):
    """How much a map stays the same when the network's weights are made random, layer by layer.

    A map that stays alike does not depend on what the network has learned. A copy of the model is changed; the
    target stays that of the trained model. Each layer's weights are shuffled among themselves, tensor by tensor: sizes
    stay as they were learned, what was learned is gone. (Weights that are all alike, such as fresh biases, stay.)

    Beware: from the top down, the first layers keep what the input looks like for long, whatever the method; and
    measures of likeness are moved by noise. Give `vis.SmoothGrad` to take noise out ("smooth MPRT"), or measure
    `"entropy"` ("efficient MPRT"): how much the entropy of the map rises in the network that is random as a whole.

    Source: Adebayo et al. 2018, "Sanity Checks for Saliency Maps", sections 3.1 and 4; Hedstroem et al. 2024, "Sanity
    Checks Revisited".

    Args:
        explainer: Any explainer of `vis`. Not changed.
        order: `"bottom-up"` (default), from the input to the output, layers stay random; `"top-down"`; or
            `"independent"`, one layer at a time.
        seed: Seed of the shuffling. Default `None`: another one at each call.
        measure: `"spearman"` (default), rank correlation of absolute values; `"ssim"`, structural similarity of maps
            with two axes, scaled to [0, 1]; or `"entropy"`.

    Attributes:
        layers: After a call, the paths of the layers, in the order of the curve.

    Returns:
        When called, `metric(inputs, maps=None, target=None, batch_size=32, verbose=0)`, float32 `(N,)`: the mean
        likeness over the layers, in [-1, 1], lower is better; for `"entropy"` the relative rise, higher is better.

    Raises:
        ValueError: An argument has a wrong value, or the model has no weights or cannot be copied.
        TypeError: `explainer` is none.

    Examples:
        >>> import vis
        >>> model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, "tanh", name="first"),
        ...                           keras.layers.Dense(2, name="last")])
        >>> metric = ParameterRandomization(vis.Saliency(model), seed=0)
        >>> metric.curve(np.ones((3, 6)), target=1).shape, metric.layers
        ((3, 3), ['first', 'last'])
    """

    name = "parameter-randomization"
    higher_is_better = False

    def __init__(
        self, explainer: Explainer, order: str = "bottom-up", seed: int | None = None, measure: str = "spearman"
    ) -> None:
        super().__init__(explainer, seed)
        if not isinstance(order, str) or order not in ORDERS:
            raise ValueError(f"`order` must be one of {', '.join(map(repr, ORDERS))}. Received: {shown(order)}.")
        self._order, self._measure = order, pick("measure", measure, MEASURES)
        self._whole = measure == "entropy"
        self.higher_is_better = self._whole
        self.layers: list[str] = []

    def of_task(self, task, maps):
        """Returns the mean over the layers; for the entropy, the rise in the network that is random as a whole."""
        return self._curve(task, maps)[:, -1] if self._whole else self._curve(task, maps)[:, 1:].mean(axis=1)

    def curve(
        self,
        inputs: Inputs,
        maps: Maps | None = None,
        target: TargetLike = None,
        batch_size: int = 32,
        verbose: int = 0,
    ) -> np.ndarray:
        """Returns the likeness after each layer; the arguments are those of `__call__`.

        Returns:
            float32 `(N, layers + 1)`: first of the trained network with itself, 1 (entropy: 0).
        """
        task = self.explainer.evaluator.task(inputs, target, batch_size, verbose).settled()
        known = rows(self.explainer.explain(task) if maps is None else maps, task.count)
        return self._curve(task, known).astype("float32")

    def _curve(self, task, maps):
        model = copied(self.explainer.model, task.batch)
        explainer = on_model(self.explainer, model)
        own = Task(explainer.evaluator, task.batch, task.goal, task.batch_size, 0)
        explainer.evaluator.ready(task.batch)
        shape = task.batch.spatial_shape(0)
        found, self.layers = [self._alike(maps, maps, shape)], []
        bar = keras.utils.Progbar(len(weighted(model))) if task.verbose else None
        for path, _ in self._randomized(model):
            self.layers.append(path)
            found.append(self._alike(maps, rows(explainer.explain(own), task.count), shape))
            if bar is not None:
                bar.add(1)
        return np.stack(found, axis=1)

    def _alike(self, before, after, shape):
        return np.array([self._measure(one, other, shape) for one, other in zip(before, after)])

    def _randomized(self, model) -> Iterator[tuple[str, keras.Layer]]:
        """Yields the layers of a model, each after its weights were shuffled."""
        layers, draw = weighted(model), np.random.default_rng(self.seed)
        for path, layer in layers[::-1] if self._order == "top-down" else layers:
            kept = [ops.convert_to_numpy(variable) for variable in own_variables(layer)]
            for variable, value in zip(own_variables(layer), kept):
                variable.assign(draw.permutation(value.ravel()).reshape(value.shape))
            yield path, layer
            if self._order == "independent":
                for variable, value in zip(own_variables(layer), kept):
                    variable.assign(value)


def own_variables(layer) -> list:
    """Returns the trained variables of a layer that has no layers of its own with them."""
    return [variable for variable in layer.trainable_variables + layer.non_trainable_variables if _is_weight(variable)]


def _is_weight(variable):
    return len(variable.shape) > 0 and keras.backend.standardize_dtype(variable.dtype).startswith(("float", "bfloat"))


def weighted(model) -> list[tuple[str, keras.Layer]]:
    """Returns paths and layers with weights of their own, from the input to the output, each once."""
    found, seen = [], set()
    for path, one in walk(model):
        is_whole = isinstance(one, keras.Layer) and own_variables(one) and not _has_parts(one)
        if is_whole and id(one) not in seen:
            seen.add(id(one))
            found.append((path, one))
    if not found:
        raise ValueError(
            f"The model must have layers with weights, to make them random. Received: {model.name!r}, which has none."
        )
    return found


def _has_parts(layer):
    return any(
        own_variables(inner) for _, inner in walk(layer) if isinstance(inner, keras.Layer) and inner is not layer
    )


def copied(model, batch):
    """Returns an independent copy of a model.

    Raises:
        ValueError: A model whose class cannot be made from its config.
    """
    if isinstance(model, (keras.Function, keras.Sequential)) and isinstance(model, keras.Model):
        return copy_model(model)
    try:
        twin = type(model).from_config(model.get_config())
        batch.layout.build(twin, [ops.convert_to_tensor(array[:1]) for array in batch.arrays])
        twin.set_weights(model.get_weights())
    except Exception as error:  # custom code, it may raise anything
        raise ValueError(
            f"Model {model.name!r} of class {type(model).__name__} could not be copied, so its weights cannot be made "
            f"random: {cut(str(error), 120)} Give it a `get_config` with the arguments of its `__init__`."
        ) from error
    return twin


def on_model(explainer: Explainer, model) -> Explainer:
    """Returns a copy of an explainer that explains a copy of its model."""
    twin = copy.copy(explainer)
    for name, value in vars(explainer).items():
        if isinstance(value, Evaluator):
            setattr(twin, name, value.on(model))
        elif isinstance(value, Explainer):
            setattr(twin, name, on_model(value, model))
    return twin


def _spearman(before, after, shape):
    return rank_correlation(np.abs(before), np.abs(after))


def _rise(before, after, shape):
    first = float(entropy(before))
    return (float(entropy(after)) - first) / first if first > 0 else 0.0


def _ssim(before, after, shape):
    if len(shape) != 2 or before.size % int(np.prod(shape)):
        raise ValueError(
            f"`measure='ssim'` compares maps with two axes. Received: inputs with {len(shape)}. Take 'spearman'."
        )
    return similarity(*(np.abs(one).reshape(*shape, -1).sum(axis=-1) for one in (before, after)))


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the structural similarity of two maps `(H, W)`, each scaled to [0, 1] (Wang et al. 2004, 7x7 windows)."""
    from scipy import ndimage  # slow to import

    a, b = (_unit(values) for values in (one, other))
    size = min(7, *a.shape)

    def mean(x):
        return ndimage.uniform_filter(x, size)

    spread = mean(a * a) - mean(a) ** 2, mean(b * b) - mean(b) ** 2, mean(a * b) - mean(a) * mean(b)
    light, form = 0.01**2, 0.03**2
    top = (2 * mean(a) * mean(b) + light) * (2 * spread[2] + form)
    below = (mean(a) ** 2 + mean(b) ** 2 + light) * (spread[0] + spread[1] + form)
    return float((top / below).mean())


def _unit(values):
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


MEASURES = {"spearman": _spearman, "ssim": _ssim, "entropy": _rise}
