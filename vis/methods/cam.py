"""Class activation maps: which positions of a feature map speak for a score.

A method of this family is a formula of the activations `A` and the gradients `G = dS/dA`, both
`(N, *spatial, K)`: subclass `ClassActivationMap` and write `formula`.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from typing import TYPE_CHECKING

import numpy as np

from vis.engine.feature_maps import beside, feature_map, feature_maps, no_grid, read_tokens
from vis.engine.graph import operations
from vis.engine.network import NoGradientError
from vis.engine.requests import gradients_at, outputs_at
from vis.engine.survey import Seen
from vis.engine.tasks import gathered
from vis.methods.explainer import Explainer, check_finite
from vis.methods.gradients import Saliency
from vis.utils.images import resize
from vis.utils.outputs import known_shape
from vis.utils.validation import VisualizationWarning, check_flag, shown, words_shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import keras

    from vis.engine.feature_maps import FeatureMap
    from vis.engine.requests import Site
    from vis.engine.tasks import Task
    from vis.utils.types import LayerLike, Maps, RuleLike


_LEAST_GRADIENT = 1e-37  # twice the inverse of what is smaller may be infinite in single precision


class ClassActivationMap(Explainer):
    """Base class of the class activation maps.

    Args:
        model: See `vis.methods.explainer.Explainer`.
        layer: The layer whose feature map is used: name, path through nested models, index, layer
            object, or a pair of one of these and the number of the call, for a shared layer.
            `None`: the last layer with spatial output that the score depends on.
        backprop_modifier: See `vis.methods.explainer.Explainer`.
        upsample: Whether maps are resized (linearly) to the input.
        output_layer: See `vis.methods.explainer.Explainer`.
        logits: See `vis.methods.explainer.Explainer`.
        reshape: `"tokens"` for layers of a vision transformer: class and register tokens are
            dropped and the square grid is restored. Default `None`.
        tokens: Which tokens are no part of the image: how many stand before it, or a list of their places. Default
            `None`: found from the grid.
    """

    needs_gradients = True  # whether the formula takes the score's gradients at the feature map

    def __init__(
        self,
        model: keras.Layer,
        layer: LayerLike | None = None,
        backprop_modifier: RuleLike | None = None,
        upsample: bool = True,
        *,
        output_layer: LayerLike | None = None,
        logits: bool = True,
        reshape: str | None = None,
        tokens: int | Sequence[int] | None = None,
    ) -> None:
        if reshape not in (None, "tokens"):
            raise ValueError(f'`reshape` must be None or "tokens". Received: {shown(reshape)}.')
        self._upsample, self._tokens = check_flag("upsample", upsample), read_tokens(tokens)
        self._reshape = reshape if tokens is None else "tokens"
        super().__init__(model, output_layer, logits, backprop_modifier, layer)

    @staticmethod
    def formula(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
        """Returns the maps `(N, *spatial)` of activations and gradients `(N, *spatial, K)`."""
        raise NotImplementedError("A class activation map must define `formula(activations, gradients)`.")

    @property
    def layer(self) -> str | tuple[str, int] | None:
        """The path of the layer whose feature map was used by the last call, with the call if it has several."""
        return self.evaluator.memory.get("layer")

    def __repr__(self) -> str:
        chosen = f", layer={self.layer!r}" if self.layer else ""
        return f"{type(self).__name__}({self.model.name!r}{chosen})"

    def explain(self, task: Task) -> np.ndarray:
        """Returns the maps; see `Explainer.explain`."""
        return gathered(task.count, self._chunks(task))[0]

    def _chunks(self, task):
        for at, images, results in self.evaluated(task):
            image, activations, gradients = self.grids(task, at, results)
            if gradients is None or gradients.ndim == activations.ndim:
                maps = self.formula(activations, gradients)
            else:
                maps = np.stack([self.formula(activations, one) for one in np.moveaxis(gradients, 1, 0)], axis=1)
            yield images, [self.at_input(task, image, maps)]

    def evaluated(self, task: Task) -> Iterator[tuple[Site, np.ndarray, dict]]:
        """Yields `(site, images, results)`: the samples evaluated at the feature map.

        The feature map is the user's choice, or the last one that the score depends on.
        """
        sites, memory, formula = self.sites(task), self.evaluator.memory, task.goal.formula
        if not self.needs_gradients and len(sites) > 1:
            memory.once("picked", lambda: self._first_that_matters(task, sites), formula)
        for at in sites[memory.get("picked", formula, 0) :]:
            chunks = task.rows(gradients_at(at) if self.needs_gradients else outputs_at(at))
            try:
                first = next(chunks)
            except NoGradientError:
                if at is sites[-1]:
                    raise
                continue
            if at is not sites[-1] and self._is_passed_by(task, at, first[-1]):
                continue
            memory.keep("picked", sites.index(at), formula)
            self._settle_on(task, at)
            for images, _, results in itertools.chain([first], chunks):
                yield at, images, results
            return

    def _settle_on(self, task, at):
        """Notes which layer is used; raises where it sees one of several images only."""
        path = operations(self.model)[at.place][0]
        calls = self.evaluator.network.calls.get(at.key, 1)
        self.evaluator.memory.keep("layer", (path, at.call % calls) if calls > 1 else path)
        if self.site is None:
            others = self._unseen_images(task, at)
            if others:
                raise ValueError(self._words_several(task, at, others))
            self._tell_of_branches(task, at, path)

    def _tell_of_branches(self, task, at, path):
        """Says once that the score also comes from feature maps that the chosen one does not see."""
        maps = self._maps(task)
        number = next(i for i, image in enumerate(maps) if image.site == at)
        if maps[number].grid is not None or not self._is_of_image(task, maps[number]):
            return  # along tokens, a way around each block is the rule
        if not self.evaluator.is_first_time("branches"):
            return
        explained = self.evaluator.output
        output = None if explained is None else operations(self.model)[explained.place][0]
        others = beside(self.model, maps[number + 1 :], path, output)
        if others:
            warnings.warn(
                f"The map is that of layer {path!r}; the score also comes, by a way around it, from {others[0]!r}"
                f"{f' and {len(others) - 1} more layers' if len(others) > 1 else ''}. Give `layer=` to say which is "
                "meant: a layer where the ways have come together shows all.",
                VisualizationWarning,
                stacklevel=2,
            )

    def _is_of_image(self, task, image):
        return image.input is not None and len(task.batch.spatial_shape(image.input)) > 1

    def _unseen_images(self, task, at):
        """Lists the inputs, of the kind that the feature map is of, which matter for the score but not for the map."""
        maps, inputs = self._maps(task), self.evaluator.survey(task.batch).outputs.inputs
        own = next(image for image in maps if image.site == at)
        if own.input is None:
            return []
        sizes = [np.prod(task.batch.spatial_shape(index)) for index in range(len(task.batch.arrays))]
        rank = len(task.batch.spatial_shape(own.input))
        return [
            index
            for index in sorted(inputs - own.sees)
            if task.batch.is_float(index)
            and len(task.batch.spatial_shape(index)) == rank
            and 2 * sizes[index] >= sizes[own.input]
        ]

    def _words_several(self, task, at, others):
        names, paths = task.batch.layout.names, [path for path, _ in operations(self.model)]
        fitting = []
        for image in self._maps(task):  # the last one of each input
            if image.input is not None and all(image.input != other.input for other in fitting):
                fitting.append(image)
        listed = ", ".join(f"{(paths[i.site.place], i.site.call)!r} for `{names[i.input]}`" for i in fitting)
        return (
            f"`layer` must be given, as the score depends on several inputs and the last feature map, of layer "
            f"'{paths[at.place]}', does not see {', '.join(f'`{names[i]}`' for i in others)}. Choose one of: {listed}."
        )

    def _first_that_matters(self, task, sites):
        """Returns the number of the first site that the score depends on, by the gradient of one sample."""
        (_, one), *_ = task.groups(1)
        for number, at in enumerate(sites):
            try:
                _, _, results = next(one.rows(gradients_at(at), quiet=True))
            except NoGradientError:
                continue
            if not self._is_passed_by(one, at, results):
                return number
        return 0  # no gradient anywhere: the target is not differentiable

    def _is_passed_by(self, task, at, results):
        """Tells whether the score goes on from the class token alone, or from one position of a row."""
        if "gradients" not in results:
            return False
        image, activations, gradients = self.grids(task, at, results)
        if gradients.ndim > activations.ndim:
            gradients = gradients[:, 0]  # of several targets, the first
        if image.grid is None and gradients.ndim > 3:
            return False
        matters = np.any(gradients.reshape(len(gradients), -1, gradients.shape[-1]), axis=-1)
        return matters.sum(axis=1).max() <= (0 if image.grid is not None else 1) < matters.shape[1]

    def sites(self, task: Task) -> list[Site]:
        """Returns the sites that may have the feature map, the best first."""
        if self.site is not None:
            self._check_spatial(task, known_shape(self.site.layer(self.model)))
            return [self.site]
        found = [image.site for image in self._maps(task) if self._reshape is None or image.grid is not None]
        if not found:
            raise ValueError(
                f"Model {self.model.name!r} has no layer with spatial output before what is explained, so there is no "
                "feature map to use. Use vis.Saliency or another method of input attribution."
            )
        return found

    def _maps(self, task):
        """Returns the feature maps of the model, the last first."""
        return self.evaluator.memory.once("maps", lambda: self._search(task))

    def _search(self, task):
        output = self.evaluator.output.layer(self.model) if self.evaluator.output else None
        return feature_maps(self.model, self.evaluator.survey(task.batch), task.batch, output, self._tokens)

    def grids(self, task: Task, at: Site, results: dict) -> tuple[FeatureMap, list[np.ndarray]]:
        """Returns `(feature map, activations, gradients)` of a site, both as `(N, *spatial, K)`.

        Of several targets, gradients are `(N, targets, *spatial, K)`. Without gradients among the results, the last
        is `None`.
        """
        layer = at.layer(self.model)
        arrays = check_finite([results[name][0] for name in ("activations", "gradients") if name in results])
        self._check_spatial(task, arrays[0].shape)
        image = self._image(task, at, arrays[0].shape)
        if self._reshape is not None and image.grid is None:
            sizes = [task.batch.spatial_shape(index) for index in sorted(image.sees)]
            raise ValueError(no_grid(layer, arrays[0].shape, sizes, self._tokens))
        arrays = [_of_rows(functools.partial(image.restore, layer), array, arrays[0].ndim) for array in arrays]
        return image, *arrays, *[None] * (2 - len(arrays))

    def _image(self, task, at, shape):
        """Returns the feature map that a layer's output of some shape is."""
        calls = [one for one in self.evaluator.survey(task.batch).seen if one.place == at.place]
        calls = [one for one in calls if one.call == at.call] or calls[-1:]
        inputs = calls[0].inputs if calls else frozenset(range(len(task.batch.arrays)))
        return feature_map(
            at.layer(self.model), Seen(at.place, at.call, shape, inputs=inputs), task.batch, self._tokens
        )

    def _check_spatial(self, task, shape):
        if shape is not None and len(shape) < 3:
            raise ValueError(
                f"`layer` must have spatial output (rank 3 or more). Received: layer "
                f"{self.site.layer(self.model).name!r} with output shape {words_shape(shape)}. {self._hint(task)}"
            )

    def _hint(self, task):
        paths = [path for path, _ in operations(self.model)]
        names = [repr(paths[image.site.place]) for image in self._maps(task)[:5]]
        return f"Choose one of: {', '.join(names)}." if names else "The model has no such layer: use vis.Saliency."

    def at_input(self, task: Task, image: FeatureMap, maps: np.ndarray) -> np.ndarray:
        """Resizes maps `(N, *spatial)` or `(N, targets, *spatial)` to the input that they are of."""
        if not self._upsample:
            return maps
        rank = maps.ndim - (1 if task.goal.targets is None else 2)
        sizes = image.size_at_input(task.batch, rank, self.layer)
        return _of_rows(lambda rows: resize(rows, sizes), maps, rank + 1)


