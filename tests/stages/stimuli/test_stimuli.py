"""Stimuli: images by id, and the digest of their content."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from cache import UserError
from stages.stimuli.stimuli import READ_BATCH, Stimuli, digest, stimuli_from_array


def images(n: int = 5, dtype: Any = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(1).integers(0, 256, (n, 3, 4)).astype(dtype)


def test_images_are_read_in_the_order_asked() -> None:
    stack = images()
    stimuli = stimuli_from_array(stack, source="here")
    assert len(stimuli) == 5 and stimuli.image_shape == (3, 4) and stimuli.dtype == np.uint8
    np.testing.assert_array_equal(stimuli.read(np.array([4, 0, 4])), stack[[4, 0, 4]])


def test_unknown_images_are_refused() -> None:
    stimuli = stimuli_from_array(images(), source="here")
    message = r"2 image ids are not in here, the first is -1 \(it holds 5 images, ids 0\.\.4\)"
    for method in (stimuli.read, stimuli.select):
        with pytest.raises(UserError, match=message):
            method(np.array([3, 9, -1, 9]))


def test_a_selection_holds_only_its_images() -> None:
    stack = images()
    part = stimuli_from_array(stack, source="here").select(np.array([3, 1, 3]))
    np.testing.assert_array_equal(part.ids, [1, 3])
    np.testing.assert_array_equal(part.read(np.array([3])), stack[[3]])
    with pytest.raises(UserError, match="first is 0"):
        part.read(np.array([0]))


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_batches_cover_every_image_once(size: int) -> None:
    stack = images()
    ids, parts = zip(*stimuli_from_array(stack, source="here").batches(size), strict=True)
    assert max(len(part) for part in parts) <= size
    np.testing.assert_array_equal(np.concatenate(ids), np.arange(5))
    np.testing.assert_array_equal(np.concatenate(parts), stack)


def test_images_in_memory_can_be_pickled() -> None:
    stimuli = stimuli_from_array(images(), source="here")
    copy = pickle.loads(pickle.dumps(stimuli))
    np.testing.assert_array_equal(copy.read(stimuli.ids), stimuli.read(stimuli.ids))


@pytest.mark.parametrize("shape", [(3, 4), (5, 1, 3, 4)])
def test_images_of_another_rank_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="here: images must have 3 axes"):
        stimuli_from_array(np.zeros(shape), source="here")


@pytest.mark.parametrize("ids", [[0, 0], [1, 0], [[0, 1]]])
def test_ids_must_increase(ids: list[Any]) -> None:
    stimuli = stimuli_from_array(images(), source="here")
    with pytest.raises(ValueError, match="strictly increasing"):
        replace(stimuli, ids=np.array(ids))


def of(stack: NDArray[Any]) -> Stimuli:
    return stimuli_from_array(stack, source="here")


small_stacks = hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(2), st.integers(1, 3)))


@given(small_stacks, st.data())
def test_any_changed_pixel_changes_the_digest(stack: NDArray[np.uint8], data: Any) -> None:
    place = tuple(data.draw(st.integers(0, n - 1)) for n in stack.shape)
    changed = stack.copy()
    changed[place] ^= data.draw(st.integers(1, 255))
    before, after = digest(of(stack)), digest(of(changed))
    assert before.sha256 != after.sha256
    np.testing.assert_array_equal(np.flatnonzero(before.crc32 != after.crc32), [place[0]])


def test_ids_shape_and_dtype_change_the_digest() -> None:
    stack = images()
    original = digest(of(stack)).sha256
    renumbered = replace(of(stack), ids=np.arange(1, 6), reader=lambda ids: stack[ids - 1])
    reshaped = of(stack.reshape(5, 4, 3))
    signed = of(stack.view(np.int8))
    others = {digest(other).sha256 for other in (renumbered, reshaped, signed)}
    assert len(others) == 3 and original not in others


def test_the_digest_depends_on_content_alone() -> None:
    stack = images(READ_BATCH + 3, np.float32)
    original = digest(of(stack))
    for same in (stack.astype(">f4"), np.asfortranarray(stack)):
        other = digest(of(same))
        assert other.sha256 == original.sha256
        np.testing.assert_array_equal(other.crc32, original.crc32)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_that_are_not_finite_are_refused(value: float) -> None:
    stack = images(dtype=np.float32)
    stack[2, 0, 0] = stack[4, 1, 1] = value
    with pytest.raises(UserError, match=r"2 images of here hold NaN .* the first has id 2"):
        digest(of(stack))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_that_changed_since_they_were_hashed_are_refused(dtype: Any) -> None:
    stack = images(dtype=dtype)
    plain = stimuli_from_array(stack, source="here")
    hashed = replace(plain, crc32=digest(plain).crc32)
    some = pickle.loads(pickle.dumps(hashed.select(np.array([1, 3]))))
    np.testing.assert_array_equal(some.read(np.array([3, 1, 3])), stack[[3, 1, 3]])
    stack[3, 0, 0] += 1
    np.testing.assert_array_equal(hashed.read(np.array([4, 0])), stack[[4, 0]])
    for read in (lambda: hashed.read(np.array([4, 3])), lambda: list(hashed.batches())):
        with pytest.raises(UserError, match="here: image 3 is not the one any more"):
            read()
