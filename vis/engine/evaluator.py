"""The evaluator: one model, the layers that are meant, and the compiled functions that answer requests.

It is asked with a `vis.engine.requests.Request`; whoever asks knows nothing of compilation, devices or half precision.
"""

import copy
import dataclasses
import os
import warnings
import weakref

import keras
import numpy as np
from keras import ops, tree

from vis import backend
from vis.engine.copying import pickled, unpickled
from vis.engine.goals import read_goal
from vis.engine.graph import has_graph, operations
from vis.engine.inputs import are_bytes, are_fractions, read_inputs, scales_bytes, takes_numbers_as_they_are
from vis.engine.memory import Memory
from vis.engine.network import Network, mixed_rows
from vis.engine.probabilities import activates_to_probabilities, probability_makers
from vis.engine.requests import belonging, is_pair, site
from vis.engine.rest import Rest, rest_after
from vis.engine.surrogates import has_own_activation
from vis.engine.survey import keeps_rows, survey
from vis.engine.tasks import Task
from vis.engine.tokens import Lookup, asks_for_tokens, check_ids, kept_tokens, lookups, token_lookup
from vis.utils.outputs import layer_output
from vis.utils.validation import VisualizationWarning, check_count, shown


class Evaluator:
    """Answers requests about one model, compiled, in chunks of rows.

    Layers are kept by their numbers on the walk through the model, so that a copy finds its own. What is compiled is
    forgotten when a layer or an activation of the model changes.

    Args:
        model: Any built or callable Keras model. Not changed.
        output_layer: Layer whose units are explained, as the user gave it; `None` for the model's output.
        logits: Whether a softmax or sigmoid at the end of what is explained is left out.
        composite: Which operations get which backward rule, see `vis.engine.surrogates`; `None` for none.
        site_layer: Layer that the method looks at besides, as the user gave it, or `None`.
        site_call: Which call of that layer is meant where the user gave none.
        finds_tokens: Whether `"tokens"` stands for the embedding of token ids, if no layer is called so.

    Attributes:
        memory: What is known of the model as it is now, a `vis.engine.memory.Memory`.
        token_lookup: Where token ids are turned into vectors, a `vis.engine.tokens.Lookup`, if the site was asked for
            as `"tokens"` and inputs were seen.

    Raises:
        TypeError: `model` is no Keras model.
        ValueError: There is no such layer.
    """

    def __init__(
        self, model, output_layer=None, logits=True, composite=None, site_layer=None, site_call=-1, finds_tokens=False
    ):
        if not isinstance(model, keras.Layer):
            mend = " Load it: `keras.saving.load_model(path)`." if isinstance(model, (str, os.PathLike)) else ""
            raise TypeError(
                f"`model` must be a Keras 3 model. Received: {shown(model)} ({type(model).__name__}).{mend}"
            )
        self._model = model
        self._logits, self.composite = logits, composite
        self._layers = {"output": (output_layer, -1), "site": (site_layer, site_call)}
        self._named = [name for name, (layer, _) in self._layers.items() if layer is not None and not is_pair(layer)]
        self._sites, self.token_lookup, self._finds_tokens = None, None, finds_tokens
        self._start()
        if model.built:
            self._locate()

    def _start(self):
        self._reference = weakref.ref(self._model)
        self.memory = Memory(self._model)
        self._told = set()

    def __getstate__(self):
        own = ("_reference", "memory", "_told")
        return {**{k: v for k, v in vars(self).items() if k not in own}, "_model": pickled(self.model)}

    def __setstate__(self, state):
        vars(self).update(state)
        self._model = unpickled(self._model)
        self._start()

    @property
    def model(self):
        """The model."""
        return self._reference()

    @property
    def output(self):
        """The site that is explained, or `None` for the model's output."""
        return self._sites["output"]

    @property
    def site(self):
        """The site that the method looks at, or `None`."""
        return self._sites["site"]

    @property
    def settings(self) -> dict:
        """What was asked for: the layers, whether the softmax is left out, and the rules."""
        site = "tokens" if self._finds_tokens else self.site
        return {"output_layer": self.output, "layer": site, "logits": self._logits, "rules": self.composite}

    @property
    def network(self) -> Network:
        """The model as tensors in, scores and gradients out."""
        return self.memory.once("network", lambda: Network(self.model, self.output, self._logits, self.composite))

    @property
    def variables(self) -> list:
        """The model's variables."""
        return self.memory.once("variables", lambda: self.model.variables)

    def on(self, model):
        """Returns the same for a copy of the model: its layers are found by their numbers."""
        other = copy.copy(self)
        other._model = model
        other._start()
        return other

    def weak(self):
        """Lets go of the model, for use in a cache that must not keep it alive."""
        self._model = None

    def _locate(self):
        """Finds the layers that were named; the embedding of token ids needs inputs to be found."""
        if self._finds_tokens and asks_for_tokens(self.model, self._layers["site"][0]):
            self._layers["site"] = (None, 0)
            self._named = [name for name in self._named if name != "site"]
        else:
            self._finds_tokens = False
        self._sites = {name: site(self.model, layer, call) for name, (layer, call) in self._layers.items()}
        self._layers = {}

    def _look_up(self, batch):
        """Checks token ids, and finds their embedding if it is asked for."""
        found = self.lookups(batch)
        check_ids(self.model, batch, found)
        if self._finds_tokens and self.site is None:
            self.token_lookup = token_lookup(self.model, batch, found)
            self._sites["site"] = self.token_lookup.site

    def lookups(self, batch) -> list[Lookup]:
        """Returns the calls of embeddings that take an input of the model as it is."""
        return self.memory.once("lookups", lambda: lookups(self.model, batch))

    def kept_tokens(self, batch, index):
        """Returns which tokens of an input are no padding, see `vis.engine.tokens.kept_tokens`."""
        return kept_tokens(self.model, batch, self.lookups(batch), index)

    def task(self, inputs, target, batch_size=32, verbose=0) -> Task:
        """Returns inputs and a target of the user's, checked, as a task.

        Args:
            inputs: What the model takes, batch axis first.
            target: See `vis.methods.explainer.Explainer.__call__`.
            batch_size: How many evaluations of the model run at once.
            verbose: Whether a progress bar is shown.

        Raises:
            ValueError, TypeError: An argument is wrong, or the target mixes samples.
        """
        batch_size = check_count("batch_size", batch_size, 1)
        batch = self.ready(read_inputs(self.model, inputs))
        self._tell_of_bytes(batch)
        return Task(self, batch, self.goal(batch, target), batch.layout.fixed_size or batch_size, verbose)

    def goal(self, batch, target):
        """Returns a target of the user's for inputs, checked, see `task`."""
        goal = read_goal(target, batch.count, lambda: self.units(batch), self._words_output())
        self._check_goal(batch, goal)
        return goal

    def _tell_of_bytes(self, batch):
        """Says once that inputs look like pictures as files hold them, which nothing scales, or were scaled already."""
        if "bytes" in self._told:
            return
        layer = self.memory.once("scales bytes", lambda: scales_bytes(self.model))
        if layer is None and not self.memory.once("as they are", lambda: takes_numbers_as_they_are(self.model)):
            return
        are_wrong, name = are_bytes if layer is None else are_fractions, self.model.name
        if any(are_wrong(batch, i) for i in range(len(batch.arrays))):
            self._told.add("bytes")
            words = _words_bytes(name) if layer is None else _words_fractions(name, layer.name)
            warnings.warn(words, VisualizationWarning, stacklevel=4)

    def ready(self, batch):
        """Makes sure that the model is built and its layers found, and forgets what is outdated; returns the batch."""
        with self.memory.lock():
            if not self.model.built:
                batch.layout.build(self.model, [ops.convert_to_tensor(array[:1]) for array in batch.arrays])
            if self._sites is None:
                self._locate()
            self.memory.forget_changed()
        self._look_up(batch)
        return batch

    def function(self, request, formula, layout):
        """Returns the compiled function that answers a request, made once.

        Args:
            request: The request.
            formula: The goal's formula, or `None` where no score is wanted.
            layout: How the model is called.

        Returns:
            `function(inputs, arguments, data)`, see `vis.engine.network.Network.evaluate`.
        """

        def evaluate(inputs, arguments, data):
            with belonging(request.together):
                return self.network.evaluate(request, formula, layout, inputs, arguments, data)

        key = (request, formula, layout.key)
        return self.memory.once("functions", lambda: backend.compile_rows(evaluate, self.model.variables), key)

    def rest(self, at) -> Rest | None:
        """Returns the rest of the network after a site whose output was read, or `None` where it cannot be run alone.

        With backward rules it cannot: those of a layer may belong to the layer before.
        """
        if "call" in vars(self.model):  # code of one's own, of which the memory does not know
            return None
        return self.memory.once("rest", lambda: self._find_rest(at), at)

    def _find_rest(self, at):
        if at.part != "output" or self.network.calls.get(at.key) != 1 or self.composite is not None:
            return None
        if self.output is not None and (self.output.part != "output" or self.output.call != -1):
            return None
        wanted = self.left_out() + ([] if self.output is None else [self.output.layer(self.model)])
        rest = rest_after(self.model, at.place)
        return rest if rest is not None and rest.holds(wanted) else None

    def units(self, batch) -> int:
        """Returns the number of output units; a model without a graph is run on one sample."""
        known = self.network.known_units()
        return known if known is not None else self.memory.once("units", lambda: self._count_units(batch))

    def _count_units(self, batch):
        outputs, _ = self.network.outputs(batch.layout, [ops.convert_to_tensor(array[:1]) for array in batch.arrays])
        return self.network.units(outputs).shape[-1]

    def survey(self, batch):
        """Returns what is known of the model's layers, a `vis.engine.survey.Survey`, made once."""
        self.memory.once("surveyed", lambda: _shapes(batch))
        return self.memory.once("survey", lambda: survey(self.model, self.network, batch))

    def check_site(self, batch):
        """Raises unless the site has a row for each sample."""
        known = self.survey(batch)
        for one in known.seen if self.site is not None else []:
            if one.place == self.site.place and not one.keeps_rows:
                raise ValueError(mixed_rows(self.site.layer(self.model), one.shape, known.rows))

    def _check_goal(self, batch, goal):
        """Raises unless what is explained of a sample is the same whatever the other samples are."""
        self.check_site(batch)
        known, example = self.survey(batch), None
        if not goal.formula.of_units:
            if known.runs and self.memory.get("surveyed") != _shapes(batch):  # outputs of texts of another length
                known = dataclasses.replace(known, runs=None)
            example = known.runs[0] if known.runs else self._example(batch, goal)
            if example is not None:
                goal.check(example)
                self._check_padding(batch, goal, getattr(example, "shape", ()))
            if goal.looks_at_values:
                self.memory.once("looked", lambda: goal.look(self._first_outputs(batch)), goal.formula)
        if not self.memory.once("keeps rows", lambda: keeps_rows(known, goal, example), goal.formula):
            raise ValueError(_mixed_samples(self._words_output() if goal.formula.of_units else "`target`"))

    def _check_padding(self, batch, goal, shape):
        """Raises where a target with positions asks for one that is padding, as far as the inputs tell."""
        for index in {one.index for one in self.lookups(batch)}:
            kept = self.kept_tokens(batch, index)
            if kept is not None and len(shape) == 3 and kept.shape[1:] == shape[1:2]:
                goal.check_padding(kept)

    def _first_outputs(self, batch):
        """Returns the model's outputs for the first sample."""
        few = batch.rows(np.zeros(batch.layout.fixed_size or 1, int))
        return self.network.outputs(batch.layout, list(map(ops.convert_to_tensor, few)))[0]

    def _example(self, batch, goal):
        """Returns random numbers like the outputs for these inputs, as far as their shapes are known or needed."""

        def make():
            known = self._example_outputs()
            if known is not None or not goal.looks_at_outputs:
                return known
            return _random_like(self._first_outputs(batch))

        return self.memory.once("example", make, (_shapes(batch), goal.looks_at_outputs))

    def _example_outputs(self):
        """Returns random numbers in the structure of the output, or `None` where its shape is unknown."""
        is_functional = isinstance(self.model, keras.Function) and not isinstance(self.model, keras.Sequential)
        try:
            if self.output is not None:
                structure = layer_output(self.output.layer(self.model))
            else:
                structure = self.model.output if is_functional else layer_output(self.model)
        except ValueError:  # it was never called on a symbolic input
            return None
        is_known = all(None not in tensor.shape[1:] for tensor in tree.flatten(structure))
        return _random_like(structure) if is_known else None

    def left_out(self) -> list:
        """Returns the operations whose softmax or sigmoid is left out: those that end what is explained.

        Of a model whose order is not known, its layers that apply one after their own work.
        """
        if not self._logits:
            return []
        explained = self.output.layer(self.model) if self.output is not None else self.model
        if explained is not self.model or has_graph(explained):
            return probability_makers(explained)
        return [op for _, op in operations(explained) if has_own_activation(op) and activates_to_probabilities(op)]

    def _words_output(self):
        output = self.output
        return f"layer {output.layer(self.model).name!r}" if output else f"the output of model {self.model.name!r}"

    def is_first_time(self, what) -> bool:
        """Tells whether something is to be said for the first time, and notes that it is."""
        is_first = what not in self._told
        self._told.add(what)
        return is_first

    def tell(self, results):
        """Says once what an evaluation showed: that probabilities are explained, or that layers run several times."""
        if "probable" in results and np.all(results["probable"]) and self.is_first_time("probable"):
            warnings.warn(_words_probable(self._words_output()), VisualizationWarning, stacklevel=2)
        for name in self._named:
            at = self._sites[name]
            calls = self.network.calls.get(at.key, 1)
            if calls > 1 and self.is_first_time(name):
                words = _words_calls(at.layer(self.model).name, calls, at.call % calls)
                warnings.warn(words, VisualizationWarning, stacklevel=2)


