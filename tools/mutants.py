"""Break the modules on purpose, one small change at a time, and see whether the tests notice: `make mutants`.

mutants.py [FILE[:FUNCTION] ...] [--list]      such as exact.py helpers.py:fit helpers.py:VAE helpers.py:VAE.encode

Each mutant is one change of one expression or statement: a swapped operator, a number that is a little or a lot off, a
removed call, decorator or keyword, two swapped arguments. It is killed when a test of its function fails or hangs; the
rest survives and is listed. Left alone are texts for the reader (messages, docstrings), as the tests quote them, and
moves between devices and the names of encodings, as the machine of the tests has one device and UTF-8.

Exit status 1 when a room kills less than 95 % of its mutants. A few cannot be killed at all: EQUIVALENT excuses each of
them for a reason, at most 3 % of a room; the exit status is 1 as well where it excuses more, or what no longer exists.

Outcomes are kept in .mutants/, under a hash of the mutant, of its tests and of what both import: an interrupted run
goes on where it was.

Why no package does this: mutmut leaves decorated functions alone, here all of those under `torch.no_grad`, and
cosmic-ray starts a Python for every mutant, whose `import torch` takes longer than the tests. Here a process that has
imported torch forks for each mutant, so this needs Linux or macOS.
"""

import argparse
import ast
import hashlib
import multiprocessing.connection
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import anywidget  # noqa: F401  these once, here, and not in the process of every mutant
import hypothesis  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import nbclient  # noqa: F401
import nbconvert.filters  # noqa: F401
import pytest
import torchvision  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".mutants"
MODEL, TRAINING, LATENT, CLAIMS, PROPERTIES = (
    f"tests/test_helpers_{part}.py" for part in ("model", "training", "latent", "claims", "properties")
)
EXPLORER = "tests/test_explorer.py"
TESTS = {  # room: functions: the tests that must notice, the fast ones first; "" stands for all other functions
    "storage.py": {"": ["tests/test_storage.py"]},
    "helpers.py": {
        "": [MODEL, PROPERTIES, "-k", "not split and not file and not every_class and not data_set"],
        "open_fashion_mnist load_fashion_mnist": [MODEL],
        "check_images": [PROPERTIES, TRAINING, "-k", "images or pixel"],
        "set_seed fit _train_epoch evaluate train_judge": [TRAINING, "-k", "not checkpoint"],
        "save_checkpoint load_vae": [TRAINING, "-k", "checkpoint or save or saving or weights or refused"],
        "claim long_row _digits": [CLAIMS, PROPERTIES],
        "encode decode plane_grid cell_of aggregate_posterior check_plane": [LATENT, PROPERTIES],
        "module": [MODEL, CLAIMS, TRAINING],
    },
    "figures.py": {"": ["tests/test_figures.py"]},
    "exact.py": {"": ["tests/test_exact.py", "-k", "not bounds and not numpy"]},
    "explorer/__init__.py": {
        "": [EXPLORER, "-k", "not in_images and not thirty and not gaps and not python_puts and not no_image"],
        "LatentExplorer.draw LatentExplorer.drawn _pen_state _encoder_state _check_encoder _bytes64": [
            *(EXPLORER, "-k", "not in_images"),
        ],
    },
}
BROWSER = {"browser", "firefox", "jupyter"}  # fixtures of the tests that start one
OUTCOMES = ("passed", "failed", "hung")
SWAPPED = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult},
    **{ast.FloorDiv: ast.Div, ast.And: ast.Or, ast.Or: ast.And},
}
COMPARED = {
    **{ast.Lt: [ast.LtE, ast.Gt], ast.LtE: [ast.Lt, ast.Gt], ast.Gt: [ast.GtE, ast.Lt], ast.GtE: [ast.Gt, ast.Lt]},
    **{ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is]},
    **{ast.In: [ast.NotIn], ast.NotIn: [ast.In]},
}
RENAMED = {"sum": "mean", "mean": "sum", "min": "max", "max": "min", "amax": "amin", "all": "any", "any": "all"}
SYMMETRIC = ("min", "max", "logaddexp", "equal")
MACHINE = ("device", "map_location", "encoding")  # keywords that matter on another machine
MODULES = ("torch", "F", "math", "os", "json", "base64", "copy", "gzip")  # a call f(x) of theirs becomes x
OBJECTS = (  # a call of theirs stays; one of any other x.f() becomes x
    *("nn", "self", "model", "optimizer", "schedule", "bar", "time", "warnings", "shutil", "tempfile", "storage"),
    *("plt", "ax", "figure", "matplotlib", "hashlib", "io", "traitlets", "ipywidgets"),
)
BATCH = "the size of a batch changes no result"
NUMBER = "a tensor of one number is printed like the number"
SMALL = "far below the last digit that is printed"
NEVER = "no number is exactly that"
SAMPLE = "how many images are looked at changes no result"
REFUSED = "_encoder_state has refused already what this would name"
TENSOR = "matplotlib and Python take a tensor as well"
NAME = "the name of a folder that is gone when all goes well"
EQUIVALENT = {  # room: "function: old -> new": why no test can notice
    "storage.py": {
        "fetch_fashion_mnist: \"fetch-\" -> ('fetch-_')": NAME,
        "whole_file: \"save-\" -> ('save-_')": NAME,
        "module: (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES) -> "
        "((errno.EDQUOT, errno.ENOSPC, errno.EROFS, errno.EACCES))": "the order of what is looked for",
    },
    "helpers.py": {
        "load_fashion_mnist: dataset.targets[part].clone() -> (dataset.targets[part])": "only frees memory",
        "check_images: x.max().item() -> (x.max())": NUMBER,
        "check_images: x.min().item() -> (x.min())": NUMBER,
        "fit: True -> (False) (no. 2)": "only slower",
        "fit: torch.optim.Adam(model.parameters(), betas=(0.9, 0.99), fused=True) -> "
        "(torch.optim.Adam(model.parameters(), betas=(0.9, 0.99)))": "only slower",
        "evaluate: 1000 -> (1001)": BATCH,
        "evaluate: 1000 -> (999)": BATCH,
        "train_judge: True -> (False)": "only slower",
        "train_judge: torch.optim.Adam(judge.parameters(), fused=True) -> (torch.optim.Adam(judge.parameters()))": (
            "only slower"
        ),
        "claim: 1e-9 -> (1e-08)": SMALL,
        "claim: 1e-9 -> (2e-09)": SMALL,
        "claim: abs(value - record[\"value\"]) <= tol + 1e-9 -> (abs(value - record['value']) < tol + 1e-09)": SMALL,
        "claim: asked.items() <= record.items() -> (asked.items() < record.items())": "a record has a value besides",
        'load_vae: torch.load(path, map_location="cpu", weights_only=True) -> '
        "(torch.load(path, map_location='cpu'))": "torch 2.6 and later take True unless told",
        "encode: 1000 -> (1001)": BATCH,
        "encode: 1000 -> (999)": BATCH,
    },
    "figures.py": {
        "show_images: grid.numpy() -> (grid)": TENSOR,
        "show_posteriors: mu.detach().cpu().numpy() -> (mu.detach().cpu())": TENSOR,
        "show_posteriors: (2 * scale * torch.exp(logvar.detach().cpu() / 2)).T.numpy() -> "
        "((2 * scale * torch.exp(logvar.detach().cpu() / 2)).T)": TENSOR,
        "show_latent: y.tolist() -> (y)": TENSOR,
        "show_latent: z[y == label].median(dim=0).values.tolist() -> (z[y == label].median(dim=0).values)": TENSOR,
        "show_latent: y.unique().tolist() -> (y.unique())": TENSOR,
        "show_latent: y.unique() -> (y)": "only slower",
        "_name_classes: abs(x - x_below) < 0.2 * line * (len(name) + len(other) + 1) -> "
        "(abs(x - x_below) <= 0.2 * line * (len(name) + len(other) + 1))": NEVER,
        "_name_classes: y < y_below + line -> (y <= y_below + line)": NEVER,
    },
    "explorer/__init__.py": {
        "_state_of: base64.b64encode(bytes(labels.cpu()[_kept(codes)].tolist())).decode() -> "
        "(base64.b64encode(bytes(labels.cpu()[_kept(codes)].tolist())))": "traitlets makes text of it as well",
        "_state_of: labels.cpu()[_kept(codes)].tolist() -> (labels.cpu()[_kept(codes)])": "a tensor has bytes as well",
        "_base64: values.detach().numpy().tobytes() -> (values.detach().numpy())": "an array has bytes as well",
        "_draw_still: (medians - medians.amin(dim=0)).max() < TOGETHER -> "
        "((medians - medians.amin(dim=0)).max() <= TOGETHER)": NEVER,
        "_check_codes: labels.max().item() -> (labels.max())": NUMBER,
        "_check_codes: labels.min().item() -> (labels.min())": NUMBER,
        "_pen_state: 1000 -> (1001)": SAMPLE,
        "_pen_state: 1000 -> (999)": SAMPLE,
        "_pen_state: 1000 -> (1001) (no. 2)": SAMPLE,
        "_pen_state: 1000 -> (999) (no. 2)": SAMPLE,
        "_pen_state: (\"sizes\", \"weights\", \"codes\") -> (('weights', 'sizes', 'codes'))": "the order of the names",
        "_check_encoder: torch.no_grad() -> (lambda function: function)": "only keeps more memory",
        "_check_encoder: \"\" -> ('_')": REFUSED,
        "_check_encoder: \"encoder\" -> ('encoder_')": REFUSED,
        "_check_encoder: (mean - mu).abs().max().item() -> ((mean - mu).abs().max())": NUMBER,
        "_check_encoder: (nn.functional.logsigmoid(h) - logvar).abs().max().item() -> "
        "((nn.functional.logsigmoid(h) - logvar).abs().max())": NUMBER,
        "_add_sliders.show: grey.repeat_interleave(10, 0).repeat_interleave(10, 1).numpy() -> "
        "(grey.repeat_interleave(10, 0).repeat_interleave(10, 1))": TENSOR,
    },
    "exact.py": {
        "module: 2_000 -> (1999)": BATCH,
        "module: 2_000 -> (2001)": BATCH,
        "log_likelihood: mass > math.exp(-NEGLIGIBLE) -> (mass >= math.exp(-NEGLIGIBLE))": NEVER,
        "log_likelihood: held.any(dim=0).nonzero().tolist() -> (held.any(dim=0).nonzero())": (
            "a tensor of one number indexes like the number"
        ),
        "posterior: 1 -> (2)": "it only has to be one at least",
        "posterior: 1 -> (3)": "it only has to be one at least",
        "posterior: 1 -> (10)": "it only has to be one at least",
        "posterior: 0 -> (-1) (no. 2)": "the only dimension is also the last one",
        "elbo: 0 -> (-1)": "the only entry is also the last one",
        "_cut: middles[:, None] + h * ((torch.arange(count) + 0.5) / count - 0.5) -> "
        "(middles[:, None] - h * ((torch.arange(count) + 0.5) / count - 0.5))": "the parts lie evenly around it",
        "elbo: mean[:, None] + sigma[:, None] * unit -> (mean[:, None] - sigma[:, None] * unit)": (
            "the nodes lie evenly around zero"
        ),
    },
}
LEAST_KILLED, MOST_EXCUSED = 0.95, 0.03  # the least and the most, as shares of the mutants of a room


