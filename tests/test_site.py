"""The site: built once from the committed notebooks, read as files, and used in a real browser.

It is built by Sphinx, which is no requirement of the notebooks: `make site` installs it into .venv-site. Where it is
missing these tests are skipped, with CI set they fail.
"""

import functools
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image
from test_explorer import chromium, no_browser, rules_that_axe_core_passes

from tools import notebooks as tool

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "site"
NOTEBOOKS = {path.stem: nbformat.read(path, as_version=4).cells for path in tool.series()}
PAGES = ["index", "explorer", "glossary", "teachers", "run", "text", "about", "search"]
PAGES += [f"notebooks/{name}" for name in NOTEBOOKS]
WITH_EXPLORER = ["index", "explorer", *(f"notebooks/{name}" for name in NOTEBOOKS if name[:2] in ("04", "05", "07"))]
GLOSSARY = tomllib.loads((SITE / "glossary.toml").read_text(encoding="utf-8"))
QUERIES = {  # what readers look for: where it stands, the number of a notebook or another page
    "posterior collapse": ("08", "09"),
    "free bits": ("08", "09"),
    "KL warm-up": ("08", "09"),
    "why log variance": ("02",),
    "reparameterization trick": ("02",),
    "score function": ("02",),
    "sum or mean": ("02",),
    "beta VAE": ("08",),
    "mode collapse": ("05", "09"),
    "dithering": ("01",),
    "grey pixels Bernoulli": ("01",),
    "importance weighted": ("06",),
    "amortization gap": ("06",),
    "aggregate posterior": ("04",),
    "quantile grid": ("05",),
    "blurry samples": ("01", "05"),
    "conditional VAE": ("10",),
    "GTM": ("07",),
    "sigmoid twice": ("09",),
    "Colab helpers not found": ("run",),
}
each_notebook = pytest.mark.parametrize("name", NOTEBOOKS)
each_page = pytest.mark.parametrize("name", PAGES)


# building


def sphinx_python():
    """The Python that has Sphinx: that of .venv-site, else the one that runs."""
    for own in (ROOT / ".venv-site" / "bin" / "python", ROOT / ".venv-site" / "Scripts" / "python.exe"):
        if own.is_file():
            return own
    if importlib.util.find_spec("myst_nb") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no Sphinx: make site, or pip install -e ./site")
    return sys.executable


def build(root, folder):
    return subprocess.run([sphinx_python(), root / "site" / "build.py", folder], capture_output=True, encoding="utf-8")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the site."""
    folder = tmp_path_factory.mktemp("site")
    result = build(ROOT, folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(built):
    """Each page of the site by its name, parsed."""
    found = {path.relative_to(built).with_suffix("").as_posix(): path for path in built.rglob("*.html")}
    return {name: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for name, path in found.items()}


def test_the_site_is_small(built):
    assert sum(path.stat().st_size for path in built.rglob("*") if path.is_file()) < 30e6


def test_every_page_is_there_and_no_other(pages):
    assert {name for name in pages if not name.startswith("_static/")} == {*PAGES, "images/latent_explorer"}


def test_a_dead_link_a_silent_figure_and_an_unknown_formula_end_the_build(tmp_path):
    for name in ("site", "notebooks", "images"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("_build", "__pycache__"))
    for name in ("README.md", "LICENSE", "CITATION.cff"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    path = tmp_path / "notebooks" / "01_data_exploration.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].source += r" A [dead link](20_nothing.ipynb), and a formula: $\nosuchcommand$."
    figure = next(output for cell in notebook.cells for output in cell.get("outputs", []) if tool_figure(output))
    del figure.metadata["image/png"]
    nbformat.write(notebook, path)

    result = build(tmp_path, tmp_path / "built")

    assert result.returncode != 0
    for message in ("20_nothing.ipynb", "without an alternative text", "nosuchcommand"):
        assert message in result.stderr


def tool_figure(output):
    return "image/png" in output.get("data", {})


# what a page takes from its notebook


def alternatives(cells):
    outputs = [output for cell in cells for output in cell.get("outputs", []) if tool_figure(output)]
    return [output.metadata["image/png"]["alt"] for output in outputs]


def formulas(cells):
    """The formulas of the notebook's prose, found without MyST."""
    texts = [re.sub(r"```.*?```|`[^`]*`", "", cell.source, flags=re.DOTALL) for cell in cells]
    return [match for text in texts for match in re.findall(r"\$\$.+?\$\$|\$[^$]+\$", text, re.DOTALL)]


