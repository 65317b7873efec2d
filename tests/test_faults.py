"""Interrupts from the keyboard, forked and spawned processes, callbacks that call back, and training meanwhile."""

import contextlib
import linecache
import multiprocessing
import os
import sys
import threading
import time
import warnings

import keras
import numpy as np
import pytest
from conftest import slow, small_cnn
from keras import layers, ops

import vis
from vis import backend
from vis.backprop_modifiers import composite
from vis.callbacks import OptimizerCallback
from vis.engine.energy import model_energy
from vis.engine.graph import find_layer, fingerprint, walk
from vis.engine.inputs import read_inputs
from vis.engine.network import Network
from vis.engine.taps import shadowed, surgery, tapped
from vis.losses import ActivationMaximization
from vis.parameterizations import Pixels

PACKAGE = os.path.dirname(vis.__file__)
SCOPES = sys.modules[keras.StatelessScope.__module__].__file__
UNCHANGING = ("_walk", "walk", "layers", "children", "places", "<genexpr>")  # they only look


# Interrupts.


def interrupted(run, number) -> bool:
    """Runs something with an interrupt at one of the lines of the package; returns whether there was such a line."""
    lines = 0

    def is_watched(frame):
        name = frame.f_code.co_filename
        ours = name.startswith(PACKAGE) and frame.f_code.co_name not in UNCHANGING
        return ours or name == SCOPES or (name == contextlib.__file__ and is_watched(frame.f_back))

    def trace(frame, event, argument):
        seen = set()

        def inside(frame, event, argument):
            nonlocal lines
            line = frame.f_lineno
            # Python takes no interrupt between the end of a block and the end of its context, tracing would.
            ends_block = line in seen and linecache.getline(frame.f_code.co_filename, line).lstrip()[:5] == "with "
            seen.add(line)
            if event != "exception" and not ends_block:
                lines += 1
                if lines == number:
                    raise KeyboardInterrupt
            return inside

        return inside(frame, event, argument) if is_watched(frame) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return lines >= number


def is_free(lock) -> bool:
    """Tells whether another thread gets a lock."""
    found = []
    thread = threading.Thread(target=lambda: found.append(lock.acquire(timeout=1)) or (found[0] and lock.release()))
    thread.start()
    thread.join()
    return found[0]


def state(model) -> list:
    """What wrappers and scopes could be left in, and the variables' own values."""
    operations = [op for _, op in walk(model)]
    with keras.StatelessScope() as scope:
        outer = scope.original_scope
    return [outer, *(vars(op).get("call") for op in operations), *(getattr(op, "activation", 0) for op in operations)]


def probable():
    """A model with what rules, notes and taps are put on."""
    inputs = keras.Input((2,))
    x = layers.ReLU()(layers.Dense(2, activation="relu", name="inner")(inputs))
    return keras.Model(inputs, layers.Softmax()(layers.Dense(2, name="preds")(x)))


def network_run(model):
    batch = read_inputs(model, np.ones((1, 2), "float32"))
    network, tensors = Network(model, composite=composite("guided")), [ops.ones((1, 2))]
    tap = find_layer(model, "inner"), lambda output: output
    return lambda: network.outputs(batch.layout, tensors, [tap])


def energy_run(model):
    losses = [ActivationMaximization("inner", 0)]
    energy, x = model_energy(model, losses, rule=composite("guided")), np.ones((1, 2), "float32")
    arguments = energy.arguments(losses, x)
    return lambda: energy.terms(arguments, ops.convert_to_tensor(x))


def compiled_run(model):
    x = np.ones((1, 2), "float32")
    return lambda: backend.compile(lambda x: model(x), model.variables)(x)


def loop_run(model):
    count = keras.Variable(0.0)

    def step(i):
        count.assign(count + 1.0)

    return lambda: backend.compile_loop(step, [count], [count])(np.int32(2))


def visualization_run(model):
    fv = vis.FeatureVisualization(model, ActivationMaximization("inner", 0), Pixels())
    return lambda: fv(steps=0, seed=0)


@pytest.mark.parametrize("make", [network_run, compiled_run, loop_run, *slow(energy_run, visualization_run)])
def test_an_interrupt_at_any_line_leaves_no_layer_patched_and_no_scope_open(make):
    model = probable()
    run = make(model)
    run()
    before, number = state(model), 1
    while interrupted(run, number):
        after = state(model)
        assert all(a is b for a, b in zip(before, after, strict=True)), f"line {number}"
        number += 1
    assert number > 5
    assert is_free(surgery())
    run()  # and works afterwards


def test_an_interrupt_between_patch_and_end_puts_back_what_is_nested():
    layer = layers.Rescaling(2.0)
    with pytest.raises(KeyboardInterrupt):
        with shadowed(), shadowed([(layer, "call", abs), (layer, "scale", 3.0)]):
            with shadowed([(layer, "call", max)]):
                assert layer.call is max
                raise KeyboardInterrupt
    assert "call" not in vars(layer) and layer.scale == 2.0


def test_a_failing_change_takes_back_those_before_it():
    layer = layers.Rescaling(2.0)
    with pytest.raises(TypeError):
        with shadowed([(layer, "call", abs), (3, "call", abs)]):
            pass
    assert "call" not in vars(layer)


