"""Monkey V1 of Cadena et al. 2019: the published pickle, and the release's file made from it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.recording_files import read_file

from cache import UserError
from stages.recordings import FORMATS, Recording, RecordingSettings
from stages.stimuli import Stimuli

N_IMAGES, N_NEURONS, SIDE = 30, 5, 64
N_SINGLE = 24  # the first four fifths


def published(**changes: Any) -> dict[str, Any]:
    """The dict of the published pickle: some neurons saw two repeats, some not all images."""
    draw = np.random.default_rng(0)
    repetitions = np.array([4, 2, 4, 2, 4])
    responses = draw.poisson(3.0, (4, N_IMAGES, N_NEURONS)).astype(float)
    responses[2:, :, repetitions == 2] = np.nan
    responses[:, 3:6, 4] = np.nan  # images that neuron 4 was not shown
    responses[1, 28, 0] = np.nan
    held = {
        "repetitions": repetitions,
        "subject_id": np.array([3, 3, 3, 31, 31]),
        "session_id": np.arange(5),
        "unit_id": np.arange(5),
        "image_ids": np.repeat(np.arange(6), 5)[:, None],
        "image_types": np.tile(
            np.array(["original", "conv1", "conv2", "conv3", "conv4"], dtype=object), 6
        )[:, None],
        "image_numbers": np.arange(N_IMAGES)[:, None],
        "images": draw.integers(0, 256, (N_IMAGES, SIDE, SIDE), dtype=np.uint8),
        "responses": responses,
    }
    return {key: value for key, value in (held | changes).items() if value is not None}


def pickled(folder: Path, content: Any, *, protocol: int = 4) -> Path:
    path = folder / "cadena_ploscb_data.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def released(folder: Path, **changes: Any) -> Path:
    """What the release's notebook makes of it: copies, zeros for NaN, images tiled and scaled."""
    held = published()
    responses = held["responses"].copy()
    twice = held["repetitions"] == 2
    responses[2:, :, twice] = responses[:2, :, twice]
    real = ~np.isnan(responses)
    responses = np.where(real, responses, 0).astype(np.float32)
    images = held["images"][:, 30:-30, 30:-30].astype(np.float32)
    images = ((images - images.mean()) / images.std())[:, None]
    order = np.random.RandomState(1000).permutation(N_SINGLE)
    parts = {"train_idx": np.sort(order[:19]), "val_idx": np.sort(order[19:])}
    arrays = {
        "images": np.tile(images[:N_SINGLE], (4, 1, 1, 1)),
        "responses": responses[:, :N_SINGLE].reshape(-1, N_NEURONS),
        "real_responses": real[:, :N_SINGLE].reshape(-1, N_NEURONS).astype(np.float32),
        "test_images": images[N_SINGLE:],
        "test_responses": responses[:, N_SINGLE:],
        "test_real_responses": real[:, N_SINGLE:].astype(np.float32),
        **{key: np.hstack([i * N_SINGLE + rows for i in range(4)]) for key, rows in parts.items()},
        "subject_id": held["subject_id"],
        "repetitions": held["repetitions"],
        "image_ids": np.tile(held["image_ids"].ravel()[:N_SINGLE], 4),
    }
    path = folder / "monkeyv1_cadena_2019.npz"
    np.savez(path, **{k: v for k, v in (arrays | changes).items() if v is not None})
    return path


def read(path: Path, *, allow_pickle: bool = False) -> Recording:
    return read_file("cadena2019", path, allow_pickle=allow_pickle)


def images(path: Path, *, allow_pickle: bool = False) -> Stimuli:
    return FORMATS["cadena2019"].own_images(
        RecordingSettings(format="cadena2019", name="m", path=path, allow_pickle=allow_pickle)
    )


def test_responses_and_what_is_missing_are_those_of_the_pickle(tmp_path: Path) -> None:
    recording, stored = read(pickled(tmp_path, published()), allow_pickle=True), published()
    test = stored["responses"][:, N_SINGLE:].swapaxes(0, 1)
    np.testing.assert_array_equal(recording.test_responses, test.astype(np.float32))
    assert recording.test_image_ids.tolist() == list(range(24, 30))
    for image in range(N_SINGLE):
        own = recording.responses[recording.image_ids == image]
        np.testing.assert_array_equal(own, stored["responses"][:, image].astype(np.float32))
    assert np.isnan(recording.responses).mean() == pytest.approx((2 / 5 * 0.5 * 24 + 3 / 5) / 24)


