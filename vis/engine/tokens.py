"""Token ids: which embedding a model looks them up in, whether it has them, and which of them are padding.

An embedding is found by what it does, not by its name: the model is run once on whole numbers that no other input has,
and each embedding tells what it was asked for. So nested, shared and subclassed models all work alike.
"""

import dataclasses
import re

import keras
import numpy as np
from keras import ops

from vis import backend
from vis.engine.graph import layers, operations
from vis.engine.requests import Site
from vis.engine.taps import shadowed, surgery, wrapped
from vis.utils.validation import cut, listed, shown

TOKENS = "tokens"  # what stands for the embedding in `input_layer=`

_ROWS = 4
_MOST_AXES = 3  # of ids: samples, sentences, tokens
_PADDING = re.compile("(padding|attention|pad|input)_?mask", re.IGNORECASE)

# Inputs that say how others are to be read, and those of them that hold no numbers of the world's.
_AUXILIARY = re.compile("mask|segment|token_type|position", re.IGNORECASE)
_MARKS = re.compile("mask|segment|token_type", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Lookup:
    """One call of an embedding on an input of the model, as it is.

    Args:
        place: Where the embedding is on the walk through the model.
        call: Which of its calls, from 0.
        index: Which input.
        size: How many ids the embedding has.
        pads: Whether the id 0 is padding for it.
    """

    place: int
    call: int
    index: int
    size: int
    pads: bool

    @property
    def site(self) -> Site:
        """The call as something to look at."""
        return Site(self.place, self.call)


class _Outside(BaseException):
    """Ends a forward call in which an embedding is asked for an id that it does not have; not an error."""


def input_names(model, batch) -> list:
    """Returns what each input is called, in the model and in messages, in one string."""
    own = [tensor.name for tensor in getattr(model, "inputs", None) or []] or batch.layout.names
    return [f"{first} {second}" for first, second in zip(own, batch.layout.names)]


def plain_inputs(model, batch) -> list:
    """Returns the indices of the inputs whose names do not say that they are masks, segments or positions."""
    return [i for i, name in enumerate(input_names(model, batch)) if not _AUXILIARY.search(name)]


def differentiable_inputs(model, batch, found) -> list:
    """Returns the indices of the inputs whose gradient says something: no token ids, no masks, no whole numbers.

    Args:
        model: The model.
        batch: Its inputs.
        found: The lookups.
    """
    ids, names = {one.index for one in found}, input_names(model, batch)
    return [i for i, name in enumerate(names) if batch.is_float(i) and i not in ids and not _MARKS.search(name)]


def lookups(model, batch) -> list:
    """Returns the calls of embeddings that take an input of the model as it is, each a `Lookup`.

    Args:
        model: The model.
        batch: Its inputs; values are used where they cannot be ids.
    """
    tables = _tables(model)
    if not tables or not any(map(_may_be_ids, batch.arrays)):
        return []
    given = batch.rows(np.zeros(batch.layout.fixed_size or _ROWS, int))
    bits = [_bits(array, i) if _may_be_ids(array) else array for i, array in enumerate(given)]
    for arrays in (bits, given):  # a model may refuse numbers of no meaning
        asked = []
        try:
            _listen(model, batch, tables, arrays, lambda *call, asked=asked: asked.append(call))
        except Exception:  # the user's code, it may raise anything, and will again where it is worded
            continue
        return [Lookup(*one) for one in _matched(tables, asked, arrays)]
    return []


def _tables(model):
    """Returns the embeddings of a model, under their places."""
    return {place: one for place, (_, one) in enumerate(operations(model)) if isinstance(one, keras.layers.Embedding)}


def _may_be_ids(array):
    return array.ndim <= _MOST_AXES and (array.dtype.kind != "f" or bool((array == np.round(array)).all()))


def _bits(array, number):
    """Returns zeros and ones, which every embedding has, in an order that no other input has."""
    return np.random.default_rng(number).integers(0, 2, array.shape).astype(array.dtype)


def _listen(model, batch, tables, arrays, hear):
    """Runs a model, and calls `hear(place, call, ids)` where an embedding is asked for ids that are known.

    Args:
        model: The model.
        batch: Inputs, which say how it is called.
        tables: The embeddings, under their places.
        arrays: The values.
        hear: The function; `call` counts the calls of the embedding from 0.
    """
    counts = dict.fromkeys(tables, -1)

    def listening(place):
        def call(function, *args, **kwargs):
            counts[place] += 1
            ids = args[0] if args else next(iter(kwargs.values()))
            known = backend.concrete(ids) if ops.is_tensor(ids) else np.asarray(ids)
            if known is not None:
                hear(place, counts[place], known)
            return function(*args, **kwargs)

        return call

    wrappers = wrapped("call", [(table, listening(place)) for place, table in tables.items()])
    with surgery(), shadowed(), shadowed(wrappers):
        batch.layout.call(model, [ops.convert_to_tensor(array) for array in arrays])


def _matched(tables, asked, arrays):
    """Yields what makes a `Lookup` of those calls of embeddings whose ids are one of the inputs."""
    for place, call, ids in asked:
        same = [i for i, array in enumerate(arrays) if array.shape == ids.shape and (array == ids).all()]
        if len(same) == 1:
            yield place, call, same[0], tables[place].input_dim, bool(tables[place].mask_zero)


def check_ids(model, batch, found) -> None:
    """Raises where an embedding is asked for an id that it does not have.

    Args:
        model: The model.
        batch: Its inputs.
        found: The lookups.

    Raises:
        ValueError: An id is negative or too large.
    """
    for one in found:
        ids = batch.arrays[one.index]
        outside = np.argwhere((ids < 0) | (ids >= one.size))
        if len(outside) and _is_asked_for(model, batch, one, outside[0][0]):
            where = tuple(map(int, outside[0]))
            raise ValueError(
                f"`{batch.layout.names[one.index]}` must hold token ids from 0 to {one.size - 1}, as many as embedding "
                f"{cut(operations(model)[one.place][0])!r} has. Received: {ids[where]:g} at {where}. Take the "
                "tokenizer that the model was trained with."
            )


def _is_asked_for(model, batch, one, row):
    """Tells whether an embedding gets ids that it does not have from a sample: a model may map them before."""

    def hear(place, call, ids):
        if call == one.call and not ((ids >= 0) & (ids < one.size)).all():
            raise _Outside

    arrays = batch.rows(np.full(batch.layout.fixed_size or 1, row))
    try:
        _listen(model, batch, {one.place: operations(model)[one.place][1]}, arrays, hear)
    except _Outside:
        return True
    except Exception:  # it comes again, where it is worded
        return False
    return False


def asks_for_tokens(model, layer) -> bool:
    """Tells whether what the user gave for a layer means the embedding of token ids.

    Raises:
        ValueError: It does, and there is no embedding.
    """
    if not (isinstance(layer, str) and layer == TOKENS):
        return False
    own = [one.name for _, one in layers(model) if not isinstance(one, keras.layers.InputLayer)]
    if TOKENS in own:
        return False
    if not _tables(model):
        raise _no_tokens(model)
    return True


def token_lookup(model, batch, found) -> Lookup:
    """Returns the one call of an embedding that turns token ids into vectors.

    Embeddings of masks, segments and positions do not count.

    Args:
        model: The model.
        batch: Its inputs.
        found: The lookups.

    Raises:
        ValueError: There is none, or there are several.
    """
    plain, own = plain_inputs(model, batch), operations(model)
    meant = [one for one in found if one.index in plain]
    if len(meant) > 1:
        named = [one for one in meant if not _AUXILIARY.search(own[one.place][1].name)]
        meant = named or meant
    if not meant:
        raise _no_tokens(model)
    if len(meant) > 1:
        ways = ", ".join(f"({own[one.place][0]!r}, {one.call}) of `{batch.layout.names[one.index]}`" for one in meant)
        raise ValueError(
            f"`input_layer='tokens'` must mean one embedding of token ids. Received: model {model.name!r:.60}, which "
            f"has {len(meant)}: {cut(ways, 160)}. Give one of these pairs (layer, number of the call) instead."
        )
    return meant[0]


def no_token(name, given, size) -> ValueError:
    """Returns the error for what stands for a token and is no id.

    Args:
        name: The argument's name.
        given: What came.
        size: How many ids there are.
    """
    return ValueError(
        f"`{name}` of a text must be a token id, a whole number from 0 to {size - 1}. Received: {shown(given)}. Take "
        "the id of the tokenizer's mask or padding token, such as `tokenizer.token_to_id('[MASK]')`."
    )


def _no_tokens(model):
    names = [path for path, one in layers(model) if isinstance(one, keras.layers.Embedding)]
    has = f"whose embeddings take none of them as they are: {listed(names, 100)}" if names else "which has no Embedding"
    return ValueError(
        "`input_layer='tokens'` means the `keras.layers.Embedding` that takes the token ids which the model is given. "
        f"Received: model {model.name!r:.60}, {has}. Name the layer whose output is to be explained: "
        "`input_layer='name'`."
    )


def kept_tokens(model, batch, found, index):
    """Returns which tokens of an input are no padding, as booleans in its shape, or `None` where nothing tells.

    Args:
        model: The model.
        batch: Its inputs.
        found: The lookups.
        index: Which input.
    """
    ids = batch.arrays[index]
    masks = [i for i in _masks(model, batch, index) if batch.arrays[i].shape == ids.shape]
    if masks:
        return batch.arrays[masks[0]] != 0
    return ids != 0 if any(one.pads for one in found if one.index == index) else None


def _masks(model, batch, index):
    """Returns the padding mask of an input as a list of its index: of several, that whose name begins alike."""
    names = input_names(model, batch)
    masks = [i for i, name in enumerate(names) if _PADDING.search(name)]
    stems = [re.split("_?(?:token|input|id|padding|attention|pad|mask)", name)[0] for name in names]
    return masks if len(masks) == 1 else [i for i in masks if stems[i] == stems[index]]
