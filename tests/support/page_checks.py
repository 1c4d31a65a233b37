"""What holds for every view of the page: it can be read, used without eyes, and on a small screen."""

from pathlib import Path

from support.chromium import Page

# For every text that can be seen: its size and the contrast of its colour with what lies behind it.
_CONTRASTS = """(() => {
  const rgba = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return { r, g, b, a }; };
  const light = ({ r, g, b }) => [r, g, b].map((part) => part / 255)
    .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const color = rgba(getComputedStyle(each).backgroundColor);
      if (color.a === 1) return color;
    }
    return { r: 255, g: 255, b: 255 };
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !element.checkVisibility() || element.closest('noscript, kbd')) continue;
    const [one, other] = [light(rgba(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
    found.push([text.slice(0, 40), (one + 0.05) / (other + 0.05)]);
  }
  return found;
})()"""

_UNNAMED = """[...document.querySelectorAll('button, a, input, select, textarea, summary, [tabindex]')]
  .filter((each) => each.checkVisibility())
  .filter((each) => ![each, ...(each.labels ?? [])].some((named) => named.textContent.trim()))
  .filter((each) => !each.getAttribute('aria-label'))
  .map((each) => each.outerHTML)"""


AXE = Path(__file__).parents[1] / "sdk" / "node_modules" / "axe-core" / "axe.min.js"
_FINDINGS = """axe.run(document, {resultTypes: ['violations']}).then(({ violations }) =>
  violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' | ').slice(0, 400)}`))"""


def check_readable(page: Page) -> None:
    """Hold that every text has contrast enough, and that axe-core finds nothing, in light and in dark."""
    page.run(AXE.read_text() + ";true")
    for dark in (False, True):
        page.look(1440, 900, dark=dark)
        page.run("document.getAnimations().forEach((each) => each.cancel())")
        found: list[tuple[str, float]] = page.run(_CONTRASTS)
        assert len(found) > 15
        assert [each for each in found if each[1] < 4.5] == []
        assert page.run(_FINDINGS) == []
    assert page.run(_UNNAMED) == []


def check_narrow(page: Page) -> None:
    """Hold that nothing is wider than the screen, from the smallest phone on."""
    for width in (360, 768, 1024):
        page.look(width, 800, phone=width < 700)
        # A chart follows its frame a moment after a window has become narrower.
        page.wait_for(f"document.documentElement.scrollWidth <= {width}")