class Mutant(NamedTuple):
    line: int
    function: str  # VAE.encode, or "module" outside of all
    change: str  # "old -> new"
    source: str  # of the whole module

    @property
    def name(self) -> str:
        return f"{self.function}: {self.change}"


def replacements(node: ast.AST, parent: ast.AST) -> Iterator[str]:
    """Yield what may stand in the place of the expression or statement `node`."""
    match node:
        case ast.Call(ast.Attribute(_, "no_grad")):
            yield "lambda function: function"
        case ast.BinOp(left, op, right) if type(op) in SWAPPED and not is_path(node):
            yield ast.unparse(ast.BinOp(left, SWAPPED[type(op)](), right))
            yield ast.unparse(left)
        case ast.BoolOp(op, values):
            yield ast.unparse(ast.BoolOp(SWAPPED[type(op)](), values))
            yield from map(ast.unparse, values)
        case ast.Compare(left, [op, *ops], comparators):
            for other in COMPARED[type(op)]:
                yield ast.unparse(ast.Compare(left, [other(), *ops], comparators))
        case ast.UnaryOp(ast.USub() | ast.Not(), operand):
            yield ast.unparse(operand)
        case ast.IfExp(_, body, orelse):
            yield from (ast.unparse(body), ast.unparse(orelse))
        case ast.Constant(bool() as value):
            yield str(not value)
        case ast.Constant(int() as value):
            yield from (str(value + 1), str(value - 1))
            if 0 < value < 10 and not is_index(parent):  # the width of a ring, a tolerance
                yield from (["3"] if value == 1 else []) + [str(10 * value)]
        case ast.Constant(float() as value):
            yield from (str(2 * value), str(10 * value)) if value else ("1.0",)
        case ast.Constant(str() as value) if " " not in value:
            yield repr(f"{value}_")
        case ast.Call():
            yield from other_calls(node)
        case ast.Tuple([first, second, *rest], ast.Load()) if not (isinstance(first, ast.Slice) or is_dim(parent)):
            yield ast.unparse(ast.Tuple([second, first, *rest], ast.Load()))
        case ast.Expr(ast.Call()) | ast.AugAssign() | ast.Raise():
            yield "pass"


