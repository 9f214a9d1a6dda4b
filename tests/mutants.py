"""Break helpers.py on purpose, one small change at a time, and see whether the tests notice: `make mutants`.

python tests/mutants.py [SECTION ...] [--list]      sections as in helpers.py (default: all below that have tests)

Each mutant is one change of one expression or statement: a swapped operator, a number that is one off, a removed call,
decorator or keyword, two swapped arguments. It is killed when a test of its section fails or hangs; the rest survives
and is listed. Exit status 1 when a section kills less than 95 % of the mutants that can be killed at all. Texts for the
reader (messages, docstrings) are left alone, as the tests quote them.

Why no package does this: mutmut leaves decorated functions alone, here all of those under `torch.no_grad`, and
cosmic-ray starts a Python for every mutant, whose `import torch` takes longer than the tests. Here a process that has
imported torch forks for each mutant, so this needs Linux or macOS.
"""

import argparse
import ast
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot  # noqa: F401  these once, here, and not in the process of every mutant
import pytest
import torchvision  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
TESTS = {  # section of helpers.py: the tests that must notice, the fast ones first
    "data": ["tests/test_data.py", "tests/test_faults.py", "-k", "not checkpoint and not explorer"],
    "model": ["tests/test_model.py", "tests/test_properties.py"],
    "objective": [
        "tests/test_model.py",
        "tests/test_training.py",
        "tests/test_properties.py",
        "-k",
        "not process and not fit",
    ],
    "training": ["tests/test_training.py", "tests/test_properties.py", "-k", "not process and not checkpoint"],
    "checkpoints": ["tests/test_training.py", "tests/test_faults.py", "-k", "not fit and not data"],
    "claims": ["tests/test_figures.py", "-k", "claim"],
    "latent space": [
        "tests/test_figures.py",
        "tests/test_training.py",
        "tests/test_properties.py",
        "-k",
        "not process",
    ],
    "exact inference": ["tests/test_inference.py", "tests/test_properties.py", "-k", "not bounds"],
}
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
MODULES = ("torch", "F", "math", "os")  # a call f(x) of theirs becomes x, a call x.f() becomes x
OBJECTS = (
    "nn",
    "self",
    "model",
    "optimizer",
    "schedule",
    "bar",
    "time",
    "warnings",
    "shutil",
    "tempfile",
)  # none of these
NO_GPU = "differs where there is a GPU"
BATCH = "the size of a batch changes no result"
NAME = "the name of a folder that is gone when all goes well"
EQUIVALENT = {  # "function: old -> new": why no test can notice
    "load_fashion_mnist: 10_000 -> (10001)": "the file ends there",
    "load_fashion_mnist: 60_000 -> (60001)": "the file ends there",
    "load_fashion_mnist: dataset.targets[part].clone() -> (dataset.targets[part])": "only frees memory",
    "fetch_fashion_mnist: \"fetch-\" -> ('fetch-_')": NAME,
    "_check_images: x.max().item() -> (x.max())": "a tensor of one number is printed like the number",
    "_check_images: x.min().item() -> (x.min())": "a tensor of one number is printed like the number",
    "fit: x.to(device) -> (x)": NO_GPU,
    "fit: x_val.to(device) -> (x_val)": NO_GPU,
    "fit: True -> (False) (no. 2)": "only slower",
    "fit: torch.optim.Adam(model.parameters(), betas=(0.9, 0.99), fused=True) -> "
    "(torch.optim.Adam(model.parameters(), betas=(0.9, 0.99)))": "only slower",
    "_train_epoch: torch.randperm(len(x), device=x.device) -> (torch.randperm(len(x)))": NO_GPU,
    "_train_epoch: kl.detach() -> (kl)": "only keeps more memory",
    "_train_epoch: recon.detach() -> (recon)": "only keeps more memory",
    "evaluate: 1000 -> (1001)": BATCH,
    "evaluate: 1000 -> (999)": BATCH,
    "evaluate: batch.to(next(model.parameters()).device) -> (batch)": NO_GPU,
    "evaluate: torch.stack([reconstruction_loss(batch, logits), kl_divergence(mu, logvar)]).cpu() -> "
    "(torch.stack([reconstruction_loss(batch, logits), kl_divergence(mu, logvar)]))": NO_GPU,
    "save_checkpoint: v.cpu() -> (v)": NO_GPU,
    "_whole_file: \"save-\" -> ('save-_')": NAME,
    'load_vae: torch.load(path, map_location="cpu", weights_only=True) -> '
    "(torch.load(path, weights_only=True))": NO_GPU,
    'load_vae: torch.load(path, map_location="cpu", weights_only=True) -> '
    "(torch.load(path, map_location='cpu'))": "torch 2.6 and later take True unless told",
    "claim: value.item() -> (value)": "a tensor of one number is printed like the number",
    "claim: value.item() if torch.is_tensor(value) else float(value) -> (float(value))": "float takes a tensor too",
    "encode: 1000 -> (1001)": BATCH,
    "encode: 1000 -> (999)": BATCH,
    "encode: batch.to(device) -> (batch)": NO_GPU,
    "encode: torch.cat(logvar).cpu() -> (torch.cat(logvar))": NO_GPU,
    "encode: torch.cat(mu).cpu() -> (torch.cat(mu))": NO_GPU,
    "decode: torch.sigmoid(model.decode(z.float().to(next(model.parameters()).device))).cpu() -> "
    "(torch.sigmoid(model.decode(z.float().to(next(model.parameters()).device))))": NO_GPU,
    "decode: z.float().to(next(model.parameters()).device) -> (z.float())": NO_GPU,
    "log_joint: model.decode(z.to(next(model.parameters()).device)).cpu() -> "
    "(model.decode(z.to(next(model.parameters()).device)))": NO_GPU,
    "log_joint: z.to(next(model.parameters()).device) -> (z)": NO_GPU,
    "exact_log_likelihood: torch.logaddexp(total, terms.logsumexp(dim=1)) -> "
    "(torch.logaddexp(terms.logsumexp(dim=1), total))": "a sum in the other order",
    "exact_log_likelihood: torch.logaddexp(border, terms[:, at_border].logsumexp(dim=1)) -> "
    "(torch.logaddexp(terms[:, at_border].logsumexp(dim=1), border))": "a sum in the other order",
    "exact_posterior: 2000 -> (1999)": BATCH,
    "exact_posterior: 2000 -> (2001)": BATCH,
    "_plane: 1 -> (2) (no. 5)": "the threshold lies between the border and the row before it as well",
    "_plane: z.abs().amax(dim=1) > half_width * (1 - 1 / size) -> "
    "(z.abs().amax(dim=1) >= half_width * (1 - 1 / size))": "no point of the grid lies on the threshold",
}


