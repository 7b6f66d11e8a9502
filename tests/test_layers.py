"""Imports go one way: pipeline -> stages -> cache; stage two knows no timm."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "cache": {"cache"},
    "stages": {"stages", "cache"},
    "pipeline": {"pipeline", "stages", "cache"},
}
LAYERS = set(MAY_IMPORT)


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_imports_go_one_way(layer):
    files = sorted((ROOT / layer).rglob("*.py"))
    assert files
    for path in files:
        assert imported(path) & LAYERS <= MAY_IMPORT[layer], path


def test_the_cache_knows_no_torch_and_no_models():
    for path in (ROOT / "cache").rglob("*.py"):
        assert not imported(path) & {"torch", "timm", "sklearn", "pandas"}, path


def test_stage_two_runs_where_timm_cannot_be_imported():
    """What `vitv1 fit` needs is imported in a fresh process in which timm does not exist."""
    code = (
        "import sys; sys.modules['timm'] = None; sys.modules['torchvision'] = None\n"
        "import pipeline.cli.app, pipeline.commands, stages.fit.run, stages.readouts.solvers\n"
        "import stages.backbones.weights"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
