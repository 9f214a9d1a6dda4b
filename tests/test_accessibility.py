"""README and notebooks for readers who hear them: texts for images, headings in order, links that say where they go.

That every figure of a notebook is read by the text below it is one of the checks of tools/notebooks.py.
"""

import re

import pytest
from bs4 import BeautifulSoup

from tools import notebooks as tool

PAGES = [tool.ROOT / "README.md", *tool.series()]
BADGE = "Open in Colab"
VAGUE = {"here", "click here", "this", "this link", "link", "more", "read more", "see"}


def pages(path):
    return [(path.name + ": " + cell, page) for cell, page in tool.pages(path)]


def images_without_text(page):
    """Images whose alternative text is missing, a file's name or too short to say what there is to see."""
    texts = [(image.get("src"), image.get("alt", "").strip()) for image in page.select("img")]
    return [src for src, text in texts if text != BADGE and (len(text) < 20 or re.search(r"\.\w{3,4}$", text))]


def vague_links(page):
    """Links whose text, read on its own, does not say where they go."""
    texts = [
        (link["href"], link.get_text().strip() or " ".join(image.get("alt", "") for image in link.select("img")))
        for link in page.select("a[href]")
    ]
    return [href for href, text in texts if text.lower() in VAGUE or not text or "://" in text]


def jumps(levels):
    """Places where a heading lies more than one level below the one before it; the first must be the title."""
    return [(before, level) for before, level in zip([0, *levels], levels) if level > before + 1]


def levels(all_pages):
    return [int(heading.name[1]) for _, page in all_pages for heading in page.select("h1, h2, h3, h4, h5, h6")]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_image_has_a_text_that_says_what_it_shows(path):
    assert [(cell, found) for cell, page in pages(path) if (found := images_without_text(page))] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_says_where_it_goes(path):
    assert [(cell, found) for cell, page in pages(path) if (found := vague_links(page))] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_headings_begin_with_the_one_title_and_skip_no_level(path):
    found = levels(pages(path))

    assert jumps(found) == [] and found.count(1) == 1


# whether the checks find what they look for


@pytest.mark.parametrize("html", ['<img src="a">', '<img src="a" alt="">', '<img src="a" alt="images/loss_curve.png">'])
def test_an_image_without_a_text_is_found(html):
    good = '<img src="a" alt="A dot that stands in the middle.">'
    assert images_without_text(BeautifulSoup(html + good, "html.parser")) == ["a"]


@pytest.mark.parametrize("text", ["", "here", "Here", "https://example.org/page", "<img>", '<img alt="">'])
def test_a_vague_link_is_found(text):
    assert vague_links(BeautifulSoup(f'<a href="a">{text}</a><a href="a">the map</a>', "html.parser")) == ["a"]


@pytest.mark.parametrize("skipping", [[2], [1, 3], [1, 2, 4, 2]])
def test_a_skipped_level_is_found(skipping):
    assert len(jumps(skipping)) == 1 and jumps([1, 2, 3, 2, 3, 2]) == []
