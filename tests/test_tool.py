"""tools/notebooks.py: what it runs, writes, records, reports and rewrites, and whether nbval would notice the rest."""

import ast
import base64
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

import helpers
from tools import notebooks as tool

ROOT = Path(__file__).resolve().parents[1]
REAL = sorted((ROOT / "notebooks").glob("*.ipynb"))
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGD4DwABBAEAX+XDSwAAAABJRU5ErkJggg=="
LONG_ALT = "A picture that has very many pixels and nothing to see."
ALT = "One pixel, black on a white ground, with nothing around it."
BADGE = "https://colab.research.google.com/github/OWNER/NAME/blob/main/notebooks"
KNOWN = "\u2713 known: 7\n"
SETUP = 'REPO = os.environ.get("VAE_REPO", "OWNER/NAME")'
READING = "The figure shows one pixel. " * 5
DRAW = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
BAR = "from tqdm.auto import tqdm\nfor _ in tqdm(range(3)):\n    print('a')"
TEXT_BAR = "from tqdm import tqdm\nfor _ in tqdm(range(3), leave=False):\n    pass"
SLIDER = "import ipywidgets\nipywidgets.FloatSlider()"
STILL = f'display({{"{tool.WIDGET}": {{}}, "image/png": "{PNG}", "text/plain": "still"}}, raw=True)'


def markdown(name, text):
    return new_markdown_cell(text, id=name)


def code(name, source, *outputs, **metadata):
    return new_code_cell(source, id=name, outputs=list(outputs), metadata=metadata)


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def picture(data=PNG, alt=ALT):
    metadata = {"image/png": {"alt": alt}} if alt else {}
    return new_output("display_data", {"image/png": data, "text/plain": "<Figure>"}, metadata=metadata)


def good_notebook(name="01.ipynb"):
    cells = [
        markdown("title", f"# See a pixel\n\n[next](02.ipynb) [![badge](../dot.png)]({BADGE}/{name}) [end](#The-end)"),
        code("setup", SETUP),
        markdown("one", '## The end\n\n<img src="../dot.png"> `[not](a-link.md)` $a[1](b)$'),
        code("number", "print(1.5)", stream("1.5\n")),
        code("known", "claim('known', 7)", stream(KNOWN if name == "01.ipynb" else "")),
        markdown("two", "Now we draw it."),
        code("draw", DRAW, picture()),
        markdown("reading", READING),
    ]
    return new_notebook(cells=cells)


def put(path, notebook):
    path.parent.mkdir(exist_ok=True)
    path.write_text(tool.normal_form(notebook), encoding="utf-8")
    return path


