"""What runs inside of attention: the scores, the weights that a softmax makes of them, and the mixture of the values.

For the time of one call each of these passes through functions of the caller's. Fused attention is taken apart
meanwhile.

A layer is not asked for its class. Attention is what takes a softmax over the last axis of scores with queries and
keys; it belongs to the innermost layer that runs.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import math
import sys
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from vis.engine.graph import has_own_code, walk
from vis.engine.linear import CONVOLUTIONS, LINEAR
from vis.engine.taps import in_this_thread, wrapped
from vis.utils.internals import flash_attention, score_application

ATTENTION = (
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
    keras.layers.Attention,
    keras.layers.AdditiveAttention,
)


@dataclasses.dataclass(frozen=True)
class Hooks:
    """What is done inside of a layer. Each is a function, or `None`.

    Args:
        scores: `tensor -> tensor`, of what goes into the softmax of an attention.
        weights: `tensor -> tensor`, of what comes out of it: `(..., queries, keys)`.
        mixture: `tensor -> tensor`, of what the weights make of the values.
    """

    scores: Callable | None = None
    weights: Callable | None = None
    mixture: Callable | None = None

    def given(self) -> dict:
        """Returns those that are not `None`, by their names."""
        return {one.name: getattr(self, one.name) for one in dataclasses.fields(self) if getattr(self, one.name)}


@dataclasses.dataclass(frozen=True, eq=False)
class WeightsOf:
    """The weights of an attention inside of a layer, as something to tap.

    Args:
        layer: The layer.
    """

    layer: Any


def has_code(operation) -> bool:
    """Tells whether an operation runs attention of Keras, or a layer code that Keras does not know."""
    return isinstance(operation, ATTENTION) or is_fused(operation) or has_own_code(operation)


def hooked(model, hooks):
    """Yields the changes that put hooks inside of layers, for `vis.engine.taps.shadowed`.

    Hold `vis.engine.taps.surgery()` meanwhile.

    Args:
        model: The model.
        hooks: Dict from the `id` of layers to their `Hooks`.
    """
    running, inner = [], [operation for _, operation in walk(model)]
    with_code = [one for one in inner if has_code(one)]
    for layer in with_code if hooks else []:
        given = hooks.get(id(layer), Hooks())
        if isinstance(layer, keras.layers.AdditiveAttention):  # its scores are no products
            given = dataclasses.replace(given, scores=None)
        own = functools.partial(_call, running, layer, given)
        yield from itertools.chain(_opened(layer), wrapped("call", [(layer, own)]))
    softmaxes = [one for one in inner if isinstance(one, keras.layers.Softmax)]
    linear = [one for one in inner if isinstance(one, LINEAR + CONVOLUTIONS)]
    if with_code and hooks:
        yield from wrapped("call", [(one, functools.partial(_softmax_layer, running, one)) for one in softmaxes])
        yield from wrapped("call", [(one, functools.partial(_linear, running)) for one in linear])
        yield from _functions(running, with_code)


@dataclasses.dataclass
class _Call:
    """A call of a layer that runs.

    Args:
        layer: The layer.
        hooks: Its `Hooks`.
        weights: What its softmax put out, where it is an attention.
        plain: Function that makes the same without the hooks.
        is_mixed: Whether the mixture was seen.
    """

    layer: Any
    hooks: Hooks
    weights: Any = None
    plain: Callable | None = None
    is_mixed: bool = False

    def attend(self, softmax, x):
        """Returns the softmax of scores."""
        if len(x.shape) == 3 and x.shape[1] != x.shape[2] and "attention" not in type(self.layer).__name__.lower():
            return softmax(x)  # of classes or experts, at positions
        self.plain, self.is_mixed = functools.partial(softmax, x), False
        self.weights = _through(self.hooks.weights, softmax(_through(self.hooks.scores, x)))
        return self.weights

    def mixed(self, x):
        """Returns the mixture, once for each softmax."""
        if self.is_mixed:
            return x
        self.is_mixed = True
        return _through(self.hooks.mixture, x)

    def ended(self, output):
        """Returns what the layer puts out."""
        if self.weights is None or self.is_mixed:
            return output
        first, *rest = output if isinstance(output, tuple) else (output,)
        if first is self.weights:  # of classes: no attention
            first = first if self.hooks.scores is None else self.plain()
        elif ops.is_tensor(first):
            first = self.mixed(first)
        return (first, *rest) if isinstance(output, tuple) else first


def _through(hook, tensor):
    return tensor if hook is None else hook(tensor)


def is_fused(operation) -> bool:
    """Tells whether an operation of a graph is `keras.ops.dot_product_attention`."""
    return not isinstance(operation, keras.Layer) and type(operation).__name__ == "DotProductAttention"


def _opened(layer):
    """Returns changes that let an attention of Keras's own take its steps one by one."""
    if not is_fused(layer):
        return [*flash_attention(layer), *score_application(layer, _applied)]
    known = {"is_causal": layer.is_causal, "attn_logits_soft_cap": getattr(layer, "attn_logits_soft_cap", None)}
    return wrapped("call", [(layer, lambda call, *args, **kwargs: attention_of(*args, **known, **kwargs))])


def _call(running, layer, hooks, call, *args, **kwargs):
    """Calls a layer whose insides are hooked."""
    hidden = isinstance(layer, ATTENTION[:2]) and not kwargs.get("return_attention_scores")
    if hidden and "return_attention_scores" not in inspect.signature(layer.call).parameters:
        hidden = False  # a subclass that does not give its weights away
    if hidden:  # its weights are made where they are asked for
        kwargs["return_attention_scores"] = True
    running.append(_Call(layer, hooks))
    try:
        output = call(*args, **kwargs)
    finally:
        own = running.pop()
    if hidden:
        output = (output[0], *output[2:]) if len(output) > 2 else output[0]
    return own.ended(output)


