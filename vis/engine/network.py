"""A model as a function of tensors: inputs in; scores, gradients and outputs of its layers out.

Pure functions of tensors, to be compiled. A layer is tapped during a real forward call,
so any model will do, and nothing of it is changed or copied.
"""

import contextlib
import functools
import itertools
import weakref

import keras
from keras import ops

from vis import backend
from vis.engine.graph import operations, walk
from vis.engine.insides import Hooks, WeightsOf, hooked, sample_shape
from vis.engine.probabilities import activates_to_probabilities, is_probability_operation, is_rearranging
from vis.engine.requests import outputs_at
from vis.engine.surrogates import installed
from vis.engine.taps import (
    IntoActivation,
    did_not_run,
    one_tensor_of,
    outside_of_branches,
    shadowed,
    surgery,
    tapped,
    wrapped,
)
from vis.utils.formats import channels_last, data_format, stated_format
from vis.utils.internals import producer
from vis.utils.outputs import layer_output

_PARTS = {"output": lambda layer: layer, "into activation": IntoActivation, "weights": WeightsOf}
_OF_TENSORFLOW = (keras.layers.Hashing, keras.layers.HashedCrossing, keras.layers.IntegerLookup)
_FIRST_SCALE = 2.0**23  # goes down to 2**15, the largest that float16 holds, and on


def _names(outputs):
    return f" ({', '.join(map(repr, list(outputs)[:8]))})" if isinstance(outputs, dict) else ""


class NoGradientError(ValueError):
    """The target does not depend on what the gradient is taken of."""


