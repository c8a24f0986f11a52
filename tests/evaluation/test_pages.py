"""Pages in a browser: their script sorts, filters and points, no other script runs, and all is there without."""

import base64
import hashlib
import html
import io
import re
import shutil
import subprocess

import matplotlib.image
import numpy as np
import pytest

from arsenal.evaluation import plot
from arsenal.evaluation.hover import hover_points
from arsenal.evaluation.report import Pictures, png, render
from arsenal.evaluation.sweep import Axis, slices

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NUMBERS = ["0.5", "1,200", "-", "-3", "0.25 (0.1 to 0.4)", "7e-05", "", "12 %", "90", "8", "9", "10"]

CLICKS = """
const heads = [...document.querySelectorAll("#sorted th button")], said = [];
const column = (at) => [...document.querySelectorAll("#sorted tbody tr")].map((row) => row.cells[at].textContent);
for (const at of [1, 1, 1, 0]) { heads[at].click(); said.push([heads[at].parentNode.getAttribute("aria-sort"), column(at)]); }
const field = document.querySelector("#sorted").previousSibling.querySelector("input");
field.value = "ROW 1"; field.dispatchEvent(new Event("input"));
said.push([document.querySelector(".filter span").textContent, column(0).length]);
said.push([...document.querySelectorAll("#sorted tbody tr")].filter((row) => row.hidden).length);
const figure = document.querySelector("figure[data-points]"), image = figure.querySelector("img");
image.addEventListener("load", go); if (image.complete) go();
function go() {
  const [left, top] = figure.dataset.points.split("\\n")[0].split(" ").map(Number), box = image.getBoundingClientRect();
  const at = { clientX: box.left + left * box.width + 3, clientY: box.top + top * box.height - 3 };
  image.dispatchEvent(new PointerEvent("pointermove", at));
  said.push(figure.querySelector(".tip").textContent);
  figure.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
  said.push(figure.querySelector(".tip").textContent);
  figure.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
  said.push(figure.classList.contains("pointed"));
  document.title = JSON.stringify(said);
}
"""


@pytest.fixture(scope="module")
def page():
    """A page with a long table and a curve, of the parts of which all are made."""
    rows = [{"step": step, "split": split, "values": {"loss": 1 / step}} for split in ("train", "validation") for step in (1, 2, 4)]
    picture = Pictures(None)("curve", lambda theme: plot.learning_curves(rows, theme=theme), "Loss over steps")
    lines = "".join(f"<tr><td>row {i}</td><td>{text}</td></tr>" for i, text in enumerate(NUMBERS))
    head = "<thead><tr><th>name</th><th>number</th></tr></thead>"
    empty = {"title": "Pages", "runs": [], "groups": [], "best": {}, "pairs": [], "curves": [picture]}
    return render("comparison.html", empty).replace("<footer>", f'<table id="sorted">{head}<tbody>{lines}</tbody></table><footer>')


def browse(text, folder):
    """What a browser makes of a page: its elements when all has run, as text."""
    if BROWSER is None:
        pytest.skip("There is no Chromium.")
    (folder / "page.html").write_text(text)
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
    told = [BROWSER, *words, f"--user-data-dir={folder / 'browser'}", f"file://{folder / 'page.html'}"]
    return subprocess.run(told, capture_output=True, text=True, timeout=120, check=True).stdout


def test_tables_sort_and_filter_and_curves_say_what_is_under_the_pointer(page, tmp_path):
    import json

    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    clicks = f'<script>addEventListener("load", () => {{ {CLICKS} }})</script>'
    found = browse(free.replace("</body>", f"{clicks}</body>"), tmp_path)
    up, down, back, names, count, hidden, tip, after, pointed = json.loads(html.unescape(re.search("<title>(.*)</title>", found)[1]))
    there = ["-3", "7e-05", "0.25 (0.1 to 0.4)", "0.5", "8", "9", "10", "12 %", "90", "1,200"]
    assert up == ["ascending", [*there, "-", ""]] and down == ["descending", [*there[::-1], "-", ""]]
    assert back == [None, NUMBERS] and names == ["ascending", [f"row {i}" for i in range(12)]]
    assert count == ["5 of 12", 12] and hidden == 7  # rows 1, 4, 7, 10 and 11 have a 1
    assert (tip, after, pointed) == ("train: step 1, loss 1", "train: step 2, loss 0.5", False)


def test_only_the_pages_own_script_may_run(page, tmp_path):
    policy = re.search(r"script-src ('[^\"]*)\">", page)[1]
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    assert policy == f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
    found = browse(page.replace("</body>", '<script>document.title = "foreign"</script><b onclick="x()">b</b></body>'), tmp_path)
    assert "<title>Pages</title>" in found and found.count("<button type=") == 2 and 'class="tip"' in found
    assert "<script" not in render("explanation.html", {
        "title": "", "facts": [], "says": "", "notes": [], "pictures": [], "head": [], "lines": [], "text": "", "table": ""
    })  # fmt: skip


DRAW = np.random.default_rng(0)
LABELS = DRAW.integers(0, 2, 60)
SCORE = np.clip(0.4 * LABELS + 0.6 * DRAW.random(60), 0, 1)


@pytest.mark.parametrize(("figure", "count", "text", "colour"), [
    (lambda: plot.roc(LABELS, np.stack([1 - SCORE, SCORE], 1)), 3, "1 0.9", plot.LIGHT.right),
    (lambda: plot.importances(np.array([3.0, -1.0, 2.0]), None, ["age", "sex", "fare"], label="worse"), 3, "fare, worse 2", plot.LIGHT.right),
    (lambda: plot.residuals(np.arange(5.0), np.arange(5.0) + 0.5), 5, "predicted 0.5, predicted - true 0.5", plot.LIGHT.right),
    (lambda: plot.dependence(["no", "yes"], np.array([0.25, 0.5]), None, "sex", "alive"), 2, "yes, alive 0.5", plot.LIGHT.right),
    (lambda: slices([Axis("rate", np.array([0.0, 0.5, 1.0]), {0.0: "0.001", 1.0: "0.1"})], np.array([1.0, 2.0, 1.5]), np.array([0, 2]), "loss", "min", plot.LIGHT, ["trial 0: rate 0.001", "trial 2: rate 0.1"]), 2, "trial 2: rate 0.1", plot.LIGHT.right),
])  # fmt: skip
def test_points_lie_where_they_are_drawn(figure, count, text, colour):
    made = figure()
    data = png(made)
    points = hover_points(made)
    assert len(points) >= count and any(text in said for _, _, said in points), points
    picture = matplotlib.image.imread(io.BytesIO(data))[..., :3]
    height, width = picture.shape[:2]
    near = 0
    for left, top, _ in points:
        at = int(top * height), int(left * width)
        around = picture[max(0, at[0] - 8) : at[0] + 9, max(0, at[1] - 8) : at[1] + 9]
        near += np.abs(around - plot.rgb(colour)).sum(-1).min() < 0.75  # a point of 0.3 opacity is paler
    assert near >= 0.6 * len(points)
