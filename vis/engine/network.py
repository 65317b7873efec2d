"""A model as the explainers see it: tensors in, a score and what belongs to it out.

Pure functions of tensors, to be compiled. A layer is tapped during a real forward call,
so any model will do, and nothing of it is changed or copied.
"""

import dataclasses
import itertools
import weakref

import keras
from keras import ops

from vis import backend
from vis.engine.graph import find_layer, operations, walk
from vis.engine.probabilities import activates_to_probabilities, is_probability_operation, is_rearranging
from vis.engine.surrogates import installed
from vis.engine.taps import did_not_run, one_tensor_of, shadowed, surgery, tapped, wrapped
from vis.utils.formats import channels_last, data_format, stated_format
from vis.utils.internals import producer
from vis.utils.outputs import layer_output
from vis.utils.validation import is_integer

_FIRST_SCALE = 2.0**23  # goes down to 2**15, the largest that float16 holds, and on


@dataclasses.dataclass(frozen=True)
class Site:
    """One call of one layer of a model.

    Args:
        place: Where the layer is on the walk through the model: also valid in a copy.
        call: Which call, if the layer is shared. The last is -1.
    """

    place: int
    call: int = -1

    def layer(self, model):
        """Returns the layer."""
        return operations(model)[self.place][1]


def site(model, layer, call=-1) -> Site | None:
    """Returns the site meant by a layer, its name, path or index, or by a pair of that and a call.

    Args:
        model: The model.
        layer: What the user gave.
        call: The call that is meant where none is given.
    """
    if layer is None:
        return None
    if isinstance(layer, tuple) and len(layer) == 2 and is_integer(layer[1]):
        layer, call = layer
    found = find_layer(model, layer)
    places = [place for place, (_, one) in enumerate(operations(model)) if one is found]
    return Site(places[0], int(call))


def _names(outputs):
    return f" ({', '.join(map(repr, list(outputs)[:8]))})" if isinstance(outputs, dict) else ""


class NoGradientError(ValueError):
    """The target does not depend on what the gradient is taken of."""