def test_both_files_are_one_recording(tmp_path: Path) -> None:
    path = pickled(tmp_path, published())
    first, second = read(path, allow_pickle=True), read(released(tmp_path))
    for field in ("image_ids", "responses", "validation", "test_image_ids", "test_responses"):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field), field)
    # Whole images are for validation: a fifth of those that are not for test.
    assert len(np.unique(first.image_ids[first.validation])) == 5
    assert not set(first.image_ids[first.validation]) & set(first.image_ids[~first.validation])
    raw, scaled = images(path, allow_pickle=True), images(released(tmp_path))
    assert raw.image_shape == scaled.image_shape == (4, 4) and len(raw) == len(scaled) == 30
    pixels = raw.read(raw.ids)
    np.testing.assert_array_equal(pixels, published()["images"][:, 30:34, 30:34])
    expected = (pixels - pixels.mean()) / pixels.std()
    np.testing.assert_allclose(scaled.read(scaled.ids), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol_are_read(tmp_path: Path, protocol: int) -> None:
    path = pickled(tmp_path, published(), protocol=protocol)
    assert read(path, allow_pickle=True).test_responses.shape == (6, 4, 5)


def test_a_pickle_needs_consent(tmp_path: Path) -> None:
    path = pickled(tmp_path, published())
    for reader in (read, images):
        with pytest.raises(UserError, match=r"with consent only: .*allow_pickle = true"):
            reader(path)


class Thief:
    """An object whose unpickling would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (Path("stolen"), "x"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (published(images=Thief()), r"names pathlib\S*\.\w+, and only arrays, .*do not trust"),
        (published(responses=None), r"has no array `responses` \(it holds image_ids, "),
        (published(repetitions=np.ones(3)), r"repetitions .* 3 entries, .* 5 neurons"),
        (
            published(responses=np.ones((N_NEURONS, N_IMAGES + 1, 4))),
            r"shape \(5, 31, 4\), but there are 30 images: \(repeat, image, neuron\)",
        ),
        (published(responses=np.ones((4, N_IMAGES))), r"3 axes \(repeat, image, neuron\)"),
        (published(repetitions=np.full(5, 1)), r"no test image was shown twice"),
        (published(responses=np.array([None])), r"responses of .* 3 axes"),
        ([1, 2], r"cannot be read as a pickle \(it is no dict of arrays\)"),
    ],
)
def test_faulty_pickles_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as refused:
        read(pickled(tmp_path, content), allow_pickle=True)
    assert "\n" not in str(refused.value) and not Path("stolen").exists()


def test_a_damaged_pickle_is_refused(tmp_path: Path) -> None:
    path = pickled(tmp_path, published())
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(UserError, match=r"cannot be read as a pickle"):
        read(path, allow_pickle=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repetitions": None}, r"has no array `repetitions`"),
        (
            {"train_idx": None},
            r"has no array `train_idx` \(it holds image_ids, .*monkeyv1_cadena_2019\.npz",
        ),
        ({"real_responses": np.ones((96, 4))}, r"real_responses .* \(96, 4\), .* \(96, 5\)"),
        ({"train_idx": np.arange(97)}, r"train_idx or val_idx of .* name trials beyond 96"),
        ({"val_idx": np.arange(96)}, r"19 images are of train_idx and of val_idx"),
        ({"val_idx": np.array([], dtype=int)}, r"76 training and 0 validation"),
        (
            {"responses": np.ones((5, 96)), "real_responses": np.ones((5, 96))},
            r"responses of .* shape \(5, 96\), but test_responses \(4, 6, 5\): \(trial, neuron\)",
        ),
    ],
)
def test_faulty_files_of_the_release_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read(released(tmp_path, **changes))


def stack(n: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(n).normal(size=(n, *shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": stack(96, 1, 4, 4)}, r"images of .* are not 4 times the same"),
        ({"images": stack(95, 1, 4, 4)}, r"images of .* are not 4 times the same"),
        ({"test_images": stack(6, 1, 4, 5)}, r"test_images \(6, 1, 4, 5\): grey images of one"),
        ({"test_images": stack(6, 4, 4)}, r"4 axes \(image, channel, row, column\)"),
    ],
)
def test_faulty_images_of_the_release_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        images(released(tmp_path, **changes))


def test_published_images_must_be_wider_than_the_margin(tmp_path: Path) -> None:
    path = pickled(tmp_path, published(images=np.zeros((N_IMAGES, 60, 60))))
    with pytest.raises(UserError, match=r"\(30, 60, 60\), but 30 pixels are cut off on each side"):
        images(path, allow_pickle=True)


def test_the_release_is_recognised_before_arrays(tmp_path: Path) -> None:
    path = released(tmp_path)
    assert next(name for name, format in FORMATS.items() if format.recognises(path)) == "cadena2019"
    np.savez(tmp_path / "own.npz", responses=np.ones((3, 2)))
    assert not FORMATS["cadena2019"].recognises(tmp_path / "own.npz")
    assert FORMATS["nwb"].recognises(Path("session.nwb"))
