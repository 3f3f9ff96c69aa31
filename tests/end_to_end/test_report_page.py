"""The reports of a search, of a study and of a model's attention, opened in a browser as a reader opens them.

They are opened from disk, with no network.

Needs Debian's package ``chromium``. The page is measured by a script that the test puts into a copy of it.
"""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from urllib.parse import unquote

import pytest
import torch
from PIL import Image

from htt.evaluation.report import Provenance
from htt.inference import attention, attention_report
from htt.model.htt import HTT
from htt.testing import tiny_config
from report_folders import search_folder, study_folder, windows
from tune.reports import report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip
MEASURE = """<script>
const box = each => { const r = each.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
const figures = [...document.querySelectorAll("figure")].map(figure => ({
  name: figure.id, box: box(figure.querySelector("svg")), caption: figure.querySelector("figcaption").textContent,
  texts: [...figure.querySelectorAll("svg text")].map(text => ({words: text.textContent, box: box(text)})),
}));
const tables = [...document.querySelectorAll("table")].map(each => [each.scrollWidth, each.parentNode.clientWidth]);
const measured = {figures, tables, wide: document.documentElement.scrollWidth, window: window.innerWidth};
const text = encodeURIComponent(JSON.stringify(measured));
document.body.insertAdjacentHTML("beforeend", "<pre id=measured>" + text + "</pre>");
</script></body>"""
SMALL_PX = 2.0
"""What the browser's letters may be wider than those the figure was laid out with."""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here; on Debian: apt-get install chromium")