def is_dim(parent: ast.AST) -> bool:
    return isinstance(parent, ast.keyword) and parent.arg in ("dim", "dims", "end_dim", "start_dim")


def is_index(parent: ast.AST) -> bool:
    """Whether a number below `parent` counts dimensions or items: far from the true one it fails at once."""
    return isinstance(parent, ast.Subscript) or is_dim(parent)


def other_calls(call: ast.Call) -> Iterator[str]:
    """Yield a call without one of its keywords, with two arguments swapped, of the opposite, and none at all."""
    for keyword in call.keywords:
        rest = [other for other in call.keywords if other is not keyword]
        if keyword.arg not in MACHINE:
            yield ast.unparse(ast.Call(call.func, call.args, rest))
    if len(call.args) == 2 and ast.unparse(call.func).rpartition(".")[2] not in SYMMETRIC:
        yield ast.unparse(ast.Call(call.func, call.args[::-1], call.keywords))
    if isinstance(call.func, ast.Attribute) and not is_move(call):
        if call.func.attr in RENAMED:
            renamed = ast.Attribute(call.func.value, RENAMED[call.func.attr], ast.Load())
            yield ast.unparse(ast.Call(renamed, call.args, call.keywords))
        owner = getattr(call.func.value, "id", "")
        if owner in MODULES and call.args:
            yield ast.unparse(call.args[0])
        elif owner not in (*MODULES, *OBJECTS):
            yield ast.unparse(call.func.value)
    elif isinstance(call.func, ast.Name) and call.func.id in RENAMED:
        yield ast.unparse(ast.Call(ast.Name(RENAMED[call.func.id]), call.args, call.keywords))


