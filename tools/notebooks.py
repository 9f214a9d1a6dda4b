"""Execute the notebooks, check what is committed, point everything at one repository.

python tools/notebooks.py run [NOTEBOOK ...]      execute in order, write the normal form in place (default: all)
python tools/notebooks.py run --reference         the same, then make notebook 03's weights the reference weights
python tools/notebooks.py check [FILE ...]        report every problem, exit 1 if any (default: all, and README.md)
python tools/notebooks.py repo OWNER/NAME [--ref main]   rewrite Colab badges, setup cells and README links
python tools/notebooks.py repo --check OWNER/NAME        report what `repo` would rewrite, exit 1 if anything

The normal form keeps two runs on one machine byte-identical: no timestamps, versions, widgets or progress bars.
"""

import argparse
import base64
import copy
import io
import itertools
import json
import os
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
from bs4 import BeautifulSoup
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal
from nbconvert.filters import markdown2html_mistune, strip_ansi
from PIL import Image
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
WIDGET = "application/vnd.jupyter.widget-view+json"
TQDM = re.compile(r"[^\[\]]*\[\d+:\d\d[^\[\]]*(?:/s|s/)[^\[\]]*\]")  # " 40%|████      | 2/5 [00:00<00:00, 9.81it/s]"
FOLDER = rf"{re.escape(str(ROOT))}|/(?:home|root|tmp|Users)/"
LOCAL = re.compile(rf"\bat 0x[0-9a-fA-F]+|(?<![\w.])(?:{FOLDER})|\b[A-Z]:\\+Users")
BADGE = re.compile(r"(colab\.research\.google\.com/github/)([\w.-]+/[\w.-]+)(/blob/)([\w./-]+?)(/notebooks/)")
SETUP = re.compile(r'(VAE_REPO\\?", \\?")([\w.-]+/[\w.-]+)')  # as Python, and as Python inside JSON


