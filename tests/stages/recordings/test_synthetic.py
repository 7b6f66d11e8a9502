"""Synthetic recordings: images, planted readouts, responses, and their settings."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from cache import UserError
from stages.feve import fev_and_feve
from stages.recordings.synthetic.format import synthetic_images, synthetic_stimuli
from stages.recordings.synthetic.planted import synthetic_recording
from stages.recordings.synthetic_settings import SyntheticSettings

SMALL = SyntheticSettings(
    n_training=60, n_validation=20, n_test=20, n_neurons=6, image_shape=(16, 32)
)
GRID = (4, 8)
N_CHANNELS = 16


def tokens_of(settings, *, seed=0):
    """Tokens with a decaying channel spectrum, array of shape (n_images, 4, 8, 16), float32."""
    rng = np.random.default_rng(seed)
    spectrum = 0.8 ** np.arange(N_CHANNELS)
    rotation = np.linalg.qr(rng.standard_normal((N_CHANNELS, N_CHANNELS)))[0]
    white = rng.standard_normal((settings.n_images, *GRID, N_CHANNELS))
    return ((white * spectrum) @ rotation + 3).astype(np.float32)


def record(settings, tokens=None):
    tokens = tokens_of(settings) if tokens is None else tokens
    return synthetic_recording(settings, tokens, name="planted")


def rates_of(planted, tokens):
    """Noiseless responses of planted readouts, array of shape (n_images, n_neurons)."""
    drive = np.einsum(
        "iyxk,ny,nx,nk->in",
        tokens,
        planted.row_weights,
        planted.column_weights,
        planted.channel_weights,
        optimize=True,
    )
    drive += planted.bias
    return np.where(drive > 0, 1 + drive, np.exp(np.minimum(drive, 0)))


# Settings


def test_the_defaults_are_the_demo():
    settings = SyntheticSettings()
    assert (settings.n_training, settings.n_validation, settings.n_test) == (2000, 200, 100)
    assert (settings.n_repeats, settings.n_neurons, settings.block) == (10, 200, 4)
    assert settings.image_shape == (64, 128)
    assert settings.n_images == 2300


@pytest.mark.parametrize(
    "wrong", [{"neurons": 3}, {"n_neurons": 0}, {"fev": 0.95}, {"n_repeats": 1}, {"seed": -1}]
)
def test_settings_that_make_no_recording_are_refused(wrong):
    with pytest.raises(ValidationError):
        SyntheticSettings(**wrong)


# Images


def test_images_use_all_grey_levels_and_none_comes_twice():
    images = synthetic_images(SMALL)
    assert images.shape == (100, 16, 32)
    assert images.dtype == np.uint8
    assert (images.min(axis=(1, 2)) == 0).all()
    assert (images.max(axis=(1, 2)) == 255).all()
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)


def test_images_follow_the_seed_alone():
    images = synthetic_images(SMALL)
    np.testing.assert_array_equal(synthetic_images(replace(SMALL, n_neurons=1)), images)
    np.testing.assert_array_equal(synthetic_images(replace(SMALL, n_test=2)), images[:82])
    assert not np.array_equal(synthetic_images(replace(SMALL, seed=1)), images)


def test_power_falls_with_the_square_of_the_frequency():
    settings = SyntheticSettings(n_training=60, n_validation=2, n_test=2)
    images = synthetic_images(settings).astype(float)
    power = (abs(np.fft.fft2(images)) ** 2).mean(axis=0)
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(128)[None, :])
    chosen = (frequency > 0.03) & (frequency < 0.4)
    slope = np.polyfit(np.log(frequency[chosen]), np.log(power[chosen]), 1)[0]
    assert slope == pytest.approx(-2, abs=0.1)


def test_stimuli_are_the_images_by_id():
    stimuli = synthetic_stimuli(SMALL)
    assert stimuli.image_shape == (16, 32)
    np.testing.assert_array_equal(stimuli.ids, np.arange(100))
    np.testing.assert_array_equal(stimuli.read(np.array([99, 0])), synthetic_images(SMALL)[[99, 0]])


# Recording


def test_every_image_is_shown_and_the_last_single_trials_are_validation():
    recording, _ = record(SMALL)
    np.testing.assert_array_equal(recording.image_ids, np.arange(80))
    np.testing.assert_array_equal(np.flatnonzero(recording.validation), np.arange(60, 80))
    np.testing.assert_array_equal(recording.test_image_ids, np.arange(80, 100))
    assert recording.responses.shape == (80, 6)
    assert recording.test_responses.shape == (20, 10, 6)
    assert recording.responses.dtype == recording.test_responses.dtype == np.float32
    assert recording.name == "planted"


def test_same_seed_same_recording():
    one, other = record(SMALL)[0], record(SMALL)[0]
    np.testing.assert_array_equal(one.responses, other.responses)
    np.testing.assert_array_equal(one.test_responses, other.test_responses)
    assert not np.allclose(
        record(replace(SMALL, seed=1), tokens_of(SMALL))[0].responses, one.responses
    )


def test_a_neuron_does_not_depend_on_how_many_there_are():
    few, few_planted = record(SMALL)
    many, many_planted = record(replace(SMALL, n_neurons=9))
    np.testing.assert_array_equal(many.responses[:, :6], few.responses)
    np.testing.assert_array_equal(many.test_responses[:, :, :6], few.test_responses)
    np.testing.assert_array_equal(many_planted.channel_weights[:6], few_planted.channel_weights)


@pytest.mark.parametrize("fev", [0.3, 0.5, 0.7])
def test_explainable_variance_is_what_was_asked_for(fev):
    settings = replace(SMALL, n_test=100, n_neurons=60, fev=fev)
    recording, planted = record(settings)
    rates = rates_of(planted, tokens_of(settings))[80:]
    measured, feve = fev_and_feve(recording.test_responses, rates)
    assert measured.mean() == pytest.approx(fev, abs=0.03)
    assert 0.03 < measured.std() < 0.12
    assert np.nanmean(feve) == pytest.approx(1, abs=0.03)


def test_other_tokens_do_not_explain_the_responses():
    settings = replace(SMALL, n_test=100, n_neurons=20)
    recording, planted = record(settings)
    rates = rates_of(planted, tokens_of(settings, seed=1))[80:]
    _, feve = fev_and_feve(recording.test_responses, rates)
    assert np.nanmean(feve) < 0


def test_repeats_scatter_around_the_rates_with_a_variance_proportional_to_them():
    settings = replace(SMALL, n_repeats=1000)
    recording, planted = record(settings)
    rates = rates_of(planted, tokens_of(settings))[80:]
    repeats = recording.test_responses.astype(float)
    np.testing.assert_allclose(repeats.mean(axis=1), rates, atol=0.2)
    unit = repeats.var(axis=1) / rates
    np.testing.assert_allclose(unit, np.broadcast_to(unit.mean(axis=0), unit.shape), rtol=0.5)
    exponents = [
        np.polyfit(np.log(r), np.log(v), 1)[0]
        for r, v in zip(rates.T, repeats.var(axis=1).T, strict=True)
    ]
    assert np.mean(exponents) == pytest.approx(1, abs=0.1)


def test_single_and_repeated_trials_have_the_same_rates():
    settings = replace(SMALL, n_training=1000)
    recording, planted = record(settings)
    rates = rates_of(planted, tokens_of(settings))[:1020]
    explained = [np.corrcoef(rates[:, n], recording.responses[:, n])[0, 1] ** 2 for n in range(6)]
    assert np.mean(explained) == pytest.approx(0.5, abs=0.07)


def test_rates_vary_but_are_never_zero():
    _, planted = record(replace(SMALL, n_neurons=40))
    rates = rates_of(planted, tokens_of(SMALL))
    assert rates.min() > 0
    assert (rates.std(axis=0) > 0.3).all()
    assert 2 < rates.max() < 8


def test_neurons_look_at_different_places_and_never_inhibit_in_space():
    _, planted = record(replace(SMALL, n_neurons=40))
    assert planted.row_weights.shape == (40, 4)
    assert planted.column_weights.shape == (40, 8)
    assert (planted.row_weights >= 0).all()
    assert (planted.column_weights >= 0).all()
    assert set(planted.column_weights.argmax(axis=1)) == set(range(8))
    columns = planted.column_weights / planted.column_weights.max(axis=1, keepdims=True)
    assert (np.sort(columns, axis=1)[:, 0] < 0.05).all()


def test_channel_weights_mix_the_leading_principal_components():
    settings = replace(SMALL, n_components=3, n_neurons=20)
    tokens = tokens_of(settings)
    _, planted = record(settings, tokens)
    flat = tokens.reshape(-1, N_CHANNELS)
    leading = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)[2][:3]
    inside = planted.channel_weights @ leading.T
    assert np.linalg.matrix_rank(inside) == 3
    np.testing.assert_allclose(inside @ leading, planted.channel_weights, atol=1e-3)


def test_components_count_alike_however_much_variance_they_have():
    settings = replace(SMALL, n_neurons=60)
    tokens = tokens_of(settings)
    _, planted = record(settings, tokens)
    flat = tokens.reshape(-1, N_CHANNELS)
    _, singular, leading = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    contributions = (planted.channel_weights @ leading[:8].T * singular[:8]).std(axis=0)
    assert contributions.min() > 0.6 * contributions.max()


def test_the_order_of_channels_makes_no_difference():
    # Eigenvectors come with either sign; which one may not change the neurons.
    tokens = tokens_of(SMALL)
    recording, _ = record(SMALL, tokens)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(N_CHANNELS)
        other, _ = record(SMALL, tokens[..., order])
        np.testing.assert_allclose(other.responses, recording.responses, atol=1e-3)


def test_rounding_errors_in_the_tokens_stay_rounding_errors_in_the_responses():
    tokens = tokens_of(SMALL)
    noise = np.random.default_rng(1).standard_normal(tokens.shape)
    recording, _ = record(SMALL, tokens)
    shifted, _ = record(SMALL, (tokens * (1 + 1e-6 * noise)).astype(np.float32))
    np.testing.assert_allclose(shifted.responses, recording.responses, atol=1e-3)
    np.testing.assert_allclose(shifted.test_responses, recording.test_responses, atol=1e-3)


def test_more_components_than_channels_is_said():
    with pytest.raises(UserError, match=r"n_components = 17.*16 channels: choose at most 16"):
        record(replace(SMALL, n_components=17))


def test_tokens_of_other_images_are_refused():
    with pytest.raises(ValueError, match=r"expected \(100, row, column, channel\)"):
        record(SMALL, tokens_of(SMALL)[:-1])
