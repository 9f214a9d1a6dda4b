"""The notebooks as files: what is committed, what tools/notebooks.py does with it, and whether nbval would notice."""

import ast
import base64
import io
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import NormalDist

import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

import helpers
from tools import notebooks as tool

ROOT = Path(__file__).resolve().parents[1]
REAL = sorted((ROOT / "notebooks").glob("*.ipynb"))
MODEL = ROOT / "notebooks" / "02_model_definition.ipynb"
CLINIC = ROOT / "notebooks" / "07_failure_clinic.ipynb"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGD4DwABBAEAX+XDSwAAAABJRU5ErkJggg=="
BADGE = "https://colab.research.google.com/github/OWNER/NAME/blob/main/notebooks"
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


def picture(data=PNG):
    return new_output("display_data", {"image/png": data, "text/plain": "<Figure>"})


def good_notebook(name="01.ipynb"):
    cells = [
        markdown("title", f"# See a pixel\n\n[next](02.ipynb) [![badge](../dot.png)]({BADGE}/{name}) [end](#The-end)"),
        code("setup", SETUP),
        markdown("one", '## The end\n\n<img src="../dot.png"> `[not](a-link.md)` $a[1](b)$'),
        code("number", "print(1.5)", stream("1.5\n")),
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
        "[other](https://github.com/OWNER/NAME-other) [else](https://github.com/pytorch/pytorch)\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    return tmp_path


# the real notebooks


def test_the_notebooks_are_numbered_without_a_gap():
    assert len(REAL) >= 3
    assert [path.name[:3] for path in REAL] == [f"{number:02d}_" for number in range(1, len(REAL) + 1)]


@pytest.mark.parametrize("path", [*REAL, ROOT / "README.md"], ids=lambda path: path.name)
def test_what_is_committed_has_no_problem(path):
    assert tool.problems(path) == []


def definition(sources, name):
    """The one definition of `name`, without docstrings, annotations, comments and layout."""
    nodes = [node for source in sources if f" {name}(" in source for node in ast.parse(source).body]
    (found,) = (node for node in nodes if getattr(node, "name", "") == name)
    for node in ast.walk(found):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            del node.body[0]
        for field in {"annotation", "returns"} & set(node._fields):
            setattr(node, field, None)
    return ast.dump(found, indent=1)


@pytest.mark.parametrize("name", ["VAE", "mlp"])
def test_notebook_02_defines_what_helpers_keeps(name):
    sources = [cell.source for cell in tool.read(MODEL).cells if cell.cell_type == "code"]

    assert definition(sources, name) == definition([(ROOT / "helpers.py").read_text(encoding="utf-8")], name)


def functions(source):
    """Each function and method in `source`, as it is called there, with its statements."""
    for node in ast.parse(source).body:
        in_class = [part for part in getattr(node, "body", []) if isinstance(part, ast.FunctionDef)]
        for part in [node] if isinstance(node, ast.FunctionDef) else in_class:
            name = part.name if part is node else f"{node.name}.{part.name}"
            yield name, part.body[ast.get_docstring(part) is not None :]


BROKEN = [
    pytest.param(cell.source, name, body, id=name)
    for cell in tool.code_cells(tool.read(CLINIC))
    for name, body in functions(cell.source)
    if any("# BROKEN" in cell.source.splitlines()[line.lineno - 1] for line in body)
]


def test_notebook_07_marks_its_broken_lines():
    assert len(BROKEN) >= 7


@pytest.mark.parametrize("source, name, body", BROKEN)
def test_a_broken_line_of_notebook_07_is_its_only_difference_to_the_sound_code(source, name, body):
    clinic = "\n\n".join(cell.source for cell in tool.code_cells(tool.read(CLINIC)))
    kept = (ROOT / "helpers.py").read_text(encoding="utf-8")
    method = name.partition(".")[2]
    sound = dict(functions(kept))[f"VAE.{method}"] if method else dict(functions(clinic))["sound"]

    changed = [line for line, right in zip(body, sound, strict=True) if ast.unparse(line) != ast.unparse(right)]

    assert len(changed) == 1
    assert "# BROKEN" in source.splitlines()[changed[0].lineno - 1]


# the setup cell

SETUP_CELL = tool.code_cells(tool.read(REAL[0]))[0].source


@pytest.fixture
def clone(tmp_path):
    """A clone with a helpers.py that costs nothing to import, a bare copy of it, and an empty folder."""
    tmp_path = tmp_path / "Größe ½ 衣服"
    source = tmp_path / "source"
    (source / "notebooks").mkdir(parents=True)
    (source / "notebooks" / "keep").touch()
    (source / "helpers.py").touch()
    for command in ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -qm a"):
        subprocess.run(["git", *command.split()], cwd=source, check=True)
    subprocess.run(["git", "clone", "-q", "--bare", source, tmp_path / "OWNER" / "NAME"], check=True)
    (tmp_path / "empty").mkdir()
    return tmp_path


def instead_of_github(clone):
    """The environment in which git takes the folder OWNER/NAME for the repository on GitHub, and uses no network."""
    config = {"COUNT": "1", "KEY_0": f"url.{clone.as_uri()}/.insteadOf", "VALUE_0": "https://github.com/"}
    return {"VAE_REPO": "OWNER/NAME", **{f"GIT_CONFIG_{name}": value for name, value in config.items()}}


def set_up(clone, folder, before="", cell=SETUP_CELL, **environment):
    """Run the setup cell in a fresh Python in `folder`; return the file of the `helpers` it ends with, or its error."""
    program = f"{before}\n{cell}\nprint(os.path.realpath(helpers.__file__))"
    result = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", program],
        cwd=clone / folder,
        env={**os.environ, **instead_of_github(clone), **environment},
        capture_output=True,
        encoding="utf-8",
    )
    return result.stderr or Path(result.stdout.strip())


