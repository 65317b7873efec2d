"""What the tokens of a transformer look at, and what that tells of its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from vis.engine.attention import Streams, attentions, product, side_by_side
from vis.engine.evaluator import Evaluator
from vis.engine.feature_maps import by_size, read_tokens, token_grid
from vis.engine.graph import find_layer, operations
from vis.engine.inputs import read_inputs
from vis.engine.memory import kept
from vis.engine.requests import Request, gradients_at, outputs_at
from vis.engine.tasks import Task, gathered
from vis.engine.tokens import plain_inputs
from vis.methods.explainer import Explainer, check_finite
from vis.utils.images import resize
from vis.utils.validation import check_count, check_flag, check_nonnegative, listed, pick, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vis.engine.attention import Attention
    from vis.engine.feature_maps import Grid
    from vis.utils.types import Inputs, LayerLike, TargetLike, Tensor


def attention_maps(
    model: keras.Layer, inputs: Inputs, batch_size: int = 32, *, layers: LayerLike | Sequence[LayerLike] | None = None
) -> dict[str, np.ndarray]:
    """Returns the attention weights of a model: how much each token looks at each other, head by head.

    They tell where information can flow, not what it does for the answer: `AttentionRelevance` and `LRP` ask that.
    Any attention is found that takes a softmax of scores: Keras's own layers, those of keras-hub, and code of your own
    that uses `keras.ops.softmax`, `keras.ops.dot_product_attention` or a `Softmax` layer. These functions are seen by
    the name of their module, `ops.softmax`, and where the module of the layer's class imports them (`from keras.ops
    import softmax`); a helper in another module must write `ops.softmax`.

    Args:
        model: Any built or callable Keras model. Not changed.
        inputs: What the model takes, batch axis first.
        batch_size: How many samples run at once; bounds memory. Default 32.
        layers: A layer with attention, or a list: only these are read, and the model runs no further than the last.
            Default `None`: all.

    Returns:
        Dict from the path of each layer, in the order in which they run, to float32 weights `(N, heads, queries, keys)`
        in [0, 1], whose last axis sums to 1. A layer that runs several times has an entry for each, `"path:0"` and so
        on. Attention of one head, as of `keras.layers.Attention`, has no axis for heads; attention within windows has
        `(N, windows, heads, queries, keys)`, or heads and windows on one axis where the layer puts them on one.

    Raises:
        ValueError: The model has no attention that can be seen, there is no such layer, or the inputs do not fit.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> tokens = keras.Input((5, 8))
        >>> attended = keras.layers.MultiHeadAttention(2, 4, name="attention")(tokens, tokens)
        >>> maps = attention_maps(keras.Model(tokens, attended), np.ones((3, 5, 8)))
        >>> maps["attention"].shape
        (3, 2, 5, 5)
    """
    evaluator = _evaluator(model)
    batch = evaluator.ready(read_inputs(model, inputs))
    chosen = _chosen(model, _found(evaluator, batch), layers)
    task = Task(evaluator, batch, None, check_count("batch_size", batch_size, 1))
    maps = task.map(outputs_at(*(one.site for one in chosen)))["activations"]
    return dict(zip([one.name for one in chosen], check_finite(maps)))


def attention_gradients(
    model: keras.Layer,
    inputs: Inputs,
    target: TargetLike = None,
    batch_size: int = 32,
    *,
    layers: LayerLike | Sequence[LayerLike] | None = None,
    logits: bool = True,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns attention weights with the gradients of a score with respect to them, in one pass.

    Args:
        model: Any built or callable Keras model. Not changed.
        inputs: What the model takes, batch axis first.
        target: Whose score, see `vis.methods.explainer.Explainer.__call__`. Default `None`: the highest class.
        batch_size: How many samples run at once; bounds memory. Default 32.
        layers: See `attention_maps`. Default `None`: all that the score depends on.
        logits: Whether the score before a final softmax or sigmoid is meant. Default `True`.

    Returns:
        Dict from the path of each layer to the pair of weights and gradients, both float32, as `attention_maps` shapes
        them.

    Raises:
        ValueError: As of `attention_maps`, or the score does not depend on a layer that was asked for.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> tokens = keras.Input((5, 8))
        >>> attended = keras.layers.MultiHeadAttention(2, 4, name="attention")(tokens, tokens)
        >>> model = keras.Model(tokens, keras.layers.GlobalAveragePooling1D()(attended))
        >>> weights, gradients = attention_gradients(model, np.ones((3, 5, 8)), target=0)["attention"]
        >>> gradients.shape
        (3, 2, 5, 5)
    """
    evaluator = _evaluator(model, check_flag("logits", logits))
    task = evaluator.task(inputs, target, batch_size)
    chosen = _chosen(model, _found(evaluator, task.batch), layers)
    found = task.map(gradients_at(*(one.site for one in chosen)))
    pairs = zip(check_finite(found["activations"]), check_finite(found["gradients"]))
    return dict(zip([one.name for one in chosen], pairs))


def _evaluator(model, logits=True) -> Evaluator:
    """Returns the evaluator of a model, which is kept: another call compiles nothing anew."""

    def make():
        evaluator = Evaluator(model, logits=logits)
        evaluator.weak()
        return evaluator

    return kept(model, ("attention", logits), make) if isinstance(model, keras.Layer) else make()


def _found(evaluator, batch) -> list[Attention]:
    """Returns the attentions of a model, looked for once."""
    key = batch.layout.key, tuple(array.shape[1:] for array in batch.arrays)  # texts have several lengths
    known = evaluator.memory.once("attentions", lambda: attentions(evaluator.model, evaluator.network, batch), key)
    if not known:
        raise ValueError(
            f"Model {evaluator.model.name!r} has no attention that can be seen: no layer takes a softmax of scores "
            "(queries, keys) by `keras.layers.Softmax`, `keras.ops.softmax` or `keras.ops.dot_product_attention`. In "
            "helpers write `ops.softmax(x)`: a function imported by name is not seen there. Without attention, take "
            "`vis.GradCAM` or `vis.LRP`."
        )
    return known


def _chosen(model, known, layers):
    """Returns the attentions that the user asks for."""
    if layers is None:
        return known
    given = layers if isinstance(layers, list) else [layers]
    wanted = []
    if not given:
        raise ValueError("`layers` must name at least one layer with attention. Received: an empty list.")
    for one in given:
        names = {attention.name: attention for attention in known}
        if isinstance(one, str) and one in names:
            wanted.append(names[one])
            continue
        layer = find_layer(model, one)
        own = [attention for attention in known if operations(model)[attention.site.place][1] is layer]
        if not own:
            raise ValueError(
                f"`layers` must be layers with attention. Received: {layer.name!r:.80}. Choose from: "
                f"{listed([attention.name for attention in known]):.200}."
            )
        wanted += own
    return wanted


class AttentionExplainer(Explainer):
    """Base class of the methods that follow attention from the tokens that are read to those that come in.

    Args:
        model: See `vis.methods.explainer.Explainer`.
        layer: The attention whose keys are the tokens that are told of: its path. `None`: the first.
        tokens: Which tokens are no part of the image: how many stand before it, or a list of their places, from the
            end if negative. `None`: it is found out from the grid.
        upsample: Whether maps of images are resized (linearly) to the input.
        output_layer: See `vis.methods.explainer.Explainer`.
        logits: See `vis.methods.explainer.Explainer`.
    """

    counts_itself = True  # whether a token that is read has a part in itself from the start

    def __init__(
        self,
        model: keras.Layer,
        *,
        layer: LayerLike | None = None,
        tokens: int | Sequence[int] | None = None,
        upsample: bool = True,
        output_layer: LayerLike | None = None,
        logits: bool = True,
    ) -> None:
        super().__init__(model, output_layer, logits)
        self._layer, self._tokens, self._upsample = layer, read_tokens(tokens), check_flag("upsample", upsample)

    def explain(self, task: Task) -> np.ndarray:
        """Returns the relevance of the tokens; see `Explainer.explain`."""
        known = _found(self.evaluator, task.batch)
        first = known[0] if self._layer is None else _chosen(self.model, known, self._layer)[0]
        known = self._connected(task, known, first)
        self.check(task, known)
        grid = self._grid(task.batch, first.keys, self._seen(task, first))
        return gathered(task.count, self._maps(task.settled(), known, first.keys, grid))[0]

    def _maps(self, task, known, stream, grid):
        for images, sizes, streams in self.followed(task, known):
            values = np.empty((len(images), stream), "float32")
            last = _last_read(sizes)
            for number in np.unique(last):
                if number < 0 or not streams.are_linked(sizes[number].shape[1], stream):
                    raise ValueError(_words_unread(stream))
                own = np.flatnonzero(last == number)
                values[own] = self._read(sizes[number][own], streams, stream, own)
            yield images, [values if grid is None else self._on_image(task.batch, values, grid)]

    def _read(self, size, streams, stream, rows):
        """Returns the mean relevance for the tokens that matter at one attention, `(n, stream)`."""
        read = (size > 1e-6 * size.max(axis=1, keepdims=True)).astype("float32")
        between = streams.between(read.shape[1], stream)[rows]
        if not self.counts_itself and read.shape[1] == stream:
            between = between - np.eye(stream, dtype="float32")
        return product(read[:, None] / read.sum(axis=1)[:, None, None], between)[:, 0]

    def followed(self, task: Task, known: list[Attention]) -> Iterator[tuple[np.ndarray, list[np.ndarray], Streams]]:
        """Yields `(images, sizes, streams)` of some samples: this is the method.

        Args:
            task: The task, its target settled.
            known: The attentions in order.

        Yields:
            Indices of the samples; for each attention how much its queries matter for the score, `(n, queries)`; and
            the relevance between the streams.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `followed(task, known)`.")

    def _seen(self, task, one) -> frozenset:
        """Returns the indices of the inputs that an attention depends on."""
        calls = [seen.inputs for seen in self.evaluator.survey(task.batch).seen if seen.place == one.site.place]
        return frozenset().union(*calls) or frozenset(range(len(task.batch.arrays)))  # of windows, none is seen

    def _connected(self, task, known, first):
        """Returns the attentions that have to do with one: not those of a tower beside it, with inputs of its own."""
        inputs, before = self._seen(task, first), None
        while inputs != before:
            before = inputs
            inputs = inputs.union(*(seen for seen in (self._seen(task, one) for one in known) if seen & inputs))
        return [one for one in known if self._seen(task, one) & inputs]

    def check(self, task: Task, known: list[Attention]) -> None:
        """Raises where tokens cannot be followed through the attentions: they see their own window only, say."""
        inputs = frozenset().union(*(self._seen(task, one) for one in known))
        plain = [index for index in plain_inputs(self.model, task.batch) if index in inputs]
        several = len(plain) > 1 and len({one.keys for one in known}) == 1
        if several and any(one.is_between for one in known):
            raise ValueError(
                "Encoder and decoder must have different numbers of tokens, which tell their streams apart. Received: "
                f"{known[0].keys} tokens for both. Cut one of the inputs, or pad it, by a token."
            )
        for one in known:
            if one.has_windows or (one.queries != one.keys and not one.is_between):
                raise ValueError(
                    f"{type(self).__name__} follows tokens from layer to layer. Received: attention of layer "
                    f"{one.path!r:.80}, which works within windows or on fewer keys than tokens (shape {one.shape}), "
                    "so that tokens are lost from sight. Take `vis.attention_maps` to see it, or `vis.LRP`."
                )

    def _grid(self, batch, stream, inputs) -> tuple[int, Grid] | None:
        """Returns the image that tokens lie on and how, or `None` for a row of words or steps."""
        images = [i for i in by_size(batch, inputs) if batch.is_float(i) and len(batch.spatial_shape(i)) > 1]
        for index in images:
            grid = token_grid(stream, batch.spatial_shape(index), self._tokens)
            if grid is not None:
                return index, grid
        fits = any(batch.arrays[i].shape[1] == stream for i in range(len(batch.arrays)) if batch.arrays[i].ndim < 4)
        if not images and self._tokens:
            raise ValueError(
                "`tokens` tells of images which tokens are no part of them. Received: "
                f"tokens={shown(list(self._tokens), 40)}, but the {stream} tokens of this attention are of no image. "
                "Leave `tokens` out: each of them gets a value."
            )
        if not images or (fits and self._tokens is None):
            return None
        sizes = ", ".join(str(batch.spatial_shape(index)) for index in images)
        raise ValueError(
            f"{stream} tokens lie on no grid of an image of size {sizes}"
            f"{'' if self._tokens is None else f' without the {len(self._tokens)} that `tokens` names'}. Say "
            "which are class and register tokens: `tokens=3` for three before the patches, `tokens=[-3, -2, -1]` for "
            "three behind, or any list of their places."
        )

    def _on_image(self, batch, values, found):
        index, grid = found
        maps = grid.restore(values[..., None])[..., 0]
        return resize(maps, batch.spatial_shape(index)) if self._upsample else maps


def _mean_raised(layer: keras.Layer, weights: Tensor, gradient: Tensor) -> Tensor:
    """Returns the mean over heads of weights x gradient above 0, and in a last column how much each query matters."""
    raised = ops.relu(weights * gradient)
    raised = ops.mean(raised, axis=1) if len(weights.shape) > 3 else raised
    return ops.concatenate([raised, _read(layer, weights, gradient)[..., None]], axis=-1)


def _read(layer: keras.Layer, weights: Tensor, gradient: Tensor) -> Tensor:
    """Returns how much each query of an attention matters for the score: `(N, queries)`."""
    axes = (1, 3) if len(weights.shape) > 3 else (2,)
    return ops.max(ops.absolute(gradient), axis=axes)


def _last_read(sizes):
    """Returns the last attention at which any query matters, for each sample: its number, -1 for none."""
    matters = np.stack([size.max(axis=1) > 0 for size in sizes], axis=1)
    last = len(sizes) - 1 - np.argmax(matters[:, ::-1], axis=1)
    return np.where(matters.any(axis=1), last, -1)


def _words_unread(stream):
    return (
        f"No attention leads from what the score is read from to the {stream} tokens of the first one: the score does "
        "not depend on it, the model joins tokens on the way, or it has streams apart. Give `layer=`, an attention of "
        "the tokens that are read; another `target`; or take `vis.LRP` or `vis.GradCAM`."
    )


def _summarized(known, summary):
    return Request(sites=tuple(one.site for one in known), gradients=True, summary=summary)


class AttentionRelevance(AttentionExplainer):
    """How relevant each token is for the score, by the attention weights and their gradients in all blocks.

    In each block the weights of a head count by the gradient of the score with respect to them, and only what raises
    the score. Unlike rollout it asks for a class. Its limits: what happens between attentions is taken for an
    identity, and nothing is ever relevant against a class. For signed relevance: `LRP(model, "attention")`.
    Attentions side by side are added where they are called on the very same tensor; where each has a normalisation of
    its own before it, they are taken one after the other.

    The score is read from some tokens: the class token, the last one, or all that are pooled. They are found by the
    gradient at the last attention. That each of these is relevant for itself from the start (the identity in the
    paper) is left out of the result: it is the same for all, and would hide the rest. Padding that is masked gets
    nothing. For encoder and decoder, the tokens of the encoder are told of, unless `layer` is an attention of the
    decoder.

    Source: Chefer et al. 2021, "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
    Transformers", equations 5 to 11.

    Args:
        model: Any built or callable Keras model with attention. Not changed.
        layer: The attention whose keys are the tokens that are told of: its path. Default `None`: the first.
        tokens: Which tokens are no part of the image: how many class, distillation and register tokens stand before
            the patches, or a list of their places, `[-2, -1]` for two behind them. Default `None`: found from the
            grid: none, or the first 1, 2 or 5. Not for texts.
        upsample: Whether maps of images are resized (linearly) to the input. Default `True`.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `True`.

    Returns:
        When called, float32 of at least 0: `(N, *spatial)` for images, `(N, T)` for texts and other rows of tokens.

    Raises:
        ValueError: The model has no attention that can be seen, tokens see only their window, or they lie on no grid
            of the image.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> tokens = keras.Input((5, 8))
        >>> attended = keras.layers.MultiHeadAttention(2, 4)(tokens, tokens)
        >>> model = keras.Model(tokens, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(attended)))
        >>> AttentionRelevance(model)(np.random.default_rng(0).random((2, 5, 8)), target=1).shape
        (2, 5)
    """

    counts_itself = False

    def followed(self, task: Task, known: list[Attention]) -> Iterator[tuple[np.ndarray, list[np.ndarray], Streams]]:
        """Yields the relevance between the streams, see `AttentionExplainer.followed`."""
        for images, _, results in task.rows(_summarized(known, _mean_raised)):
            streams = Streams(len(images))
            for numbers in side_by_side(known):
                streams.attend(sum(results["summaries"][number][..., :-1] for number in numbers))
            yield images, [summary[..., -1] for summary in results["summaries"]], streams


_FUSIONS = {"mean": np.mean, "max": np.max, "min": np.min}


class AttentionRollout(AttentionExplainer):
    """How much of each token reaches the ones that the score is read from, by the attention weights of all blocks.

    The weights of all blocks are multiplied, half of each token staying where it is. It asks for no class: `target`
    only says which score is read, and from which tokens that is. Its limit: that attention flows somewhere does not
    say what for; with a class, `AttentionRelevance` is closer to it.

    Source: Abnar & Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3.

    Args:
        model: Any built or callable Keras model with attention. Not changed.
        head_fusion: How heads become one: `"mean"` (default, the paper's), `"max"` or `"min"`.
        discard: Part of the weights of each block, the smallest ones, that counts as 0. In [0, 1). Default 0.0.
        layer: See `AttentionRelevance`.
        tokens: See `AttentionRelevance`.
        upsample: See `AttentionRelevance`. Default `True`.
        output_layer: See `AttentionRelevance`.
        logits: See `AttentionRelevance`. Default `True`.

    Returns:
        When called, float32 in [0, 1]: `(N, *spatial)` for images, `(N, T)` for texts and other rows of tokens.

    Raises:
        ValueError: An argument is out of range, or as of `AttentionRelevance`; there are two streams of tokens.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> tokens = keras.Input((5, 8))
        >>> attended = keras.layers.MultiHeadAttention(2, 4)(tokens, tokens)
        >>> model = keras.Model(tokens, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(attended)))
        >>> AttentionRollout(model)(np.random.default_rng(0).random((2, 5, 8))).sum(axis=1).round(4).tolist()
        [1.0, 1.0]
    """

    def __init__(
        self,
        model: keras.Layer,
        head_fusion: str = "mean",
        discard: float = 0.0,
        *,
        layer: LayerLike | None = None,
        tokens: int | Sequence[int] | None = None,
        upsample: bool = True,
        output_layer: LayerLike | None = None,
        logits: bool = True,
    ) -> None:
        super().__init__(model, layer=layer, tokens=tokens, upsample=upsample, output_layer=output_layer, logits=logits)
        pick("head_fusion", head_fusion, _FUSIONS)
        self._fusion, self._discard = head_fusion, check_nonnegative("discard", discard)
        if self._discard >= 1:
            raise ValueError(f"`discard` must be in [0, 1), a part of the weights. Received: {shown(discard)}.")

    def followed(self, task: Task, known: list[Attention]) -> Iterator[tuple[np.ndarray, list[np.ndarray], Streams]]:
        """Yields the relevance between the streams, see `AttentionExplainer.followed`."""
        if any(one.queries != one.keys for one in known):
            raise ValueError(
                "AttentionRollout is of one stream of tokens. Received: attention between two, such as of layer "
                f"{next(one.path for one in known if one.queries != one.keys)!r:.80}. Take `vis.AttentionRelevance`."
            )
        read = task.map(_summarized(known, _read), quiet=True)["summaries"]
        for images, _, results in task.rows(outputs_at(*(one.site for one in known))):
            streams = Streams(len(images))
            for numbers in side_by_side(known):
                fused = sum(self._fused(results["activations"][number]) for number in numbers)
                identity = np.eye(fused.shape[-1], dtype="float32")
                mixed = (fused + identity) / (fused.sum(axis=-1, keepdims=True) + 1)
                streams.attend(mixed - identity)  # the stream's own part stays: together the product
            yield images, [one[images] for one in read], streams

    def _fused(self, weights):
        """Returns the weights of all heads as one, without the smallest ones."""
        fused = _FUSIONS[self._fusion](weights, axis=1) if weights.ndim > 3 else weights
        if self._discard:
            least = np.quantile(fused.reshape(len(fused), -1), self._discard, axis=1)
            fused = np.where(fused < least[:, None, None], 0, fused)
        return fused.astype("float32")
