"""The engine of the explainers: batches of rows through compiled functions of a network.

A row is one evaluation: one sample, or one noisy, interpolated or masked version of it.
Rows do not depend on one another, so they are cut into chunks of any size, the last one is
filled up, and memory is bounded by the chunk. A method says which rows it wants and what it
makes of the results; it knows nothing of models, devices or compilation.
"""

from __future__ import annotations

import dataclasses
import warnings
import weakref
from typing import TYPE_CHECKING, Any, Self

import keras
import numpy as np
from keras import ops, tree

from vis import backend
from vis.backprop_modifiers import composite
from vis.engine.goals import Units, read_goal
from vis.engine.graph import fingerprint, same
from vis.engine.inputs import read_inputs
from vis.engine.network import Network, mixed_rows, site
from vis.engine.streams import batches
from vis.engine.survey import keeps_rows, survey
from vis.targets import Target
from vis.utils.contexts import ProcessLock
from vis.utils.outputs import layer_output
from vis.utils.validation import VisualizationWarning, check_count, check_flag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from vis.engine.goals import Custom
    from vis.engine.inputs import Batch, Layout
    from vis.engine.network import Site
    from vis.engine.survey import Survey
    from vis.utils.types import Dataset, Index, Inputs, LayerLike, Maps, RuleLike, TargetLike, Tensor

_COMPILED_PER_EXPLAINER = 16