class Network:
    """The score of a model, and its gradients.

    Holds the model weakly.

    Args:
        model: Any Keras model.
        output: Site of the layer that is explained; `None` for the model's own output.
        logits: Whether a softmax or sigmoid at the end of what is explained is left out.
        rule: Backward rule, or `None`.

    Attributes:
        is_half: Whether a layer computes in float16, where gradients below 6e-5 lose digits and below
            6e-8 vanish. They are scaled by way of the score then, as in training (Micikevicius et al. 2018,
            "Mixed Precision Training", section 3.2).
        scale: The scale that was used last; it falls until nothing overflows.
    """

    def __init__(self, model, output=None, logits=True, rule=None):
        self._model = weakref.ref(model)
        self.output, self.logits, self.rule = output, logits, rule
        self.is_half = any(getattr(layer, "compute_dtype", None) == "float16" for _, layer in operations(model))
        self.scale = _FIRST_SCALE
        self.calls = {}  # how often the layer of a site runs, seen when its activation was read

    @property
    def model(self):
        """The model."""
        return self._model()

    def outputs(self, layout, inputs, taps=()):
        """Runs the model.

        Args:
            layout: A `vis.engine.inputs.Layout`: how the model is called.
            inputs: The inputs, flat.
            taps: Pairs `(layer, function)`, see `vis.engine.taps.tapped`.

        Returns:
            `(outputs, found)`: what is explained, before its softmax or sigmoid where one is left
            out, and whether one was.
        """
        model, notes, explained = self.model, {}, []
        taps = list(taps)
        if self.output is not None:
            taps.append((self.output.layer(model), lambda output: explained.append(output) or output))
        noting = _noted(model, notes if self.logits else None)
        with surgery(), shadowed(), installed(model, self.rule), noting, tapped(taps):
            outputs = layout.call(model, inputs)
        if self.output is not None:
            outputs = _chosen(self.output, model, explained)
            self.calls[self.output] = len(explained)
        flat = keras.tree.flatten(outputs)
        found = any(id(output) in notes for output in flat)
        flat = [notes[id(output)][1] if id(output) in notes else output for output in flat]
        return keras.tree.pack_sequence_as(outputs, flat), found

    def units(self, outputs):
        """Returns the one explained output as `(B, units)`: positions averaged, channels last."""
        output = keras.tree.flatten(outputs)
        if len(output) != 1 and self.output is not None:
            name = self.output.layer(self.model).name
            raise ValueError(f"Layer {name!r} puts out {len(output)} tensors. Choose a layer with a single output.")
        if len(output) != 1:
            raise ValueError(
                f"Model {self.model.name!r} has {len(output)} outputs{_names(outputs)}, so a class index does not say "
                "which is meant. "
                "Give `output_layer=`, or a `target` that is a function of the outputs."
            )
        output = ops.cast(output[0], "float32")
        if not output.shape:
            raise ValueError(
                f"Model {self.model.name!r} must give one output for each sample. Received: a single number."
            )
        if len(output.shape) == 1:
            return output[:, None]
        output = channels_last(output, self.output_format())
        return ops.mean(output, axis=tuple(range(1, len(output.shape) - 1))) if len(output.shape) > 2 else output

    def output_format(self):
        """Returns the data format of what is explained."""
        model = self.model
        if self.output is not None:
            return data_format(self.output.layer(model))
        ends = getattr(model, "outputs", None) or []
        found = [data_format(producer(tensor)) for tensor in ends if producer(tensor) is not None]
        found += [stated_format(layer) for _, layer in reversed(operations(model))]
        return next((form for form in found if form), keras.config.image_data_format())

    def known_units(self):
        """Returns the number of output units as far as the model's graph tells, or `None`."""
        try:
            shape = layer_output(self.output.layer(self.model) if self.output else self.model).shape
        except ValueError:
            return None
        if len(shape) < 2:
            return len(shape)
        return shape[1] if len(shape) > 2 and self.output_format() == "channels_first" else shape[-1]

    def score(self, target, layout, inputs, arguments, taps=()):
        """Returns `(score (B,), {...})`, with what else is to be known of each sample.

        Where a layer computes in half precision, the last of the arguments is what the score is multiplied with.
        """
        if self.is_half:
            *arguments, scale = arguments
            score, known = self._plain_score(target, layout, inputs, arguments, taps)
            return score * scale, known
        return self._plain_score(target, layout, inputs, arguments, taps)

    def _plain_score(self, target, layout, inputs, arguments, taps):
        outputs, found = self.outputs(layout, inputs, taps)
        if target.key is not None:
            return target.score(outputs, arguments)[0], {}
        units = self.units(outputs)
        score, chosen = target.score(units, arguments)
        if self.logits and not found and units.shape[-1] > 1:
            near_one = ops.absolute(ops.sum(units, axis=-1) - 1) < 1e-3
            return score, {"chosen": chosen, "probable": ops.logical_and(near_one, ops.all(units >= 0, axis=-1))}
        return score, {"chosen": chosen}

    def scores(self, target, layout, inputs, arguments):
        """Returns the score of each sample, and the weights of the units it is made of."""
        score, known = self.score(target, layout, inputs, arguments)
        return {"score": score, **known}

    def gradients(self, target, layout, inputs, arguments):
        """Returns the gradient with respect to those inputs that are not whole numbers."""
        floats = [i for i, tensor in enumerate(inputs) if keras.backend.is_float_dtype(_dtype(tensor))]

        def function(values):
            given = dict(zip(floats, values))
            whole = [given.get(i, tensor) for i, tensor in enumerate(inputs)]
            return self.score(target, layout, whole, arguments)

        if not floats:
            raise NoGradientError(_no_gradient("the inputs"))
        score, known, gradients = backend.value_and_grad(function, [inputs[i] for i in floats])
        if all(gradient is None for gradient in gradients):
            raise NoGradientError(_no_gradient("the inputs"))
        found = {i: ops.zeros_like(inputs[i]) if g is None else g for i, g in zip(floats, gradients)}
        return {"score": score, "gradients": [_float32(found[i]) for i in floats], **known}

    def activations(self, at, layout, inputs):
        """Returns the output of a site."""
        seen, layer = [], at.layer(self.model)

        def tap(output):
            seen.append(one_tensor_of(layer, output))
            return output

        self.outputs(layout, inputs, [(layer, tap)])
        value = _chosen(at, self.model, seen)
        self.calls[at] = len(seen)
        _check_rows(layer, value, inputs)
        return {"activations": _float32(value)}

    def site_gradients(self, at, target, layout, inputs, arguments):
        """Returns the output of a site, and the gradient with respect to it."""
        layer = at.layer(self.model)

        def function(mark):
            seen = []

            def tap(output):
                seen.append(mark(one_tensor_of(layer, output)))
                return seen[-1]

            result = self.score(target, layout, inputs, arguments, [(layer, tap)])
            _check_rows(layer, _chosen(at, self.model, seen), inputs)
            self.calls[at] = len(seen)
            return result

        score, known, value, gradient = backend.value_and_grad_at(function, at.call)
        if gradient is None:
            raise NoGradientError(_no_gradient(f"layer {layer.name!r}"))
        return {"score": score, "activations": _float32(value), "gradients": _float32(gradient), **known}

    def gradients_at(self, at, value, target, layout, inputs, arguments):
        """Returns the gradient with respect to a value put in the place of a site's output."""

        def function(value):
            return self.score(target, layout, inputs, arguments, [self._replacing(at, lambda _: value)])

        score, known, gradient = backend.value_and_grad(function, value)
        if gradient is None:
            raise NoGradientError(_no_gradient(f"layer {at.layer(self.model).name!r}"))
        return {"score": score, "gradients": [_float32(gradient)], **known}

    def scores_at(self, at, factors, target, layout, inputs, arguments):
        """Returns the scores with a site's channels multiplied by factors `(B, channels)`."""
        form = data_format(at.layer(self.model))

        def scaled(output):
            own = ops.cast(factors, output.dtype)
            ones = [1] * (len(output.shape) - 2)
            shape = (-1, own.shape[-1], *ones) if form == "channels_first" else (-1, *ones, own.shape[-1])
            return output * ops.reshape(own, shape)

        score, known = self.score(target, layout, inputs, arguments, [self._replacing(at, scaled)])
        return {"score": score, **known}

    def _replacing(self, at, change):
        if at not in self.calls:
            raise RuntimeError('Evaluate the "activations" of a site first: they tell how often its layer runs.')
        counter = iter(range(self.calls[at]))
        wanted = range(self.calls[at])[at.call]

        def tap(output):
            return ops.cast(change(output), output.dtype) if next(counter) == wanted else output

        return at.layer(self.model), tap


