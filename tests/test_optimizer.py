"""The optimizer and its callbacks."""

import copy

import imageio.v2 as imageio
import keras
import numpy as np
import pytest
from conftest import small_cnn, value_of
from keras import layers, ops

from vis.callbacks import GifGenerator, OptimizerCallback, Print
from vis.input_modifiers import Blur, Flip, InputModifier, Jitter
from vis.losses import ActivationMaximization, Loss
from vis.optimizer import Optimizer
from vis.regularizers import LPNorm, TotalVariation
from vis.utils.utils import deprocess_input


class OutputSquares(Loss):
    """keras-vis's own test loss."""

    def __init__(self, model):
        super().__init__()
        self.name, self.output = "squares", model.outputs[0]

    def build_loss(self):
        return ops.sum(self.output * self.output)


class Recorder(OptimizerCallback):
    def __init__(self):
        self.steps, self.ended = [], 0

    def callback(self, i, named_losses, overall_loss, grads, wrt_value):
        self.steps.append((i, named_losses, float(overall_loss), np.array(grads), np.array(wrt_value)))

    def on_end(self):
        self.ended += 1


@pytest.fixture
def dense():
    return keras.Sequential([keras.Input((2,)), layers.Dense(4)])


@pytest.fixture
def squares(dense):
    return Optimizer(dense.inputs[0], [(OutputSquares(dense), 1)])


def slow_descent(kernel, x, steps, norm_grads=True):
    """keras-vis's loop on sum((x W)^2), in NumPy, keeping the best input evaluated."""
    cache, best, best_loss, losses = np.zeros_like(x), x.copy(), np.inf, []
    for _ in range(steps):
        loss = ((x @ kernel) ** 2).sum()
        grads = 2 * x @ kernel @ kernel.T
        if norm_grads:
            grads = grads / (np.sqrt((grads**2).mean()) + 1e-7)
        if loss < best_loss:
            best, best_loss = x.copy(), loss
        cache = 0.95 * cache + 0.05 * grads**2
        losses.append(loss)
        x = x - grads / np.sqrt(cache + 1e-7)
    return best, losses, grads


@pytest.mark.parametrize("norm_grads", [True, False])
@pytest.mark.parametrize("steps", [1, 7, 60])
@pytest.mark.parametrize("watched", [False, True])
def test_minimize_is_the_loop_of_keras_vis(dense, steps, norm_grads, watched):
    optimizer = Optimizer(dense.inputs[0], [(OutputSquares(dense), 1)], norm_grads=norm_grads)
    seed = np.array([[30.0, -20.0]], "float32")
    recorder = Recorder()
    image, grads, value = optimizer.minimize(seed, steps, callbacks=[recorder] * watched, verbose=False)
    best, losses, expected = slow_descent(dense.get_weights()[0].astype("float64"), seed.astype("float64"), steps)
    if norm_grads:
        np.testing.assert_allclose(grads, expected, atol=2e-2)
        np.testing.assert_allclose(image, deprocess_input(best[0]), atol=0.5)
    assert grads.shape == value.shape == (1, 2) and image.shape == (2,)
    if watched and norm_grads:
        np.testing.assert_allclose([s[2] for s in recorder.steps], losses, rtol=1e-2, atol=1e-2)
    if watched:
        assert [s[0] for s in recorder.steps] == list(range(steps))
        np.testing.assert_array_equal(recorder.steps[0][4], seed)
        np.testing.assert_allclose(recorder.steps[-1][3], grads, rtol=1e-5)


def test_the_first_step_is_4_47_times_the_sign(squares):
    recorder = Recorder()
    squares.minimize(np.array([[3.0, 1.0]]), 2, callbacks=[recorder], verbose=False)
    move = recorder.steps[1][4] - recorder.steps[0][4]
    grads = recorder.steps[0][3]
    np.testing.assert_allclose(move, -grads / np.sqrt(0.05 * grads**2 + 1e-7), rtol=1e-5)
    assert np.abs(move).max() == pytest.approx(4.472, abs=1e-3)


