"""When compiling pays: the policy alone, on cost figures, and with a clock of the test's own."""

import math

import keras
import numpy as np
import pytest
from conftest import pays_in_earnest as pays

import vis
from vis import backend
from vis.backend import patience

# Measured seconds on TensorFlow: the first eager call, each other one, the call that compiles, each compiled one.
COSTS = {
    "MNIST": (0.025, 0.019, 0.130, 0.004),
    "MNIST, 32 images": (0.045, 0.038, 0.099, 0.014),
    "two dense layers": (0.010, 0.006, 0.068, 0.001),
    "MobileNet": (0.39, 0.24, 0.85, 0.05),
    "MobileNetV2": (0.72, 0.35, 1.70, 0.045),
    "EfficientNet-Lite0": (0.49, 0.26, 1.03, 0.048),
    "EfficientNet-Lite0, Grad-CAM": (0.27, 0.112, 0.67, 0.022),
    "EfficientNet-Lite0, 8 images": (1.43, 0.73, 1.37, 0.31),
    "ResNet50": (0.77, 0.60, 1.67, 0.15),
    "ResNet50, Grad-CAM": (0.74, 0.49, 1.39, 0.09),
    "ResNet50 on a busy machine": (2.5, 2.2, 7.8, 0.4),
    "VGG16": (1.30, 1.20, 0.84, 0.68),
    "DenseNet121": (1.30, 0.77, 3.69, 0.19),
}


def eager_calls(calls, first, eager, coming=0):
    """Returns after how many eager calls the policy compiles, if there are so many calls."""
    times = []
    while len(times) < calls and not pays(len(times) + max(coming - len(times), 1), min(times, default=None)):
        times.append(eager if times else first)
    return len(times)


def seconds(calls, waits, costs):
    """Returns what calls take if the first ones are eager and the next one compiles."""
    first, eager, compiling, compiled = costs
    early = min(calls, waits)
    rest = calls - early
    return sum([first, *[eager] * calls][:early]) + (compiling + (rest - 1) * compiled if rest else 0)


@pytest.mark.parametrize("network", COSTS)
@pytest.mark.parametrize("coming", [0, 1000], ids=["one by one", "known to come"])
def test_never_twice_what_would_have_been_best(network, coming):
    costs = COSTS[network]
    for calls in range(1, 21):
        ours = seconds(calls, eager_calls(calls, *costs[:2], min(coming, calls)), costs)
        best = min(seconds(calls, waits, costs) for waits in range(calls + 1))
        assert ours <= 2 * best, (calls, ours / best)


def test_deep_networks_compile_at_the_fourth_call_and_small_ones_later():
    waits = {network: eager_calls(100, *costs[:2]) for network, costs in COSTS.items()}
    assert [waits[name] for name in ("ResNet50", "EfficientNet-Lite0", "VGG16")] == [3, 3, 3]
    assert [waits[name] for name in ("MNIST", "two dense layers")] == [7, 14]


def test_the_price_that_was_seen_counts_more_than_the_one_that_is_likely():
    assert not pays(3, 1.0) and pays(4, 1.0)
    assert pays(2, 1.0, compiling=1.5) and not pays(19, 1.0, compiling=15.0)


def test_many_calls_that_are_known_to_come_compile_at_once():
    assert pays(6) and not pays(5)


class Clock:
    """Goes on by what a call is said to take."""

    now = 0.0

    def __call__(self):
        return self.now

    def takes(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(patience, "clock", clock)
    monkeypatch.setattr(patience, "pays", pays)
    return clock


def called(meter, clock, signature, calls, eager, compiling, coming=1):
    """Makes calls of a function; tells by letters which were eager."""
    for call in range(calls):
        if meter.compiles(signature, coming):
            meter.compiled(signature, lambda: clock.takes(compiling))
            return "e" * call + "c" * (calls - call)
        meter.eagerly(signature, lambda: clock.takes(eager))
    return "e" * calls


def test_a_meter_counts_each_signature_and_learns_what_compiling_takes(clock):
    meter = patience.Meter()
    assert called(meter, clock, "one", 6, 1.0, 3.25) == "eeeccc"  # 3 s to compile, 0.25 s to run
    assert called(meter, clock, "two", 6, 2.0, 9.0) == "eccccc"  # 1.5 s are lost a call, and 3 s once
    assert called(meter, clock, "many", 2, 1.0, 9.0, coming=50) == "cc"
    assert called(meter, clock, "stream", 1, 1.0, 9.0, coming=math.inf) == "c"


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="only TensorFlow gains by it")
def test_an_explainer_compiles_when_it_pays(clock, monkeypatch, rng):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="relu"), keras.layers.Dense(2)])
    runs, original = [], model.call

    def counted(*args, **kwargs):
        runs.append(1)
        clock.takes(1.0)
        return original(*args, **kwargs)

    monkeypatch.setattr(model, "call", counted)
    explainer, x = vis.Saliency(model), rng.random((2, 3)).astype("float32")
    explainer(x)
    runs.clear()  # the first call also looks at the model
    maps = [explainer(x) for _ in range(6)]
    assert len(runs) == 3  # two eager calls more, and the one that is traced
    for one in maps:
        np.testing.assert_allclose(one, maps[0], atol=1e-6)
    runs.clear()
    vis.SmoothGrad(model, num_samples=50, seed=0)(x, 0, batch_size=10)  # ten chunks: one trace
    assert len(runs) <= 2


def test_every_backend_takes_the_number_of_calls_to_come():
    call = backend.compile(lambda x: 2 * x, [])
    assert keras.ops.convert_to_numpy(call(np.ones(2, "float32"), coming=math.inf)).tolist() == [2, 2]
