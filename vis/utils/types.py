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

Tensor: TypeAlias = Any
"""A tensor of TensorFlow, JAX or PyTorch, or a symbolic one of Keras. These have no common type."""

Shape: TypeAlias = "tuple[Any, ...]"
"""A shape, batch axis first: whole numbers, or `None` where any size fits."""

Index: TypeAlias = "int | np.integer"
"""A whole number of Python or NumPy."""

Indices: TypeAlias = "Index | Sequence[Index] | np.ndarray"
"""One whole number or several."""

LayerName: TypeAlias = "str | Index | keras.Layer"
"""A layer: its name, its path through nested models, its index, or the layer itself."""

LayerLike: TypeAlias = "LayerName | tuple[LayerName, int]"
"""The same, or a pair of it and the number of the call, for a layer that is called several times."""

Inputs: TypeAlias = "ArrayLike | Sequence[ArrayLike] | Mapping[str, ArrayLike]"
"""What a model takes: an array, or a list, tuple or dict of arrays."""

Maps: TypeAlias = "np.ndarray | Any"
"""What an explainer returns: a float32 array.

For a model with several inputs some explainers return a list or dict of arrays, as the inputs are. `Any` stands for it.
"""

Class: TypeAlias = "Index | str"
"""A class: its index, or the name of one of the 1,000 ImageNet classes."""

Classes: TypeAlias = "Class | Sequence[Class] | Sequence[Sequence[Class]] | np.ndarray"
"""A class, one for each sample, or for each sample several that are summed."""

TargetLike: TypeAlias = "Classes | Target | Contrast | Callable[..., Tensor] | None"
"""What is explained, see `vis.methods.explainer.Explainer.__call__`. `None`: the class with the highest score."""

Dataset: TypeAlias = "Iterable[Any] | keras.utils.PyDataset"
"""What gives batches of inputs, see `vis.methods.explainer.Explainer.stream`."""

GradModifierLike: TypeAlias = "str | Callable[[Tensor], Tensor]"
"""A gradient modifier of `vis.grad_modifiers`, or its name."""

WeightedLosses: TypeAlias = "Sequence[tuple[Loss, float | None]]"
"""Losses and their weights; 0 or `None` leaves a loss out."""

Callbacks: TypeAlias = "OptimizerCallback | Sequence[OptimizerCallback]"
"""What watches an optimisation: one callback or several."""


class BackwardRule(Protocol):
    """What gives an operation another gradient: a rule of `vis.backprop_modifiers`, or one of your own."""

    def surrogate(self, call: Callable, operation: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Returns `call(*args, **kwargs)`, with another gradient."""


RuleLike: TypeAlias = "str | BackwardRule | Composite | Callable[..., Any]"
"""What `backprop_modifier=` takes, see `vis.backprop_modifiers.rule`."""