def series() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path: Path) -> nbformat.NotebookNode:
    """Return the notebook exactly as it is; raise ValueError when it is none."""
    try:
        notebook = nbformat.v4.reads(path.read_text(encoding="utf-8"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of cell ids, which `normal_form` puts in order
            nbformat.validate(copy.deepcopy(notebook))  # a copy, because it invents missing ids
    except (OSError, ValueError, AttributeError, KeyError, TypeError, nbformat.ValidationError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path.name} is not a valid notebook: {reason}") from error
    return notebook


def write(path: Path, content: bytes) -> None:
    """Replace the whole file or nothing, whenever the process dies."""
    with tempfile.TemporaryDirectory(prefix="write-", dir=path.parent) as scratch:
        (Path(scratch) / path.name).write_bytes(content)
        os.replace(Path(scratch) / path.name, path)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def normal_form(notebook: nbformat.NotebookNode) -> str:
    """Bring `notebook` into the form that is stored, and return the text of its file."""
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNELSPEC, "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen = set()
    for position, cell in enumerate(notebook.cells):
        own = re.fullmatch(r"(?!cell-\d+$)[a-z0-9-]{3,40}", cell.get("id", "")) and cell.id not in seen
        cell.id = cell.id if own else f"cell-{position:02d}"
        seen.add(cell.id)
        kept = {key: cell.metadata[key] for key in ("tags", "jupyter", "cellView") if cell.metadata.get(key)}
        cell.metadata = nbformat.from_dict(kept)
    for count, cell in enumerate(code_cells(notebook), start=1):
        cell.execution_count = count
        cell.outputs = normal_outputs(cell.outputs, count)
    return nbformat.v4.writes(notebook) + "\n"


def normal_outputs(outputs: list, count: int) -> list:
    kept = []
    for output in filter(None, map(normal_output, outputs)):
        if output.output_type == "execute_result":
            output.execution_count = count
        if kept and output.output_type == "stream" and output.name == kept[-1].get("name"):
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def normal_output(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """Return the output without what differs between runs or needs a kernel to be seen; None if nothing is left."""
    if output.get("name") == "stderr":
        lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[\w", "", output.text))
        return None if all(TQDM.fullmatch(line) for line in map(str.strip, lines) if line) else output
    if WIDGET in output.get("data", {}):
        output.data = {mime: output.data[mime] for mime in ("image/png", "text/plain") if mime in output.data}
        if "image/png" not in output.data:
            return None
    for mime, options in list(output.get("metadata", {}).items()):
        if mime in output.data:
            options.pop("needs_background", None)
        if mime not in output.data or not options:
            del output.metadata[mime]
    return output


def run(paths: list[Path], reference: bool) -> int:
    start = time.time()
    if not paths:
        raise SystemExit(f"There is no notebook in {ROOT / 'notebooks'}.")
    for path in paths:
        begin = time.perf_counter()
        print(f"{path.name}: ", end="", flush=True)
        write(path, execute(path).encode())
        print(f"{time.perf_counter() - begin:.1f} s", flush=True)
    output = Path(os.environ.get("VAE_OUTPUT", ROOT))  # as in helpers.py
    if reference:
        make_reference(output / "checkpoints" / "my_vae.pt", start)
    print(f"Executed {len(paths)} in {time.time() - start:.0f} s. Look at {path.parent} and {output / 'images'}.")
    return 0


def execute(path: Path) -> str:
    """Run every cell in a fresh kernel and return the new file; a failure ends the command and names the cell."""
    try:
        notebook = read(path)
    except ValueError as error:
        raise SystemExit(f"\n{error}") from None
    cells = ["(start of the kernel)"]
    normal_form(notebook)  # gives every cell an id for the message
    client = NotebookClient(
        notebook,
        timeout=600,
        record_timing=False,
        store_widget_state=False,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],  # newer kernels warn about their own transport
        config=Config({"KernelSpecManager": {"kernel_dirs": []}}),  # the running Python, not one installed elsewhere
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_start=lambda cell, cell_index: cells.append(cell.id),
    )
    try:
        client.execute()
    except (CellControlSignal, RuntimeError) as error:
        reason = strip_ansi(str(error))
        raise SystemExit(f"\n{path}: cell {cells[-1]} failed; the file stays as it was.\n{reason}") from None
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = palette(output.data["image/png"])
    return normal_form(notebook)


def palette(png: str) -> str:
    """Return the figure with a palette of 256 colours, half the size: grey loses nothing; a transparent one stays."""
    figure, small = Image.open(io.BytesIO(base64.b64decode(png))), io.BytesIO()
    if figure.convert("RGBA").getextrema()[3] != (255, 255):
        return png
    figure.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def make_reference(own: Path, start: float) -> None:
    if not own.is_file() or own.stat().st_mtime < start:
        raise SystemExit(f"This run did not write {own} (notebook 03 does); checkpoints/vae.pt stays as it was.")
    write(ROOT / "checkpoints" / "vae.pt", own.read_bytes())
    print(f"{own} is the reference now: checkpoints/vae.pt.")


def check(paths: list[Path]) -> int:
    found = [f"{path.name}: {problem}" for path in paths for problem in problems(path)]
    print("\n".join([*found, f"{len(paths)} files, {len(found)} problems."]))
    return 1 if found else 0


def problems(path: Path) -> list[str]:
    """Return what is wrong with one notebook, or with the links of README.md: one line each, with the cell's id."""
    if not path.is_file():
        return ["no such file"]
    try:
        if path.suffix == ".md":
            return list(link_problems(path))
        notebook = read(path)
        return [*file_problems(path, notebook), *cell_problems(notebook.cells), *link_problems(path)]
    except ValueError as error:  # this notebook or one that is compared with it cannot be read
        return [str(error)]


def file_problems(path: Path, notebook: nbformat.NotebookNode):
    if path.read_text(encoding="utf-8") != normal_form(copy.deepcopy(notebook)):
        yield "not in normal form: run tools/notebooks.py run"
    code = code_cells(notebook)
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        yield "execution counts are not 1..n: nbval compares nothing in a cell without one"
    if "widgets" in notebook.metadata:
        yield "metadata.widgets, which GitHub refuses to show"
    if path.stat().st_size > 1_000_000:
        yield f"the file is larger than 1 MB ({path.stat().st_size / 1e6:.1f})"
    setups = [cells[0].source for cells in map(code_cells, map(read, sorted(path.parent.glob("*.ipynb")))) if cells]
    if code and code[0].source != Counter(setups).most_common(1)[0][0]:
        yield f"cell {code[0].get('id')}: the setup cell differs from that of the other notebooks"


def cell_problems(cells: list):
    for cell, following in zip(cells, [*cells[1:], None]):
        found = itertools.chain(text_problems(cell), code_problems(cell, following))
        yield from (f"cell {cell.get('id')}: {problem}" for problem in found)
    limit = 3  # setup and imports may stand together; later runs of code are shorter
    for kind, group in itertools.groupby(cells, key=lambda cell: cell.cell_type):
        if kind == "code":
            yield from (f"cell {cell.get('id')}: code cell {limit + 1} in a row" for cell in list(group)[limit:][:1])
            limit = 2


def text_problems(cell):
    texts = [cell.source]
    for output in cell.get("outputs", []):
        texts += [output.get("text", ""), output.get("evalue", ""), *output.get("traceback", [])]
        texts += [str(value) for mime, value in output.get("data", {}).items() if not mime.startswith("image/")]
    yield from (f"a memory address or local path ({hit[0]})" for hit in map(LOCAL.search, texts) if hit)
    if "nbval-skip" in cell.metadata.get("tags", []) or "NBVAL_SKIP" in cell.source:
        yield "nbval-skip: every cell is tested"


def code_problems(cell, following):
    tags, outputs, lines = cell.metadata.get("tags", []), cell.get("outputs", []), cell.source.splitlines()
    if cell.cell_type == "code" and cell.source.rstrip().endswith(";"):
        yield "ends in ';', which does not silence a cell under nbval: write plt.show() or _ = ..."
    if cell.cell_type == "code" and "long" not in tags and len(lines) > 25:
        yield f"{len(lines)} lines of code, at most 25 (tag: long)"
    if cell.cell_type == "code" and "long" not in tags and max(map(len, lines), default=0) > 88:
        yield f"a line of {max(map(len, lines))} characters, at most 88 (tag: long)"
    for output in outputs:
        if output.output_type == "error" and "raises-exception" not in tags:
            yield f"error output ({output.ename})"
        if output.get("name") == "stderr":
            yield "stderr output"
        if (size := len(json.dumps(output))) > 300_000:
            yield f"an output larger than 300 kB ({size / 1e3:.0f})"
    figure = any(mime.startswith("image/") for output in outputs for mime in output.get("data", {}))
    read_by = html(following.source).get_text() if following and following.cell_type == "markdown" else ""
    if figure and len(read_by.split()) < 15:
        yield "no text reads the figure: the next cell should be markdown of at least 15 words"


def html(markdown: str) -> BeautifulSoup:
    """Return markdown as JupyterLab shows it: math and code hold no links, headings have their ids."""
    page = BeautifulSoup(markdown2html_mistune(markdown.replace("attachment:", "")), "html.parser")
    for link in page.select("a.anchor-link"):
        link.decompose()
    return page


def pages(path: Path) -> list[tuple[str, BeautifulSoup]]:
    if path.suffix == ".ipynb":
        cells = [cell for cell in read(path).cells if cell.cell_type == "markdown"]
        return [(f"cell {cell.get('id')}: ", html(cell.source)) for cell in cells]
    page = html(path.read_text(encoding="utf-8"))
    for heading in page.select("h1, h2, h3, h4"):  # GitHub's ids for them
        heading["id"] = re.sub(r"[^\w -]", "", heading.get_text().lower()).strip().replace(" ", "-")
    return [("", page)]


def link_problems(path: Path):
    headings = 0
    for cell, page in pages(path):
        headings += len(page.select("h1"))
        targets = [tag.get("href") or tag.get("src") for tag in page.select("a[href], img[src]")]
        yield from (cell + problem for problem in (broken(target, path) for target in targets) if problem)
    if headings != 1:
        yield f"{headings} H1 headings, expected one"


def broken(target: str, path: Path) -> str | None:
    """Return what is wrong with `target`, a link or image in the file `path`; None if nothing is."""
    url = urlsplit(target)
    file = path.parent / unquote(url.path) if url.path else path
    if url.netloc == "colab.research.google.com" and file.suffix == ".ipynb":
        right = file.name == path.name if path.suffix == ".ipynb" else (path.parent / "notebooks" / file.name).is_file()
        return None if right else f"the Colab badge opens {file.name}"
    if url.scheme or url.netloc:
        return None
    if not file.exists():
        return f"{target} does not exist"
    if url.fragment and file.suffix in (".md", ".ipynb"):
        named = [tag for _, page in pages(file) for tag in page.select("[id], a[name]")]
        if unquote(url.fragment) not in {name for tag in named for name in (tag.get("id"), tag.get("name"))}:
            return f"{target}: there is no such heading"
    return None


def repo(name: str, ref: str, only_report: bool) -> int:
    paths = filter(Path.is_file, [*series(), ROOT / "README.md"])
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    found = [pattern.findall(text) for text in texts.values() for pattern in (BADGE, SETUP)]
    old = {name, *(groups[1] for match in found for groups in match)}
    link = re.compile(rf"(github\.com/)(?:{'|'.join(map(re.escape, old))})(?![\w-]|\.(?!git\b)\w)")
    differing = 0
    for path, text in texts.items():
        new = BADGE.sub(rf"\g<1>{name}\g<3>{ref}\g<5>", text)
        new = link.sub(rf"\g<1>{name}", SETUP.sub(rf"\g<1>{name}", new))
        if new == text:
            continue
        differing += 1
        print(f"{path.name}: {'names another repository' if only_report else 'rewritten'}")
        if not only_report:
            write(path, new.encode())
    print(f"{len(texts)} files, {differing} {'to rewrite' if only_report else 'rewritten'} for {name} at {ref}.")
    return 1 if only_report and differing else 0


def repository(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/(?!\.+$)[\w.-]{1,100}(?<!\.git)", text, re.ASCII):
        return text
    raise argparse.ArgumentTypeError(f"expected OWNER/NAME as on GitHub, without address or .git, received {text!r}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("run")
    command.add_argument("paths", nargs="*", type=Path, metavar="NOTEBOOK")
    command.add_argument("--reference", action="store_true")
    command = commands.add_parser("check")
    command.add_argument("paths", nargs="*", type=Path, metavar="FILE")
    command = commands.add_parser("repo")
    command.add_argument("name", type=repository, metavar="OWNER/NAME")
    command.add_argument("--ref", default="main")
    command.add_argument("--check", action="store_true")
    given = parser.parse_args(arguments)
    if given.command == "run":
        return run(given.paths or series(), given.reference)
    if given.command == "check":
        return check(given.paths or [*series(), ROOT / "README.md"])
    return repo(given.name, given.ref, given.check)


if __name__ == "__main__":
    sys.exit(main())
