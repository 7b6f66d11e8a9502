"""Registry of recording formats: those that are there, and one registered from outside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from support.recording_files import write_minimodel, write_sensorium

from cache import UserError
from pipeline.experiment import load_experiment
from stages.recordings import (
    FORMATS,
    ExpectedTrials,
    Recording,
    RecordingFormat,
    RecordingSettings,
    RecordingSizes,
    SyntheticSettings,
    check_recording,
    chosen_neurons,
    default_columns,
    read_images,
    read_recording,
    recording_path,
)
from stages.recordings.synthetic.format import synthetic_images
from stages.stimuli import Stimuli, stimuli_from_array

ROOT = Path(__file__).parents[3]


class ToyFormat(RecordingFormat):
    """Images and responses of an `.npz`; trial i shows image i, the last four test."""

    def read(self, settings: RecordingSettings) -> Recording:
        with np.load(recording_path(settings)) as file:
            responses = file["responses"].astype(np.float32)
        n_trials, n_neurons = responses.shape
        single = n_trials - 4
        return check_recording(
            Recording(
                name=settings.name,
                neurons=np.arange(n_neurons),
                image_ids=np.arange(single),
                responses=responses[:single],
                validation=np.arange(single) % 3 == 0,
                test_image_ids=np.arange(single, n_trials),
                test_responses=np.stack([responses[single:]] * 2, axis=1),
            )
        )

    def reads_images(self, path: Path) -> bool:
        return path.suffix == ".toy"

    def read_images(self, path: Path, *, allow_pickle: bool) -> Stimuli:
        with np.load(path) as file:
            return stimuli_from_array(file["images"], source=str(path))

    def images_path(self, settings: RecordingSettings) -> Path:
        return recording_path(settings)

    def columns(self, settings: RecordingSettings) -> tuple[int, int]:
        return (2, 7)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A recording in the toy format, which is registered for the test."""
    monkeypatch.setitem(FORMATS, "toy", ToyFormat())
    draw = np.random.default_rng(0)
    path = tmp_path / "mouse.toy"
    with path.open("wb") as file:
        np.savez(
            file,
            images=draw.integers(0, 256, (20, 6, 8), dtype=np.uint8),
            responses=draw.gamma(1.0, 2.0, (20, 5)),
        )
    return path


def settings_of(format: str, name: str = "mouse", **changes: Any) -> RecordingSettings:
    return RecordingSettings(format=format, name=name, **changes)


# a format from outside


def test_a_registered_format_is_a_format_of_experiments(toy: Path) -> None:
    file = toy.with_name("toy.toml")
    file.write_text('[recording]\nformat = "toy"\nname = "mouse"\npath = "mouse.toy"\n')
    (settings,) = load_experiment(file).variants[0].recording
    recording = read_recording(settings)
    assert recording.name == "mouse" and recording.responses.shape == (16, 5)
    path = FORMATS["toy"].images_path(settings)
    assert path is not None and path.samefile(toy)
    assert len(read_images(path, allow_pickle=False)) == 20


def test_defaults_of_a_format_ask_for_nothing(toy: Path) -> None:
    settings = settings_of("toy", path=toy, expected=ExpectedTrials(trials=16))
    found = FORMATS["toy"]
    assert not found.planted(settings) and found.cnn_columns(settings) is None
    assert found.block(settings) is None and found.images(settings) is None
    assert found.sizes(settings) == RecordingSizes(
        recording="mouse", neurons=None, trials=16, test_images=None
    )
    plain = RecordingFormat()
    assert plain.images_path(settings) is None and plain.columns(settings) is None
    assert not plain.reads_images(toy)
    for unsupported in (
        lambda: plain.read(settings),
        lambda: plain.read_images(toy, allow_pickle=False),
    ):
        with pytest.raises(NotImplementedError, match="RecordingFormat does not read"):
            unsupported()


def test_an_unknown_format_is_refused_with_those_known(toy: Path) -> None:
    known = (
        "Input should be 'cadena2019', 'arrays', 'minimodel', 'nwb', 'sensorium', 'synthetic' or "
        "'toy'"
    )
    with pytest.raises(ValidationError, match=known):
        settings_of("toys")
    file = toy.with_name("toys.toml")
    file.write_text('[recording]\nformat = "toys"\nname = "mouse"\n')
    with pytest.raises(UserError, match=rf"recording\.0\.format = 'toys': {known}"):
        load_experiment(file)


# reading


def test_recordings_are_read_by_the_format_that_is_named(tmp_path: Path) -> None:
    release = write_minimodel(tmp_path / "release")
    folder = write_sensorium(tmp_path / "folder", n_neurons=3)
    for format, path, n_neurons in (("minimodel", release.recording, 5), ("sensorium", folder, 3)):
        settings = settings_of(format, path=path)
        assert read_recording(settings).n_neurons == n_neurons
    assert FORMATS["sensorium"].images_path(settings_of("sensorium", path=folder)) == folder
    assert FORMATS["minimodel"].images_path(settings_of("minimodel", path=folder)) is None


