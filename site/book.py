"""What Sphinx does not do by itself: alternative texts, the explorer in the page, formulas, local files, the index.

`Figure` is found by myst-nb through pyproject.toml, the rest by conf.py.
"""

import html
import json
import re
import shutil
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from math_core import LatexError, LatexToMathML
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.osutil import relative_uri

LOG = logging.getLogger(__name__)
TEX = LatexToMathML()
EXPLORER = "images/latent_explorer.html"
FRAME = (
    '<div class="explorer-frame"><iframe src="{uri}" loading="lazy" '
    'title="The latent explorer: a map of garments, and the garment at the point that you choose"></iframe></div>\n'
)


# figures


class Figure:
    """A MIME renderer of myst-nb, which by itself takes only width and height from the metadata of a figure."""

    mime_priority_overrides = ()

    @staticmethod
    def handle_mime(renderer, data, inline):
        """Return the figure with its alternative text, below the running explorer where it is the explorer's."""
        if inline or data.mime_type != "image/png":
            return None
        about = data.output_metadata.get("image/png", {})
        if not about.get("alt"):
            renderer.logger.warning("a figure without an alternative text", subtype="image", line=data.line)
        (image,) = renderer.render_image(data)
        image["alt"] = about.get("alt", "")
        image["classes"].append("explorer-still" if about.get("explorer") else "figure")
        return [explorer_frame(), image] if about.get("explorer") else [image]


class explorer_frame(nodes.General, nodes.Element):
    """The place of the explorer in a page."""


class Explorer(Directive):
    """`{explorer}` in a page."""

    def run(self):
        return [explorer_frame()]


def visit_explorer(writer, node):
    page = writer.builder.get_target_uri(writer.builder.current_docname)
    writer.body.append(FRAME.format(uri=relative_uri(page, EXPLORER)))
    raise nodes.SkipNode


# formulas


def visit_math(writer, node):
    """Write TeX as MathML: no script, and readable for screen readers."""
    display = isinstance(node, nodes.math_block)
    try:
        formula = TEX.convert_with_local_state(node.astext(), displaystyle=display)
    except LatexError as error:
        LOG.warning("a formula that cannot be shown: %s", error, location=node)
        raise nodes.SkipNode from None
    writer.body.append(f'<div class="formula">{formula}</div>\n' if display else formula)
    raise nodes.SkipNode


# files of the repository that a page links to


def link_local_files(app: Sphinx, doctree: nodes.document) -> None:
    """Let links to files lead to a copy at the same place of the site, where Sphinx would give them another name."""
    page = app.builder.get_target_uri(app.env.docname)
    for link in list(doctree.findall(addnodes.download_reference)):
        path, source = app.env.relfn2path(link["reftarget"], app.env.docname)
        target = Path(app.outdir) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        link.replace_self(nodes.reference("", "", *link.children, refuri=relative_uri(page, path), internal=True))


def anchor(heading: str) -> str:
    """Return the name of a heading in a link, as JupyterLab makes it."""
    return heading.replace(" ", "-")


# search


def write_search_index(app: Sphinx, error: Exception | None) -> None:
    """Write what the search page looks through: one entry for each section, with its place and its text."""
    if error:
        return
    entries = []
    for docname in sorted(app.env.found_docs):
        doctree = app.env.get_doctree(docname)
        page = app.builder.get_target_uri(docname)
        for section in doctree.findall(nodes.section):
            top = isinstance(section.parent, nodes.document)
            entries.append(
                {
                    "url": page if top else f"{page}#{section['ids'][0]}",
                    "page": app.config.book_titles.get(docname, app.env.titles[docname].astext()),
                    "section": "" if top else section[0].astext(),
                    "terms": "; ".join(filter(None, map(app.config.book_terms.get, own_ids(section)))),
                    "text": own_text(section),
                }
            )
    target = Path(app.outdir) / "_static" / "search-index.js"
    target.write_text(f"const SECTIONS = {json.dumps(entries, ensure_ascii=False)};\n", encoding="utf-8")


def own_ids(node: nodes.Node) -> list[str]:
    """Return the ids in a section, not those of the sections in it."""
    within = [child for child in node.children if not isinstance(child, nodes.Text | nodes.section)]
    return [*node.get("ids", []), *(each for child in within for each in own_ids(child))]


def own_text(section: nodes.section) -> str:
    """Return the words of a section without those of the sections in it; figures as their texts, formulas as shown."""
    return re.sub(r"\s+", " ", "".join(map(words, section.children[1:]))).strip()


def words(node: nodes.Node) -> str:
    if isinstance(node, nodes.Text):
        return node.astext()
    if isinstance(node, nodes.image):
        return f" {node.get('alt', '')} "
    if isinstance(node, nodes.math):
        return html.unescape(re.sub(r"<[^>]*>", "", TEX.convert_with_local_state(node.astext(), displaystyle=False)))
    if isinstance(node, nodes.section | nodes.math_block | nodes.raw):
        return ""
    return "".join(map(words, node.children)) + (" " if isinstance(node.parent, nodes.Structural | nodes.Body) else "")


def setup(app: Sphinx) -> dict:
    app.add_config_value("book_terms", {}, "env")
    app.add_config_value("book_titles", {}, "env")
    app.add_node(explorer_frame, html=(visit_explorer, None))
    app.add_directive("explorer", Explorer)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
    app.connect("doctree-read", link_local_files, priority=100)  # before Sphinx collects them as downloads
    app.connect("build-finished", write_search_index)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
