"""What is asked of a model: small values, which also tell compiled functions apart."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable

from vis.engine.graph import find_layer, operations
from vis.utils.validation import is_integer, shown


@dataclasses.dataclass(frozen=True)
class Site:
    """One call of one layer of a model.

    Args:
        place: Where the layer is on the walk through the model: also valid in a copy.
        call: Which call, if the layer is shared. The last is -1.
        part: What is meant: the layer's `"output"`; what goes `"into activation"`, the layer's own, as in
            `Dense(8, activation="relu")`; or the `"weights"` of an attention inside of it. Of these, the call counts
            the times that they are made.
    """

    place: int
    call: int = -1
    part: str = "output"

    @property
    def key(self):
        """Tells apart the tensors of one call that may be meant."""
        return self.place, self.part

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
    if is_pair(layer):
        layer, call = layer
    own = [operation for _, operation in operations(model)]
    if not any(layer is one for one in own):
        layer = find_layer(model, layer)
    return Site(next(place for place, one in enumerate(own) if one is layer), int(call))


def is_pair(layer) -> bool:
    """Tells whether what the user gave for a layer says which call is meant."""
    return isinstance(layer, tuple) and len(layer) == 2 and is_integer(layer[1])


@dataclasses.dataclass(frozen=True)
class Change:
    """Another output of a site, made with data of the rows.

    Args:
        site: The site.
        function: `function(output, data, data_format) -> output`, such as `vis.engine.network.replaced`.
    """

    site: Site
    function: Callable


@dataclasses.dataclass(frozen=True)
class Request:
    """What is wanted of each row.

    Args:
        score: Whether the target's score is.
        inputs: Whether the score's gradient with respect to the inputs is.
        sites: Calls of layers whose outputs are; all are read in one pass.
        gradients: Whether the score's gradients with respect to these outputs are, too.
        change: What is done to the output of a site on the way, or `None`.
        summary: Function `(layer, output, gradient) -> tensor` of what is kept of each site, instead of the outputs
            and the gradients themselves; `None` to keep these. It must double when the gradient does. Sites that the
            score does not depend on have the gradient 0.
        together: How many rows that follow one another belong together, the last of which is the reference of the
            others: their number is a multiple of it. Default 1: none has a reference.
    """

    score: bool = True
    inputs: bool = False
    sites: tuple = ()
    gradients: bool = False
    change: Change | None = None
    summary: Callable | None = None
    together: int = 1

    def __post_init__(self):
        for one in self.sites:
            if not isinstance(one, Site):
                raise TypeError(
                    "A site is one call of a layer, made by `vis.engine.requests.site(model, layer)`. "
                    f"Received: {shown(one)}."
                )


SCORES = Request()
INPUT_GRADIENTS = Request(inputs=True)


def outputs_at(*sites) -> Request:
    """Asks for the outputs of layers; no target is needed."""
    return Request(score=False, sites=sites)


def gradients_at(*sites) -> Request:
    """Asks for the outputs of layers and for the score's gradients with respect to them."""
    return Request(sites=sites, gradients=True)


_together = contextvars.ContextVar("together", default=1)


@contextlib.contextmanager
def belonging(count):
    """Lets backward rules know how many rows belong together, see `Request`."""
    token = _together.set(count)
    try:
        yield
    finally:
        _together.reset(token)


def rows_together() -> int:
    """Returns how many rows that follow one another belong together; 1 where no row has a reference."""
    return _together.get()
