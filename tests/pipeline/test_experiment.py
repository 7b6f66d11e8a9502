"""The experiment file: paths, overrides, sweeps, and faults named in one line."""

import os

import pytest

from cache import UserError
from pipeline.experiment import load_experiment

TEXT = """
[recording]
format = "sensorium"
path = "mouse.zip"
name = "mouse"
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    path = tmp_path / "experiments" / "mouse.toml"
    path.write_text(TEXT)
    return path


def one(path, *overrides):
    (experiment,) = load_experiment(path, overrides).variants
    return experiment


def test_defaults(file):
    loaded = load_experiment(file)
    experiment = loaded.variants[0]
    assert experiment.backbone.name == "vit_small_patch16_dinov3.lvd1689m"
    assert experiment.stimuli.size == (64, 128)
    assert experiment.readout.blocks == "all"
    assert str(loaded.output) == "runs/mouse"
    assert loaded.cache_path(experiment) == "runs/mouse/features.zarr"


def test_input_paths_are_relative_to_the_file_and_overrides_to_the_working_directory(file):
    assert str(one(file).recording[0].path) == "experiments/mouse.zip"
    assert str(one(file, "recording.path=other.zip").recording[0].path) == "other.zip"
    file.write_text(TEXT + '[backbone]\nweights = "w.safetensors"\n[cache]\npath = "c.zarr"\n')
    assert one(file).backbone.weights == "experiments/w.safetensors"
    assert one(file).cache.path == "experiments/c.zarr"
    file.write_text(TEXT + '[cache]\npath = "https://host/c.zarr"\n')
    assert one(file).cache.path == "https://host/c.zarr"


def test_overrides_take_toml_values_or_bare_words(file):
    experiment = one(
        file, "readout.blocks=[3, -1]", "readout.tokens=['cls']", "backbone.weights=random",
        "run.seed=7", "readout.adamw.max_epochs=2", "recording.neurons=[0, 5]",
    )  # fmt: skip
    assert experiment.readout.blocks == (3, -1)
    assert experiment.readout.tokens == ("cls",)
    assert experiment.backbone.weights == "random"
    assert experiment.run.seed == 7
    assert experiment.readout.adamw.max_epochs == 2
    assert experiment.recording[0].neurons == (0, 5)


def test_repeated_recordings_are_addressed_by_number(file):
    file.write_text(
        '[[recording]]\nformat = "sensorium"\nname = "a"\n'
        '[[recording]]\nformat = "sensorium"\nname = "b"\n'
    )
    experiment = one(file, "recording.1.path=b.zip")
    assert [r.path and str(r.path) for r in experiment.recording] == [None, "b.zip"]
    with pytest.raises(UserError, match=r"recording\.0\.path"):
        one(file, "recording.path=b.zip")
    with pytest.raises(UserError, match=r"2 is not one of 0\.\.1"):
        one(file, "recording.2.path=b.zip")


def test_lists_of_backbones_sizes_and_seeds_multiply(file):
    loaded = load_experiment(
        file,
        ["backbone.name=['test_vit', 'test_vit2']", "stimuli.upsample=[1, 2]", "run.seed=[0,1,2]"],
    )
    assert len(loaded.variants) == 12
    paths = {loaded.cache_path(variant) for variant in loaded.variants}
    assert paths == {
        f"runs/mouse/features-{name}-{size}.zarr"
        for name in ("test_vit", "test_vit2")
        for size in ("64x128", "128x256")
    }
    assert {variant.run.seed for variant in loaded.variants} == {0, 1, 2}


def test_seeds_alone_share_one_cache(file):
    loaded = load_experiment(file, ["run.seed=[0,1]"])
    assert {loaded.cache_path(v) for v in loaded.variants} == {"runs/mouse/features.zarr"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("readout.block=[3]", 'unknown key readout.block; did you mean "blocks"'),
        ("readouts.blocks=[3]", 'unknown key readouts; did you mean "readout"'),
        ("recording.nme=x", 'unknown key recording.0.nme; did you mean "name"'),
        ("readout.adamw.learningrate=1", 'did you mean "learning_rate"'),
        ("readout.solver=sgd", "readout.solver = 'sgd'"),
        ("stimuli.upsample=0", "stimuli.upsample = 0"),
        ("stimuli.upsample=[]", "name at least one"),
        ("cache.dtype=float8", "cache.dtype = 'float8'"),
        ("run.workers=0", "run.workers = 0"),
        ("readout", "expected table.key=value"),
        ("readout=3", "or table=none, which drops a table"),
        ("finetun=none", 'unknown key finetun; did you mean "finetune"'),
        ("readout=none", "readout: "),
        ("recording.name=''", "recording.0.name"),
    ],
)
def test_faults_are_one_line_that_names_the_key(file, override, message):
    with pytest.raises(UserError) as caught:
        load_experiment(file, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named(file):
    file.write_text('[recording]\nformat = "sensorium"\n')
    with pytest.raises(UserError, match=r"recording\.0\.name is missing"):
        load_experiment(file)


def test_no_file_and_no_toml(file, tmp_path):
    with pytest.raises(UserError, match="no such experiment file"):
        load_experiment(tmp_path / "absent.toml")
    file.write_text("[recording")
    with pytest.raises(UserError, match=r"mouse\.toml is not valid TOML"):
        load_experiment(file)


def test_a_table_is_dropped_by_name(file):
    text = file.read_text()
    file.write_text(f"{text}\n[finetune]\nlast = [0]\n[baseline]\n")
    dropped = load_experiment(file, ["finetune=none", "baseline=none"])
    (settings,) = dropped.variants
    assert settings.finetune is None and settings.baseline is None
    file.write_text(text)
    assert load_experiment(file).settings == dropped.settings
    assert load_experiment(file, ["finetune=none"]).settings == dropped.settings


def test_two_recordings_of_one_name_are_refused(file):
    file.write_text('[[recording]]\nformat = "sensorium"\nname = "a"\n' * 2)
    with pytest.raises(UserError, match="names must differ"):
        load_experiment(file)


@pytest.mark.parametrize(
    "name", ["demo", "lurz", "fx10", "fx10-full", "fx10-directions", "resolution", "tiny"]
)
def test_ready_experiments_are_valid(name):
    from pathlib import Path

    import pipeline

    path = Path(pipeline.__file__).parent / "experiments" / f"{name}.toml"
    loaded = load_experiment(path)
    assert str(loaded.output) == f"runs/{name}"


def test_the_file_system_resolves_what_lies_above_a_linked_folder(file, tmp_path):
    """As text, "linked/../mouse.zip" is the working folder's; it is that of the link's target."""
    elsewhere = tmp_path / "disk" / "lab" / "experiments"
    elsewhere.mkdir(parents=True)
    (tmp_path / "linked").symlink_to(elsewhere)
    (elsewhere / "mouse.toml").write_text(TEXT.replace("mouse.zip", "../mouse.zip"))
    (elsewhere.parent / "mouse.zip").write_text("right")
    (tmp_path / "mouse.zip").write_text("wrong")
    for overrides in ((), ("recording.path=linked/../mouse.zip",)):
        found = one(tmp_path / "linked" / "mouse.toml", *overrides).recording[0].path
        assert found.read_text() == "right"


def test_the_home_folder_is_meant_wherever_a_path_is_named(file, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    file.write_text(TEXT.replace("mouse.zip", "~/mouse.zip") + '[run]\noutput = "~/out"\n')
    home = os.path.realpath(tmp_path / "home")
    assert os.path.realpath(one(file).recording[0].path) == f"{home}/mouse.zip"
    assert os.path.realpath(load_experiment(file).output) == f"{home}/out"
    chosen = one(file, "recording.path=~/x.zip", "cache.path=~/c.zarr", "run.output=~/other")
    assert os.path.realpath(chosen.recording[0].path) == f"{home}/x.zip"
    assert os.path.realpath(chosen.cache.path) == f"{home}/c.zarr"
    assert os.path.realpath(load_experiment(file, ["run.output=~/other"]).output) == f"{home}/other"


@pytest.mark.parametrize("key", ["recording.path", "run.output"])
def test_a_home_folder_of_nobody_is_refused(file, key):
    with pytest.raises(UserError, match="no home folder"):
        load_experiment(file, [f"{key}=~no-such-user/x"])


def test_caches_of_two_backbones_are_never_one(file):
    loaded = load_experiment(file, ["backbone.name=['hf-hub:a/vit', 'local-dir:../vit']"])
    paths = [loaded.cache_path(variant) for variant in loaded.variants]
    assert paths[0] == "runs/mouse/features-hf-hub_a_vit-64x128.zarr"
    assert paths[1] == "runs/mouse/features-local-dir_.._vit-64x128.zarr"
    with pytest.raises(UserError, match="'hf-hub:a/vit' and 'hf-hub:a_vit'"):
        load_experiment(file, ["backbone.name=['hf-hub:a/vit', 'hf-hub:a_vit']"])


def test_weights_strides_and_patch_sizes_sweep_and_name_what_differs(file):
    plain = one(file, "backbone.weights=random")
    assert load_experiment(file, ["backbone.weights=random"]).model(plain) == plain.backbone.name
    loaded = load_experiment(
        file, ["backbone.weights=['hub', 'random', 'w/a.pth']", "backbone.stride=[16, 8]"]
    )
    name = plain.backbone.name
    names = [f"{name}+stride{stride}{w}" for w in ("", "+random", "+a") for stride in (16, 8)]
    assert [loaded.model(variant) for variant in loaded.variants] == names
    assert len({loaded.cache_path(variant) for variant in loaded.variants}) == 6
    assert loaded.cache_path(loaded.variants[3]) == f"runs/mouse/features-{names[3]}-64x128.zarr"
    patches = load_experiment(file, ["backbone.patch_size=[16, 8]"])
    assert [patches.model(v) for v in patches.variants] == [f"{name}+patch16", f"{name}+patch8"]


def test_each_of_several_backbones_has_its_own_settings(file):
    text = '[[backbone]]\nname = "vit_a"\nweights = "w.pth"\nstride = [16, 8]\n'
    file.write_text(TEXT + text + '[[backbone]]\nname = "swin"\narguments = { depth = 2 }\n')
    loaded = load_experiment(file, ("backbone.1.seed=3", "run.seed=[0, 1]"))
    found = [(loaded.model(v), v.backbone.seed, v.run.seed) for v in loaded.variants]
    names = ["vit_a+stride16+w", "vit_a+stride8+w", "swin"]
    assert found == [(name, 3 * (name == "swin"), seed) for name in names for seed in (0, 1)]
    assert loaded.variants[0].backbone.weights == "experiments/w.pth"
    assert len({loaded.cache_path(v) for v in loaded.variants}) == 3


@pytest.mark.parametrize(
    ("text", "override", "message"),
    [
        ("backbone = []", [], "backbone = []: name at least one"),
        ("backbone = [3]", [], "backbone"),
        ('[[backbone]]\nname = "a"\n' * 2, ["backbone.seed=1"], "there are 2 [[backbone]] tables"),
        (
            '[[backbone]]\nname = "a"\n[[backbone]]\nname = "a"\nprecision = "bfloat16"\n',
            [],
            'two backbones that differ would both be called "a"',
        ),
        ('[[backbone]]\nnmae = "a"\n', [], "unknown key backbone.nmae"),
    ],
)
def test_several_backbones_that_cannot_be_are_refused(file, text, override, message):
    file.write_text(f"{text}\n{TEXT}" if text.startswith("backbone") else TEXT + text)
    with pytest.raises(UserError) as refused:
        load_experiment(file, override)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_list_of_weights_starts_at_the_file(file):
    file.write_text(TEXT + '[backbone]\nweights = ["hub", "w/a.pth"]\n')
    hub, path = (variant.backbone.weights for variant in load_experiment(file).variants)
    assert hub == "hub" and os.path.realpath(path) == os.path.realpath(file.parent / "w/a.pth")
    with pytest.raises(UserError, match=r"'v/a\.pth'.*'w/a\.pth' would both be stored"):
        load_experiment(file, ["backbone.weights=['v/a.pth', 'w/a.pth']"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("backbone.dense=overlap", 'dense = "overlap" needs a stride'),
        ("readout.blocks=3", "readout.blocks = 3: expected 'all' or a list"),
        ("recording.neurons=3", "expected 'all' or a list or a table"),
        ("readout.tokens=patches", "expected a list of 'patch', 'cls'"),
        ("readout.tokens=['patch','patch']", "patch is named twice"),
        ("readout.blocks=[1,1]", "1 is named twice"),
        ("readout.blocks=[]", "name at least one value"),
        ("finetune.last=[2,2]", "2 is named twice"),
        ("baseline.models=[]", "name at least one value"),
        ("run.seed=[0,0]", "0 is named twice"),
        ("backbone.arguments={in_chans=1}", "drop in_chans"),
        ("backbone.arguments={img_size=32}", "set stimuli.input_size"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(file, override, message):
    with pytest.raises(UserError) as error:
        load_experiment(file, [override])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_mark_of_the_encoding_is_no_part_of_the_file(file):
    file.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert one(file).recording[0].name == "mouse"
