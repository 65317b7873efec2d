"""Streams: batches read ahead in a thread, maps written into a file, gone on with after a crash; labels as targets."""

import contextvars
import errno
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import types

import keras
import numpy as np
import pytest
from conftest import ROOT, slow, small_cnn
from keras import layers
from test_scale import Batches, batched, images, two_arrays, two_inputs

import vis
from vis.engine import runs
from vis.engine.network import Network
from vis.engine.runs import checksum, described, difference, run_of
from vis.utils import recordings
from vis.utils.ahead import Ahead

PATIENCE = 30  # seconds, for what takes far less


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("vis-")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    assert threads() == []
    yield
    if threads():
        gc.collect()
    assert threads() == []


# Reading ahead.


def naming(names, count=3):
    for _ in range(count):
        names.append(threading.current_thread().name)
        yield images(2)


def test_the_data_set_is_read_in_the_thread_and_the_model_called_outside():
    read, called = [], []

    class Naming(vis.Saliency):
        def explain(self, task):
            called.append(threading.current_thread())
            return super().explain(task)

    assert len(list(Naming(small_cnn()).stream(naming(read)))) == 3
    assert set(read) == {"vis-ahead"} and set(called) == {threading.current_thread()}


def test_without_reading_ahead_there_is_no_thread():
    read = []
    for _ in vis.Saliency(small_cnn()).stream(naming(read), prefetch=0):
        assert threads() == []
    assert read == [threading.current_thread().name] * 3


def test_the_next_batch_is_read_while_the_network_works():
    is_read = [threading.Event() for _ in range(3)]

    def dataset():
        for event in is_read:
            event.set()
            yield images(2)

    class Waiting(vis.Saliency):
        def explain(self, task):
            self.number += 1
            assert is_read[min(self.number, 2)].wait(PATIENCE)
            return super().explain(task)

    explainer = Waiting(small_cnn())
    explainer.number = 0
    assert len(list(explainer.stream(dataset(), prefetch=1))) == 3


def test_batches_stay_in_order():
    data = [images(2) + number for number in range(20)]
    model = keras.Sequential([keras.Input((9, 7, 3)), layers.Flatten(), layers.Dense(2)])
    explainer = vis.GradientTimesInput(model)
    for number, maps in enumerate(explainer.stream(data, 1, prefetch=4)):
        np.testing.assert_allclose(maps, explainer(data[number], 1), atol=1e-6)
    assert number == 19


@pytest.mark.parametrize("prefetch", [0, 1, 5])
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_an_exception_of_the_data_set_comes_once_and_in_its_place(prefetch, kind):
    def dataset():
        yield images(2)
        yield images(2)
        raise kind("no more")

    stream, found = vis.Saliency(small_cnn()).stream(dataset(), prefetch=prefetch), []
    with pytest.raises(kind, match="no more"):
        found.extend(stream)
    assert len(found) == 2 and threads() == []
    assert list(stream) == []


def test_a_data_set_that_cannot_begin_is_said():
    class Closed(list):
        def __iter__(self):
            raise OSError("closed")

    with pytest.raises(ValueError, match="Batch 0 of the data set could not be read: OSError: closed"):
        next(vis.Saliency(small_cnn()).stream(Closed([1])))


def endless():
    while True:
        yield images(2)


ENDS = {
    "closed": lambda stream: stream.close(),
    "collected": lambda stream: None,
    "thrown into": lambda stream: pytest.raises(KeyError, stream.throw, KeyError("x")),
}


@pytest.mark.parametrize("name", ENDS)
def test_nothing_is_left_running(name):
    stream = vis.Saliency(small_cnn()).stream(endless())
    next(stream)
    assert len(threads()) == 1
    ENDS[name](stream)
    del stream
    gc.collect()
    assert threads() == []


def test_nothing_is_left_running_where_the_model_fails():
    with pytest.raises(ValueError, match="Batch 1"):
        list(vis.Saliency(small_cnn()).stream([images(), images()[..., :2], images(), images()]))
    assert threads() == []


def test_a_data_set_that_never_answers_does_not_hold_up_the_end_for_long(monkeypatch):
    monkeypatch.setattr("vis.utils.ahead._PATIENCE", 0.01)
    released = threading.Event()

    def dataset():
        yield images(2)
        released.wait(PATIENCE)
        yield images(2)

    stream = vis.Saliency(small_cnn()).stream(dataset())
    next(stream)
    (thread,) = threads()
    stream.close()
    released.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_the_thread_may_collect_the_iterator_itself():
    holder, calls, taken = [], [], threading.Event()

    def make():
        calls.append(1)
        if len(calls) == 2 and taken.wait(PATIENCE):
            holder.clear()
        return 1

    holder.append(Ahead(make, 1))
    (thread,) = (next(holder[0]), threads())[1]
    taken.set()
    thread.join(PATIENCE)
    assert holder == [] and not thread.is_alive()


