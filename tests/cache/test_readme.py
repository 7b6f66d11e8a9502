"""Every Python and shell block of the cache's README runs as it stands."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.faults import open_writer, settings, shard_tokens
from support.servers import nginx

from cache import Layout, TokenShape, open_cache
from pipeline.cli.app import main

README = (Path(__file__).parents[2] / "cache/README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a cache of twelve blocks and images 0..63."""
    shape = TokenShape(n_blocks=12, grid=(2, 3), n_channels=4, n_registers=1, dtype="float16")
    layout = Layout(images_per_shard=32, images_per_chunk=dict.fromkeys(shape.kinds(), 8))
    with open_writer(
        tmp_path / "features.zarr",
        settings={**settings(64), "backbone": {"name": "tiny", "n_blocks": 12}},
        image_ids=np.arange(64),
        shape=shape,
        layout=layout,
    ) as writer:
        for shard in writer.missing_shards():
            writer.write_shard(shard, shard_tokens(writer.shard_ids(shard), shape))
        writer.finish()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python(folder):
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(block, names)
    assert names["x"].shape == (3, 2, 3, 4)
    assert open_cache("own.zarr").complete
    assert open_cache("patches.zarr").blocks == [3, 4]
    assert open_cache("copy.zarr.zip").key == open_cache("features.zarr").key


def test_shell(folder):
    (block,) = blocks("sh")
    with nginx(folder) as web:
        shutil.copytree(folder / "features.zarr", web.files / "features.zarr")
        for line in block.splitlines():
            program, *words = line.partition("  #")[0].split()
            here = [word.replace("https://lab.example/", web.url("")) for word in words]
            assert program == "vitv1" and main(here) == 0, line
    assert open_cache("part.zarr").blocks == [3, 4] and open_cache("part.zarr").kinds == ["patches"]
    assert open_cache("features.zarr.zip").complete
