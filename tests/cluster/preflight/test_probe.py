import os
import socket
import sys
import threading
import time

import pyarrow as pa
import pytest
from pyarrow import fs

from cluster.preflight import probe
from cluster.preflight.probe import Check
from htt.data.shards import manifest
from htt.errors import DataError

ASKED = {"compare": True, "roots": [], "cache": None, "storage": None, "mark": None, "gpus": 0, "peers": []}


def entry(name, size):
    return manifest.Shard(file=name, bytes=size, sha256=name.removesuffix(".arrow")[-1] * 64, clips=1, frames=8)


@pytest.fixture
def shards(tmp_path):
    """Return a folder with the first of two shards of a split; only the first is read."""
    root = tmp_path / "shards"
    root.mkdir()
    manifest.write(root, empty({"train": [entry("train-0.arrow", 70), entry("train-1.arrow", 30)], "val": []}))
    (root / "train-0.arrow").write_bytes(b"x")
    return root


def empty(splits):
    size = {"hands": 2, "width": 64, "height": 36, "quality": 92}
    return manifest.Manifest(source="noise", actions=[], objects=[], pixels="", splits=splits, wanted={}, **size)


def test_run_reports_every_requested_check(tmp_path, shards):
    with socket.create_server(("127.0.0.1", 0)) as door:
        peers = [("b", "127.0.0.1", door.getsockname()[1])]
        asked = {"roots": [str(shards)], "cache": str(tmp_path / "cache"), "storage": str(tmp_path), "peers": peers}
        found = probe.run({**ASKED, **asked})
    assert found["failed"] == []
    assert "cluster/preflight/probe.py" in found["code"]
    assert found["versions"]["python"].startswith(f"{sys.version_info[0]}.")
    assert found["data"] == {str(shards): probe.read_data(str(shards), tmp_path)}
    assert set(found["disks"]) == {"cache", "temporary files", "results"}
    assert (found["storage"], found["unreachable"]) == (True, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "shards"]
    assert list((tmp_path / "cache").iterdir()) == []


def test_run_without_compare_reports_local_checks_only(tmp_path):
    found = probe.run({**ASKED, "compare": False, "cache": str(tmp_path)})
    assert set(found) == {"cache", "disks", "data", "failed"}


def test_run_reports_failed_checks(tmp_path):
    (tmp_path / "file").touch()
    nowhere = str(tmp_path / "file" / "folder")
    asked = {"roots": ["/no/shards"], "cache": nowhere, "storage": nowhere}
    found = dict(probe.run({**ASKED, **asked})["failed"])
    assert set(found) == {"data", "cache", "storage"}
    assert found["data"] == "no manifest.json in /no/shards"
    assert "Not a directory" in found["cache"]
    assert nowhere in found["storage"]


def test_run_takes_cache_folder_from_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HTT_CACHE", str(tmp_path / "there"))
    assert probe.run({**ASKED, "compare": False})["disks"]["cache"][0] == str(tmp_path / "there")


def test_run_checks_reports_hanging_check_without_delaying_others():
    hold = threading.Event()
    began = time.monotonic()
    checks = [Check("storage", "storage", hold.wait), Check("disk", "disks", lambda: 5), Check("data", "data", int)]
    found, failed = probe.run_checks(checks, limit_s=1.0)
    hold.set()
    assert time.monotonic() - began < 30
    assert (found, failed) == ({"disks": 5, "data": 0}, [("storage", "no answer within 1 s")])


def test_first_line_shortens_error_messages():
    words = f"Failed to open local file '/x/y/{probe.MARK}0a1b2c3d'. Detail: [errno 20] Not a directory.\nmore"
    assert probe.first_line(OSError(20, words)) == "Failed to open local file '/x/y'. Detail: Not a directory"
    assert probe.first_line(FileNotFoundError(2, "No such file", "/x")) == "No such file: '/x'"


def test_run_checks_names_error_without_message_by_type():
    def fail():
        raise RuntimeError

    assert probe.run_checks([Check("GPUs", "gpus", fail)])[1] == [("GPUs", "RuntimeError")]


def test_read_data_of_folder_returns_digest_and_no_download(shards, tmp_path):
    before, to_come = probe.read_data(str(shards), tmp_path)
    assert to_come == 0
    assert probe.read_data(f"file://{shards}", tmp_path) == (before, 0)
    manifest.write(shards, empty({}))
    assert probe.read_data(str(shards), tmp_path)[0] != before


def test_read_data_of_bucket_counts_bytes_to_download(shards, tmp_path, monkeypatch):
    bucket = fs.SubTreeFileSystem(str(shards), fs.LocalFileSystem())
    monkeypatch.setattr(probe, "open_uri", lambda place: (bucket, ""))
    assert probe.read_data("s3://bucket/shards", tmp_path / "cache")[1] == 100
    (tmp_path / "cache" / "shards").mkdir(parents=True)
    (tmp_path / "cache" / "shards" / f"{'0' * 64}.arrow").touch()
    assert probe.read_data("s3://bucket/shards", tmp_path / "cache")[1] == 30


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 99}'])
def test_read_data_refuses_invalid_manifest(shards, text):
    (shards / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"Invalid manifest .*/manifest\.json"):
        probe.read_data(str(shards), shards)


