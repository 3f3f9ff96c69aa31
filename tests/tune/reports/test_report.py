import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import fs

from report_folders import search_folder, study_folder, windows
from tune.reports import commands, report
from tune.results.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[3]


def module(*words, cwd):
    command = [sys.executable, "-m", "tune.reports", *map(str, words)]
    environment = {"PATH": "", "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


@pytest.mark.parametrize("kind", ["search", "study"])
def test_report_command_writes_either_kind(tmp_path, kind):
    path = tmp_path / "runs" / "mine"
    search_folder(path, 6) if kind == "search" else study_folder(path, windows(2))
    answer = module("mine", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == ["Report  runs/mine/report.md", "Page    runs/mine/report.html"]
    assert (path / "report.html").exists()
    assert (path / "report.tex").exists() == (kind == "study")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("kind", ["search", "study"])
def test_report_of_a_run_in_a_bucket_is_written_locally(tmp_path, monkeypatch, capsys, kind):
    bucket = tmp_path / "bucket"
    path = bucket / "runs" / "mine"
    search_folder(path, 6) if kind == "search" else study_folder(path, windows(2))

    def from_uri(uri):
        return fs.SubTreeFileSystem(str(bucket), fs.LocalFileSystem()), uri.removeprefix("mock://")

    monkeypatch.setattr("cluster.storage.open_uri", from_uri)
    monkeypatch.chdir(tmp_path)
    report.main(report.Options("mine", storage="mock://runs"))
    assert capsys.readouterr().out.splitlines() == ["Report  runs/mine/report.md", "Page    runs/mine/report.html"]
    assert (tmp_path / "runs" / "mine" / "report.html").exists()
    assert not (path / "report.html").exists(), "whoever reads does not write to the bucket"


def test_report_of_an_unknown_run_is_one_sentence(tmp_path):
    answer = module("nothing", cwd=tmp_path)
    assert answer.returncode == 2
    assert "No run " in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.usefixtures("undrawn")
def test_report_is_chosen_by_the_kind_of_run(tmp_path):
    folder = study_folder(tmp_path / "study", windows(2))
    report.write(folder)
    assert "How many frames should block P see?" in folder.report.read_text()


def test_report_imports_no_torch_ray_or_pyplot(tmp_path):
    search_folder(tmp_path / "search", 25)
    study_folder(tmp_path / "study", windows(2))
    code = (
        "import sys\nfrom pathlib import Path\nfrom tune.reports import report\n"
        "from tune.results.run_folder import RunFolder\n"
        f"for name in ('search', 'study'): report.write(RunFolder(Path({str(tmp_path)!r}) / name))\n"
        "assert 'optuna' in sys.modules\n"
        "assert not {'torch', 'ray', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=ROOT)


def test_reading_a_report_imports_no_drawing(tmp_path):
    code = (
        "import sys\nfrom tune.reports import report, trial_table\n"
        "assert not {'matplotlib', 'optuna', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_next_commands_quote_the_folder_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "runs/[a] b; rm -rf $HOME"
    folder = RunFolder(Path(name).absolute())
    suggested = commands.next_commands(folder, None).splitlines()
    assert [shlex.split(command)[-1].removeprefix(name) for command in suggested] == ["10", "10m", "/optuna.journal"]
    assert all(len([word for word in shlex.split(command) if name in word]) == 1 for command in suggested)
