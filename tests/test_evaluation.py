"""`vis.evaluate`: verdicts that are calibrated, a table that fits, files, interruptions, and what it must refuse."""

import json
import pathlib

import keras
import numpy as np
import pytest
from conftest import slow, value_of
from keras import layers
from scipy import ndimage

import vis
from vis.methods.explainer import Explainer
from vis.metrics import studies, verdicts
from vis.utils.validation import VisualizationWarning

SIZE = 8
QUICK = {"metrics": ["srg"], "fills": [0.0]}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    network = [layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(3, activation="softmax")]
    return keras.Sequential([keras.Input((SIZE, SIZE, 2)), *network])


@pytest.fixture
def images(rng):
    return rng.normal(size=(4, SIZE, SIZE, 2)).astype("float32")


@pytest.fixture
def explainers(model):
    return {"gradient": vis.Saliency(model), "Grad-CAM": vis.GradCAM(model)}


def linear(weights):
    model = keras.Sequential([keras.Input(weights.shape), layers.Flatten(), layers.Dense(1, use_bias=False)])
    model.set_weights([weights.reshape(-1, 1)])
    return model


def smooth_noise(rng, *shape, width=1.0):
    return ndimage.gaussian_filter(rng.normal(size=shape), [0] * (len(shape) - 2) + [width] * 2, mode="wrap")


def test_records_and_arrays(model, images, explainers):
    found = vis.evaluate(explainers, images, baselines=20)
    assert len(found.table) == 4 * 3 * 2  # two methods and two baselines, three metrics, two fills
    assert {record["method"] for record in found.table} == {"gradient", "Grad-CAM", "edge filter", "centred Gaussian"}
    for record in found.table:
        key = tuple(record[name] for name in ("method", "metric", "fill"))
        np.testing.assert_allclose(record["mean"], found.scores[key].mean())
        assert record["low"] <= record["mean"] <= record["high"] and record["interval"] == "samples"
        if record["verdict"] == "a baseline":
            assert record["percentile"] is None and key not in found.random
        else:
            assert 0 <= record["percentile"] <= 100 and found.random[key].shape == (20, 4)
            assert found.curves[key].shape == (4, 11)
    top = np.argmax(value_of(model(images)), axis=1)
    assert [name for name, _ in found.classes] == [f"class {number}" for number in top]
    np.testing.assert_allclose([score for _, score in found.classes], value_of(model(images)).max(axis=1), rtol=1e-4)


def test_numbers_are_those_of_the_metrics_alone(model, images, explainers):
    found = vis.evaluate(explainers, images, 1, fills=["mean"])
    maps = explainers["gradient"](images, 1)
    for metric in (vis.metrics.SRG(model), vis.metrics.Insertion(model), vis.metrics.Deletion(model)):
        own = found.scores["gradient", metric.name, "mean"]
        np.testing.assert_allclose(own, metric(images, maps, 1), rtol=1e-5)
    curve = vis.metrics.Insertion(model).curve(images, maps, 1)
    np.testing.assert_allclose(found.curves["gradient", "insertion", "mean"], curve, atol=1e-6)
    given = vis.evaluate({"gradient": maps}, images, 1, fills=["mean"], model=model)
    for key, scores in given.scores.items():
        np.testing.assert_array_equal(scores, found.scores[key])


def test_no_evaluation_twice(images):
    """SRG, insertion and deletion need two curves a map; their ends are the same for all maps."""
    rows = []

    class Counting(layers.Layer):
        def call(self, x):
            return x

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((SIZE, SIZE, 2)), layers.Flatten(), Counting(), layers.Dense(2)])
    maps = np.random.default_rng(0).normal(size=(4, SIZE, SIZE))
    evaluate_rows = vis.engine.tasks.Task.rows

    def counted(self, *args, **kwargs):
        for images, numbers, results in evaluate_rows(self, *args, **kwargs):
            rows.append(len(images))
            yield images, numbers, results

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vis.engine.tasks.Task, "rows", counted)
        vis.evaluate({"maps": maps}, images, 1, fills=[0.0], baselines=3, model=model)
    # Clean and hidden scores, then 9 steps of two curves of: 4 maps, and the two baselines.
    assert sum(rows) == 4 * (1 + 1 + 2 * 9 * (4 + 2))