@pytest.mark.parametrize("steps", [5, 30], ids=["stepwise", "compiled"])
def test_the_best_input_is_the_one_that_was_judged(steps, rng):
    # Next to a minimum every step is uphill: the seed itself is the best.
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8)])
    optimizer = Optimizer(model.inputs[0], [(OutputSquares(model), 1)], input_range=(0.0, 1.0))
    seed = rng.normal(0, 1e-3, (1, 6)).astype("float32")
    image, _, _ = optimizer.minimize(seed, steps, verbose=False)
    np.testing.assert_allclose(image, deprocess_input(seed[0], (0.0, 1.0)), atol=1e-5)


def test_chunks_are_the_whole(dense):
    # 120 steps run in chunks of 50 when compiled, one by one when there is a modifier.
    # A linear loss has one gradient everywhere, so rounding does not grow along the way.
    optimizer = Optimizer(dense.inputs[0], [(ActivationMaximization(dense.layers[-1], 2), 1)])
    seed, first, second = np.array([[30.0, -20.0]]), Recorder(), Recorder()
    optimizer.minimize(seed, 120, callbacks=[first], verbose=False)
    optimizer.minimize(seed, 120, callbacks=[second], input_modifiers=[InputModifier()], verbose=False)
    assert len(first.steps) == len(second.steps) == 120
    for one, other in zip(first.steps, second.steps):
        np.testing.assert_allclose(one[4], other[4], rtol=1e-4, atol=1e-3)


def test_wrt_tensor_variants(dense):
    losses = [(OutputSquares(dense), 1)]
    for wrt in (None, dense.inputs[0]):
        optimizer = Optimizer(dense.inputs[0], losses, wrt_tensor=wrt)
        optimizer.minimize(max_iter=1, verbose=False)
        assert optimizer.wrt_tensor_is_input_tensor and optimizer.wrt_tensor is optimizer.input_tensor
    optimizer = Optimizer(dense.inputs[0], losses, wrt_tensor=dense.outputs[0], norm_grads=False)
    seed = np.array([[1.0, 2.0]])
    for steps in (1, 3):
        _, grads, value = optimizer.minimize(seed, steps, verbose=False)
        np.testing.assert_allclose(value, value_of(dense(seed)), rtol=1e-5)
        np.testing.assert_allclose(grads, 2 * value, rtol=1e-5)  # and the input is not updated
    assert not optimizer.wrt_tensor_is_input_tensor


def test_wrt_tensor_with_a_bypass():
    inputs = keras.Input((2,))
    middle = layers.Rescaling(3.0)(inputs)
    model = keras.Model(inputs, layers.Add()([middle, inputs]))
    optimizer = Optimizer(model.inputs[0], [(OutputSquares(model), 1)], wrt_tensor=middle, norm_grads=False)
    _, grads, value = optimizer.minimize(np.array([[1.0, 2.0]]), 1, verbose=False)
    assert value.tolist() == [[3.0, 6.0]] and grads.tolist() == [[8.0, 16.0]]


def test_modifiers_run_in_keras_vis_order(squares):
    calls = []

    class Named(InputModifier):
        def __init__(self, name):
            self.name = name

        def pre(self, inp):
            calls.append("pre " + self.name)
            return inp + 1

        def post(self, inp):
            calls.append("post " + self.name)
            return inp * 2

    recorder = Recorder()
    seed = np.zeros((1, 2), "float32")
    squares.minimize(seed, 1, [Named("a"), Named("b")], callbacks=[recorder], verbose=False)
    assert calls == ["pre a", "pre b", "post b", "post a"]
    assert recorder.steps[0][4].tolist() == [[2.0, 2.0]]
    assert seed.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("modifier, expected", [("negate", -1), (lambda g: -1 * g, -1), (None, 1)])
def test_grad_modifier(squares, modifier, expected):
    seed = np.array([[3.0, 1.0]])
    plain = squares.minimize(seed, 1, verbose=False)[1]
    np.testing.assert_allclose(squares.minimize(seed, 1, grad_modifier=modifier, verbose=False)[1], expected * plain)
    many = squares.minimize(seed, 3, grad_modifier=modifier, verbose=False)[0]
    assert (many.shape, np.isfinite(many).all()) == ((2,), True)


def test_a_keras_optimizer_moves_the_input(dense):
    optimizer = Optimizer(dense.inputs[0], [(OutputSquares(dense), 1)], norm_grads=False)
    sgd, recorder = keras.optimizers.SGD(0.01), Recorder()
    optimizer.minimize(np.array([[1.0, 2.0]]), 5, optimizer=sgd, callbacks=[recorder], verbose=False)
    for before, after in zip(recorder.steps, recorder.steps[1:]):
        np.testing.assert_allclose(after[4], before[4] - 0.01 * before[3], rtol=1e-4)
    assert not sgd.built and int(value_of(sgd.iterations)) == 0