class Mutant(NamedTuple):
    line: int
    name: str  # "function: old -> new"
    source: str  # of the whole module


def replacements(node: ast.AST) -> Iterator[str]:
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
        case ast.Constant(float() as value):
            yield str(2 * value if value else 1.0)
        case ast.Constant(str() as value) if " " not in value:
            yield repr(f"{value}_")
        case ast.Call():
            yield from other_calls(node)
        case ast.Tuple([first, second, *rest], ast.Load()) if not isinstance(first, ast.Slice):
            yield ast.unparse(ast.Tuple([second, first, *rest], ast.Load()))
        case ast.Expr(ast.Call()) | ast.AugAssign() | ast.Raise():
            yield "pass"


def other_calls(call: ast.Call) -> Iterator[str]:
    for keyword in call.keywords:
        rest = [other for other in call.keywords if other is not keyword]
        yield ast.unparse(ast.Call(call.func, call.args, rest))
    if len(call.args) == 2:
        yield ast.unparse(ast.Call(call.func, call.args[::-1], call.keywords))
    if isinstance(call.func, ast.Attribute):
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


def is_path(node: ast.BinOp) -> bool:
    """Whether the division joins paths: its mutants fail at once and would only flatter the rate."""
    return isinstance(node.op, ast.Div) and re.search(r"['\"]|Path|ROOT|folder|root|name", ast.unparse(node))