class Network:
    """The score of a model, its gradients, and the outputs of its layers.

    Holds the model weakly.

    Args:
        model: Any Keras model.
        output: Site of the layer that is explained; `None` for the model's own output.
        logits: Whether a softmax or sigmoid at the end of what is explained is left out.
        composite: Which operations get which backward rule, see `vis.engine.surrogates`; `None` for none.

    Attributes:
        is_half: Whether a layer computes in float16, where gradients below 6e-5 lose digits and below
            6e-8 vanish. They are scaled by way of the score then, as in training (Micikevicius et al. 2018,
            "Mixed Precision Training", section 3.2).
        scale: The scale that was used last; it falls until nothing overflows.
        calls: How often sites are passed in one call of the model, by their keys, as far as it was seen.
    """

    def __init__(self, model, output=None, logits=True, composite=None):
        self._model = weakref.ref(model)
        self.output, self.logits, self._composite = output, logits, composite
        self.is_half = any(getattr(layer, "compute_dtype", None) == "float16" for _, layer in operations(model))
        self.scale = _FIRST_SCALE
        self.calls = {}

    @property
    def model(self):
        """The model."""
        return self._model()

    def evaluate(self, request, formula, layout, inputs, arguments=(), data=()):
        """Runs the model once, and back where gradients are wanted.

        Args:
            request: A `vis.engine.requests.Request`.
            formula: How outputs become scores, see `vis.engine.goals`; `None` where no score is wanted.
            layout: How the model is called, a `vis.engine.inputs.Layout`.
            inputs: The inputs, flat.
            arguments: Tensors of the formula, with a row for each row of the inputs.
            data: Tensors of `request.change`.

        Returns:
            Dict of tensors: `score`, and `chosen` (the weights of the output units) if the formula is of units;
            `input_gradients`, a list for those inputs that are not whole numbers; `activations` and `gradients`,
            or `summaries`, lists in the order of the sites. Of several targets, scores are `(B, targets)` and
            gradients `(B, targets, ...)`.

        Raises:
            NoGradientError: The score does not depend on what the gradient is taken of.
        """

        def forward(values, mark=None):
            return self._forward(request, formula, layout, values, (arguments, data), mark)

        if not (request.inputs or request.gradients):
            return forward(inputs)
        floats = [i for i, tensor in enumerate(inputs) if request.inputs and _is_float(tensor)]
        if request.inputs and not floats:
            raise NoGradientError(_no_gradient("the inputs"))

        def function(mark, values):
            given = dict(zip(floats, values))
            found = forward([given.get(i, tensor) for i, tensor in enumerate(inputs)], mark)
            return found.pop("score"), found

        marks = [(one.key, one.call) for one in request.sites] if request.gradients else []
        own = [inputs[i] for i in floats]
        count = formula.count(arguments) if formula.of_units else None
        score, found, _, gradients, at_inputs = backend.value_and_grad_at(function, marks, own, count)
        found = {"score": score, **found}
        if request.inputs:
            found["input_gradients"] = _at_all(at_inputs, own, count)
        if request.summary is not None:
            found["summaries"] = self._summaries(request, found.pop("activations", []), gradients, inputs)
        elif request.gradients:
            self._check_gradients(request.sites, gradients)
            pairs = zip(request.sites, gradients)
            found["gradients"] = [_float32(self._by_sample(one, gradient, inputs)) for one, gradient in pairs]
        return found

    def _summaries(self, request, outputs, gradients, inputs):
        """Returns what is kept of the sites."""
        found = []
        for one, output, gradient in zip(request.sites, outputs, gradients):
            known = ops.zeros_like(output) if gradient is None else _float32(self._by_sample(one, gradient, inputs))
            found.append(request.summary(one.layer(self.model), output, known))
        return found

    def _forward(self, request, formula, layout, inputs, rows, mark):
        arguments, data = rows
        seen, ran = {one.key: [] for one in request.sites}, []
        notes = {} if self.logits and request.score else None
        taps = self._taps(request, data, seen, mark, notes, ran)
        if request.score:
            score, known = self.score(formula, layout, inputs, arguments, taps, notes)
            found = {"score": score, **known}
            if request.change is not None:
                self._chosen(request.change.site, ran)
        else:
            self._run_as_far_as(seen, layout, inputs, taps)
            found = {}
        if request.sites:
            found["activations"] = [_float32(self._read(one, seen[one.key], inputs)) for one in request.sites]
        return found

    def read(self, sites, layout, inputs, mark=None):
        """Returns the outputs of sites, as they are, from a run that ends as soon as all were seen.

        Args:
            sites: The sites.
            layout: See `evaluate`.
            inputs: See `evaluate`.
            mark: Function `(key, output) -> output` that each output passes through, or `None`.
        """
        seen = {one.key: [] for one in sites}
        self._run_as_far_as(seen, layout, inputs, self._taps(outputs_at(*sites), (), seen, mark))
        return [self._chosen(one, seen[one.key]) for one in sites]

    def _run_as_far_as(self, seen, layout, inputs, taps):
        """Runs the model until every site was seen as often as it runs, where that is known."""

        def enough(output):
            if all(len(outputs) >= self.calls.get(key, len(outputs) + 1) for key, outputs in seen.items()):
                raise _Enough
            return output

        own = [operation for _, operation in operations(self.model)]
        stops = [(own[place], enough) for place, _ in seen]
        with surgery(), shadowed(), contextlib.suppress(_Enough):
            self.run(layout, inputs, [*taps, *stops])

    def _taps(self, request, data, seen, mark, notes=None, ran=None):
        """Returns pairs `(layer, function)` that change, mark and note the outputs of sites.

        Args:
            request: The request.
            data: Tensors of its change.
            seen: Dict from the sites' keys to lists, which get the outputs.
            mark: See `read`.
            notes: See `run`: an output that is marked is still that of its softmax or sigmoid.
            ran: List that gets what the layer of the change put out.
        """
        own = [operation for _, operation in operations(self.model)]
        change, taps = request.change, []
        if change is not None:
            taps.append((own[change.site.place], self._changing(change, own[change.site.place], data, ran)))

        def note(key, output):
            output = one_tensor_of(own[key[0]], output)
            marked = output if mark is None else mark(key, output)
            if notes and id(output) in notes:
                notes[id(marked)] = (marked, notes[id(output)][1])
            seen[key].append(marked)
            return marked

        places = {key: own[key[0]] for key in seen}
        targets = {key: _PARTS[key[1]](layer) for key, layer in places.items()}
        return taps + [(target, functools.partial(note, key)) for key, target in targets.items()]

    def _changing(self, change, layer, data, ran):
        call, form = change.site.call, data_format(layer)
        if call < 0:
            if change.site.key not in self.calls:
                raise RuntimeError(
                    "A site's output must be asked for before it is changed, which tells how often the layer runs. "
                    f"Received: a change of layer {layer.name!r}, call {call}. Call `task.map(outputs_at(site))` "
                    "first, or count the call from the start: (layer, 0)."
                )
            call += self.calls[change.site.key]

        def tap(output):
            ran.append(output)
            if len(ran) - 1 != call:
                return output
            changed = change.function(output, *data, form)
            if tuple(changed.shape) != tuple(output.shape):
                raise ValueError(
                    f"The change of layer {layer.name!r} must keep the shape of its output, {tuple(output.shape)}. "
                    f"Received: {tuple(changed.shape)}."
                )
            return changed

        return tap

    def _read(self, at, outputs, inputs):
        value = self._by_sample(at, self._chosen(at, outputs), inputs)
        _check_rows(at.layer(self.model), value, inputs)
        return value

    def _by_sample(self, at, tensor, inputs):
        """Returns the weights of an attention with samples on the first axis; anything else as it is."""
        rows, first = inputs[0].shape[0], tensor.shape[0]
        if at.part != "weights" or not first or first % rows:
            return tensor
        return ops.reshape(tensor, (rows, *sample_shape(at.layer(self.model), tensor.shape, rows)))

    def _chosen(self, at, outputs):
        """Returns what the wanted call of a layer put out, out of what all its calls did."""
        layer = at.layer(self.model)
        if not outputs:
            raise did_not_run(layer)
        self.calls[at.key] = len(outputs)
        if not -len(outputs) <= at.call < len(outputs):
            raise ValueError(
                f"Layer {layer.name!r} ran {len(outputs)} times. Received: call {at.call}. Choose from 0 to "
                f"{len(outputs) - 1}."
            )
        return outputs[at.call]

    def _check_gradients(self, sites, gradients):
        for one, gradient in zip(sites, gradients):
            if gradient is None:
                raise NoGradientError(_no_gradient(f"layer {one.layer(self.model).name!r}"))

    def run(self, layout, inputs, taps=(), notes=None):
        """Calls the model on inputs, with backward rules and taps in place.

        Args:
            layout: See `evaluate`.
            inputs: See `evaluate`.
            taps: Pairs `(layer, function)`, see `vis.engine.taps.tapped`; or `(WeightsOf(layer), function)`.
            notes: Dict in which what goes into each softmax and sigmoid is noted, or `None`.
        """
        model = self.model
        weights = [(target.layer, function) for target, function in taps if isinstance(target, WeightsOf)]
        others = [(target, function) for target, function in taps if not isinstance(target, WeightsOf)]
        hooks = {id(layer): Hooks(weights=outside_of_branches(function)) for layer, function in weights}
        with (
            surgery(),
            shadowed(),
            _traceable(model),
            installed(model, self._composite),
            shadowed(hooked(model, hooks)),
            _noted(model, notes),
            tapped(others),
        ):
            return layout.call(model, inputs)

    def rules(self, layout, inputs) -> list:
        """Runs the model once; returns the operations that ran with a rule, see `vis.engine.surrogates.installed`."""
        log = []

        def run(inputs):
            log.clear()  # it may be traced again
            with surgery(), shadowed(), _traceable(self.model), installed(self.model, self._composite, log):
                layout.call(self.model, inputs)
            return inputs[0]

        backend.few_times(run, self.model.variables)(inputs)
        return log

    def outputs(self, layout, inputs, taps=(), notes=None):
        """Runs the model.

        Args:
            layout: See `evaluate`.
            inputs: See `evaluate`.
            taps: See `run`.
            notes: See `run`; default: a new dict.

        Returns:
            `(outputs, found)`: what is explained, before its softmax or sigmoid where one is left
            out, and whether one was.
        """
        notes, explained, taps = {} if notes is None else notes, [], list(taps)
        if self.output is not None:
            taps.append((self.output.layer(self.model), functools.partial(_noted_in, explained)))
        outputs = self.run(layout, inputs, taps, notes if self.logits else None)
        if self.output is not None:
            outputs = self._chosen(self.output, explained)
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

    def score(self, formula, layout, inputs, arguments, taps=(), notes=None):
        """Returns `(score (B,), {...})`, with what else is to be known of each sample.

        Where a layer computes in half precision, the last of the arguments is what the score is multiplied with.
        """
        *own, scale = arguments if self.is_half else (*arguments, None)
        outputs, found = self.outputs(layout, inputs, taps, notes)
        if formula.of_units:
            score, known = self._score_of_units(formula, self.units(outputs), own, found)
        else:
            score, known = formula.score(outputs, own), {}
        if scale is not None:
            score = score * ops.reshape(scale, (-1, *[1] * (len(score.shape) - 1)))
        return score, known

    def _score_of_units(self, formula, units, arguments, found):
        score, chosen = formula.score(units, arguments)
        if self.logits and not found and units.shape[-1] > 1:
            near_one = ops.absolute(ops.sum(units, axis=-1) - 1) < 1e-3
            return score, {"chosen": chosen, "probable": ops.logical_and(near_one, ops.all(units >= 0, axis=-1))}
        return score, {"chosen": chosen}


