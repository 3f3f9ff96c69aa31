"""Object store: reading in blocks, retries, and errors of one sentence."""

import functools
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyarrow import fs

from htt.data.store import remote as remotes
from htt.data.store.remote import Remote, is_remote, refuse_password
from htt.errors import ConfigError, DataError, HTTError, StorageError
from object_stores import Store

UNREACHABLE = "AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 7, Could not connect; Details: port 9"


class Failing:
    """File system on a local folder whose calls fail as ``fails`` decides."""

    def __init__(self, root: Path, fails: Callable[[int], Exception | None]) -> None:
        self.system = fs.SubTreeFileSystem(str(root), fs.LocalFileSystem())
        self.fails, self.calls = fails, 0

    def __getattr__(self, name: str) -> Any:
        self.calls += 1
        error = self.fails(self.calls)
        if error:
            raise error
        return getattr(self.system, name)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remotes, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(remotes, "BLOCK_BYTES", 4)


def of(root: Path, fails: Callable[[int], Exception | None] = lambda call: None) -> Remote:
    (root / "bucket").mkdir(exist_ok=True)
    return Remote("s3://bucket", Failing(root, fails), "bucket")  # type: ignore[arg-type]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("content", [b"", b"abc", b"abcd", b"abcdefghij"])
def test_read_joins_blocks_of_a_file(tmp_path: Path, content: bytes) -> None:
    there = of(tmp_path)
    (tmp_path / "bucket/file").write_bytes(content)
    assert there.read("file") == content
    assert there.size("file") == len(content)
    assert there.size("other") is None


@pytest.mark.usefixtures("quick")
def test_read_retries_temporary_errors(tmp_path: Path) -> None:
    there = of(tmp_path, lambda call: OSError(UNREACHABLE) if call in (1, 2, 4) else None)
    (tmp_path / "bucket/file").write_bytes(b"abcdefghij")
    assert there.read("file") == b"abcdefghij"


@pytest.mark.usefixtures("quick")
def test_write_restarts_failed_upload_from_first_block(tmp_path: Path) -> None:
    there, tries = of(tmp_path, lambda call: OSError(UNREACHABLE) if call == 1 else None), []

    def blocks() -> Iterator[bytes]:
        tries.append(len(tries))
        yield b"abc"
        if len(tries) == 1:
            raise OSError(UNREACHABLE)
        yield b"def"

    there.write("file", blocks)
    assert (tmp_path / "bucket/file").read_bytes() == b"abcdef"
    assert tries == [0, 1]


