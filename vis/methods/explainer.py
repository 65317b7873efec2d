"""The base class of the explainers: what a method needs of the engine, and what users call."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from keras import ops, tree

from vis.backprop_modifiers import composite, name_of
from vis.engine.evaluator import Evaluator
from vis.engine.goals import together
from vis.engine.graph import walk
from vis.engine.inputs import read_inputs
from vis.engine.records import Record
from vis.engine.runs import run_of
from vis.engine.streams import batches, check_dataset, check_ends, class_indices, split
from vis.targets import Target
from vis.utils.validation import check_count, check_flag, shown

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

    import keras

    from vis.engine.requests import Site
    from vis.engine.tasks import Task
    from vis.utils.types import Dataset, Index, Inputs, LayerLike, Maps, RuleLike, TargetLike, Tensor


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
    finds_tokens = False  # whether the site layer may be asked for as "tokens"
    # Whether `explain` also takes a task of several targets, which share a call of the model, and gives maps
    # `(N, targets, ...)`. A subclass must say so anew: what it overrides may not.
    takes_several_targets = False

    def __init__(
        self,
        model: keras.Layer,
        output_layer: LayerLike | None = None,
        logits: bool = True,
        backprop_modifier: RuleLike | None = None,
        site_layer: LayerLike | None = None,
    ) -> None:
        self.evaluator = Evaluator(
            model,
            output_layer,
            check_flag("logits", logits),
            composite(backprop_modifier),
            site_layer,
            self.default_call,
            self.finds_tokens,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model.name!r})"

    @property
    def model(self) -> keras.Layer:
        """The model that is explained."""
        return self.evaluator.model

    @property
    def site(self) -> Site | None:
        """The layer that the method looks at, as a `vis.engine.requests.Site`, or `None`."""
        return self.evaluator.site

    def weak(self) -> Self:
        """Lets go of the model, for use in a cache that must not keep it alive; returns itself."""
        self.evaluator.weak()
        return self

    def __call__(self, inputs: Inputs, target: TargetLike = None, batch_size: int = 32, verbose: int = 0) -> Maps:
        """Explains a batch of inputs.

        Args:
            inputs: What the model takes, batch axis first: an array, or a list, tuple or dict
                of arrays. Finite numbers. Not changed.
            target: What is explained. `None`: for each sample the class with the highest score.
                An int: that class. N ints: one for each sample. N lists of ints: the sum of
                those classes. In place of an int, the name of one of the 1,000 ImageNet classes
                (`vis.utils.utils.lookup_imagenet_labels`), if the model has that many outputs.
                Or a target of `vis.targets`, or a function `f(outputs) -> (N,)` made of
                `keras.ops`, which gets the rows that are evaluated at once (keep one function: each new one
                is compiled; and give a new one where a value changes that it takes from around it). A single
                output unit is class 1, its negative class 0. For outputs with positions, the mean over the positions.
            batch_size: How many evaluations of the model run at once; bounds memory.
            verbose: 1 for a progress bar. Default 0.

        Returns:
            float32 array, see the class.

        Raises:
            ValueError: An argument has a wrong value; the message says how to fix it.
            TypeError: An argument is of the wrong kind, such as a data set (see `stream`).
            FloatingPointError: The model makes NaN or infinite values of finite inputs.

        Warns:
            VisualizationWarning: Once: the inputs are pictures of whole numbers up to 255, which the model's first
                layer takes as they are.
        """
        return self._finished(self.evaluator.task(inputs, target, batch_size, verbose))

    def _finished(self, task):
        """Computes the maps of a checked batch, and checks them."""
        maps = self.explain(task)
        _check_maps(self, maps, (task.count,))
        return check_finite(maps)

    def targets(self, inputs: Inputs, targets: Sequence[TargetLike], batch_size: int = 32, verbose: int = 0) -> Maps:
        """Explains several targets of the same inputs, such as the five highest classes of each image.

        The maps are those of a call for each target. Methods of gradients run the model once for all classes, and
        back for each: `Saliency`, `GradientTimesInput`, `LRP`, `SmoothGrad`, `IntegratedGradients`,
        `ExpectedGradients`, `BlurIntegratedGradients`, `GuidedGradCAM` and the class activation maps with gradients,
        which run no further back than to their layer. Other methods, and all where a target is a function or of
        `vis.targets`, run as a whole for each.

        Args:
            inputs: See `__call__`.
            targets: A list of targets; each is what `__call__` takes: a class for all samples, a class for each
                sample, a function.
            batch_size: How many evaluations of the model run at once. Memory grows with this and the number of
                targets. Default 32.
            verbose: 1 for a progress bar, or one for each target. Default 0.

        Returns:
            float32 array `(N, targets, ...)`: as of `__call__`, with an axis for the targets behind that of the
            samples; in the structure of the inputs, such arrays.

        Raises:
            ValueError: An argument has a wrong value, or `targets` is empty.
            TypeError: An argument is of the wrong kind.
            FloatingPointError: See `__call__`.

        Examples:
            >>> import keras
            >>> import vis
            >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
            >>> model.set_weights([np.array([[1, 2, 3], [4, 5, 6.0]]), np.zeros(3)])
            >>> vis.Saliency(model).targets(np.ones((1, 2)), [0, 2]).tolist()
            [[[1.0, 4.0], [3.0, 6.0]]]
        """
        first, *others = _listed(targets)
        task = self.evaluator.task(inputs, first, batch_size, verbose)
        goals = [task.goal, *(self.evaluator.goal(task.batch, target) for target in others)]
        maps = self._explain_several(task, goals)
        _check_maps(self, maps, (task.count, len(goals)))
        return check_finite(maps)

    def _explain_several(self, task, goals):
        """Returns the maps of several goals."""
        goal = together(goals) if "takes_several_targets" in vars(type(self)) else None
        if goal is not None and self.takes_several_targets:
            return self.explain(dataclasses.replace(task, goal=goal))
        maps = [self.explain(dataclasses.replace(task, goal=goal)) for goal in goals]
        return tree.map_structure(lambda *parts: np.stack(parts, axis=1), *maps)

    @overload
    def stream(
        self,
        dataset: Dataset,
        target: Index | str | Callable[..., Tensor] | None = None,
        batch_size: int = 32,
        verbose: int = 0,
        prefetch: int = 2,
        into: None = None,
    ) -> Iterator[Maps]: ...

    @overload
    def stream(
        self,
        dataset: Dataset,
        target: Index | str | Callable[..., Tensor] | None = None,
        batch_size: int = 32,
        verbose: int = 0,
        prefetch: int = 2,
        *,
        into: str | os.PathLike[str],
    ) -> np.ndarray: ...

    def stream(
        self,
        dataset: Dataset,
        target: Index | str | Callable[..., Tensor] | None = None,
        batch_size: int = 32,
        verbose: int = 0,
        prefetch: int = 2,
        into: str | os.PathLike[str] | None = None,
    ) -> Iterator[Maps] | np.ndarray:
        """Explains a data set batch by batch, in constant memory; the next batches are read meanwhile.

        With `into`, the maps go into a file as they come, beside a journal, `<into>.journal`, of what is done. If the
        process ends, for whatever reason, **call again with the same arguments**: what is there is kept, and only the
        rest is explained. Each batch has a checksum, so that what did not reach the disk whole is made again. The data
        set must give the same batches again, in the same order; each that is read is compared. A `PyDataset` is asked
        for the first and the last finished batch only, any other data set is read from its beginning.

        Args:
            dataset: A `tf.data.Dataset`, a `keras.utils.PyDataset`, a PyTorch `DataLoader`, or any
                iterable of batches. A batch is the inputs, or a tuple whose first item is the
                inputs. Weights are not used.
            target: `None`, an int, a name or a function, see `__call__`; or `"labels"`: the second item of each batch,
                class indices `(N,)` or one-hot rows `(N, classes)`.
            batch_size: How many evaluations of the model run at once. Default 32.
            verbose: 1 for a progress bar. Default 0.
            prefetch: How many batches are read ahead, in a thread of its own; each takes memory. The thread reads the
                data set and calls no model. It ends with the stream; where the stream is left early, up to so many
                batches of an iterator have been read and are lost. Default 2; 0: batches are read when they are asked
                for, in the thread that asks, as a data set needs that draws from a seed of Keras.
            into: A path that ends in `.npy`; or in `.zarr`, which needs Zarr (`pip install "zarr>=3"`). The folder
                must be there. For explainers that return one array, with maps of one shape. Default `None`.

        Yields:
            The maps of each batch, as `__call__` returns them. With `into` nothing is yielded: when all are written,
            the call returns the maps `(N, ...)` of the whole data set, a float32 memory map that is opened read-only
            (for `.zarr` a Zarr array). `numpy.load(into, mmap_mode="r")` gives the same, during the run those that are
            finished.

        Raises:
            ValueError: A batch is wrong; the message names it. What was yielded or written stays valid. Or the data set
                has no end, which a file cannot hold. Or `into`
                holds the maps of another run: of other weights, settings, target, backend, or batches. The message
                names what differs.
            TypeError: `dataset` cannot be read in batches, or `target` is of another kind.
            OSError: `into` cannot be written, as the disk is full, say. What is finished is kept.
            ImportError: `into` ends in `.zarr`, and Zarr is not installed.

        Examples:
            >>> import keras, os, tempfile, vis
            >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
            >>> batches = [(np.ones((2, 4)), [0, 1]), (np.zeros((1, 4)), [2])]
            >>> [maps.shape for maps in vis.Saliency(model).stream(batches, target="labels")]
            [(2, 4), (1, 4)]
            >>> path = os.path.join(tempfile.mkdtemp(), "maps.npy")
            >>> vis.Saliency(model).stream(batches, into=path).shape
            (3, 4)
        """
        check_count("batch_size", batch_size, 1)
        check_dataset(dataset)
        prefetch = check_count("prefetch", prefetch)
        check_target_of_many(target)
        read = _BatchReader(self.model, self._units, target)
        explain = _BatchExplainer(self, batch_size)
        if into is None:
            return batches(dataset, lambda _, item: explain(*read(item)), verbose, prefetch)
        check_ends(dataset)
        if not self.model.built:
            raise ValueError(
                f"`into` needs a model that has weights. Received: model {self.model.name!r}, which has never been "
                "called. Call it on a batch first: `model(inputs)`."
            )
        return Record(into, run_of(self, target)).write(dataset, read.with_arrays, explain, verbose, prefetch)

    def _units(self):
        """Returns the number of output units, or `None` where it is not known beforehand."""
        return self.evaluator.network.known_units() if self.model.built else None

    def rules(self, inputs: Inputs) -> list[tuple[str, str, str]]:
        """Tells which backward rule each operation of the model gets.

        Args:
            inputs: What the model takes; one sample of it is run.

        Returns:
            A list, printed as a table, of `(path, part, name of the rule)`; the part is `"call"`, or `"activation"`
            where a layer applies an activation of its own. Operations that keep their own gradient are not in it; but
            with rules of relevance, those whose own gradient does not pass it on rightly are, as `"none"`. Of a batch
            normalisation that belongs to a linear layer, the rule's name is followed by `" with "` and that layer's.
        """
        batch = self.evaluator.ready(read_inputs(self.model, inputs))
        rules = self.evaluator.composite
        if rules is None:
            return RuleTable()
        if not rules.relevance:
            return RuleTable((path, kind, name_of(own)) for path, _, kind, own in rules.places(self.model))
        ran = self._ran(batch)
        paths = {id(self.model): self.model.name, **{id(operation): path for path, operation in walk(self.model)}}
        shown_ones = [one for one in ran if one[1] != "code"]
        found = [(paths[id(op)], kind, _word_of(rule, host)) for op, kind, rule, host in shown_ones]
        return RuleTable([*dict.fromkeys(found), *((path, "call", "none") for path, _ in self._gaps(ran))])

    def _ran(self, batch):
        """Returns `(operation, kind, rule, host)` of the operations that one sample runs with a rule."""
        return self.evaluator.network.rules(batch.layout, [ops.convert_to_tensor(array[:1]) for array in batch.arrays])

    def _gaps(self, ran):
        """Returns what has no rule and does not pass relevance on, without what belongs to a linear layer."""
        passed = {id(operation) for operation, kind, _, host in ran if host is not None or kind == "code"}
        passed |= {id(operation) for operation in self.evaluator.left_out()}
        return [(path, op) for path, op in self.evaluator.composite.gaps(self.model) if id(op) not in passed]

    def _gaps_in_code(self, ran):
        """Returns words for what in the code of layers has no rule and does not pass relevance on, or is not read."""
        paths = {id(self.model): self.model.name, **{id(operation): path for path, operation in walk(self.model)}}
        found = [(paths[id(op)], kind) for op, kind, rule, _ in ran if rule is None and kind not in ("code", "call")]
        return [f"{path!r} ({kind})" for path, kind in dict.fromkeys(found)]

    def explain(self, task: Task) -> Maps:
        """Computes the maps of a checked batch; this is the method.

        Args:
            task: A `vis.engine.tasks.Task`.

        Returns:
            What `__call__` returns.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `explain(task)`.")


