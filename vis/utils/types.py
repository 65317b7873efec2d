"""The words that annotations are made of: what an argument may be given as, and what comes back.

For people and type checkers. Nothing is imported for them when the library runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import keras
    import numpy as np
    from numpy.typing import ArrayLike

    from vis.backprop_modifiers import Composite
    from vis.callbacks import OptimizerCallback
    from vis.losses import Loss
    from vis.targets import Contrast, Target

# A tensor of TensorFlow, JAX or PyTorch, or a symbolic one of Keras. These have no common type.
Tensor: TypeAlias = Any

# A shape, batch axis first: whole numbers, or `None` where any size fits.
Shape: TypeAlias = "tuple[Any, ...]"

# A whole number of Python or NumPy; one or several of them.
Index: TypeAlias = "int | np.integer"
Indices: TypeAlias = "Index | Sequence[Index] | np.ndarray"

# A layer as the user names it: its name or path, its index, or the layer itself.
LayerName: TypeAlias = "str | Index | keras.Layer"

# The same, or a pair of it and the number of the call, for a layer that is called several times.
LayerLike: TypeAlias = "LayerName | tuple[LayerName, int]"

# What a model takes: an array, or a list, tuple or dict of arrays. A list of lists of numbers is an array too.
Inputs: TypeAlias = "ArrayLike | Sequence[ArrayLike] | Mapping[str, ArrayLike]"

# What an explainer returns: a float32 array. Of a model with several inputs, some return what has the structure of
# these, a list or dict of arrays: that is what `Any` stands for.
Maps: TypeAlias = "np.ndarray | Any"

# What is explained, see `vis.methods.explainer.Explainer.__call__`. `None`: the class with the highest score.
Classes: TypeAlias = "Index | Sequence[Index] | Sequence[Sequence[Index]] | np.ndarray"
TargetLike: TypeAlias = "Classes | Target | Contrast | Callable[..., Tensor] | None"

# What gives batches of inputs, see `vis.methods.explainer.Explainer.stream`.
Dataset: TypeAlias = "Iterable[Any] | keras.utils.PyDataset"

# A gradient modifier of `vis.grad_modifiers`, or its name.
GradModifierLike: TypeAlias = "str | Callable[[Tensor], Tensor]"

# Losses and their weights; 0 or `None` leaves a loss out.
WeightedLosses: TypeAlias = "Sequence[tuple[Loss, float | None]]"

# What watches an optimisation: one callback or several.
Callbacks: TypeAlias = "OptimizerCallback | Sequence[OptimizerCallback]"


class BackwardRule(Protocol):
    """What gives an operation another gradient: a rule of `vis.backprop_modifiers`, or one of your own."""

    @property
    def name(self) -> str:
        """What it is called."""

    def surrogate(self, call: Callable, operation: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Returns `call(*args, **kwargs)`, with another gradient."""


# What `backprop_modifier=` takes, see `vis.backprop_modifiers.rule`.
RuleLike: TypeAlias = "str | BackwardRule | Composite | Callable[..., Any]"