def is_move(call: ast.Call) -> bool:
    """Whether the call moves a tensor to a device."""
    return call.func.attr == "cpu" or (call.func.attr == "to" and "device" in ast.unparse(call.args))


def is_path(node: ast.BinOp) -> bool:
    """Whether the division joins paths: its mutants fail at once and would only flatter the rate."""
    return isinstance(node.op, ast.Div) and re.search(r"['\"]|Path|ROOT|folder|root|name", ast.unparse(node))


def mutable(tree: ast.Module) -> Iterator[tuple[str, ast.AST, ast.AST]]:
    """Yield the function, the node and its parent of every node that may be mutated."""

    def walk(node: ast.AST, function: str) -> Iterator[tuple[str, ast.AST, ast.AST]]:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            function = f"{function}.{node.name}".removeprefix("module.")
        for field, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                text = isinstance(child, ast.JoinedStr) or (isinstance(child, ast.Expr) and not is_call(child))
                if not isinstance(child, ast.AST) or text or field in ("annotation", "returns", "names", "type"):
                    continue
                if isinstance(child, ast.keyword) and child.arg in MACHINE:
                    continue
                if field != "decorator_list":
                    yield from walk(child, function)
                yield function, child, node

    return walk(tree, "module")


def is_call(statement: ast.Expr) -> bool:
    return isinstance(statement.value, ast.Call | ast.Yield)


