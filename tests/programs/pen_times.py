"""Report how long the pen's page takes from a stroke to its paint, and from its load to the first density.

python tests/programs/pen_times.py PAGE, a page that an explorer with a pen has saved. Nothing is judged: the times are
those of this machine, and of what else it is doing.
"""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

FIRST = """
const look = () => {
  const root = document.querySelector("#explorer div")?.shadowRoot;
  const drag = root?.querySelector("[data-mode=draw]");
  if (root && !drag) root.querySelector(".to-draw")?.click();
  window.opened ??= drag ? performance.now() : undefined;
  if (root?.querySelector(".log-p").textContent) window.first = performance.now();
  else requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""


def main(path):
    import test_explorer as parts
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = parts.chromium(playwright)
        page = browser.new_page(viewport={"width": 1280, "height": 1200})
        page.add_init_script(path=ROOT / "tools" / "times.js")
        page.add_init_script(FIRST)
        page.goto(path.resolve().as_uri())
        while not page.evaluate("window.first ?? 0"):
            page.wait_for_timeout(200)
        opened, first = page.evaluate("[opened, first]")
        print(f"from the start of the load to the pad {opened:.0f} ms, to the first density {first:.0f} ms")
        for name in ("while the grid is computed", "when it is there"):
            strokes = [stroke(page, row) for row in np.linspace(0.1, 0.9, 4)]
            taken = np.concatenate(strokes)
            middle, high = np.percentile(taken, [50, 95])
            print(f"{name}: {len(taken)} strokes, to paint {middle:.1f} ms median, {high:.1f} ms 95th percentile")
            page.locator(".explorer[data-settled=true]").wait_for(timeout=60_000)
        browser.close()


def stroke(page, row):
    """Draw one line across the pad, sixty moves of the pointer, and return what each took, in ms."""
    box = page.locator("canvas.pad").bounding_box()
    y = box["y"] + row * box["height"]
    page.mouse.move(box["x"] + 5, y)
    page.mouse.down()
    page.evaluate("times.length = 0")
    for i in range(60):
        page.mouse.move(box["x"] + 5 + i / 60 * (box["width"] - 10), y)
        page.wait_for_timeout(20)
    page.mouse.up()
    return page.evaluate("times")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