def cell(notebook, name):
    return next(cell for cell in notebook.cells if cell.id == name)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A small repository with three good notebooks, which the tool takes for its own."""
    for name in ("01.ipynb", "02.ipynb", "03.ipynb"):
        put(tmp_path / "notebooks" / name, good_notebook(name))
    (tmp_path / "dot.png").touch()
    (tmp_path / "README.md").write_text(
        f"# Pixels: a tour\n\n[first](notebooks/01.ipynb) [![c](dot.png)]({BADGE}/01.ipynb) [up](#pixels-a-tour)\n"
        "[clone](https://github.com/OWNER/NAME.git) [CI](https://github.com/OWNER/NAME/actions)\n"
        "[other](https://github.com/OWNER/NAME-other) [else](https://github.com/pytorch/pytorch)\n"
        "[book](https://OWNER.github.io/NAME/) [its page](https://OWNER.github.io/NAME/a.html)\n"
        "[other book](https://OWNER.github.io/NAME-other/)\n",
        encoding="utf-8",
    )
    (tmp_path / "CITATION.cff").write_text("repository-code: https://github.com/OWNER/NAME\n", encoding="utf-8")
    known = {"known": {"notebook": "01", "value": 7, "unit": "", "tol": 0, "effect": False, "low": None, "high": None}}
    (tmp_path / "notebooks" / "claims.json").write_text(json.dumps(known), encoding="utf-8")
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    return tmp_path


# check


def test_check_finds_nothing_in_good_notebooks(tree, capsys):
    assert tool.main(["check"]) == 0
    assert capsys.readouterr().out == "4 files, 0 problems.\n"


def sources(**cells):
    """Return what gives the named cells these sources."""
    return lambda notebook: [cell(notebook, name).update(source=source) for name, source in cells.items()]


def outputs(name, *new):
    return lambda notebook: cell(notebook, name).update(outputs=list(new))


def insert(position, *names):
    return lambda notebook: notebook.cells.__setitem__(slice(position, position), [code(name, "") for name in names])


def tag(name, *tags):
    return lambda notebook: cell(notebook, name).metadata.update(tags=list(tags))


def error(value="no", *lines):
    return new_output("error", ename="ValueError", evalue=value, traceback=list(lines))


def expected_error(*texts):
    changes = outputs("number", error(*texts)), tag("number", "raises-exception")
    return lambda notebook: [change(notebook) for change in changes]


SPOILED = {  # how the message begins: how the notebook is spoiled
    "cell draw: error output (ValueError)": outputs("draw", error()),
    "cell draw: stderr output": outputs("draw", stream("careful\n", "stderr")),
    "cell number: ends in ';'": sources(number="print(1.5);"),
    "cell number: a memory address or local path (at 0x7f01)": outputs("number", stream("<a at 0x7f01>")),
    "cell number: a memory address or local path (/home/)": outputs("number", stream("in\n/home/me/data")),
    "cell draw: a memory address or local path (/tmp/)": outputs(
        "draw", new_output("display_data", {"a/b": "'/tmp/a'"})
    ),
    "cell number: a memory address or local path (/tmp/)": expected_error("/tmp/v"),
    "cell number: a memory address or local path (/Users/)": expected_error("no", "in line 1", "in /Users/me/a.py"),
    "cell draw: a memory address or local path (/root/)": sources(draw="open('/root/a')"),
    "cell two: a memory address or local path (C:\\Users)": sources(two="see C:\\Users\\me"),
    f"cell two: a memory address or local path ({ROOT})": sources(two=f"see {ROOT}/data"),
    "cell draw: an output larger than 300 kB (301)": outputs("draw", picture("A" * 301_000, LONG_ALT)),
    "the file is larger than 1 MB (1.0)": outputs("draw", *[picture("A" * 260_000, LONG_ALT)] * 4),
    "cell setup: the setup cell differs": sources(setup="import os"),
    "cell two: ../helpers.py does not exist": sources(two="[here](../helpers.py)"),
    "cell two: 04.ipynb does not exist": sources(two="[next](04.ipynb)"),
    "cell two: ../no.png does not exist": sources(two="![x](../no.png)"),
    "cell two: ../gone.png does not exist": sources(two='<img src="../gone.png">'),
    "cell two: no.png does not exist": sources(two="![pasted](attachment:no.png)"),
    "cell two: #Nowhere: there is no such heading": sources(two="[x](#Nowhere)"),
    "cell two: 02.ipynb#No: there is no such heading": sources(two="[x](02.ipynb#No) [y](02.ipynb#The-end)"),
    "cell two: the Colab badge opens 02.ipynb": sources(two=f"[x]({BADGE}/02.ipynb)"),
    "2 H1 headings": sources(two="# Another title"),
    "0 H1 headings": sources(title="See a pixel"),
    "cell number: 26 lines of code": sources(number="\n".join(["print(1)"] * 26)),
    "cell number: a line of 89 characters": sources(number=f"print({'1' * 82})"),
    "cell draw: no text reads the figure": sources(reading="word " * 14),
    "cell draw: nbval-skip": tag("draw", "nbval-skip"),
    "cell number: nbval-skip": sources(number="# NBVAL_SKIP\nprint(1)"),
    "cell third: code cell 3 in a row": insert(8, "first", "second", "third"),
    "cell fourth: code cell 4 in a row": insert(2, "second", "third", "fourth"),
    "cell draw: a figure without an alternative text": outputs("draw", picture(alt="")),
    "cell draw: a figure without an alternative text that says": outputs("draw", picture(alt="x" * 39)),
    "cell draw: a figure without an alternative text that says what": outputs("draw", picture(alt="A plot of " + ALT)),
    "cell draw: its alternative text has 77": outputs("draw", picture(alt=f"{ALT} It weighs 77 grams.")),
    "cell two: no cell above shows 2.5": sources(two="The number is 2.5, and 1.5 is shown above."),
    "cell one: no cell above shows 3.5": sources(one="## The end\n\nIt will print 3.5.", number="print(7 / 2)"),
    "cell known: the claim 'known' stands where no output is compared": tag("known", "nbval-ignore-output"),
    "cell number: the claim 'a' is not confirmed by claims.json": outputs("number", stream("\u2713 a: 3\n")),
    "cell number: the claim 'b' is not confirmed": outputs("number", stream("\u00b7 b: 1.5 nats\n")),
    "cell number: the claim 'b' is not confirmed by": outputs(
        "number", stream("\u2717 b: 9.5 (the text was written for 1.5 \u00b1 0.2)\n")
    ),
}


@pytest.mark.parametrize("message", SPOILED)
def test_check_finds(tree, capsys, message):
    notebook = good_notebook()
    SPOILED[message](notebook)
    put(tree / "notebooks" / "01.ipynb", notebook)

    assert tool.main(["check"]) == 1
    found, summary = capsys.readouterr().out.splitlines()
    assert found.startswith(f"01.ipynb: {message}") and summary == "4 files, 1 problems."


ALLOWED = {
    "an expected error": [expected_error("no")],
    "a long line": [sources(number=f"print({'1' * 90})"), tag("number", "long")],
    "a long cell": [sources(number="\n".join(["print(1)"] * 26)), tag("number", "long")],
    "25 lines": [sources(number="\n".join(["print(1)"] * 25))],
    "setup and imports in a row": [insert(2, "second", "third")],
    "two code cells in a row": [insert(8, "first", "second")],
    "15 words on a figure": [sources(reading="word " * 15)],
    "a link to a named place": [sources(two='[x](#here) [y](#there) <a id="here"></a><a name="there"></a>')],
    "a path that is not local": [sources(two="[x](https://a.org/home/b), ../tmp/x, PNG at 1.5 dpi")],
}


@pytest.mark.parametrize("case", ALLOWED)
def test_check_allows(tree, case):
    notebook = good_notebook()
    for change in ALLOWED[case]:
        change(notebook)

    assert list(tool.problems(put(tree / "notebooks" / "01.ipynb", notebook))) == []


UNTIDY = {  # a change of the stored file: the problem it makes
    '"execution_count": 2': ('"execution_count": null', "execution counts are not 1..n"),
    '"language_info": {': ('"widgets": {}, "language_info": {', "metadata.widgets"),
    '"id": "two"': ('"id": "one"', "not in normal form"),
    '"id": "two",': ("", "not in normal form"),
    '"nbformat": 4': ('"nbformat": 4 ', "not in normal form"),
    '"name": "stdout",': ('"naem": "stdout",', "01.ipynb is not a valid notebook"),
    '"cells": [': ('"cells": {', "01.ipynb is not a valid notebook"),
    '"cells"': ('"worksheets"', "01.ipynb is not a valid notebook"),
}


@pytest.mark.parametrize("old", UNTIDY)
def test_check_finds_in_a_file_that_the_tool_did_not_write(tree, old):
    path, (new, message) = tree / "notebooks" / "01.ipynb", UNTIDY[old]
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")

    assert any(problem.startswith(message) for problem in tool.problems(path))


def test_check_reports_all_else_beside_a_file_that_is_no_notebook(tree, capsys):
    broken, whole = sorted((tree / "notebooks").glob("*.ipynb"))[:2]
    broken.write_text("<<<<<<< HEAD", encoding="utf-8")
    whole.write_text(whole.read_text(encoding="utf-8") + "\n", encoding="utf-8")

    assert tool.main(["check"]) == 1
    said = capsys.readouterr().out
    assert f"{broken.name}: {broken.name} is not a valid notebook" in said
    assert f"{whole.name}: not in normal form" in said and "nowhere printed" not in said


README = {
    "It costs 77 nats.": "neither claims.json nor benchmark.json has 77",
    "![77 dots](dot.png)": "neither claims.json nor benchmark.json has 77",
    "[x](notebooks/09.ipynb)": "notebooks/09.ipynb does not exist",
    "![x](images/no.png)": "images/no.png does not exist",
    "[x](#Pixels:-a-tour)": "#Pixels:-a-tour: there is no such heading",
    f"[x]({BADGE}/09.ipynb)": "the Colab badge opens 09.ipynb",
}


@pytest.mark.parametrize("line", README)
def test_check_finds_in_the_readme(tree, capsys, line):
    with (tree / "README.md").open("a", encoding="utf-8") as file:
        file.write(line)

    assert tool.main(["check", str(tree / "README.md")]) == 1
    assert capsys.readouterr().out.splitlines()[0] == f"README.md: {README[line]}"


def test_check_names_a_file_that_does_not_exist(tree, capsys):
    assert tool.main(["check", str(tree / "none.ipynb")]) == 1
    assert "none.ipynb: no such file" in capsys.readouterr().out


# claims: numbers that are recorded, and numbers in prose


CLAIMING = """import sys
sys.path.insert(0, "..")
from helpers import claim"""
CLAIMS = [  # a cell of a small series
    'claim("loss", 252.84, "nats", 2.3)',
    'claim("steps", 860)\nclaim("gap", np.float64(1.26), "nats", 0.4, effect=True)',
]
KEPT = ("claim", "_digits", "set_seed")
BEGIN = """import json
import math
import os
from pathlib import Path
from types import SimpleNamespace