def _check_rows(layer, value, inputs):
    rows = inputs[0].shape[0]
    if not value.shape or value.shape[0] != rows:
        raise ValueError(mixed_rows(layer, tuple(value.shape), rows))


def mixed_rows(layer, shape, rows) -> str:
    """Words that a layer's rows are not the samples."""
    return (
        f"A layer must put out one row for each sample. Received: layer {layer.name!r}, whose first axis is not the "
        f"batch (output shape {shape} for {rows} samples; windows of attention are such rows). Choose a layer before "
        "or after it, where samples are apart."
    )


def _chosen(at, model, seen):
    layer = at.layer(model)
    if not seen:
        raise did_not_run(layer)
    if not -len(seen) <= at.call < len(seen):
        raise ValueError(
            f"Layer {layer.name!r} ran {len(seen)} times. Received: call {at.call}. Choose from 0 to {len(seen) - 1}."
        )
    return seen[at.call]


def _noted(model, notes):
    """Returns a context that notes what goes into every softmax and sigmoid, also if it is rearranged afterwards.

    Args:
        model: The model.
        notes: Dict that gets `(output, input)` under the `id` of each output; `None` to do nothing.
    """

    def note(function, x, *args, **kwargs):
        y = function(x, *args, **kwargs)
        notes[id(y)] = (y, x)
        return y

    operations = [operation for _, operation in walk(model)] if notes is not None else []

    def carry(function, x, *args, **kwargs):
        y = function(x, *args, **kwargs)
        if id(x) in notes:
            notes[id(y)] = (y, function(notes[id(x)][1], *args, **kwargs))
        return y

    makers = [op for op in operations if activates_to_probabilities(op)]
    whole = [op for op in makers if isinstance(op, keras.layers.Activation)]  # a rule may be on their calls
    calls = [(op, note) for op in operations if is_probability_operation(op) or any(op is one for one in whole)]
    calls += [(op, carry) for op in operations if is_rearranging(op)]
    activations = [(op, note) for op in makers if not isinstance(op, keras.layers.Activation)]
    return shadowed(itertools.chain(wrapped("call", calls), wrapped("activation", activations)))


def _no_gradient(of_what):
    return (
        f"The target does not depend on {of_what}, so there is no gradient. Choose a layer between the input and what "
        "is explained; a `target` that is a function must be differentiable (no argmax, no rounding). Where whole "
        "numbers come in (an embedding, bytes), give the layer that takes them as `input_layer=`, or its output as "
        "`wrt_tensor=`."
    )


def _float32(tensor):
    return ops.cast(tensor, "float32")


def _dtype(tensor):
    return keras.backend.standardize_dtype(tensor.dtype)