def test_it_goes_down():
    model = small_cnn()
    image = model.inputs[0]
    losses = [(ActivationMaximization(model.layers[-1], 1), 1), (LPNorm(image), 1), (TotalVariation(image), 1)]
    for source in (image, model):
        recorder = Recorder()
        Optimizer(source, losses).minimize(max_iter=20, callbacks=[recorder], verbose=False, seed=0)
        assert recorder.steps[-1][2] < recorder.steps[0][2]
        names = [name for name, _ in recorder.steps[0][1]]
        assert names == ["ActivationMax Loss", "L-6.0 Norm Loss", "TV Loss"]
        for _, named, overall, _, _ in recorder.steps:
            assert overall == pytest.approx(sum(float(v) for _, v in named), rel=1e-5)


def test_weights_scale_and_leave_out(dense):
    recorder = Recorder()
    losses = [(OutputSquares(dense), 2), (OutputSquares(dense), 0), (OutputSquares(dense), None)]
    Optimizer(dense.inputs[0], losses).minimize(np.array([[1.0, 2.0]]), 1, callbacks=[recorder], verbose=False)
    ((_, value),) = recorder.steps[0][1]
    assert value == pytest.approx(2 * float((value_of(dense(np.array([[1.0, 2.0]]))) ** 2).sum()), rel=1e-5)


def test_a_batch_is_judged_sample_by_sample():
    model = small_cnn()
    image = model.inputs[0]
    losses = [(ActivationMaximization(model.layers[-1], 1), 1), (LPNorm(image), 1), (TotalVariation(image), 1)]
    optimizer = Optimizer(image, losses)
    x = np.random.default_rng(0).random((3, 9, 7, 3))
    together = optimizer.minimize(x, 1, verbose=False)[1]
    alone = np.concatenate([optimizer.minimize(one, 1, verbose=False)[1] for one in x])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_the_drawn_seed():
    model = small_cnn()
    optimizer = Optimizer(model.inputs[0], [(ActivationMaximization(model.layers[-1], 1), 1)], input_range=(10, 30))
    recorder = Recorder()
    optimizer.minimize(max_iter=1, callbacks=[recorder], verbose=False, seed=4)
    seed = recorder.steps[0][4]
    assert seed.shape == (1, 9, 7, 3)
    assert seed.mean() == pytest.approx(20, abs=1e-3) and seed.std() == pytest.approx(1.0, abs=1e-3)


def test_max_iter_zero_returns_the_seed(squares):
    recorder = Recorder()
    seed = np.array([[3.0, 1.0]])
    image, grads, value = squares.minimize(seed, 0, callbacks=[recorder], verbose=False)
    np.testing.assert_allclose(image, deprocess_input(seed[0]))
    assert grads is None and value is None and recorder.steps == [] and recorder.ended == 1


def test_verbose_prints_and_leaves_the_callers_list_alone(squares, capsys):
    callbacks = []
    squares.minimize(max_iter=2, callbacks=callbacks)
    printed = capsys.readouterr().out
    assert callbacks == []
    assert printed.startswith("Iteration: 1, named_losses: [('squares', ") and printed.count("overall loss: ") == 2
    squares.minimize(max_iter=2, verbose=False)
    assert capsys.readouterr().out == ""
    Print().on_end()


class Nan(Loss):
    def __init__(self, model):
        super().__init__()
        self.name, self.output = "broken term", model.outputs[0]

    def build_loss(self):
        return ops.log(-1.0 - ops.sum(ops.square(self.output)))


@pytest.mark.parametrize("modifiers", [None, [Jitter(0)]], ids=["compiled", "stepwise"])
def test_a_nan_loss_is_named(modifiers):
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(2)])
    optimizer = Optimizer(model.inputs[0], [(OutputSquares(model), 1), (Nan(model), 1)])
    recorder = Recorder()
    with pytest.raises(FloatingPointError, match="iteration 1, in: broken term"):
        optimizer.minimize(max_iter=5, input_modifiers=modifiers, callbacks=[recorder], verbose=False)
    assert recorder.ended == 1