def _of_rows(function, array, rank):
    """Applies a function of `(N, ...)`, of some rank, to an array that may have an axis of targets behind the first."""
    if array.ndim == rank:
        return function(array)
    rows = function(array.reshape(-1, *array.shape[2:]))
    return rows.reshape(*array.shape[:2], *rows.shape[1:])


def _total(array):
    """Sums over the positions, keeping the axes."""
    return array.sum(axis=tuple(range(1, array.ndim - 1)), keepdims=True)


class GradCAM(ClassActivationMap):
    """Which regions speak for the score: channels weighted by their mean gradient.

    Coarse but class-specific. Its limits: the size of the feature map; and channels are weighted as
    wholes, so positions can light that the score does not use (exact where global average pooling and
    a dense layer follow).

    Source: Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2.

    Args:
        model: Any built or callable Keras model. Not changed.
        layer: The layer whose feature map is used: name, path through nested models
            (`"resnet50/conv5_block3_out"`), index, layer object, or a pair of one of these and the
            number of the call, for a shared layer (default: the last). Default `None`: the last layer
            with spatial output that the score depends on, in nested models too.
        backprop_modifier: `None` (default), `"guided"`, `"rectified"` (`"relu"`, `"deconv"`), a rule or a composite of
            `vis.backprop_modifiers`: what happens to the gradient on its way to the feature map.
        upsample: Whether maps are resized (linearly) to the input: to the first one with as many
            spatial axes, if there are several. Default `True`.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `True`.
        reshape: `"tokens"` for layers of a vision transformer, `(N, tokens, channels)`: class and register
            tokens are dropped and the square grid is restored. Default `None`.
        tokens: Which tokens are class and register tokens: how many stand before the patches, or a list of their
            places, `[-2, -1]` for two behind them. Default `None`: found from the grid: none, or the first 1, 2 or 5.

    Returns:
        When called, as by `vis.methods.explainer.Explainer.__call__`, float32 `(N, *spatial)`, values >= 0, in units of
        score; not normalised, see `vis.heatmap`.

    Raises:
        ValueError: The layer has no spatial output or does not matter for the score, or another
            argument is wrong.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> model = keras.Sequential(
        ...     [
        ...         keras.Input((4, 4, 1)),
        ...         keras.layers.Conv2D(1, 1, kernel_initializer="ones"),
        ...         keras.layers.GlobalAveragePooling2D(),
        ...     ]
        ... )
        >>> GradCAM(model)(np.eye(4)[None, ..., None])[0, 1].tolist()
        [0.0, 0.0625, 0.0, 0.0]
    """

    takes_several_targets = True

    @staticmethod
    def formula(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
        """Returns relu of the sum of w A, where w is the mean of G over the positions."""
        positions = tuple(range(1, gradients.ndim - 1))
        weights = gradients.mean(axis=positions, keepdims=True)  # equation 1
        return np.maximum((weights * activations).sum(axis=-1), 0)  # equation 2


class GradCAMPlusPlus(ClassActivationMap):
    """Grad-CAM with weights that do justice to several small occurrences of a class.

    Source: Chattopadhay et al. 2018, "Grad-CAM++", equations 5, 6 and 19.

    Args:
        model: Any built or callable Keras model. Not changed.
        layer: Layer whose feature map is used: name, path through nested models, index, layer object, or a pair of one
            of these and the number of the call. Default `None`: the last layer with spatial output that the score
            depends on, in nested models too.
        backprop_modifier: `None` (default), `"guided"`, `"rectified"` (`"relu"`, `"deconv"`), a rule or a composite of
            `vis.backprop_modifiers`: what happens to the gradient on its way to the feature map.
        upsample: Whether maps are resized (linearly) to the input. Default `True`.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `True`.
        reshape: `"tokens"` insists on the output `(N, tokens, channels)` of a vision transformer: class and register
            tokens are dropped and the rest is put on its grid. Default `None`: that is done by itself where the layer
            has no spatial axes.
        tokens: Which tokens are class and register tokens: how many stand before the patches, or a list of their
            places, `[-2, -1]` for two behind them. Default `None`: found from the grid: none, or the first 1, 2 or 5.

    Returns:
        When called, float32 `(N, *spatial)`, values >= 0.

    Raises:
        ValueError: The layer has no spatial output or does not matter for the score, or another argument is wrong.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> grads, ones = np.full((1, 2, 2, 1), 0.25), np.ones((1, 2, 2, 1))
        >>> GradCAMPlusPlus.formula(ones, grads)[0].round(4).tolist()
        [[0.3333, 0.3333], [0.3333, 0.3333]]
    """

    takes_several_targets = True

    @staticmethod
    def formula(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
        """Returns relu of the sum of w A, where w is the sum of alpha relu(G)."""
        # Equation 19, where exp(score) cancels: alpha = G^2 / (2 G^2 + sum(A) G^3). So alpha G = 1 / (2 / G + sum(A)),
        # which needs no powers: they overflow, or vanish, long before their ratio does.
        inverse = np.divide(1, gradients, out=np.full_like(gradients, np.inf), where=gradients > _LEAST_GRADIENT)
        below = 2 * inverse + _total(activations)
        weights = _total(np.divide(1, below, out=np.zeros_like(below), where=below != 0))  # equation 5
        return np.maximum((weights * activations).sum(axis=-1), 0)  # equation 6


class LayerCAM(ClassActivationMap):
    """Activations weighted position by position by their positive gradients.

    Finer than Grad-CAM, and of use at early layers too.

    Source: Jiang et al. 2021, "LayerCAM", equations 6 to 8.

    Args:
        model: Any built or callable Keras model. Not changed.
        layer: Layer whose feature map is used: name, path through nested models, index, layer object, or a pair of one
            of these and the number of the call. Default `None`: the last layer with spatial output that the score
            depends on, in nested models too.
        backprop_modifier: `None` (default), `"guided"`, `"rectified"` (`"relu"`, `"deconv"`), a rule or a composite of
            `vis.backprop_modifiers`: what happens to the gradient on its way to the feature map.
        upsample: Whether maps are resized (linearly) to the input. Default `True`.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `True`.
        reshape: `"tokens"` insists on the output `(N, tokens, channels)` of a vision transformer: class and register
            tokens are dropped and the rest is put on its grid. Default `None`: that is done by itself where the layer
            has no spatial axes.
        tokens: Which tokens are class and register tokens: how many stand before the patches, or a list of their
            places, `[-2, -1]` for two behind them. Default `None`: found from the grid: none, or the first 1, 2 or 5.

    Returns:
        When called, float32 `(N, *spatial)`, values >= 0.

    Raises:
        ValueError: The layer has no spatial output or does not matter for the score, or another argument is wrong.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> LayerCAM.formula(np.array([[[[1.0, 2.0]]]]), np.array([[[[3.0, -1.0]]]])).tolist()
        [[[3.0]]]
    """

    takes_several_targets = True

    @staticmethod
    def formula(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
        """Returns relu of the sum over the channels of relu(G) A."""
        return np.maximum((np.maximum(gradients, 0) * activations).sum(axis=-1), 0)


class HiResCAM(ClassActivationMap):
    """Activations weighted position by position by their gradients: only positions that the score uses light.

    Faithful where a single dense layer follows the feature map; coarse like all maps of its kind.

    Source: Draelos & Carin 2020, "Use HiResCAM instead of Grad-CAM", section 3.

    Args:
        model: Any built or callable Keras model. Not changed.
        layer: Layer whose feature map is used: name, path through nested models, index, layer object, or a pair of one
            of these and the number of the call. Default `None`: the last layer with spatial output that the score
            depends on, in nested models too.
        backprop_modifier: `None` (default), `"guided"`, `"rectified"` (`"relu"`, `"deconv"`), a rule or a composite of
            `vis.backprop_modifiers`: what happens to the gradient on its way to the feature map.
        upsample: Whether maps are resized (linearly) to the input. Default `True`.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `True`.
        reshape: `"tokens"` insists on the output `(N, tokens, channels)` of a vision transformer: class and register
            tokens are dropped and the rest is put on its grid. Default `None`: that is done by itself where the layer
            has no spatial axes.
        tokens: Which tokens are class and register tokens: how many stand before the patches, or a list of their
            places, `[-2, -1]` for two behind them. Default `None`: found from the grid: none, or the first 1, 2 or 5.

    Returns:
        When called, float32 `(N, *spatial)`, values >= 0.

    Raises:
        ValueError: The layer has no spatial output or does not matter for the score, or another argument is wrong.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> HiResCAM.formula(np.array([[[[1.0, 2.0]]]]), np.array([[[[3.0, -1.0]]]])).tolist()
        [[[1.0]]]
    """

    takes_several_targets = True

    @staticmethod
    def formula(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
        """Returns relu of the sum over the channels of G A."""
        return np.maximum((gradients * activations).sum(axis=-1), 0)


class XGradCAM(ClassActivationMap):
    """Grad-CAM with weights that share the score out among the channels.

    Source: Fu et al. 2020, "Axiom-based Grad-CAM", equation 7.

    Args:
        model: Any built or callable Keras model. Not changed.
        layer: Layer whose feature map is used: name, path through nested models, index, layer object, or a pair of one
            of these and the number of the call. Default `None`: the last layer with spatial output that the score
            depends on, in nested models too.
        backprop_modifier: `None` (default), `"guided"`, `"rectified"` (`"relu"`, `"deconv"`), a rule or a composite of
            `vis.backprop_modifiers`: what happens to the gradient on its way to the feature map.
        upsample: Whether maps are resized (linearly) to the input. Default `True`.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `True`.
        reshape: `"tokens"` insists on the output `(N, tokens, channels)` of a vision transformer: class and register
            tokens are dropped and the rest is put on its grid. Default `None`: that is done by itself where the layer
            has no spatial axes.
        tokens: Which tokens are class and register tokens: how many stand before the patches, or a list of their
            places, `[-2, -1]` for two behind them. Default `None`: found from the grid: none, or the first 1, 2 or 5.

    Returns:
        When called, float32 `(N, *spatial)`, values >= 0.

    Raises:
        ValueError: The layer has no spatial output or does not matter for the score, or another argument is wrong.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> XGradCAM.formula(np.array([[[[1.0, 2.0]]]]), np.array([[[[3.0, -1.0]]]])).round(4).tolist()
        [[[1.0]]]
    """

    takes_several_targets = True

    @staticmethod
    def formula(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
        """Returns relu of the sum of w A, where w is sum(G A) / sum(A) over the positions."""
        weights = _total(gradients * activations) / (_total(activations) + 1e-7)
        return np.maximum((weights * activations).sum(axis=-1), 0)


class EigenCAM(ClassActivationMap):
    """What most of the feature map's variation is about, whatever the class.

    Needs no gradient, and shows the most prominent object whether or not it matters for the score.
    The sign of a principal component is arbitrary: it is chosen so that the map correlates positively
    with the sum of the activations. After a normalisation that sum is the same everywhere; there, the strongest
    position is positive.

    Source: Muhammad & Yeasin 2020, "Eigen-CAM", section III. The paper speaks of principal components, but
    its equation takes the singular vectors of the activations as they are. After a ReLU the first of these
    is little more than their mean over the positions. So the activations are centred here, as principal
    components want it and as pytorch-grad-cam does: the map shows what varies over the image.

    Args:
        model: Any built or callable Keras model. Not changed.
        layer: Layer whose feature map is used: name, path through nested models, index, layer object, or a pair of one
            of these and the number of the call. Default `None`: the last layer with spatial output that the score
            depends on, in nested models too.
        backprop_modifier: Must be `None`: there is no gradient to modify.
        upsample: Whether maps are resized (linearly) to the input. Default `True`.
        output_layer: Decides where the search for `layer=None` ends.
        logits: Of no effect, as no score is explained.
        reshape: `"tokens"` insists on the output `(N, tokens, channels)` of a vision transformer: class and register
            tokens are dropped and the rest is put on its grid. Default `None`: that is done by itself where the layer
            has no spatial axes.
        tokens: Which tokens are class and register tokens: how many stand before the patches, or a list of their
            places, `[-2, -1]` for two behind them. Default `None`: found from the grid: none, or the first 1, 2 or 5.

    Returns:
        When called, float32 `(N, *spatial)`, signed.

    Raises:
        ValueError: The layer has no spatial output or does not matter for the score, a `backprop_modifier` is given, or
            another argument is wrong.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> EigenCAM.formula(np.array([[[1.0], [3.0]]])).tolist()
        [[-1.0, 1.0]]
    """

    needs_gradients = False

    def __init__(
        self,
        model: keras.Layer,
        layer: LayerLike | None = None,
        backprop_modifier: None = None,
        upsample: bool = True,
        *,
        output_layer: LayerLike | None = None,
        logits: bool = True,
        reshape: str | None = None,
        tokens: int | Sequence[int] | None = None,
    ) -> None:
        if backprop_modifier is not None:
            raise ValueError(
                "EigenCAM takes no gradient, so `backprop_modifier` must be None. Received: "
                f"{shown(backprop_modifier)}."
            )
        super().__init__(
            model, layer, None, upsample, output_layer=output_layer, logits=logits, reshape=reshape, tokens=tokens
        )

    @staticmethod
    def formula(activations: np.ndarray, gradients: np.ndarray | None = None) -> np.ndarray:
        """Returns the centred activations projected on their first right singular vector."""
        maps = []
        for one in activations:
            matrix = one.reshape(-1, one.shape[-1])
            matrix = matrix - matrix.mean(axis=0)
            component = matrix @ np.linalg.svd(matrix, full_matrices=False)[2][0]
            maps.append(_signed(component, matrix).reshape(one.shape[:-1]))
        return np.stack(maps)


def _signed(component, matrix):
    """Gives a component the sign of the sum over the channels; where that is no more than rounding, its own peak's."""
    total = matrix.sum(axis=1)
    alike = component @ total
    if abs(alike) <= 1e-3 * np.linalg.norm(component) * np.linalg.norm(matrix):  # as after a normalisation
        alike = component[np.argmax(np.abs(component))]
    return -component if alike < 0 else component


class GuidedGradCAM(Explainer):
    """Guided backpropagation where Grad-CAM lights: fine detail in the regions of the class.

    Inherits the limits of both: the detail comes from the input more than from the class.

    Source: Selvaraju et al. 2017, "Grad-CAM", section 3.2.

    Args:
        model: Any built or callable Keras model. Not changed.
        layer: Layer whose feature map is used: name, path through nested models, index, layer object, or a pair of one
            of these and the number of the call. Default `None`: the last layer with spatial output that the score
            depends on, in nested models too.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `True`.
        reshape: `"tokens"` insists on the output `(N, tokens, channels)` of a vision transformer: class and register
            tokens are dropped and the rest is put on its grid. Default `None`: that is done by itself where the layer
            has no spatial axes.
        tokens: Which tokens are class and register tokens: how many stand before the patches, or a list of their
            places, `[-2, -1]` for two behind them. Default `None`: found from the grid: none, or the first 1, 2 or 5.

    Returns:
        When called, float32, signed, in the shape and structure of the inputs. Of several inputs, those
        without the feature map's spatial axes keep their guided gradient.

    Raises:
        ValueError: No input has the feature map's spatial axes, the layer does not matter for the score, or another
            argument is wrong.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> layers = [keras.layers.Conv2D(2, 3, activation="relu"), keras.layers.GlobalMaxPooling2D()]
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
        >>> GuidedGradCAM(model)(np.ones((1, 8, 8, 3)), target=1).shape
        (1, 8, 8, 3)
    """

    takes_several_targets = True

    def __init__(
        self,
        model: keras.Layer,
        layer: LayerLike | None = None,
        *,
        output_layer: LayerLike | None = None,
        logits: bool = True,
        reshape: str | None = None,
        tokens: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__(model, output_layer, logits)
        self._cam = GradCAM(
            model, layer, upsample=False, output_layer=output_layer, logits=logits, reshape=reshape, tokens=tokens
        )
        self._guided = Saliency(model, "guided", output_layer=output_layer, logits=logits)

    def explain(self, task: Task) -> Maps:
        """Returns the guided gradients times the resized Grad-CAM maps."""
        maps, batch = self._cam.explain(task.on(self._cam.evaluator)), task.batch
        gradients = self._guided.flat_within(task)
        rank = maps.ndim - (0 if task.goal.targets is None else 1)
        for index, gradient in enumerate(gradients):
            if len(batch.spatial_shape(index)) == rank - 1:
                large = functools.partial(_large, batch, index)
                gradients[index] = gradient * _of_rows(large, maps, rank)
        return batch.pack(gradients)


def _large(batch, index, maps):
    return batch.with_channels(index, resize(maps, batch.spatial_shape(index)))
