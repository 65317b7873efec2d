"""The example of the brain network: it is rebuilt rightly, and its pictures are the right way up."""

import importlib
import pathlib
import sys

import keras
import numpy as np
import pytest

EXAMPLE = pathlib.Path(__file__).resolve().parents[1] / "examples" / "brain"


@pytest.fixture
def example(monkeypatch):
    """The example as a module; other examples have a `network.py` too."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    for name in ("network", "where_it_looks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("where_it_looks")
    for name in ("network", "where_it_looks"):
        sys.modules.pop(name, None)


def test_the_network_marks_the_brain_and_sees_a_place_from_a_part(example):
    model, head = example.brain_unet3d(), example.load_head()
    assert model.count_params() == 171_465
    whole = keras.ops.convert_to_numpy(model(head))[0, ..., 0]
    assert abs((whole > 0.5).mean() - 0.1229) < 2e-4
    brain = example.find_brain(model, head)
    assert 0 <= (whole > 0.5).sum() - brain.sum() < 50  # specks beside the brain
    beside, seen, _ = example.missed(brain)
    part = keras.ops.convert_to_numpy(model(head[(slice(None), *seen)]))[0, ..., 0]
    np.testing.assert_allclose(part[beside[seen]], whole[beside], atol=1e-4)
    assert beside.sum() == beside[seen].sum() > 500
    assert (whole[beside] > 0.5).sum() <= 2  # specks


def test_slices_have_the_top_or_the_face_up(example):
    volume = np.zeros((4, 5, 6))
    volume[2, 4, 5] = 1  # in front and on top
    for plane, where in {"sagittal": (0, 4), "coronal": (0, 2), "axial": (0, 2)}.items():
        assert np.argwhere(example.upright(volume, plane, (2, 4, 5))).tolist() == [list(where)]


def test_what_has_no_relevance_stays_grey_and_signs_have_colours(example):
    picture = example.tinted(np.full((1, 3), 0.5), np.array([[-1.0, 0.0, 1.0]]))
    (blue, grey, red) = picture[0]
    assert blue[2] > blue[0] and red[0] > red[2]
    np.testing.assert_allclose(grey, 0.5)


def test_a_head_turns_once_around(example):
    head = np.zeros((9, 9, 9))
    values = head.copy()
    values[7, 4, 8] = 1  # at one side, on top
    frames = list(example.turning(head, values, 4))
    seen = [np.argwhere(frame[..., 0] != frame[..., 2]).tolist() for frame in frames]
    assert seen[0] == [[0, 7]] and seen[2] == [[0, 1]]
    assert seen[1] == seen[3] == [[0, 4]]


def test_a_volume_of_which_nothing_is_marked_is_said(example):
    with pytest.raises(SystemExit, match="no voxel"):
        example.find_brain(lambda head: head, np.zeros((1, 8, 8, 8, 1), "float32"))