def mutants(source: str) -> list[Mutant]:
    """Return all mutants of a module, in the order of its lines."""
    text = source.encode()  # columns of the syntax tree count bytes
    starts = [0, *(match.end() for match in re.finditer(rb"\n", text))]
    tree, found, names = ast.parse(source), {}, Counter()
    for function, node, parent in mutable(tree):
        if not hasattr(node, "lineno"):
            continue
        start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        for new in replacements(node, parent):
            if ast.dump(ast.parse(new)) == ast.dump(ast.parse(ast.unparse(node))):
                continue
            new = f"({new})" if isinstance(node, ast.expr) else new
            changed = (text[:start] + new.encode() + text[end:]).decode()
            change = " ".join(f"{text[start:end].decode()} -> {new}".split())
            if changed not in found:
                names[function, change] += 1
                count = f" (no. {names[function, change]})" if names[function, change] > 1 else ""
                found[changed] = Mutant(node.lineno, function, change + count, changed)
    return sorted(found.values())


def belongs(function: str, wanted: str) -> bool:
    """Whether `function` is the wanted one, or stands in the class or the function that is."""
    return f"{function}.".startswith(f"{wanted}.")


def tests_of(room: str, function: str) -> list[str]:
    """Return the tests that must notice a change of this function."""
    listed = TESTS[room].items()
    return next((tests for names, tests in listed if any(belongs(function, n) for n in names.split())), TESTS[room][""])


