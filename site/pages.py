"""What the pages of the site take from the notebooks, the glossary and CITATION.cff, as Markdown.

A page asks for a part by a comment, <!-- walkthrough -->, and for a section of README.md by <!-- README: Run it -->.
"""

import json
import re
import tomllib
from pathlib import Path

import yaml
from series import ROOT, Notebook

SITE = Path(__file__).resolve().parent
PARTS = {}  # the name of a part: the function of the notebooks that writes it


def part(function):
    PARTS[function.__name__.replace("_", "-")] = function
    return function


def fill(page: str, notebooks: list[Notebook]) -> str:
    """Return the page with each part that it asks for; KeyError for a part that nothing writes."""
    page = re.sub(r"<!-- README: (.+) -->", lambda asked: readme_section(asked[1]), page)
    return re.sub(r"<!-- ([\w-]+) -->", lambda asked: PARTS[asked[1]](notebooks), page)


def readme_section(heading: str) -> str:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"(?ms)^## {re.escape(heading)}$\n+(.*?)(?=^## |\Z)", readme)
    if not found:
        raise ValueError(f"README.md has no section {heading!r}, which a page of the site takes from it")
    return found[1].strip()


def glossary_file() -> dict:
    return tomllib.loads((SITE / "glossary.toml").read_text(encoding="utf-8"))


def place(cell: str, notebooks: list[Notebook]) -> tuple[Notebook, str]:
    """Return the notebook and the label of a cell that is named as in glossary.toml; ValueError where there is none."""
    number, _, cell_id = cell.partition(":")
    found = [notebook for notebook in notebooks if notebook.number == int(number)]
    if not found or (cell_id or "title") not in {each.id for each in found[0].cells}:
        raise ValueError(f"glossary.toml: there is no cell {cell}")
    return found[0], found[0].label(cell_id or "title")


def link(cell: str, notebooks: list[Notebook]) -> str:
    notebook, label = place(cell, notebooks)
    return f"[notebook {notebook.number}](#{label})"


def terms(notebooks: list[Notebook]) -> dict[str, str]:
    """Return, for the search page, the names of what each cell defines: {label: names}."""
    found = {}
    for term in glossary_file()["term"]:
        label = place(term["cell"], notebooks)[1]
        found[label] = "; ".join([*filter(None, [found.get(label)]), term["name"], *term["also"]])
    return found


# the front page


@part
def contents(notebooks):
    """The hidden lists from which Sphinx takes the order of the pages."""
    groups = {
        "The walkthrough": [f"{n.number} {n.title} <notebooks/{n.name}>" for n in notebooks if not n.deeper],
        "Going deeper": [f"{n.number} {n.title} <notebooks/{n.name}>" for n in notebooks if n.deeper],
        "Beside the notebooks": ["explorer", "glossary", "teachers", "run", "text", "about"],
    }
    return "\n\n".join(
        "```{toctree}\n:hidden:\n:caption: " + caption + "\n\n" + "\n".join(entries) + "\n```"
        for caption, entries in groups.items()
        if entries
    )


@part
def picture(notebooks):
    (generation,) = (notebook for notebook in notebooks if notebook.number == 5)
    return f"![{generation.figure('grid-plot')[1]}](images/decoder_grid.png){{.hero}}"


@part
def walkthrough(notebooks):
    return cards(notebook for notebook in notebooks if not notebook.deeper)


@part
def deeper(notebooks):
    return cards(notebook for notebook in notebooks if notebook.deeper)


def cards(notebooks) -> str:
    return "{.cards}\n" + "\n".join(
        f"- ![](thumbnails/{notebook.name}.png)\n\n"
        f"  [{notebook.number} {notebook.title}](notebooks/{notebook.name}.ipynb)\n\n"
        f"  {notebook.task}\n"
        for notebook in notebooks
    )


# notation and glossary


@part
def notation(notebooks):
    entries = []
    for symbol in glossary_file()["symbol"]:
        names = [f"{mark}{symbol[key]}{mark}" for key, mark in (("tex", "$"), ("code", "`")) if symbol.get(key)]
        entries.append(f"{', '.join(names)}\n: {symbol['is']} ({link(symbol['cell'], notebooks)})")
    return "\n\n".join(entries)


@part
def glossary(notebooks):
    known = sorted(glossary_file()["term"], key=lambda term: term["name"].replace("β", "beta").casefold())
    return "\n\n".join(f"{term['name']}\n: {term['is']} ({link(term['cell'], notebooks)})" for term in known)


# for teachers


@part
def counts(notebooks):
    measured = times()["seconds"]
    titles = ["notebook", "words", "figures", "predictions", "exercises", "seconds to run"]
    rows = [titles, ["---", *["--:"] * 5]]
    for notebook in notebooks:
        name = f"[{notebook.number} {notebook.title}](notebooks/{notebook.name}.ipynb)"
        found = [f"{notebook.words:,}", len(notebook.figures), len(notebook.predictions), notebook.exercises]
        seconds = measured.get(notebook.name)
        rows.append([name, *found, "not measured" if seconds is None else f"{seconds:.0f}"])
    shown = 6 if measured else 5
    return "\n".join(f"| {' | '.join(map(str, row[:shown]))} |" for row in rows)


@part
def measured_on(notebooks):
    measured = times()
    if not measured["seconds"]:
        return "Each notebook says at its top how long it takes to read and to run."
    on = f"{measured['date']}: {measured['processor']}"
    return f"`.venv/bin/python site/times.py` has measured the running times on {on}."


def times() -> dict:
    path = SITE / "times.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"seconds": {}, "slow": {}}


@part
def slow_cells(notebooks):
    slow = [
        f"- {seconds:.0f} seconds: notebook {notebook.number}, [{cell}](#{notebook.label(cell)})"
        for notebook in notebooks
        for cell, seconds in times()["slow"].get(notebook.name, {}).items()
    ]
    return "\n".join(["A class waits for these cells:\n", *slow]) if slow else ""


@part
def predictions(notebooks):
    parts = []
    for notebook in notebooks:
        if not notebook.predictions:
            continue
        parts.append(f"### {notebook.number} {notebook.title}\n")
        parts += [f"- {question} ([its place](#{notebook.label(cell)}))" for cell, question in notebook.predictions]
        parts.append("")
    return "\n".join(parts)


# the series without pictures, and how to cite it


@part
def text_files(notebooks):
    return "\n".join(f"- [{each.number} {each.title}](path:text/{each.name}.md)" for each in notebooks)


def citation() -> dict:
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


@part
def repository(notebooks):
    return f"[repository]({citation()['repository-code']})"


@part
def bibtex(notebooks):
    cited = citation()
    authors = " and ".join(map(bibtex_name, cited["authors"]))
    return (
        f"```bibtex\n@misc{{vae_you_can_see,\n  title  = {{{{{cited['title']}}}}},\n  author = {{{authors}}},\n"
        f"  year   = {{{cited['date-released'][:4]}}},\n  url    = {{{cited['repository-code']}}}\n}}\n```"
    )


def bibtex_name(author: dict) -> str:
    """Return an author of CITATION.cff, who is a person or an entity, as BibTeX wants it."""
    return f"{{{author['name']}}}" if "name" in author else f"{author['family-names']}, {author['given-names']}"


def as_text(page: str, notebooks: list[Notebook]) -> str:
    """Return a page of the site as plain Markdown: links to cells become links to the text of their notebook."""
    files = {notebook.number: f"{notebook.name}.md" for notebook in notebooks}
    return re.sub(r"\]\(#nb(\d\d)-[\w-]+\)", lambda label: f"]({files[int(label[1])]})", page)
