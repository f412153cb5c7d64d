import os
import shutil
import subprocess

import pytest
from made_fronts import a_front, a_front_over

from invact.fronts.pareto import ParetoFront, Point
from invact.reports.figures import interactive_front
from invact.reports.front import write_front


def test_hovering_shows_every_cost():
    traces = interactive_front(a_front_over("latency_ms")).data
    hovers = [line.split("<br>") for trace in traces for line in trace.hovertext or ()]
    (largest,) = [lines for lines in hovers if "inverse 2" in lines[0]]
    # The median over the seeds is 0.47000000000000003, which is shown with four digits.
    costs = ["MACs: 160,000", "parameters: 396", "filters: 8", "bytes of activations: 12,289"]
    assert largest[2:8] == [*costs, "bytes moved: 49,153", "ms: 0.47"]


HOVER = """
<script>
window.addEventListener("load", () => setTimeout(() => {
  const plot = document.getElementById("front");
  plot.data.forEach((trace, curve) => {
    if (trace.name !== "inverse, on the front") return;
    Plotly.Fx.hover(plot, [{curveNumber: curve, pointNumber: 0}]);
  });
}, 500));
</script>
"""


def test_html_in_a_browser(tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        if os.environ.get("CI"):
            pytest.fail("no chromium on the machine")
        pytest.skip("no chromium on the machine")
    front = a_front()
    attack = "<img src=x onerror=document.body.id='owned'></script><script>document.body.id='owned'</script>"
    odd = Point(99, attack, attack, 5, 1, 1, 0.1, None, 1, attack, {"activation": attack})
    front = ParetoFront(
        attack,
        (odd, *front.points),
        front.dominated,
        front.apart,
        front.reference,
        1.0,
        front.budget,
        front.uncertainty,
    )
    (path,) = write_front(front, tmp_path, ["html"])
    page = path.read_text(encoding="utf-8")
    assert '<script src="http' not in page
    # This copy of the page hovers over one point without a user.
    path.write_text(page.replace("</body>", HOVER + "</body>"), encoding="utf-8")
    done = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            # No host name resolves, so the page cannot use a network.
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--virtual-time-budget=4000", "--window-size=1000,700", "--dump-dom", path.as_uri()),
        ],
        capture_output=True,
        check=True,
        timeout=60,
    )
    # The part after the scripts is the drawing of Plotly.
    drawn = done.stdout.decode()
    assert 'id="owned"' not in drawn
    drawn = drawn[drawn.rindex('class="plot-container') :]
    shown = len(front.points) + len(front.dominated)
    ticks = sum(one.macs is not None for one in front.apart)
    assert drawn.count('<path class="point') == shown + ticks
    for text in ("points: validation", "MACs of one image", "over budget (4)", "budget 5 M"):
        assert text in drawn
    assert "95% band" in drawn
    hover = drawn[drawn.index('class="hoverlayer') :]
    for text in ("inverse 4", "inverse4", "160,000", "93.3", "91.00%", "run-inverse-4-0", "100% of the resa"):
        assert text in hover
    assert "Upload" not in drawn
