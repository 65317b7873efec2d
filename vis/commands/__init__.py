"""The commands of the command line, a module for each: `vis.__main__` reads the options and calls `run(options)`."""

# The methods by their names on the command line; the classes are those of `vis.visualization`, loaded when needed.
METHODS = {
    "saliency": "Saliency",
    "gradient-times-input": "GradientTimesInput",
    "smooth-grad": "SmoothGrad",
    "integrated-gradients": "IntegratedGradients",
    "blur-integrated-gradients": "BlurIntegratedGradients",
    "guided-integrated-gradients": "GuidedIntegratedGradients",
    "full-grad": "FullGrad",
    "xrai": "XRAI",
    "lrp": "LRP",
    "deep-lift": "DeepLIFT",
    "attention-relevance": "AttentionRelevance",
    "attention-rollout": "AttentionRollout",
    "grad-cam": "GradCAM",
    "grad-cam++": "GradCAMPlusPlus",
    "layer-cam": "LayerCAM",
    "hires-cam": "HiResCAM",
    "xgrad-cam": "XGradCAM",
    "eigen-cam": "EigenCAM",
    "guided-grad-cam": "GuidedGradCAM",
    "ablation-cam": "AblationCAM",
    "score-cam": "ScoreCAM",
    "occlusion": "Occlusion",
    "rise": "RISE",
}
