"""An object store: read in blocks, with patience, and refused in one sentence."""

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
    """A file system on a folder of this machine that fails when it is told to."""

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
def test_blocks_are_the_file(tmp_path: Path, content: bytes) -> None:
    there = of(tmp_path)
    (tmp_path / "bucket/file").write_bytes(content)
    assert there.read("file") == content
    assert there.size("file") == len(content)
    assert there.size("other") is None


@pytest.mark.usefixtures("quick")
def test_what_passes_is_waited_for(tmp_path: Path) -> None:
    there = of(tmp_path, lambda call: OSError(UNREACHABLE) if call in (1, 2, 4) else None)
    (tmp_path / "bucket/file").write_bytes(b"abcdefghij")
    assert there.read("file") == b"abcdefghij"


@pytest.mark.usefixtures("quick")
def test_failed_upload_is_repeated_from_its_first_block(tmp_path: Path) -> None:
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
def test_refusal_names_the_credentials_of_its_cloud(tmp_path: Path, scheme: str, told: str) -> None:
    there = Remote(f"{scheme}://bucket", Failing(tmp_path, lambda call: PermissionError()), "bucket")  # type: ignore[arg-type]
    with pytest.raises(StorageError, match=rf"Cannot access {scheme}://bucket/file .* Check .*{told}"):
        there.read("file")


@pytest.mark.usefixtures("quick")
def test_what_does_not_pass_is_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_who_has_waited_for_another_tries_once(tmp_path: Path) -> None:
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
def test_no_permission_is_said_at_once(tmp_path: Path, text: str) -> None:
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
def test_no_uri(uri: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Remote(uri)


@pytest.mark.parametrize("user", ["KEY:hush", "KEY:hu/sh", "hush", ":hush"])
def test_a_password_in_a_uri_is_refused_and_not_repeated(user: str) -> None:
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
def test_secret_in_the_options_of_a_uri_is_refused_and_not_repeated(uri: str, instead: str) -> None:
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
def test_not_every_at_sign_is_a_password(place: str) -> None:
    refuse_password(place, "data.root")


def test_a_container_with_a_key_holds_a_password() -> None:
    with pytest.raises(ConfigError, match="--storage must not contain a password"):
        refuse_password("abfs://container:hush@account/runs", "--storage")


@pytest.mark.parametrize(
    ("place", "remote"), [("s3://b/x", True), ("gs://b", True), ("/data", False), ("file:///data", False)]
)
def test_which_places_are_remote(place: str, remote: bool) -> None:
    assert is_remote(place) == remote


def test_a_bucket_that_nobody_can_be_asked_for(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a region in the URI, its bucket is looked up first."""
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


def test_a_real_server(store: Store) -> None:
    there = Remote(store.uri("some/folder"))
    content = bytes(range(256)) * 40_000
    there.write("large", lambda: [content[:5_000_000], content[5_000_000:]])
    assert there.read("large") == content
    assert store.gets("some/folder/large") == -(-len(content) // remotes.BLOCK_BYTES)
    with pytest.raises(DataError, match=r"There is no s3://bucket/some/folder/none\."):
        there.read("none")


def test_no_bucket_on_a_real_server(store: Store) -> None:
    there = Remote(store.uri("h2o", bucket="buckte"))
    for call in (lambda: there.read("file"), lambda: there.write("file", lambda: [b"x"])):
        with pytest.raises(HTTError, match=r"must name an existing bucket; there is no s3://buckte\. Check its name"):
            call()


def test_no_permission_on_a_real_server(tmp_path: Path, store: Store) -> None:
    closed = Store(tmp_path, INITIAL_NO_AUTH_ACTION_COUNT="2").start()  # enough to make its bucket
    try:
        there = Remote(closed.uri("h2o"))
        for call in (there.read, there.size, functools.partial(there.write, blocks=lambda: [b"x"])):
            with pytest.raises(StorageError, match=r"Cannot access s3://bucket/h2o/file with"):
                call("file")
    finally:
        closed.kill()
