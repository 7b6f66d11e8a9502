"""Start of commands: what each loads, in a fresh process, and the version."""

import contextlib
import json
from importlib.metadata import version

import pytest
from support.earlier import earlier_run, python

from pipeline.cli import main

HEAVY = ["torch", "timm", "zarr", "pandas", "scipy", "matplotlib", "dask", "distributed", "joblib"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of every stage that is finished, so that nothing is to be done."""
    folder = earlier_run(tmp_path_factory.mktemp("earlier"))
    with contextlib.chdir(folder):
        assert main(["run", "--quiet", "experiment.toml"]) == 0
    return folder


def loaded(folder, *arguments):
    """Heavy packages that a command loads."""
    code = (
        "import contextlib, io, json, sys\n"
        "from pipeline.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    code = main({list(arguments)!r})\n"
        f"print(json.dumps([code, [m for m in {HEAVY!r} if m in sys.modules]]))"
    )
    exit_code, modules = json.loads(python(folder, "-c", code))
    assert exit_code == 0
    return set(modules)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["cache", "pull", "--help"]])
def test_help_loads_nothing_heavy(tmp_path, arguments):
    assert loaded(tmp_path, *arguments) == set()


def test_looking_at_a_cache_loads_no_torch(run):
    assert loaded(run, "cache", "info", "output/features.zarr") <= {"zarr"}


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_finished_run_loads_no_torch(run, options):
    heavy = loaded(run, "run", "experiment.toml", *options)
    # Pricing asks joblib for the cores that a container leaves.
    assert heavy <= {"zarr", "joblib"}


def test_the_version(tmp_path):
    assert python(tmp_path, "-m", "pipeline", "--version") == f"vitv1 {version('vitv1')}\n"
