"""Settings of every test: one torch thread, no network, no home folder written to."""

import pytest
import torch
from hypothesis import settings

settings.register_profile("vitv1", deadline=None, derandomize=True)
settings.load_profile("vitv1")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