@each_notebook
def test_every_figure_has_the_text_of_the_notebook(pages, name):
    article = pages[f"notebooks/{name}"].select_one("article")

    assert [image["alt"] for image in article.select("img")] == alternatives(NOTEBOOKS[name])


@each_notebook
def test_every_cell_can_be_linked_to(pages, name):
    found = {tag["id"] for tag in pages[f"notebooks/{name}"].select("article [id]")}

    assert {f"nb{name[:2]}-{cell.id}" for cell in NOTEBOOKS[name]} <= found


@each_notebook
def test_every_formula_is_mathml(pages, name):
    article = pages[f"notebooks/{name}"].select_one("article")
    prose = [cell for cell in NOTEBOOKS[name] if cell.cell_type == "markdown"]

    assert len(article.select("math")) == len(formulas(prose)) and not article.select("merror")
    assert "$" not in "".join(tag.get_text() for tag in article.select("p, li"))


@each_notebook
def test_code_and_printed_lines_are_those_of_the_notebook(pages, name):
    article = pages[f"notebooks/{name}"].select_one("article")
    code = [cell for cell in NOTEBOOKS[name] if cell.cell_type == "code"]
    printed = [output.text for cell in code for output in cell.outputs if output.get("name") == "stdout"]

    assert [part.get_text().strip() for part in article.select(".cell_input pre")] == [c.source.strip() for c in code]
    assert [part.get_text().strip() for part in article.select(".output.stream")] == [text.strip() for text in printed]


@each_notebook
def test_the_setup_the_solutions_and_the_notes_are_folded(pages, name):
    folded = pages[f"notebooks/{name}"].select("article details")
    sources = "".join(cell.source for cell in NOTEBOOKS[name])
    wanted = re.findall(r"<details><summary>(.*?)</summary>", sources)
    found = [part.summary.get_text() for part in folded]

    assert not any(part.has_attr("open") for part in folded)
    assert len(wanted) == sources.count("<details>")
    assert [text for text in found if "Show the code" not in text] == wanted
    assert "VAE_REPO" in folded[0].get_text()


@each_notebook
def test_the_page_offers_colab_the_notebook_and_its_text(built, pages, name):
    links = {link.get_text(): link["href"] for link in pages[f"notebooks/{name}"].select(".toolbar a")}

    assert links["Open in Colab"] in NOTEBOOKS[name][0].source
    assert (built / "notebooks" / links["Download the notebook"]).read_bytes() == (
        ROOT / "notebooks" / f"{name}.ipynb"
    ).read_bytes()
    assert (built / "notebooks" / links["Text without pictures"]).is_file()
    assert not pages[f"notebooks/{name}"].select('article [href*="colab"], article [src*="badge"]')


def test_previous_and_next_lead_through_the_series_in_order(pages):
    walk, name = [], "index"
    while link := pages[name].select_one("a.right-next"):
        name = urljoin(f"{name}.html", link["href"]).removesuffix(".html")
        walk.append(name)
        back = pages[name].select_one("a.left-prev")["href"]
        assert urljoin(f"{name}.html", back).removesuffix(".html") == ["index", *walk][-2]

    assert walk == [*(f"notebooks/{notebook}" for notebook in NOTEBOOKS), *PAGES[1:7]]


@each_page
def test_every_page_lists_the_whole_book(pages, name):
    listed = [link.get_text() for link in pages[name].select(".bd-sidebar-primary nav a")]

    titles = [f"{int(each[:2])} {cells[0].source.splitlines()[0][2:]}" for each, cells in NOTEBOOKS.items()]
    assert listed[: len(titles)] == titles and len(listed) == len(titles) + 6


# links


def targets(page):
    return {tag.get("href") or tag.get("src") for tag in page.select("[href], [src]")}


@each_page
def test_every_link_within_the_site_leads_somewhere(built, pages, name):
    for target in map(urlsplit, targets(pages[name])):
        if target.scheme or target.netloc:
            continue
        path = unquote(urljoin(f"{name}.html", target.path)) if target.path else f"{name}.html"
        assert (built / path).is_file(), target.geturl()
        if target.fragment and path.endswith(".html") and target.fragment != "main-content":
            named = {tag["id"] for tag in pages[path.removesuffix(".html")].select("[id]")}
            assert unquote(target.fragment) in named, target.geturl()


