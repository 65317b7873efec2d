"""Backward rules: what happens to a gradient where it passes an operation.

A rule gives an operation a surrogate with the same value and another gradient; a composite says which operation gets
which rule. Both are data; `vis.engine.surrogates` installs them.
"""

from vis.backprop_modifiers.attention_rules import AttentionHalves, AttentionValues, ConstantDeviation
from vis.backprop_modifiers.composites import (
    DIFFERENCES,
    Composite,
    EpsilonGammaBox,
    composite,
    installed,
    name_of,
    places,
    require_gradient,
    rule,
)
from vis.backprop_modifiers.gradient_rules import REDIRECTED, Rule
from vis.backprop_modifiers.kinds import is_relu_like
from vis.backprop_modifiers.models import (
    deconv,
    get,
    guided,
    modify,
    modify_model_backprop,
    rectified,
    relu,
)
from vis.backprop_modifiers.relevance_rules import (
    AlphaBeta,
    Constant,
    Epsilon,
    Excitation,
    Flat,
    Gamma,
    Half,
    Identity,
    Numerator,
    WSquare,
    ZBox,
    ZPlus,
    floor,
    nonzero,
)

__all__ = [
    "DIFFERENCES",
    "REDIRECTED",
    "AlphaBeta",
    "AttentionHalves",
    "AttentionValues",
    "Composite",
    "Constant",
    "ConstantDeviation",
    "Epsilon",
    "EpsilonGammaBox",
    "Excitation",
    "Flat",
    "Gamma",
    "Half",
    "Identity",
    "Numerator",
    "Rule",
    "WSquare",
    "ZBox",
    "ZPlus",
    "composite",
    "deconv",
    "get",
    "guided",
    "floor",
    "installed",
    "is_relu_like",
    "modify",
    "modify_model_backprop",
    "name_of",
    "nonzero",
    "places",
    "rectified",
    "relu",
    "require_gradient",
    "rule",
]
