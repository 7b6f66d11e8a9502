"""Publishing a cache: equal bytes on the other side, resumed, checked, with a card that tells."""

import pytest
import xarray
from support.faults import IDS, content, make_store, settings, token
from support.hub import loopback_hub
from support.servers import s3

from cache import CacheError, UserError, open_cache, plan_copy, pull, push, verify
from cache.share.card import CARD_MARK
from pipeline.cli.main import main


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = {"stimuli": "nat60k.mat", "user": "ann", "license": "DINOv3 and CC-BY"}
    return make_store(tmp_path_factory.mktemp("local") / "a.zarr", provenance=made)


@pytest.fixture
def hub(monkeypatch):
    with loopback_hub(monkeypatch) as server:
        yield server


@pytest.fixture
def bucket(monkeypatch):
    with s3(monkeypatch) as server:
        yield server


@pytest.fixture(params=["hub", "bucket"])
def place(request):
    server = request.getfixturevalue(request.param)
    base = {"hub": "hf://datasets/lab/tokens", "bucket": "s3://lab/caches"}[request.param]
    return base, server


def plan(store, **part):
    return plan_copy(open_cache(str(store)), **part)


def test_what_was_pushed_comes_back_byte_by_byte(store, place, tmp_path):
    base, _ = place
    seen = []
    push(plan(store), f"{base}/a.zarr", progress=seen.append)
    assert sum(seen) == plan(store).n_bytes
    pull(plan(f"{base}/a.zarr"), tmp_path / "b.zarr")
    assert content(tmp_path / "b.zarr") == content(store)


def test_a_part_and_one_file(store, place, tmp_path):
    base, _ = place
    push(plan(store, blocks=[1], kinds=["cls"]), f"{base}/part.zarr")
    push(plan(store, blocks=[1]), f"{base}/part.zarr.zip", packed=True)
    for name, kinds in (("part.zarr", ["cls"]), ("part.zarr.zip", ["patches", "cls", "registers"])):
        cache = open_cache(f"{base}/{name}")
        assert (cache.blocks, cache.kinds) == ([1], kinds)
        assert (cache.block(1).read("cls", IDS) == token(1, "cls", IDS)).all()


def test_again_sends_metadata_only(store, hub):
    push(plan(store), "hf://datasets/lab/tokens/a.zarr")
    hub.log.clear()
    push(plan(store), "hf://datasets/lab/tokens/a.zarr")
    assert not [asked for asked in hub.log if asked.startswith("PUT")]


def test_an_interrupted_upload_goes_on(store, hub):
    hub.most = 4
    with pytest.raises(CacheError, match="what was sent is kept") as error:
        push(plan(store), "hf://datasets/lab/tokens/a.zarr")
    assert "hf_s3cr3t" not in str(error.value)
    kept = set(hub.objects)
    hub.most, _ = 1000, hub.log.clear()
    push(plan(store), "hf://datasets/lab/tokens/a.zarr")
    sent = {asked.rpartition("/")[2] for asked in hub.log if asked.startswith("PUT")}
    assert kept and not kept & sent


def test_what_arrived_damaged_is_sent_again(store, bucket, tmp_path):
    damaged = tmp_path / "x"
    file = store / "blocks/00/cls/c/1/0"
    damaged.write_bytes(file.read_bytes()[:-40] + bytes(40))
    bucket.upload(damaged, "caches/a.zarr/blocks/00/cls/c/1/0")
    push(plan(store), "s3://lab/caches/a.zarr")
    assert not verify("s3://lab/caches/a.zarr").faults


def test_another_cache_is_not_pushed_over(store, bucket, tmp_path):
    push(plan(store), "s3://lab/caches/a.zarr")
    other = make_store(tmp_path / "o.zarr", settings=settings(precision="bfloat16"))
    for copy in (plan(other), plan(store, blocks=[0])):
        with pytest.raises(CacheError, match="holds another cache, or other blocks"):
            push(copy, "s3://lab/caches/a.zarr")


@pytest.mark.parametrize(
    ("url", "packed", "said"),
    [("https://lab.example/a.zarr", False, "published in a folder, at s3:// or at hf"),
     ("hf://datasets/lab/tokens", False, "has a name there"),
     ("hf://lab/model/a.zarr", False, "published in a dataset"),
     ("s3://key:s3cr3t@lab/a.zarr", False, "without keys"),
     ("s3://lab/a.zarr", True, "ends in .zarr.zip"),
     ("s3://lab/a.zarr.zip", False, "or add --packed")],
)  # fmt: skip
def test_other_places_are_refused(store, url, packed, said):
    with pytest.raises(UserError, match=said) as error:
        push(plan(store), url, packed=packed)
    assert "s3cr3t" not in str(error.value)


def test_the_card_tells_recipe_licence_and_how_to_open(store, hub):
    push(plan(store), "hf://datasets/lab/tokens/a.zarr")
    card = hub.files["README.md"].decode()
    assert card.startswith("---\nlicense: other") and "DINOv3 and CC-BY" in card
    assert open_cache(store).key in card and "| backbone.name | tiny |" in card
    assert "ann" not in card and "hf_s3cr3t" not in card and str(store.parent) not in card


@pytest.mark.parametrize("packed", [False, True])
def test_the_cards_own_code_opens_it(store, tmp_path, monkeypatch, packed):
    """In a folder, where the card lies beside the cache; with xarray alone."""
    target = tmp_path / ("b.zarr.zip" if packed else "b.zarr")
    card = push(plan(store), str(target), packed=packed)
    text = (tmp_path / "README.md").read_text()
    assert card == str(tmp_path / "README.md")
    code = text.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    read = names["tokens"]["blocks/01"].sel(image=[12, 5][1:])["cls"]
    assert (read.values == token(1, "cls", IDS[2:3])).all()
    assert isinstance(names["tokens"], xarray.DataTree)


def test_names_of_others_are_shown_not_obeyed(tmp_path):
    named = settings()
    named["backbone"]["name"] = "<script>alert(1)</script> | x |\n# y [l](http://e) `z`"
    store = make_store(tmp_path / "a.zarr", settings=named)
    push(plan(store), str(tmp_path / "b.zarr"), licence='a\n---\nx: <b>y</b>"')
    card = (tmp_path / "README.md").read_text()
    head, body = card.split(CARD_MARK)
    assert "<" not in body and "[l]" not in body and "\n# y" not in body
    assert len(head.splitlines()) == 5


def test_a_readme_of_others_stays(store, tmp_path):
    (tmp_path / "README.md").write_text("our lab")
    card = push(plan(store), str(tmp_path / "b.zarr"))
    assert card.endswith("b.zarr.md") and (tmp_path / "README.md").read_text() == "our lab"


def test_the_command(store, hub, capsys):
    url = "hf://datasets/lab/tokens/b.zarr"
    assert main(["cache", "push", str(store), url, "--blocks", "1", "--tokens", "patch"]) == 0
    out, err = capsys.readouterr()
    assert "every byte checked there; card: README.md" in out and "hf_s3cr3t" not in out + err
    assert (open_cache(url).blocks, open_cache(url).kinds) == ([1], ["patches"])
