"""Language models: what each token that was generated took from those before it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from vis.methods.explainer import Explainer, check_finite
from vis.targets import NextToken
from vis.utils.hints import first_text
from vis.utils.validation import VisualizationWarning, check_count, check_numeric, listed, shown

if TYPE_CHECKING:
    from vis.utils.types import Inputs

_IDS = "token_ids"
_BEYOND = 1e-3  # of a row's strongest value: from here on a later token matters


def attribute_tokens(explainer: Explainer, token_ids: Inputs, prompt_length: int, batch_size: int = 32) -> np.ndarray:
    """Returns what each generated token of a text took from every token before it.

    For the token at position t the logit that the model gave to it at t - 1 is explained, `NextToken(ids[t], t - 1)`.
    The methods that look at outputs only explain its probability instead, if the model ends with a softmax: give
    `vis.Occlusion(model, logits=True)` to compare it with others.
    Each position is one row of a batch, at the text's full length: the model is compiled once, runs without a cache of
    keys and values, and, as it is causal, sees nothing of what comes after. Vectors for each token (gradients at an
    embedding) are summed; with `vis.GradientTimesInput`, `vis.IntegratedGradients` or `vis.LRP` the sums are shares
    of the logit, while sums of plain gradients say little. Their limit: each row is about one token that was
    written, given those before it, not about the sentence as a plan.

    Draw it with `vis.plotting.show_token_matrix`.

    Args:
        explainer: An explainer of a causal language model whose output is `(N, T, vocabulary)`, which attributes to
            tokens: one with `input_layer="tokens"`, or `vis.Occlusion`.
        token_ids: One text with what was generated, `(T,)` or `(1, T)`, without padding. Or a dict of what the model
            takes, with the key `"token_ids"`. A model that takes a padding mask besides gets one of ones by itself.
        prompt_length: How many of the T tokens were given to the model, from 1 to T - 1.
        batch_size: How many evaluations of the model run at once; bounds memory. Default 32.

    Returns:
        float32 `(T - prompt_length, T)`, signed: row g for the token at position `prompt_length + g`, with zeros from
        that position on.

    Raises:
        ValueError: The prompt is as long as the text, the ids are of another shape, outside of the vocabulary or
            padded, or the model's output is no `(N, T, vocabulary)`.
        TypeError: An argument is of the wrong kind.

    Warns:
        VisualizationWarning: Later tokens matter: the model is not causal.

    Examples:
        >>> import keras
        >>> import vis
        >>> embedding = keras.layers.Embedding(9, 9, embeddings_initializer="identity")
        >>> model = keras.Sequential([keras.Input((4,), dtype="int32"), embedding])  # expects each token once more
        >>> explainer = vis.GradientTimesInput(model, input_layer="tokens")
        >>> attribute_tokens(explainer, [1, 5, 5, 5], prompt_length=2).tolist()
        [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    """
    inputs, ids = _read_text(explainer, token_ids)
    if check_count("prompt_length", prompt_length, 1) >= len(ids):
        raise ValueError(
            f"`prompt_length` must be from 1 to {len(ids) - 1}, as the text has {len(ids)} tokens. Received: "
            f"{shown(prompt_length)}. Give the prompt and what was generated, as one text."
        )
    positions = np.arange(prompt_length - 1, len(ids) - 1)
    size = _even(len(positions), check_count("batch_size", batch_size, 1))
    rows = np.arange(-(-len(positions) // size) * size).clip(max=len(positions) - 1)  # the last group is filled up
    repeated = keras.tree.map_structure(lambda array: np.repeat(array, len(rows), axis=0), inputs)
    target = NextToken(ids[positions + 1][rows], positions[rows])
    task = explainer.evaluator.task(repeated, target, batch_size)
    found = np.concatenate(_by_token(explainer, task.groups(size), len(ids)))[: len(positions)]
    return _without_later(found, positions)


def _even(count, most):
    """Returns the size of groups of at most a size, as even as they can be."""
    return -(-count // -(-count // most))


def _by_token(explainer, groups, length) -> list[np.ndarray]:
    """Returns the attributions of groups of rows, summed over what belongs to one token, each `(n, T)`."""
    found = []
    for _, part in groups:
        maps = explainer.explain(part)
        if not isinstance(maps, np.ndarray) or maps.shape[1:2] != (length,):
            raise ValueError(
                f"`explainer` must attribute to the {length} tokens. Received: {type(explainer).__name__}, which gives "
                f"{shown(maps)}. Make it with `input_layer='tokens'`, or take `vis.Occlusion(model)`."
            )
        found.append(check_finite(maps).reshape(*maps.shape[:2], -1).sum(axis=-1))
    return found


def _without_later(found, positions):
    """Returns attributions with zeros for the tokens after each position, and says if they were not zero before."""
    later = np.arange(found.shape[1]) > positions[:, None]
    beyond, most = np.abs(np.where(later, found, 0)).max(), np.abs(found).max()
    if beyond > _BEYOND * most:
        warnings.warn(
            f"The model is not causal: tokens took from later ones, up to {beyond / most:.0%} of the strongest "
            "attribution, as in models that fill gaps. These parts are set to zero. Rows of such a model are about "
            "something else than how the text was generated.",
            VisualizationWarning,
            stacklevel=3,
        )
    return np.where(later, 0, found).astype("float32")


def _read_text(explainer, token_ids) -> tuple[Any, np.ndarray]:
    """Returns the inputs of a model for one text, `(1, ...)` each, and its ids `(T,)`."""
    if not isinstance(explainer, Explainer):
        raise TypeError(
            "`explainer` must be an explainer of a language model, such as `vis.IntegratedGradients(model, "
            f"input_layer='tokens')`. Received: {shown(explainer)} ({type(explainer).__name__})."
        )
    model = explainer.model
    token_ids = _alone(model, token_ids)
    given = token_ids if isinstance(token_ids, dict) else {_IDS: token_ids}
    if _IDS not in given:
        raise ValueError(
            f"`token_ids` must have the key '{_IDS}', if it is a dict. Received: the keys {listed(given, 100)}."
        )
    ids = _one_text(given[_IDS])
    if len(ids) < 2:
        raise ValueError(
            "`token_ids` must hold at least 2 tokens, a prompt and what was generated, as one text. Received: 1 token. "
            "Generate first, then give the prompt with what came out."
        )
    _check_length(model, ids)
    if not isinstance(token_ids, dict) and not _takes_dict(model):
        return ids[None], ids
    others = {name: _with_batch(name, value) for name, value in given.items() if name != _IDS}
    if not isinstance(token_ids, dict):
        others = {"padding_mask": np.ones((1, len(ids)), "int32")}
    masks = [value for name, value in others.items() if "padding_mask" in name]
    if any(value.shape != (1, len(ids)) for value in masks):
        raise ValueError(
            f"The padding mask of `token_ids` must have a number for each of the {len(ids)} tokens. Received: shape "
            f"{next(value.shape for value in masks if value.shape != (1, len(ids)))}. Cut both at the same place."
        )
    if not all(np.all(value) for value in masks):
        raise ValueError(
            "`token_ids` must be one text without padding. Received: a padding mask with zeros. Cut the padding off "
            "all arrays: `array[:, :length]`."
        )
    return {_IDS: ids[None], **others}, ids


def _alone(model, token_ids):
    """Returns the ids alone, out of a dict for a model that takes nothing else."""
    own = getattr(model, "inputs", None) or []
    if not isinstance(token_ids, dict) or len(own) != 1 or isinstance(getattr(model, "input", None), dict):
        return token_ids
    if len(token_ids) > 1:
        raise ValueError(
            f"`token_ids` must be the ids alone, as model {model.name!r:.60} takes one input. Received: a dict with "
            f"the keys {listed(token_ids, 100)}. Give `token_ids[{_IDS!r}]`, without padding."
        )
    return token_ids.get(own[0].name, token_ids.get(_IDS, token_ids))


def _check_length(model, ids):
    """Raises where a model takes texts of another length only."""
    own = getattr(model, "input", None) if getattr(model, "inputs", None) else None
    tensor = own.get(_IDS) if isinstance(own, dict) else own
    length = tensor.shape[-1] if len(getattr(tensor, "shape", ())) == 2 else None
    if length not in (None, len(ids)):
        raise ValueError(
            f"`token_ids` must hold {length} tokens, as model {model.name!r:.60} takes no other number. Received: "
            f"{len(ids)}. Build it for texts of any length, `keras.Input((None,))`, and give it the same weights."
        )


def _takes_dict(model):
    """Tells whether a model takes token ids and a padding mask by their names."""
    own = getattr(model, "input", None) if isinstance(model, keras.Function) else None
    return isinstance(own, dict) and set(own) == {_IDS, "padding_mask"}


def _one_text(value):
    text = first_text(value)
    if text is not None:
        raise ValueError(
            f"`token_ids` must be the ids of one text, whole numbers of shape (T,) or (1, T). Received: text, "
            f"{shown(str(text), 60)}. Take what the model's tokenizer makes of it: `tokenizer(text)`."
        )
    ids = check_numeric("token_ids", value)
    ids = ids[0] if ids.ndim == 2 and len(ids) == 1 else ids
    if ids.ndim != 1 or not ids.size or (ids != np.round(ids)).any():
        raise ValueError(
            "`token_ids` must be the ids of one text, whole numbers of shape (T,) or (1, T). Received: "
            f"{'fractions' if ids.ndim == 1 and ids.size else f'shape {np.shape(value)}'}. For several texts call it "
            "on each."
        )
    return ids.astype("int32")


def _with_batch(name, value):
    array = check_numeric(f"token_ids['{name}']", value)
    return array[None] if array.ndim == 1 else array
