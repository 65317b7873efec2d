"""Look inside Keras models: attribution maps and activation maximisation on Keras 3."""

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # when the package runs, each is imported once it is asked for, see the end
    from vis.metrics import evaluate
    from vis.training import ExplanationLogger
    from vis.visualization import (
        HSIC,
        LIME,
        LRP,
        RISE,
        XRAI,
        AblationCAM,
        AttentionRelevance,
        AttentionRollout,
        Background,
        BlurIntegratedGradients,
        DeepLIFT,
        EigenCAM,
        ExpectedGradients,
        FeatureVisualization,
        FullGrad,
        GradCAM,
        GradCAMPlusPlus,
        GradientTimesInput,
        GuidedGradCAM,
        GuidedIntegratedGradients,
        HiResCAM,
        IntegratedGradients,
        KernelSHAP,
        LayerCAM,
        Occlusion,
        Saliency,
        ScoreCAM,
        ShapleyValues,
        SmoothGrad,
        Sobol,
        XGradCAM,
        attention_gradients,
        attention_maps,
        attribute_tokens,
        heatmap,
        overlay,
        visualize_activation,
        visualize_activation_with_losses,
        visualize_cam,
        visualize_cam_with_losses,
        visualize_saliency,
        visualize_saliency_with_losses,
    )

__version__ = "1.0.0rc1"

__all__ = [
    "AblationCAM",
    "AttentionRelevance",
    "AttentionRollout",
    "Background",
    "BlurIntegratedGradients",
    "DeepLIFT",
    "EigenCAM",
    "ExpectedGradients",
    "ExplanationLogger",
    "FeatureVisualization",
    "FullGrad",
    "GradCAM",
    "GradCAMPlusPlus",
    "GradientTimesInput",
    "GuidedGradCAM",
    "GuidedIntegratedGradients",
    "HSIC",
    "HiResCAM",
    "IntegratedGradients",
    "KernelSHAP",
    "LIME",
    "LRP",
    "LayerCAM",
    "Occlusion",
    "RISE",
    "Saliency",
    "ScoreCAM",
    "ShapleyValues",
    "SmoothGrad",
    "Sobol",
    "XGradCAM",
    "XRAI",
    "attention_gradients",
    "attention_maps",
    "attribute_tokens",
    "evaluate",
    "heatmap",
    "overlay",
    "visualize_activation",
    "visualize_activation_with_losses",
    "visualize_cam",
    "visualize_cam_with_losses",
    "visualize_saliency",
    "visualize_saliency_with_losses",
]

_HOMES = ("vis.visualization", "vis.training", "vis.metrics")  # the modules that the names above are taken from

if not TYPE_CHECKING:  # type checkers would take any name for one of the package

    def __getattr__(name):
        """Imports a name or a module of the package when it is first asked for: a framework takes seconds to load."""
        if name in __all__:
            importlib.import_module("vis.backend")  # first of all: it says which backends there are
            homes = map(importlib.import_module, _HOMES)
            globals()[name] = next(getattr(home, name) for home in homes if hasattr(home, name))
            return globals()[name]
        if name in _modules():
            return importlib.import_module(f"vis.{name}")
        raise AttributeError(f"module 'vis' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__, *_modules()})


def _modules():
    return [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
