"""One way to write files: whole, on the disk, under temporary names that nobody else gives."""

import ast
import re

import pytest
from support.imports import PACKAGES, ROOT, files, tree_of

#: Ways to write files, or to give them names, that stand elsewhere than in `cache.write.atomic`:
#: they write what is not kept, or into a file that is put in its place whole.
ALLOWED = {
    "cache/write/lock.py": {"os.open", "os.fdopen"},  # a lock has no content to lose
    "cache/write/begin.py": {"rename"},  # of a store that is deleted
    "cache/write/grow.py": {"rename"},  # of one that gets its name back
    "cache/share/pull.py": {"rename"},  # of a copy that gets its name back
    "cache/share/push.py": {"tempfile.TemporaryDirectory"},  # of a packed file, until it is sent
    "cache/share/pack.py": {"zipfile.ZipFile"},  # into what `replaced` opened
    "pipeline/cli/environment.py": {"tempfile.mkdtemp"},  # caches of libraries, in a container
    "pipeline/cli/options.py": {"os.fdopen"},  # the terminal
    "pipeline/plan/calibrate.py": {"tempfile.TemporaryFile"},  # has no name
    "pipeline/download.py": {"open"},  # a .part, checked before it gets its name
    "pipeline/examples/most_exciting_image.py": {"savefig"},  # a picture of the user's
    "pipeline/examples/new_images.py": {"savefig"},  # a picture of the user's
    "pipeline/examples/other_features.py": {"savefig"},  # a picture of the user's
    "pipeline/examples/own_colours.py": {"savefig"},  # a picture of the user's
    "pipeline/examples/receptive_field.py": {"savefig"},  # a picture of the user's
    "pipeline/predict.py": {"np.savez", "zarr.create_group"},  # into what `replaced` opened
    "pipeline/report/figures/style.py": {"savefig"},  # into memory
    "pipeline/report/tables.py": {"to_html"},  # likewise
    "pipeline/results/measured.py": {"zarr.create_group"},  # then `place_folder`
    "pipeline/results/tables.py": {"to_csv", "to_parquet"},  # likewise
    "pipeline/work_folder.py": {"os.open", "tempfile.TemporaryDirectory"},  # gone with the run
    "stages/executors/life.py": {"touch"},  # likewise
    "stages/executors/reports.py": {"open"},  # likewise
    "stages/executors/security.py": {"os.fdopen", "tempfile.mkstemp"},  # likewise
    "stages/executors/serialize.py": {"np.save"},  # likewise
    "stages/readouts/als/distributed/fit.py": {"replace"},  # likewise
    "stages/readouts/als/distributed/tasks.py": {"torch.save"},  # likewise
    "stages/readouts/saved.py": {"zarr.create_group", "rename"},  # then `place_folder`
    "stages/readouts/storage/archive.py": {"np.savez"},  # into what `replaced` opened
    "stages/recordings/arrays/save.py": {
        "np.savez_compressed",
        "zarr.create_group",
    },  # into what `replaced` opened; then `place_folder`
    "stages/recordings/kept.py": {"np.savez"},  # into memory
    "stages/tokens/random_access.py": {"tempfile.TemporaryFile"},  # has no name
    "stages/training/checkpoints.py": {"torch.save", "replace"},  # into what `replaced` opened
}

#: Methods of any object, and functions of modules.
_METHODS = re.compile(
    r"write_(text|bytes)|touch|rename|replace|savefig|tofile|symlink_to|hardlink_to|"
    r"to_(csv|json|html|parquet|excel|pickle|hdf|feather)"
)
_FUNCTIONS = re.compile(
    r"os\.(open|fdopen|rename|replace|link|symlink)|shutil\.(move|copy\w*)|np\.save\w*|torch\.save|"
    r"(safetensors\.\w+\.)?save_file|zarr\.(create|save|open|array|zeros|empty)\w*|"
    r"tempfile\.\w*(Temporary|mk)\w*"
)
_MODE = re.compile(r"(?=[bt+]*[rwax])[rwaxbt+]*[wax+][bt+]*")


def way_to_write(call: ast.Call) -> str | None:
    """Name of a call that may write a file, or name one."""
    name = ast.unparse(call.func)
    method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    texts = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant)]
    if _FUNCTIONS.fullmatch(name):
        return None if name.startswith("zarr.open") and "r" in texts else name
    if name in ("open", "zipfile.ZipFile") or method == "open":
        modes = [text for text in texts if isinstance(text, str) and _MODE.fullmatch(text)]
        return (name if name == "zipfile.ZipFile" else "open") if modes else None
    if method == "replace" and (len(call.args) != 1 or call.keywords):
        return None  # in a text
    return method if _METHODS.fullmatch(method) else None


@pytest.mark.parametrize("package", PACKAGES)
def test_files_are_written_in_one_way(package):
    for path in files(package):
        place = str(path.relative_to(ROOT))
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and place != "cache/write/atomic.py":
                way = way_to_write(node)
                assert way is None or way in ALLOWED.get(place, ()), (place, node.lineno, way)


@pytest.mark.parametrize(
    "code",
    ["open(p, 'w')", "p.open('r+b')", "(a / b).open(mode='xb')", "p.write_text(t)", "p.replace(q)",
     "(a / b).replace(q)", "os.replace(p, q)", "np.save(p, a)", "torch.save(a, p)", "a.tofile(p)",
     "frame.to_parquet(p)", "p.open('ab' if x else 'wb')", "shutil.move(p, q)",
     "zarr.open_group(p)", "safetensors.torch.save_file(a, p)"],
)  # fmt: skip
def test_ways_to_write_are_seen(code):
    assert way_to_write(ast.parse(code).body[0].value)


@pytest.mark.parametrize(
    "code", ["open(p)", "p.open('rb')", "t.replace('a', 'b')", "replace(task, device=d)",
             "zarr.open_group(p, mode='r')"],
)  # fmt: skip
def test_what_only_reads_is_left_alone(code):
    assert way_to_write(ast.parse(code).body[0].value) is None
