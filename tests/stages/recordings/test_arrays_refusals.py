"""Arrays that are no recording: each is refused in one line that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.array_files import made_arrays, write_arrays
from support.recording_files import read_file

from cache import UserError
from pipeline.cli.main import main
from stages.recordings import Recording, reading_limit

MADE = made_arrays()
SHOWN, RESPONSES = MADE["image"], MADE["responses"]
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no responses": ({"responses": None}, r"no array `responses` \(it holds .*recording.keys"),
    "no image": ({"image": None}, "no array `image`: say which image"),
    "turned": ({"responses": RESPONSES.T}, r"they are \(neuron, trial\).*transpose them"),
    "too few": ({"responses": RESPONSES[1:]}, "one row of responses per trial"),
    "one neuron as a vector": ({"responses": RESPONSES[:, 0]}, r"expected \(trial, neuron\)"),
    "an id beyond": ({"image": SHOWN + 1}, r"images that there are not, the first is 25"),
    "an unknown id": ({"image_id": np.arange(100, 125)}, "images are 100, 101"),
    "an id twice": ({"image_id": np.zeros(25, dtype=int)}, "image_id names 0 twice"),
    "fractions": ({"image": SHOWN + 0.5}, "must hold whole numbers"),
    "texts": ({"image": SHOWN.astype(str)}, "nothing says which images they are"),
    "ids of another kind": ({"image_id": np.arange(25).astype(str)}, "both hold numbers"),
    "objects": ({"responses": RESPONSES.astype(object)}, "is no plain array of numbers or texts"),
    "complex": ({"responses": RESPONSES * 1j}, "must hold numbers, found complex"),
    "tiers of others": ({"tier": np.full(len(SHOWN), "live")}, r"no trial of train \(it has live"),
    "an empty tier": ({"tier": np.full(len(SHOWN), "train")}, "no trial of test"),
    "one test image": (
        {"tier": np.where(SHOWN == 24, "test", "train")},
        "one test image.*needs two at least",
    ),
    "no repeats": (
        {"image": np.arange(25), "responses": RESPONSES[:25]},
        "0 of 25 images were shown at least 4 times .the most is 1.*min_repeats",
    ),
    "infinite": (
        {"responses": np.where(RESPONSES[0, 0] == RESPONSES, np.inf, RESPONSES)},
        "infinit",
    ),
    "positions of others": ({"x": np.arange(4.0)}, r"x has shape \(4,\)"),
    "no images": ({"images": np.zeros((0, 4, 4))}, "images that there are not"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_refused(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, said = BAD[case]
    path = write_arrays(tmp_path, "npz", made_arrays(**changes))
    with pytest.raises(UserError, match=said) as refused:
        read_file("arrays", path)
    assert "\n" not in str(refused.value)
    if case in ("turned", "objects"):
        monkeypatch.chdir(tmp_path)
        Path("my.toml").write_text('[recording]\nformat = "arrays"\nname = "m"\npath = "mouse.npz"')
        before = sorted(tmp_path.rglob("*"))
        assert main(["run", "my.toml"]) == 2
        assert capsys.readouterr().err.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before


class Evil:
    """Pickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickles_are_not_read(tmp_path: Path) -> None:
    objects = np.empty((1, 1), dtype=object)
    objects[0, 0] = Evil(tmp_path / "made")
    path = write_arrays(tmp_path, "npy", made_arrays(responses=objects))
    with pytest.raises(UserError, match="is no plain array"):
        read_file("arrays", path, allow_pickle=True)
    assert not (tmp_path / "made").exists()


def test_data_of_other_files_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(100))
    with h5py.File(tmp_path / "mouse.h5", "w") as file:
        file.create_dataset("responses", (25,), "f4", external=[(secret, 0, 100)])
        file["image"] = h5py.ExternalLink(str(secret), "image")
    with pytest.raises(UserError, match=r"`responses` of .* lies in other files"):
        read_file("arrays", tmp_path / "mouse.h5")


@pytest.mark.parametrize("kind", ["npz", "npy", "zarr", "h5", "nc", "mat"])
def test_no_array_is_larger_than_the_limit(tmp_path: Path, kind: str) -> None:
    shown = np.tile(MADE["image"], 50)
    big = np.zeros((len(shown), 300))
    arrays = {"image": shown, "responses": big, "depth": np.zeros(300)}
    path = write_arrays(tmp_path, kind, arrays)
    with reading_limit(100_000), pytest.raises(UserError, match="memory_limit"):
        read_file("arrays", path)


@pytest.mark.parametrize("name", ["mouse.h5", "mouse.npz", "mouse.nc", "mouse.mat", "mouse.txt"])
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    marks = {"mouse.h5": b"\x89HDF\r\n\x1a\n", "mouse.nc": b"CDF\x01", "mouse.npz": b"PK\x03\x04"}
    (tmp_path / name).write_bytes(marks.get(name, b"") + b"not what it says" * 40)
    with pytest.raises(UserError, match=name):
        read_file("arrays", tmp_path / name)


def test_settings_of_a_split_are_checked() -> None:
    with pytest.raises(UserError, match=r"split.min_repeats = 1"):
        Recording.from_arrays(RESPONSES, SHOWN, split={"min_repeats": 1})