def replaced(output, value, form):
    """Returns a value in the place of an output, see `vis.engine.requests.Change`."""
    return ops.cast(value, output.dtype)


def scaled(output, factors, form):
    """Returns an output with its channels multiplied by factors `(B, channels)`."""
    own = ops.cast(factors, output.dtype)
    channels = output.shape[1 if form == "channels_first" and len(output.shape) > 2 else -1]
    if own.shape[-1] != channels:
        raise ValueError(f"There must be a factor for each of {channels} channels. Received: {own.shape[-1]}.")
    ones = [1] * (len(output.shape) - 2)
    shape = (-1, own.shape[-1], *ones) if form == "channels_first" else (-1, *ones, own.shape[-1])
    return output * ops.reshape(own, shape)


class _Enough(BaseException):
    """Ends a forward call when all that is wanted was seen; not an error, so nobody words it anew."""


def _noted_in(outputs, output):
    outputs.append(output)
    return output


def _at_all(gradients, inputs, count=None):
    """Returns gradients with zeros for inputs that do not matter, unless none does."""
    if all(gradient is None for gradient in gradients):
        raise NoGradientError(_no_gradient("the inputs"))
    pairs = zip(gradients, inputs)
    return [_float32(_zeros(tensor, count) if gradient is None else gradient) for gradient, tensor in pairs]


def _zeros(tensor, count):
    zeros = ops.zeros_like(tensor)
    return zeros if count is None else ops.repeat(zeros[:, None], count, axis=1)


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


def _traceable(model):
    """Returns a context in which layers that run on TensorFlow wherever Keras does are called outside of a trace."""
    found = [operation for _, operation in walk(model) if isinstance(operation, _OF_TENSORFLOW)]
    return shadowed(wrapped("call", [(layer, functools.partial(backend.outside, layer)) for layer in found]))


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
        "numbers come in, give the layer that takes them as `input_layer=` ('tokens' finds the embedding of token "
        "ids), or its output as `wrt_tensor=`."
    )


def _float32(tensor):
    return ops.cast(tensor, "float32")


def _is_float(tensor):
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))
