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


def test_digests_cover_files_of_all_three_packages(tmp_path):
    found = revision.digests(make(tmp_path))
    assert list(found) == [
        "cluster/training.py",
        "htt/config.py",
        "htt/data/loading/clips.py",
        "tune/execution/experiment.py",
    ]
    assert len(set(found.values())) == 4


def test_digests_change_for_edited_file_only(tmp_path):
    before = revision.digests(make(tmp_path))
    (tmp_path / "tune/execution/experiment.py").write_text("# another\n")
    after = revision.digests(tmp_path)
    assert [name for name in before if before[name] != after[name]] == ["tune/execution/experiment.py"]


def test_digests_find_running_code():
    assert "cluster/revision.py" in revision.digests()


def test_commit_marks_changed_files_as_dirty(tmp_path):
    make(tmp_path)
    assert revision.commit(tmp_path) == "unknown"
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    clean = revision.commit(tmp_path)
    assert len(clean) == 12
    (tmp_path / "tune/execution/experiment.py").write_text("# another\n")
    assert revision.commit(tmp_path) == f"{clean}-dirty"


def test_commit_is_unknown_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision.commit() == "unknown"


def test_versions_omit_build_tags():
    found = revision.versions(["numpy", "torch", "no-such-library"])
    assert list(found) == ["python", "numpy", "torch"]
    assert found["python"] == sys.version.split()[0].rstrip("+")
    assert "+" not in found["torch"]
