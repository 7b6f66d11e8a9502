"""Images of containers and folders of pictures, as `[stimuli]` names them."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from support.recording_files import read_file

from cache import UserError
from stages.recordings import FORMATS, RecordingSettings, read_images, reading_limit

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 5, 7), dtype=np.uint8)


def pixels(path: Path, **settings: str) -> np.ndarray:
    stimuli = read_images(path, allow_pickle=False, **settings)
    return pickle.loads(pickle.dumps(stimuli)).read(stimuli.ids)


def pictures(folder: Path, names: list[str], images: np.ndarray = IMAGES) -> Path:
    folder.mkdir(exist_ok=True)
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(folder / name)
    return folder


def test_axes_and_keys_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "stack.npy", IMAGES)
    np.testing.assert_array_equal(pixels(tmp_path / "stack.npy"), IMAGES)
    turned = np.moveaxis(IMAGES, 0, -1)
    np.savez(tmp_path / "s.npz", stim=turned, other=turned + 1)
    named = pixels(tmp_path / "s.npz", key="stim", axes="row column image")
    np.testing.assert_array_equal(named, IMAGES)
    with pytest.raises(UserError, match=r"no array that is surely the images .*stim.*stimuli.key"):
        pixels(tmp_path / "s.npz")
    with pytest.raises(UserError, match=r'stimuli.axes = "row column" must name each'):
        pixels(tmp_path / "s.npz", key="stim", axes="row column")
    with pytest.raises(UserError, match=r"no array `img`"):
        pixels(tmp_path / "s.npz", key="img")


def test_colours_become_grey_and_say_so(tmp_path: Path) -> None:
    colours = np.repeat(IMAGES[..., None], 3, axis=3)
    colours[0, 0, 0] = (255, 0, 0)
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["images"] = colours
    found = pixels(tmp_path / "s.h5")
    assert found.dtype == np.uint8 and found[0, 0, 0] == 76
    np.testing.assert_array_equal(found[1:], IMAGES[1:])
    told = read_images(tmp_path / "s.h5", allow_pickle=False).remarks
    assert len(told) == 1 and "made grey" in told[0]
    folder = pictures(tmp_path / "p", ["1.png", "2.png", "10.png", "11.png"], colours)
    np.testing.assert_array_equal(pixels(folder), found)
    np.savez(tmp_path / "five.npz", images=np.zeros((3, 4, 4, 5)))
    with pytest.raises(UserError, match="has 5 channels"):
        pixels(tmp_path / "five.npz")


def test_pictures_are_named_by_number_or_taken_in_order(tmp_path: Path) -> None:
    numbered = pictures(tmp_path / "n", ["10.png", "2.tif", "7.png", "03.png"])
    assert read_images(numbered, allow_pickle=False).ids.tolist() == [2, 3, 7, 10]
    np.testing.assert_array_equal(pixels(numbered), IMAGES[[1, 3, 2, 0]])
    named = pictures(tmp_path / "m", ["b10.png", "b2.png", "b1.png", "b30.png"])
    np.testing.assert_array_equal(pixels(named), IMAGES[[2, 1, 0, 3]])


def test_bad_pictures_are_refused(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p", ["1.png", "2.png", "3.png", "4.png"])
    with reading_limit(100), pytest.raises(UserError, match="memory_limit"):
        pixels(folder)
    Image.fromarray(IMAGES[0, :3]).save(folder / "3.png")
    with pytest.raises(UserError, match=r"3.png is 3 x 7 uint8, 1.png 5 x 7 uint8: all pictures"):
        pixels(folder)
    clear = np.zeros((5, 7, 4), dtype=np.uint8)
    Image.fromarray(clear).save(folder / "3.png")
    with pytest.raises(UserError, match="transparent"):
        pixels(folder)
    (folder / "3.png").write_bytes(b"GIF89a not a picture")
    with pytest.raises(UserError, match=r"3.png cannot be read as a picture"):
        pixels(folder)


def test_a_recording_names_its_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    many = rng.integers(0, 256, (12, 5, 7), dtype=np.uint8)
    names = [f"cat{i}.png" for i in range(12)]
    mine = tmp_path / "mine"
    pictures(mine.parent, [], many[:0])
    mine.mkdir()
    pictures(mine / "images", names, many)
    shown = np.concatenate([np.arange(8), np.repeat(np.arange(8, 12), 4)])
    responses = rng.gamma(1, 2, (len(shown), 2))
    np.save(mine / "responses.npy", responses)
    np.save(mine / "image.npy", np.array([f"cat{i}" for i in shown]))
    settings = RecordingSettings(format="arrays", name="m", path=mine)
    recording = read_file("arrays", mine)
    stimuli = FORMATS["arrays"].own_images(settings)
    np.testing.assert_array_equal(stimuli.read(recording.test_image_ids), many[8:])
    np.savez(tmp_path / "m.npz", responses=responses, image=shown, image_files=names)
    settings = RecordingSettings(format="arrays", name="m", path=tmp_path / "m.npz")
    with pytest.raises(UserError, match=r"has no picture 'cat0.png'"):
        FORMATS["arrays"].own_images(settings)
    up = [f"../{name}" for name in names]
    np.savez(tmp_path / "m.npz", responses=responses, image=shown, image_files=up)
    with pytest.raises(UserError, match=r"'../cat0.png' is no name of a picture"):
        FORMATS["arrays"].own_images(settings)
