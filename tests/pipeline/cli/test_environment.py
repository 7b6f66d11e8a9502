"""Commands in containers and notebooks: no user's name, no home folder, another's backend."""

import os
import subprocess
import sys
from pathlib import Path

from pipeline.cli.environment import complete

FIGURE = """
import pwd

def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")

pwd.getpwuid = unknown
from pipeline.cli.environment import complete
import os
complete(os.environ)
import getpass, pathlib, zarr
from matplotlib.figure import Figure
Figure().savefig(os.devnull, format="png")
print(getpass.getuser(), pathlib.Path.home())
"""


def test_a_process_that_has_everything_keeps_it(tmp_path):
    environ = {"HOME": str(tmp_path), "MPLBACKEND": "module://somebody.elses"}
    complete(environ)
    assert environ == {"HOME": str(tmp_path), "MPLBACKEND": "agg"}


def test_a_user_without_a_name_and_without_a_home(monkeypatch):
    def nobody(*_):
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", nobody)
    monkeypatch.setattr("pathlib.Path.home", lambda: Path("~").expanduser())
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    environ = {}
    complete(environ)
    assert environ["LOGNAME"] == f"uid{os.getuid()}"
    assert os.access(environ["HOME"], os.W_OK)


def test_a_home_folder_that_nothing_can_be_written_to_is_still_read(monkeypatch, tmp_path):
    monkeypatch.setattr("os.access", lambda path, _mode: tmp_path not in (path, *path.parents))
    environ = {"HOME": str(tmp_path)}
    monkeypatch.setenv("HOME", str(tmp_path))
    complete(environ)
    assert environ["HOME"] == str(tmp_path) and environ["MPLCONFIGDIR"] != str(tmp_path)


def test_libraries_work_for_a_number_that_no_user_has():
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", FIGURE],
        env={"PYTHONPATH": path, "MPLBACKEND": "module://no.such.backend"},
        cwd="/", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"uid{os.getuid()} ")
    assert "Matplotlib created" not in done.stderr
