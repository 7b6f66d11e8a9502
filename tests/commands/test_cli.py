"""The command line: exit codes, one-line messages, and nothing written on bad input."""

import numpy as np
import pytest
from support.recording_files import write_minimodel
from support.tiny import write_experiment

from pipeline.cli.main import main


def refused(capsys, path, *arguments, command="run"):
    """Run a command that must exit 2 and write nothing; return its one line."""
    before = set(path.parent.rglob("*"))
    assert main([command, str(path), *arguments]) == 2
    err = capsys.readouterr().err.strip()
    assert err.startswith("vitv1: ") and "\n" not in err and "Traceback" not in err
    assert set(path.parent.rglob("*")) - before == set()
    return err


def replace_responses(folder, change):
    for file in (folder / "mouse/data/responses").iterdir():
        responses = np.load(file)
        change(responses)
        np.save(file, responses)


def setting(*pairs):
    return [text for pair in pairs for text in ("--set", pair)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["recording.path=absent.zip"], "absent.zip: no such file or folder"),
        (["readout.block=[1]"], 'did you mean "blocks"'),
        (["backbone.name=vit_smal_patch16_dinov3"], 'did you mean "vit_small_patch16_dinov3'),
        (["backbone.weights=absent.pth"], "no such file"),
        (["stimuli.input_size=[30, 64]"], "not a multiple of the patch size"),
        (["stimuli.crop=[0, 65]"], "the images have 64 columns"),
        (["recording.neurons=[0, 7]"], "it has 6 neurons"),
        (["run.device=cuda:99"], 'run.device = "cuda:99" cannot be used here'),
        (["readout.blocks=[14]"], "block 14 of 3: choose 0..2 or -3..-1"),
    ],
)
def test_bad_settings(tmp_path, capsys, settings, message):
    path = write_experiment(tmp_path)
    assert message in refused(capsys, path, *setting(*settings))


def test_extraction_to_a_url_is_refused(tmp_path, capsys):
    path = write_experiment(tmp_path)
    options = setting("cache.path=https://host.invalid/c.zarr")
    assert "name a path" in refused(capsys, path, *options, command="extract")


def test_an_unknown_block_is_refused_before_fitting(tmp_path, capsys):
    path = write_experiment(tmp_path)
    assert main(["extract", str(path), "--quiet"]) == 0
    for block in (3, -4, 14):
        message = refused(capsys, path, *setting(f"readout.blocks=[{block}]"), command="fit")
        assert f"block {block} of 3: choose 0..2 or -3..-1" in message


def test_fit_without_a_cache_names_extract(tmp_path, capsys):
    path = write_experiment(tmp_path)
    assert f"vitv1 extract {path}" in refused(capsys, path, command="fit")


def test_fit_with_another_cache_names_the_setting(tmp_path, capsys):
    path = write_experiment(tmp_path)
    assert main(["extract", str(path), "--quiet"]) == 0
    for override, name in (
        ("backbone.seed=1", "backbone.weights.seed: 1 here, 0 there"),
        ("backbone.precision=bfloat16", 'backbone.precision: "bfloat16" here'),
        ("stimuli.input_size=[32, 32]", "preprocessing.input_size"),
        ("stimuli.crop=[0, 32]", "preprocessing.crop: [0, 32] here, [0, 64] there"),
        ("cache.dtype=float32", 'dtype: "float32" here, "float16" there'),
    ):
        for command in ("fit", "run", "extract"):
            assert name in refused(capsys, path, "--quiet", *setting(override), command=command)


def test_nan_images(tmp_path, capsys):
    path = write_experiment(tmp_path)
    for image in (tmp_path / "mouse/data/images").iterdir():
        pixels = np.load(image).astype(np.float32)
        pixels[0, 3, 3] = np.nan
        np.save(image, pixels)
    message = refused(capsys, path, "--quiet")
    assert "19 images" in message and "NaN or infinite pixels" in message


@pytest.mark.parametrize(("value", "fault"), [(np.inf, "infinite"), (-1.0, "negative")])
def test_responses_that_are_no_rates(tmp_path, capsys, value, fault):
    path = write_experiment(tmp_path)
    replace_responses(tmp_path, lambda responses: responses.__setitem__(slice(1, 3), value))
    message = refused(capsys, path)
    assert "2 of 6 neurons" in message and fault in message and "(1, 2)" in message


def test_no_repeated_test_images(tmp_path, capsys):
    path = write_experiment(tmp_path, repeats=(1, 1, 1))
    assert "no test image was shown twice" in refused(capsys, path)


def test_wrong_rank_of_an_image(tmp_path, capsys):
    path = write_experiment(tmp_path)
    for image in (tmp_path / "mouse/data/images").iterdir():
        np.save(image, np.load(image)[0])
    assert ".npy" in refused(capsys, path)