def browse(*words, tmp_path):
    """The output of the browser, which must end well."""
    profile = tmp_path / "profile"
    shutil.rmtree(profile, ignore_errors=True)
    command = [BROWSER, *QUIET, f"--user-data-dir={profile}", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def measured(page, tmp_path, width, script=MEASURE):
    """What the browser made of the page."""
    copy = tmp_path / "alone" / "copy.html"  # no picture is beside it
    copy.parent.mkdir(exist_ok=True)
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", script), encoding="utf-8")
    dom = browse("--dump-dom", f"--window-size={width},1000", copy.as_uri(), tmp_path=tmp_path)
    return json.loads(unquote(re.search(r'<pre id="measured">(.*?)</pre>', dom)[1]))


@pytest.fixture(scope="module")
def pages(tmp_path_factory, tiny_splits):
    """{kind: its report.html}."""
    root = tmp_path_factory.mktemp("pages")
    variants = windows(12, long=True)
    sizes = {name: 10**6 + 10**5 * number for number, name in enumerate(variants)}
    folders = {
        "search": search_folder(root / "search", 60),
        "study": study_folder(root / "study", windows(4)),
        "large study": study_folder(root / "large", variants, parameters=sizes),
    }
    for folder in folders.values():
        report.write(folder)
    write_attention(root / "attention", tiny_splits.val)
    return {kind: root / kind.partition(" ")[0] / "report.html" for kind in FIGURES}


def write_attention(folder, clips):
    """Write the report of an untrained model's attention."""
    config = tiny_config(**{"model.action.depth": 3})
    torch.manual_seed(0)
    found = attention.measure(HTT(config.model, clips.info), clips, config, counts=[1, 2, 3], draws=2)
    attention_report.write(
        folder, found, "val", Provenance("runs/NAME/checkpoint", "rendered", "command", 99, "0" * 12)
    )


FIGURES = {
    "search": ["progress", "curves", "parallel", "slices", "importance", "pareto"],
    "study": [
        *(f"{name}-action_accuracy" for name in ("forest", "seeds", "time")),
        *(f"{name}-hand_error_mm" for name in ("forest", "seeds", "time", "curves")),
    ],
    "attention": ["removal", "attention_over_time", "attention_of_actions", "strips", "attention_by_distance"],
    "large study": [
        *(f"{name}-action_accuracy" for name in ("forest", "seeds", "time", "parameters")),
        *(f"{name}-hand_error_mm" for name in ("forest", "seeds", "time", "parameters", "curves")),
    ],
}


@pytest.fixture(scope="module", params=FIGURES)
def opened(request, pages, tmp_path_factory):
    """The kind of a report, and what the browser makes of it on a desk."""
    return request.param, measured(pages[request.param], tmp_path_factory.mktemp("opened"), 1280)


def test_report_page_shows_every_figure_with_its_texts(opened):
    kind, found = opened
    assert [figure["name"] for figure in found["figures"]] == FIGURES[kind]
    for figure in found["figures"]:
        left, top, right, bottom = figure["box"]
        assert right - left > 500
        assert bottom - top > 100
        assert len(figure["caption"]) > 20
        assert len(figure["texts"]) > 5


@pytest.mark.usefixtures("undrawn")
def test_report_page_shows_wide_table_whole_on_a_desktop(tmp_path):
    values = {
        "model.pose.window": 16, "model.pose.depth": 2, "model.action.depth": 3, "optim.lr": 0.000123,
        "loss.joints_px": 0.123, "loss.action": 0.456, "model.action.cues": ["hands", "object"], "train.batch_size": 4,
        "model.width": 128,
    }  # fmt: skip
    folder = search_folder(tmp_path / "many", 12, domains=dict.fromkeys(values, "0 to 1"))
    trials = [
        replace(
            each,
            values=values,
            metrics={**each.metrics, "latency_ms": 12.3, "loss": 1.234, "object_accuracy": 0.5} if each.metrics else {},
        )
        for each in folder.trials()
    ]
    folder.write_trials(trials)
    report.write(folder)
    found = measured(folder.path / "report.html", tmp_path, 1280)
    assert found["tables"]
    assert all(wide <= room for wide, room in found["tables"]), found["tables"]


SORT = """<script>
document.addEventListener("DOMContentLoaded", () => {
  const table = document.querySelector("table");
  const heads = [...table.querySelectorAll("th")];
  const column = () => [...table.tBodies[0].rows].map(row => row.cells[3].textContent);
  const before = column(), error = heads.find(head => head.textContent === "Hand error").querySelector("button");
  error.click(); error.click();
  const text = encodeURIComponent(JSON.stringify({before, after: column(), sort: error.parentNode.ariaSort}));
  document.body.insertAdjacentHTML("beforeend", "<pre id=measured>" + text + "</pre>");
});
</script></body>"""


@pytest.mark.usefixtures("undrawn")
def test_report_page_sorts_a_column_by_number_with_dashes_last(tmp_path):
    folder = search_folder(tmp_path / "run", 30, baselines={"action_accuracy": 0.03})
    folder.write_trials(
        [replace(each, metrics={"hand_error_mm": each.metrics["hand_error_mm"] - 15}) if each.metrics else each
         for each in folder.trials()]
    )  # fmt: skip
    report.write(folder)
    found = measured(folder.path / "report.html", tmp_path, 1280, SORT)
    assert found["sort"] == "descending"
    numbers = [float(text.partition("\u00a0")[0]) for text in found["before"]]
    assert numbers == sorted(numbers), "best first"
    assert min(numbers) < 10 < max(numbers), "as text, 9 would come after 10"
    assert found["after"] == found["before"][::-1]


def test_report_page_figure_texts_neither_touch_nor_are_cut(opened):
    for figure in opened[1]["figures"]:
        left, _, right, _ = figure["box"]
        texts = figure["texts"]
        for number, one in enumerate(texts):
            x0, y0, x1, y1 = one["box"]
            assert x0 >= left - SMALL_PX, (figure["name"], one["words"])
            assert x1 <= right + SMALL_PX, (figure["name"], one["words"])
            for other in texts[number + 1 :]:
                a0, b0, a1, b1 = other["box"]
                wide, high = min(x1, a1) - max(x0, a0), min(y1, b1) - max(y0, b0)
                # Lines of one label stand close: a letter's box is higher than the letter.
                assert wide < SMALL_PX or high < 0.5 * min(y1 - y0, b1 - b0), (
                    figure["name"],
                    one["words"],
                    other["words"],
                )


@pytest.mark.parametrize("kind", FIGURES)
def test_report_page_fits_a_phone(pages, kind, tmp_path):
    found = measured(pages[kind], tmp_path, 500)  # Chromium makes no window narrower than this
    assert found["wide"] <= found["window"]


def test_report_page_has_a_dark_scheme(pages, tmp_path):
    page, picture = pages["study"], tmp_path / "dark.png"
    browse("--force-dark-mode", f"--screenshot={picture}", "--window-size=800,800", page.as_uri(), tmp_path=tmp_path)
    assert max(Image.open(picture).convert("RGB").getpixel((5, 5))) < 60
    light = tmp_path / "light.png"
    browse(f"--screenshot={light}", "--window-size=800,800", page.as_uri(), tmp_path=tmp_path)
    assert min(Image.open(light).convert("RGB").getpixel((5, 5))) > 240


def test_report_page_prints(pages, tmp_path):
    browse(f"--print-to-pdf={tmp_path / 'page.pdf'}", pages["study"].as_uri(), tmp_path=tmp_path)
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