@pytest.mark.parametrize(
    ("scheme", "told"),
    [
        ("s3", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("gs", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("abfs", "AZURE_CLIENT_SECRET"),
        ("az", "AZURE_CLIENT_SECRET"),
    ],
)
def test_read_names_credentials_of_the_cloud_if_refused(tmp_path: Path, scheme: str, told: str) -> None:
    there = Remote(f"{scheme}://bucket", Failing(tmp_path, lambda call: PermissionError()), "bucket")  # type: ignore[arg-type]
    with pytest.raises(StorageError, match=rf"Cannot access {scheme}://bucket/file .* Check .*{told}"):
        there.read("file")


@pytest.mark.usefixtures("quick")
def test_read_reports_lasting_error_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remotes, "PATIENCE_S", 0.1)
    there = of(tmp_path, lambda call: OSError(UNREACHABLE))
    with pytest.raises(StorageError) as refused:
        there.read("file")
    assert str(refused.value) == (
        "s3://bucket did not answer for 0.1 s: AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 7, "
        "Could not connect. Check the network and the endpoint; the same command continues with what is already "
        "transferred."
    )


@pytest.mark.usefixtures("quick")
def test_blocks_tries_once_after_waiting_time_is_used_up(tmp_path: Path) -> None:
    there = of(tmp_path, lambda call: OSError(UNREACHABLE))
    with pytest.raises(StorageError, match="did not answer for"):
        list(there.blocks("file", since=time.monotonic() - remotes.PATIENCE_S))
    assert there._system.calls == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text",
    [
        "AWS Error ACCESS_DENIED during HeadObject operation: No response body.",
        "AWS Error UNKNOWN (HTTP status 403) during HeadObject operation: No response body.",
        "google::cloud::Status(PERMISSION_DENIED: no access)",
    ],
)
def test_read_reports_missing_permission_at_once(tmp_path: Path, text: str) -> None:
    there = of(tmp_path, lambda call: OSError(text))
    with pytest.raises(StorageError, match=r"Cannot access s3://bucket/file with the credentials of this machine"):
        there.read("file")


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("ftp://host/h2o", r"data\.root must be a folder or a URI such as s3://bucket/h2o; got ftp://host/h2o"),
        ("s3://bucket/h2o?regoin=eu", r"Unexpected query parameter in S3 URI: 'regoin'"),
        ("s3://", r"data\.root must name a bucket, as in s3://bucket/h2o; got s3://"),
    ],
)
def test_remote_refuses_invalid_uri(uri: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Remote(uri)


@pytest.mark.parametrize("user", ["KEY:hush", "KEY:hu/sh", "hush", ":hush"])
def test_remote_refuses_password_without_repeating_it(user: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.root must not contain a password, ") as refused:
        Remote(f"s3://{user}@bucket/h2o")
    assert not re.search("hu/?sh", str(refused.value))


@pytest.mark.parametrize(
    ("uri", "instead"),
    [
        ("abfs://c@a/x?tenant_id=1&client_secret=hush", "AZURE_CLIENT_SECRET"),
        ("abfss://c@a/x?sas_token=hush", "AZURE_CLIENT_SECRET"),
        ("abfs://c@a/x?account_key=hush", "AZURE_CLIENT_SECRET"),
        ("abfs://c:hush@a/x", "AZURE_CLIENT_SECRET"),
        ("https://a/x?sv=2024&sig=hush", "AWS_SECRET_ACCESS_KEY"),
        ("s3://bucket/x?endpoint_override=http://u:hush@h", "AWS_SECRET_ACCESS_KEY"),
        ("s3://bucket/x?endpoint_override=u:hush@h:9000&scheme=http", "AWS_SECRET_ACCESS_KEY"),
        ("s3://bucket/x?endpoint_override=http%3A%2F%2Fu%3Ahush%40h", "AWS_SECRET_ACCESS_KEY"),
        ("s3://bucket/x?Secret_Key=hush", "AWS_SECRET_ACCESS_KEY"),
        ("gs://bucket/x?access_token=hush", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("gs://somebody:hush@bucket/x", "GOOGLE_APPLICATION_CREDENTIALS"),
    ],
)
def test_refuse_password_finds_secrets_without_repeating_them(uri: str, instead: str) -> None:
    with pytest.raises(ConfigError, match=r"--storage must not contain a password, ") as refused:
        refuse_password(uri, "--storage")
    assert "hush" not in str(refused.value)
    assert instead in str(refused.value)


@pytest.mark.parametrize(
    "place",
    [
        "s3://bucket/a@b",
        "s3://bucket/a:1@b",
        "abfs://container@account/h2o",
        "/data/a:b@c",
        "s3://b/x?y=a:b@c",
        "gs://anonymous@bucket/h2o",
        "hdfs://me@namenode:8020/h2o",
        "s3://bucket/x?region=eu-west-1&scheme=http&endpoint_override=http://127.0.0.1:9000/a@b",
        "abfs://c@a/x?tenant_id=1&client_id=2&credential_kind=managed_identity",
        "s3://bucket/keys/secret.token?allow_bucket_creation=true",
    ],
)
def test_refuse_password_accepts_uris_without_secrets(place: str) -> None:
    refuse_password(place, "data.root")


def test_refuse_password_finds_key_of_azure_container() -> None:
    with pytest.raises(ConfigError, match="--storage must not contain a password"):
        refuse_password("abfs://container:hush@account/runs", "--storage")


@pytest.mark.parametrize(
    ("place", "remote"), [("s3://b/x", True), ("gs://b", True), ("/data", False), ("file:///data", False)]
)
def test_is_remote_recognises_object_stores(place: str, remote: bool) -> None:
    assert is_remote(place) == remote


def test_remote_retries_lookup_of_bucket(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check a URI without a region, whose bucket is looked up first."""
    answers: list[Exception] = [OSError(UNREACHABLE), OSError("Bucket 'buckte' not found")]

    def ask(uri: str) -> None:
        raise answers.pop(0) if len(answers) > 1 else answers[0]

    monkeypatch.setattr(remotes.fs, "FileSystem", SimpleNamespace(from_uri=ask))
    with pytest.raises(DataError, match=r"must name an existing bucket; there is no s3://buckte"):
        Remote("s3://buckte/h2o")
    answers[:] = [OSError(UNREACHABLE)]
    monkeypatch.setattr(remotes, "PATIENCE_S", 0.1)
    with pytest.raises(StorageError, match=r"s3://bucket/h2o did not answer for 0\.1 s"):
        Remote("s3://bucket/h2o")


def test_remote_writes_and_reads_on_a_real_server(store: Store) -> None:
    there = Remote(store.uri("some/folder"))
    content = bytes(range(256)) * 40_000
    there.write("large", lambda: [content[:5_000_000], content[5_000_000:]])
    assert there.read("large") == content
    assert store.gets("some/folder/large") == -(-len(content) // remotes.BLOCK_BYTES)
    with pytest.raises(DataError, match=r"There is no s3://bucket/some/folder/none\."):
        there.read("none")


def test_remote_reports_missing_bucket_of_a_real_server(store: Store) -> None:
    there = Remote(store.uri("h2o", bucket="buckte"))
    for call in (lambda: there.read("file"), lambda: there.write("file", lambda: [b"x"])):
        with pytest.raises(HTTError, match=r"must name an existing bucket; there is no s3://buckte\. Check its name"):
            call()


def test_remote_reports_missing_permission_on_a_real_server(tmp_path: Path, store: Store) -> None:
    closed = Store(tmp_path, INITIAL_NO_AUTH_ACTION_COUNT="2").start()  # enough to make its bucket
    try:
        there = Remote(closed.uri("h2o"))
        for call in (there.read, there.size, functools.partial(there.write, blocks=lambda: [b"x"])):
            with pytest.raises(StorageError, match=r"Cannot access s3://bucket/h2o/file with"):
                call("file")
    finally:
        closed.kill()