def test_the_setup_cell_is_the_same_in_all_notebooks():
    cells = [tool.code_cells(tool.read(path))[0] for path in REAL]

    assert {cell.source for cell in cells} == {SETUP_CELL} and {cell.id for cell in cells} == {"setup"}
    assert not any(cell.outputs for cell in cells)


PLACES = {"source": "source", "source/notebooks": "source", "empty": "empty/NAME"}


@pytest.mark.parametrize("folder, root", PLACES.items())
def test_the_setup_cell_finds_helpers_or_fetches_it(clone, monkeypatch, folder, root):
    for name, value in instead_of_github(clone).items():
        monkeypatch.setenv(name, value)
    path = put(
        clone / folder / "alone.ipynb", new_notebook(cells=[code("a", SETUP_CELL), code("b", "helpers.__file__")])
    )

    result = tool.code_cells(nbformat.reads(tool.execute(path), 4))[1].outputs[0].data["text/plain"]

    assert Path(ast.literal_eval(result)).samefile(clone / root / "helpers.py")


def test_the_setup_cell_goes_by_the_notebook_that_vs_code_names(clone):
    notebook = clone / "source" / "notebooks" / "01.ipynb"

    found = set_up(clone, "empty", f"__vsc_ipynb_file__ = {str(notebook)!r}")

    assert found == (clone / "source" / "helpers.py").resolve() and list((clone / "empty").iterdir()) == []


def test_the_setup_cell_clones_once_however_often_it_runs(clone):
    again = f"{SETUP_CELL}\nopen(root / 'mark', 'w').close()\n{SETUP_CELL}"

    assert set_up(clone, "empty", again) == (clone / "empty" / "NAME" / "helpers.py").resolve()
    assert set_up(clone, "empty", VAE_REPO="NOBODY/NAME") == (clone / "empty" / "NAME" / "helpers.py").resolve()
    assert (clone / "empty" / "NAME" / "mark").exists() and len(list((clone / "empty").iterdir())) == 1


STRANGERS = {
    "beside the notebook": "open('helpers.py', 'w').close()",
    "on the path": "import sys; sys.path.insert(0, 'other')",
    "already imported": "import sys; sys.path.insert(0, 'other'); import helpers",
    "made in memory": "import sys, types; sys.modules['helpers'] = types.ModuleType('helpers')",
}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("folder, root", PLACES.items())
def test_the_setup_cell_ends_with_our_helpers_and_not_with_another(clone, stranger, folder, root):
    other = clone / folder / "other"
    other.mkdir()
    (other / "helpers.py").touch()

    assert set_up(clone, folder, STRANGERS[stranger]) == (clone / root / "helpers.py").resolve()