@pytest.mark.parametrize("samples", [1, *slow(2, 6)])
def test_random_explainers_are_not_called_better_than_chance(samples):
    """Of 200 maps that know nothing of a network at most 5 % may be called better than chance."""
    rng, better = np.random.default_rng(11), 0
    weights = smooth_noise(rng, SIZE, SIZE)[..., None].astype("float32")
    model, images = linear(weights), rng.normal(size=(samples, SIZE, SIZE, 1)).astype("float32")
    maps = {f"random {i}": smooth_noise(rng, samples, SIZE, SIZE, width=rng.uniform(0.2, 2)) for i in range(200)}
    found = vis.evaluate(maps, images, 1, [vis.metrics.SRG(model, 0.0, 4)], baselines=40, model=model)
    for record in found.table:
        better += record["verdict"] in ("better than chance and edges", "not better than an edge filter")
    assert better <= 10
    beaten = [record["percentile"] for record in found.table if record["percentile"] is not None]
    assert 40 < np.mean(beaten) < 60


def test_the_exact_explainer_of_a_linear_model_is_better_than_chance_and_edges():
    """In at least 99 of 100 studies of six samples: 25 of each of four models."""
    rng, better = np.random.default_rng(5), 0
    for _ in range(4):
        weights = smooth_noise(rng, SIZE, SIZE)[..., None].astype("float32")
        images = (1 + 0.5 * rng.normal(size=(150, SIZE, SIZE, 1))).astype("float32")
        model = linear(weights)
        metric = vis.metrics.SRG(model, 0.0, 4)
        found = vis.evaluate({"exact": images * weights}, images, 1, [metric], model=model)
        own, random = found.scores["exact", "srg", "0"], found.random["exact", "srg", "0"]
        edges = found.scores["edge filter", "srg", "0"]
        for part in np.arange(150).reshape(25, 6):
            words = verdicts.verdict_of(own[part], random[:, part], edges[part], 0)
            better += words == "better than chance and edges"
    assert better >= 99


def test_a_constant_map_is_random_and_an_edge_filter_not_better_than_itself(model, images):
    flat = np.ones((4, SIZE, SIZE))
    edges = vis.metrics.baselines.edge_maps(images, 2)
    found = vis.evaluate({"flat": flat, "edges": edges}, images, model=model, metrics=["srg", "mu-fidelity"], fills=[0])
    words = {(record["method"], record["metric"]): record["verdict"] for record in found.table}
    assert words["flat", "srg"] == words["flat", "mu-fidelity"] == "indistinguishable from random"
    assert "chance and edges" not in words["edges", "srg"]


def test_the_probability_of_chance_is_uniform():
    rng = np.random.default_rng(0)
    found = [verdicts.chance_probability(*_own_and_random(rng, 5), seed) for seed in range(400)]
    assert 0.3 < np.mean(found) < 0.7 and 0.02 < np.mean(np.array(found) <= 0.1) < 0.18


def _own_and_random(rng, count):
    numbers = rng.exponential(size=(21, count))
    return numbers[0], numbers[1:]


def test_the_verdict_in_words():
    rng = np.random.default_rng(0)
    random, edges = rng.normal(size=(20, 8)), rng.normal(size=8)
    assert verdicts.verdict_of(edges + 5, random, edges, 0) == "better than chance and edges"
    assert verdicts.verdict_of(random[0], random, edges, 0) == "indistinguishable from random"
    assert verdicts.verdict_of(edges + 5, random, edges + 5.1, 0) == "not better than an edge filter"
    assert verdicts.verdict_of(edges + 5, random, None, 0) == "better than chance"
    # One sample cannot be told from chance by fewer random maps than it takes.
    assert verdicts.verdict_of(np.array([9.0]), random[:18, :1], None, 0) == "indistinguishable from random"
    assert verdicts.verdict_of(np.array([9.0]), random[:, :1], None, 0) == "better than chance"


