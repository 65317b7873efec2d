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
    "shapley-values": "ShapleyValues",
    "kernel-shap": "KernelSHAP",
    "lime": "LIME",
    "sobol": "Sobol",
    "hsic": "HSIC",
}

# The metrics that need no more than a model and pictures, and the fills that have a name; those of `vis.metrics`.
METRICS = (
    "srg",
    "insertion",
    "deletion",
    "mu-fidelity",
    "infidelity",
    "road",
    "average-drop",
    "average-increase",
    "average-gain",
    "sparseness",
    "entropy",
    "max-sensitivity",
    "parameter-randomization",
    "completeness",
)
FILLS = ("mean", "blur", "road")
