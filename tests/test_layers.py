"""The rules of the house: layers, faces, one place for each thing, small files and folders."""

import ast
import dataclasses
import re
import subprocess
import sys
import typing
from collections import defaultdict
from pathlib import Path

import pytest
from support.imports import (
    PACKAGES,
    ROOT,
    circles,
    faces,
    files,
    imports,
    resolved,
    tree_of,
)

MAY_IMPORT = {
    "cache": {"cache"},
    "stages": {"stages", "cache"},
    "pipeline": {"pipeline", "stages", "cache"},
}
STAGES = {"extract", "fit", "finetune", "baseline"}
PARTS = {"stimuli", "recordings", "backbones", "tokens", "readouts", "training", "executors"}
PARTS |= {"networks"}
FOLDERS = {"scores"}
BASE = {
    "conditions",
    "costs",
    "failures",
    "feve",
    "scores",
    "settings",
    "spread",
    "stage",
    "variant",
}

#: Public names that several modules define with one meaning: each stage's, and type variables.
REPEATED = {"RESULT_VERSION", "settings_of", "needed_memory", "planned_memory", "planned_size"}
REPEATED |= {"T", "R"}


def floor_of(module: str) -> str:
    """Floor of a module of `stages`: registry, a stage, "part" or "base"."""
    room = module.split(".")[1] if "." in module else ""
    return room if room in STAGES | {"registry", "model"} else "part" if room in PARTS else "base"


# 1. Layers


@pytest.mark.parametrize("layer", PACKAGES)
def test_imports_go_one_way(layer):
    for found in imports(layer):
        assert found.module.split(".")[0] in MAY_IMPORT[layer], found


def test_stages_stand_on_parts_and_parts_on_what_all_share():
    below = {
        "model": {"registry", "part", "base"},
        "registry": STAGES | {"part", "base"},
        **dict.fromkeys(STAGES, STAGES | {"part", "base"}),
        "part": {"part", "base"},
        "base": {"base"},
    }
    for found in imports("stages"):
        inner = found.module.startswith("stages.") and found.by != "stages"
        if inner and not found.for_types:
            assert floor_of(found.module) in below[floor_of(found.by)], found


def test_every_room_is_known():
    folders = {p.name for p in (ROOT / "stages").iterdir() if p.is_dir() and p.name[0] not in "_."}
    modules = {p.stem for p in (ROOT / "stages").glob("*.py")} - {"__init__"}
    assert folders == STAGES | PARTS | FOLDERS and modules == BASE - FOLDERS | {"registry", "model"}


def test_there_are_no_circles():
    shown, edges = faces(), defaultdict(set)
    for found in imports(*PACKAGES):
        if not found.for_types:
            edges[found.by].add(resolved(found, shown))
    assert circles(edges) == []


def test_the_cache_knows_no_torch_and_no_models():
    for path in files("cache"):
        names = {
            name.split(".")[0]
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
            )
        }
        assert not names & {"torch", "timm", "sklearn", "pandas"}, path


# 2. One stage imports another in one place


def test_one_stage_imports_another_in_one_place():
    across = {
        (found.by, found.module)
        for found in imports("stages")
        if found.module.startswith("stages.")
        and {floor_of(found.by), floor_of(found.module)} <= STAGES
        and floor_of(found.by) != floor_of(found.module)
    }
    assert across == {("stages.finetune.conditions", "stages.fit.conditions")}


# 3. Faces


def test_other_packages_import_faces_and_root_modules():
    for found in imports(*PACKAGES):
        if found.module.split(".")[0] != found.by.split(".")[0]:
            deep = found.module.count(".") > 1
            package = found.module.replace(".", "/")
            assert not deep and (
                (ROOT / package / "__init__.pyi").exists() or (ROOT / f"{package}.py").exists()
            ), found
            shown = faces().get(found.module)
            assert shown is None or found.name in shown, found


def test_the_pipeline_imports_few_modules_of_the_stages():
    modules = {f.module for f in imports("pipeline") if f.module.startswith("stages")}
    assert len(modules) <= 20, sorted(modules)


# 4. Names of stages, solvers, formats and families stay in their folders