class Failing(OptimizerCallback):
    def __init__(self):
        self.ended = 0

    def callback(self, i, named_losses, overall_loss, grads, wrt_value):
        if i == 1:
            raise RuntimeError("on purpose")

    def on_end(self):
        self.ended += 1
        raise KeyError("and again")


def test_a_failing_callback_ends_all_of_them(tmp_path):
    model = small_cnn()
    optimizer = Optimizer(model.inputs[0], [(ActivationMaximization(model.layers[-1], 1), 1)])
    gif, failing, recorder = GifGenerator(tmp_path / "a.gif"), Failing(), Recorder()
    before = [dict(vars(layer)) for layer in model.layers]
    with pytest.raises(RuntimeError, match="on purpose") as caught:
        optimizer.minimize(max_iter=5, callbacks=[gif, failing, recorder], verbose=False)
    assert "KeyError('and again')" in caught.value.__notes__[0]
    assert failing.ended == recorder.ended == 1
    assert len(imageio.mimread(tmp_path / "a.gif")) == 2  # closed, and readable
    assert [dict(vars(layer)) for layer in model.layers] == before


def test_a_failing_on_end_is_told_after_the_others_ended(squares):
    class Quiet(Failing):
        def callback(self, *args):
            pass

    quiet, recorder = Quiet(), Recorder()
    with pytest.raises(KeyError, match="and again"):
        squares.minimize(max_iter=2, callbacks=[quiet, recorder], verbose=False)
    assert quiet.ended == recorder.ended == 1


def test_exceptions_are_passed_on(squares):
    class Stop(Recorder):
        def callback(self, *args):
            raise RuntimeError("on purpose")

    stop = Stop()
    with pytest.raises(RuntimeError, match="on purpose"):
        squares.minimize(max_iter=3, callbacks=[stop], verbose=False)
    assert stop.ended == 1
    with pytest.raises(ValueError):
        squares.minimize(np.zeros((7,)), callbacks=[stop], verbose=False)
    assert stop.ended == 2  # bad arguments close what was opened, too


# --- GIF


@pytest.mark.parametrize("shape", [(12, 10, 1), (12, 10, 3), (12, 10), (3, 12, 10), (1, 12, 10)])
def test_gif_frames(tmp_path, shape, rng):
    gif = GifGenerator(str(tmp_path / "progress"), input_range=(0.0, 1.0))
    values = rng.random((3, 1, *shape))
    for i, value in enumerate(values):
        gif.callback(i, [], 0.0, None, value)
    gif.on_end()
    assert gif.path == tmp_path / "progress.gif"
    frames = imageio.mimread(gif.path)
    assert len(frames) == 3 and frames[0].shape[:2] == (12, 10)


def test_gif_frames_respect_the_range(tmp_path, rng):
    value = rng.random((1, 40, 40, 1))
    frames = []
    for input_range in [(0, 255), (0.0, 1.0), (-1.0, 1.0)]:
        gif = GifGenerator(tmp_path / "a.gif", input_range)
        gif.callback(0, [], 0.0, None, value)
        gif.on_end()
        frames.append(imageio.imread(gif.path).astype(int)[..., 0])
    assert frames[0].std() > 10  # not black
    assert np.abs(frames[0] - frames[1]).max() <= 1 and np.abs(frames[0] - frames[2]).max() <= 1


def test_gif_of_a_descent(tmp_path):
    model = small_cnn()
    optimizer = Optimizer(model, [(ActivationMaximization("preds", 1), 1)])
    optimizer.minimize(max_iter=4, callbacks=[GifGenerator(tmp_path / "a.gif")], verbose=False)
    assert len(imageio.mimread(tmp_path / "a.gif")) == 4


def test_an_unwritable_path_fails_at_once(tmp_path):
    with pytest.raises(ValueError, match="Create its folder first"):
        GifGenerator(tmp_path / "missing" / "a.gif")
    with pytest.raises(ValueError, match="`path` must be a file"):
        (tmp_path / "b.gif").mkdir()
        GifGenerator(tmp_path / "b.gif")


def test_gif_of_what_is_no_image(tmp_path):
    gif = GifGenerator(tmp_path / "a.gif")
    with pytest.raises(ValueError, match="one or three channels"):
        gif.callback(0, [], 0.0, None, np.zeros((1, 5)))
    gif.on_end()