torch = SimpleNamespace(manual_seed=lambda seed: None)
CLAIMS = Path(__file__).parent / "notebooks" / "claims.json"
"""


def small_helpers():
    """What a claim needs of our helpers, without PyTorch: a kernel imports that for longer than all the rest takes."""
    source = (ROOT / "helpers.py").read_text(encoding="utf-8")
    parts = [node for node in ast.parse(source).body if getattr(node, "name", "") in KEPT]
    assert len(parts) == len(KEPT)
    return "\n\n\n".join([BEGIN, *(ast.get_source_segment(source, part) for part in parts)]) + "\n"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A series of two notebooks with claims, executed and recorded: once, as kernels are slow."""
    root = tmp_path_factory.mktemp("recorded")
    (root / "helpers.py").write_text(small_helpers(), encoding="utf-8")
    (root / "exact.py").touch()
    for name, source in zip(("02_a", "03_b"), CLAIMS):
        cells = [code("setup", CLAIMING), code("imports", "import numpy as np"), markdown("text", f"# {name}")]
        put(root / "notebooks" / f"{name}.ipynb", new_notebook(cells=[*cells, code("claims", source)]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tool, "ROOT", root)
        assert tool.main(["run", "--record"]) == 0
    return root


@pytest.fixture
def claiming(recorded, tmp_path, monkeypatch):
    """A copy of the recorded series, which the tool takes for its own."""
    shutil.copytree(recorded, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    return tmp_path


def replaced(text, old, new):
    assert text.count(old) == 1
    return text.replace(old, new)


def change(path, old, new):
    path.write_text(replaced(path.read_text(encoding="utf-8"), old, new), encoding="utf-8")


def test_record_keeps_what_was_printed_and_marks_it(claiming):
    assert tool.records() == {
        "loss": record("02", 252.8, "nats", 2.3),
        "steps": record("03", 860, "", 0),
        "gap": record("03", 1.26, "nats", 0.4, effect=True),
    }
    printed = [tool.code_cells(tool.read(path))[-1].outputs[0].text for path in tool.series()]
    assert printed == ["\u2713 loss: 252.8 nats\n", "\u2713 steps: 860\n\u2713 gap: 1.26 nats\n"]
    assert tool.main(["check", *map(str, tool.series())]) == 0


def record(notebook, value, unit, tol, effect=False, low=None, high=None):
    return {"notebook": notebook, "value": value, "unit": unit, "tol": tol, "effect": effect, "low": low, "high": high}


def test_a_notebook_runs_in_the_running_python(tmp_path, monkeypatch):
    foreign = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    foreign.parent.mkdir(parents=True)
    foreign.write_text('{"argv": ["false"], "display_name": "another", "language": "python"}', encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    put(tmp_path / "a.ipynb", new_notebook(cells=[code("which", "import sys\nprint(sys.prefix)")]))

    executed, _ = tool.execute(tmp_path / "a.ipynb")

    assert executed.cells[0].outputs[0].text.strip() == sys.prefix


def test_record_prints_what_moved(claiming, capsys):
    change(claiming / "notebooks" / "02_a.ipynb", "252.84, ", "251.0, ")
    change(claiming / "notebooks" / "03_b.ipynb", "860)", "430)")
    change(claiming / "notebooks" / "03_b.ipynb", "0.4, ", "0.3, ")
    capsys.readouterr()

    tool.main(["run", "--record"])

    moved = [line for line in capsys.readouterr().out.splitlines() if line.startswith("claims.json: ")]
    assert moved == [
        "claims.json: gap: tol 0.4 -> 0.3",
        "claims.json: loss: value 252.8 -> 251.0",
        "claims.json: steps: value 860 -> 430",
    ]


def test_record_takes_the_whole_series_or_nothing(claiming):
    before = (claiming / "notebooks" / "claims.json").read_bytes()

    with pytest.raises(SystemExit, match="--record takes the whole series"):
        tool.main(["run", "--record", str(claiming / "notebooks" / "02_a.ipynb")])
    assert (claiming / "notebooks" / "claims.json").read_bytes() == before


def test_record_refuses_a_name_that_is_used_twice(claiming):
    change(claiming / "notebooks" / "03_b.ipynb", 'claim(\\"steps\\"', 'claim(\\"loss\\"')
    before = [path.read_bytes() for path in sorted((claiming / "notebooks").iterdir())]

    with pytest.raises(SystemExit, match=r"the claim 'loss' is made twice; claims\.json stays as it was"):
        tool.main(["run", "--record"])
    assert [path.read_bytes() for path in sorted((claiming / "notebooks").iterdir())] == before


def test_run_shows_the_truth_beside_the_record_and_leaves_it_alone(claiming):
    before = (claiming / "notebooks" / "claims.json").read_bytes()
    change(claiming / "notebooks" / "02_a.ipynb", "252.84, ", "260.0, ")
    change(claiming / "notebooks" / "03_b.ipynb", "1.26)", "1.1)")

    tool.main(["run"])

    printed = [tool.code_cells(tool.read(path))[-1].outputs[0].text for path in tool.series()]
    assert printed == [
        "\u2717 loss: 260.0 nats (the text was written for 252.8 \u00b1 2.3)\n",
        "\u2713 steps: 860\n\u2713 gap: 1.10 nats\n",
    ]
    assert (claiming / "notebooks" / "claims.json").read_bytes() == before


CANARIES = {  # what is altered after the record: whether nbval still passes
    "nothing": (None, True),
    "a value within the margin": (("252.84, ", "254.9, "), True),
    "a value beyond the margin": (("252.84, ", "255.2, "), False),
    "a value that is none": (("252.84, ", "float('nan'), "), False),
    "the margin": (("2.3)", "2.4)"), False),
    "the unit": (('"nats"', '"bits"'), False),
    "the name": (('claim("loss', 'claim("costs'), False),
    "the claim, gone": ((CLAIMS[0], "None"), False),
}


def test_nbval_passes_another_number_within_the_margin_and_nothing_else_and_no_other_record(claiming):
    change(claiming / "notebooks" / "claims.json", '"value": 860', '"value": 861')
    notebook = tool.read(claiming / "notebooks" / "02_a.ipynb")
    *setup, claimed = tool.code_cells(notebook)
    sources = [replaced(claimed.source, *pair) if pair else claimed.source for pair, _ in CANARIES.values()]
    notebook.cells = [*setup, *(code(f"c{k}", source, *claimed.outputs) for k, source in enumerate(sources))]
    put(claiming / "notebooks" / "02_a.ipynb", notebook)

    outcomes = nbval(claiming / "notebooks")

    passed = [outcome == "PASSED" for outcome in outcomes["02_a.ipynb"][len(setup) :]]
    assert outcomes["03_b.ipynb"] == ["PASSED", "PASSED", "FAILED"]
    assert dict(zip(CANARIES, passed)) == {name: passes for name, (_, passes) in CANARIES.items()}


ALTERED = {  # in claims.json or a notebook after the record: what check says
    "02_a.ipynb: cell claims: the claim 'loss' is 259.8, recorded as 252.8 \u00b1 2.3": (
        "02_a.ipynb",
        ": 252.8 nats",
        ": 259.8 nats",
    ),
    "02_a.ipynb: cell claims: the claim 'loss' is 252.8, recorded as 256.8 \u00b1 2.3": (
        "claims.json",
        "252.8",
        "256.8",
    ),
    "02_a.ipynb: cell claims: the claim 'loss' is recorded for notebook 05": ("claims.json", '"02"', '"05"'),
    "03_b.ipynb: cell claims: the claim 'gap' is an effect of 1.26, less than three times its margin 0.5": (
        "claims.json",
        '"tol": 0.4',
        '"tol": 0.5',
    ),
    "claims.json: 'more' is recorded and nowhere printed": (
        "claims.json",
        '"gap": {',
        '"more": {"value": 1, "low": null, "high": null}, "gap": {',
    ),
}


@pytest.mark.parametrize("message", ALTERED)
def test_check_finds_in_what_was_recorded(claiming, capsys, message):
    name, old, new = ALTERED[message]
    change(claiming / "notebooks" / name, old, new)
    capsys.readouterr()

    assert tool.main(["check", *map(str, tool.series())]) == 1
    assert message in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(("printed", "passes"), [("255.1", True), ("255.2", False)])
def test_check_allows_what_a_tick_may_show_at_the_very_edge(claiming, printed, passes):
    path = claiming / "notebooks" / "claims.json"
    path.write_text(path.read_text(encoding="utf-8").replace("2.3", "2.26"), encoding="utf-8")  # 255.055 has a tick
    path = claiming / "notebooks" / "02_a.ipynb"
    change(path, ": 252.8 nats", f": {printed} nats")

    found = [*tool.claim_problems(path, tool.read(path))]

    assert any("recorded as" in problem for problem in found) != passes


def test_check_finds_a_claim_and_a_text_that_are_used_twice(tree, capsys):
    for name in ("02.ipynb", "03.ipynb"):
        notebook = good_notebook(name)
        outputs("draw", picture("B" * 8))(notebook)
        outputs("known", stream(KNOWN))(notebook)
        put(tree / "notebooks" / name, notebook)

    tool.main(["check"])

    out = capsys.readouterr().out
    assert "the claim 'known' is made 3 times" in out and f"2 different figures have the same text: {ALT}" in out


MARGINS = {  # value, tol, effect, lowest and highest of the seeds: what is wrong with the margin
    (5.0, 1.0, False, None, None): [],
    (5.0, 1.0, False, 4.2, 5.9): [],
    (5.0, 1.0, False, 4.0, 6.04): [],
    (5.0, 1.0, False, 3.9, 5.5): ["has the margin 1.0, and its seeds lie up to 1.1 away"],
    (5.0, 1.0, False, 4.8, 5.3): ["has the margin 1.0, and its seeds lie within 0.3"],
    (5.0, 1.0, False, 4.8, 5.7): [],
    (5.0, 1.0, True, 4.5, 5.9): [],
    (2.9, 1.0, True, 2.4, 3.7): ["is an effect of 2.9, less than three times its margin 1.0"],
    (-3.0, 1.0, True, -3.4, -2.1): [],
    (7, 2, False, 6, 9): [],
    (7, 2, False, 4, 9): ["has the margin 2, and its seeds lie up to 3 away"],
    (7, 2, False, 7, 7): [],
}


@pytest.mark.parametrize("margin", MARGINS, ids=str)
def test_margins_follow_the_seeds(margin):
    value, tol, effect, low, high = margin

    assert list(tool.margin_problems(record("01", value, "", tol, effect, low, high))) == MARGINS[margin]


NUMERALS = {
    "it costs 252.8 nats, 43 % of 10,000": ["252.8", "43", "10,000"],
    "`z = 3` and $x^2$ and $$a\n= 7$$ and\n```\n5\n```": [],
    "[5 Make](05_x.ipynb), ![12 dots](a3.png), [![Open 4](b.svg)](01.ipynb)": [],
    "notebook 5, notebooks 7, 8 and 9, section 4.2, exercises 1.1 and 1.2": [],
    "## 3. The third\n**6.2 Search.** and 17": ["17"],
    "Burda et al. 2016, MNIST28, z1, 2-D": ["2"],
    "<details>3</details>": ["3"],
}


@pytest.mark.parametrize("text", NUMERALS)
def test_numerals_of_prose_are_those_outside_code_formulas_links_and_names(text):
    assert tool.numerals(text) == NUMERALS[text]


@pytest.mark.parametrize("numeral, shown", [("2.5", 2.46), ("2.5", -2.5), ("43", 42.6), ("50", 0.5), ("1,000", 1000)])
def test_a_numeral_stands_in_a_rounded_number_and_in_a_share(numeral, shown):
    assert tool.stands_in(numeral, {shown, 77.7})


@pytest.mark.parametrize("numeral, shown", [("2.5", 2.44), ("2.50", 2.46), ("43", 43.6), ("5", 0.5), ("2", math.inf)])
def test_another_numeral_does_not(numeral, shown):
    assert not tool.stands_in(numeral, {shown, 77.7})


# seeds

SEEDED = """import os
import sys
sys.path.insert(0, "..")
from helpers import claim, set_seed"""


@pytest.fixture
def seeded(claiming):
    """The series of `claiming`, with a number in notebook 03 that depends on the seed."""
    path = claiming / "notebooks" / "03_b.ipynb"
    source = 'claim("test recon + kl", 100 + set_seed(0) / 1000, "nats", 2)'
    cells = [code("setup", SEEDED), markdown("text", "# b"), code("claims", source)]
    put(path, new_notebook(cells=cells))
    return claiming


def test_seeds_shift_the_seed_are_kept_and_give_ranges_and_a_long_row(seeded, capsys):
    assert tool.main(["seeds", "--count", "2"]) == 0
    assert "seed 2: 03_b" in capsys.readouterr().out
    tool.main(["run", "--record"])

    known = tool.records()
    assert known["test recon + kl"] == record("03", 100.0, "nats", 2, low=100.0, high=102.0)
    assert known["loss"] == record("02", 252.8, "nats", 2.3, low=252.84, high=252.84)
    rows = (seeded / "notebooks" / "long.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[:3] for row in rows[1:]] == [
        ["test recon + kl", "1", "101"],
        ["test recon + kl", "2", "102"],
    ]


def test_seeds_run_again_only_what_changed(seeded, capsys):
    tool.main(["seeds", "--count", "1"])
    capsys.readouterr()
    for path, old, new in (
        ("02_a.ipynb", '252.84, \\"nats\\", 2.3', '252.84, \\"nats\\", 2.4'),  # a margin: no number changes
        ("03_b.ipynb", "100 + ", "200 + "),
    ):
        change(seeded / "notebooks" / path, old, new)

    tool.main(["seeds", "--count", "1"])

    done = [line.partition(":")[2].split(":")[0].strip() for line in capsys.readouterr().out.splitlines()[:-1]]
    assert done == ["02_a", "03_b"]  # notebook 03 trains what the others load


@pytest.mark.parametrize(
    "source",
    [
        "a = 1  # why",
        "a=1",
        "figures.show(alt='else')",
        "claim('a', 1.0, 'b', tol=3)",
        'def f():\n    "doc"\n    return 1',
    ],
)
def test_what_changes_no_number_starts_no_seed(source):
    others = {
        "a = 1  # why": "a = 1",
        "a=1": "a = 1",
        "figures.show(alt='else')": "figures.show(alt='one')",
        "claim('a', 1.0, 'b', tol=3)": "claim('a', 1.0, 'b', tol=4, effect=True)",
    }
    assert tool.bare(source) == tool.bare(others.get(source, "def f():\n    return 1"))
    assert tool.bare(source) != tool.bare(source.replace("1", "2")) or "1" not in source


@pytest.fixture
def with_long_rows(claiming):
    """A notebook that defines two rows, notes each time that one is computed, and fails in a cell without the tag."""
    source = """def measure(seed):
    with open("computed.txt", "a") as file:
        file.write(f"{seed} ")
    return {"loss": 100 + seed, "alive": 2}


long_rows = {"short": measure, "other": lambda seed: {"loss": seed / 4}}"""
    cells = [code("rows", source, tags=["rows"]), code("live", "raise RuntimeError")]
    return put(claiming / "notebooks" / "04_c.ipynb", new_notebook(cells=cells))


def test_long_computes_the_rows_of_a_notebook_and_resumes(with_long_rows, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["long", str(with_long_rows)]
    assert tool.main([*command, "--count", "1", "--rows", "short"]) == 0
    assert tool.main([*command, "--count", "2"]) == 0

    assert (tmp_path / "computed.txt").read_text().split() == ["0", "1"]  # seed 0 was not computed again
    assert "short, seed 1: loss 101, alive 2" in capsys.readouterr().out
    found = [(line["row"], line["seed"], line["value"]) for line in tool.long_lines()]
    assert found == [
        *(("other: loss", "0", "0"), ("other: loss", "1", "0.25")),
        *(("short: alive", "0", "2"), ("short: alive", "1", "2")),
        *(("short: loss", "0", "100"), ("short: loss", "1", "101")),
    ]


def test_long_says_which_rows_there_are(with_long_rows, claiming):
    with pytest.raises(SystemExit, match="--rows: expected some of short, other; received shrot"):
        tool.main(["long", str(with_long_rows), "--rows", "shrot"])
    without = put(claiming / "notebooks" / "05_d.ipynb", new_notebook(cells=[code("nothing", "1")]))
    with pytest.raises(
        SystemExit, match=r"05_d\.ipynb: expected a cell tagged rows that defines long_rows, found none"
    ):
        tool.main(["long", str(without)])


@pytest.mark.parametrize("tol", [0.0001, 0.03, 0.3, 1, 2.5, 24])
@pytest.mark.parametrize("value", [0.0349, -0.00001, 252.8649, 12345.678, 7])
def test_the_tool_rounds_as_a_claim_does(value, tol):
    assert tool.printed(value, tol) == helpers._digits(value, tol)


# run


def test_two_runs_are_byte_identical_and_keep_what_a_reader_can_see(tmp_path):
    shown = {"draw": DRAW, "bar": BAR, "text-bar": TEXT_BAR, "slider": SLIDER, "still": STILL}
    path = put(tmp_path / "a.ipynb", new_notebook(cells=[code(name, source) for name, source in shown.items()]))

    runs = [(tool.main(["run", str(path)]), path.read_bytes()) for _ in range(2)]

    assert runs[0] == runs[1] and runs[0][0] == 0
    draw, bar, *nothing, still = [cell.outputs for cell in tool.read(path).cells]
    assert [set(output.data) for output in draw + still] == [{"image/png", "text/plain"}] * 2
    assert [output.text for output in bar] == ["a\na\na\n"] and nothing == [[], []]


def test_the_normal_form_orders_ids_counts_and_metadata():
    one = code("NotGood", "1", new_output("execute_result", {"text/plain": "1"}, execution_count=7), editable=True)
    notebook = new_notebook(cells=[one, code("cell-07", ""), code("good", "", tags=["long"]), code("twice", "")])
    notebook.cells[3].id, notebook.metadata["widgets"] = "good", {"state": {}}

    text = tool.normal_form(notebook)

    cells = nbformat.reads(text, 4).cells
    assert tool.normal_form(nbformat.reads(text, 4)) == text and text.endswith("}\n") and "widgets" not in text
    assert [cell.id for cell in cells] == ["cell-00", "cell-01", "good", "cell-03"]
    assert [cell.execution_count for cell in [*cells, cells[0].outputs[0]]] == [1, 2, 3, 4, 1]
    assert [cell.metadata for cell in cells] == [{}, {}, {"tags": ["long"]}, {}]


def test_the_normal_form_joins_streams_and_drops_what_differs_between_runs():
    draw, bar = picture(), stream(" 50%|█  | 1/2 [00:01<00:01, 1.00s/it]\r", "stderr")
    draw.metadata = {tool.WIDGET: {"a": 1}, "text/plain": {}, "image/png": {"width": 3, "needs_background": "light"}}
    notebook = new_notebook(cells=[code("all", "", stream("a"), bar, stream("b"), draw, stream("c"))])

    tool.normal_form(notebook)

    first, second, third = notebook.cells[0].outputs
    assert (first.text, second.metadata, third.text) == ("ab", {"image/png": {"width": 3}}, "c")


def test_the_normal_form_keeps_a_warning_on_stderr():
    warning = "UserWarning: look out [00:12]\n 50%|█  | 1/2 [00:01<00:01, 1.00s/it]"
    notebook = new_notebook(cells=[code("warn", "", stream("a"), stream(warning, "stderr"), stream("b"))])

    tool.normal_form(notebook)

    assert [output.text for output in notebook.cells[0].outputs] == ["a", warning, "b"]


def test_a_failing_notebook_stays_as_it_was_and_is_named(tmp_path):
    good, bad, late = (tmp_path / name for name in ("good.ipynb", "bad.ipynb", "late.ipynb"))
    for path, source in {good: "print(1)", bad: "print(2)\n1 / 0", late: "print(3)"}.items():
        put(path, new_notebook(cells=[code("division", source)]))
    before = {path: path.read_bytes() for path in (good, bad, late)}

    command = [sys.executable, tool.__file__, "run", good, bad, late]
    result = subprocess.run(command, capture_output=True, encoding="utf-8")

    assert result.returncode == 1
    assert f"{bad}: cell division failed" in result.stderr and "ZeroDivisionError: division by zero" in result.stderr
    assert [path.read_bytes() == before[path] for path in (good, bad, late)] == [False, True, True]
    assert sorted(tmp_path.iterdir()) == sorted(before)


@pytest.fixture
def checkpoints(tree, monkeypatch):
    monkeypatch.setenv("VAE_OUTPUT", str(tree / "own"))
    for name, content in {"own/checkpoints/my_vae.pt": b"old", "checkpoints/vae.pt": b"reference"}.items():
        (tree / name).parent.mkdir(parents=True)
        (tree / name).write_bytes(content)
    return tree


WRITE = "import os, pathlib\npathlib.Path(os.environ['VAE_OUTPUT'], 'checkpoints/my_vae.pt').write_bytes(b'new')"


def test_reference_takes_the_weights_of_this_run(checkpoints):
    path = put(checkpoints / "a.ipynb", new_notebook(cells=[code("save", WRITE)]))

    assert tool.main(["run", "--reference", str(path)]) == 0
    assert (checkpoints / "checkpoints" / "vae.pt").read_bytes() == b"new"


def test_reference_refuses_the_weights_of_an_earlier_run(checkpoints):
    path = put(checkpoints / "a.ipynb", new_notebook(cells=[code("none", "1")]))

    with pytest.raises(SystemExit, match="did not write"):
        tool.main(["run", "--reference", str(path)])
    assert (checkpoints / "checkpoints" / "vae.pt").read_bytes() == b"reference"


# repo


def texts(root):
    paths = [*sorted(root.glob("notebooks/*")), root / "README.md", root / "CITATION.cff"]
    return [path.read_text(encoding="utf-8") for path in paths]


def test_repo_rewrites_badges_setup_cells_and_own_links_only(tree):
    old = "\n".join(texts(tree))

    assert tool.main(["repo", "me/my.fork", "--ref", "dev"]) == 0

    new = re.sub("OWNER/NAME(?!-)", "me/my.fork", old.replace("OWNER/NAME/blob/main", "OWNER/NAME/blob/dev"))
    assert "\n".join(texts(tree)) == re.sub(r"OWNER\.github\.io/NAME(?!-)", "me.github.io/my.fork", new)
    assert tool.main(["check"]) == tool.main(["repo", "--check", "--ref", "dev", "me/my.fork"]) == 0


def test_repo_check_reports_a_badge_of_another_repository_and_writes_nothing(tree, capsys):
    path = tree / "notebooks" / "02.ipynb"
    path.write_text(path.read_text(encoding="utf-8").replace("github/OWNER", "github/somebody"), encoding="utf-8")
    before = texts(tree)

    assert tool.main(["repo", "--check", "OWNER/NAME"]) == 1
    assert capsys.readouterr().out.startswith("02.ipynb: names another repository\n5 files, 1 to rewrite")
    assert texts(tree) == before


def test_repo_reaches_the_badge_and_the_setup_cell_of_every_real_notebook(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")

    tool.main(["repo", "me/fork"])

    for path in REAL:
        text = (tmp_path / "notebooks" / path.name).read_text(encoding="utf-8")
        assert f"/github/me/fork/blob/main/notebooks/{path.name}" in text and r"VAE_REPO\", \"me/fork\"" in text


@pytest.mark.parametrize("name", ["me", "https://github.com/me/fork", "me/fork.git", "me/my fork", "-me/fork", "me/.."])
def test_repo_refuses_what_is_no_repository_name(tree, capsys, name):
    before = texts(tree)

    with pytest.raises(SystemExit) as stop:
        tool.main(["repo", "--", name])

    assert stop.value.code == 2 and "expected OWNER/NAME as on GitHub" in capsys.readouterr().err
    assert texts(tree) == before


# the canary: nbval, as .pytest.ini runs it, sees one altered digit


def nbval(folder):
    """Return {file name: the outcomes of its cells} of a strict run over the notebooks in `folder`."""
    sanitiser = Path(os.environ["VAE_OUTPUT"]) / "sanitiser.cfg"
    options = ["--nbval", "--nbval-current-env", f"--nbval-sanitize-with={sanitiser}"]
    options += ["-p", "no:cacheprovider", "-rA", "--color=no"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options], cwd=folder, capture_output=True, encoding="utf-8"
    )
    outcomes = {}
    found = re.findall(r"^(PASSED|FAILED|XFAIL|ERROR) ([\w.]+)::Cell (\d+)", result.stdout, re.MULTILINE)
    for outcome, name, _ in sorted(found, key=lambda line: int(line[2])):
        outcomes.setdefault(name, []).append(outcome)
    return outcomes


def alter_one_digit(path, copy):
    notebook = tool.read(path)
    output = tool.code_cells(notebook)[-1].outputs[0]
    output.text = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), output.text, count=1)
    put(copy, notebook)


@pytest.mark.parametrize("channels, error", [(1, 0), (3, 16)], ids=["grey", "colours"])
def test_a_figure_becomes_smaller_and_a_grey_one_keeps_every_pixel(channels, error):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 90, channels)).repeat(3 // channels, axis=2)
    original = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).convert("RGBA").save(original, "PNG")

    stored = base64.b64decode(tool.palette(base64.b64encode(original.getvalue()).decode()))

    assert len(stored) < len(original.getvalue())
    assert np.abs(np.asarray(Image.open(io.BytesIO(stored)).convert("RGB")) - pixels).mean() <= error


def test_a_transparent_figure_stays_as_it_is():
    original = io.BytesIO()
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(original, "PNG")
    png = base64.b64encode(original.getvalue()).decode()

    assert tool.palette(png) == png
