"""Input attribution by gradients: what in the input moves the score."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from vis.backprop_modifiers import floor, require_gradient
from vis.engine.masking import read_fill, warn_of_far_zero
from vis.engine.onward import Onward, gradients_of
from vis.engine.requests import INPUT_GRADIENTS, gradients_at, outputs_at
from vis.engine.tasks import gathered
from vis.engine.tokens import differentiable_inputs, no_token, plain_inputs
from vis.methods.explainer import Explainer
from vis.utils.formats import data_format
from vis.utils.hints import first_text
from vis.utils.validation import (
    check_numeric,
    cut,
    holds_integers,
    listed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import keras

    from vis.engine.requests import Request
    from vis.engine.tasks import Task
    from vis.utils.types import LayerLike, Maps, RuleLike

_NOTHING = 1e-9  # of the largest relevance


class GradientExplainer(Explainer):
    """Base class of the methods whose result has the shape of the inputs.

    Args:
        model: See `vis.methods.explainer.Explainer`.
        backprop_modifier: See `vis.methods.explainer.Explainer`.
        input_layer: Layer at whose output the attribution is made instead of at the inputs; `"tokens"` for the
            embedding that takes the model's token ids.
        output_layer: See `vis.methods.explainer.Explainer`.
        logits: See `vis.methods.explainer.Explainer`.
    """

    takes_first_layer_rules = False  # those that give relevance, but no gradient
    default_call = 0  # of a shared `input_layer`: the first, as embeddings may be called again to make the logits
    finds_tokens = True

    def __init__(
        self,
        model: keras.Layer,
        backprop_modifier: RuleLike | None = None,
        *,
        input_layer: LayerLike | None = None,
        output_layer: LayerLike | None = None,
        logits: bool = True,
    ) -> None:
        super().__init__(model, output_layer, logits, backprop_modifier, input_layer)
        if input_layer is None and not self.takes_first_layer_rules:
            require_gradient(self.evaluator.composite, type(self).__name__)

    def explain(self, task: Task) -> Maps:
        """Returns the attributions, in the structure of the inputs; see `Explainer.explain`."""
        if self.site is None:
            self._check_gradients(task)
        flat = self.attributions(task)
        return task.batch.pack(flat) if self.site is None else flat[0]

    def _check_gradients(self, task):
        """Raises where all that has a gradient says how the token ids are to be read, such as a mask."""
        found = self.evaluator.lookups(task.batch)
        if found and not differentiable_inputs(self.model, task.batch, found):
            plain = plain_inputs(self.model, task.batch)
            of_words = [one for one in found if one.index in plain] or found
            names = ", ".join(task.batch.layout.names[one.index] for one in of_words)
            raise ValueError(
                f"The inputs must have a gradient. Received: whole numbers that an embedding takes, `{cut(names)}`, "
                "which have none. Explain what the embedding makes of them, one vector for each token: "
                f"`vis.{type(self).__name__}(model, ..., input_layer='tokens')`."
            )

    def attributions(self, task: Task) -> list[np.ndarray]:
        """Returns the attributions of a task as a flat list of arrays: the method itself."""
        raise NotImplementedError(f"{type(self).__name__} must define `attributions(task)`.")

    def flat_within(self, task: Task) -> list[np.ndarray]:
        """Returns the attributions of another explainer's task as a flat list."""
        return self.attributions(task.on(self.evaluator))

    def values(self, task: Task) -> list[np.ndarray]:
        """Returns what is attributed to, a flat list: the inputs, or the activations of `input_layer`."""
        self.check_numbers(task)
        if self.site is None:
            return task.batch.arrays
        return task.map(outputs_at(self.site), quiet=True)["activations"]

    def check_numbers(self, task: Task) -> None:
        """Raises if strings are attributed to by their values."""
        texts = [name for i, name in enumerate(task.batch.layout.names) if task.batch.holds_texts(i)]
        if texts and self.site is None:
            raise ValueError(
                f"{type(self).__name__} uses the values of the inputs, which must be numbers. Received: "
                f"strings, `{cut(', '.join(texts))}`. Give `input_layer=`, the layer whose output is explained; or "
                "take vis.Saliency, or vis.ShapleyValues with `features=` of the other inputs."
            )

    def starts(self, task: Task) -> list[np.ndarray] | None:
        """Returns the baseline whose score the contributions start from, a flat list as `values`; `None` for no score.

        Raises:
            ValueError: The maps are no contributions, or start from several baselines.
        """
        raise ValueError(
            "The maps must be contributions with one baseline, as of `vis.IntegratedGradients`, `vis.DeepLIFT` or "
            f"`vis.LRP`. Received: {self!r}, of which no baseline is known. Give `baseline=`: a number, an array or a "
            "`vis.metrics.Background`."
        )

    def gradients(self, task: Task) -> Iterator[tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]]:
        """Yields `(images, gradients, values)` for chunks of the samples as they are, flat lists."""
        if self.site is None:
            for images, _, results in task.rows(INPUT_GRADIENTS):
                yield images, self._flat(task, results), task.batch.rows(images)
        else:
            for images, _, results in task.rows(gradients_at(self.site)):
                yield images, results["gradients"], results["activations"]

    def sums(
        self,
        task: Task,
        samples: int,
        change: Callable,
        part: Callable,
        finish: Callable,
        values: list[np.ndarray] | None = None,
    ) -> list:
        """Returns sums over the gradients of changed values, a flat list of arrays.

        Args:
            task: The task.
            samples: How many versions there are of each sample.
            change: Function `(images, numbers) -> values`, a flat list as `values` gives: the versions.
            part: Function `(image, numbers, gradients) -> [array, ...]`: what the gradients of some versions of a
                sample add to its totals.
            finish: Function `(image, totals) -> [array, ...]`: what becomes of a sample's totals.
            values: What `values` gave, if it is at hand: then it is not evaluated again.
        """

        def added(image, numbers, results):
            return part(image, numbers, self._flat(task, results))

        asked, request, how = self.asked(task, change, values)
        return asked.reduce(request, samples, added, finish, **how)

    def gradients_at(self, task: Task, values: list[np.ndarray]) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Yields `(images, gradients)` for chunks of the samples with other values in place of their own."""

        def given(images, numbers):
            return [value[images] for value in values]

        asked, request, how = self.asked(task, given, values)
        for images, _, results in asked.rows(request, quiet=True, **how):
            yield images, self._flat(task, results)

    def asked(self, task: Task, change: Callable, values: list[np.ndarray] | None = None) -> tuple[Task, Request, dict]:
        """Returns what asks for the gradients of changed values: a task, the request, and arguments of its `rows`.

        At a layer, only the rest of the network runs where the graph allows it.

        Args:
            task: The task.
            change: See `sums`.
            values: See `sums`.
        """
        if self.site is None:
            return task, INPUT_GRADIENTS, {"inputs": change}
        onward = Onward(task, self.site, None if values is None else values[0])
        return onward.asked(lambda images, numbers: change(images, numbers)[0])

    def _flat(self, task, results):
        """Returns the gradients for all values; inputs of whole numbers, which have none, get zeros."""
        if self.site is not None:
            return gradients_of(results)
        found, rows = iter(results["input_gradients"]), results["score"].shape
        return [
            next(found) if task.batch.is_float(i) else np.zeros((*rows, *array.shape[1:]), "float32")
            for i, array in enumerate(task.batch.arrays)
        ]

    def formats(self, task: Task) -> list[str]:
        """Returns the data formats of the values."""
        return task.batch.formats if self.site is None else [data_format(self.site.layer(self.model))]

    def are_tokens(self, given: Any) -> bool:
        """Tells whether what the user gave in place of values are token ids: whole numbers for the embedding of them.

        Args:
            given: A number, an array or lists.
        """
        return self.evaluator.token_lookup is not None and holds_integers(given)

    def embedded(self, task: Task, name: str, given: Any, count: int | None = None) -> np.ndarray:
        """Returns the vectors that the model's embedding makes of token ids which the user gave.

        Args:
            task: The task.
            name: The argument's name, for messages.
            given: One id for all tokens, or ids in the shape of one text or of all.
            count: How many texts there may be. Default `None`: as many as samples.
        """
        lookup, batch = self.evaluator.token_lookup, task.batch
        ids, own = check_numeric(name, given), batch.arrays[lookup.index]
        shape = (len(own) if count is None else count, *own.shape[1:])
        if ids.ndim > len(shape) or any(a not in (1, b) for a, b in zip(ids.shape[::-1], shape[::-1])):
            raise ValueError(
                f"`{name}` must hold one token id, or one for each token, shape {shape[1:]} or {shape}, if it holds "
                f"whole numbers. Received: shape {ids.shape}. Vectors are given as floats."
            )
        if ids.min() < 0 or ids.max() >= lookup.size:
            raise ValueError(
                f"`{name}` must hold token ids from 0 to {lookup.size - 1}, if it holds whole numbers. Received: from "
                f"{ids.min():g} to {ids.max():g}. Take those of the model's tokenizer, such as its mask token."
            )
        arrays = batch.rows(np.zeros(shape[0], int))
        arrays[lookup.index] = np.broadcast_to(ids, shape).astype(own.dtype)
        texts = dataclasses.replace(task, batch=dataclasses.replace(batch, arrays=arrays), known_scores=None)
        return texts.map(outputs_at(self.site), quiet=True)["activations"][0]

    def is_changeable(self, task: Task, index: int) -> bool:
        """Tells whether noise or a baseline make sense for one of the values."""
        return self.site is not None or task.batch.is_float(index)


class Saliency(GradientExplainer):
    """The gradient of the score with respect to the input.

    The fastest map and the closest to the input. It tells how the score would change for a very
    small change of each value, not what the score is made of; where the network is saturated,
    values that matter have small gradients.

    Source: Simonyan et al. 2014, "Deep Inside Convolutional Networks", section 3. With
    `"guided"`: Springenberg et al. 2015, section 3.4; with `"deconv"`: Zeiler & Fergus 2014,
    section 2.1. These two draw sharper, but change little when the upper layers of the network
    are made random (Adebayo et al. 2018): do not use them alone.

    Args:
        model: Any built or callable Keras model. Not changed.
        backprop_modifier: `None` (default), `"guided"`, `"rectified"` (`"relu"`, `"deconv"`), or a
            rule, see `vis.backprop_modifiers.rule`.
        input_layer: Layer at whose output the attribution is made instead of at the inputs: name, path, index, layer,
            or a pair of one of these and the number of the call, from 0. Of a layer that is called several times,
            the first call is meant, and a warning says so. `"tokens"`: the embedding that takes the token ids of a
            text model, if no layer is called so. Default `None`.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `True`.

    Returns:
        When called, as by `vis.methods.explainer.Explainer.__call__`, float32, signed, in the shape and
        structure of the inputs. Inputs of whole numbers beside others get zeros.

    Raises:
        ValueError: An argument is wrong, or the score does not depend on the inputs.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> model.set_weights([np.array([[1, 4], [2, 5], [3, 6.0]]), np.zeros(2)])
        >>> Saliency(model)(np.ones((1, 3)), target=0).tolist()
        [[1.0, 2.0, 3.0]]
    """

    takes_several_targets = True

    def attributions(self, task: Task) -> list[np.ndarray]:
        """Returns the gradients."""
        return gathered(task.count, ((images, gradients) for images, gradients, _ in self.gradients(task)))


class GradientTimesInput(GradientExplainer):
    """The gradient times the input.

    For a network of linear pieces without biases the attributions sum to the score. Its limit: a
    value of 0 gets nothing, whatever it means.

    Source: Shrikumar et al. 2017, "Not Just a Black Box", section 2.

    Args:
        model: Any built or callable Keras model. Not changed.
        backprop_modifier: `None` (default), `"guided"`, `"rectified"` (`"relu"`, `"deconv"`), a rule or a composite of
            `vis.backprop_modifiers`.
        input_layer: Layer at whose output the attribution is made instead of at the inputs: name, path, index, layer,
            a pair of one of these and the number of the call, or `"tokens"` for the embedding of a text model's
            token ids. Default `None`.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `True`.

    Returns:
        When called, float32, signed, in the shape and structure of the inputs.

    Raises:
        ValueError: An argument is wrong, or the score does not depend on the inputs.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> model.set_weights([np.array([[1, 4], [2, 5], [3, 6.0]]), np.zeros(2)])
        >>> GradientTimesInput(model)(np.array([[3.0, 2.0, 1.0]]), target=0).tolist()
        [[3.0, 4.0, 3.0]]
    """

    takes_first_layer_rules = True
    takes_several_targets = True

    def attributions(self, task: Task) -> list[np.ndarray]:
        """Returns the gradients times the values."""
        self.check_numbers(task)
        least = self._least()
        if self._is_relevance():
            task = dataclasses.replace(task, goal=task.goal.for_relevance())

        def products(gradients, values):
            return [_product(g, for_targets(v, g), least) for g, v in zip(gradients, values)]

        found = self.gradients(task)
        return gathered(task.count, ((images, products(gradients, values)) for images, gradients, values in found))

    def starts(self, task: Task) -> None:
        """Returns `None`: what sums up is the score itself, see `GradientExplainer.starts`."""
        return None

    def _is_relevance(self):
        return self.evaluator.composite is not None and self.evaluator.composite.relevance

    def _least(self):
        """Returns what the rules of relevance keep values from 0 by."""
        rules, is_half = self.evaluator.composite, self.evaluator.network.is_half
        if not self._is_relevance() or (is_half and not rules.of_first_layer):
            return 0.0
        return floor("float16" if is_half else "float32")


def _product(gradients, values, least):
    """Returns gradients times values that are kept from 0, as the rules of relevance keep them.

    A value of 0 has relevance only where a rule gives it some; what is left of the number in its place is taken away.
    """
    if not least:
        return gradients * values
    found = gradients * (values + np.where(values < 0, -least, least)).astype("float32")
    found[(values == 0) & (np.abs(found) <= _NOTHING * np.abs(found).max())] = 0
    return found


def read_baselines(explainer: GradientExplainer, task: Task, values: list[np.ndarray], given: Any) -> list[np.ndarray]:
    """Returns what a user's baseline is for each of the values, in their shapes; whole numbers are their own.

    Args:
        explainer: The explainer.
        task: The task.
        values: What is attributed to, as `values` gives it.
        given: The baseline: a number, an array, or a list or dict of those for several inputs; `None` for zeros.
    """
    if explainer.are_tokens(given):
        return [explainer.embedded(task, "baseline", given)]
    if explainer.evaluator.token_lookup is not None and first_text(given) not in (None, "mean", "blur"):
        raise no_token("baseline", given, explainer.evaluator.token_lookup.size)
    flat = per_input("baseline", given, task, len(values))
    for i, (one, value) in enumerate(zip(flat, values) if explainer.site is None else ()):
        task.batch.check_columns("baseline", i, one)
        if one is None:
            warn_of_far_zero(task.batch.layout.names[i], value)
    return [
        read_fill(0.0 if one is None else one, value) if explainer.is_changeable(task, i) else value
        for i, (one, value) in enumerate(zip(flat, values))
    ]


def per_input(name: str, given: Any, task: Task, count: int) -> list:
    """Returns what the user gave for each of several inputs, as a flat list; what is not in a structure is for all.

    Args:
        name: The argument's name, for messages.
        given: A list, tuple or dict in the structure of the inputs, or one thing for all.
        task: The task.
        count: How many inputs there are.

    Raises:
        ValueError: The structure is another.
    """
    if not isinstance(given, (list, tuple, dict)) or count == 1:
        return [given] * count
    flat = list(given)
    if isinstance(given, dict):
        names = task.batch.pack([str(i) for i in range(count)])
        if not isinstance(names, dict) or set(names) != set(given):
            raise ValueError(
                f"`{name}` must have the structure of the inputs. Received: a dict with the keys {listed(given)}."
            )
        flat = [given[key] for key in sorted(names, key=lambda key: int(names[key]))]
    if len(flat) != count:
        raise ValueError(f"`{name}` must hold one entry for each of {count} inputs. Received: {len(flat)}.")
    return flat


def for_targets(values: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Returns rows of values with an axis for the targets behind the first, if their gradients have one."""
    return values if gradients.ndim == values.ndim else values[:, None]