def test_one_sample_says_what_its_interval_is(explainers, images):
    found = vis.evaluate(explainers, images[:1], baselines=19, **QUICK)
    assert {record["interval"] for record in found.table} == {"random maps", None}
    assert "One sample" in str(found) and "One sample" in found.to_markdown()


def test_the_table_fits(model, images):
    names = {f"a method with a long name, number {i}, and more": vis.Saliency(model) for i in range(2)}
    found = vis.evaluate(names, images, 1, ["srg", "infidelity", "sparseness", "max-sensitivity"])
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 100 and any("higher is better" in line for line in lines)
    assert found.to_markdown().count("\n|") == 1 + len(found.table)
    means = [record["mean"] for record in vis.metrics.tables.by_rank(found.table[:2])]
    assert means == sorted(means, reverse=found.table[0]["higher_is_better"])


def test_every_metric_by_its_name(model, images):
    masks = np.zeros((4, SIZE, SIZE), bool)
    masks[:, 2:6, 2:6] = True
    explainers = {"IG": vis.IntegratedGradients(model, 8), "gradient x input": vis.GradientTimesInput(model)}
    found = vis.evaluate(explainers, images, None, studies.NAMES, ["mean"], masks, baselines=5)
    assert {record["metric"] for record in found.table} == set(studies.NAMES)
    for record in found.table:
        described = record["metric"] in ("sparseness", "entropy", *studies.OF_EXPLAINERS)
        is_baseline = record["method"] in ("edge filter", "centred Gaussian")
        assert (record["verdict"] == "no test of truth") == (described and not is_baseline)


def test_metrics_with_settings_of_their_own(model, images, explainers):
    own = vis.metrics.Deletion(model, "blur", steps=4, logits=True)
    found = vis.evaluate(explainers, images, 1, [own, "srg"], [0.0])
    maps = explainers["gradient"](images, 1)
    np.testing.assert_allclose(found.scores["gradient", "deletion", "blur"], own(images, maps, 1), rtol=1e-4)
    assert found.curves["gradient", "deletion", "blur"].shape == (4, 5)


def test_texts_and_tables_have_no_edges(rng):
    ids = keras.Input((6,), dtype="int32")
    vectors = layers.Embedding(30, 4, mask_zero=True)(ids)
    model = keras.Model(ids, layers.Dense(2)(layers.GlobalAveragePooling1D()(vectors)))
    x = rng.integers(1, 30, (8, 6))
    x[:, 4:] = 0
    explainer = vis.IntegratedGradients(model, 20, baseline=29, input_layer="tokens")
    found = vis.evaluate({"IG": explainer}, x, 1, fills=[29], reduce="sum", metrics=["srg"])
    assert [record["verdict"] for record in found.table] == ["better than chance"]
    columns = linear(rng.normal(size=(12,)).astype("float32"))
    x = rng.normal(size=(8, 12))
    found = vis.evaluate({"gradient x input": vis.GradientTimesInput(columns)}, x, 1, fills=[0.0], metrics=["srg"])
    assert [record["verdict"] for record in found.table] == ["better than chance"]
    assert "<img" not in _page(found)


@pytest.mark.parametrize(
    ("shape", "words"), [((30, 2), "Signal 1: class 1"), ((5, 6, 7, 1), "Image 1: class 1, slice ")]
)
def test_pages_show_signals_and_volumes(shape, words):
    model = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(2)])
    x = np.random.default_rng(0).normal(size=(3, *shape))
    found = vis.evaluate({"one": vis.GradientTimesInput(model)}, x, 1, fills=[0.0], metrics=["srg"], baselines=7)
    page = _page(found)
    assert words in page and page.count('class="picture map"') == 3 * len(found.maps)