def test_read_data_refuses_missing_or_empty_shard(shards):
    (shards / "train-0.arrow").write_bytes(b"")
    with pytest.raises(DataError, match=r"train-0\.arrow is empty"):
        probe.read_data(str(shards), shards)
    (shards / "train-0.arrow").unlink()
    with pytest.raises(FileNotFoundError, match=r"train-0.arrow"):
        probe.read_data(str(shards), shards)


def test_use_storage_leaves_no_files(tmp_path):
    (tmp_path / "mark").touch()
    assert probe.use_storage(str(tmp_path), "mark")
    assert probe.use_storage(str(tmp_path), None)
    assert [path.name for path in tmp_path.iterdir()] == ["mark"]


def test_use_storage_is_false_without_mark_of_driver(tmp_path):
    assert not probe.use_storage(str(tmp_path), "mark")
    assert not probe.use_storage(str(tmp_path / "not there"), "mark")


def test_use_storage_raises_if_not_writable(tmp_path):
    with pytest.raises(FileNotFoundError):
        probe.use_storage(str(tmp_path / "not there"), None)
    with pytest.raises((pa.ArrowException, ValueError)):
        probe.use_storage("nonsense://bucket/runs", None)


def test_use_storage_raises_if_bytes_differ(monkeypatch):
    class Corrupting(fs.LocalFileSystem):
        def open_input_stream(self, *args, **kwargs):
            return pa.BufferReader(b"other bytes")

    monkeypatch.setattr(probe, "open_uri", lambda place: (Corrupting(), place))
    with pytest.raises(OSError, match="returned other bytes than were written"):
        probe.use_storage("/tmp", None)


def test_disks_accepts_missing_folder(tmp_path):
    found = probe.disks(tmp_path / "a" / "b", "s3://bucket/runs")
    folder, free, disk = found["cache"]
    assert (folder, disk) == (str(tmp_path / "a" / "b"), os.stat(tmp_path).st_dev)
    assert free > 0
    assert set(found) == {"cache", "temporary files"}


def test_try_gpus_counts_gpus_in_a_separate_process():
    torch = pytest.importorskip("torch")
    found = probe.try_gpus()
    assert (found["torch"], found["count"]) == (torch.__version__, torch.cuda.device_count())
    assert probe.count_gpus()["count"] == found["count"]


def test_try_gpus_reports_failed_import_of_torch(monkeypatch):
    monkeypatch.setattr(probe, "PROBE", "raise ImportError('libcudart.so is missing')")
    with pytest.raises(OSError, match=r"cannot start torch: ImportError: libcudart\.so is missing"):
        probe.try_gpus()


FAKE_TORCH = """
class Tensor(float):
    def __new__(cls, count, device):
        if device == "cuda:1":
            raise RuntimeError("CUDA error: no kernel image is available\\nsecond line")
        return super().__new__(cls, count if device == "cuda:0" else count + 1)
    def __add__(self, other): return Sum(float(self) + float(other))
class Sum(float):
    def sum(self): return self
class cuda:
    device_count = staticmethod(lambda: 3)
ones = Tensor
__version__ = "9.9"
"""


def test_try_gpus_names_gpus_that_fail_to_compute(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text(FAKE_TORCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    faults = ["GPU 1: CUDA error: no kernel image is available", "GPU 2 computes 18 instead of 16"]
    assert probe.try_gpus() == {"torch": "9.9", "count": 3, "faults": faults}


def test_unreachable_names_refused_ports_only(monkeypatch):
    monkeypatch.setattr(probe, "CONNECT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        [(name, why)] = probe.unreachable([("b", "127.0.0.1", port), ("c", "127.0.0.1", 1)])
    assert name == "c"
    assert why.startswith("127.0.0.1:1 ")
    assert "refused" in why


def names(monkeypatch, known):
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setattr(socket, "gethostname", lambda: "node1")
    monkeypatch.setattr(socket, "getaddrinfo", known)
    return probe.host_address()


def test_host_address_returns_loopback_if_any(monkeypatch):
    def entry(address):
        return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))

    assert names(monkeypatch, lambda *_, **__: [entry("127.0.1.1")]) == ("node1", "127.0.1.1")
    elsewhere = [entry("192.0.2.200"), entry("127.0.0.1")]
    assert names(monkeypatch, lambda *_, **__: elsewhere) == ("node1", "127.0.0.1")


def test_host_address_of_unknown_name_is_loopback(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    assert names(monkeypatch, unknown) == ("node1", "127.0.0.1")


def test_host_address_is_empty_for_a_chosen_interface(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")
    assert probe.host_address()[1] == ""
    assert not probe.is_loopback("")
    assert not probe.is_loopback("fe80::1%eth0")
