"""Tasks: checked inputs and a target, evaluated in chunks of rows.

A row is one evaluation: one sample, or one noisy, interpolated or masked version of it. Rows do not depend on one
another, so they are cut into chunks of any size, the last one is filled up, and memory is bounded by the chunk.
"""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from vis import backend
from vis.engine.goals import Units
from vis.engine.inputs import Batch
from vis.engine.requests import SCORES


@dataclasses.dataclass(eq=False, repr=False)
class Task:
    """One call of a method: its checked inputs and target, and the ways to evaluate them.

    Args:
        evaluator: The `vis.engine.evaluator.Evaluator`.
        batch: The inputs, a `vis.engine.inputs.Batch`.
        goal: The target, a `vis.engine.goals.Units` or `Custom`; `None` where no score is wanted.
        batch_size: Rows that are evaluated at once, at most.
        verbose: Whether a progress bar is shown.
        known_scores: The scores of the samples as they are, if they are known.
        usual: How many samples the largest batch of a stream has had so far, this one included; 0 where it is no
            stream. A smaller one is filled up to it, and even the first is compiled: no shape is compiled for the last
            batch alone, and all are rounded the same.
    """

    evaluator: Any  # whose module builds on this one
    batch: Batch
    goal: Any
    batch_size: int = 32
    verbose: int = 0
    known_scores: np.ndarray | None = None
    usual: int = 0

    @property
    def count(self) -> int:
        """The number of samples."""
        return self.batch.count

    def on(self, evaluator):
        """Returns the task for another evaluator of the same model."""
        evaluator.ready(self.batch)
        return dataclasses.replace(self, evaluator=evaluator, known_scores=None)

    def rows(self, request, samples=1, inputs=None, data=None, quiet=False):
        """Evaluates rows in chunks: `samples` for each sample of the batch.

        Args:
            request: What is wanted, a `vis.engine.requests.Request`.
            samples: How many rows each sample of the batch has.
            inputs: Function `(images, numbers) -> [array, ...]` that makes the input rows; default: the samples
                themselves. `images` are indices into the batch, `numbers` count each one's rows.
            data: Function of the same arguments that makes the data of `request.change`.
            quiet: Whether to show no progress.

        Yields:
            `(images, numbers, results)`, the results as `vis.engine.network.Network.evaluate` gives them, as arrays.
        """
        total = self.count * samples
        if total % request.together:
            raise ValueError(f"Rows must be a multiple of `together`. Received: {total} and {request.together}.")
        size = self._chunk_size(max(self.usual * samples, total), request.together)
        evaluate, chunks = self._evaluation(request, size), -(-total // size)
        bar = keras.utils.Progbar(chunks) if self.verbose and not quiet else None
        for start in range(0, total, size):
            rows = np.minimum(np.arange(start, start + size), total - 1)  # the last chunk is filled up
            images, numbers = rows // samples, rows % samples
            given = self._plain_rows(images) if inputs is None else inputs(images, numbers)
            more = data(images, numbers) if data else ()
            _check_rows("inputs", given, size)
            _check_rows("data", more, size)
            kept = min(size, total - start)
            coming = math.inf if self.usual else chunks - start // size
            results = evaluate(images, given, more, kept, coming)
            self.evaluator.tell(results)
            yield images[:kept], numbers[:kept], results
            if bar is not None:
                bar.add(1)

    def _chunk_size(self, total, together):
        fixed, devices = self.batch.layout.fixed_size, backend.device_count(self.evaluator.variables)
        if fixed and fixed % together:
            raise ValueError(
                f"The method evaluates {together} rows together, so the model's batch size must be a multiple of it. "
                f"Received: a model made for batches of {fixed}. Build it with `keras.Input(shape)`, without a size."
            )
        return fixed or _chunk_size(total, self.batch_size, devices * together)

    def _evaluation(self, request, size):
        formula = self.goal.formula if request.score else None
        function = self.evaluator.function(request, formula, self.batch.layout)

        def evaluate(images, inputs, data, kept, coming):
            def run(arguments):
                results = function(inputs, arguments, data, coming=coming)
                return tree.map_structure(lambda tensor: ops.convert_to_numpy(tensor)[:kept], results)

            return self._in_range(run, self.goal.rows(images), size) if request.score else run([])

        return evaluate

    def _in_range(self, run, arguments, size):
        """Evaluates; in half precision with the score so scaled that gradients neither vanish nor overflow."""
        network = self.evaluator.network
        if not network.is_half:
            return run(arguments)
        while True:
            scale = network.scale
            results = run([*arguments, np.full(size, scale, "float32")])
            names = [name for name in ("score", "gradients", "input_gradients", "summaries") if name in results]
            found = {name: results[name] for name in names}
            if scale == 1 or all(np.isfinite(array).all() for array in tree.flatten(found)):
                return {**results, **tree.map_structure(lambda array, scale=scale: array / np.float32(scale), found)}
            network.scale = max(scale / 2**4, 1.0)

    def _plain_rows(self, images):
        first, last = images[0], images[-1]
        if last - first == len(images) - 1:  # in a row: no copy is needed
            return self.batch.rows(slice(first, last + 1))
        return self.batch.rows(images)

    def by_sample(self, request, samples, **how):
        """As `rows`, but each chunk is cut where another sample of the batch begins.

        Yields:
            `(image, numbers, results)`: the index of one sample, and its rows.
        """
        for images, numbers, results in self.rows(request, samples, **how):
            cuts = [0, *(np.flatnonzero(np.diff(images)) + 1), len(images)]
            for low, high in zip(cuts, cuts[1:]):
                part = tree.map_structure(lambda array, low=low, high=high: array[low:high], results)
                yield images[low], numbers[low:high], part

    def map(self, request, quiet=False) -> dict:
        """Evaluates the samples as they are and keeps all results.

        Args:
            request: What is wanted.
            quiet: Whether to show no progress.

        Returns:
            The results, as arrays `(N, ...)`.
        """
        whole = None
        for images, _, results in self.rows(request, quiet=quiet):
            if whole is None:
                whole = tree.map_structure(lambda part: np.empty((self.count, *part.shape[1:]), part.dtype), results)
            for array, part in zip(tree.flatten(whole), tree.flatten(results)):
                array[images] = part
        return whole

    def scores_of(self, request, samples, **how) -> np.ndarray:
        """Evaluates rows and keeps their scores, `(N, samples)`; the arguments are those of `rows`.

        Scores of every unit are `(N, samples, units)`.
        """
        found = np.concatenate([results["score"] for _, _, results in self.rows(request, samples, **how)])
        return found.reshape(self.count, samples, *found.shape[1:])

    def reduce(self, request, samples, part, finish, **how) -> list:
        """Evaluates rows and adds them up, sample by sample, in double precision.

        Args:
            request: What is wanted.
            samples: How many rows each sample has.
            part: Function `(image, numbers, results) -> [array, ...]`: what some rows of a sample add to its totals.
            finish: Function `(image, totals) -> [array, ...]`: what becomes of a sample's totals.
            **how: As of `rows`.

        Returns:
            What `finish` gave, as float32 arrays `(N, ...)`.
        """

        def finished():
            totals = []
            for image, numbers, results in self.by_sample(request, samples, **how):
                parts = [np.asarray(array, "float64") for array in part(image, numbers, results)]
                totals = parts if numbers[0] == 0 else [total + more for total, more in zip(totals, parts)]
                if numbers[-1] == samples - 1:
                    yield [image], [np.asarray(array)[None] for array in finish(image, totals)]

        return gathered(self.count, finished())

    def groups(self, size=None):
        """Yields `(indices, task)` for groups of at most `size` samples, by default `batch_size`."""
        size = size or self.batch_size
        for start in range(0, self.count, size):
            indices = np.arange(start, min(start + size, self.count))
            yield indices, self.part(indices)

    def part(self, indices):
        """Returns the task for some of its samples."""
        batch = dataclasses.replace(self.batch, arrays=self.batch.rows(indices))
        known = None if self.known_scores is None else self.known_scores[indices]
        usual = min(self.usual, len(indices))
        return dataclasses.replace(self, batch=batch, goal=self.goal.part(indices), known_scores=known, usual=usual)

    def scores(self) -> np.ndarray:
        """Returns the scores `(N,)` of the samples as they are."""
        return self.map(SCORES, quiet=True)["score"] if self.known_scores is None else self.known_scores

    def settled(self):
        """Returns the task with an automatic target fixed to what it chooses for the samples as they are.

        This costs a forward pass if the target is automatic, and nothing otherwise.
        """
        if self.goal.is_settled:
            return self
        found = self.map(SCORES, quiet=True)
        return dataclasses.replace(self, goal=Units(found["chosen"]), known_scores=found["score"])


def _check_rows(name, arrays, size):
    shapes = [np.shape(array) for array in arrays] if isinstance(arrays, (list, tuple)) else type(arrays).__name__
    if isinstance(shapes, str) or any(shape[:1] != (size,) for shape in shapes):
        raise ValueError(
            f"`{name}` must return a list of arrays with a row for each of the {size} images that it is asked for. "
            f"Received: {shapes}."
        )


def gathered(count, chunks) -> list:
    """Puts parts into whole arrays.

    Args:
        count: The number of samples.
        chunks: Pairs `(indices, [array, ...])` of some samples each.

    Returns:
        The arrays `(count, ...)`, float32.
    """
    whole = None
    for indices, parts in chunks:
        if whole is None:
            whole = [np.empty((count, *part.shape[1:]), "float32") for part in parts]
        for array, part in zip(whole, parts):
            array[indices] = part
    return whole


def _chunk_size(total, batch_size, unit):
    """Returns the cheapest size of chunks, at most `batch_size` but for rounding up to a multiple of `unit`.

    Rows that fill up the last chunk are paid for as well, and each chunk costs about one row more.
    """
    sizes = range(min(total, batch_size), max(batch_size // 2, 1) - 1, -1) if total > batch_size else [total]
    best = min(sizes, key=lambda size: -(-total // size) * (size + 1))
    return -(-best // unit) * unit