def _shapes(batch):
    return tuple(array.shape[1:] for array in batch.arrays)


def _random_like(structure):
    """Returns random numbers for three samples in the structure of outputs."""
    draw = np.random.default_rng(0)
    arrays = [draw.random((3, *tensor.shape[1:]), "float32") for tensor in tree.flatten(structure)]
    return tree.pack_sequence_as(structure, arrays)


def _words_bytes(model):
    return (
        f"`inputs` are numbers from 0 to 255, as files hold pictures, and nothing in model {model!r} scales them. Do "
        "what was done in training: `keras.applications.<module>.preprocess_input(images)` for its models, such as "
        "`keras.applications.resnet50`, or `images / 255`. If it was trained on such numbers, all is well."
    )


def _words_fractions(model, layer):
    return (
        f"`inputs` lie between 0 and 1, and model {model!r} rescales them as if they were bytes, in layer {layer!r}: "
        "it sees images that are nearly black. Give the pixels from 0 to 255, as files hold them (`255 * images`; in "
        "the shell `--input-range 0 255`). If it was trained on such numbers, all is well."
    )


def _words_probable(what):
    return (
        f"What is explained, {what}, sums to 1 as after a softmax, but no softmax layer was found "
        "that could be left out: the probabilities themselves are explained. Let a layer make the softmax "
        "(`activation='softmax'`), or give `logits=False` if that is what you want."
    )


def _words_calls(layer, calls, call):
    return (
        f"Layer {layer!r} runs {calls} times in one call of the model; call {call} is meant, counted from 0. Give the "
        f"pair ({layer!r}, number of the call) to choose, and to say no more."
    )


def _mixed_samples(what):
    return (
        f"Samples must be explained one by one, but {what} mixes the samples of a batch, or is random: a sample's "
        "value changes with its neighbours. Give a `target` with a value of each sample by itself, such as "
        "`lambda outputs: keras.ops.diagonal(outputs['logits'])` for pairs; or explain what comes before a random "
        "layer, by `output_layer=`."
    )