NOWHERE = {"GIT_CONFIG_KEY_0": "url.http://127.0.0.1:9/.insteadOf", "no_proxy": "127.0.0.1"}  # the discard port
NO_CLONE = {  # what is missing: the environment without it, what the message says of it
    "the repository": (
        {"VAE_REPO": "SOMEBODY/ELSE"},
        "SOMEBODY/ELSE' does not appear to be a git repository",
        "SOMEBODY/ELSE",
    ),
    "git": ({"PATH": ""}, "'git'", "OWNER/NAME"),
    "the network": (NOWHERE, "unable to access 'http://127.0.0.1:9/OWNER/NAME/'", "OWNER/NAME"),
}


@pytest.mark.parametrize("missing", NO_CLONE)
def test_the_setup_cell_says_what_it_needs_when_it_cannot_clone(clone, missing):
    environment, reason, name = NO_CLONE[missing]

    error = set_up(clone, "empty", **environment)

    assert reason in error and "another exception" not in error
    assert error.strip().endswith(f"Needs git, the internet and the right VAE_REPO (now {name}).")
    assert list((clone / "empty").iterdir()) == []


class NoSuchRepository(BaseHTTPRequestHandler):
    """GitHub's answer for a repository that does not exist: it asks who wants to know."""

    def do_GET(self):
        self.send_response(401)
        self.send_header("WWW-Authenticate", "Basic")
        self.end_headers()


def test_the_setup_cell_does_not_wait_for_a_password_when_the_repository_is_wrong(clone):
    with ThreadingHTTPServer(("127.0.0.1", 0), NoSuchRepository) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        github = f"url.http://127.0.0.1:{server.server_port}/.insteadOf"
        error = set_up(clone, "empty", GIT_CONFIG_KEY_0=github, no_proxy="127.0.0.1", GIT_ASKPASS="", SSH_ASKPASS="")
        server.shutdown()

    assert "terminal prompts disabled" in error and "the right VAE_REPO (now OWNER/NAME)" in error


# what is under test


def test_what_is_under_test_writes_outside_the_repository():
    output = Path(os.environ["VAE_OUTPUT"])

    assert helpers.OUTPUT == output and output.is_dir() and ROOT not in [output, *output.parents]


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
    "cell draw: an output larger than 300 kB (301)": outputs("draw", picture("A" * 301_000)),
    "the file is larger than 1 MB (1.0)": outputs("draw", *[picture("A" * 260_000)] * 4),
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
    "cell third: code cell 3 in a row": insert(7, "first", "second", "third"),
    "cell fourth: code cell 4 in a row": insert(2, "second", "third", "fourth"),
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
    "two code cells in a row": [insert(7, "first", "second")],
    "15 words on a figure": [sources(reading="word " * 15)],
    "a link to a named place": [sources(two='[x](#here) [y](#there) <a id="here"></a><a name="there"></a>')],
    "a path that is not local": [sources(two="[x](https://a.org/home/b), ../tmp/x, PNG at 300 dpi")],
}


@pytest.mark.parametrize("case", ALLOWED)
def test_check_allows(tree, case):
    notebook = good_notebook()
    for change in ALLOWED[case]:
        change(notebook)

    assert tool.problems(put(tree / "notebooks" / "01.ipynb", notebook)) == []


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


README = {
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
    return [path.read_text(encoding="utf-8") for path in [*sorted(root.glob("notebooks/*")), root / "README.md"]]


def test_repo_rewrites_badges_setup_cells_and_own_links_only(tree):
    old = "\n".join(texts(tree)).replace("NAME-other", "OTHER")

    assert tool.main(["repo", "me/my.fork", "--ref", "dev"]) == 0

    new = old.replace("OWNER/NAME/blob/main", "OWNER/NAME/blob/dev").replace("OWNER/NAME", "me/my.fork")
    assert "\n".join(texts(tree)) == new.replace("OWNER/OTHER", "OWNER/NAME-other").replace("OTHER", "NAME-other")
    assert tool.main(["check"]) == tool.main(["repo", "--check", "--ref", "dev", "me/my.fork"]) == 0


def test_repo_check_reports_a_badge_of_another_repository_and_writes_nothing(tree, capsys):
    path = tree / "notebooks" / "02.ipynb"
    path.write_text(path.read_text(encoding="utf-8").replace("github/OWNER", "github/somebody"), encoding="utf-8")
    before = texts(tree)

    assert tool.main(["repo", "--check", "OWNER/NAME"]) == 1
    assert capsys.readouterr().out.startswith("02.ipynb: names another repository\n4 files, 1 to rewrite")
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
    options = ["--nbval", "--nbval-current-env", "-p", "no:cacheprovider", "-rA", "--color=no"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options], cwd=folder, capture_output=True, encoding="utf-8"
    )
    outcomes = {}
    for outcome, name in re.findall(r"^(PASSED|FAILED|XFAIL|ERROR) ([\w.]+)::", result.stdout, re.MULTILINE):
        outcomes.setdefault(name, []).append(outcome)
    return outcomes


