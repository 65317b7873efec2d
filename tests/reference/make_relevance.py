"""Makes `relevance.npz`: relevance of Zennit 0.5.1 and contributions of Captum 0.9.0 on two small networks.

Run it from the repository's root in an environment of its own with PyTorch, `zennit==0.5.1` and `captum==0.9.0`:

    python tests/reference/make_relevance.py

It needs neither Keras nor this project. The networks are told by their weights, in the order in which the Keras twin of
`tests/test_relevance_references.py` has them. Two facts about Zennit 0.5.1:

* Its `SequentialMergeBatchNorm` folds a batch normalisation into the layer before it and leaves the normalisation, with
  mean 0, variance 1 and its `eps`, in place: the forward pass is then scaled by 1 / sqrt(1 + eps) at each, which for
  Keras's 1e-3 is a deviation of 5e-4. So the variance gets the eps beforehand, and eps becomes 0: the same function.
* It adds its stabiliser to sums and average poolings too (`layer_map_base(stabilizer)`), which have no rule here. A sum
  may be near 0, and 1e-6 then changes maps by 1e-4: so these two get 1e-14.

And one about Captum 0.9.0: with max pooling, its `DeepLift` breaks its own law, that contributions sum to the
difference of the scores, for most networks and baselines. What is stored here keeps it to 1e-9, which is checked.
"""

import pathlib

import numpy as np
import torch
from captum.attr import DeepLift
from torch import nn
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import (
    EpsilonAlpha2Beta1,
    EpsilonAlpha2Beta1Flat,
    EpsilonGammaBox,
    EpsilonPlus,
    EpsilonPlusFlat,
    LayerMapComposite,
    SpecialFirstLayerMapComposite,
    layer_map_base,
)
from zennit.layer import Sum
from zennit.rules import Epsilon, Gamma, Norm, WSquare, ZPlus
from zennit.types import AvgPool, Convolution

PATH = pathlib.Path(__file__).parent / "relevance.npz"
EPSILON = 1e-3  # of the batch normalisations
DRAW = np.random.default_rng(1)  # with which Zennit's own map in float32 is within 1e-6 of that in float64
TARGETS = [0, 0, 0]  # the classes with the highest scores: a z-plus of negative ones is 0


def conv(inputs, outputs, size, bias=False):
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=bias)


def norm(channels):
    return nn.BatchNorm2d(channels, eps=EPSILON)


