"""From a layer on: scores and gradients at outputs of a layer that were kept.

Where the graph allows it, only the rest of the network runs on them. Anywhere else the whole network does, with these
outputs in the place of the layer's own: the numbers are the same.
"""

import dataclasses

from vis.engine.inputs import plain_batch
from vis.engine.network import replaced
from vis.engine.requests import Change, Request, outputs_at
from vis.utils.formats import data_format


class Onward:
    """A network from one of its layers on, for some samples and a target.

    An automatic target is settled for the samples as they are.

    Args:
        task: The samples and the target, a `vis.engine.tasks.Task`.
        site: The call of the layer, a `vis.engine.requests.Site`.
        outputs: What the layer puts out for the samples, `(N, ...)`, if it is known. Default `None`: it is evaluated.

    Attributes:
        outputs: What the layer puts out, float32 `(N, ...)`.
        rest: What is run, a `vis.engine.rest.Rest`; `None` where it is the whole network.
    """

    def __init__(self, task, site, outputs=None):
        if outputs is None or site.key not in task.evaluator.network.calls:
            (outputs,) = task.map(outputs_at(site), quiet=True)["activations"]
        self.outputs, self.site = outputs, site
        self.rest = task.evaluator.rest(site)
        if self.rest is not None:
            rest = dataclasses.replace(self.rest, fixed_size=task.batch.layout.fixed_size)
            batch = plain_batch(outputs, data_format(site.layer(task.evaluator.model)))
            task = dataclasses.replace(task, batch=dataclasses.replace(batch, layout=rest), known_scores=None)
        self._task = task.settled()

    @property
    def is_affine(self) -> bool:
        """Tells whether the score is known to be a sum of the layer's outputs times constants, and a constant."""
        evaluator, of_units = self._task.evaluator, self._task.goal.formula.of_units
        return of_units and self.rest is not None and self.rest.is_affine(evaluator.left_out())

    def scores(self):
        """Returns the scores `(N,)` of the layer's outputs as they are."""
        return self._task.scores()

    def scores_of(self, samples, values):
        """Returns the scores `(N, samples)` of other outputs of the layer.

        Args:
            samples: How many there are for each sample.
            values: Function `(images, numbers) -> array` that makes rows of them: `images` are indices of samples,
                `numbers` count each one's rows.
        """
        change = None if self.rest is not None else Change(self.site, replaced)
        return self._task.scores_of(Request(change=change), samples, **self._given(values))

    def gradients(self, samples=1, values=None):
        """Yields `(images, numbers, scores, gradients)` for chunks of rows.

        Args:
            samples: How many rows there are for each sample.
            values: See `scores_of`. Default `None`: the outputs as they are.
        """
        task, request, how = self.asked(values or (lambda images, numbers: self.outputs[images]))
        for images, numbers, found in task.rows(request, samples, **how):
            (gradients,) = gradients_of(found)
            yield images, numbers, found["score"], gradients

    def asked(self, values):
        """Returns what asks for gradients: a task, the request, and further arguments of `rows` or `reduce` of it.

        The results hold the gradients as `gradients_of` finds them.

        Args:
            values: See `scores_of`.
        """
        request = Request(inputs=True)
        if self.rest is None:
            request = Request(sites=(self.site,), gradients=True, change=Change(self.site, replaced))
        return self._task, request, self._given(values)

    def _given(self, values):
        """Returns what makes the rows, for `vis.engine.tasks.Task.rows`."""
        return {"data" if self.rest is None else "inputs": lambda images, numbers: [values(images, numbers)]}


def gradients_of(results) -> list:
    """Returns the gradients at a layer, a list of one array: the layer is where the rest begins, or on the way."""
    return results["gradients"] if "gradients" in results else results["input_gradients"]
