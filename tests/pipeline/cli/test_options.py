"""Standard output of commands that print JSON."""

import json
import os
import subprocess
import sys

import pytest
from support.faults import make_store

NOISY = """
import os, sys
import pipeline.cache_commands as commands
from pipeline.cli.main import script

quiet = commands.show_info

def noisy(path, terminal):
    print("a library says hello")
    os.system("echo a process says hello")
    quiet(path, terminal)
    print("and goodbye")

commands.show_info = noisy
sys.argv = ["vitv1", *sys.argv[1:]]
script()
"""


@pytest.mark.parametrize("as_json", [True, False])
def test_a_json_document_is_alone_on_standard_output(tmp_path, as_json):
    make_store(tmp_path / "c.zarr")
    done = subprocess.run(
        [sys.executable, "-c", NOISY, "cache", "info", "c.zarr", *(["--json"] if as_json else [])],
        cwd=tmp_path, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    spoken = done.stderr if as_json else done.stdout
    for word in ("a library says hello", "a process says hello", "and goodbye"):
        assert word in spoken
    if as_json:
        assert json.loads(done.stdout)["complete"] is True
