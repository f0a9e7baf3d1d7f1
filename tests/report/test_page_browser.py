"""The report in a real browser: a desktop and a phone, light and dark, with the network off."""

import json
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from assay.report.page import write_report

ROOT = Path(__file__).parents[2]
SCREENS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}
TIMEOUT_MS = 240_000  # a machine that trains beside the tests is slow
# Smallest contrast (WCAG 2.2, 1.4.3) of any text on what lies behind it, and where; the boxes of the graph apart.
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true}), known = {};
  const rgba = text => known[text] ??= (() => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1); const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; })();
  const over = (top, below, alpha = top[3]) => below.map((value, i) => i == 3 ? 1 : top[i] * alpha + value * (1 - alpha));
  const light = colour => { const [r, g, b] = colour.map(value => { value /= 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ratio = (first, second) => { const [high, low] = [light(first), light(second)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05); };
  const behind = element => { const layers = [];
    for (let at = element; at; at = at.parentElement) { const colour = rgba(getComputedStyle(at).backgroundColor);
      layers.push(colour); if (colour[3] == 1) break; }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]); };
  const found = [];
  for (const element of document.querySelectorAll("body *:not(svg *):not(script)")) {
    const text = [...element.childNodes].filter(node => node.nodeType == 3).map(node => node.data).join("").trim();
    if (text && element.getClientRects().length)
      found.push([ratio(rgba(getComputedStyle(element).color), behind(element)), text.slice(0, 40)]);
  }
  for (const link of document.querySelectorAll("svg a")) {
    const fill = name => rgba(getComputedStyle(link.querySelector(name)).fill), heat = link.querySelector(".heat");
    const ground = heat ? over(fill(".heat"), fill(".box"), Number(heat.getAttribute("opacity"))) : fill(".box");
    for (const text of link.querySelectorAll("text"))
      found.push([ratio(rgba(getComputedStyle(text).fill), ground), text.textContent]);
  }
  found.sort((a, b) => a[0] - b[0]);
  return {texts: found.length, least: found[0]};
}"""


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright (make browser)")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser ({', '.join(names)}) is installed: make browser installs one")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"], timeout=TIMEOUT_MS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(copy_project):
    """The report of what stands in the project, with timings of every second stage."""
    return write(copy_project())


@pytest.fixture(scope="module")
def plain_report(copy_project):
    """The same without images, quicker to load."""
    return write(copy_project("dvc.yaml", "dvc.lock", "params.yaml", "metrics"))


def write(root):
    (root / "timings").mkdir()
    for number, name in enumerate(sorted(stage_names())):
        if number % 2 == 0:
            record = {"wall_s": 1.5**number, "startup_s": 1.5, "cpu_s": 3.0, "peak_bytes": 2**28}
            (root / f"timings/{name}.json").write_text(json.dumps(record))
    return write_report(root / "report.html", root=root)


def stage_names():
    """All that are drawn: every stage but the one that all others need."""
    return YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"].keys() - {"code"}


class Visit:
    """The page in a browser that is offline, and all that went wrong or was asked for."""

    def __init__(self, browser, path, **options):
        self.trouble, self.asked = [], []
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(TIMEOUT_MS)
        self.context.set_offline(True)
        self.context.route(lambda url: not url.startswith(("file:", "data:")), self.refuse)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri(), wait_until="load")

    def refuse(self, route):
        self.asked.append(route.request.url)
        route.abort()

    def elsewhere(self):
        return [url for url in self.asked if not url.startswith(("file:", "data:"))]


@pytest.fixture(
    scope="module", params=[(screen, scheme) for screen in SCREENS for scheme in ("light", "dark")], ids="-".join
)
def visit(request, browser, report):
    """One for all tests of a screen: each leaves the switch as it was."""
    screen, scheme = request.param
    found = Visit(browser, report, color_scheme=scheme, **SCREENS[screen])
    yield found
    found.context.close()


def test_it_loads_alone_and_fits_the_screen(visit):
    page = visit.page
    sizes = page.evaluate("Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth, () => 0)))")
    assert len(sizes) == len(list((ROOT / "plots").rglob("*.png")))
    assert min(sizes) > 0
    fits = "document.documentElement.scrollWidth <= window.visualViewport.width + 0.5"
    assert page.evaluate(fits)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate(fits)
    assert page.evaluate("getComputedStyle(document.querySelector('.graph')).overflowX") == "auto"
    assert visit.trouble == []
    assert visit.elsewhere() == []


def test_all_text_has_contrast_and_readable_size(visit):
    visit.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    for _ in range(2):  # the browser's scheme, then the other
        contrast = visit.page.evaluate(CONTRAST)
        assert contrast["texts"] > 500
        assert contrast["least"][0] >= 4.5, contrast["least"]
        visit.page.get_by_role("switch").press("Space")
    sizes = "[...document.querySelectorAll('body *')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    assert min(visit.page.evaluate(sizes)) >= 10


def test_contents_stages_and_keyboard(visit):
    page = visit.page
    broken = """[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))
      .filter(name => !document.getElementById(name.slice(1)))"""
    assert page.evaluate(broken) == []
    drawn = page.evaluate("[...document.querySelectorAll('.graph a[data-stage]')].map(a => a.dataset.stage)")
    assert sorted(drawn) == sorted(stage_names())
    for link in page.locator("nav a").all():
        link.click()
        top = page.evaluate("document.querySelector(location.hash).getBoundingClientRect().top")
        # Below the bar that stays; the last ones stand where the page ends.
        assert 30 <= top < page.viewport_size["height"], link.text_content()
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_boxes_of_the_graph_hold_their_text(visit):
    wide = """[...document.querySelectorAll('.graph a')].flatMap(a => { const box = a.querySelector('.box').getBBox();
      return [...a.querySelectorAll('text')].filter(t => t.getBBox().x + t.getBBox().width > box.x + box.width - 1)
        .map(t => t.textContent); })"""
    assert visit.page.evaluate(wide) == []


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_the_switch_turns_the_scheme_over(browser, plain_report, script):
    ground = {}
    for scheme in ("light", "dark"):
        visit = Visit(browser, plain_report, color_scheme=scheme, java_script_enabled=script)
        switch = visit.page.get_by_role("switch")
        for turned in (False, True):
            if turned:
                switch.press("Space")
            assert switch.is_checked() == turned
            # A screenshot's corner: without scripts the page can't be asked.
            ground[scheme, turned] = visit.page.screenshot(clip={"x": 2, "y": 300, "width": 4, "height": 4})
        if script:
            visit.page.reload()
            assert visit.page.get_by_role("switch").is_checked()
        visit.context.close()
    assert ground["light", False] == ground["dark", True] != ground["dark", False] == ground["light", True]


def test_it_prints(browser, report, tmp_path):
    visit = Visit(browser, report, color_scheme="dark")
    content = visit.page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert content.startswith(b"%PDF")
    visit.page.emulate_media(media="print")
    assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert visit.page.evaluate(CONTRAST)["least"][0] >= 4.5
    assert visit.trouble == []
    visit.context.close()