# Processes.

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def in_child(check) -> int:
    """Runs a check in a forked process that has 20 seconds, and returns its exit status; -1 where it hung."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # frameworks warn of forks
        process = os.fork()
    if process == 0:
        status = 1
        try:
            status = 0 if check() else 2
        finally:
            os._exit(status)
    for _ in range(200):
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.kill(process, 9)
    os.waitpid(process, 0)
    return -1


@contextlib.contextmanager
def busy_elsewhere(layer, *locks):
    """Another thread has locks, and its wrappers on a layer, meanwhile."""
    begun, done = threading.Event(), threading.Event()

    def work():
        with contextlib.ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock())
            stack.enter_context(tapped([(layer, lambda output: output * 100)]))
            stack.enter_context(shadowed([(layer, "activation", abs)]))
            begun.set()
            done.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()


@FORKS
def test_a_forked_process_neither_waits_nor_has_the_wrappers_of_other_threads():
    model = small_cnn()
    explainer = vis.Saliency(model)
    fv = vis.FeatureVisualization(model, ActivationMaximization("preds", 1), Pixels())
    layer, activation = find_layer(model, "conv2"), find_layer(model, "conv2").activation
    locks = surgery, explainer.evaluator.memory.lock, fv._lock, fv._energy.memory.lock

    def check():
        free = all(lock().acquire(timeout=2) for lock in locks)
        fingerprint(model)
        return free and "call" not in vars(layer) and layer.activation is activation

    with busy_elsewhere(layer, *locks):
        assert in_child(check) == 0
        assert "call" in vars(layer)  # the parent's own are as they were
    assert "call" not in vars(layer)
    assert all(is_free(lock()) for lock in locks)


@FORKS
def test_a_visualization_running_elsewhere_is_not_running_in_a_forked_process():
    fv = vis.FeatureVisualization(small_cnn(), ActivationMaximization("preds", 1), Pixels())
    begun, done = threading.Event(), threading.Event()

    class Waiting(OptimizerCallback):
        def callback(self, *_):
            begun.set()
            done.wait(60)

    thread = threading.Thread(target=lambda: fv(steps=1, callbacks=[Waiting()]))
    thread.start()
    begun.wait()
    status = in_child(lambda: fv._turn().acquire(timeout=2))
    done.set()
    thread.join()
    assert status == 0


@FORKS
def test_a_process_forked_within_a_patch_goes_on_with_it():
    layer = layers.Rescaling(2.0)

    def check():
        with surgery(), shadowed(), tapped([(layer, lambda output: output)]):
            inside = "call" in vars(layer)
        return inside and vars(layer)["call"] is patched

    with surgery(), shadowed(), tapped([(layer, lambda output: output)]):
        patched = vars(layer)["call"]
        assert in_child(check) == 0
    assert "call" not in vars(layer)


def explain_elsewhere(queue, explainer, image):
    queue.put(explainer(image, 1))


@pytest.mark.slow
def test_a_spawned_process_explains_while_a_thread_is_busy(rng):
    model, image = small_cnn(), rng.random((1, 9, 7, 3)).astype("float32")
    explainer = vis.Saliency(model)
    expected = explainer(image, 1)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=explain_elsewhere, args=(queue, explainer, image), daemon=True)
    with busy_elsewhere(layers.Dense(2), surgery, explainer.evaluator.memory.lock):
        process.start()
        got = queue.get(timeout=240)
    process.join(60)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


# Callbacks and training.


class CallingBack(OptimizerCallback):
    """Calls what it is called by."""

    def __init__(self, fv):
        self.fv, self.ended = fv, 0

    def callback(self, *_):
        self.fv(steps=1)

    def on_end(self):
        self.ended += 1


def test_a_callback_that_calls_its_own_visualization_is_told():
    fv = vis.FeatureVisualization(small_cnn(), ActivationMaximization("preds", 1), Pixels())
    watcher, errors = CallingBack(fv), []

    def call():
        try:
            fv(steps=1, callbacks=[watcher])
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(120)
    assert len(errors) == 1 and "callback" in errors[0] and len(errors[0]) < 400
    assert watcher.ended == 1
    assert fv(steps=1).shape == (1, 9, 7, 3)  # it works afterwards


class TrainedMeanwhile(layers.Dense):
    """A layer whose weights another thread changes just after it ran."""

    meanwhile = False

    def call(self, x):
        y = super().call(x)
        if self.meanwhile:
            thread = threading.Thread(target=lambda: self.kernel.assign(self.kernel * 2.0))
            thread.start()
            thread.join()
        return y


@pytest.mark.skipif(keras.config.backend() != "torch", reason="other backends' tensors do not change")
def test_training_meanwhile_is_named(rng):
    layer = TrainedMeanwhile(3, name="preds")
    model, x = keras.Sequential([keras.Input((4,)), layer]), rng.random((2, 4)).astype("float32")
    explainer = vis.Saliency(model)
    expected = explainer(x, 1)
    layer.meanwhile = True
    with pytest.raises(RuntimeError, match="another thread that trains the model") as caught:
        explainer(x, 1)
    assert len(str(caught.value)) < 400
    layer.meanwhile = False
    np.testing.assert_allclose(explainer(x, 1), 2 * expected, rtol=1e-5)  # trained, and right