class Workplace:
    """A copy of the repository in which one room at a time may be anything."""

    def __init__(self, folder: Path):
        self.tree, self.scratch, self.written, self.limits = folder / "repository", folder / "scratch", 0, {}
        folder.chmod(0o755)  # some tests lay down root's rights
        hidden = (".git", ".venv*", ".*_cache", ".hypothesis", ".seeds", KEPT.name)
        leave_out = shutil.ignore_patterns(*hidden, "data", "images", "*.ipynb")
        shutil.copytree(ROOT, self.tree, ignore=leave_out)

    def result(self, room: str, source: str, tests: list[str]) -> str:
        """Return the outcome with `source` as the room, from .mutants/ where it is known."""
        shared = {*self.tree.glob("*.py"), *self.tree.glob("explorer/*.*"), *self.tree.glob("tests/programs/*.py")}
        files = [*(self.tree / name for name in tests if name.endswith(".py")), *sorted(shared - {self.tree / room})]
        parts = [room, source, *tests, *(file.read_text(encoding="utf-8") for file in files)]
        known = KEPT / hashlib.sha256("\0".join(parts).encode()).hexdigest()
        if not known.is_file() or known.read_text() not in OUTCOMES:  # a run was interrupted while it wrote
            known.write_text(self.outcome(room, source, tests, self.limit(room, tests)))
        return known.read_text()

    def limit(self, room: str, tests: list[str]) -> float:
        """Return the seconds after which a run of `tests` has hung; end all where they fail without any change."""
        if (key := tuple(tests)) not in self.limits:
            start = time.perf_counter()
            if self.outcome(room, (self.tree / room).read_text(encoding="utf-8"), tests) != "passed":
                raise SystemExit(
                    f"{room}: the tests fail without any change; run `make test` first ({' '.join(tests)})"
                )
            self.limits[key] = 30 + 4 * (time.perf_counter() - start)
        return self.limits[key]

    def outcome(self, room: str, source: str, tests: list[str], limit: float | None = None) -> str:
        """Run `tests` with `source` as the room and return "passed", "failed" or "hung"."""
        for folder in (self.tree / "data", self.scratch):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(ROOT / "data", self.tree / "data", copy_function=os.symlink)
        self.scratch.mkdir(mode=0o755)
        original = (self.tree / room).read_text(encoding="utf-8")
        try:
            self._write(room, source)
            process = multiprocessing.get_context("fork").Process(target=self._test, args=[tests])
            process.start()
            try:
                ended = multiprocessing.connection.wait([process.sentinel], limit)
            finally:
                with suppress(OSError):  # as macOS has it when all have ended
                    os.killpg(process.pid, signal.SIGKILL)  # and what the tests have left running
                process.join()
            return ("failed" if process.exitcode else "passed") if ended else "hung"
        finally:
            self._write(room, original)

    def _write(self, room: str, source: str) -> None:
        (self.tree / room).write_text(source, encoding="utf-8")
        self.written += 1  # a time of its own for each mutant: Python would else take the compiled form of another one
        os.utime(self.tree / room, (self.written, self.written))

    def _test(self, tests: list[str]) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()  # with all that the tests start, so that it can be ended together
        os.chdir(self.tree)
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.scratch)
        sys.path[:] = [str(self.tree), *(entry for entry in sys.path if Path(entry) != Path(__file__).parent)]
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        options = ["-x", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:nbval"]
        os._exit(pytest.main([*options, *tests], plugins=[WithoutBrowser()]))


class WithoutBrowser:
    """Leaves out the tests in a browser, which take minutes and would only see JavaScript change."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if not BROWSER & set(item.fixturenames)]


def run(room: str, found: list[Mutant], workplace: Workplace) -> bool:
    """Try these mutants of a room, print the survivors and the kill rate, and return whether that is high enough."""
    outcomes, excused = {}, EQUIVALENT.get(room, {})
    for number, mutant in enumerate(found, start=1):
        outcomes[mutant] = workplace.result(room, mutant.source, tests_of(room, mutant.function))
        place = f"{room}:{mutant.line}"
        print(f"{number}/{len(found)} {outcomes[mutant]}: {place} {mutant.name}", file=sys.stderr, flush=True)
    for mutant, outcome in outcomes.items():
        if outcome == "passed":
            print(f"  {room}:{mutant.line} {mutant.name}: {excused.get(mutant.name, 'SURVIVED')}")
        elif mutant.name in excused:
            print(f"  {room}:{mutant.line} {mutant.name}: excused ({excused[mutant.name]}), but {outcome}")
    rest = [outcome for mutant, outcome in outcomes.items() if mutant.name not in excused]
    killed = sum(outcome != "passed" for outcome in rest)
    rate = killed / max(len(rest), 1)
    print(f"{room}: {killed} of {len(rest)} killed ({rate:.1%}), {len(found) - len(rest)} excused", flush=True)
    return not rest or rate >= LEAST_KILLED


def lists_hold(room: str, every: list[Mutant]) -> bool:
    """Print what EQUIVALENT or TESTS names in vain, or that too many are excused, and return whether all is well."""
    excused, names = EQUIVALENT.get(room, {}), [mutant.name for mutant in every]
    lost = [name for name in excused if name not in names]
    for name in lost:
        print(f"{room}: EQUIVALENT excuses {name!r}, which no longer exists")
    listed = [name for line in TESTS[room] for name in line.split() if name != "module"]
    nowhere = [name for name in listed if not any(belongs(mutant.function, name) for mutant in every)]
    for name in nowhere:
        print(f"{room}: TESTS names {name!r}, in which there is nothing to mutate")
    if too_many := len(excused) > MOST_EXCUSED * len(names):
        print(f"{room}: {len(excused)} of {len(names)} mutants are excused, more than {MOST_EXCUSED:.0%}")
    return not lost and not nowhere and not too_many


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wanted", nargs="*", metavar="FILE[:FUNCTION]", help=f"FILE is one of {', '.join(TESTS)}")
    parser.add_argument("--list", action="store_true", help="list the mutants and run nothing")
    given = parser.parse_args()
    wanted = [name.partition(":")[::2] for name in given.wanted or TESTS]
    if unknown := [room for room, _ in wanted if room not in TESTS]:
        parser.error(f"FILE: expected one of {', '.join(TESTS)}, received {', '.join(unknown)}")
    good = True
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing stays behind
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        workplace = Workplace(Path(folder))
        KEPT.mkdir(exist_ok=True)
        for room, function in wanted:
            every = mutants((workplace.tree / room).read_text(encoding="utf-8"))
            found = [mutant for mutant in every if not function or belongs(mutant.function, function)]
            if not found:
                functions = ", ".join(dict.fromkeys(mutant.function for mutant in every))
                parser.error(f"FUNCTION: expected one of {functions}, received {function}")
            good &= lists_hold(room, every)
            if given.list:
                print(*(f"{room}:{mutant.line} {mutant.name}" for mutant in found), sep="\n")
            else:
                good &= run(room, found, workplace)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
