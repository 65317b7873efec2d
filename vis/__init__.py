"""Look inside Keras models: attribution maps and activation maximisation on Keras 3."""

from vis import backend
from vis.backprop_modifiers import modify_model_backprop
from vis.training import ExplanationLogger
from vis.visualization import (
    RISE,
    AblationCAM,
    EigenCAM,
    FeatureVisualization,
    GradCAM,
    GradCAMPlusPlus,
    GradientTimesInput,
    GuidedGradCAM,
    HiResCAM,
    IntegratedGradients,
    LayerCAM,
    Occlusion,
    Saliency,
    ScoreCAM,
    SmoothGrad,
    XGradCAM,
    heatmap,
    overlay,
    visualize_activation,
    visualize_activation_with_losses,
    visualize_cam,
    visualize_cam_with_losses,
    visualize_saliency,
    visualize_saliency_with_losses,
)

__version__ = "1.0.0.dev0"

# keras-vis had it in the backend, which is below the model surgery that it needs.
backend.modify_model_backprop = modify_model_backprop  # type: ignore[attr-defined]

__all__ = [
    "AblationCAM",
    "EigenCAM",
    "ExplanationLogger",
    "FeatureVisualization",
    "GradCAM",
    "GradCAMPlusPlus",
    "GradientTimesInput",
    "GuidedGradCAM",
    "HiResCAM",
    "IntegratedGradients",
    "LayerCAM",
    "Occlusion",
    "RISE",
    "Saliency",
    "ScoreCAM",
    "SmoothGrad",
    "XGradCAM",
    "heatmap",
    "overlay",
    "visualize_activation",
    "visualize_activation_with_losses",
    "visualize_cam",
    "visualize_cam_with_losses",
    "visualize_saliency",
    "visualize_saliency_with_losses",
]
