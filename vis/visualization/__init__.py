"""The explainers, and the visualize functions of keras-vis: saliency, Grad-CAM, activation maximisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vis import backend as _backend  # noqa: F401 - first of all: it says which backends there are
from vis.engine.masking import Background
from vis.methods.attention import AttentionRelevance, AttentionRollout, attention_gradients, attention_maps
from vis.methods.cam import (
    EigenCAM,
    GradCAM,
    GradCAMPlusPlus,
    GuidedGradCAM,
    HiResCAM,
    LayerCAM,
    XGradCAM,
)
from vis.methods.channel_cam import AblationCAM, ScoreCAM
from vis.methods.feature_visualization import FeatureVisualization
from vis.methods.full_gradients import FullGrad
from vis.methods.gradients import GradientTimesInput, Saliency
from vis.methods.integrated import IntegratedGradients
from vis.methods.language import attribute_tokens
from vis.methods.layer_outputs import activations
from vis.methods.lime import LIME
from vis.methods.occlusion import Occlusion
from vis.methods.paths import BlurIntegratedGradients, ExpectedGradients, GuidedIntegratedGradients
from vis.methods.regions import XRAI
from vis.methods.relevance import LRP, DeepLIFT
from vis.methods.rise import RISE
from vis.methods.sensitivity import HSIC, Sobol
from vis.methods.shapley import KernelSHAP, ShapleyValues
from vis.methods.smooth import SmoothGrad
from vis.utils.formats import channel_axis as _channel_axis
from vis.utils.heatmaps import heatmap
from vis.utils.images import overlay
from vis.utils.outputs import layer_output as _layer_output
from vis.visualization.activation_maximization import (
    visualize_activation,
    visualize_activation_with_losses,
)
from vis.visualization.class_activation import visualize_cam, visualize_cam_with_losses
from vis.visualization.saliency import visualize_saliency, visualize_saliency_with_losses

if TYPE_CHECKING:
    import keras

__all__ = [
    "AblationCAM",
    "AttentionRelevance",
    "AttentionRollout",
    "Background",
    "BlurIntegratedGradients",
    "DeepLIFT",
    "EigenCAM",
    "ExpectedGradients",
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
    "activations",
    "attention_gradients",
    "attention_maps",
    "attribute_tokens",
    "get_num_filters",
    "heatmap",
    "overlay",
    "visualize_activation",
    "visualize_activation_with_losses",
    "visualize_cam",
    "visualize_cam_with_losses",
    "visualize_saliency",
    "visualize_saliency_with_losses",
]


def get_num_filters(layer: keras.Layer) -> int:
    """Returns how many filters (channels, units) a layer has.

    Args:
        layer: A layer of a built model.

    Returns:
        The size of the output's channel axis; of its last axis for a dense layer.

    Raises:
        ValueError: The layer has no symbolic output.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
        >>> get_num_filters(model.layers[0])
        4
    """
    shape = tuple(_layer_output(layer).shape)
    return shape[_channel_axis(layer, len(shape))]