@each_page
def test_nothing_that_a_page_loads_lies_elsewhere(pages, name):
    loaded = [tag.get("src") or tag["href"] for tag in pages[name].select("script[src], link, img, iframe, source")]

    assert [address for address in loaded if urlsplit(address).netloc] == []


# notation, glossary, lessons


def words(text):
    return re.sub(r"[^\w]+", " ", text.lower().replace("β", "beta")).strip()


@pytest.mark.parametrize("term", GLOSSARY["term"], ids=lambda term: term["name"])
def test_the_cell_that_defines_a_term_uses_it(term):
    number, _, cell_id = term["cell"].partition(":")
    cells = next(cells for name, cells in NOTEBOOKS.items() if name.startswith(number))
    defining = [words(cell.source) for cell in cells if cell.id == (cell_id or cell.id)]

    known = [words(name) for name in (term["name"], *term["also"])]
    assert any(name in text for text in defining for name in known)


def test_every_symbol_and_term_leads_to_its_cell(pages):
    links = [link["href"] for link in pages["glossary"].select("article dd a")]

    names = {name[:2]: name for name in NOTEBOOKS}
    cells = [entry["cell"] for kind in ("symbol", "term") for entry in GLOSSARY[kind]]
    wanted = [f"notebooks/{names[cell[:2]]}.html#nb{cell[:2]}-{cell[3:] or 'title'}" for cell in cells]
    assert sorted(links) == sorted(wanted)


def test_the_names_of_terms_are_unique_and_the_letters_of_the_glossary_in_order(pages):
    names = [words(name) for term in GLOSSARY["term"] for name in (term["name"], *term["also"])]
    shown = [words(term.get_text()) for term in pages["glossary"].select("#glossary dt")]

    assert sorted(names) == sorted(set(names)) and shown == sorted(shown)


@pytest.mark.parametrize("minutes", [45, 90])
def test_the_minutes_of_a_lesson_add_up(pages, minutes):
    heading = next(tag for tag in pages["teachers"].select("h2") if f" {minutes} minutes" in tag.get_text())
    rows = heading.find_next("table").select("tbody tr")

    assert sum(int(row.td.get_text()) for row in rows) == minutes


def test_every_prediction_of_the_series_is_listed_for_teachers(pages):
    asked = [
        f"nb{name[:2]}-{cell.id}"
        for name, cells in NOTEBOOKS.items()
        for cell in cells
        if cell.cell_type == "markdown" and re.search(r"(?m)^\*\*Predict\.\*\*", cell.source)
    ]
    section = pages["teachers"].select_one("#predictions")
    assert [urlsplit(link["href"]).fragment for link in section.select("li a[href*='#nb']")] == asked


def test_the_book_says_how_to_cite_it_and_where_its_repository_is(pages):
    repository = "https://github.com/" + tool.BADGE.search((ROOT / "README.md").read_text(encoding="utf-8"))[2]
    entry = pages["about"].select_one(".highlight-bibtex").get_text()

    assert entry.startswith("@misc{vae_you_can_see,") and f"{{{repository}}}" in entry
    for name in ("about", "index"):
        assert pages[name].select(f"article a[href='{repository}']")


def test_a_person_and_a_group_can_be_cited():
    people = "{'family-names': 'de Beauvoir', 'given-names': 'Simone'}", "{'name': 'The authors'}"
    names = [f"print(pages.bibtex_name({each}))" for each in people]
    code = "; ".join(["import pages", *names])

    shown = subprocess.check_output([sphinx_python(), "-c", code], cwd=ROOT / "site", encoding="utf-8")

    assert shown.splitlines() == ["de Beauvoir, Simone", "{The authors}"]