def mutable(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Yield every node that may be mutated, with the name of its function."""

    def walk(node: ast.AST, function: str) -> Iterator[tuple[str, ast.AST]]:
        name = node.name if isinstance(node, ast.FunctionDef | ast.ClassDef) else function
        for field, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                text = isinstance(child, ast.JoinedStr) or (isinstance(child, ast.Expr) and not is_call(child))
                if not isinstance(child, ast.AST) or text or field in ("annotation", "returns", "names", "type"):
                    continue
                if field != "decorator_list":
                    yield from walk(child, name)
                yield name, child

    return walk(tree, "module")


def is_call(statement: ast.Expr) -> bool:
    return isinstance(statement.value, ast.Call | ast.Yield)


def sections(source: str) -> dict[str, range]:
    starts = [
        (match[1], source.count("\n", 0, match.start()) + 1) for match in re.finditer(r"^# ([a-z ]+)$", source, re.M)
    ]
    ends = [start for _, start in starts[1:]] + [source.count("\n") + 2]
    return {name: range(start, end) for (name, start), end in zip(starts, ends)}


def mutants(source: str, lines: range) -> list[Mutant]:
    text = source.encode()  # columns of the syntax tree count bytes
    starts = [0, *(match.end() for match in re.finditer(rb"\n", text))]
    tree, found, names = ast.parse(source), {}, Counter()
    for function, node in mutable(tree):
        if getattr(node, "lineno", 0) not in lines:
            continue
        start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        for new in replacements(node):
            new = f"({new})" if isinstance(node, ast.expr) else new
            changed = (text[:start] + new.encode() + text[end:]).decode()
            name = " ".join(f"{function}: {text[start:end].decode()} -> {new}".split())
            if changed not in found and ast.dump(ast.parse(changed)) != ast.dump(tree):
                names[name] += 1
                count = f" (no. {names[name]})" if names[name] > 1 else ""
                found[changed] = Mutant(node.lineno, name + count, changed)
    return sorted(found.values())


class Workplace:
    """A copy of the repository in which helpers.py may be anything."""

    def __init__(self, folder: Path):
        self.tree, self.scratch, self.written = folder / "repository", folder / "scratch", 0
        folder.chmod(0o755)  # some tests lay down root's rights
        leave_out = shutil.ignore_patterns(".git", ".venv*", "data", "images", "notebooks")
        shutil.copytree(ROOT, self.tree, ignore=leave_out)

    def outcome(self, source: str, tests: list[str], limit: float | None = None) -> str:
        """Run `tests` with `source` as helpers.py and return "passed", "failed" or "hung"."""
        for folder in (self.tree / "data", self.scratch):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(ROOT / "data", self.tree / "data", copy_function=os.symlink)
        self.scratch.mkdir(mode=0o755)
        (self.tree / "helpers.py").write_text(source, encoding="utf-8")
        self.written += 1  # a time of its own for each mutant: Python would else take the compiled form of another one
        os.utime(self.tree / "helpers.py", (self.written, self.written))
        process = multiprocessing.get_context("fork").Process(target=self._test, args=[tests])
        process.start()
        process.join(limit)
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
            return "hung"
        return "failed" if process.exitcode else "passed"

    def _test(self, tests: list[str]) -> None:
        os.setsid()  # with all that the tests start, so that it can be ended together
        os.chdir(self.tree)
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.scratch)
        sys.path[:] = [str(self.tree), *(entry for entry in sys.path if Path(entry) != Path(__file__).parent)]
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        options = ["-x", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:nbval"]
        os._exit(pytest.main([*options, *tests]))


def survivors(section: str, found: list[Mutant], workplace: Workplace) -> list[Mutant]:
    start = time.perf_counter()
    if workplace.outcome((ROOT / "helpers.py").read_text(encoding="utf-8"), TESTS[section]) != "passed":
        raise SystemExit(f"{section}: the tests fail without any change; run `make test` first")
    limit = 30 + 4 * (time.perf_counter() - start)
    alive = []
    for number, mutant in enumerate(found, start=1):
        outcome = workplace.outcome(mutant.source, TESTS[section], limit)
        if outcome == "passed":
            alive.append(mutant)
        print(f"{section} {number}/{len(found)} {outcome}: {mutant.line} {mutant.name}", file=sys.stderr, flush=True)
    return alive


def report(section: str, found: list[Mutant], alive: list[Mutant]) -> bool:
    """Print the survivors and the kill rate of one section, and return whether the rate is high enough."""
    for mutant in alive:
        print(f"  line {mutant.line}, {mutant.name}: {EQUIVALENT.get(mutant.name, 'SURVIVED')}")
    equivalent = sum(mutant.name in EQUIVALENT for mutant in alive)
    killed, possible = len(found) - len(alive), len(found) - equivalent
    rate = killed / max(possible, 1)
    print(f"{section}: {killed} of {possible} killed ({rate:.1%}), {equivalent} equivalent", flush=True)
    return rate >= 0.95


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(TESTS))
    parser.add_argument("--only", default="", metavar="TEXT", help="only mutants with this text in their names")
    parser.add_argument("--list", action="store_true", help="list the mutants and run nothing")
    given = parser.parse_args()
    if unknown := set(given.sections) - set(TESTS):
        parser.error(f"SECTION: expected some of {', '.join(TESTS)}, received {', '.join(unknown)}")
    source = (ROOT / "helpers.py").read_text(encoding="utf-8")
    lines, good = sections(source), []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        workplace = Workplace(Path(folder))
        for section in given.sections or TESTS:
            found = [mutant for mutant in mutants(source, lines[section]) if given.only in mutant.name]
            if given.list:
                print(*(f"{mutant.line} {mutant.name}" for mutant in found), sep="\n")
            else:
                good.append(report(section, found, survivors(section, found, workplace)))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
