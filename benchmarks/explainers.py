"""Speed of the explainers on EfficientNet-Lite0, as ratios to bare evaluations of the network.

`python benchmarks/explainers.py` prints all rows, `--only saliency rise` some, `--only bare`
what the bare evaluations cost by themselves.
"""

import argparse
import contextlib
import functools
import importlib.util
import os
import pathlib
import resource
import sys
import time

if os.environ.get("KERAS_BACKEND") == "torch":
    import torch

import keras
import numpy as np
from timing import compare, measure_elsewhere, print_row, time_calls

import vis

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "examples" / "imagenet"))
from network import efficientnet_lite0, load_photos, preprocess

BATCH = 8
LAYER = "head_relu"
BESIDE = pathlib.Path(__file__).with_name("torch_beside.py")


class Bare:
    """The bare evaluations of a network: hand-written, and compiled where the backend compiles.

    Args:
        model: A network with linear output.
        compiled: Whether to compile. Default `True`.
    """

    def __init__(self, model, compiled=True):
        middle = model.get_layer(LAYER).output
        self.model = model
        self.body = keras.Model(model.input, middle)
        self.head = keras.Model(middle, model.output)
        run = {"tensorflow": run_tensorflow, "jax": run_jax, "torch": run_torch}[keras.config.backend()]
        self.forward = run(self._forward, model, compiled)
        self.gradient = run(self._gradient, model, compiled)
        self.grad_cam = run(self._grad_cam, model, compiled)

    def _forward(self, x, index):
        with no_gradient():
            return self.model(x, training=False)[:, index]

    def _gradient(self, x, index):
        return input_gradient(lambda x: self.model(x, training=False)[:, index], x)

    def _grad_cam(self, x, index):
        with no_gradient():
            activation = self.body(x, training=False)
        gradient = input_gradient(lambda a: self.head(a, training=False)[:, index], activation)
        weights = keras.ops.mean(gradient, axis=(1, 2), keepdims=True)
        return keras.ops.relu(keras.ops.sum(weights * activation, axis=-1))


def no_gradient():
    """Returns a context in which PyTorch keeps nothing for a gradient; the others need none."""
    return torch.no_grad() if keras.config.backend() == "torch" else contextlib.nullcontext()


def input_gradient(function, x):
    """Returns the gradient of a summed function, by the backend's own means."""
    if keras.config.backend() == "jax":
        import jax

        return jax.grad(lambda x: function(x).sum())(x)
    if keras.config.backend() == "torch":
        x = x.detach().requires_grad_(True)
        return torch.autograd.grad(function(x).sum(), x)[0]
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        score = function(x)
    return tape.gradient(score, x)


def run_tensorflow(function, model, compiled):
    """Returns a function of arrays that runs `function` on TensorFlow."""
    import tensorflow as tf

    graph = tf.function(function, autograph=False) if compiled else function
    return lambda x, index: graph(tf.constant(x), tf.constant(index)).numpy()


def run_jax(function, model, compiled):
    """Returns a function of arrays that runs `function` on JAX, the weights being arguments."""
    import jax

    def pure(weights, x, index):
        with keras.StatelessScope(state_mapping=list(zip(model.variables, weights))):
            return function(x, index)

    run = jax.jit(pure) if compiled else pure
    return lambda x, index: np.asarray(run([v.value for v in model.variables], x, index))


def run_torch(function, model, compiled):
    """Returns a function of arrays that runs `function` on PyTorch (eager, as it runs)."""
    return lambda x, index: function(torch.tensor(x), index).numpy()


def eight_images():
    """Returns the four photographs and their mirror images, preprocessed."""
    photos = load_photos()
    return preprocess(np.concatenate([photos, photos[:, :, ::-1]]))