PLANNED = {0, 1, 45, 90}  # grey levels, and minutes of the lessons
SOURCES = [*SITE.glob("pages/*.md"), SITE / "glossary.toml"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_number_of_the_site_is_without_a_source(path):
    text = re.sub(r"(?m)^\|.*|^(?:cell|tex) = .*|<!--.*?-->", "", path.read_text(encoding="utf-8"))
    known = {*tool.GIVEN, *PLANNED, *(record["value"] for record in tool.records().values())}

    assert [numeral for numeral in tool.numerals(text) if not tool.stands_in(numeral, known)] == []


# the series without pictures


@each_notebook
def test_the_text_has_all_words_and_all_figures_and_no_picture(built, name):
    text = (built / "text" / f"{name}.md").read_text(encoding="utf-8")

    assert "![" not in text and "base64" not in text
    assert re.findall(r"(?m)^> \*\*Figure\.\*\* (.+)$", text) == alternatives(NOTEBOOKS[name])
    for cell in NOTEBOOKS[name][1:]:
        if cell.cell_type == "markdown":
            assert re.sub(r"\]\((\d\d_\w+)\.ipynb", r"](\1.md", cell.source).strip() in text
    for link in re.findall(r"\]\((\w+\.md)\)", text):
        assert (built / "text" / link).is_file()


def test_the_text_of_the_glossary_has_every_term(built):
    text = (built / "text" / "glossary.md").read_text(encoding="utf-8")

    assert all(f"\n{term['name']}\n: {term['is']} ([notebook " in text for term in GLOSSARY["term"])
    assert all((built / "text" / link).is_file() for link in re.findall(r"\]\((\w+\.md)\)", text))


# in a browser


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = chromium(playwright)
        if browser is None:
            no_browser("no Chromium: apt-get install chromium, or playwright install chromium")
        yield browser
        browser.close()


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def origin(built):
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=built)) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def visit(browser, origin):
    """Return a function that opens a page of the site; whatever goes wrong there fails the test."""
    contexts, wrong = [], []

    def note(response):
        if response.status >= 400:
            wrong.append(f"{response.status} {response.url}")

    def foreign(request):
        if not request.url.startswith((origin, "data:", f"blob:{origin}")):  # a blob: the explorer's worker
            wrong.append(request.url)

    def visit(name="index", heard=None, **options):
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("request", foreign)
        page.on("response", note)
        if heard is not None:
            page.on("response", lambda response: heard.append(response))
        path, _, query = name.partition("?")
        page.goto(f"{origin}{path}.html" + (f"?{query}" if query else ""))
        return page

    yield visit
    for context in contexts:
        context.close()
    assert wrong == []


