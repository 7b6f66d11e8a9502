"""Memory and cores, limits of containers and devices included."""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cache import UserError
from stages.executors import (
    default_memory_limit,
    n_cores,
    resident_memory,
    resolve_devices,
    resources,
    shared_limit,
)

ROOT = Path(__file__).parents[3]


def test_half_of_what_is_free():
    assert 0 < default_memory_limit() < psutil.virtual_memory().available


def test_a_container_has_less_than_its_machine(tmp_path, monkeypatch):
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr(resources, "_CGROUPS", ((str(limit), str(used)),))
    used.write_text("30000\n")
    without = default_memory_limit()
    limit.write_text("max\n")
    assert default_memory_limit() > without / 2
    limit.write_text("50000\n")
    assert default_memory_limit() == 10_000
    limit.write_text("20000\n")
    assert default_memory_limit() == 0


def test_memory_in_use_grows_with_what_is_held():
    before = resident_memory()
    with mmap.mmap(-1, 2**26) as held:
        held.write(b"1" * 2**26)
        assert resident_memory() > before + 2**25


def test_a_limit_is_shared_by_workers_and_this_process():
    assert shared_limit(None, 4) is None and shared_limit(10**12, 1) == 10**12
    each = shared_limit(10**12, 4)
    assert each is not None and 0 < 10**12 - 4 * each < 10**11


def test_cores_may_be_fewer_than_the_machine_has(monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert n_cores() == 1


def test_devices_are_named_one_by_one():
    assert resolve_devices("cpu, cpu") == ["cpu", "cpu"]
    with pytest.raises(UserError, match=r"run.device = \"cuda:99\" cannot be used here"):
        resolve_devices("cpu,cuda:99")


def test_settings_and_resources_need_no_torch():
    code = (
        "import sys\n"
        "from stages.executors import ClusterSettings, default_memory_limit, n_cores\n"
        "from stages.extract import CacheSettings\n"
        "ClusterSettings(), CacheSettings(), default_memory_limit(), n_cores()\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