class RuleTable(list):
    """A list of `(path, part, name of the rule)`, printed as a table."""

    def __str__(self) -> str:
        widths = [max([len(row[i]) for row in self], default=0) for i in (0, 1)]
        return "\n".join(f"{path:<{widths[0]}}  {part:<{widths[1]}}  {name}" for path, part, name in self)


class _BatchExplainer:
    """Returns the maps of the batches of a data set, one after the other.

    Args:
        explainer: The explainer.
        batch_size: How many evaluations of the model run at once.

    Attributes:
        usual: How many samples the largest batch has had so far.
    """

    def __init__(self, explainer, batch_size):
        self._explainer, self._batch_size, self.usual = explainer, batch_size, 0

    def __call__(self, inputs, target):
        task = self._explainer.evaluator.task(inputs, target, self._batch_size)
        self.usual = max(self.usual, task.count)
        return self._explainer._finished(dataclasses.replace(task, usual=self.usual))


class _BatchReader:
    """Returns the inputs and the target out of a batch of a data set.

    Args:
        model: The model.
        known_units: Function that returns the number of output units, or `None`.
        target: The target, as `stream` takes it.
    """

    def __init__(self, model, known_units, target):
        self._model, self._known_units, self._target = model, known_units, target
        self._count = len(getattr(model, "inputs", None) or [0])
        self._takes_labels = isinstance(target, str) and target == "labels"

    def __call__(self, item):
        inputs, labels = split(item, self._count)
        return inputs, class_indices(labels, self._known_units()) if self._takes_labels else self._target

    def with_arrays(self, item):
        """Returns `((inputs, target), arrays)`: with what the maps are of, as arrays."""
        inputs, target = self(item)
        arrays = read_inputs(self._model, inputs).arrays
        return (inputs, target), [*arrays, target] if self._takes_labels else arrays


