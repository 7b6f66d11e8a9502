"""The run's folder while one command writes to it."""

from support.tiny import write_experiment

from pipeline.experiment import load_experiment
from pipeline.output import caches_held, output_held


def test_what_killed_commands_left_of_a_file_is_removed_and_nothing_else(tmp_path):
    path = write_experiment(tmp_path)
    output = tmp_path / "runs"
    (output / "results" / "manifests").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (output / "linked").symlink_to(tmp_path / "elsewhere")
    left = [output / ".report.html.12.new", output / "results/manifests/.tables.json.7.new"]
    kept = [
        output / ".notes.new", output / "results/.x.12.old", output / "x.12.new",
        tmp_path / "elsewhere/.report.html.12.new",
    ]  # fmt: skip
    for each in (*left, *kept):
        each.write_text("x")
    with output_held(load_experiment(path)):
        assert not any(each.exists() for each in left)
    assert all(each.exists() for each in kept)


def test_a_cache_that_lies_in_the_folder_by_way_of_a_link_holds_it(tmp_path):
    path = write_experiment(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "link").symlink_to(tmp_path / "runs")
    inside = [f"cache.path={tmp_path}/disk/link/c.zarr"]
    with caches_held(load_experiment(path, inside)):
        assert (tmp_path / "runs/.lock").exists()
    outside = [f"cache.path={tmp_path}/disk/link/../c.zarr"]
    with caches_held(load_experiment(path, outside)):
        assert not (tmp_path / "runs/.lock").exists()