def _page(found):
    import tempfile

    path = pathlib.Path(tempfile.mkdtemp()) / "page.html"
    found.to_html(path)
    return path.read_text("utf-8").partition("<body")[2]


def test_files(explainers, images, tmp_path):
    found = vis.evaluate(explainers, images, 1, baselines=5, labels=["a", "b", "c"])
    found.to_json(tmp_path / "found.json")
    read = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert read["table"] == found.table and read["classes"][0]["name"] == "b"
    assert read["settings"]["backend"] == keras.config.backend() and read["settings"]["seed"] == "0"
    assert len(read["curves"][0]["mean"]) == len(read["curves"][0]["fractions"]) == 11
    found.inputs = found.inputs[..., :1]  # a picture has one or three
    found.to_html(tmp_path / "few.html", most_images=1)
    assert "the first 1 of 4 samples" in (tmp_path / "few.html").read_text("utf-8")
    piece = np.zeros((4, 4, 3), "uint8")
    concepts = [{"name": "stripes", "importance": 0.25, "pieces": [piece], "maps": []}]
    found.to_html(tmp_path / "found.html", "A title", concepts=concepts)
    page = (tmp_path / "found.html").read_text("utf-8")
    assert "stripes" in page and "importance 0.25" in page
    assert "A title" in page and "gradient" in page and "vis.GradCAM(model)" in page and "edge filter" in page
    figures = found.figure(), found.curve_figure()
    assert len(figures[0].axes) == 6 and len(figures[1].axes) == 6
    for name in ("to_json", "to_html"):
        with pytest.raises(OSError):
            getattr(found, name)(tmp_path / "no" / "such.file")


def test_what_was_finished_survives_an_interruption(explainers, images):
    class Interrupted(Explainer):
        def explain(self, task):
            raise KeyboardInterrupt

    model = explainers["gradient"].model
    with pytest.raises(KeyboardInterrupt) as caught:
        vis.evaluate({**explainers, "late": Interrupted(model)}, images, 1, **QUICK)
    kept = caught.value.evaluation
    assert [record["method"] for record in kept.table] == ["gradient", "Grad-CAM"]
    assert "gradient" in str(kept) and repr(kept) == "Evaluation of gradient, Grad-CAM"


def test_an_empty_evaluation_says_so():
    empty = vis.metrics.Evaluation()
    assert str(empty) == "Nothing was measured yet."
    for show in (empty.figure, empty.curve_figure, lambda: empty.to_html("page.html")):
        with pytest.raises(ValueError, match="nothing to show"):
            show()


def test_a_progress_bar(explainers, images, capsys):
    vis.evaluate(explainers, images, 1, verbose=1, **QUICK)
    assert "4/4" in capsys.readouterr().out


def test_the_seed_decides(explainers, images):
    one, same, other = (vis.evaluate(explainers, images, 1, seed=seed, **QUICK).random for seed in (0, 0, 1))
    key = ("gradient", "srg", "0")
    np.testing.assert_array_equal(one[key], same[key])
    assert np.abs(one[key] - other[key]).max() > 0


def test_maps_of_several_inputs_are_told_apart_by_name(rng):
    first, second = (keras.Input((SIZE, SIZE, 1), name=name) for name in "za")
    joined = layers.Concatenate()([layers.Flatten()(first), layers.Flatten()(second)])
    model = keras.Model([first, second], layers.Dense(2)(joined))
    inputs = {name: rng.normal(size=(4, SIZE, SIZE, 1)).astype("float32") for name in "za"}
    explainers, options = {"gradient": vis.GradientTimesInput(model)}, {"fills": [0.0], "metrics": ["srg"]}
    named = vis.evaluate(explainers, inputs, 1, **options, input_name="z")
    listed = vis.evaluate(explainers, [inputs["z"], inputs["a"]], 1, **options, input_name="z")
    np.testing.assert_array_equal(named.maps["gradient"], listed.maps["gradient"])
    np.testing.assert_array_equal(named.inputs, inputs["z"])
    assert "input_name='z'" in named.call and named.settings["input"] == "z"
    with pytest.raises(ValueError, match="those of one input, or of 2. Received: 3 arrays"):
        vis.evaluate({"a": (inputs["z"],) * 3}, inputs, 1, **options, input_name="z", model=model)


