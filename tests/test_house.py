"""The house: which room may know which, that each name is taken where it lives, and that each room explains itself."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
ARROWS = {  # the only ones there are
    "notebooks": {"exercises", "explorer", "exact", "figures", "helpers"},
    "exercises": {"exact", "helpers"},
    "explorer": {"exact", "figures", "helpers", "storage"},
    "exact": {"helpers"},
    "figures": {"helpers", "storage"},
    "helpers": {"storage"},
    "storage": set(),
}
ROOMS = sorted(set(ARROWS) - {"notebooks"})
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOLUTION = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
DEFINITION = ast.FunctionDef | ast.ClassDef
ASSIGNMENT = ast.Assign | ast.AnnAssign


# reading code


def files(room):
    """The Python files of a room, which is one file or a package; of a package, its face comes first."""
    return sorted((ROOT / room).rglob("*.py")) if (ROOT / room).is_dir() else [ROOT / f"{room}.py"]


def parsed(path):
    """The code of a file; of a notebook, all that it executes, and the solutions that it prints."""
    if path.suffix == ".py":
        return ast.parse(path.read_text(encoding="utf-8"))
    cells = nbformat.read(path, as_version=4).cells
    parts = [[cell.source] if cell.cell_type == "code" else SOLUTION.findall(cell.source) for cell in cells]
    return ast.parse("\n".join(source for part in parts for source in part))


def room_of(module):
    """The room of a module's name, None where it is not ours."""
    room = (module or "").partition(".")[0]
    return room if room in ROOMS else None


def imports(tree):
    """Each import of ours anywhere in the code: the room, what is taken from it or None, and the name that it gets."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [(room_of(alias.name), None, alias.asname or room_of(alias.name)) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found = [(room_of(node.module), alias.name, alias.asname or alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found = [(room_of(word.value), None, None) for word in node.args if isinstance(word, ast.Constant)]
        else:
            continue
        yield from (one for one in found if one[0])


def taken(tree):
    """Pairs of a room and a name that the code takes from it."""
    pairs = {(room, name) for room, name, _ in imports(tree) if name}
    rooms = {known_as: room for room, name, known_as in imports(tree) if not name}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) in rooms:
            pairs.add((rooms[node.value.id], node.attr))
    return pairs


def assigned(node):
    """The names to which a statement gives a value."""
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)}


def second_names(tree):
    """Names to which a module gives nothing but what has a name in another room."""
    borrowed = {known_as for _, _, known_as in imports(tree)}
    aliases = [node for node in tree.body if isinstance(node, ASSIGNMENT) and node.value]
    plain = [node for node in aliases if re.fullmatch(r"[\w.]+", ast.unparse(node.value))]
    return {name for node in plain for name in assigned(node) if ast.unparse(node.value).split(".")[0] in borrowed}


def homes(tree):
    """The names that live in a module: those that it defines itself."""
    functions = {node.name for node in tree.body if isinstance(node, DEFINITION)}
    values = {name for node in tree.body if isinstance(node, ASSIGNMENT) for name in assigned(node)}
    return functions | values - second_names(tree)


def silent(tree):
    """Public functions, classes and methods without a docstring; a checker of exercises has its sentence in @task."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    inside = [node for body in (tree, *classes) for node in body.body if isinstance(node, DEFINITION)]
    public = [node for node in inside if not node.name.startswith("_") and not ast.get_docstring(node)]
    return [node.name for node in public if "task" not in {ast.unparse(d).split("(")[0] for d in node.decorator_list}]


LIVES_IN = {room: homes(parsed(files(room)[0])) for room in ROOMS}
EVERYWHERE = pytest.mark.parametrize(
    "room, path",
    [(room, path) for room in ROOMS for path in files(room)] + [("notebooks", path) for path in NOTEBOOKS],
    ids=lambda value: getattr(value, "name", value),
)


# the house


@EVERYWHERE
def test_every_arrow_between_two_rooms_is_in_the_drawing(room, path):
    reached = {other for other, _, _ in imports(parsed(path)) if other != room}

    assert reached <= ARROWS[room]


@EVERYWHERE
def test_every_name_is_public_and_taken_from_the_room_where_it_lives(room, path):
    others = {(other, name) for other, name in taken(parsed(path)) if other != room}

    assert [pair for pair in sorted(others) if pair[1] not in LIVES_IN[pair[0]] or pair[1].startswith("_")] == []


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_that_lives_in_one_room_has_a_second_name_in_another(room):
    assert [second_names(parsed(path)) for path in files(room)] == [set()] * len(files(room))


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_and_every_public_function_and_class_in_it_has_a_docstring(room):
    for path in files(room):
        assert ast.get_docstring(parsed(path)) and silent(parsed(path)) == []


def test_helpers_has_at_most_four_hundred_lines():
    assert len((ROOT / "helpers.py").read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_setup_cell_clears_the_names_of_all_rooms(path):
    setup = next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")

    assert f'"{" ".join(ROOMS)}"' in setup


# whether the checks find what they look for


WAYS_IN = [
    "import storage",
    "import storage as s",
    "from storage import ROOT",
    "if True:\n    import storage",
    "def f():\n    from storage import ROOT",
    "import importlib\nimportlib.import_module('storage')",
]
PASSED_ON = ["import figures\nfigures.CLASSES[0]", "from figures import CLASSES", "import figures as f\nf.CLASSES"]
SECOND_NAMES = ["raw = storage.raw", "from storage import ROOT\nraw = ROOT", "raw: object = storage.raw"]


@pytest.mark.parametrize("way", WAYS_IN)
def test_an_arrow_is_found(way):
    assert [room for room, _, _ in imports(ast.parse(way))] == ["storage"]


def test_another_module_is_no_room():
    assert list(imports(ast.parse("import torch, storages\nfrom . import storage\nfrom os import path"))) == []


@pytest.mark.parametrize("use", PASSED_ON)
def test_a_name_that_a_room_only_passes_on_is_found(use):
    assert taken(ast.parse(use)) == {("figures", "CLASSES")}
    assert "CLASSES" in LIVES_IN["helpers"] - LIVES_IN["figures"]


def test_a_room_behind_a_room_is_found():
    assert taken(ast.parse("import helpers\nhelpers.storage.ROOT")) == {("helpers", "storage")}
    assert "storage" not in LIVES_IN["helpers"]


@pytest.mark.parametrize("alias", SECOND_NAMES)
def test_a_second_name_is_found(alias):
    tree = ast.parse(f"import storage\nhere = storage.ROOT / 'a'\nthere = sorted(storage.IDX_SHA256)\n{alias}")

    assert second_names(tree) == {"raw"} and homes(tree) == {"here", "there"}


def test_a_silent_function_is_found():
    code = "def f(): pass\nclass A:\n    'a'\n    def m(self): pass\ndef _g(): pass\n@task('1.1', '')\ndef c(): pass"

    assert silent(ast.parse(code)) == ["f", "m"]