class Explainer:
    """Base class of all explainers: subclass it and write `explain` to add a method.

    Several threads may explain one model. On PyTorch none may train it meanwhile: explain between the training
    steps, or explain a copy.

    Args:
        model: Any built or callable Keras model. Not changed.
        output_layer: Layer whose units are explained: name, path, index, layer object, or a
            pair of one of these and the number of the call if the layer is shared. Default
            `None`: the model's output.
        logits: Whether a softmax or sigmoid at the end of what is explained is left out, so
            that the score before it is explained.
        backprop_modifier: `None`, `"guided"`, `"rectified"` (`"relu"`, `"deconv"`) or a rule, see
            `vis.backprop_modifiers.rule`.
        site_layer: Layer that the method looks at besides.

    Raises:
        TypeError: `model` is no Keras model.
        ValueError: There is no such layer or rule.
    """

    default_call = -1  # of a shared site layer: the last

    def __init__(
        self,
        model: keras.Layer,
        output_layer: LayerLike | None = None,
        logits: bool = True,
        backprop_modifier: RuleLike | None = None,
        site_layer: LayerLike | None = None,
    ) -> None:
        if not isinstance(model, keras.Layer):
            raise TypeError(f"`model` must be a Keras 3 model. Received: {model!r} ({type(model).__name__}).")
        self._model: keras.Layer | None = model
        self._logits = check_flag("logits", logits)
        self._rule = composite(backprop_modifier)
        self._layers = {"output": output_layer, "site": site_layer}
        self._named = [name for name, layer in self._layers.items() if layer is not None and not _is_pair(layer)]
        self._sites: Any = None
        self._start()
        if model.built:
            self._locate()

    def _start(self):
        self._reference = weakref.ref(self._model)
        self.network = None
        self._compiled, self.memory, self._fingerprint = {}, {}, []
        self._lock = ProcessLock()
        self._told = set()

    def __getstate__(self) -> dict:
        own = ("_reference", "network", "_compiled", "memory", "_fingerprint", "_lock", "_told")
        return {**{k: v for k, v in vars(self).items() if k not in own}, "_model": self.model}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._start()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model.name!r})"

    @property
    def model(self) -> keras.Layer:
        """The model that is explained."""
        return self._reference()

    @property
    def site(self) -> Site | None:
        """The layer that the method looks at, as a `vis.engine.network.Site`, or `None`."""
        return self._sites["site"]

    def weak(self) -> Self:
        """Lets go of the model, for use in a cache that must not keep it alive; returns itself."""
        self._model = None
        return self

    def _locate(self):
        """Finds the layers; they are kept by their places, so that a copy finds its own."""
        calls = {"output": -1, "site": self.default_call}
        self._sites = {name: site(self.model, layer, calls[name]) for name, layer in self._layers.items()}
        self._layers = {}

    def __call__(self, inputs: Inputs, target: TargetLike = None, batch_size: int = 32, verbose: int = 0) -> Maps:
        """Explains a batch of inputs.

        Args:
            inputs: What the model takes, batch axis first: an array, or a list, tuple or dict
                of arrays. Finite numbers. Not changed.
            target: What is explained. `None`: for each sample the class with the highest score.
                An int: that class. N ints: one for each sample. N lists of ints: the sum of
                those classes. Or a target of `vis.targets`, or a function `f(outputs) -> (N,)` made of
                `keras.ops`, which gets the rows that are evaluated at once (keep one function: each new one
                is compiled). A single output unit is class 1, its negative class 0. For outputs with
                positions, the mean over the positions.
            batch_size: How many evaluations of the model run at once; bounds memory.
            verbose: 1 for a progress bar. Default 0.

        Returns:
            float32 array, see the class.

        Raises:
            ValueError: An argument has a wrong value; the message says how to mend it.
            TypeError: An argument is of the wrong kind.
            FloatingPointError: The model makes NaN or infinite values of finite inputs.
        """
        batch_size = check_count("batch_size", batch_size, 1)
        batch = read_inputs(self.model, inputs)
        self.ready(batch)
        goal = read_goal(target, batch.count, lambda: self.units(batch), self._words_output())
        self.check_rows(batch, goal)
        return check_finite(self.explain(Task(self, batch, goal, batch.layout.fixed_size or batch_size, verbose)))

    def stream(
        self,
        dataset: Dataset,
        target: Index | Callable[..., Tensor] | None = None,
        batch_size: int = 32,
        verbose: int = 0,
    ) -> Iterator[Maps]:
        """Explains a data set batch by batch, in constant memory.

        Args:
            dataset: A `tf.data.Dataset`, a `keras.utils.PyDataset`, a PyTorch `DataLoader`, or any
                iterable of batches. A batch is the inputs, or a tuple whose first item is the
                inputs (labels and weights are not used).
            target: `None`, an int or a function, see `__call__`.
            batch_size: How many evaluations of the model run at once. Default 32.
            verbose: 1 for a progress bar. Default 0.

        Yields:
            The maps of each batch, as `__call__` returns them.

        Raises:
            ValueError: A batch is wrong; the message names it. What was yielded stays valid.
            TypeError: `dataset` cannot be read in batches, or `target` is of another kind.
        """
        check_count("batch_size", batch_size, 1)
        if not (target is None or callable(target) or (np.ndim(target) == 0 and not isinstance(target, Target))):
            raise TypeError(
                "`target` of a stream must be None, one class index or a function of the outputs. "
                f"Received: {target!r:.80}. For a class of its own for each sample, call the explainer on each batch."
            )
        return batches(dataset, len(getattr(self.model, "inputs", None) or [0]), verbose, self._on(target, batch_size))

    def _on(self, target, batch_size):
        return lambda inputs: self(inputs, target, batch_size)

    def rules(self, inputs: Inputs) -> list[tuple[str, str, str]]:
        """Tells which backward rule each operation of the model gets.

        Args:
            inputs: What the model takes; needed where the model is not built yet.

        Returns:
            List of `(path, part, name of the rule)`; the part is `"call"`, or `"activation"` where a layer applies
            an activation of its own. Operations that keep their own gradient are not in it.
        """
        self.ready(read_inputs(self.model, inputs))
        found = [] if self._rule is None else self._rule.places(self.model)
        return [(path, kind, own.name) for path, _, kind, own in found]

    def explain(self, task: Task) -> Maps:
        """Computes the maps of a checked batch; this is the method.

        Args:
            task: A `Task`.

        Returns:
            What `__call__` returns.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `explain(task)`.")

    def adopt(self, task: Task) -> Task:
        """Makes another explainer's task its own."""
        self.ready(task.batch)
        return Task(self, task.batch, task.target, task.batch_size, task.verbose)

    def ready(self, batch: Batch) -> None:
        """Makes sure that the model is built, its layers found, and that what is compiled fits it."""
        with self._lock():
            if not self.model.built:
                self._build(batch)
            if self._sites is None:
                self._locate()
            current = fingerprint(self.model)
            if self.network is None or not same(self._fingerprint, current):
                self.network = Network(self.model, self._sites["output"], self._logits, self._rule)
                self._compiled, self.memory, self._fingerprint = {}, {}, current

    def _build(self, batch):
        batch.layout.build(self.model, [ops.convert_to_tensor(array[:1]) for array in batch.arrays])

    def units(self, batch: Batch) -> int:
        """Returns the number of output units; a model without a graph is run on one sample."""
        known = self.network.known_units()
        if known is not None:
            return known
        if "units" not in self.memory:
            first = [ops.convert_to_tensor(array[:1]) for array in batch.arrays]
            outputs, _ = self.network.outputs(batch.layout, first)
            self.memory["units"] = self.network.units(outputs).shape[-1]
        return self.memory["units"]

    def survey(self, batch: Batch) -> Survey:
        """Returns what is known of the model's layers, a `vis.engine.survey.Survey`, made once."""
        with self._lock():
            if "survey" not in self.memory:
                self.memory["survey"] = survey(self.model, self.network, batch)
            return self.memory["survey"]

    def check_rows(self, batch: Batch, target: Units | Custom) -> None:
        """Raises unless what is explained of a sample is the same whatever the other samples are."""
        known = self.survey(batch)
        self._check_site(known)
        if target.key is not None:
            if "example" not in self.memory:
                self.memory["example"] = known.runs[0] if known.runs else self._example_outputs()
            if self.memory["example"] is not None:
                target.check(self.memory["example"])
        checked = self.memory.setdefault("checked", {})
        if target.key in checked:
            return
        while len(checked) >= _COMPILED_PER_EXPLAINER:
            checked.pop(next(iter(checked)), None)
        if not keeps_rows(known, target, self.memory.get("example")):
            raise ValueError(_mixed_samples("`target`" if target.key else self._words_output()))
        checked[target.key] = True

    def _check_site(self, known):
        for one in known.seen if self.site is not None else []:
            if one.place == self.site.place and not one.keeps_rows:
                raise ValueError(mixed_rows(self.site.layer(self.model), one.shape, known.rows))

    def _example_outputs(self):
        """Returns random numbers in the structure of the output, or `None` where its shape is unknown."""
        output = self._sites["output"]
        is_functional = isinstance(self.model, keras.Function) and not isinstance(self.model, keras.Sequential)
        try:
            if output is not None:
                structure = layer_output(output.layer(self.model))
            else:
                structure = self.model.output if is_functional else layer_output(self.model)
        except ValueError:  # it was never called on a symbolic input
            return None
        shapes = [tuple(tensor.shape[1:]) for tensor in tree.flatten(structure)]
        if any(None in shape for shape in shapes):
            return None
        draw = np.random.default_rng(0)
        arrays = [draw.random((3, *shape), "float32") for shape in shapes]
        return tree.pack_sequence_as(structure, arrays)

    def _words_output(self):
        output = self._sites["output"]
        return f"layer {output.layer(self.model).name!r}" if output else f"the output of model {self.model.name!r}"

    def compiled(self, kind: str, target: Units | Custom | None, layout: Layout, at: Site | None = None) -> Callable:
        """Returns a method of `vis.engine.network.Network` compiled for these inputs, made once.

        Args:
            kind: Name of the method.
            target: The target, or `None` where the method takes none.
            layout: How the model is called.
            at: Site, or `None` where the method takes none.
        """
        key = (kind, target and (type(target), target.key), layout.key, at)
        with self._lock():
            if key not in self._compiled:
                while len(self._compiled) >= _COMPILED_PER_EXPLAINER:
                    self._compiled.pop(next(iter(self._compiled)))
                self._compiled[key] = backend.compile_rows(
                    self._function(kind, target, layout, at), self.model.variables
                )
            return self._compiled[key]

    def _function(self, kind, target, layout, at):
        method = getattr(self.network, kind)
        target = target if target is None else target.part(slice(0))  # its numbers are arguments

        def function(inputs, arguments, *extra):
            given = ([] if at is None else [at]) + list(extra) + ([] if target is None else [target])
            return method(*given, layout, inputs, *([] if target is None else [arguments]))

        return function

    def tell_if_probable(self, results: dict) -> None:
        """Says once that probabilities are explained, where their softmax could not be found."""
        if "probable" in self._told or not np.all(results.get("probable", False)):
            return
        self._told.add("probable")
        warnings.warn(
            f"What is explained, {self._words_output()}, sums to 1 as after a softmax, but no softmax layer was found "
            "that could be left out: the probabilities themselves are explained. Let a layer make the softmax "
            "(`activation='softmax'`), or give `logits=False` if that is what you want.",
            VisualizationWarning,
            stacklevel=2,
        )

    def tell_of_calls(self) -> None:
        """Says once of each layer that the user named without a call that there are several."""
        for name in self._named:
            at = self._sites[name]
            calls = self.network.calls.get(at, 1)
            if calls > 1 and name not in self._told:
                self._told.add(name)
                layer = at.layer(self.model).name
                warnings.warn(
                    f"Layer {layer!r} runs {calls} times in one call of the model; call {at.call % calls} is meant, "
                    f"counted from 0. Give the pair ({layer!r}, number of the call) to choose, and to say no more.",
                    VisualizationWarning,
                    stacklevel=2,
                )