def test_columns_of_the_same_words_are_numbered(model, images, explainers):
    fills = [vis.metrics.Background(images), vis.metrics.Background(0 * images)]
    found = vis.evaluate(explainers, images, 1, ["srg"], fills, baselines=9)
    keys = [("gradient", "srg", fill) for fill in ("background of 4", "background of 4 (2)")]
    alone = [vis.evaluate(explainers, images, 1, ["srg"], [fill], baselines=9) for fill in fills]
    for key, one in zip(keys, alone):
        np.testing.assert_array_equal(found.scores[key], one.scores[keys[0]])


def test_the_call_and_the_settings_tell_what_the_metrics_look_at(model, images, explainers):
    found = vis.evaluate(explainers, images, 1, ["srg"], [0.0], baselines=9, logits=True, reduce="max")
    assert "vis.Saliency(model),  # with the settings" in found.call
    assert "logits=True, reduce='max')" in found.call and "output_layer" not in found.call
    assert found.settings["score"].startswith("before") and found.settings["output layer"] == "the model's output"


def test_explainers_of_something_else_are_told(model, images):
    other = keras.models.clone_model(model)
    conv = {"layer": vis.Saliency(model, output_layer=0)}
    with pytest.warns(VisualizationWarning, match=r"explains layer 'conv2d.*look at 'dense.*same `output_layer=`"):
        vis.evaluate(conv, images, 1, ["srg"], [0.0], baselines=9)
    vis.evaluate({"same": vis.Saliency(model, output_layer=-1)}, images, 1, ["srg"], [0.0], baselines=9)
    inner = keras.Sequential(
        [keras.Input((SIZE, SIZE, 2)), layers.Flatten(), layers.Dense(3, name="scores")], name="inner"
    )
    nested = keras.Sequential([keras.Input((SIZE, SIZE, 2)), inner, layers.Softmax()])  # of the same classes
    for layer in ("inner/scores", "inner", -1):
        within = vis.Saliency(nested, output_layer=layer)
        vis.evaluate({"within": within}, images, 1, ["srg"], [0.0], baselines=9)
    with pytest.warns(VisualizationWarning, match="explains another model.*same `model=`"):
        vis.evaluate({"other": vis.Saliency(other)}, images, 1, ["srg"], [0.0], baselines=9, model=model)


def test_scores_that_are_no_numbers_get_no_verdict(rng):
    network = [layers.Embedding(9, 3, mask_zero=True), layers.GlobalAveragePooling1D(), layers.Dense(2)]
    model = keras.Sequential([keras.Input((4,), dtype="int32"), *network])
    ids = rng.integers(1, 9, (6, 4))
    with pytest.raises(FloatingPointError, match="are NaN or infinite, for.*a token that its mask"):
        vis.evaluate({"noise": rng.random((6, 4))}, ids, 1, ["srg"], [0], model=model)
    for fill in (9, -1, 0.5):
        with pytest.raises(ValueError, match="a token id, from 0 to 8"):
            vis.evaluate({"noise": rng.random((6, 4))}, ids, 1, ["srg"], [fill], model=model)


def test_infinite_numbers_are_written(model, images, tmp_path):
    found = vis.evaluate({"gradient": vis.Saliency(model)}, images, 1, ["srg"], [0.0], baselines=9)
    found.scores["gradient", "srg", "0"][0], found.table[0]["mean"] = np.inf, np.inf
    found.to_json(tmp_path / "found.json")
    read = json.loads((tmp_path / "found.json").read_text())
    assert read["scores"][0]["scores"][0] is None and read["table"][0]["mean"] is None
    assert verdicts.interval_of(np.array([1.0, np.inf]), None, 0) == (None, None)
    for write in (found.to_json, found.to_html):
        with pytest.raises(TypeError, match="`path` must be that of a file. Received: None"):
            write(None)