def alter_one_digit(path, copy):
    notebook = tool.read(path)
    output = tool.code_cells(notebook)[-1].outputs[0]
    output.text = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), output.text, count=1)
    put(copy, notebook)


def test_nbval_notices_one_altered_digit(tmp_path):
    path = put(tmp_path / "good.ipynb", new_notebook(cells=[code("one", "a = 25"), code("two", "print(a / 100)")]))
    tool.main(["run", str(path)])
    alter_one_digit(path, tmp_path / "altered.ipynb")

    assert nbval(tmp_path) == {"altered.ipynb": ["PASSED", "FAILED"], "good.ipynb": ["PASSED", "PASSED"]}


def test_nbval_notices_one_altered_digit_in_notebook_02(tmp_path):
    notebook = tool.read(MODEL)
    untagged = [
        cell for cell in tool.code_cells(notebook) if "nbval-ignore-output" not in cell.metadata.get("tags", [])
    ]
    last = next(cell for cell in untagged if cell.outputs and cell.outputs[0].get("name") == "stdout")
    notebook.cells = notebook.cells[: notebook.cells.index(last) + 1]
    path = put(tmp_path / "notebooks" / "good.ipynb", notebook)
    for module in ("helpers.py", "exercises.py"):  # their own folder stays the real one, with the data
        (tmp_path / module).symlink_to(ROOT / module)
    alter_one_digit(path, path.with_name("altered.ipynb"))

    outcomes = nbval(path.parent)

    assert set(outcomes["good.ipynb"]) == {"PASSED"}
    assert outcomes["altered.ipynb"] == [*outcomes["good.ipynb"][:-1], "FAILED"]


# formulas: what a notebook prints, computed a second time without torch

PRIOR = NormalDist()
FORMULAS = {
    "04: of a draw from the prior, √(π/2)": math.sqrt(math.pi / 2),
    "05: outermost quantile": PRIOR.inv_cdf(14.5 / 15),
    "05: prior mass within the quantile grid": 100 * (14.5 / 15 - 0.5 / 15) ** 2,
    "05: prior mass within the even grid": 100 * math.erf(3 / math.sqrt(2)) ** 2,
}


def printed_by(number):
    (path,) = [path for path in REAL if path.name.startswith(number)]
    streams = [output for cell in tool.code_cells(tool.read(path)) for output in cell.outputs if "text" in output]
    return "".join(output.text for output in streams)


@pytest.mark.parametrize("name", FORMULAS)
def test_a_printed_formula_agrees_with_the_standard_library(name):
    number, claim = name.split(": ", 1)
    value, tolerance = re.search(re.escape(claim) + r": ([\d.]+) ?%? \(± ([\d.]+)\)", printed_by(number)).groups()

    assert float(value) == pytest.approx(FORMULAS[name], abs=float(tolerance))


def test_the_grid_of_notebook_05_has_z1_to_the_right_and_z2_upwards(capsys):
    (cell,) = [cell for cell in tool.read(ROOT / "notebooks" / "05_generation.ipynb").cells if cell.id == "grid-points"]
    names = {"torch": torch, "Normal": torch.distributions.Normal, "claim": helpers.claim}
    exec(cell.source, names)

    grid = names["grid_of"](names["quantiles"]).view(15, 15, 2)

    expected = [PRIOR.inv_cdf((j + 0.5) / 15) for j in range(15)]
    torch.testing.assert_close(grid[:, :, 0], torch.tensor(expected).expand(15, 15))
    torch.testing.assert_close(grid[:, :, 1], torch.tensor(expected[::-1])[:, None].expand(15, 15))
    assert "but the text" not in capsys.readouterr().out


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