def _is_pair(layer):
    return isinstance(layer, tuple) and len(layer) == 2


def _mixed_samples(what):
    return (
        f"Samples must be explained one by one, but {what} mixes the samples of a batch, or is random: a sample's "
        "value changes with its neighbours. Give a `target` with a value of each sample by itself, such as "
        "`lambda outputs: keras.ops.diagonal(outputs['logits'])` for pairs; or explain what comes before a random "
        "layer, by `output_layer=`."
    )


def check_finite(maps: Maps) -> Maps:
    """Returns arrays, or raises if they hold NaN or infinite values."""
    arrays = [array for array in tree.flatten(maps) if not np.isfinite([array.min(), array.max()]).all()]
    if arrays:
        bad = sum(int((~np.isfinite(array)).sum()) for array in arrays)
        raise FloatingPointError(
            f"The model makes {bad} values of the explanation NaN or infinite, for a finite input. Check the model's "
            "weights (`model.get_weights()`) and its layers for divisions and logarithms at 0."
        )
    return maps


def gathered(count: int, chunks: Iterable[tuple]) -> list[np.ndarray]:
    """Puts parts into whole arrays.

    Args:
        count: The number of samples.
        chunks: Pairs `(indices, [array, ...])` of some samples each.

    Returns:
        The arrays `(count, ...)`, float32.
    """
    whole: Any = None
    for indices, parts in chunks:
        if whole is None:
            whole = [np.empty((count, *part.shape[1:]), "float32") for part in parts]
        for array, part in zip(whole, parts):
            array[indices] = part
    return whole


