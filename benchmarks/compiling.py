"""What calls 1 to 20 of an explainer cost on TensorFlow, beside the best that could have been done in hindsight.

Three explainers of the same network are called 20 times each: one that compiles when it seems to pay, one that never
does, and one that does at once. The best in hindsight is the cheaper of the last two, for each number of calls. JAX
compiles at once, and PyTorch never: there is nothing to compare.
"""

import argparse
import statistics
import time

import keras
import numpy as np
from mnist import mnist_network

import vis
from vis.backend import patience

CALLS = 20
NETWORKS = {
    "MNIST": mnist_network,
    "MobileNet": lambda: keras.applications.MobileNet(weights=None, classifier_activation=None),
    "ResNet50": lambda: keras.applications.ResNet50(weights=None, classifier_activation=None),
}
POLICIES = {"ours": patience.pays, "never": lambda *_: False, "at once": lambda *_: True}


def seconds(model, image, policy):
    """Returns what the first 1, 2, ... calls of a new explainer took together."""
    patience.pays = policy
    explainer, total, found = vis.Saliency(model), 0.0, []
    for _ in range(CALLS):
        start = time.perf_counter()
        explainer(image, 1)
        total += time.perf_counter() - start
        found.append(total)
    return np.array(found)


def measure(name, rounds):
    """Prints the costs of one network, medians over some rounds."""
    keras.utils.set_random_seed(0)
    model = NETWORKS[name]()
    image = np.random.default_rng(0).random((1, *model.input_shape[1:])).astype("float32")
    seconds(model, image, POLICIES["at once"])  # what a process does for the first time counts for nobody
    runs = {policy: [] for policy in POLICIES}
    for number in range(rounds):
        for policy in [*POLICIES][:: 1 if number % 2 else -1]:
            runs[policy].append(seconds(model, image, POLICIES[policy]))
    ours, never, at_once = (np.median(runs[policy], axis=0) for policy in POLICIES)
    ratios = ours / np.minimum(never, at_once)
    print(f"{name:10s} 20 calls: ours {ours[-1]:6.2f} s   never {never[-1]:6.2f} s   at once {at_once[-1]:6.2f} s")
    print(f"  calls 1 to 20 over the best: {' '.join(f'{ratio:.2f}' for ratio in ratios)}")
    print(f"  worst {ratios.max():.2f}   mean {statistics.mean(ratios):.2f}", flush=True)


def main():
    """Measures each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="networks")
    options = parser.parse_args()
    print(f"backend {keras.config.backend()}, keras {keras.__version__}")
    for name in options.only:
        measure(name, 1 if options.quick else 5)


if __name__ == "__main__":
    main()
