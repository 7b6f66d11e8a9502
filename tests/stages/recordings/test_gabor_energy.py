"""Neurons planted in pixels: their filters, their energies, and what they depend on."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from stages.feve import fev_and_feve
from stages.recordings import FORMATS, RecordingSettings, read_recording
from stages.recordings.synthetic.format import synthetic_images
from stages.recordings.synthetic.gabor_energy import Gabor, energy_recording
from stages.recordings.synthetic_settings import GaborSettings, SyntheticSettings

CELL = Gabor(row=15, column=31, size=5, wavelength=12, angle=0.4, phase=0.7)
SMALL = SyntheticSettings(
    n_training=60, n_validation=20, n_test=30, n_neurons=6, image_shape=(32, 64),
    gabor=GaborSettings(size=(2, 4)),
)  # fmt: skip


def recorded(settings=SMALL):
    return energy_recording(settings, settings.gabor, synthetic_images(settings), name="fine")


def grating(phase, *, cell=CELL, shape=(32, 64)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    along = (x - cell.column) * np.cos(cell.angle) + (y - cell.row) * np.sin(cell.angle)
    return np.cos(2 * np.pi * along / cell.wavelength - phase)


def energies(cell, images):
    filters = cell.filters(images[0].shape)
    return cell.energy(np.einsum("iyx,kyx->ik", np.stack(images), filters))


def test_filters_have_unit_norm_and_see_no_uniform_image():
    filters = CELL.filters((32, 64))
    np.testing.assert_allclose(np.square(filters).sum(axis=(1, 2)), 1)
    np.testing.assert_allclose(filters.sum(axis=(1, 2)), 0, atol=1e-12)
    spread = np.abs(filters[:, :, :4]).max()
    assert spread < 1e-3 * np.abs(filters).max()


def test_a_complex_cell_sees_every_phase_and_a_simple_one_its_own():
    phases = 0.7 + np.arange(4) * np.pi / 2
    images = [grating(phase) for phase in phases]
    whole = energies(replace(CELL, phase=None), images)
    np.testing.assert_allclose(whole, whole.mean(), rtol=0.02)
    simple = energies(CELL, images)
    assert simple[0] == simple.max() and simple[2] == 0
    four = sum(energies(replace(CELL, phase=p), images) for p in np.arange(4) * np.pi / 2)
    np.testing.assert_allclose(four, whole)


def test_neurons_depend_on_the_seed_and_their_number_alone():
    few, drawn = recorded()
    many, others = recorded(replace(SMALL, n_neurons=9))
    assert others[:6] == drawn
    np.testing.assert_allclose(many.responses[:, :6], few.responses, rtol=1e-6)
    assert recorded(replace(SMALL, seed=1))[1] != drawn


def test_neurons_are_as_the_settings_say():
    settings = replace(SMALL, n_neurons=200, gabor=GaborSettings(size=(2, 4), complex=0.25))
    recording, neurons = recorded(settings)
    assert all(2 <= n.size <= 4 and 4 <= n.wavelength <= 16 for n in neurons)
    assert 0.15 < np.mean([n.phase is None for n in neurons]) < 0.35
    fev, _ = fev_and_feve(recording.test_responses, recording.test_responses.mean(axis=1))
    assert abs(fev.mean() - 0.5) < 0.08
    assert (recording.responses >= 0).all()


def test_no_tokens_are_needed():
    settings = RecordingSettings(format="synthetic", name="fine", synthetic=SMALL)
    format = FORMATS["synthetic"]
    assert not format.planted(settings) and format.block(settings) is None
    np.testing.assert_array_equal(read_recording(settings).responses, recorded()[0].responses)
    assert "Gabor" in format.remark({"name": "fine", "synthetic": {"gabor": {}}})
    assert format.planted(replace(settings, synthetic=replace(SMALL, gabor=None)))


@pytest.mark.parametrize("wrong", [{"size": (8, 4)}, {"size": (0, 4)}, {"complex": 1.5}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValidationError):
        GaborSettings(**wrong)
