"""Large data sets: streams, several devices (simulated), several processes (Ray)."""

import dataclasses
import gc
import importlib.util
import itertools
import os
import pathlib
import signal
import subprocess
import sys
import weakref

import keras
import numpy as np
import pytest
from conftest import ROOT, slow, small_cnn
from keras import layers, tree
from test_documents import blocks

import vis
from vis import scale

BACKEND = keras.config.backend()
SCALE = ROOT / "examples/scale"
COUNT = 7  # samples: a multiple of no batch size and no number of devices here


def images(count=COUNT):
    return np.random.default_rng(2).random((count, 9, 7, 3), dtype="float32")


def python(code, **environment):
    """Runs code in a process of its own, with the same backend, and returns what it printed."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": BACKEND, **environment}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


# Streams.


def two_inputs(form):
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    outputs = layers.Dense(2)(layers.Dense(5, activation="tanh")(layers.Concatenate()([a, b])))
    return keras.Model({"a": a, "b": b} if form is dict else [a, b], outputs)


def two_arrays():
    draw = np.random.default_rng(3)
    return [draw.random((COUNT, size), dtype="float32") for size in (4, 3)]


class Batches(keras.utils.PyDataset):
    def __init__(self, items, length=None):
        super().__init__()
        self.items, self.length, self.asked = items, length, []

    def __len__(self):
        return self.length or len(self.items)

    def __getitem__(self, number):
        self.asked.append(number)
        return self.items[number]


def batched(samples, size=3):
    parts = [slice(start, start + size) for start in range(0, COUNT, size)]
    return [tree.map_structure(lambda array, part=part: array[part], samples) for part in parts]


def tf_dataset(samples):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(samples).batch(3)


def data_loader(samples):
    data = pytest.importorskip("torch.utils.data", reason="PyTorch is not installed")
    rows = [tree.map_structure(lambda array, i=i: array[i], samples) for i in range(COUNT)]
    return data.DataLoader(rows, batch_size=3)


DATASETS = {
    "tf.data": tf_dataset,
    "PyDataset": lambda samples: Batches(batched(samples)),
    "DataLoader": data_loader,
    "generator": lambda samples: iter(batched(samples)),
}
FORMS = {
    "x": lambda x: x,
    "(x,)": lambda x: (x,),
    "(x, y)": lambda x: (x, np.arange(COUNT)),
    "(x, y, weights)": lambda x: (x, np.arange(COUNT), np.ones(COUNT)),
}


def assert_stream_is_one_call(explainer, dataset, inputs, **arguments):
    parts, whole = list(explainer.stream(dataset, **arguments)), explainer(inputs, **arguments)
    assert len(parts) == 3
    joined = tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)
    tree.map_structure(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), joined, whole)


@pytest.mark.parametrize("kind", DATASETS)
@pytest.mark.parametrize("form", FORMS)
def test_a_stream_is_one_call(kind, form):
    dataset = DATASETS[kind](FORMS[form](images()))
    assert_stream_is_one_call(vis.GradCAM(small_cnn()), dataset, images(), target=1, batch_size=2)


@pytest.mark.parametrize("kind", DATASETS)
@pytest.mark.parametrize("with_labels", [False, True])
@pytest.mark.parametrize("form", [dict, *slow(tuple)])
def test_a_stream_for_a_model_with_two_inputs(kind, with_labels, form):
    arrays = two_arrays()
    inputs = dict(zip("ab", arrays)) if form is dict else tuple(arrays)
    dataset = DATASETS[kind]((inputs, np.arange(COUNT)) if with_labels else inputs)
    given = inputs if form is dict else list(inputs) if kind != "generator" else inputs
    explainer = vis.IntegratedGradients(two_inputs(form), steps=3)
    parts, whole = list(explainer.stream(dataset)), explainer(given)
    for name in whole if form is dict else range(2):
        np.testing.assert_allclose(np.concatenate([part[name] for part in parts]), whole[name], atol=1e-6)


def test_a_stream_takes_a_function_as_target():
    explainer = vis.Saliency(small_cnn())
    assert_stream_is_one_call(explainer, batched(images()), images(), target=lambda outputs: outputs[:, 0] ** 2)


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_a_stream_reads_no_further_than_it_may(prefetch):
    read = []

    def endless():
        for number in itertools.count():
            read.append(number)
            yield images(2), number

    stream = vis.Saliency(small_cnn()).stream(endless(), prefetch=prefetch)
    assert read == []
    for number in range(3):
        next(stream)
        assert number + 1 <= len(read) <= number + 1 + prefetch
    stream.close()
    assert read == list(range(len(read))) and len(read) <= 3 + prefetch


def test_a_stream_asks_a_dataset_for_one_batch_at_a_time():
    dataset = Batches(batched(images()))
    stream = vis.Saliency(small_cnn()).stream(dataset, prefetch=0)
    assert dataset.asked == []
    next(stream), next(stream)
    assert dataset.asked == [0, 1]


def test_a_stream_reads_an_iterable_torch_dataset_lazily():
    data = pytest.importorskip("torch.utils.data", reason="PyTorch is not installed")
    read = []

    class Rows(data.IterableDataset):
        def __iter__(self):
            for number, image in enumerate(itertools.cycle(images())):
                read.append(number)
                yield image

    stream = vis.Saliency(small_cnn()).stream(data.DataLoader(Rows(), batch_size=2), prefetch=0)
    next(stream), next(stream)
    assert len(read) == 4


def test_a_stream_keeps_neither_batches_nor_maps():
    alive = []

    def endless():
        while True:
            batch = images(2)
            alive.append(weakref.ref(batch))
            yield batch

    for number, maps in enumerate(vis.Saliency(small_cnn()).stream(endless())):
        alive.append(weakref.ref(maps))
        if number == 5:
            break
    gc.collect()
    assert sum(reference() is not None for reference in alive) <= 6  # this batch, the last one, and two read ahead


def test_an_endless_py_dataset():
    class Endless(keras.utils.PyDataset):
        num_batches = None

        def __getitem__(self, number):
            return images(2)

    stream = vis.Saliency(small_cnn()).stream(Endless(workers=1))
    assert len(list(itertools.islice(stream, 4))) == 4


def broken():
    yield images()[:3]
    yield images()[3:6]
    raise OSError("the disk is gone")


def short_loader():
    data = pytest.importorskip("torch.utils.data", reason="PyTorch is not installed")

    class Rows(data.IterableDataset):
        def __iter__(self):
            return iter(images(6))

        def __len__(self):
            return 9

    return data.DataLoader(Rows(), batch_size=3)


class Short(list):
    def __len__(self):
        return 3


ENDINGS = {
    "generator raises": (broken, "Batch 2 of the data set could not be read: OSError: the disk is gone"),
    "PyDataset is short": (lambda: Batches(batched(images())[:2], 3), "Batch 2 .* could not be read: .*out of range"),
    "DataLoader is short": (short_loader, "ended early. Received: 2 batches, expected: 3"),
    "iterable is short": (lambda: Short(batched(images())[:2]), "ended early. Received: 2 batches, expected: 3"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_data_set_that_ends_early(name):
    make, words = ENDINGS[name]
    assert_two_batches_then(make(), words)


@pytest.mark.parametrize(
    "item, words",
    [
        (None, "Received: None"),
        ((None, 1), "Received: None"),
        ("photo.jpg", "must be numbers"),
        (object(), "must be numbers"),
        (5, "must have the shape"),
        ((), "must have the shape"),
        ({}, "must have the keys"),
        ({"other": images()}, "must have the keys .*Received: \\['other'\\]"),
        (images()[0], "add a batch axis|Add a batch axis"),
        (images()[..., :2], "Received: shape \\(7, 9, 7, 2\\)"),
        (images()[:0], "at least one sample"),
        (np.full((2, 9, 7, 3), np.nan), "finite numbers"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_garbage_in_a_data_set(item, words):
    assert_two_batches_then([*batched(images())[:2], item, images()], f"(?s)Batch 2 of the data set.*{words}")


def assert_two_batches_then(dataset, words):
    explainer, maps = vis.Saliency(small_cnn()), []
    with pytest.raises(ValueError, match=words):
        maps.extend(explainer.stream(dataset))
    np.testing.assert_allclose(np.concatenate(maps), explainer(images()[:6]), atol=1e-6)


@pytest.mark.parametrize("kind", ["tensorflow", "keras", "torch"])
def test_the_stream_example(kind, network, digits, tmp_path):
    if kind == "torch":
        pytest.importorskip("torch", reason="PyTorch is not installed")
    example, explainer, (pixels, labels) = (
        load_example("stream_dataset"),
        vis.Saliency(network),
        (digits, np.arange(10)),
    )
    maps = explainer.stream(example.DATASETS[kind](pixels, labels, 3), "labels", into=tmp_path / "maps.npy")
    np.testing.assert_allclose(maps, explainer(pixels, labels), atol=1e-6)
    example.draw_some(pixels, maps).savefig(tmp_path / "maps.png")


def load_example(name):
    """Imports an example from its file, as no package has it."""
    spec = importlib.util.spec_from_file_location(name, SCALE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Several devices: their number is fixed when the framework starts, hence processes of their own.

DEVICES = {"tensorflow": 3, "jax": 4}
METHODS = {
    "Saliency": {},
    "GradCAM": {},
    "SmoothGrad": {"num_samples": 5, "seed": 0},
    "IntegratedGradients": {"steps": 7},
    "GuidedIntegratedGradients": {"steps": 3},
    "FullGrad": {},
    "ScoreCAM": {},
    "RISE": {"num_masks": 21, "seed": 0},
}
RUNS = ("made there", "made before", "called outside")


class Recorder(layers.Layer):
    """Notes how its input lies on the devices: `(device or number of devices, rows on each)`."""

    seen = []

    def call(self, inputs):
        if BACKEND == "tensorflow":
            self.seen.append((int(inputs.device.split(":")[-1] or 0) if inputs.device else -1, inputs.shape[0]))
        elif BACKEND == "jax":
            import jax

            def note(sharding):
                self.seen.append((len(sharding.device_set), sharding.shard_shape(inputs.shape)[0]))

            jax.debug.inspect_array_sharding(inputs, callback=note)
        return inputs


def recording_network():
    """The small CNN with a recorder, batch normalisation and a softmax."""
    model = keras.Sequential(
        [
            keras.Input((9, 7, 3)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            Recorder(),
            layers.Conv2D(5, 2, activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(3, activation="softmax"),
        ]
    )
    draw = np.random.default_rng(1)
    model.set_weights([draw.uniform(0.1, 0.5, w.shape) - 0.2 * (w.ndim > 1) for w in model.get_weights()])
    return model


def simulate():
    """Makes devices of this machine's CPU, and returns `(enter, leave)`, which turn their use on and off."""
    if BACKEND == "jax":
        distribution = keras.distribution.DataParallel(devices=keras.distribution.list_devices())
        assert len(keras.distribution.list_devices()) == DEVICES["jax"]
        turn = keras.distribution.set_distribution
        return lambda: turn(distribution), lambda: turn(None)
    import tensorflow as tf

    cpu, count = tf.config.list_physical_devices("CPU")[0], DEVICES["tensorflow"]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    scopes, strategy = [], tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)])

    def enter():
        scopes.append(strategy.scope())
        scopes[-1].__enter__()

    return enter, lambda: scopes.pop().__exit__(None, None, None)