class Task:
    """One call of an explainer: its checked inputs and target, and the way to evaluate them.

    Args:
        explainer: The explainer.
        batch: The inputs, a `vis.engine.inputs.Batch`.
        target: The target, a `vis.engine.goals.Units` or `Custom`.
        batch_size: Rows that are evaluated at once, at most.
        verbose: Whether a progress bar is shown.
    """

    def __init__(
        self, explainer: Explainer, batch: Batch, target: Units | Custom, batch_size: int, verbose: int = 0
    ) -> None:
        self.explainer, self.batch, self.target = explainer, batch, target
        self.batch_size, self.verbose = batch_size, verbose

    @property
    def count(self) -> int:
        """The number of samples."""
        return self.batch.count

    def rows(
        self,
        kind: str,
        samples: int = 1,
        inputs: Callable | None = None,
        extra: Callable | None = None,
        at: Site | None = None,
        quiet: bool = False,
    ) -> Iterator[tuple[np.ndarray, np.ndarray, dict]]:
        """Evaluates rows in chunks: `samples` for each sample of the batch.

        Args:
            kind: Method of `vis.engine.network.Network`: "scores", "gradients", "activations", ...
            samples: How many rows each sample of the batch has.
            inputs: Function `(images, numbers) -> [array, ...]` that makes the input rows;
                default: the samples themselves. `images` are indices into the batch, `numbers`
                count each one's rows.
            extra: Function of the same arguments that makes what else the method takes.
            at: Site, where the method takes one.
            quiet: Whether to show no progress.

        Yields:
            `(images, numbers, results)`, the results as a dict of arrays.
        """
        target = None if kind == "activations" else self.target
        function = self.explainer.compiled(kind, target, self.batch.layout, at)
        total = self.count * samples
        devices = backend.device_count(self.explainer.model.variables)
        size = self.batch.layout.fixed_size or _chunk_size(total, self.batch_size, devices)
        bar = keras.utils.Progbar(-(-total // size)) if self.verbose and not quiet else None
        for start in range(0, total, size):
            rows = np.minimum(np.arange(start, start + size), total - 1)  # the last chunk is filled up
            images, numbers = rows // samples, rows % samples
            given = self._plain_rows(images) if inputs is None else inputs(images, numbers)
            more = extra(images, numbers) if extra else ()
            kept = min(size, total - start)

            def evaluate(arguments, given=given, more=more, kept=kept):
                results = function(given, arguments, *more, once=total <= size)
                return tree.map_structure(lambda tensor: ops.convert_to_numpy(tensor)[:kept], results)

            results = evaluate([]) if target is None else self._in_range(evaluate, target.rows(images), size)
            self.explainer.tell_if_probable(results)
            self.explainer.tell_of_calls()
            yield images[:kept], numbers[:kept], results
            if bar is not None:
                bar.add(1)

    def _in_range(self, evaluate, arguments, size):
        """Evaluates; in half precision with the score so scaled that gradients neither vanish nor overflow."""
        network = self.explainer.network
        if not network.is_half:
            return evaluate(arguments)
        while True:
            scale = network.scale
            results = evaluate([*arguments, np.full(size, scale, "float32")])
            scaled = {name: results[name] for name in ("score", "gradients") if name in results}
            if scale == 1 or all(np.isfinite(array).all() for array in tree.flatten(scaled)):
                return {**results, **tree.map_structure(lambda array, scale=scale: array / np.float32(scale), scaled)}
            network.scale = max(scale / 2**4, 1.0)

    def _plain_rows(self, images):
        first, last = images[0], images[-1]
        if last - first == len(images) - 1:  # in a row: no copy is needed
            return self.batch.rows(slice(first, last + 1))
        return self.batch.rows(images)

    def by_sample(self, kind: str, samples: int, **how: Any) -> Iterator[tuple[int, np.ndarray, dict]]:
        """As `rows`, but each chunk is cut where another sample of the batch begins.

        Yields:
            `(image, numbers, results)`: the index of one sample, and its rows.
        """
        for images, numbers, results in self.rows(kind, samples, **how):
            cuts = [0, *(np.flatnonzero(np.diff(images)) + 1), len(images)]
            for low, high in zip(cuts, cuts[1:]):
                part = tree.map_structure(lambda array, low=low, high=high: array[low:high], results)
                yield images[low], numbers[low:high], part

    def groups(self, size: int | None = None) -> Iterator[tuple[np.ndarray, Task]]:
        """Yields `(indices, task)` for groups of at most `size` samples, by default `batch_size`."""
        size = size or self.batch_size
        for start in range(0, self.count, size):
            indices = np.arange(start, min(start + size, self.count))
            part = dataclasses.replace(self.batch, arrays=self.batch.rows(indices))
            target = self.target.part(indices)
            yield indices, Task(self.explainer, part, target, self.batch_size, self.verbose)

    def settle(self) -> np.ndarray:
        """Returns the scores `(N,)` of the samples; an automatic target is fixed to what it chose."""
        found = [results for _, _, results in self.rows("scores", quiet=True)]
        if isinstance(self.target, Units):
            self.target = Units(np.concatenate([results["chosen"] for results in found]))
        return np.concatenate([results["score"] for results in found])

    def settle_target(self) -> None:
        """Fixes an automatic target, at the cost of a forward pass if it is one."""
        if not self.target.is_settled:
            self.settle()


def _chunk_size(total, batch_size, devices):
    """Returns the cheapest size of chunks, at most `batch_size`.

    Rows that fill up the last chunk are paid for as well, and each chunk costs about one row more.
    """
    sizes = range(min(total, batch_size), max(batch_size // 2, 1) - 1, -1) if total > batch_size else [total]
    best = min(sizes, key=lambda size: -(-total // size) * (size + 1))
    return -(-best // devices) * devices
