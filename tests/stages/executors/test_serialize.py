"""Tasks on their way: arrays stay behind and arrive."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import numpy as np

from stages.executors.serialize import Shipment


@dataclass(frozen=True)
class Task:
    name: str
    large: np.ndarray
    small: np.ndarray


def test_arrays_stay_behind_and_arrive(tmp_path):
    large, small = np.arange(10**5, dtype=np.float32).reshape(2, -1), np.arange(3)
    shipment = Shipment(tmp_path / "files")
    packed = [shipment.pack(Task(name, large, small)) for name in "ab"]
    assert max(map(len, packed)) < 2000 and len(list((tmp_path / "files").iterdir())) == 1
    for name, content in zip("ab", packed, strict=True):
        task = pickle.loads(content)
        assert task.name == name and isinstance(task.large, np.memmap)
        np.testing.assert_array_equal(task.large, large)
        np.testing.assert_array_equal(task.small, small)
    task.large[0, 0] = 7  # its own copy
    assert pickle.loads(packed[0]).large[0, 0] == 0
    assert pickle.loads(pickle.dumps(np.asarray(task.large)))[0, 0] == 7