class Rows:
    """The rows of the table; the methods named `row_...` print one each.

    Args:
        quick: Whether to take fewer rounds and samples. Default `False`.
        channels: How many channels Score-CAM takes. Default: all 1,280; 64 if quick.
    """

    def __init__(self, quick=False, channels=None):
        self.quick = quick
        self.channels = channels or (64 if quick else None)
        self.model = efficientnet_lite0(classifier_activation=None)
        self.images = eight_images()
        self.bare = Bare(self.model)

    def _forward(self, index):
        return self.bare.forward(self.images, index)

    def _gradient(self, index):
        return self.bare.gradient(self.images, index)

    def _grad_cam(self, index):
        return self.bare.grad_cam(self.images, index)

    def _compare_batch(self, name, explainer, bare):
        """Compares an explainer of eight images."""
        rounds = 3 if self.quick else 11
        compare(name, lambda i: explainer(self.images, target=i, batch_size=BATCH), bare, calls=2, rounds=rounds)

    def _compare_samples(self, name, explainer, bare, evaluations):
        """Compares an explainer of one image with `evaluations` / 8 bare batches of eight."""
        compare(
            f"{name}, {evaluations} evaluations",
            lambda index: explainer(self.images[:1], target=index, batch_size=BATCH),
            bare,
            rounds=3 if self.quick else 5,
            bare_calls=min(8, -(-evaluations // BATCH)),
            scale=evaluations / BATCH,
            warmups=2,
        )

    def row_bare(self):
        """Prints what bare batches of eight cost."""
        for name, function in (("forward", self._forward), ("gradient", self._gradient), ("Grad-CAM", self._grad_cam)):
            time_calls(function, 2)
            times = [time_calls(function, 2) for _ in range(3 if self.quick else 11)]
            print(f"{'bare ' + name + ', batch of 8':44s} {np.median(times):9.2f} ms", flush=True)

    def row_saliency(self):
        """Compares the gradient of eight images."""
        self._compare_batch("Saliency, batch of 8", vis.Saliency(self.model), self._gradient)

    def row_gradcam(self):
        """Compares Grad-CAM of eight images; bare: forward, then the gradient of the head only."""
        self._compare_batch("GradCAM, batch of 8", vis.GradCAM(self.model, layer=LAYER), self._grad_cam)

    def row_smoothgrad(self):
        """Compares SmoothGrad of 25 samples."""
        explainer = vis.SmoothGrad(self.model, num_samples=25, seed=0)
        self._compare_samples("SmoothGrad", explainer, self._gradient, 25)

    def row_integrated_gradients(self):
        """Compares integrated gradients of 50 steps."""
        explainer = vis.IntegratedGradients(self.model, steps=50)
        self._compare_samples("IntegratedGradients", explainer, self._gradient, 50)

    def row_expected_gradients(self):
        """Compares expected gradients of 50 samples."""
        explainer = vis.ExpectedGradients(self.model, self.images[1:], num_samples=50, seed=0)
        self._compare_samples("ExpectedGradients", explainer, self._gradient, 50)

    def row_blur_integrated_gradients(self):
        """Compares blur integrated gradients of 50 steps."""
        explainer = vis.BlurIntegratedGradients(self.model, steps=50)
        self._compare_samples("BlurIntegratedGradients", explainer, self._gradient, 50)

    def row_guided_integrated_gradients(self):
        """Compares guided integrated gradients of eight images in eight steps, each one a batch."""
        explainer, rounds = vis.GuidedIntegratedGradients(self.model, steps=8), 3 if self.quick else 5
        run = functools.partial(explainer, self.images, batch_size=BATCH)
        name = "GuidedIntegratedGradients, 8 steps of 8"
        compare(name, lambda i: run(target=i), self._gradient, rounds=rounds, bare_calls=8, scale=8, warmups=2)

    def row_lrp(self):
        """Compares LRP of eight images by four composites."""
        for composite in ("epsilon", "epsilon-plus-flat", "epsilon-gamma", "alpha2-beta1"):
            self._compare_batch(f"LRP {composite}, batch of 8", vis.LRP(self.model, composite), self._gradient)

    def row_zennit(self):
        """Compares LRP of eight images with Zennit's on PyTorch, of the same weights, in processes of its own."""
        if not all(importlib.util.find_spec(name) for name in ("torch", "torchvision", "zennit")):
            print("Zennit: left out, as torch, torchvision or zennit is not installed")
            return
        for composite in ("epsilon", "epsilon-plus-flat", "epsilon-gamma", "alpha2-beta1"):
            explainer, ours, theirs = vis.LRP(self.model, composite), [], []
            run = functools.partial(explainer, self.images, batch_size=BATCH)
            time_calls(lambda i, run=run: run(target=i), 4)  # compiled
            for _ in range(1 if self.quick else 3):
                theirs.append(measure_elsewhere(BESIDE, composite))
                ours.append(time_calls(lambda i, run=run: run(target=i), 5))
            print_row(f"LRP {composite}, batch of 8; bare: Zennit", ours, theirs)

    def row_deep_lift(self):
        """Compares DeepLIFT of eight images; bare: the gradients of these, without the baselines."""
        self._compare_batch("DeepLIFT, batch of 8", vis.DeepLIFT(self.model), self._gradient)

    def row_fullgrad(self):
        """Compares full gradients of eight images; bare: the gradient of the input alone."""
        self._compare_batch("FullGrad, batch of 8", vis.FullGrad(self.model), self._gradient)

    def row_xrai(self):
        """Compares XRAI of 25 steps from two baselines, with segments given."""
        segments = np.arange(224 * 224).reshape(224, 224) // 448
        explainer = vis.XRAI(self.model, segments, steps=25)
        self._compare_samples("XRAI", explainer, self._gradient, 50)

    def row_scorecam(self):
        """Compares Score-CAM, one evaluation a channel."""
        explainer = vis.ScoreCAM(self.model, layer=LAYER, max_channels=self.channels)
        self._compare_samples("ScoreCAM", explainer, self._forward, self.channels or 1280)

    def row_ablationcam(self):
        """Compares Ablation-CAM with one forward pass a sample: by one gradient, and by each of the 1,280 channels.

        The layers after `head_relu` are a mean and a dense layer, so that the score is a sum over its outputs. Of a
        target that is a function this is not known: every channel is left out then, and the rest is run.
        """
        explainer, rounds = vis.AblationCAM(self.model, layer=LAYER), 3 if self.quick else 7
        one = self.images[:1]
        alone = functools.partial(self.bare.forward, one)
        compare("AblationCAM, 1 image, one gradient", lambda i: explainer(one, target=i), alone, rounds=rounds)
        self._compare_batch("AblationCAM, batch of 8, one gradient", explainer, self._forward)
        run = functools.partial(explainer, one, batch_size=32)
        name = "AblationCAM, 1 image, 1280 channels"
        compare(name, lambda i: run(target=_first_class), alone, rounds=rounds, bare_calls=8)
        if not all(importlib.util.find_spec(name) for name in ("torch", "torchvision", "pytorch_grad_cam")):
            print("pytorch-grad-cam: left out, as torch, torchvision or grad-cam is not installed")
            return
        theirs, calls = [measure_elsewhere(BESIDE, "ablation-cam")], functools.partial(explainer, one)
        print_row("AblationCAM, 1 image; bare: pytorch-grad-cam", [time_calls(lambda i: calls(target=i), 5)], theirs)
        print_row(f"{name}; bare: pytorch-grad-cam", [time_calls(lambda i: run(target=_first_class), 3)], theirs)

    def row_several_targets(self):
        """Compares ten classes at once: Grad-CAM with one class, saliency with ten bare gradients."""
        classes, rounds = list(range(0, 1000, 100)), 3 if self.quick else 11
        for count in (1, BATCH):
            images = self.images[:count]
            explainer = vis.GradCAM(self.model, layer=LAYER)
            several = functools.partial(explainer.targets, images, classes)
            name = f"GradCAM, 10 classes of {count}; bare: ours, 1 class"
            compare(name, lambda _, run=several: run(), functools.partial(explainer, images), calls=2, rounds=rounds)
            several = functools.partial(vis.Saliency(self.model).targets, images, classes)
            gradient, name = functools.partial(self.bare.gradient, images), f"Saliency, 10 classes of {count}"
            compare(name, lambda _, run=several: run(), gradient, rounds=3 if self.quick else 5, bare_calls=5, scale=10)

    def row_rise(self):
        """Compares RISE of 500 masks; of few, if quick."""
        masks = 64 if self.quick else 500
        self._compare_samples("RISE", vis.RISE(self.model, num_masks=masks, seed=0), self._forward, masks)

    def row_occlusion(self):
        """Compares occlusion by 169 windows, and one evaluation of the whole image."""
        explainer = vis.Occlusion(self.model, patch=32, stride=16)
        self._compare_samples("Occlusion", explainer, self._forward, 170)

    def row_first_call(self):
        """Compares first calls, each in a fresh process after the network was built.

        The bare one is a single evaluation with its gradient: eager, but compiled on JAX, where
        that is sooner done.
        """
        for ours, bare in (("GradCAM", "grad_cam"), ("Saliency", "gradient")):
            times = {ours: [], bare: []}
            for r in range(1 if self.quick else 5):
                for name in (ours, bare) if r % 2 else (bare, ours):
                    times[name].append(measure_elsewhere(__file__, "--measure", "first_call", name))
            print_row(f"{ours}, first call", times[ours], times[bare])

    def row_memory(self):
        """Prints peak memory of few samples and of many, ours and bare, each in a fresh process.

        With the number of batches it grows a little on either side: the backend's allocator.
        """
        for ours, bare, few, many in (("SmoothGrad", "gradient", 40, 200), ("RISE", "forward", 104, 1000)):
            for name in (ours, bare):
                first, second = (measure_elsewhere(__file__, "--measure", "peak_memory", name, n) for n in (few, many))
                label = f"{name}, peak memory" if name == ours else f"  bare {name}, peak memory"
                print(f"{label:44s} {few} samples {first:.0f} MiB   {many} samples {second:.0f} MiB", flush=True)


def _first_class(outputs):
    """A target: the score of the first class, as a function."""
    return outputs[:, 0]


def first_call(name):
    """Returns the milliseconds of the first call on one image, ours or a bare one."""
    model = efficientnet_lite0(classifier_activation=None)
    image = eight_images()[:1]
    bare = Bare(model, compiled=keras.config.backend() == "jax")
    start = time.perf_counter()
    if hasattr(vis, name):
        getattr(vis, name)(model)(image, target=281)
    else:
        getattr(bare, name)(image, 281)
    return 1000 * (time.perf_counter() - start)


def peak_memory(name, samples):
    """Returns the peak memory of this process in MiB after one image was explained, or bare batches ran."""
    model, images, samples = efficientnet_lite0(classifier_activation=None), eight_images(), int(samples)
    if hasattr(vis, name):
        argument = {"SmoothGrad": "num_samples", "RISE": "num_masks"}[name]
        getattr(vis, name)(model, seed=0, **{argument: samples})(images[:1], target=281, batch_size=BATCH)
    else:
        run = getattr(Bare(model), name)
        for _ in range(-(-samples // BATCH)):
            run(images, 281)
    return peak_of_process()


def peak_of_process():
    """Returns the peak memory of this process in MiB."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():  # on Linux, `getrusage` begins with the peak of the process that started this one
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


MEASURES = {"first_call": first_call, "peak_memory": peak_memory}
ROWS = [name.removeprefix("row_") for name in vars(Rows) if name.startswith("row_")]


def main():
    """Prints the rows, or one number for a row that measures in processes of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, samples and masks")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=ROWS, metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--channels", type=int, help="channels that Score-CAM takes; default: all, 64 if quick")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, *arguments = options.measure
        print(MEASURES[name](*arguments))
        return
    print(f"backend {keras.config.backend()}, keras {keras.__version__}")
    rows = Rows(options.quick, options.channels)
    for name in options.only:
        getattr(rows, f"row_{name}")()


if __name__ == "__main__":
    main()
