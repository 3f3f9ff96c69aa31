import subprocess
import sys

from cluster import revision


def make(root):
    for name in (
        "htt/config.py",
        "htt/data/loading/clips.py",
        "tune/execution/experiment.py",
        "cluster/training.py",
        "tests/test_it.py",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n")
    return root


def test_a_digest_of_each_file_of_the_three_rooms(tmp_path):
    found = revision.digests(make(tmp_path))
    assert list(found) == [
        "cluster/training.py",
        "htt/config.py",
        "htt/data/loading/clips.py",
        "tune/execution/experiment.py",
    ]
    assert len(set(found.values())) == 4


def test_an_edit_changes_one_digest(tmp_path):
    before = revision.digests(make(tmp_path))
    (tmp_path / "tune/execution/experiment.py").write_text("# another\n")
    after = revision.digests(tmp_path)
    assert [name for name in before if before[name] != after[name]] == ["tune/execution/experiment.py"]


def test_the_code_that_runs_is_found():
    assert "cluster/revision.py" in revision.digests()


def test_a_commit_is_marked_where_files_differ(tmp_path):
    make(tmp_path)
    assert revision.commit(tmp_path) == "unknown"
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    clean = revision.commit(tmp_path)
    assert len(clean) == 12
    (tmp_path / "tune/execution/experiment.py").write_text("# another\n")
    assert revision.commit(tmp_path) == f"{clean}-dirty"


def test_without_git_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision.commit() == "unknown"


def test_versions_are_those_of_the_libraries_without_their_build():
    found = revision.versions(["numpy", "torch", "no-such-library"])
    assert list(found) == ["python", "numpy", "torch"]
    assert found["python"] == sys.version.split()[0].rstrip("+")
    assert "+" not in found["torch"]
