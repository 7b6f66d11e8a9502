"""Examples run as they stand, on tiny models, and each leaves a picture with something on it."""

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
from support.runs import only_variant

from pipeline.examples import (
    most_exciting_image,
    new_images,
    other_features,
    own_colours,
    receptive_field,
)
from pipeline.experiment import load_experiment

CONDITION = {"tuning": "last1", "tokens": "patch", "block": 1}


@pytest.fixture(scope="module")
def files(tuned_run, tmp_path_factory):
    """A run's folder, and raw images."""
    images, stimuli = tmp_path_factory.mktemp("new") / "images.npy", only_variant(tuned_run).stimuli
    np.save(images, stimuli.read(stimuli.ids[:8]))
    return str(load_experiment(tuned_run).output), str(images)


def assert_drawn(path):
    picture = matplotlib.image.imread(path)
    assert picture.shape[0] > 300 and len(np.unique(picture[..., :3])) > 20
    plt.close("all")


@pytest.mark.parametrize("example", [new_images, receptive_field, most_exciting_image])
def test_examples_on_a_model(files, tmp_path, example):
    more = {"steps": 3} if example is most_exciting_image else {}
    example.main(*files, str(tmp_path / "picture.png"), **CONDITION, **more)
    assert_drawn(tmp_path / "picture.png")


def test_examples_on_tables_and_on_other_features(files, tmp_path):
    own_colours.main(files[0], str(tmp_path / "tables.png"))
    assert_drawn(tmp_path / "tables.png")
    other_features.main(str(tmp_path / "features.png"), n_images=120, n_neurons=6)
    assert_drawn(tmp_path / "features.png")