# For the sake of time axe-core passes over code and formulas whose kinds of parts all stand in others above them.
MARK_WHAT_IS_ALIKE = """() => {
    const seen = new Set();
    for (const whole of document.querySelectorAll(".highlight, math")) {
        const kinds = [...whole.querySelectorAll("*")].map((part) => part.tagName + part.className);
        if (kinds.every((kind) => seen.has(kind))) whole.dataset.alike = "";
        kinds.forEach((kind) => seen.add(kind));
    }
}"""
# The explorer in its frame has a test of its own; style sheets are taken as the page has loaded them.
AXE = {"iframes": False, "preload": False, "resultTypes": ["violations"]}
OF_COLOURS = {**AXE, "runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
ALIKE, ARTICLE = ["[data-alike]"], ["article.bd-article"]
WIDE_PARTS_CAN_BE_REACHED = """() => [...document.querySelectorAll("pre, .formula")].every(
    (part) => part.scrollWidth <= part.clientWidth || part.tabIndex === 0)"""


@each_page
def test_axe_core_finds_nothing_and_nothing_is_wider_than_the_screen(visit, name):
    page = visit(f"{name}?q=free+bits" if name == "search" else name, color_scheme="light")
    page.evaluate(MARK_WHAT_IS_ALIKE)
    # axe-core takes seconds: only colours depend on the theme, and the article has the same parts at every width
    for scheme, paper, rules in (("light", "rgb(255, 255, 255)", AXE), ("dark", "rgb(20, 22, 26)", OF_COLOURS)):
        page.emulate_media(color_scheme=scheme)
        for width, left_out in ((320, [ALIKE]), (768, None), (1280, [ALIKE, ARTICLE])):
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_function(WIDE_PARTS_CAN_BE_REACHED)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == paper
            if left_out is None:
                continue

            passed = rules_that_axe_core_passes(page, {"exclude": left_out}, rules)

            assert passed > (10 if rules is AXE else 0)


def test_the_bar_over_a_letter_does_not_melt_into_it_where_a_css_pixel_is_one_pixel(visit):
    page = visit(next(f"notebooks/{name}" for name in NOTEBOOKS if name.startswith("08")), color_scheme="light")
    page.locator("details").evaluate_all("(all) => all.forEach((one) => (one.open = true))")
    letters = page.locator("mover", has_text="¯").all()
    for letter in letters:
        letter.scroll_into_view_if_needed()
        with Image.open(io.BytesIO(letter.screenshot())) as picture:
            darkest = np.asarray(picture.convert("L")).min(axis=1)  # of each row of pixels
        bar = (darkest < 100).argmax()
        assert darkest[bar + 1] > 150
    assert len(letters) > 5


@pytest.mark.parametrize("name", WITH_EXPLORER)
def test_the_explorer_runs_in_the_page_and_its_frame_fits(visit, name):
    page = visit(name, viewport={"width": 360, "height": 900})
    frame = page.locator(".explorer-frame iframe")
    frame.scroll_into_view_if_needed()
    inside = frame.content_frame
    inside.locator("canvas.map").focus()
    before = inside.locator(".position").inner_text()
    page.keyboard.press("ArrowRight")

    inside.locator(".position").filter(has_not_text=before).wait_for()
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(
            """() => {
                const frame = document.querySelector('.explorer-frame iframe');
                const { height } = frame.contentDocument.body.getBoundingClientRect();
                return height > 300 && Math.abs(frame.clientHeight - height) < 2;
            }"""
        )
    assert frame.get_attribute("title") and not page.locator(".explorer-still").is_visible()


def test_the_explorer_that_learns_is_a_picture_of_the_beginning(visit):
    page = visit(next(f"notebooks/{name}" for name in NOTEBOOKS if name.startswith("03")))
    (still,) = page.get_by_role("img", name="The explorer as a still picture, before the training").all()
    assert still.is_visible() and page.locator(".explorer-frame").count() == 0


def test_the_explorer_follows_the_colours_that_the_reader_chooses(visit):
    page = visit("explorer", color_scheme="null")  # as the browser decides by itself, without Playwright's word
    inside = page.locator(".explorer-frame iframe").content_frame
    inside.locator("canvas.map").wait_for()
    for choice, colour in (("Dark", "rgb(20, 22, 26)"), ("Light", "rgb(255, 255, 255)")):
        page.get_by_role("button", name="Color mode").click()
        page.get_by_role("button", name=choice).click()
        inside.locator(f'.explorer[data-theme="{choice.lower()}"]').wait_for()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == colour
        assert inside.locator("html").evaluate("(root) => getComputedStyle(root).backgroundColor") == colour


def test_the_search_puts_the_right_page_first(visit):
    page = visit("search")
    known = {*(name[:2] for name in NOTEBOOKS), "run"}
    asked = {query: right for query, right in QUERIES.items() if known.intersection(right)}
    first = {}
    for query in asked:
        page.locator("article .bd-search input").fill(query)
        first[query] = page.locator("#search-results a").first.get_attribute("href")

    right = [query for query in asked if first[query].removeprefix("notebooks/").startswith(asked[query])]
    assert len(right) >= 0.9 * len(asked), {query: first[query] for query in asked if query not in right}


SPELLINGS = {
    "reparameterizations": "reparameterisation",
    "GRAY": "grey",
    "amortis": "amortisation",
    "dithring": "dither",
}


@pytest.mark.parametrize("query, word", SPELLINGS.items())
def test_the_search_takes_other_spellings_beginnings_and_slips(visit, query, word):
    page = visit(f"search?q={query}")

    assert word in page.locator("#search-results li").first.inner_text().lower()


def test_the_search_says_when_it_finds_nothing(visit):
    page = visit("search?q=zzzzzz")

    assert page.get_by_role("status").inner_text().startswith("Nothing was found")
    assert page.locator("#search-results li").count() == 0


def test_what_is_typed_into_the_search_is_text_and_nothing_else(visit):
    page = visit("search?q=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E+free+bits")

    assert page.locator("article .bd-search input").input_value() == "<img src=x onerror=alert(1)> free bits"
    assert page.locator("#search-results li img").count() == 0


def test_the_keyboard_alone_leads_from_search_to_a_folded_solution(visit):
    page = visit("index")
    press = page.keyboard.press
    press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to main content"
    press("Enter")
    press("Control+k")
    page.keyboard.type("score function")
    press("Enter")
    page.wait_for_url("**/search.html?q=score*")
    page.locator("#search-results a").first.wait_for()
    press("Tab")
    assert page.evaluate("document.activeElement.closest('#search-results') !== null")
    press("Enter")
    page.wait_for_url("**/notebooks/02_*")
    page.locator("article summary", has_text="Solution 2.1").focus()
    press("Enter")
    assert page.locator("article details[open]").count() == 1
    assert page.locator("article details[open] pre").is_visible()
    press("Enter")
    assert page.locator("article details[open]").count() == 0


def test_forty_stops_of_the_keyboard_can_be_seen(visit):
    page = visit("notebooks/01_data_exploration")
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        page.wait_for_function("document.getAnimations().every((each) => each.playState !== 'running')")
        stop = page.evaluate(
            """() => {
                const at = document.activeElement, box = at.getBoundingClientRect(), style = getComputedStyle(at);
                const shown = box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight;
                return [at.outerHTML.slice(0, 80), shown, style.outlineStyle];
            }"""
        )
        seen.add(stop[0])
        assert stop[1] and stop[2] == "solid", stop
    assert len(seen) > 30


def test_on_a_phone_contents_and_headings_open_and_close_by_keyboard(visit):
    page = visit("notebooks/03_training", viewport={"width": 360, "height": 740})
    for button, inside in (("Site navigation", "4 Read the latent plane"), ("On this page", "One epoch, written out")):
        assert not any(link.is_visible() for link in page.locator(".bd-sidebar a", has_text=inside).all())
        page.get_by_role("button", name=button).focus()
        page.keyboard.press("Enter")
        page.get_by_role("dialog").get_by_role("link", name=inside).wait_for()
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="hidden")