def explain_on_devices(path):
    """Writes the maps of one device and of several, and what the recorder saw; runs in a process of its own."""
    enter, leave = simulate()
    make = {name: lambda model, name=name: getattr(vis, name)(model, **METHODS[name]) for name in METHODS}
    before = {name: make[name](recording_network()) for name in METHODS}
    arrays = {f"{name}, one": before[name](images(), batch_size=5) for name in METHODS}
    enter()
    there = {name: make[name](recording_network()) for name in METHODS}
    for name in METHODS:
        Recorder.seen.clear()
        arrays[f"{name}, made there"] = there[name](images(), batch_size=5)
        arrays[f"{name}, seen"] = np.array(Recorder.seen)
        arrays[f"{name}, made before"] = before[name](images(), batch_size=5)
    arrays["one sample"] = there["Saliency"](images()[:1])
    leave()
    for name in METHODS:
        arrays[f"{name}, called outside"] = there[name](images(), batch_size=5)
    np.savez(path, **arrays)


def environment_of_devices():
    if BACKEND not in DEVICES:
        pytest.skip("on PyTorch, rows go to the one device that Keras uses")
    flags = f"--xla_force_host_platform_device_count={DEVICES['jax']} --xla_backend_optimization_level=0"
    return {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1"}


@pytest.fixture(scope="module")
def on_devices(tmp_path_factory):
    path = tmp_path_factory.mktemp("devices") / "maps.npz"
    python(f"import test_scale; test_scale.explain_on_devices({str(path)!r})", **environment_of_devices())
    with np.load(path) as arrays:
        return dict(arrays)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("run", RUNS)
def test_several_devices_give_the_maps_of_one(on_devices, name, run):
    expected = on_devices[f"{name}, one"]
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(on_devices[f"{name}, {run}"], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_rows_are_spread_over_the_devices(on_devices, name):
    seen, count = on_devices[f"{name}, seen"], DEVICES[BACKEND]
    seen = seen[seen[:, 1] != 3]  # those three were looked at on one device, to see whether rows are kept apart
    assert set(seen[:, 1]) <= {1, 2}  # of at most 5 rows, filled up to a multiple
    if BACKEND == "jax":
        assert set(seen[:, 0]) == {count}
    else:
        assert set(seen[:, 0]) == set(range(count))


@pytest.mark.slow
def test_fewer_samples_than_devices(on_devices):
    np.testing.assert_allclose(on_devices["one sample"], on_devices["Saliency, one"][:1], atol=1e-5)


@pytest.mark.slow
def test_the_devices_of_the_readme():
    jax_code, tensorflow_code, simulation = blocks(SCALE / "README.md", "python")
    environment = environment_of_devices()
    if BACKEND == "jax":
        code = f"{jax_code}\nassert keras.distribution.distribution().device_mesh.shape == (4,)"
    else:
        code = f"import tensorflow as tf\n{simulation}\n{tensorflow_code}\nassert strategy.num_replicas_in_sync == 4"
    code += "\nassert maps.shape == images.shape and maps.any()"
    python(code, **environment)


# Several processes.


@pytest.fixture(scope="module")
def workers():
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'keras-vis[scale]'")
    pytest.importorskip("ray.data", reason="Ray Data is not installed: pip install 'keras-vis[scale]'")
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.MonkeyPatch.context() as kept:
        kept.setenv("RAY_USAGE_STATS_ENABLED", "0")  # its threads would ask the network to the end
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
            patch.delenv("KERAS_BACKEND", raising=False)  # the workers must be told
            scale.start(workers=2)
        yield
        ray.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


class Telling(vis.SmoothGrad):
    """SmoothGrad that notes which backend it ran on, in its maps."""

    def explain(self, task):
        return super().explain(task) + self.offset[keras.config.backend()]


@pytest.mark.slow
def test_ray_gives_the_maps_of_one_process(workers, tmp_path):
    explainer = Telling(small_cnn(), num_samples=3, seed=0)
    explainer.offset = {"tensorflow": 10, "jax": 20, "torch": 30}
    data = images(40)
    scale.explain(explainer, data, tmp_path / "maps", 1, workers=2, batch_size=3)
    maps, processes = scale.read(tmp_path / "maps", 40)
    expected = explainer(data, 1)
    np.testing.assert_allclose(maps, expected, atol=1e-5)
    assert len(processes) == 2 and os.getpid() not in processes
    example = load_example("explain_dataset")
    example.check(maps, expected)
    with pytest.raises(RuntimeError, match="other maps"):
        example.check(maps, expected + 1)


class Deadly(vis.Saliency):
    """Saliency whose process dies on one image, the first few times, of which it leaves traces in a folder."""

    def explain(self, task):
        deaths = len(os.listdir(self.folder))
        if deaths < self.times and (task.batch.arrays[0] == self.image).all(axis=(1, 2, 3)).any():
            pathlib.Path(self.folder, str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().explain(task)


def deadly(folder, image, times):
    explainer = Deadly(small_cnn())
    explainer.folder, explainer.image, explainer.times = str(folder), image, times
    folder.mkdir()
    return explainer


@pytest.mark.slow
def test_a_worker_that_dies_loses_nothing_and_makes_nothing_twice(workers, tmp_path):
    data = images(40)
    explainer = deadly(tmp_path / "deaths", data[20], times=2)
    scale.explain(explainer, data, tmp_path / "maps", workers=2, batch_size=3)
    maps, processes = scale.read(tmp_path / "maps", 40)
    dead = {int(name) for name in os.listdir(tmp_path / "deaths")}
    assert len(dead) == 2 and processes - dead
    np.testing.assert_allclose(maps, vis.Saliency(small_cnn())(data), atol=1e-6)


@pytest.mark.slow
def test_a_batch_that_no_worker_survives_is_given_up(workers, tmp_path):
    data = images(6)
    with pytest.raises(RuntimeError, match="could not be explained.*1 times more") as caught:
        scale.explain(deadly(tmp_path / "deaths", data[4], times=9), data, tmp_path / "maps", batch_size=3, retries=1)
    assert len(str(caught.value)) < 400 and len(os.listdir(tmp_path / "deaths")) == 2


@pytest.mark.slow
def test_a_data_set_of_ray(workers, tmp_path):
    import ray

    rows = [{"index": 10 * index, "image": image} for index, image in reversed(list(enumerate(images(9))))]
    dataset = ray.data.from_items(rows)
    scale.explain(vis.Saliency(small_cnn()), dataset, tmp_path / "maps", batch_size=4)
    maps, _ = scale.read(tmp_path / "maps")
    np.testing.assert_allclose(maps, vis.Saliency(small_cnn())(images(9)), atol=1e-6)
    with pytest.raises(ValueError, match="one map for each of 10 images. Received: 9 maps"):
        scale.read(tmp_path / "maps", 10)
    with pytest.raises(ValueError, match=r"columns 'index' and 'image'. Received: \['image'\]"):
        scale.explain(vis.Saliency(small_cnn()), dataset.drop_columns(["index"]), tmp_path / "maps")


@pytest.mark.slow
def test_maps_are_replaced_once_new_ones_are_whole(workers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the workers stay where they are
    explainer, data = vis.Saliency(small_cnn()), images(6)
    scale.explain(explainer, data, "maps", 1, batch_size=3)
    before, _ = scale.read("maps", 6)
    scale.explain(explainer, data, "maps", 0, batch_size=3)
    after, _ = scale.read("maps", 6)
    assert (after != before).any() and os.listdir() == ["maps"]
    broken = np.concatenate([data[:5], np.full_like(data[:1], np.nan)])
    # The last run of this file: what Ray logs of the failure, with all that it refers to, is kept by pytest.
    with pytest.raises(RuntimeError, match="ValueError: `inputs` must be finite numbers.*Where a worker died"):
        scale.explain(explainer, broken, "maps", 1, batch_size=3)
    np.testing.assert_array_equal(scale.read("maps", 6)[0], after)
    with pytest.raises(RuntimeError, match="Ray runs already"):
        scale.start()


@pytest.mark.parametrize("name", ["maps", "maps.unfinished"])
def test_what_is_no_map_is_not_replaced(name, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'keras-vis[scale]'")
    (tmp_path / name).mkdir()
    (tmp_path / name / "photo.jpg").touch()
    with pytest.raises(ValueError, match=f"hold maps only.*{name}', where 'photo.jpg' is") as caught:
        scale._begun(tmp_path / "maps")
    assert len(str(caught.value)) < 400 and (tmp_path / name / "photo.jpg").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="must be a folder"):
        scale._begun(tmp_path / "file")


@pytest.mark.parametrize(
    "image, target, error, words",
    [
        (None, 9, ValueError, "out of range. Received: 9"),
        (None, [1, 0], TypeError, r"of a data set must be None.*\[1, 0\]"),
        (np.zeros((2, 2, 3), "float32"), 1, ValueError, "must have the shape"),
    ],
)
def test_what_is_known_to_be_wrong_is_told_before_workers_start(image, target, error, words):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'keras-vis[scale]'")
    first = images(1) if image is None else image[None]
    with pytest.raises(error, match=words):
        scale._check_first(vis.Saliency(small_cnn()), first, target)
    with pytest.raises(TypeError, match="`explainer` must be one, such as .*Received: Functional"):
        scale._check_first(small_cnn(), first, 1)


@pytest.fixture(scope="module")
def planning():
    return load_example("plan")


def test_a_plan_by_hand(planning):
    figures = planning.Figures(0.01, 0.002, 1e5, 4e5, read=1e9, write=1e9, life=1e12)
    assert planning.plan(figures, 10**6, 1) == (pytest.approx(10_000, rel=1e-6), "the network")
    assert planning.plan(figures, 10**9, 25)[1] == "the network"
    assert planning.plan(figures, 10**9, 26) == (pytest.approx(4e5), "writing maps")  # 2,500 maps are a second's bytes
    assert planning.plan(figures, 64, 1000) == (pytest.approx(0.32), "too few batches")
    slow_files = dataclasses.replace(figures, decode=0.03)
    assert planning.plan(slow_files, 10**6, 1) == (pytest.approx(30_000, rel=1e-6), "decoding")
    alone = dataclasses.replace(figures, ahead=False)
    assert planning.plan(alone, 10**6, 1) == (pytest.approx(12_000, rel=1e-6), "the network")


@pytest.mark.parametrize("workers", [1, 7, 50])
@pytest.mark.parametrize("life", [1e12, 200.0, 20.0])
def test_a_plan_is_what_a_simulation_takes(planning, workers, life):
    """Workers that die every 20 seconds, of which a restart takes 5, lose a fifth of their time and some batches."""
    figures = planning.Figures(0.01, 0.002, 1e5, 1.0, life=life, restart=5.0)
    images = workers * 800 * planning.BATCH
    expected, _ = planning.plan(figures, images, workers)
    times = [planning.simulate(figures, images, workers, seed) for seed in range(10)]
    assert np.mean(times) == pytest.approx(expected, rel=0.03)


def test_a_simulation_without_deaths_is_counted_in_rounds(planning):
    figures = planning.Figures(0.01, 0.0, 1.0, 1.0, life=1e12)
    assert planning.simulate(figures, 5 * planning.BATCH, 2) == pytest.approx(3 * planning.BATCH * 0.01)


@pytest.mark.parametrize(
    "folder, error, words",
    [
        ("no/such", ValueError, "must be one that `explain` wrote to. Received: 'no/such'"),
        (3, TypeError, "must be a path"),
        ("a\0b", ValueError, "must be a folder"),
    ],
)
def test_folders_that_are_none(folder, error, words):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'keras-vis[scale]'")
    with pytest.raises(error, match=words):
        scale.read(folder)


def test_an_address_that_is_none(monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'keras-vis[scale]'")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ValueError, match="`address` must be 'local', 'auto'.*Received: 'nowhere'"):
        scale.start(address="nowhere")


def test_without_ray_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("vis.scale.importlib.util.find_spec", lambda name: None)
    for call in (scale.start, lambda: scale.explain(None, images(), tmp_path), lambda: scale.read(tmp_path)):
        with pytest.raises(ImportError, match=r"keras-vis\[scale\]"):
            call()


def test_the_scale_folder_names_no_place_of_this_machine():
    for path in SCALE.glob("*.*"):
        assert str(pathlib.Path.home()) not in path.read_text() and str(ROOT) not in path.read_text()