@pytest.mark.parametrize("format", ["cadena2019", "minimodel", "nwb", "sensorium"])
def test_a_path_that_leads_nowhere_is_refused(format: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"recording mouse has no path: name its file or folder"):
        read_recording(settings_of(format))
    there = settings_of(format, path=tmp_path / "none.npz")
    with pytest.raises(UserError, match=r"none\.npz: no such file or folder; correct recording\."):
        read_recording(there)


def test_images_are_read_by_the_format_that_takes_them(tmp_path: Path, toy: Path) -> None:
    images = write_minimodel(tmp_path / "release").images
    folder = write_sensorium(tmp_path / "folder")
    shapes = {images: (66, 264), folder: (36, 64), toy: (6, 8)}
    for path, shape in shapes.items():
        assert read_images(path, allow_pickle=False).image_shape == shape
        takers = [name for name, known in FORMATS.items() if known.reads_images(path)]
        assert len(takers) == 1
    assert not FORMATS["synthetic"].reads_images(folder)
    (tmp_path / "images.txt").write_text("none")
    with pytest.raises(UserError, match=r"images\.txt is not a readable \.zip"):
        read_images(tmp_path / "images.txt", allow_pickle=False)


def test_object_arrays_of_images_need_consent(tmp_path: Path) -> None:
    folder = write_sensorium(tmp_path / "folder")
    tiers = folder / "meta/trials/tiers.npy"
    np.save(tiers, np.load(tiers).astype(object))
    with pytest.raises(UserError, match=r"recording\.allow_pickle"):
        read_images(folder, allow_pickle=False)
    assert len(read_images(folder, allow_pickle=True)) == 19


def test_neurons_are_chosen_by_position(toy: Path) -> None:
    whole = read_recording(settings_of("toy", path=toy))
    assert chosen_neurons(settings_of("toy"), whole) is whole
    assert chosen_neurons(settings_of("toy", neurons=(1, 3)), whole).neurons.tolist() == [1, 2]
    with pytest.raises(UserError, match=r"recording\.neurons = \[1, 6\] of mouse"):
        chosen_neurons(settings_of("toy", neurons=(1, 6)), whole)


# columns


def test_columns_are_those_that_the_recordings_agree_on(toy: Path) -> None:
    fx10, fx20 = settings_of("minimodel", "FX10"), settings_of("minimodel", "FX20")
    everywhere = settings_of("sensorium")
    assert default_columns([]) is None and default_columns([everywhere]) is None
    assert default_columns([fx10, everywhere, settings_of("minimodel", "FX8")]) == (0, 132)
    assert default_columns([fx20]) == (46, 176)
    assert default_columns([settings_of("toy")]) == (2, 7)
    message = r"different columns of the images \(\[\(0, 132\), \(46, 176\)\]\): give each crop"
    with pytest.raises(UserError, match=message):
        default_columns([fx20, everywhere, fx10])


def test_the_published_cnn_sees_130_columns_of_a_minimodel_recording() -> None:
    columns = FORMATS["minimodel"].cnn_columns
    assert columns(settings_of("minimodel", "FX10")) == (0, 130)
    assert columns(settings_of("minimodel", "FX20")) == (46, 176)
    assert columns(settings_of("minimodel", path=Path("FX20_nat60k_2023.npz"))) == (46, 176)


# planted neurons


def test_a_synthetic_recording_tells_its_sizes_and_makes_its_images() -> None:
    planted = SyntheticSettings(
        n_training=6, n_validation=3, n_test=2, n_neurons=9, image_shape=(8, 9), block=2
    )
    found = FORMATS["synthetic"]
    settings = settings_of("synthetic", synthetic=planted, neurons=(2, 6))
    assert found.planted and found.block(settings) == 2
    assert found.sizes(settings) == RecordingSizes(
        recording="mouse", neurons=4, trials=9, test_images=2
    )
    images = found.images(settings)
    assert images is not None
    np.testing.assert_array_equal(images.read(images.ids), synthetic_images(planted))


# imports


def test_formats_settings_and_images_are_known_without_heavy_packages() -> None:
    code = (
        "from stages.recordings import FORMATS, Recording, RecordingSettings, read_recording\n"
        "from stages.stimuli import Preprocessing, Stimuli, StimuliSettings, digest, resolve_crop\n"
        "import sys\n"
        "FORMATS['minimodel'].columns(RecordingSettings(format='minimodel', name='FX20'))\n"
        "assert not {'torch', 'scipy', 'pandas', 'zarr', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