def test_the_choice_of_colours_holds_on_the_next_page(visit):
    page = visit("index", color_scheme="light")
    page.get_by_role("button", name="Color mode").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Dark").focus()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Start here").click()
    page.wait_for_url("**/01_*")

    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_without_scripts_everything_but_the_search_and_the_explorer_is_there(visit):
    page = visit("notebooks/04_latent_visualization", java_script_enabled=False)

    still = page.locator(".explorer-still")
    assert still.is_visible() and still.get_attribute("alt").startswith("The explorer as a still picture")
    assert not page.locator(".explorer-frame").is_visible() and page.locator("math").first.is_visible()
    page.locator("article summary", has_text="Solution 4.1").click()
    assert page.locator("article details[open]").count() == 1
    assert "needs JavaScript" in visit("search", java_script_enabled=False).locator("main").inner_text()


def test_paper_is_light_and_the_screen_is_as_before(visit):
    page = visit("glossary", color_scheme="dark")
    theme = []
    for event in ("beforeprint", "afterprint"):
        page.evaluate("event => dispatchEvent(new Event(event))", event)
        theme.append(page.evaluate("document.documentElement.dataset.theme"))

    assert theme == ["light", "dark"]


def test_on_paper_stands_the_text_and_nothing_to_press(visit):
    page = visit("notebooks/05_generation")
    page.emulate_media(media="print")

    for part in (".bd-header", ".bd-sidebar-primary", ".bd-sidebar-secondary", ".toolbar", ".explorer-frame"):
        assert not page.locator(part).first.is_visible(), part
    assert page.locator(".explorer-still").is_visible()
    assert page.evaluate("[...document.querySelectorAll('article pre')].every((p) => p.scrollWidth <= p.clientWidth)")
    assert page.pdf().startswith(b"%PDF")


@pytest.mark.parametrize("name", [*PAGES, "images/latent_explorer"])
def test_no_page_weighs_more_than_three_and_a_half_megabytes(visit, name):
    """The explorer is a page of its own also where it runs in another, which loads it when the reader comes near."""
    heard = []
    page = visit(name, heard)
    page.wait_for_load_state("networkidle")
    sizes = {response.url: len(response.body()) for response in heard}

    framed = sum(size for url, size in sizes.items() if "latent_explorer" in url and url != page.url)
    assert 0.3e6 < sum(sizes.values()) - framed < 3.5e6, sizes
