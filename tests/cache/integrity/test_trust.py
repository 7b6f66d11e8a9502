"""Killed, raced, watched and starved of disk: trials in small numbers.

The numbers of the specification (100 kills, 1,000 faults, 20 races) are printed by
`make bench BENCH=cache_trust`; here are as many as a test may take.
"""

import pytest
from support.trials import full_disk_trials, kill_trials, reader_trial, two_writer_trials


def test_killed_extractions_resume_without_losing_or_doubling_a_row(tmp_path):
    counts = kill_trials(tmp_path, 20)
    print(dict(counts))
    assert counts["kills"] == 20 and counts["resumes"] >= 8
    assert counts["wrong rows"] == counts["rows lost or doubled"] == counts["stores differ"] == 0


def test_of_two_writers_one_wins_and_the_other_is_told(tmp_path):
    counts = two_writer_trials(tmp_path, 4)
    print(dict(counts))
    assert counts["one won, one told"] == counts["trials"] == 4
    assert counts["faults"] == counts["stores differ"] == 0


def test_a_reader_never_sees_an_incomplete_row(tmp_path):
    counts = reader_trial(tmp_path)
    print(dict(counts))
    assert counts["openings"] > counts["unfinished"] > 0 and counts["rows"] > 0
    assert counts["wrong rows"] == counts["shards gone"] == counts["missing but read"] == 0


def test_an_extraction_resumes_when_the_full_disk_has_space_again(tmp_path):
    try:
        counts = full_disk_trials(tmp_path, 2)
    except PermissionError as why:
        pytest.skip(f"a small disk takes root: {why}")
    print(dict(counts))
    assert counts["no space left"] == counts["resumes"] == counts["trials"] == 2
    assert counts["stores differ"] == 0