@pytest.mark.parametrize("count", [2, 4, 10])
def test_intervals_of_few_samples_hold_the_mean(count):
    draw = np.random.default_rng(count)
    held = [
        low < 0 < high for low, high in (verdicts.interval_of(draw.normal(size=count), None, 0) for _ in range(400))
    ]
    assert 0.92 < np.mean(held) < 0.98


def faults(model, images, explainers):
    maps = np.zeros((4, SIZE, SIZE))
    yield (lambda: vis.evaluate({}, images)), TypeError, "must be a dict"
    yield (lambda: vis.evaluate([vis.Saliency(model)], images)), TypeError, "must be a dict"
    yield (lambda: vis.evaluate({"a": maps}, images)), ValueError, "maps only, which know none"
    yield (lambda: vis.evaluate({"a": vis.GradCAM}, images)), TypeError, "made for a model, such as"
    yield (lambda: vis.evaluate(explainers, [(images, np.zeros(4))])), (TypeError, ValueError), "inputs"
    yield (lambda: vis.evaluate({"edge filter": maps}, images, model=model)), ValueError, "that of a baseline"
    yield (lambda: vis.evaluate(explainers, images, metrics=["srgg"])), ValueError, "Did you mean: 'srg'"
    yield (lambda: vis.evaluate(explainers, images, metrics=[])), ValueError, "must be lists, not empty"
    yield (lambda: vis.evaluate(explainers, images, metrics=[3])), TypeError, "names or metrics"
    yield (lambda: vis.evaluate(explainers, images, fills=["black"])), ValueError, "'mean', 'blur', 'road'"
    yield (lambda: vis.evaluate(explainers, images, metrics=["pointing-game"])), ValueError, "Give `masks=`"
    yield (lambda: vis.evaluate(explainers, images, baselines=0)), ValueError, "baselines"
    yield (lambda: vis.evaluate(explainers, images, seed=-1)), ValueError, "seed"
    yield (lambda: vis.evaluate(explainers, images, target=[1, 2])), ValueError, "target"
    yield (lambda: vis.evaluate(explainers, images, labels="ab")), TypeError, "labels"
    yield (lambda: vis.evaluate(explainers, images[:0])), ValueError, "at least one sample"
    yield (lambda: vis.evaluate({"a": maps[:2]}, images, model=model)), ValueError, "must have the shape"
    yield (lambda: vis.evaluate({"a": maps}, images, model=model, metrics=["max-sensitivity"])), TypeError, "needs one"
    yield (lambda: vis.evaluate(explainers, images, metrics=["completeness"])), TypeError, "another meaning"
    own = vis.metrics.MaxSensitivity(vis.Saliency(model))
    yield (lambda: vis.evaluate(explainers, images, metrics=[own])), TypeError, "has an explainer of its own"
    other = keras.models.clone_model(model)
    yield (lambda: vis.evaluate({**explainers, "b": vis.Saliency(other)}, images)), ValueError, "explainers of several"


def test_bad_input_is_a_sentence(model, images, explainers):
    for call, kind, words in faults(model, images, explainers):
        with pytest.raises(kind, match=words) as caught:
            call()
        assert len(str(caught.value)) < 400


def test_no_harm(model, images, explainers):
    before, weights = images.copy(), [weight.copy() for weight in model.get_weights()]
    vis.evaluate(explainers, images, metrics=["srg", "parameter-randomization"], fills=["road"], baselines=2)
    np.testing.assert_array_equal(images, before)
    for old, new in zip(weights, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_too_few_random_maps_are_said(explainers, images):
    with pytest.warns(vis.utils.validation.VisualizationWarning, match="no method can be told from chance"):
        vis.evaluate(explainers, images[:1], baselines=18, **QUICK)
