"""EfficientNet-Lite0 explained by others on PyTorch, for `explainers.py`: a process has one backend.

`python benchmarks/torch_beside.py epsilon` prints the milliseconds of Zennit's relevance of eight images, the median of
some calls; `ablation-cam` those of pytorch-grad-cam's Ablation-CAM of one image. They need PyTorch and `zennit==0.5.1`
or `grad-cam==1.5.7`, which are no part of what this project installs.
"""

import os
import pathlib
import statistics
import sys

os.environ["KERAS_BACKEND"] = "torch"

import numpy as np
import torch
from timing import time_calls
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "examples" / "imagenet"))
from network import DATA, STAGES, load_photos, preprocess

EPSILON = 1e-3  # of the batch normalisations


class Same(nn.Module):
    """Pads as TensorFlow does: of an odd number of rows, the one more at the end."""

    def __init__(self, size, stride):
        super().__init__()
        self.size, self.stride = size, stride

    def forward(self, x):
        """Returns the padded picture."""
        missing = max(self.size - (self.stride if x.shape[-1] % self.stride == 0 else x.shape[-1] % self.stride), 0)
        return nn.functional.pad(x, [missing // 2, missing - missing // 2] * 2)


class Sum(nn.Module):
    """Adds along the last axis: a module, so that there can be a rule for it."""

    def forward(self, x):
        """Returns the sums."""
        return x.sum(dim=-1)


class Added(nn.Sequential):
    """A block with a way around it."""

    def forward(self, x):
        """Returns the block's output and its input, added."""
        *parts, total = self
        y = x
        for part in parts:
            y = part(y)
        return total(torch.stack([y, x], dim=-1))


class Network(nn.Sequential):
    """EfficientNet-Lite0 of PyTorch's own modules, with the weights of the Keras model."""

    def __init__(self):
        with np.load(DATA / "efficientnet_lite0_imagenet_f16.npz") as arrays:
            self._arrays = {name: torch.tensor(array.astype("float32")) for name, array in arrays.items()}
        parts, number, channels = [*self._part("stem", "conv", "", 3, 2, True)], 0, 32
        for repeats, size, first, expansion, wanted in STAGES:
            for i in range(repeats):
                stride = 1 if i else first
                parts.append(self._block(f"block{number}", size, stride, expansion, stride == 1 and wanted == channels))
                number, channels = number + 1, wanted
        end = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
        kernel, end[-1].bias.data = self._arrays["predictions/kernel"], self._arrays["predictions/bias"]
        end[-1].weight.data = kernel.T.contiguous()
        super().__init__(*parts, *self._part("head", "conv", "", 1, 1, True), *end)
        self.eval()

    def _block(self, name, size, stride, expansion, is_added):
        parts = [] if expansion == 1 else self._part(name, "conv", "_expand", 1, 1, True)
        parts += self._part(name, "dw_conv", "_dw", size, stride, True)
        parts += self._part(name, "conv", "_project", 1, 1, False)
        return Added(*parts, Sum()) if is_added else nn.Sequential(*parts)

    def _part(self, name, kind, end, size, stride, activate):
        """Returns a padding, a convolution, a normalisation and an activation."""
        is_depthwise = kind == "dw_conv"
        stem = f"{name}_dw_conv" if is_depthwise else f"{name}{end}_conv"
        kernel = next(self._arrays[p] for p in (f"{stem}/kernel", f"{stem}/depthwise_kernel") if p in self._arrays)
        kernel = kernel.permute(2, 3, 0, 1) if is_depthwise else kernel.permute(3, 2, 0, 1)
        groups = kernel.shape[0] if is_depthwise else 1
        conv = nn.Conv2d(kernel.shape[1] * groups, kernel.shape[0], size, stride, groups=groups, bias=False)
        conv.weight.data, norm = kernel.contiguous(), nn.BatchNorm2d(kernel.shape[0], eps=EPSILON)
        own = {n: self._arrays[f"{name}{end}_bn/{n}"] for n in ("gamma", "beta", "moving_mean", "moving_variance")}
        norm.weight.data, norm.bias.data = own["gamma"], own["beta"]
        norm.running_mean, norm.running_var = own["moving_mean"], own["moving_variance"]
        return [Same(size, stride), conv, norm, *([nn.ReLU6()] if activate else [])]


def composite(name):
    """Returns Zennit's composite that is called `name` here."""
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import EpsilonPlusFlat, LayerMapComposite, layer_map_base
    from zennit.rules import AlphaBeta, Epsilon, Gamma, Norm, Pass
    from zennit.types import Convolution, Linear

    merge, sums = {"canonizers": [SequentialMergeBatchNorm()]}, [(Sum, Norm())]
    if name == "epsilon-plus-flat":
        return EpsilonPlusFlat(layer_map=sums, **merge)
    of_convolutions = {"epsilon": Epsilon(), "epsilon-gamma": Gamma(0.25), "alpha2-beta1": AlphaBeta(2, 1)}[name]
    rules = [(nn.ReLU6, Pass()), (Convolution, of_convolutions), (Linear, Epsilon())]
    return LayerMapComposite(sums + rules + layer_map_base(), **merge)


def relevance(model, name):
    """Returns a function of images, channels first, and a class: Zennit's relevance of the images."""
    from zennit.attribution import Gradient

    def run(x, index):
        with Gradient(model, composite(name)) as attributor:
            return attributor(x, lambda scores: scores * torch.eye(1000)[index])[1]

    return run


def ablation_cam(model):
    """Returns a function of images, channels first, and a class: pytorch-grad-cam's Ablation-CAM of the images."""
    from pytorch_grad_cam import AblationCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    head = [part for part in model if isinstance(part, nn.ReLU6)][-1]

    def run(x, index):
        cam = AblationCAM(model, [head], batch_size=32)
        return cam(x, [ClassifierOutputTarget(index)] * len(x))

    return run


def main():
    """Prints the milliseconds of one call."""
    (name,) = sys.argv[1:]
    photos, model = load_photos(), Network()
    images = preprocess(np.concatenate([photos, photos[:, :, ::-1]]))
    x = torch.tensor(images).permute(0, 3, 1, 2).contiguous()
    run, x, rounds = (ablation_cam(model), x[:1], 1) if name == "ablation-cam" else (relevance(model, name), x, 5)
    if rounds > 1:
        time_calls(lambda index: run(x, index), 2)
    print(statistics.median(time_calls(lambda index: run(x, index), 1) for _ in range(rounds)))


if __name__ == "__main__":
    main()
