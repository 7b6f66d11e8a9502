"""What is loaded with a name of the cache, and where zarr's private modules are imported."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STORE = "tests/data/format-1.zarr"
LIGHT = [
    "CacheError, UserError",
    "PACKED, is_url, join, public_name",
    "SHARD_BYTES, Layout, TokenKind, TokenShape, plan_layout, resolve_block",
    "canonical_json, content_key, differences, flatten, key_of",
    "Fault",
    "atomic_write, beside, replaced",
]


def loaded(code: str) -> set[str]:
    """The top-level modules that a fresh process has loaded after some code."""
    told = f"{code}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", told], check=True, cwd=ROOT, capture_output=True, text=True
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_names_that_open_nothing_load_no_zarr():
    modules = loaded(f"from cache import {', '.join(LIGHT)}")
    assert "cache" in modules
    assert not modules & {"zarr", "numcodecs", "fsspec", "pandas", "scipy", "torch"}


def test_a_local_store_is_read_without_what_remote_ones_need():
    code = f"from cache import open_cache, cache_info; cache_info(open_cache({STORE!r}))"
    modules = loaded(code)
    assert "zarr" in modules
    heavy = {"aiohttp", "botocore", "dask", "huggingface_hub", "pandas", "s3fs", "scipy", "torch"}
    assert not modules & heavy


@pytest.mark.parametrize("names", ["zarr.core", "zarr._compat"])
def test_zarrs_private_modules_are_imported_in_one_file(names):
    importers = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "cache").rglob("*.py")
        for module in imported(path)
        if f"{module}.".startswith(f"{names}.")
    }
    assert importers <= {"cache/stores/zarr_internals.py"}


def imported(path: Path) -> set[str]:
    """Modules that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def test_every_name_of_the_face_can_be_imported():
    import cache

    assert all(hasattr(cache, name) for name in cache.__all__)