# --- bad input


def test_losses_must_be_pairs(dense):
    for losses in ([OutputSquares(dense)], [(OutputSquares(dense), 1, 2)], [("a", 1)]):
        with pytest.raises(TypeError, match="list of pairs"):
            Optimizer(dense.inputs[0], losses)
    for losses in ([], [(OutputSquares(dense), 0)]):
        with pytest.raises(ValueError, match="at least one loss"):
            Optimizer(dense.inputs[0], losses)
    with pytest.raises(ValueError, match="must be a finite number"):
        Optimizer(dense.inputs[0], [(OutputSquares(dense), float("nan"))])


def test_losses_of_another_model(dense):
    other = keras.Sequential([keras.Input((2,)), layers.Dense(4)])
    with pytest.raises(ValueError, match="must be computed from `input_tensor`"):
        Optimizer(dense.inputs[0], [(OutputSquares(other), 1)])
    with pytest.raises(ValueError, match="not part of model"):
        Optimizer(dense, [(ActivationMaximization(other.layers[-1], 0), 1)])


def test_losses_that_ignore_the_tensor(dense):
    inputs = keras.Input((3,))
    one, other = layers.Dense(2, name="one"), layers.Dense(2)
    model = keras.Model(inputs, [one(inputs), other(inputs)])
    optimizer = Optimizer(inputs, [(OutputSquares(model), 1)], wrt_tensor=model.outputs[1])
    with pytest.raises(ValueError, match="do not depend on `wrt_tensor`"):
        optimizer.minimize(max_iter=1, verbose=False)


def test_several_inputs():
    inputs = [keras.Input((3,), name="a"), keras.Input((3,), name="b")]
    model = keras.Model(inputs, layers.Add()(inputs))
    with pytest.raises(TypeError, match="must be one symbolic tensor"):
        Optimizer(model.input, [(OutputSquares(model), 1)])
    with pytest.raises(ValueError, match="with 2 inputs \\('a', 'b'\\)"):
        Optimizer(model, [(OutputSquares(model), 1)])


def test_a_loss_that_is_not_symbolic(dense):
    class Number(Loss):
        def build_loss(self):
            return 3.0

    with pytest.raises(TypeError, match="must return a symbolic tensor"):
        Optimizer(dense.inputs[0], [(Number(), 1)])


@pytest.mark.parametrize(
    "params, kind, words",
    [
        ({"max_iter": -1}, ValueError, "at least 0"),
        ({"max_iter": 1.5}, TypeError, "must be an integer"),
        ({"grad_modifier": "negat"}, ValueError, "Did you mean: 'negate'"),
        ({"grad_modifier": 3}, TypeError, "name or a callable"),
        ({"input_modifiers": [3]}, TypeError, "`pre` and `post`"),
        ({"optimizer": "adam"}, TypeError, "must be a Keras optimizer"),
        ({"seed_input": np.zeros((1, 3))}, ValueError, "\\(N, 2\\).*Received: shape \\(1, 3\\)"),
        ({"seed_input": np.zeros((1, 1, 2))}, ValueError, "Received: shape \\(1, 1, 2\\)"),
        ({"seed_input": np.array([np.nan, 1])}, ValueError, "1 values that are NaN or infinite"),
        ({"seed_input": np.array(["a", "b"])}, ValueError, "must be numbers"),
        ({"seed_input": [[1], [1, 2]]}, ValueError, "could not be read as an array"),
        ({"seed_input": np.zeros((0, 2))}, ValueError, "must not be empty"),
    ],
)
def test_bad_arguments_of_minimize(squares, params, kind, words):
    with pytest.raises(kind, match=words):
        squares.minimize(verbose=False, **params)


@pytest.mark.parametrize("input_range", [(1, 0), (0, 0), (0,), 5, None, (0, float("inf")), ("a", "b")])
def test_bad_ranges(dense, input_range):
    with pytest.raises(ValueError, match="`input_range` must be a pair"):
        Optimizer(dense.inputs[0], [(OutputSquares(dense), 1)], input_range).minimize(max_iter=1, verbose=False)