def test_the_thread_sees_context_variables():
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(3)
    ahead = Ahead(variable.get, 1)
    assert next(ahead) == 3
    ahead.close()
    assert list(ahead) == []


def test_python_ends_with_a_stream_half_way():
    code = (
        "import itertools\nfrom vis.utils.ahead import Ahead\nahead = Ahead(itertools.count().__next__, 3)\nnext(ahead)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("prefetch, kind", [(-1, ValueError), (1.5, TypeError), (None, TypeError)])
def test_the_number_of_batches_read_ahead_is_checked(prefetch, kind):
    with pytest.raises(kind, match="`prefetch` must be"):
        vis.Saliency(small_cnn()).stream([images()], prefetch=prefetch)


def test_the_last_smaller_batch_compiles_nothing_new(monkeypatch):
    shapes, model = [], small_cnn()

    def noting(network, request, formula, layout, inputs, arguments, data):
        shapes.append(tuple(inputs[0].shape))
        return whole(network, request, formula, layout, inputs, arguments, data)

    whole = Network.evaluate
    monkeypatch.setattr(Network, "evaluate", noting)
    for explainer, size in ((vis.Saliency(model), 3), (vis.SmoothGrad(model, num_samples=5, seed=0), 5)):
        explainer(images(3), 0, batch_size=5)
        shapes.clear()
        found = joined(explainer, target=0, batch_size=5)
        assert set(shapes) <= {(size, 9, 7, 3)}
        np.testing.assert_allclose(found, explainer(images(), 0), atol=1e-6)


# Into a file.


class Counting(vis.Saliency):
    """Saliency that counts the batches it explains."""

    counted = 0  # of the class, as what an explainer holds belongs to its settings

    def explain(self, task):
        Counting.counted += 1
        return super().explain(task)


def counting(model=None, **options):
    Counting.counted = 0
    return Counting(model or small_cnn(), **options)


def joined(explainer, **arguments):
    return np.concatenate(list(explainer.stream(batched(images()), **arguments)))


def test_a_stream_into_a_file_is_the_stream(tmp_path):
    explainer, path = counting(), tmp_path / "maps.npy"
    maps = explainer.stream(batched(images()), into=path)
    assert isinstance(maps, np.memmap) and maps.dtype == "float32" and not maps.flags.writeable
    np.testing.assert_array_equal(maps, joined(vis.Saliency(small_cnn())))
    np.testing.assert_array_equal(np.load(path), maps)
    assert sorted(os.listdir(tmp_path)) == ["maps.npy", "maps.npy.journal"]


def test_what_is_finished_is_not_explained_again(tmp_path):
    explainer, path = counting(), str(tmp_path / "maps.npy")
    first = np.array(explainer.stream(batched(images()), into=path))
    again = explainer.stream(iter(batched(images())), into=path)
    assert Counting.counted == 3
    np.testing.assert_array_equal(again, first)


def test_a_data_set_that_fails_is_gone_on_with(tmp_path):
    path, parts = tmp_path / "maps.npy", batched(images())

    def failing():
        yield from parts[:2]
        raise OSError("the disk is gone")

    with pytest.raises(ValueError, match="Batch 2 .* the disk is gone") as caught:
        counting().stream(failing(), into=path)
    assert "The maps of 6 samples are kept" in caught.value.__notes__[0]
    assert np.load(path).shape == (6, 9, 7, 3)  # a file that can be opened, of what is finished
    np.testing.assert_array_equal(counting().stream(parts, into=path), joined(vis.Saliency(small_cnn())))
    assert Counting.counted == 1


def test_a_data_set_that_ends_early_loses_nothing(tmp_path):
    path, parts = tmp_path / "maps.npy", batched(images())
    with pytest.raises(ValueError, match="Batch 2") as caught:
        counting().stream(Batches(parts[:2], 3), into=path)
    assert "6 samples are kept" in caught.value.__notes__[0]
    data = Batches(parts)
    np.testing.assert_array_equal(counting().stream(data, into=path), joined(vis.Saliency(small_cnn())))
    assert Counting.counted == 1 and data.asked == [0, 1, 2]


def test_of_a_data_set_with_numbers_only_two_finished_batches_are_read(tmp_path):
    data, path = Batches([images(2) + i for i in range(6)]), tmp_path / "maps.npy"
    whole = np.array(counting().stream(data, into=path))
    data.asked.clear()
    np.testing.assert_array_equal(counting().stream(data, into=path), whole)
    assert Counting.counted == 0 and data.asked == [0, 5]


def torn(monkeypatch, number, part):
    """Lets the process die, as it were, while it writes something for the nth time."""
    whole, state = recordings._write_all, [0]

    def write(file, position, data):
        state[0] += 1
        if state[0] == number:
            data = memoryview(data).cast("B")
            whole(file, position, data[: int(part * len(data))])
            raise MemoryError("killed")
        whole(file, position, data)

    def leave(recording):
        recording._journal.close()
        if recording._rows is not None:
            recording._rows.close()

    monkeypatch.setattr(recordings, "_write_all", write)
    monkeypatch.setattr(recordings.Recording, "close", leave)


@pytest.mark.parametrize("number", range(1, 11))
@pytest.mark.parametrize("part", [0.5, *slow(0, 1)])
def test_a_write_that_is_torn_anywhere_is_noticed(number, part, tmp_path, monkeypatch):
    path, whole = tmp_path / "maps.npy", joined(vis.Saliency(small_cnn()))
    with monkeypatch.context() as patch:
        torn(patch, number, part)
        with pytest.raises(MemoryError):
            counting().stream(batched(images()), into=path)
    finished = (number - 2 + (part == 1)) // 3  # the head of the journal, then for each batch rows, head and line
    np.testing.assert_array_equal(counting().stream(batched(images()), into=path), whole)
    assert Counting.counted == 3 - max(finished, 0)
    np.testing.assert_array_equal(np.load(path), whole)
    assert path.stat().st_size == 256 + whole.nbytes


@pytest.mark.parametrize("position, again", [(300, 3), (256 + 3 * 4 * 189 + 5, 2), (-1, 1), (40, 0)])
def test_rows_that_changed_on_the_disk_are_made_again(position, again, tmp_path):
    path = tmp_path / "maps.npy"
    whole = np.array(counting().stream(batched(images()), into=path))
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    np.testing.assert_array_equal(counting().stream(batched(images()), into=path), whole)
    assert Counting.counted == again


def test_rows_that_are_gone_are_made_again(tmp_path):
    path = tmp_path / "maps.npy"
    whole = np.array(counting().stream(batched(images()), into=path))
    path.unlink()
    np.testing.assert_array_equal(counting().stream(batched(images()), into=path), whole)
    assert Counting.counted == 3
    os.truncate(path, 256 + whole[:4].nbytes)
    np.testing.assert_array_equal(counting().stream(batched(images()), into=path), whole)
    assert Counting.counted == 2


KILLED = """
import os, signal, sys
import keras, numpy as np
import vis
from vis.utils import recordings

model, dies = keras.saving.load_model(sys.argv[1]), int(sys.argv[2])
whole, count = recordings._write_all, 0

def write(file, position, data):
    global count
    count += 1
    if count == dies:
        whole(file, position, memoryview(data).cast("B")[: memoryview(data).nbytes // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    whole(file, position, data)

recordings._write_all = write
digits = np.random.default_rng(0).random((20, 28, 28, 1), dtype="float32")
data = [(digits[i : i + 4], np.arange(len(digits[i : i + 4]))) for i in range(0, 20, 4)]
for path in sys.argv[3:]:
    vis.SmoothGrad(model, num_samples=3, seed=0).stream(data, "labels", into=path)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_a_process_that_is_killed_is_gone_on_with_bit_by_bit(network, tmp_path):
    network.save(tmp_path / "network.keras")

    def run(dies, *names):
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": keras.config.backend()}
        command = [sys.executable, "-c", KILLED, tmp_path / "network.keras", str(dies), *(tmp_path / n for n in names)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    killed = run(8, "maps.npy")  # in the middle of the rows of the third batch
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert len(np.load(tmp_path / "maps.npy")) == 8
    assert (tmp_path / "maps.npy").stat().st_size == 256 + 10 * 28 * 28 * 4
    done = run(0, "maps.npy", "undisturbed.npy")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "maps.npy").read_bytes() == (tmp_path / "undisturbed.npy").read_bytes()
    assert np.ptp(np.load(tmp_path / "maps.npy")) > 0


def full_disk(monkeypatch, number):
    whole, state = recordings._write_all, [0]

    def write(file, position, data):
        state[0] += 1
        if state[0] == number:
            whole(file, position, memoryview(data).cast("B")[:7])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(file, position, data)

    monkeypatch.setattr(recordings, "_write_all", write)


@pytest.mark.parametrize("number, kept", [(1, 0), (2, 0), (4, 0), (5, 3), (7, 3), (8, 6)])
def test_a_disk_that_fills_up_loses_nothing(number, kept, tmp_path, monkeypatch):
    path, whole = tmp_path / "maps.npy", joined(vis.Saliency(small_cnn()))
    with monkeypatch.context() as patch:
        full_disk(patch, number)
        with pytest.raises(OSError, match=f"Batch {kept // 3} could not be written: No space left") as caught:
            counting().stream(batched(images()), into=path)
    assert caught.value.errno == errno.ENOSPC and len(str(caught.value)) < 400
    words = f"The maps of {kept} samples are kept" if kept else "Nothing was written"
    assert words in str(caught.value) and threads() == []
    if kept:
        assert len(np.load(path)) == kept
    else:
        assert os.listdir(tmp_path) == []
    np.testing.assert_array_equal(counting().stream(batched(images()), into=path), whole)
    assert Counting.counted == 3 - kept // 3


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_real_full_disk():
    with pytest.raises(OSError, match="No space"), open("/dev/full", "wb", buffering=0) as file:
        recordings._write_all(file, 0, b"12")


def other_weights():
    model = small_cnn()
    model.set_weights([weight * np.float32(1.001) for weight in model.get_weights()])
    return model


OTHERS = {
    "weights of the model": lambda: (counting(other_weights()), None),
    "layers of the model": lambda: (counting(small_cnn(activation="tanh")), None),
    "logits": lambda: (counting(logits=False), None),
    "rules": lambda: (counting(backprop_modifier="guided"), None),
    "input_layer|layer": lambda: (counting(input_layer="conv1"), None),
    "output_layer": lambda: (counting(output_layer="conv2"), None),
    "method": lambda: (vis.GradientTimesInput(small_cnn()), None),
    "target: None there, 1 here": lambda: (counting(), 1),
    "target": lambda: (counting(), lambda outputs: outputs[:, 0]),
}


@pytest.mark.parametrize("words", OTHERS)
def test_maps_of_another_run_are_refused_and_left(words, tmp_path):
    path = tmp_path / "maps.npy"
    counting().stream(batched(images()), into=path)
    before = [path.read_bytes(), (tmp_path / "maps.npy.journal").read_bytes()]
    explainer, target = OTHERS[words]()
    with pytest.raises(ValueError, match=f"`into` holds the maps of another run. Received: ({words})") as caught:
        explainer.stream(batched(images()), target, into=path)
    assert len(str(caught.value)) < 400
    assert [path.read_bytes(), (tmp_path / "maps.npy.journal").read_bytes()] == before


def test_settings_are_named(tmp_path):
    path, data = tmp_path / "maps.npy", [images(2)]
    vis.SmoothGrad(small_cnn(), num_samples=2, seed=0).stream(data, into=path)
    with pytest.raises(ValueError, match="Received: num_samples: 2 there, 3 here"):
        vis.SmoothGrad(small_cnn(), num_samples=3, seed=0).stream(data, into=path)
    with pytest.raises(ValueError, match="Received: seed: 0 there, None here"):
        vis.SmoothGrad(small_cnn(), num_samples=2).stream(data, into=path)


def test_other_batches_are_refused(tmp_path):
    path, parts = tmp_path / "maps.npy", batched(images())
    counting().stream(parts, into=path)
    for data in ([parts[0], parts[1][::-1]], [images()], parts[::-1]):
        with pytest.raises(ValueError, match=r"Batch \d of the data set: it is not the batch whose maps `into` holds"):
            counting().stream(data, into=path)
    with pytest.raises(ValueError, match="holds the maps of 3 batches. Received: a data set of 2"):
        counting().stream(parts[:2], into=path)
    assert len(np.load(path)) == 7 and Counting.counted == 0


def test_more_batches_are_added(tmp_path):
    path, parts = tmp_path / "maps.npy", batched(images())
    counting().stream(parts[:2], into=path)
    np.testing.assert_array_equal(counting().stream(parts, into=path), joined(vis.Saliency(small_cnn())))
    assert Counting.counted == 1


def test_two_streams_do_not_write_into_one_file(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "maps.npy"

    def dataset():
        yield images(2)
        with pytest.raises(ValueError, match="`into` is being written by another stream"):
            vis.Saliency(small_cnn()).stream([images()], into=path)
        yield images(2)

    assert counting().stream(dataset(), into=path).shape == (4, 9, 7, 3)


PATHS = {
    "maps.h5": (ValueError, "must be the path of a `.npy` file.*maps.npy"),
    "nowhere/maps.npy": (ValueError, "must be in a folder that is there"),
    "there.npy": (ValueError, "must be a new path.*there.npy', without a journal"),
    5: (TypeError, "must be a path"),
}


@pytest.mark.parametrize("name", PATHS)
def test_paths_that_cannot_be_written(name, tmp_path):
    (tmp_path / "there.npy").write_text("mine")
    kind, words = PATHS[name]
    with pytest.raises(kind, match=f"`into` {words}"):
        counting().stream([images()], into=tmp_path / name if isinstance(name, str) else name)
    assert (tmp_path / "there.npy").read_text() == "mine" and os.listdir(tmp_path) == ["there.npy"]


def test_what_does_not_go_into_one_array_is_refused(tmp_path):
    path = tmp_path / "maps.npy"
    with pytest.raises(ValueError, match="`into` takes one array of maps. Received: list of 2"):
        vis.Saliency(two_inputs(list)).stream([tuple(two_arrays())], into=path)
    model = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(2, 3), layers.GlobalMaxPooling2D()])
    with pytest.raises(ValueError, match=r"one shape. Received: \(9, 8, 1\) after \(8, 8, 1\)") as caught:
        vis.Saliency(model).stream([np.ones((2, 8, 8, 1)), np.ones((2, 9, 8, 1))], into=path)
    assert "2 samples are kept" in caught.value.__notes__[0]
    with pytest.raises(ValueError, match="at least one batch. Received: none"):
        vis.Saliency(model).stream([], into=tmp_path / "empty.npy")
    assert sorted(os.listdir(tmp_path)) == ["maps.npy", "maps.npy.journal"]


def test_a_model_without_weights_is_refused(tmp_path):
    model = keras.Sequential([layers.Dense(2)])
    with pytest.raises(ValueError, match="`into` needs a model that has weights"):
        vis.Saliency(model).stream([np.ones((1, 3))], into=tmp_path / "maps.npy")


def test_progress_of_a_stream_into_a_file(tmp_path, capsys):
    counting().stream(batched(images()), verbose=1, into=tmp_path / "maps.npy")
    assert "3/3" in capsys.readouterr().out


def test_the_journal_says_what_was_done(tmp_path):
    maps = counting().stream(batched(images()), into=tmp_path / "maps.npy")
    head, *lines = (json.loads(line[9:]) for line in (tmp_path / "maps.npy.journal").read_text().splitlines())
    assert head["row"] == [9, 7, 3] and head["run"]["method"].endswith("Counting")
    assert [line["rows"] for line in lines] == [[0, 3], [3, 6], [6, 7]]
    assert [line["checksum"] for line in lines] == [checksum([maps[a:b]]) for a, b in ([0, 3], [3, 6], [6, 7])]


@pytest.mark.parametrize("number", [1, 3])
def test_into_zarr(number, tmp_path, monkeypatch):
    pytest.importorskip("zarr", reason="Zarr is not installed")
    path, whole = tmp_path / "maps.zarr", joined(vis.Saliency(small_cnn()))

    def failing():
        yield from batched(images())[:number]
        raise OSError

    with pytest.raises(ValueError, match="could not be read"):
        counting().stream(failing(), into=path)
    maps = counting().stream(batched(images()), into=path)
    assert Counting.counted == 3 - number and maps.shape == whole.shape and maps.dtype == "float32"
    np.testing.assert_array_equal(maps[:], whole)
    with pytest.raises(ValueError):
        maps[:] = 0
    chunk = next(one for one in sorted(path.rglob("c/*/0/0/0"), reverse=True))
    chunk.write_bytes(b"torn")
    np.testing.assert_array_equal(counting().stream(batched(images()), into=path)[:], whole)
    assert Counting.counted == 1


def test_without_zarr_a_zarr_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("vis.utils.folders.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="needs Zarr.*pip install.*`.npy`"):
        counting().stream([images()], into=tmp_path / "maps.zarr")
    assert os.listdir(tmp_path) == []


# What decides a run.


def with_a_model_inside():
    inputs = keras.Input((9, 7, 3))
    x = layers.BatchNormalization()(small_cnn(name="inner").layers[1](inputs))
    x = layers.GlobalAveragePooling2D()(layers.Activation("relu")(x) * 2.0)
    return keras.Model(inputs, keras.Sequential([keras.Input((4,)), layers.Dense(2, activation="softmax")])(x))


@pytest.mark.parametrize("make", [None, small_cnn, with_a_model_inside])
def test_a_model_that_was_saved_is_the_same(make, network, tmp_path):
    network = make() if make else network
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    other = keras.models.clone_model(network)
    other.set_weights(network.get_weights())
    for model in (loaded, other):
        assert difference(run_of(vis.GradCAM(network), 3), run_of(vis.GradCAM(model), 3)) is None


def test_names_of_layers_make_no_difference():
    def build():
        inputs = keras.Input((4,))
        x = layers.Dense(4, kernel_initializer="ones")(inputs)
        return keras.Model(inputs, layers.Dense(4, kernel_initializer="ones")(x + inputs))

    first, second = build(), build()
    assert first.layers[1].name != second.layers[1].name
    assert difference(run_of(vis.Saliency(first), None), run_of(vis.Saliency(second), None)) is None


@keras.saving.register_keras_serializable("vis-tests")
class Around(keras.Model):
    """Holds a model, as the classifiers of keras-hub do, and tells of it by its configuration."""

    def __init__(self, inner, dropout=0.1, called="dropout", **settings):
        x = layers.Dropout(dropout, name=called)(inner.outputs[0])
        super().__init__(inputs=inner.inputs, outputs=x, **settings)
        self.inner, self.dropout = inner, dropout

    def get_config(self):
        return {"inner": keras.saving.serialize_keras_object(self.inner), "dropout": self.dropout, "name": self.name}


def test_names_of_models_within_models_make_no_difference():
    def build(called):
        keras.utils.set_random_seed(0)
        return Around(keras.Sequential([keras.Input((4,)), layers.Dense(2), layers.Softmax()]), called=called)

    first, second = build("dropout"), build("dropout_1")  # a name that a setting has too
    assert first.inner.name != second.inner.name
    assert difference(run_of(vis.Saliency(first), None), run_of(vis.Saliency(second), None)) is None


def test_the_precision_makes_a_difference():
    def build(dtype):
        return keras.Sequential([keras.Input((4,)), layers.Dense(4, kernel_initializer="ones", dtype=dtype)])

    one, other = (run_of(vis.Saliency(build(dtype)), None) for dtype in ("mixed_float16", "mixed_bfloat16"))
    found = difference(one, other)
    assert found.startswith("layers of the model")


def test_connections_make_a_difference():
    def build(skips):
        inputs = keras.Input((4,))
        x = layers.Dense(4, kernel_initializer="ones")(inputs)
        y = layers.Dense(4, kernel_initializer="ones")(x)
        return keras.Model(inputs, layers.Add()([y, inputs if skips else x]))

    found = difference(run_of(vis.Saliency(build(True)), None), run_of(vis.Saliency(build(False)), None))
    assert found.startswith("layers of the model")


EXPLAINERS = {
    **{name: {} for name in ("Saliency", "GradCAM", "GuidedGradCAM", "LRP", "Occlusion", "ScoreCAM", "DeepLIFT")},
    **{name: {} for name in ("FullGrad", "AblationCAM", "EigenCAM")},
    "SmoothGrad": {"num_samples": 3, "seed": 0},
    "IntegratedGradients": {"steps": 4},
    "GuidedIntegratedGradients": {"steps": 4},
    "ExpectedGradients": {"background": images(3), "num_samples": 3, "seed": 0},
    "RISE": {"num_masks": 9, "seed": 0},
    "XRAI": {"segments": np.arange(63).reshape(9, 7) // 9, "steps": 3},
    "HSIC": {"num_masks": 9, "grid": 2, "seed": 0},
    "KernelSHAP": {"num_samples": 14, "features": 2, "seed": 0},
    "ShapleyValues": {"num_samples": 9, "features": 2, "seed": 0},
    "LIME": {"num_samples": 9, "features": 2, "seed": 0},
}


@pytest.mark.parametrize("name", EXPLAINERS)
def test_using_an_explainer_makes_no_difference(name):
    explainer = getattr(vis, name)(small_cnn(), **EXPLAINERS[name])
    before = json.loads(json.dumps(run_of(explainer, 1)))
    found = joined(explainer, target=1, batch_size=2)
    assert difference(before, json.loads(json.dumps(run_of(explainer, 1)))) is None
    np.testing.assert_allclose(found, explainer(images(), 1), atol=1e-5)


class Slope:
    def __init__(self, slope):
        self.slope = slope


def around(number):
    return lambda outputs: outputs * number


SLOPE = 1.0


def steep(outputs):
    return outputs * SLOPE


def steeper(outputs):
    return steep(outputs) + sum(outputs * one for one in (0, 1))


class Scaled(keras.layers.Layer):
    def __init__(self, slope, **options):
        super().__init__(**options)
        self.slope = slope

    def call(self, inputs):
        return inputs * self.slope


def scaled(slope):
    return vis.Saliency(keras.Sequential([keras.Input((3,)), Scaled(slope)]))


@pytest.mark.parametrize("function", [steep, steeper])
def test_values_around_a_function_and_those_that_it_calls_make_a_difference(function, monkeypatch):
    before = described(function)
    assert described(function) == before
    monkeypatch.setitem(globals(), "SLOPE", 2.0)
    assert described(function) != before


@pytest.mark.parametrize(
    "value",
    [
        keras.KerasTensor((None, 3)),
        np.array([None, "a"], object),
        [object()],
        {"a": keras.Variable(np.ones(2))},
        keras.Sequential,
    ],
)
def test_what_is_no_data_around_a_function_is_left_out(value, monkeypatch):
    monkeypatch.setitem(globals(), "SLOPE", value)
    assert described(steep)["global values"] == {}


@pytest.mark.parametrize(
    "file, name, own",
    [
        (None, "__main__", True),
        ("/home/me/project/tools.py", "tools", True),
        ("/home/me/.local/lib/python3.11/site-packages/them/code.py", "them.code", False),
        ("/usr/lib/python3/dist-packages/them/code.py", "them.code", False),
        ("/home/me/keras/keras/src/layers/layer.py", "keras.src.layers.layer", False),
        (json.__file__, "json", False),
    ],
)
def test_what_is_the_users_own(file, name, own, monkeypatch):
    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(__file__=file))
    assert runs._is_own(types.SimpleNamespace(__module__=name)) is own


def test_code_that_is_called_makes_a_difference(monkeypatch):
    before = described(steeper), run_of(scaled(1.0), None)
    assert difference(before[1], run_of(scaled(1.0), None)) is None
    assert difference(before[1], run_of(scaled(2.0), None)).startswith("layers of the model")
    monkeypatch.setitem(globals(), "steep", lambda outputs: outputs + SLOPE)
    monkeypatch.setattr(Scaled, "call", lambda self, inputs: inputs + self.slope)
    assert described(steeper) != before[0]
    assert difference(before[1], run_of(scaled(1.0), None)).startswith("layers of the model")


PAIRS = [
    (1, 2),
    (1.0, float("nan")),
    (np.ones(2), np.zeros(2)),
    (np.ones(2), np.ones(2, "float32")),
    (np.ones((2, 1)), np.ones(2)),
    ([1, 2], [2, 1]),
    ({"a": 1}, {"a": 1, "b": None or 2}),
    ({1, 2}, {1, 3}),
    (b"a", b"b"),
    (lambda x: x + 1, lambda x: x + 2),
    (lambda x: x + 1, lambda x: x - 1),
    (lambda x: sum(k * 1.5 for k in x), lambda x: sum(k * 2.5 for k in x)),
    (lambda x: x in {"a", "b"}, lambda x: x in {"a", "c"}),
    (around(1), around(2)),
    (Slope(1), Slope(2)),
    (np.abs, np.sum),
    (int, float),
    (keras.ops.relu, keras.ops.tanh),
]


@pytest.mark.parametrize("first, second", PAIRS, ids=lambda value: type(value).__name__)
def test_descriptions_tell_values_apart(first, second):
    texts = [json.dumps(described(value)) for value in (first, first, second)]
    assert texts[0] == texts[1] != texts[2]


def test_descriptions_of_the_same_are_the_same():
    assert described(around(2)) == described(around(2)) and described(Slope(1)) == described(Slope(1))
    circle = Slope(None)
    circle.slope = circle
    json.dumps(described(circle))
    assert described(keras.ops.ones(2)) == described(np.ones(2, "float32"))


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="needs tf.data")
def test_a_data_set_without_end_is_refused_where_it_goes_into_a_file(tmp_path):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(images()).batch(2).repeat()
    assert next(vis.Saliency(small_cnn()).stream(data, 1)).shape == (2, 9, 7, 3)
    with pytest.raises(ValueError, match="must end here.*take"):
        vis.Saliency(small_cnn()).stream(data, 1, into=tmp_path / "maps.npy")
    assert list(tmp_path.iterdir()) == []


# Labels as targets.

LABELS = np.array([0, 2, 1, 1, 0, 2, 2])
AS_LABELS = {
    "indices": LABELS,
    "a column": LABELS[:, None],
    "floats": LABELS.astype("float64"),
    "one-hot": np.eye(3)[LABELS],
    "one-hot whole numbers": np.eye(3, dtype="uint8")[LABELS],
}


@pytest.mark.parametrize("form", AS_LABELS)
@pytest.mark.parametrize("kind", ["tensors", "arrays"])
def test_labels_are_targets(form, kind):
    explainer, labels = vis.Saliency(small_cnn()), AS_LABELS[form]
    convert = keras.ops.convert_to_tensor if kind == "tensors" else np.asarray
    data = [[convert(images()[i : i + 3]), convert(labels[i : i + 3])] for i in (0, 3, 6)]
    found = np.concatenate(list(explainer.stream(data, "labels")))
    np.testing.assert_allclose(found, explainer(images(), LABELS), atol=1e-6)


def test_labels_of_a_single_output_unit():
    model = keras.Sequential([keras.Input((9, 7, 3)), layers.Flatten(), layers.Dense(1, activation="sigmoid")])
    explainer, wanted = vis.Saliency(model), [0, 1, 1]
    for labels in (wanted, np.array(wanted)[:, None], np.eye(2)[wanted]):
        (found,) = explainer.stream([(images(3), labels)], "labels")
        np.testing.assert_allclose(found, explainer(images(3), wanted), atol=1e-6)


WRONG_LABELS = {
    "none": (lambda x: x, "needs a data set whose batches are pairs"),
    "a tuple of one": (lambda x: (x,), "needs a data set whose batches are pairs"),
    "no one-hot": (lambda x: (x, np.array([[0, 1, 0], [1, 1, 0]])), "must be one-hot.*row 1 with the sum 2"),
    "soft": (lambda x: (x, np.array([[0, 1, 0], [0.5, 0.5, 0]])), "must be one-hot.*row 1 .* largest value 0.5"),
    "no class": (lambda x: (x, np.zeros((2, 3))), "must be one-hot.*row 0"),
    "other classes": (lambda x: (x, np.eye(4)[:2]), "one column for each of the 3 output units.*4 classes"),
    "fractions": (lambda x: (x, [0.5, 1]), "whole numbers. Received: fractions, such as 0.5"),
    "masks": (lambda x: (x, np.zeros((2, 9, 7))), r"one-hot rows \(N, classes\)"),
    "out of range": (lambda x: (x, [0, 3]), "3"),
    "too few": (lambda x: (x, [0]), "target"),
    "text": (lambda x: (x, ["cat", "dog"]), "`labels` must be numbers"),
}


@pytest.mark.parametrize("name", WRONG_LABELS)
def test_labels_that_are_no_classes(name):
    make, words = WRONG_LABELS[name]
    with pytest.raises(ValueError, match=f"(?s)Batch 0 of the data set: .*{words}") as caught:
        list(vis.Saliency(small_cnn()).stream([make(images(2))], "labels"))
    assert len(str(caught.value)) < 400


def test_a_model_with_two_inputs_takes_labels_beside_them():
    explainer, arrays = vis.Saliency(two_inputs(list)), two_arrays()
    labels = np.arange(7) % 2
    (found,) = explainer.stream([(tuple(arrays), labels)], "labels")
    np.testing.assert_allclose(found[0], explainer(arrays, labels)[0], atol=1e-6)
    with pytest.raises(ValueError, match="needs a data set whose batches are pairs"):
        list(explainer.stream([arrays], "labels"))


def test_other_labels_are_other_batches(tmp_path):
    data = [(images(2), [0, 1])]
    counting().stream(data, "labels", into=tmp_path / "maps.npy")
    with pytest.raises(ValueError, match="not the batch whose maps"):
        counting().stream([(images(2), [0, 2])], "labels", into=tmp_path / "maps.npy")
    counting().stream([(images(2), np.eye(3)[[0, 1]])], "labels", into=tmp_path / "maps.npy")  # the same classes
