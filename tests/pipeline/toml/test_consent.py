"""Settings that could run code: a file alone cannot give them, whichever command reads it."""

import socket

import pytest
from support.tiny import write_experiment

from cache import UserError
from pipeline.cli.main import main
from pipeline.experiment import load_experiment

DASK = 'run.executor="dask"'
CODE = {
    "run.scheduler": 'run.scheduler="tcp://127.0.0.1:{port}"',
    "run.slurm.prologue": 'run.slurm.prologue=["touch harm"]',
    "run.slurm.directives": 'run.slurm.directives=["--wrap=harm"]',
    "run.slurm.options": 'run.slurm.options={{python="touch harm;"}}',
    "run.lsf.prologue": 'run.lsf.prologue=["touch harm"]',
    "run.lsf.directives": 'run.lsf.directives=["-E harm"]',
    "run.lsf.options": 'run.lsf.options={{job_cls="harm"}}',
}


@pytest.fixture
def listening():
    """A port of loopback where a connection would be seen."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        yield server


@pytest.mark.parametrize("key", CODE)
def test_a_file_alone_cannot_run_code_through_a_cluster(tmp_path, key, listening, capsys):
    path = write_experiment(tmp_path)
    name, _, value = CODE[key].format(port=listening.getsockname()[1]).partition("=")
    table, _, last = name.rpartition(".")
    place = "" if table == "run" else f"[{table}]\n"
    path.write_text(f'{path.read_text()}executor = "dask"\n{place}{last} = {value}\n')
    before = set(tmp_path.rglob("*"))
    for command in (["run", "--dry-run"], ["run"], ["extract"], ["fit"], ["report"]):
        assert main([*command, str(path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{path}: {key} can run code as you, and needs --allow-cluster" in line
    assert set(tmp_path.rglob("*")) == before
    # Planning with consent connects to nobody, either.
    assert main(["run", "--dry-run", "--quiet", "--allow-cluster", str(path)]) == 0
    with pytest.raises(TimeoutError):
        listening.accept()


def test_consent_from_the_environment(tmp_path, monkeypatch, capsys):
    path = write_experiment(tmp_path)
    setting = ["--set", "run.executor=dask", "--set", "run.slurm.prologue=['module load cuda']"]
    assert main(["run", "--dry-run", "--quiet", str(path), *setting]) == 2
    monkeypatch.setenv("VITV1_ALLOW_CLUSTER", "1")
    assert main(["run", "--dry-run", "--quiet", str(path), *setting]) == 0


def test_a_cluster_without_lines_of_its_own_needs_no_consent(tmp_path):
    jobs = ["run.slurm.queue=cpu,gpu", "run.slurm.account=v1", 'run.slurm.walltime="04:00"']
    load_experiment(write_experiment(tmp_path), [DASK, *jobs])
    load_experiment(write_experiment(tmp_path), [DASK, "run.scheduler=local"])


@pytest.mark.parametrize("name", ["cpu -E harm", "cpu\\nharm", "-E", "$(harm)", "`harm`", "a;b"])
@pytest.mark.parametrize("key", ["slurm.queue", "lsf.account"])
def test_names_are_one_word_of_a_job_script(tmp_path, key, name):
    with pytest.raises(UserError, match=rf"run\.{key} = "):
        load_experiment(write_experiment(tmp_path), [DASK, f'run.{key}="{name}"'])
