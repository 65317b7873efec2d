"""Which maps of digits say more than chance, and which know the network?

Every method on 100 test digits, measured by symmetric relevance gain (hidden pixels become black, or a blur), and the
sanity check of each: what is left of its map when the network's weights are made random, layer by layer from the input
on. Writes into `output/`: `measured.png`, `measured.md`, `measured.html` (ten digits of each method, the table and the
curves), and `know_the_network.png`. Some minutes on two cores; `--quick` takes seconds, and means nothing.
"""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from digits import parse_options, prepare

import vis

DIGITS, CHECKED = 100, 10  # measured, and checked with random weights


def explainers(model, quick=False):
    """Returns a dict from names to explainers of every kind."""
    found = {
        "Grad-CAM": vis.GradCAM(model),
        "integrated gradients": vis.IntegratedGradients(model),
        "LRP epsilon-plus": vis.LRP(model, "epsilon-plus"),
        "saliency": vis.Saliency(model),
        "guided backprop": vis.Saliency(model, "guided"),
        "SmoothGrad": vis.SmoothGrad(model, num_samples=25, seed=0),
        "gradient x input": vis.GradientTimesInput(model),
        "guided Grad-CAM": vis.GuidedGradCAM(model),
        "Grad-CAM++": vis.GradCAMPlusPlus(model),
        "Layer-CAM": vis.LayerCAM(model),
        "HiResCAM": vis.HiResCAM(model),
        "XGrad-CAM": vis.XGradCAM(model),
        "EigenCAM": vis.EigenCAM(model),
        "Ablation-CAM": vis.AblationCAM(model),
        "Score-CAM": vis.ScoreCAM(model),
        "occlusion": vis.Occlusion(model, patch=4, stride=2),
        "RISE": vis.RISE(model, num_masks=500, seed=0),
        "LRP epsilon": vis.LRP(model, "epsilon"),
        "LRP alpha2-beta1": vis.LRP(model, "alpha2-beta1"),
        "DeepLIFT": vis.DeepLIFT(model),
        "FullGrad": vis.FullGrad(model),
    }
    return dict(list(found.items())[:3]) if quick else found


def sanity_curves(found, images, target):
    """Returns a dict from names to the likeness of maps with those of the trained network, `(layers + 1,)`."""
    curves = {}
    for name, explainer in found.items():
        metric = vis.metrics.ParameterRandomization(explainer, seed=0)
        curves[name] = metric.curve(images, target=target).mean(axis=0)
        print(f"{name:22s} {np.round(curves[name][1:], 2)}", flush=True)
    return curves, metric.layers


def sanity_figure(curves, layers):
    """Returns a figure: methods down, layers across, the likeness as numbers and as grey."""
    names = sorted(curves, key=lambda name: curves[name][1:].mean())
    values = np.array([curves[name][1:] for name in names])
    figure, axis = plt.subplots(figsize=(2.6 + 1.05 * len(layers), 1.2 + 0.3 * len(names)), layout="constrained")
    axis.imshow(np.abs(values), cmap="Greys", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8, color="w" if abs(value) > 0.6 else "k")
    axis.set_yticks(range(len(names)), names, fontsize=9)
    axis.set_xticks(range(len(layers)), [f"up to\n{name}" for name in layers], fontsize=8)
    axis.set_title("Likeness to the map of the trained network,\nwith random weights from the input on", fontsize=9)
    return figure


def main(arguments=None):
    """Runs the example."""
    options = parse_options(__doc__.splitlines()[0], arguments)
    model, (images, labels) = prepare(options)
    count = 4 if options.quick else DIGITS
    images, labels = images[:count], labels[:count]
    found = explainers(model, options.quick)

    metrics = [vis.metrics.SRG(model, 0.0, steps=2)] if options.quick else ("srg",)
    evaluation = vis.evaluate(
        found, images, labels, metrics, [0.0, "blur"], baselines=2 if options.quick else 20, verbose=1
    )
    print(evaluation)
    options.output.mkdir(parents=True, exist_ok=True)
    evaluation.figure().savefig(options.output / "measured.png", dpi=110)
    (options.output / "measured.md").write_text(evaluation.to_markdown(), "utf-8")
    evaluation.to_html(options.output / "measured.html")

    curves, layers = sanity_curves(found, images[:CHECKED], labels[:CHECKED])
    figure = sanity_figure(curves, layers)
    figure.savefig(options.output / "know_the_network.png", dpi=110)
    plt.close(figure)
    print(f"wrote {options.output / 'measured.html'}")


if __name__ == "__main__":
    main()