def test_a_seed_is_needed_where_the_size_is_unknown():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.Conv2D(2, 3)(inputs))
    optimizer = Optimizer(inputs, [(ActivationMaximization(model.layers[-1], 0), 1)])
    with pytest.raises(ValueError, match="`seed_input` is needed"):
        optimizer.minimize(verbose=False)
    assert optimizer.minimize(np.ones((6, 5, 3)), 2, verbose=False)[0].shape == (6, 5, 3)


def test_a_few_steps_are_the_first_of_many(squares):
    seed, few, many = np.array([[30.0, -20.0]]), Recorder(), Recorder()
    squares.minimize(seed, 5, callbacks=[few], verbose=False)
    squares.minimize(seed, 30, callbacks=[many], verbose=False)
    for one, other in zip(few.steps, many.steps):
        np.testing.assert_allclose(one[4], other[4], rtol=1e-4)


def test_an_optimizer_sees_changed_activations_and_weights():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, activation="sigmoid"), layers.Dense(2)])
    x = np.array([[5.0, -4.0, 3.0]])
    for source in (model, model.inputs[0]):
        model.layers[0].activation = keras.activations.sigmoid
        optimizer = Optimizer(source, [(ActivationMaximization(model.layers[-1], 0), 1)], norm_grads=False)
        for _ in range(3):
            before = optimizer.minimize(x, 1, verbose=False)[1]
        model.layers[0].activation = keras.activations.linear
        expected = -(model.get_weights()[0] @ model.get_weights()[2][:, 0])
        after = optimizer.minimize(x, 1, verbose=False)[1]
        np.testing.assert_allclose(after[0], expected, rtol=1e-4)
        assert not np.allclose(before, after)


def test_layers_by_name_beside_symbolic_losses():
    model = small_cnn()
    losses = [(ActivationMaximization("preds", 1), 1), (OutputSquares(model), 0.1)]
    assert Optimizer(model, losses).minimize(max_iter=2, verbose=False)[0].shape == (9, 7, 3)
    with pytest.raises(ValueError, match="where the model is known. Received: 'preds'"):
        Optimizer(model.inputs[0], losses)


class Weighted(Loss):
    """A loss of the second kind: sources and value."""

    def __init__(self, layer):
        super().__init__()
        self.name, self.layer = "weighted", layer

    def sources(self):
        return [self.layer, None]

    def value(self, tensors, arguments):
        return ops.sum(tensors[0], axis=-1) + 0.0 * ops.sum(tensors[1], axis=(1, 2, 3))


def test_losses_by_sources_and_value():
    model = small_cnn()
    expected = Optimizer(model, [(ActivationMaximization("preds", None), -1)]).minimize(
        np.ones((9, 7, 3)), 1, verbose=False
    )
    got = Optimizer(model, [(Weighted("preds"), 1)]).minimize(np.ones((9, 7, 3)), 1, verbose=False)
    np.testing.assert_allclose(got[1], expected[1], atol=1e-5)


def test_numpys_seed_is_followed_and_not_moved(squares):
    images = []
    for seed in (5, 6):
        np.random.seed(seed)
        state = np.random.get_state()[1].copy()
        images.append([squares.minimize(max_iter=0, verbose=False)[0] for _ in range(2)])
        np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert not np.array_equal(images[0][0], images[0][1])
    np.random.seed(5)
    np.testing.assert_array_equal(squares.minimize(max_iter=0, verbose=False)[0], images[0][0])


@pytest.mark.parametrize("transform", [Jitter(2, seed=0), Blur(2.0), Flip(seed=3)])
def test_transforms_follow_the_data_format_of_the_model(transform):
    """Keras's setting says channels last here; the model says otherwise."""
    seen = []

    class Watch(InputModifier):
        def pre(self, inp):
            seen.append(inp)
            return inp

    def run(data_format, seed):
        inputs = keras.Input(seed.shape)
        pool = layers.GlobalAveragePooling2D(data_format=data_format)
        model = keras.Model(inputs, pool(inputs))
        losses = [(ActivationMaximization(model.layers[-1], 0), 1)]
        again = copy.deepcopy(transform)
        Optimizer(model.inputs[0], losses).minimize(seed, 1, [again, Watch()], verbose=False)
        return seen.pop()

    image = np.random.default_rng(0).random((6, 5, 3)).astype("float32")
    last, first = run("channels_last", image), run("channels_first", np.moveaxis(image, -1, 0))
    np.testing.assert_allclose(first, np.moveaxis(last, -1, 1), atol=1e-6)
