"""Pictures of values of features: what is drawn is what was given."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from vis import plotting
from vis.feature_plots import PLAIN

NAMES = ["age", "weight", "dose", "hours"]
VALUES = np.array([1.0, -4.0, 2.0, 0.5])


@pytest.fixture(autouse=True)
def nothing_global_changes():
    before, figures = dict(matplotlib.rcParams), plt.get_fignums()
    yield
    assert dict(matplotlib.rcParams) == before and plt.get_fignums() == figures


def bars(axis):
    return [(patch.get_x(), patch.get_width()) for patch in axis.patches]


def names(axis):
    return [label.get_text() for label in axis.get_yticklabels()]


def test_a_waterfall_goes_from_the_baseline_to_the_score():
    axis = plotting.waterfall(VALUES, 10, [50, 70.25, "low", 8], NAMES).axes[0]
    assert names(axis) == ["hours = 8", "age = 50", "dose = low", "weight = 70.25"]  # from the bottom
    ends = np.cumsum([10, 0.5, 1, 2, -4])
    np.testing.assert_allclose(bars(axis), np.stack([ends[:-1], np.diff(ends)], axis=1))
    texts = [text.get_text() for text in axis.texts]
    assert texts == ["+0.5", "+1", "+2", "-4", "baseline 10", "score 9.5"]


def test_the_smallest_values_are_one_bar():
    axis = plotting.waterfall(VALUES, 10, feature_names=NAMES, max_features=3).axes[0]
    assert names(axis) == ["2 others", "dose", "weight"]
    assert bars(axis)[0] == (10, 1.5) and sum(width for _, width in bars(axis)) == VALUES.sum()


def test_bars_of_one_sample_have_signs_and_errors():
    axis = plotting.bar(VALUES, [0.5, 1, 0, 0], feature_names=NAMES, max_features=2).axes[0]
    assert names(axis) == ["dose", "weight"] and [width for _, width in bars(axis)] == [2, -4]
    lines = axis.collections[0].get_segments()
    np.testing.assert_allclose(lines[1][:, 0], [-4 - 1.96, -4 + 1.96])


def test_bars_of_many_samples_are_mean_sizes():
    axis = plotting.bar([VALUES, -VALUES], feature_names=NAMES).axes[0]
    assert [width for _, width in bars(axis)] == sorted(abs(VALUES))


def test_a_swarm_has_every_sample_once(rng):
    values, data = rng.normal(size=(40, 4)) * [1, 9, 3, 2], rng.normal(size=(40, 4))
    data[:, 1], data[0, 2] = 5, np.nan
    axis = plotting.beeswarm(values, data, NAMES, max_features=3).axes[0]
    assert names(axis) == ["hours", "dose", "weight"]
    for row, i in enumerate([3, 2, 1]):
        offsets = axis.collections[row].get_offsets()
        np.testing.assert_allclose(offsets[:, 0], values[:, i])
        assert (np.abs(offsets[:, 1] - row) < 0.5).all()
    rare = np.zeros((40, 1))
    rare[:1] = 1
    shades = plotting.beeswarm(values[:, :1], rare).axes[0].collections[0].get_facecolors()
    assert len(np.unique(shades, axis=0)) == 2
    colours = axis.collections[1].get_facecolors()
    order = np.argsort(data[1:, 2])
    assert len(np.unique(axis.collections[2].get_facecolors(), axis=0)) == 1  # a constant column
    np.testing.assert_allclose(colours[0], matplotlib.colors.to_rgba(PLAIN))  # not a number
    np.testing.assert_allclose(colours[1:][order[0]], matplotlib.colormaps["viridis"](0.0))


def test_dots_of_a_swarm_do_not_lie_upon_each_other():
    offsets = plotting.beeswarm(np.zeros((9, 1))).axes[0].collections[0].get_offsets()
    assert len(np.unique(offsets.round(6), axis=0)) == 9


def test_a_strip_meets_at_the_score():
    axis = plotting.force(VALUES, 10, feature_names=NAMES).axes[0]
    found = bars(axis)
    assert found[:3] == [(7.5, 2), (6.5, 1), (6, 0.5)]  # up, next to 9.5 first
    assert found[3:] == [(9.5, 4)]
    texts = {text.get_text() for text in axis.texts}
    assert {*NAMES, "score 9.5", "baseline 10"} == texts


def test_names_of_a_strip_do_not_cover_each_other(rng):
    figure = plotting.force(rng.normal(size=30), 0, feature_names=[f"a rather long name {i}" for i in range(30)])
    figure.draw_without_rendering()
    axis, renderer = figure.axes[0], figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in axis.texts if text.get_text().startswith("a ")]
    assert len(boxes) == 8
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_dependence(rng):
    values, data = rng.normal(size=(20, 4)), rng.normal(size=(20, 4))
    figure = plotting.dependence(values, data, "dose", colour=0, feature_names=NAMES)
    axis = figure.axes[0]
    np.testing.assert_allclose(axis.collections[0].get_offsets(), np.stack([data[:, 2], values[:, 2]], axis=1))
    assert axis.get_xlabel() == "dose" and figure.axes[1].get_ylabel() == "age"
    assert len(plotting.dependence(values, data, -2).axes) == 1
    shades = axis.collections[0].get_facecolors()
    np.testing.assert_allclose(shades[data[:, 0].argmax()], matplotlib.colormaps["viridis"](1.0))


class Frame:
    """What is used of a data frame."""

    def __init__(self, columns):
        self.columns, self._table = list(columns), np.array(list(columns.values()), dtype=object).T

    def to_numpy(self):
        return self._table


def test_a_data_frame_names_its_columns(rng):
    frame = Frame({"age": [3, 4, 5], "kind": ["a", "b", "c"]})
    values = rng.normal(size=(3, 2)) * [2, 1]
    figure = plotting.beeswarm(values, frame)
    assert set(names(figure.axes[0])) == {"age", "kind"}
    with pytest.raises(ValueError, match="'kind' must be numbers"):
        plotting.dependence(values, frame, "kind")


def test_names_that_are_long_differ_still():
    long = ["neighbourhood_group_cleansed_Manhattan", "neighbourhood_group_cleansed_Bronx"]
    assert len(set(names(plotting.bar([1.0, 2.0], feature_names=long).axes[0]))) == 2


def test_errors_that_are_not_known_are_not_drawn():
    assert plotting.bar([1.0, 2.0, np.nan], [np.nan] * 3).axes[0].patches


def test_columns_that_are_grouped_are_not_named_by_a_frame(rng):
    values, frame = rng.normal(size=(4, 2)), Frame({"age": [1, 2, 3, 4], "dose": [1, 2, 3, 4], "kg": [5, 6, 7, 8]})
    one = type("Row", (), {"index": ["age", "dose", "kg"], "to_numpy": lambda self: np.arange(3.0)})()
    for draw in (
        lambda: plotting.beeswarm(values, frame),
        lambda: plotting.bar(values, data=frame),
        lambda: plotting.dependence(values, frame, "dose"),
        lambda: plotting.waterfall(values[0], 0.0, one),
        lambda: plotting.force(values[0], 0.0, one),
    ):
        with pytest.raises(ValueError, match="`data` must have 2 names, one for each feature. Received: 3"):
            draw()


def test_what_is_left_out_is_said(rng):
    values = rng.normal(size=(6, 30))
    for figure in (plotting.beeswarm(values), plotting.bar(values)):
        assert figure.axes[0].get_xlabel().endswith("(the strongest 10 of 30 features are shown)")
    assert plotting.force(values[0], 0.0).axes[0].get_xlabel() == "score (the strongest 8 of 30 features are named)"
    assert plotting.waterfall(values[0], 0.0).axes[0].get_xlabel() == "score"
    assert plotting.beeswarm(values[:, :3]).axes[0].get_xlabel() == "share of the score"


def test_codes_keep_their_digits():
    axis = plotting.waterfall([1.0, 0.5, 0.2], 0.0, [90210, -123456.0, 0.123456]).axes[0]
    words = [label.get_text() for label in axis.get_yticklabels()]
    assert words == ["feature 2 = 0.1235", "feature 1 = -123456", "feature 0 = 90210"]


def test_the_labels_of_long_names_are_inside(rng):
    names = ["number of rooms per floor and house", "b"]
    figure = plotting.dependence(rng.normal(size=(9, 2)), rng.normal(size=(9, 2)), 0, feature_names=names)
    figure.draw_without_rendering()
    for label in (figure.axes[0].xaxis.label, figure.axes[0].yaxis.label):
        box = label.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


def test_two_features_of_one_name(rng):
    with pytest.raises(ValueError, match="'a' is the name of 2 features. Give its number"):
        plotting.dependence(rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), "a", feature_names=["a", "a", "b"])


def test_what_by_feature_returns_is_not_its_values():
    found = type("FeatureValues", (), {"values": np.ones((2, 2)), "base": np.zeros(2)})()
    with pytest.raises(TypeError, match="Received: FeatureValues. Give its `values`"):
        plotting.beeswarm(found)


def test_pandas(rng):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"age": [3.0, 4, 5], "kind": ["a", "b", "c"]})
    axis = plotting.waterfall([1.0, 2.0], 0, frame.iloc[1]).axes[0]
    assert names(axis) == ["age = 4", "kind = b"]
    assert set(names(plotting.bar(rng.normal(size=(3, 2)), data=frame).axes[0])) == {"age", "kind"}


def test_what_samples_with_fewer_features_end_with_is_left_out():
    assert len(plotting.waterfall([1.0, 2.0, np.nan], 0).axes[0].patches) == 2


@pytest.mark.parametrize("values", [[1e-12], [0.0, 0.0], np.linspace(-1e9, 1e9, 60)])
def test_any_size_can_be_drawn(values):
    for figure in (plotting.waterfall(values, 0), plotting.force(values, 1), plotting.bar(values)):
        assert plotting.rendered(figure).std() > 1


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: plotting.waterfall([VALUES], 0), "those of one sample"),
        (lambda: plotting.beeswarm(VALUES), "those of many samples"),
        (lambda: plotting.waterfall([np.nan, 1.0], 0), "finite numbers"),
        (lambda: plotting.waterfall([], 0), "finite numbers"),
        (lambda: plotting.waterfall(["a"], 0), "`values`"),
        (lambda: plotting.waterfall(VALUES, np.nan), "`base`"),
        (lambda: plotting.waterfall(VALUES, 0, [1, 2]), "one for each of 4 features"),
        (lambda: plotting.waterfall(VALUES, 0, feature_names=["a"]), "must be 4 names"),
        (lambda: plotting.waterfall(VALUES, 0, feature_names="abcd"), "list of names"),
        (lambda: plotting.waterfall(VALUES, 0, max_features=1), "`max_features`"),
        (lambda: plotting.bar([VALUES], [0.1] * 4), "one sample's values"),
        (lambda: plotting.bar(VALUES, [-0.1] * 4), "at least 0"),
        (lambda: plotting.beeswarm([VALUES], np.zeros((2, 4))), "the shape of the values"),
        (lambda: plotting.dependence([VALUES], [VALUES], "height", feature_names=NAMES), "'age', 'weight'"),
        (lambda: plotting.dependence([VALUES], [VALUES], 4), "number of a feature"),
    ],
)
def test_mistakes_are_told(make, words):
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        make()
    assert len(str(caught.value)) < 400
