"""Saved conditions: whole, or absent, whenever a process dies and whatever is half there."""

import os
import re
import shutil
from pathlib import Path

import pytest
from support.earlier import earlier_run
from support.saved import fitted

from cache import UserError
from stages.readouts import (
    PREDICTIONS,
    READOUTS,
    discard_leftovers,
    is_saved,
    load_readouts,
    save_condition,
    saved_damage,
)


class Killed(BaseException):
    """Nothing handles it, as nothing handles SIGKILL."""


def state(run, condition):
    """Which fit a run calls saved and intact."""
    keys = [key for key in ("k", "new") if is_saved(run, condition, key)]
    return keys[0] if keys and saved_damage(run, condition) is None else "absent"


def test_killed_between_any_two_steps_a_condition_is_old_new_or_absent(tmp_path, monkeypatch):
    """Every rename, deletion and opening for writing is such a step."""
    seen = []
    # What is on the disk before a power cut is told elsewhere.
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    save_condition(tmp_path / "old", fitted())
    for step in range(1000):
        run = tmp_path / str(step)
        shutil.copytree(tmp_path / "old", run)
        left = [step]

        def count(name, whole, left=left):
            def counted(*arguments, **options):
                left[0] -= 1
                if left[0] < 0:
                    raise Killed(name)
                return whole(*arguments, **options)

            return counted

        with monkeypatch.context() as patch:
            for owner, name in (
                (Path, "rename"), (Path, "replace"), (os, "unlink"), (os, "rmdir"), (os, "fsync"),
            ):  # fmt: skip
                patch.setattr(owner, name, count(name, getattr(owner, name)))
            try:
                save_condition(run, fitted(value=2.0, key="new"))
                killed = False
            except Killed:
                killed = True
        found = state(run, fitted().condition)
        seen.append(found)
        if found == "absent":
            with pytest.raises(UserError):
                load_readouts(run, block=3)
        else:
            assert load_readouts(run, block=3).bias.tolist() == [[1, 1], [2, 2]][found == "new"]
        discard_leftovers(run)
        names = {p.name for p in (run / "results").iterdir()}
        assert names <= {"manifests", "predictions.zarr", "readouts.zarr"}
        if step % 4 == 0 or not killed:
            save_condition(run, fitted(value=2.0, key="new"))
            assert state(run, fitted().condition) == "new"
        if not killed:
            break
    assert seen == sorted(seen, key=["k", "absent", "new"].index) and {*seen} == {
        "k",
        "absent",
        "new",
    }


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A run of version 0.1, whose groups have no manifest."""
    return earlier_run(tmp_path_factory.mktemp("earlier")) / "output"


@pytest.mark.parametrize(
    ("store", "lost"),
    [(READOUTS, "feve"), (READOUTS, "bias"), (READOUTS, "training_loss"), (PREDICTIONS, "test")],
)
def test_a_group_that_was_being_deleted_counts_as_damaged(earlier, tmp_path, store, lost):
    """Version 0.1 deleted the old group first; killed there, it left a part under its old key."""
    (group,) = (earlier / store).glob("*frozen-patch-block1-als*")
    assert saved_damage(earlier, group.name) is None
    shutil.move(group / lost, tmp_path / lost)
    gone = f"{store}/{group.name}/{lost} is gone"
    assert saved_damage(earlier, group.name) == gone
    if store == READOUTS:
        with pytest.raises(UserError, match=re.escape(gone)):
            load_readouts(earlier, tuning="frozen", tokens="patch", blocks="1", solver="als")
    shutil.move(tmp_path / lost, group / lost)
