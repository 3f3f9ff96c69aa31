"""The links and the commands of README.md, CONTRIBUTING.md and docs/ are valid."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
import tyro

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
MODULES = {"tune/search.py": "tune.search", "tune/ablate.py": "tune.ablate", "tune/best.py": "tune.best"}
MODULES |= {"cluster/launch.py": "cluster.launch", "cluster.preflight": "cluster.preflight.__main__"}
MODULES |= {"tune.reports": "tune.reports.__main__"}
COMMAND = re.compile(r"(?:^|-- |exec |&& )(python (?:-m )?(?:htt|tune|cluster|benchmarks)\S.*?)(?= && |$)")


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def commands(page):
    """Yield the module and the arguments of every command of the project in a page."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    inline = re.findall(r"`(python [^`]*)`", page.read_text())
    for line in [*lines, *inline]:
        for command in COMMAND.findall(line):
            words = shlex.split(command, comments=True)[1:]
            module, *rest = words[1:] if words[0] == "-m" else words
            if not any("..." in word for word in rest):
                yield module, rest


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_can_be_parsed(page):
    for module, words in commands(page):
        if module.startswith("benchmarks/"):
            assert (ROOT / module).is_file()
        elif words:
            options = importlib.import_module(MODULES.get(module, module)).Options
            tyro.cli(options, args=["name" if word.startswith("$") else word for word in words])


def test_commands_finds_those_of_the_readme():
    found = [module for module, _ in commands(ROOT / "README.md")]
    assert found[:2] == ["tune/search.py", "tune/search.py"]
    assert {"tune/ablate.py", "tune/best.py", "cluster/launch.py", "htt.evaluate", "htt.data.convert"} <= set(found)
