"""The committed notebooks as the site sees them: what each is about, its file for Sphinx, its text without pictures.

Nothing is executed. The folder is that of the repository; every path is relative to it.
"""

import base64
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
WALKTHROUGH = 5  # the first so many notebooks; those after them go deeper
BADGE = re.compile(r"https://colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)/blob/[\w./-]+\.ipynb")
ALT = re.compile(r'alt=\s*(?:"[^"\n]*"\s*)+')
EXPLORER = "LatentExplorer("  # how the explorer's output begins


@dataclass
class Notebook:
    path: Path
    cells: list = field(repr=False)

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def number(self) -> int:
        return int(self.name[:2])

    @property
    def deeper(self) -> bool:
        return self.number > WALKTHROUGH

    @property
    def title(self) -> str:
        return re.match(r"# (.+)", self.cells[0].source)[1]

    @cached_property
    def colab(self) -> str:
        return BADGE.search(self.cells[0].source)[0]

    @property
    def task(self) -> str:
        """The sentence after *What you'll do*."""
        return re.search(r"\*\*What you'll do\.\*\* (.+)", self.cells[0].source)[1]

    @property
    def texts(self) -> list:
        return [cell for cell in self.cells if cell.cell_type == "markdown"]

    @property
    def words(self) -> int:
        return sum(len(re.sub(r"(?s)<details>.*?</details>", "", cell.source).split()) for cell in self.texts)

    @property
    def figures(self) -> list[str]:
        """The id of each cell that shows a figure."""
        return [cell.id for cell in self.cells if any(map(is_figure, cell.get("outputs", [])))]

    @property
    def exercises(self) -> int:
        return len(re.findall("<summary>", "".join(cell.source for cell in self.texts)))

    @property
    def predictions(self) -> list[tuple[str, str]]:
        """The id of each cell that asks readers to predict, and its question."""
        asked = [(cell.id, re.search(r"^\*\*Predict\.\*\* (.+)", cell.source, re.MULTILINE)) for cell in self.texts]
        return [(cell, found[1]) for cell, found in asked if found]

    def figure(self, cell_id: str) -> tuple[bytes, str]:
        """Return the PNG below a cell, and its alternative text."""
        outputs = [output for cell in self.cells if cell.id == cell_id for output in cell.outputs]
        (output,) = filter(is_figure, outputs)
        return base64.b64decode(output.data["image/png"]), alternative(output)

    def label(self, cell_id: str) -> str:
        """Return the name under which the site's pages link to a cell."""
        return f"nb{self.number:02d}-{cell_id}"


def series() -> list[Notebook]:
    paths = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    return [Notebook(path, nbformat.read(path, as_version=4).cells) for path in paths]


def is_figure(output) -> bool:
    return "image/png" in output.get("data", {})


def alternative(output) -> str:
    return output.get("metadata", {}).get("image/png", {}).get("alt", "")


# for Sphinx


def for_sphinx(notebook: Notebook) -> str:
    """Return the notebook's file as Sphinx gets it: each cell has a label, and what the page offers itself is gone."""
    copy = nbformat.read(notebook.path, as_version=4)
    copy.cells = [part for cell in copy.cells for part in labelled(cell, notebook.label(cell.id))]
    return nbformat.writes(copy)


def labelled(cell, label: str) -> list:
    if cell.cell_type == "markdown":
        text = without_navigation(cell.source) if cell.id == "title" else cell.source
        folded = text.startswith("<details>")
        cell.source = text.replace("<details>", f'<details id="{label}">', 1) if folded else f"({label})=\n{text}"
        return [cell]
    if cell.metadata.get("jupyter", {}).get("source_hidden"):
        cell.metadata.tags = [*cell.metadata.get("tags", []), "hide-input"]
    live = "still" not in cell.metadata.get("tags", [])  # else the picture says what the explorer's page cannot
    for output in cell.outputs:
        if live and output.get("data", {}).get("text/plain", "").startswith(EXPLORER):
            output.metadata["image/png"]["explorer"] = True
    return [nbformat.v4.new_markdown_cell(f"({label})="), cell]


def without_navigation(title: str) -> str:
    """Drop the lines of a title cell that lead to the other notebooks and to Colab."""
    kept = [line for line in title.splitlines() if line.count(".ipynb)") < 3 and "colab-badge" not in line]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept))


# without pictures


def as_text(notebook: Notebook) -> str:
    """Return the notebook as Markdown in which each figure is what its alternative text says."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            source = without_navigation(cell.source) if cell.id == "title" else cell.source
            parts.append(re.sub(r"\]\((\d\d_\w+)\.ipynb", r"](\1.md", source))
        elif not cell.metadata.get("jupyter", {}).get("source_hidden"):
            parts.append(f"```python\n{ALT.sub('alt=...', cell.source)}\n```")  # the text itself stands below
            parts += map(output_as_text, cell.outputs)
    return "\n\n".join(filter(None, parts)) + "\n"


def output_as_text(output) -> str:
    if is_figure(output):
        return f"> **Figure.** {alternative(output)}"
    text = output.get("text") or output.get("data", {}).get("text/plain", "")
    return f"```text\n{text.rstrip()}\n```"
