"""Results that survive a power cut: each file and its name are on the disk before its manifest."""

from __future__ import annotations

import json

import pytest
from support.disk import Disk
from support.tuning_runs import write_tuning_experiment

from cache.format.metadata import ROOT
from pipeline.cli.main import main
from stages.readouts.manifest import MANIFESTS


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


def test_results_are_on_the_disk_before_what_declares_them(tmp_path, disk):
    path = write_tuning_experiment(tmp_path, last="[0, 1]")
    output = tmp_path / "new" / "folders"
    blocks = "--set=readout.blocks=[1]"
    assert main(["run", str(path), "--quiet", f"--set=run.output={output}", blocks]) == 0
    manifests = sorted((output / MANIFESTS).glob("*.json"))
    assert {"tables", "report"} < {manifest.stem for manifest in manifests}
    declared = 0
    for manifest in manifests:
        assert disk.lacks(manifest, below=tmp_path) is None
        for name in json.loads(manifest.read_bytes())["files"]:
            before = disk.synced(manifest)
            assert disk.lacks(output / name, below=tmp_path, before=before) is None
            declared += 1
    assert declared > 60 and list(output.glob("tuned/*"))
    store = output / "features.zarr"
    for file in store.rglob("*"):
        if file.is_file() and file != store / ROOT:
            before = disk.synced(store / ROOT)
            assert disk.lacks(file, below=tmp_path, before=before) is None