def _softmax(running, call, x, *args, **kwargs):
    """Stands in for a softmax; its axis is the first argument."""
    axis = kwargs.get("axis", args[0] if args else -1)
    return _attend(running, axis, lambda x: call(x, *args, **kwargs), x)


def _softmax_layer(running, layer, call, x, *args, **kwargs):
    """Stands in for a layer that is a softmax."""
    return _attend(running, layer.axis, lambda x: call(x, *args, **kwargs), x)


def _attend(running, axis, softmax, x):
    rank, axes = len(x.shape), axis if isinstance(axis, (list, tuple)) else [axis]
    is_last = sorted(one % rank for one in axes) == list(range(rank - len(axes), rank))
    return running[-1].attend(softmax, x) if running and rank > 2 and is_last else softmax(x)


def _linear(running, call, x, *args, **kwargs):
    if running and running[-1].weights is not None:
        x = running[-1].mixed(x)
    return call(x, *args, **kwargs)


def _functions(running, layers):
    """Yields the changes of the functions that code may call, in the modules that hold them.

    Those are Keras's, and the modules of the layers' classes, which may have imported a function by its name.
    """

    def attention(call, *args, **kwargs):
        return attention_of(*args, **kwargs) if running else call(*args, **kwargs)

    wraps = {"softmax": functools.partial(_softmax, running), "dot_product_attention": attention}
    own = [(module, name) for module in (keras.ops, keras.ops.nn, keras.activations) for name in wraps]
    known = {id(vars(module)[name]): wraps[name] for module, name in own if name in vars(module)}
    imported = [(module, name) for module in _modules(layers) for name, one in vars(module).items() if id(one) in known]
    for module, name in [*own, *imported]:
        function = vars(module).get(name)
        if id(function) in known:
            yield module, name, in_this_thread(function, known[id(function)])


def _modules(layers):
    """Returns the modules, none of Keras's, that classes of layers are defined in."""
    names = {kind.__module__ for layer in layers for kind in type(layer).__mro__}
    found = [sys.modules.get(name) for name in sorted(names) if name.split(".")[0] not in ("keras", "builtins")]
    return [one for one in found if one is not None]


def attention_of(query, key, value, bias=None, mask=None, scale=None, is_causal=False, **options):
    """Returns what `keras.ops.dot_product_attention` does, step by step, its arguments being the same.

    Args:
        query: `(N, queries, heads, width)`.
        key: `(N, keys, groups, width)`.
        value: As `key`.
        bias: What is added to the scores `(N, heads, queries, keys)`, or `None`.
        mask: Which keys count, or `None`: all.
        scale: Factor of the scores; default: 1 by the root of the width.
        is_causal: Whether keys after the query do not count.
        **options: `attn_logits_soft_cap`: scores stay within plus and minus this number. Others are not used.
    """
    cap = options.get("attn_logits_soft_cap")
    groups = query.shape[2] // key.shape[2]
    if groups > 1:
        key, value = (ops.repeat(one, groups, axis=2) for one in (key, value))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = ops.einsum("nqhw,nkhw->nhqk", query, key) * ops.cast(scale, query.dtype)
    scores = scores if cap is None else ops.tanh(scores / cap) * cap
    scores = scores if bias is None else scores + ops.cast(bias, scores.dtype)
    scores = _masked(scores, _causal(scores, mask) if is_causal else mask)
    return ops.einsum("nhqk,nkhw->nqhw", ops.softmax(scores, axis=-1), value)


def _causal(scores, mask):
    queries, keys = scores.shape[-2:]
    seen = ops.arange(queries)[:, None] >= ops.arange(keys)[None]
    return seen if mask is None else ops.logical_and(ops.cast(mask, "bool"), seen)


def _masked(scores, mask):
    if mask is None:
        return scores
    lowest = -3e4 if keras.backend.standardize_dtype(scores.dtype) == "float16" else -1e9
    return ops.where(ops.cast(mask, "bool"), scores, ops.cast(lowest, scores.dtype))


def _applied(scores, value, scores_mask=None, training=False):
    """Returns `(mixture, weights)`, as `keras.layers.Attention` makes them of its scores."""
    if scores_mask is not None:
        scores = _masked(scores, scores_mask[:, None] if len(scores_mask.shape) == 2 else scores_mask)
    weights = ops.softmax(scores, axis=-1)
    return ops.matmul(weights, value), weights


def sample_shape(layer, shape, rows) -> tuple:
    """Returns the shape of the weights of one sample: `(heads, queries, keys)`, `(queries, keys)` for one head.

    Layers may have groups of heads on an axis of their own, or windows or heads on the first axis, sample by sample.
    With windows it is `(windows, heads, queries, keys)`, or `(windows x heads, ...)` where the layer does not tell.

    Args:
        layer: The layer that makes them.
        shape: The shape for a batch.
        rows: The number of samples.
    """
    *first, queries, keys = shape
    if first[0] == rows:
        return (*([math.prod(first[1:])] if len(first) > 1 else []), queries, keys)
    per_sample, heads = math.prod(first) // rows, first[-1] if len(first) > 1 else getattr(layer, "num_heads", 1)
    if per_sample == heads or per_sample % heads:
        return per_sample, queries, keys
    return per_sample // heads, heads, queries, keys
