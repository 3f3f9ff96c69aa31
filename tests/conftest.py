"""What all tests share: a cache of their own, one thread, and a tiny rendered benchmark."""

import os

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch: idle threads spin


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Rendered data go to a folder of this test run."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("HTT_CACHE")
    os.environ["HTT_CACHE"] = str(folder)
    yield folder
    os.environ.pop("HTT_CACHE") if before is None else os.environ.update(HTT_CACHE=before)


@pytest.fixture(scope="session")
def tiny_splits(cache):
    """Training and validation clips of the tiny benchmark, rendered once."""
    from htt.testing import tiny_config
    from htt.training.jobs import open_splits

    return open_splits(tiny_config())
