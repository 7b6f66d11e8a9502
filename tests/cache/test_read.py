"""The chunks that a read needs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cache.read import plan_reads


@given(
    rows=st.lists(st.integers(0, 99), max_size=60),
    chunk=st.sampled_from([1, 2, 8, 16, 128]),
)
def test_reads_put_every_wanted_row_in_its_place(rows, chunk):
    source = np.arange(100)
    wanted = np.array(rows, dtype=np.intp)
    reads = plan_reads(wanted, chunk=chunk)
    out = np.full(len(wanted), -1)
    for read in reads:
        out[read.put] = source[read.chunk * chunk : (read.chunk + 1) * chunk][read.take]
    np.testing.assert_array_equal(out, wanted)


@given(rows=st.lists(st.integers(0, 99), max_size=60), chunk=st.sampled_from([1, 2, 8, 16]))
def test_only_needed_chunks_are_read_and_each_once(rows, chunk):
    chunks = [read.chunk for read in plan_reads(np.array(rows, dtype=np.intp), chunk=chunk)]
    assert chunks == sorted({row // chunk for row in rows})


def test_neighbouring_rows_are_copied_as_a_slice():
    (read,) = plan_reads(np.arange(8, 16), chunk=16)
    assert read.take == slice(8, 16) and read.put == slice(0, 8)