class Block(nn.Module):
    """Two convolutions beside a way around them, which has a convolution where the number of channels changes."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv1, self.norm1, self.relu1 = conv(inputs, outputs, 3), norm(outputs), nn.ReLU()
        self.conv2, self.norm2 = conv(outputs, outputs, 3), norm(outputs)
        self.around = None if inputs == outputs else nn.Sequential(conv(inputs, outputs, 1), norm(outputs))
        self.sum, self.relu2 = Sum(), nn.ReLU()

    def forward(self, x):
        y = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        around = x if self.around is None else self.around(x)
        return self.relu2(self.sum(torch.stack([y, around], dim=-1)))


class ChannelsLast(nn.Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1)


def residual():
    head = [ChannelsLast(), nn.Flatten(), nn.Linear(4 * 4 * 6, 8), nn.ReLU(), nn.Linear(8, 4)]
    body = [conv(3, 5, 3, bias=True), norm(5), nn.ReLU(), nn.MaxPool2d(2), Block(5, 5), Block(5, 6), nn.AvgPool2d(2)]
    return nn.Sequential(*body, *head)


def pooled():
    body = [conv(3, 5, 3, bias=True), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*body, ChannelsLast(), nn.Flatten(), nn.Linear(320, 8), nn.ReLU(), nn.Linear(8, 4))


def averaged():
    body = [conv(3, 5, 3, bias=True), nn.ReLU(), nn.AvgPool2d(2), conv(5, 6, 3, bias=True), nn.ReLU(), nn.AvgPool2d(2)]
    return nn.Sequential(*body, ChannelsLast(), nn.Flatten(), nn.Linear(96, 8), nn.ReLU(), nn.Linear(8, 4))


def drawn(model):
    """Gives a network weights with which activations are of order 1; returns them as Keras has them."""
    weights = []
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            fan_in = module.weight[0].numel()
            kernel = torch.tensor(DRAW.normal(0, (2 / fan_in) ** 0.5, module.weight.shape).astype("float32"))
            module.weight.data = kernel
            weights.append(kernel.permute(2, 3, 1, 0).numpy() if kernel.ndim == 4 else kernel.T.numpy())
            if module.bias is not None:
                module.bias.data = torch.tensor(DRAW.normal(0, 0.3, module.bias.shape).astype("float32"))
                weights.append(module.bias.data.numpy())
        elif isinstance(module, nn.BatchNorm2d):
            for name, low, high in (("weight", 0.7, 1.3), ("bias", -0.3, 0.3), ("running_mean", -0.3, 0.3)):
                setattr(module, name, _parameter(name, DRAW.uniform(low, high, module.num_features)))
            module.running_var = _parameter("running_var", DRAW.uniform(0.5, 1.5, module.num_features))
            weights += [getattr(module, name).detach().numpy().copy() for name in NAMES]
    return weights


NAMES = ("weight", "bias", "running_mean", "running_var")


def _parameter(name, values):
    tensor = torch.tensor(values.astype("float32"))
    return nn.Parameter(tensor) if name in ("weight", "bias") else tensor


def with_eps_in_its_variance(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var += module.eps
            module.eps = 0.0
    return model


def composites():
    sums = [(Sum, Norm(1e-14)), (AvgPool, Norm(1e-14))]
    base = {"canonizers": [SequentialMergeBatchNorm()], "layer_map": sums}
    own = {"canonizers": [SequentialMergeBatchNorm()]}
    rest = [*sums, *layer_map_base()]
    low, high = (torch.tensor(bound).reshape(1, 3, 1, 1).double() for bound in ([-3.0, -4.0, -3.5], [3.0, 4.0, 5.0]))
    return {
        "epsilon": LayerMapComposite([*rest, (Convolution, Epsilon()), (nn.Linear, Epsilon())], **own),
        "epsilon-plus": EpsilonPlus(**base),
        "epsilon-plus-flat": EpsilonPlusFlat(**base),
        "epsilon-gamma": LayerMapComposite([*rest, (Convolution, Gamma()), (nn.Linear, Epsilon())], **own),
        "epsilon-gamma-box": EpsilonGammaBox(low, high, **base),
        "alpha2-beta1": EpsilonAlpha2Beta1(**base),
        "alpha2-beta1-flat": EpsilonAlpha2Beta1Flat(**base),
        "deep-taylor": SpecialFirstLayerMapComposite(
            [*rest, (Convolution, ZPlus()), (nn.Linear, ZPlus())], [(Convolution, WSquare())], **own
        ),
    }


def relevance(model, composite, x):
    x = x.clone().requires_grad_()
    with composite.context(model) as changed:
        scores = changed(x)
        start = torch.zeros_like(scores)
        for row, target in enumerate(TARGETS):
            start[row, target] = scores[row, target].detach()
        (found,) = torch.autograd.grad(scores, x, start)
    return found.permute(0, 2, 3, 1).detach().numpy()


def contributions(model, x, reference):
    targets = torch.tensor(TARGETS)
    found = DeepLift(model).attribute(x, reference, target=targets)
    difference = (model(x) - model(reference))[torch.arange(len(TARGETS)), targets]
    if (found.sum(dim=(1, 2, 3)) - difference).abs().max() > 1e-9:
        raise ValueError("The contributions do not sum to the difference of the scores.")
    return found.permute(0, 2, 3, 1).detach().numpy().astype("float32")


def main():
    arrays = {}
    images = DRAW.normal(0, 1, (3, 16, 16, 3)).astype("float32")
    images[0, :4] = 0  # black
    baseline = DRAW.normal(0, 0.3, (3, 16, 16, 3)).astype("float32")
    arrays |= {"images": images, "baseline": baseline}
    x, start = (torch.tensor(array).permute(0, 3, 1, 2).double() for array in (images, baseline))

    model = residual().eval()
    arrays |= {f"residual_{i}": weight for i, weight in enumerate(drawn(model))}
    model = with_eps_in_its_variance(model.double())
    arrays["residual_scores"] = model(x).detach().numpy()
    for name, composite in composites().items():
        arrays[name] = relevance(model, composite, x).astype("float32")

    for name, model, reference in (("pooled", pooled(), 0 * start), ("averaged", averaged(), start)):
        weights = drawn(model)
        if name == "pooled":  # at the reference all windows are 0 then, so that no maximum is won by chance
            model[0].bias.data = -model[0].bias.data.abs()
            weights[1] = model[0].bias.data.numpy()
        arrays |= {f"{name}_{i}": weight for i, weight in enumerate(weights)}
        arrays[f"deeplift_{name}"] = contributions(model.double().eval(), x, reference)
    np.savez_compressed(PATH, **arrays)


if __name__ == "__main__":
    main()