def test_names_stay_in_their_folders():
    from stages.backbones import FAMILIES
    from stages.readouts import SOLVERS
    from stages.recordings import FORMATS

    pretrainings = {name for family in FAMILIES for name in family.pretrainings}
    owners = {
        **dict.fromkeys(SOLVERS, "stages/readouts"),
        **dict.fromkeys(FORMATS, "stages/recordings"),
        **dict.fromkeys(pretrainings, "stages/backbones"),
        **{name: f"stages/{name}" for name in ("finetune", "baseline")},
    }
    # The command line has a command per stage; a CNN's column says which optimiser trained it; a
    # protocol says which solver it was published with.
    allowed = {
        ("pipeline/cli/app.py", "finetune"),
        ("pipeline/cli/app.py", "baseline"),
        ("stages/baseline/conditions.py", "adamw"),
        ("stages/finetune/settings.py", "adamw"),
        # A table of the baseline's own, whose networks bear the name of the release.
        ("stages/baseline/task.py", "minimodel"),
    }
    for path in files("stages", "pipeline"):
        place = str(path.relative_to(ROOT))
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Constant) and node.value in owners:
                owner = owners[node.value]
                assert place.startswith(owner) or (place, node.value) in allowed, (
                    place,
                    node.value,
                )


# 5. Settings


def test_input_paths_are_marked_in_the_schema():
    from pipeline.experiment import Experiment
    from stages.settings import InputPath

    def paths(schema, where):
        for name, hint in typing.get_type_hints(schema, include_extras=True).items():
            marked = any(isinstance(m, InputPath) for m in getattr(hint, "__metadata__", ()))
            for part in [hint, *typing.get_args(hint)]:
                for inner in [part, *typing.get_args(part)]:
                    if isinstance(inner, type) and dataclasses.is_dataclass(inner):
                        yield from paths(inner, f"{where}{name}.")
                    elif inner is Path and not marked:
                        yield f"{where}{name}"

    # Where results go is relative to the working directory.
    assert set(paths(Experiment, "")) == {"run.output"}


def test_settings_stand_in_the_room_of_their_table():
    from pipeline.experiment import Experiment

    def classes(schema):
        yield schema
        for hint in typing.get_type_hints(schema, include_extras=True).values():
            for part in [hint, *typing.get_args(hint)]:
                for inner in [part, *typing.get_args(part)]:
                    if isinstance(inner, type) and dataclasses.is_dataclass(inner):
                        yield from classes(inner)

    rooms = {cls.__module__ for cls in classes(Experiment)} - {"pipeline.experiment"}
    assert all(re.fullmatch(r"stages\.\w+\.(\w+_)?settings", module) for module in rooms), rooms
    assert {module.split(".")[1] for module in rooms} >= {"stimuli", "recordings", "readouts"}


# 6. One meaning per name


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_name_has_two_meanings(package):
    places = defaultdict(list)
    for path in files(package):
        # A command of the command line bears the name of the function that it calls; examples are
        # scripts of their own.
        if path.parent.name in ("cli", "examples"):
            continue
        for node in tree_of(path).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names = [node.name]
            elif isinstance(node, ast.Assign):
                names = [t.id for t in node.targets if isinstance(t, ast.Name)]
            else:
                continue
            for name in names:
                if not name.startswith("_") and name not in REPEATED:
                    places[name].append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


# 7. Size


def test_files_and_folders_are_small():
    assert [
        str(p) for p in files(*PACKAGES, "tests") if len(p.read_text().splitlines()) >= 300
    ] == []
    for package in PACKAGES:
        for folder in [ROOT / package, *(p for p in (ROOT / package).rglob("*") if p.is_dir())]:
            assert len(list(folder.glob("*.py"))) <= 14, folder


# 8. One idiom each


@pytest.mark.parametrize(
    ("idiom", "home"),
    [
        ("sort_keys=True, separators", "cache/format/identity.py"),
        ("os.replace(", "cache/write/atomic.py"),
        ("sched_getaffinity", "joblib"),
        ("malloc_trim", "stages/executors/resources.py"),
    ],
)
def test_one_idiom_each(idiom, home):
    users = [str(p.relative_to(ROOT)) for p in files(*PACKAGES) if idiom in p.read_text()]
    assert set(users) <= {home}


def test_docstrings_name_the_thing():
    vague = {"What", "Where", "Which", "How", "Whether", "Many", "From", "When", "Why"}
    for path in files(*PACKAGES):
        said = ast.get_docstring(tree_of(path))
        assert said and said.split()[0] not in vague, path


# What may be absent


def test_stage_two_runs_where_timm_cannot_be_imported():
    """What `vitv1 fit` needs is imported in a fresh process in which timm does not exist."""
    code = (
        "import sys; sys.modules['timm'] = None; sys.modules['torchvision'] = None\n"
        "import pipeline.cli.app, pipeline.commands, stages.fit.run, stages.readouts.solvers\n"
        "import stages.backbones.weights"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