def _word_of(rule, host):
    name = "none" if rule is None else name_of(rule)
    return name if host is None else f"{name} with {host.name}"


def _listed(targets):
    """Returns the user's list of targets."""
    if isinstance(targets, (str, dict)) or not (hasattr(targets, "__iter__") and hasattr(targets, "__len__")):
        raise TypeError(
            "`targets` must be a list of targets, each as `target` of a call. Received: "
            f"{shown(targets)} ({type(targets).__name__}). For one target, call the explainer itself."
        )
    if not len(targets):
        raise ValueError("`targets` must hold at least one target. Received: an empty list.")
    return list(targets)


def _check_maps(explainer, maps, shape):
    """Raises unless a method returned float32 arrays with a row for each sample."""
    for array in tree.flatten(maps):
        if not isinstance(array, np.ndarray) or array.dtype != "float32" or array.shape[: len(shape)] != shape:
            of_targets = f" and, behind them, {shape[1]} targets" if len(shape) > 1 else ""
            raise TypeError(
                f"`explain` of {type(explainer).__name__} must return float32 arrays of NumPy with a row for each of "
                f"{shape[0]} samples{of_targets}. Received: {type(array).__name__} of shape {np.shape(array)}, "
                f"{getattr(array, 'dtype', 'no dtype')}."
            )


def check_target_of_many(target: Any) -> None:
    """Raises `TypeError` unless a target can be that of any batch of a data set."""
    if not (target is None or callable(target) or (np.ndim(target) == 0 and not isinstance(target, Target))):
        raise TypeError(
            '`target` of a data set must be None, one class index, "labels" (of a stream) or a function of the '
            f"outputs. Received: {shown(target)}. For a class of its own for each sample, let a stream's data set give "
            "labels."
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
