"""Build the site from the committed notebooks, in seconds and without a network: python site/build.py [FOLDER]

FOLDER/html is the site, and its folder text/ the series as Markdown with words in place of pictures. FOLDER is
site/_build unless another is named; its folders source/, html/ and jupyter_execute/ are replaced.
"""

import io
import shutil
import sys
import time
from pathlib import Path

import pages
from PIL import Image, ImageOps
from series import ROOT, Notebook, as_text, for_sphinx, series
from sphinx.cmd.build import build_main

SITE = Path(__file__).resolve().parent
BUILD = Path(sys.argv[1]) if len(sys.argv) > 1 else SITE / "_build"
SOURCE, HTML = BUILD / "source", BUILD / "html"
REPOSITORY = ("README.md", "LICENSE", "CITATION.cff")  # what pages link to, at the same place as in the repository
FACES = {1: "grid", 2: "ae-plane", 3: "plane", 4: "colored", 5: "territory", 6: "pictures"}  # else the first figure


def assemble(notebooks: list[Notebook]) -> None:
    """Fill the folder from which Sphinx builds: its pages, and what they link to, where it is on the site."""
    shutil.copytree(ROOT / "images", SOURCE / "images")
    shutil.copytree(SITE / "static", SOURCE / "_static")
    for name in REPOSITORY:
        shutil.copyfile(ROOT / name, SOURCE / name)
    for path in SITE.glob("pages/*.md"):
        put(path.name, pages.fill(path.read_text(encoding="utf-8"), notebooks))
    for notebook in notebooks:
        put(f"notebooks/{notebook.path.name}", for_sphinx(notebook))
        put(f"text/{notebook.name}.md", as_text(notebook))
        put(f"thumbnails/{notebook.name}.png", thumbnail(notebook))
    put("text/glossary.md", pages.as_text((SOURCE / "glossary.md").read_text(encoding="utf-8"), notebooks))


def put(name: str, content: str | bytes) -> None:
    path = SOURCE / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def thumbnail(notebook: Notebook) -> bytes:
    """Return one of the notebook's figures, small: a wide one as a whole, of others the middle."""
    png, _ = notebook.figure(FACES.get(notebook.number, notebook.figures[0]))
    figure, small = Image.open(io.BytesIO(png)).convert("RGB"), io.BytesIO()
    wide = figure.width > 1.6 * figure.height
    figure = ImageOps.pad(figure, (480, 320), color="white") if wide else ImageOps.fit(figure, (480, 320))
    figure.quantize(128).save(small, "PNG", optimize=True)
    return small.getvalue()


def main() -> int:
    start, notebooks = time.perf_counter(), series()
    for folder in (SOURCE, HTML, BUILD / "jupyter_execute"):
        shutil.rmtree(folder, ignore_errors=True)
    assemble(notebooks)
    failed = build_main(["-b", "html", "-W", "-q", "-j", "auto", "-c", str(SITE), str(SOURCE), str(HTML)])
    if failed:
        return failed
    for path in SOURCE.glob("images/*"):
        shutil.copyfile(path, HTML / "images" / path.name)
    for notebook in notebooks:
        shutil.copyfile(notebook.path, HTML / "notebooks" / notebook.path.name)
    size = sum(path.stat().st_size for path in HTML.rglob("*") if path.is_file())
    seconds = time.perf_counter() - start
    print(f"{len(notebooks)} notebooks, {size / 1e6:.1f} MB, in {seconds:.1f} s: {HTML / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