MINIMODEL = """
[recording]
format = "minimodel"
path = "{recording}"
name = "FX10"
[stimuli]
path = "{images}"
input_size = [32, 64]
[backbone]
name = "vit_small_patch16_dinov3"
weights = "random"
arguments = {{ depth = 2, embed_dim = 48, num_heads = 3 }}
[readout]
solver = "adamw"
adamw = {{ max_epochs = 2 }}
[run]
output = "{output}"
workers = 1
"""


def minimodel_experiment(folder, **changes):
    files = write_minimodel(folder, **changes)
    path = folder / "fx.toml"
    path.write_text(
        MINIMODEL.format(
            recording=files.recording.name, images=files.images.name, output=folder / "runs"
        )
    )
    return path


def test_the_minimodel_release_runs_end_to_end(tmp_path):
    path = minimodel_experiment(tmp_path)
    assert main(["run", str(path), "--quiet"]) == 0
    assert (tmp_path / "runs/figures/feve_per_block.png").stat().st_size > 10_000


def test_the_cache_is_enough_where_the_images_are_not(tmp_path, capsys, no_figures):
    path = minimodel_experiment(tmp_path)
    assert main(["extract", str(path), "--quiet"]) == 0
    next(tmp_path.glob("*.mat")).unlink()
    assert main(["fit", str(path)]) == 0
    assert "images not at hand, not re-checked" in capsys.readouterr().err
    assert "no such file" in refused(capsys, path, command="extract")


def test_recording_and_images_that_disagree(tmp_path, capsys):
    shown = np.arange(1000, 1000 + 40)
    path = minimodel_experiment(tmp_path, changes={"istim_sp": shown}, n_trials=40)
    assert "images that" in refused(capsys, path)


def test_object_arrays_need_consent(tmp_path, capsys, no_figures):
    from support.recording_files import ragged

    rng = np.random.default_rng(0)
    parts = [rng.random((n, 5), dtype=np.float32) for n in (3, 2, 3, 3)]
    path = minimodel_experiment(tmp_path, n_neurons=5, n_test=4, changes={"ss_all": ragged(parts)})
    assert "recording.allow_pickle = true and give --allow-pickle" in refused(capsys, path)
    key = setting("recording.allow_pickle=true")
    assert "needs --allow-pickle on the command line" in refused(capsys, path, *key)
    assert main(["run", str(path), "--quiet", "--allow-pickle", *key]) == 0


@pytest.mark.parametrize(
    "command", ["run", "run --dry-run", "extract", "fit", "finetune", "baseline", "report",
                "cache repair"],
)  # fmt: skip
def test_a_file_alone_cannot_consent_to_unpickling(tmp_path, capsys, command):
    path = minimodel_experiment(tmp_path)
    path.write_text(path.read_text().replace("[recording]", "[recording]\nallow_pickle = true"))
    before = set(tmp_path.rglob("*"))
    assert main([*command.split(), str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{path}: recording.allow_pickle can run code as you, and needs --allow-pickle" in line
    assert set(tmp_path.rglob("*")) == before
    assert main([*command.split(), "--allow-pickle", "absent.toml"]) == 2
    assert "absent.toml: no such experiment file" in capsys.readouterr().err


def test_a_file_that_takes_more_than_the_memory_limit(tmp_path, capsys):
    path = minimodel_experiment(tmp_path, changes={"istim_sp": np.zeros(10**7, np.int64)})
    for command in (["--dry-run"], []):
        told = refused(capsys, path, *command, *setting("run.memory_limit=10MB"))
        assert "istim_sp.npy" in told and "80.0 MB of memory, and run.memory_limit leaves" in told


def test_usage_errors_exit_2(capsys):
    assert main(["run"]) == 2
    assert main(["frobnicate"]) == 2
    assert main(["run", "absent.toml"]) == 2
    for line in capsys.readouterr().err.strip().splitlines():
        assert line.startswith("vitv1: ")


def test_an_unforeseen_failure_exits_1_without_a_traceback(tmp_path, capsys, monkeypatch):
    path = write_experiment(tmp_path)

    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cache.write_cache", fail)
    assert main(["extract", str(path), "--quiet"]) == 1
    assert "free some and repeat" in capsys.readouterr().err
    with pytest.raises(OSError, match="No space left"):
        main(["extract", str(path), "--quiet", "--debug"])


def test_ctrl_c_exits_130_and_the_next_run_goes_on(tmp_path, capsys, monkeypatch, no_figures):
    path = write_experiment(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("stages.fit.run.fitted_condition", _interrupt)
        assert main(["run", str(path), "--quiet"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert main(["run", str(path), "--quiet"]) == 0


def _interrupt(*_args, **_kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize("command", [[], ["run"], ["extract"], ["fit"], ["download"]])
def test_help(command, capsys):
    assert main([*command, "--help"]) == 0
    assert "Usage: vitv1" in capsys.readouterr().out
