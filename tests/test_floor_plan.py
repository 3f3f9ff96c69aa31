"""The house stands as drawn: floors, file names, lengths, and no knob that nothing reads."""

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

from htt.config import Config, flatten

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("htt", "tune", "cluster")
CODE = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
LONGEST_FUNCTION = 60


def test_imports_only_go_down():
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_functions_fit_a_screen():
    longer = {}
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    longer[f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"] = length
    assert longer == {}


def test_scripts_rooms_shadow_nothing():
    foreign = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions())
    foreign -= set(ROOMS)
    paths = [path for room in ("tune", "cluster") for path in (ROOT / room).iterdir()]
    names = {path.stem for path in paths if not path.name.startswith("__")}
    assert names & foreign == set()


def test_there_is_no_drawer_for_everything():
    assert [path for path in CODE if path.stem in ("utils", "helpers", "misc", "common")] == []


def test_tests_are_no_package():
    assert list((ROOT / "tests").rglob("__init__.py")) == []


FREE = [
    "htt.config",
    "htt.evaluation.metric_table",
    "tune.experiments.space",
    "tune.experiments.study",
    "tune.results.stats",
    "tune.results.run_folder",
    "tune.reports.report",
]


def test_modules_that_read_runs_import_no_torch_or_ray():
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)\n"
    code += "    assert not {'torch', 'ray'} & set(sys.modules), name"
    subprocess.run([sys.executable, "-c", code, *FREE], check=True, cwd=ROOT)


def test_config_fields_are_all_read():
    """A field of the configuration that nothing reads is a defect."""
    read = set()
    for path in CODE:
        if path != ROOT / "htt" / "config.py":
            nodes = ast.walk(ast.parse(path.read_text()))
            read |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert sorted(path for path in flatten(Config()) if path.rpartition(".")[2] not in read) == []


def test_rays_parts_are_never_imported_by_name():
    """``from ray import tune`` would hide the project's own ``tune``."""
    found = []
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "ray":
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []
