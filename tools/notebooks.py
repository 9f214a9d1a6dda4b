"""Execute the notebooks, check what is committed, point everything at one repository.

python tools/notebooks.py run [NOTEBOOK ...]      execute in order, write the normal form in place (default: all)
python tools/notebooks.py run --reference         the same, then make notebook 03's weights the reference weights
python tools/notebooks.py run --record            all of them; what they claim becomes notebooks/claims.json
python tools/notebooks.py seeds [--count 10]      run all with other seeds, resumably, for the range of each claim
python tools/notebooks.py long NOTEBOOK [--count 5]   compute the rows of long.csv that a notebook only reads, resumably
python tools/notebooks.py check [FILE ...]        report every problem, exit 1 if any (default: all, and README.md)
python tools/notebooks.py repo OWNER/NAME [--ref main]   rewrite Colab badges, setup cells, own links
python tools/notebooks.py repo --check OWNER/NAME        report what `repo` would rewrite, exit 1 if anything

The normal form keeps two runs on one machine byte-identical: no timestamps, versions, widgets or progress bars.
"""

import argparse
import ast
import base64
import copy
import csv
import hashlib
import io
import itertools
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
from bs4 import BeautifulSoup
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal
from nbconvert.filters import markdown2html_mistune, strip_ansi
from PIL import Image
from tqdm import tqdm
from traitlets import default

ROOT = Path(__file__).resolve().parents[1]
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
WIDGET = "application/vnd.jupyter.widget-view+json"
TQDM = re.compile(r"[^\[\]]*\[\d+:\d\d[^\[\]]*(?:/s|s/)[^\[\]]*\]")  # " 40%|████      | 2/5 [00:00<00:00, 9.81it/s]"
FOLDER = rf"{re.escape(str(ROOT))}|/(?:home|root|tmp|Users)/"
LOCAL = re.compile(rf"\bat 0x[0-9a-fA-F]+|(?<![\w.])(?:{FOLDER})|\b[A-Z]:\\+Users")
BAR = {"unit": "cell", "leave": False, "bar_format": "{desc}{bar:30} {n_fmt}/{total_fmt} cells, {elapsed}"}
LONG_COLUMNS = ("row", "seed", "value", "seconds", "date", "processor", "commit")
HEADLINES = ("test recon + kl",)  # the claims whose values over the seeds are rows of long.csv
CLAIMED = re.compile(r"^([\u00b7\u2713\u2717]) (.*): (-?[\d,]+(?:\.\d+)?|nan|-?inf)(?= |$)", re.MULTILINE)
NO_PROSE = (  # what holds numbers that are none of the text's: code, formulas, links, tags, names of parts, years
    r"```.*?```|`[^`]*`",
    r"\$\$.*?\$\$|\$[^$]*\$",
    r"!?\[(?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*\]\([^)]*\)",  # a badge is a picture in a link
    r"<[^>]*>",
    r"(?i)\b(?:notebook|section|exercise|solution|patient)s? [\d.]+(?:(?:,| and| to| or) [\d.]+)*",
    r"(?m)^#+ \d[\d.]*|\*\*\d+\.\d|\*\*\d+ [A-Z][\w ]+\*\*|\*\*Time[^\n]*",
    r"\b(?:19|20)\d\d\b",
)
GIVEN = {  # numbers that prose may have without a cell that shows them: why
    **dict.fromkeys((28, 784), "pixels of an image"),
    **dict.fromkeys((60_000, 55_000, 5_000, 10_000, 70_000), "images of the splits"),
    100: "per cent",
    255.97: "the best public test result for two numbers that was found (notebook 03 links it)",
    **dict.fromkeys((71.6, 73.4), "public accuracies of five neighbours (notebook 04 links them)"),
}
MARKED = re.compile(r"^[\u00b7\u2713\u2717] (.*?)(?: \(the text was written for .*\))?$", re.MULTILINE)
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


def run(paths: list[Path], reference: bool, record: bool) -> int:
    start = time.time()
    if not paths:
        raise SystemExit(f"There is no notebook in {ROOT / 'notebooks'}.")
    if record and paths != series():
        raise SystemExit("--record takes the whole series or nothing: name no notebooks.")
    output = ROOT / Path(os.environ.get("VAE_OUTPUT", "")).expanduser()  # as in storage.py
    executed, measured = {}, {}
    for path in paths:
        begin = time.perf_counter()
        executed[path], measured[path] = execute(path)
        if not record:
            write(path, normal_form(executed[path]).encode())
        print(f"{path.name}: {time.perf_counter() - begin:.1f} s", flush=True)
    if reference:
        make_reference(output / "checkpoints" / "my_vae.pt", start)
    if record:
        save_records(measured, ranges(measured))
        for path, notebook in executed.items():
            restate(notebook)
            write(path, normal_form(notebook).encode())
    print(f"Executed {len(paths)} in {time.time() - start:.0f} s. Figures: {output / 'images'}.")
    print("Open the notebooks with `make lab`, and the explorer, images/latent_explorer.html, in a browser.")
    return 0


class OwnKernel(AsyncKernelManager):
    """A kernel of the running Python, and not of one that was installed elsewhere under the same name."""

    @default("kernel_spec_manager")
    def _only_our_own(self):
        return KernelSpecManager(kernel_dirs=[])


def execute(path: Path, **environment: str) -> tuple[nbformat.NotebookNode, list[dict]]:
    """Run every cell in a fresh kernel; return the notebook and what it claimed. A failure ends the command."""
    try:
        notebook = read(path)
    except ValueError as error:
        raise SystemExit(f"\n{error}") from None
    cells = ["(start of the kernel)"]
    normal_form(notebook)  # gives every cell an id for the message
    client = NotebookClient(
        notebook,
        timeout=1200,
        record_timing=False,
        store_widget_state=False,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],  # newer kernels warn about their own transport
        kernel_manager_class=OwnKernel,
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_start=lambda cell, cell_index: cells.append(cell.id),
    )
    with tempfile.TemporaryDirectory() as folder, tqdm(total=len(code_cells(notebook)), **BAR) as bar:
        bar.set_description(path.stem)
        client.on_cell_executed = lambda cell, cell_index, execute_reply: bar.update()
        log = Path(folder) / "claims.jsonl"
        try:
            client.execute(env={**os.environ, **environment, "VAE_CLAIM_LOG": str(log)})
        except (CellControlSignal, RuntimeError) as error:
            reason = strip_ansi(str(error))
            raise SystemExit(f"\n{path}: cell {cells[-1]} failed; the file stays as it was.\n{reason}") from None
        claims = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = palette(output.data["image/png"])
    return notebook, list(map(json.loads, claims))


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


# claims


def printed(value: float, tol: float) -> str:
    """Return `value` as `helpers.claim` prints it."""
    decimals = max(0, 1 - math.floor(math.log10(tol))) if tol and isinstance(value, float) else 0
    return f"{value:z,.{decimals}f}"


def records() -> dict[str, dict]:
    path = ROOT / "notebooks" / "claims.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def save_records(measured: dict[Path, list[dict]], spans: dict[str, tuple[float, float]]) -> None:
    """Write claims.json, one claim a line, and print what moved; refuse names that are used twice."""
    old, new = records(), {}
    for path, claims in measured.items():
        for claim in claims:
            if claim["name"] in new:
                raise SystemExit(
                    f"{path.name}: the claim {claim['name']!r} is made twice; claims.json stays as it was."
                )
            value = float(printed(claim["value"], claim["tol"]).replace(",", ""))
            low, high = spans.get(claim["name"], (None, None))
            new[claim["name"]] = {
                "notebook": path.stem[:2],
                "value": int(value) if claim["tol"] == 0 or isinstance(claim["value"], int) else value,
                "unit": claim["unit"],
                "tol": claim["tol"],
                "effect": claim["effect"],
                "low": low,
                "high": high,
            }
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        for key in ("value", "tol", "unit"):
            if (was := before and before[key]) != (now := after and after[key]):
                print(f"claims.json: {name}: {key} {was} -> {now}")
    lines = [f"  {json.dumps(name, ensure_ascii=False)}: {json.dumps(new[name], ensure_ascii=False)}" for name in new]
    write(ROOT / "notebooks" / "claims.json", ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def restate(notebook: nbformat.NotebookNode) -> None:
    """Give each printed claim the mark that it has now that its value is the recorded one."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if output.get("name") == "stdout":
                output.text = MARKED.sub("\u2713 \\1", output.text)


# seeds


def seeds(count: int, jobs: int) -> int:
    """Run the series with other seeds, each with weights of its own; what was done for the code as it is stays done."""
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run_seed, range(1, count + 1)))
    for path in series():
        runs = {seed: json.loads(seed_file(seed, path).read_text(encoding="utf-8")) for seed in range(1, count + 1)}
        for name in HEADLINES:
            values = {seed: claim["value"] for seed, run in runs.items() for claim in run if claim["name"] == name}
            if values:
                keep_rows({name: values})
    print(f"{count} seeds are complete. `run --record` takes the lowest and the highest value of each claim from them.")
    return 0


def keep_rows(measured: dict[str, dict[int, float]], seconds: float = math.nan) -> None:
    """Write rows of notebooks/long.csv, {row: {seed: value}}; what was there under the same row and seed goes."""
    kept = {(line["row"], int(line["seed"])): line for line in long_lines()}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    origin = [f"{seconds:.0f}", f"{date.today()}", processor(), commit.strip()]
    for row, values in measured.items():
        for seed, value in values.items():
            kept[row, seed] = dict(zip(LONG_COLUMNS, [row, seed, f"{value:.6g}", *origin]))
    text = io.StringIO()
    writer = csv.DictWriter(text, LONG_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(kept[key] for key in sorted(kept))
    write(ROOT / "notebooks" / "long.csv", text.getvalue().encode())


def long_lines() -> list[dict[str, str]]:
    path = ROOT / "notebooks" / "long.csv"
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.is_file() else []


def long(path: Path, count: int, chosen: list[str]) -> int:
    """Compute the rows that a notebook only reads, by its own functions; what is in long.csv already stays.

    The cells tagged "rows" are executed. They define `long_rows`, {row: function of a seed}; a function returns
    {what: value}, which becomes the rows "row: what".
    """
    names = {}
    sys.path.insert(0, str(ROOT))
    for cell in code_cells(read(path)):
        if "rows" in cell.metadata.get("tags", []):
            exec(compile(cell.source, f"{path.name}, {cell.id}", "exec"), names)
    rows = names.get("long_rows", {})
    if not rows:
        raise SystemExit(f"{path.name}: expected a cell tagged rows that defines long_rows, found none")
    if unknown := sorted(set(chosen) - set(rows)):
        raise SystemExit(f"--rows: expected some of {', '.join(rows)}; received {', '.join(unknown)}")
    for row, measure in rows.items():
        done = {int(line["seed"]) for line in long_lines() if line["row"].startswith(f"{row}: ")}
        for seed in sorted({*range(count)} - done) if not chosen or row in chosen else ():
            begin = time.perf_counter()
            measured, seconds = measure(seed), time.perf_counter() - begin
            keep_rows({f"{row}: {what}": {seed: value} for what, value in measured.items()}, seconds)
            shown = ", ".join(f"{what} {value:.6g}" for what, value in measured.items())
            print(f"{row}, seed {seed}: {shown} ({seconds:.0f} s)", flush=True)
    return 0


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.is_file() else []
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def run_seed(seed: int) -> None:
    for path in series():
        target = seed_file(seed, path)
        if target.is_file():
            continue
        begin = time.perf_counter()
        _, claims = execute(path, VAE_SEED=str(seed), VAE_OUTPUT=str(target.parent / "output"))
        for stale in target.parent.glob(f"{path.stem}.*.json"):
            stale.unlink()
        write(target, json.dumps(claims).encode())
        print(f"seed {seed}: {path.stem}: {time.perf_counter() - begin:.0f} s", flush=True)


def seed_file(seed: int, path: Path) -> Path:
    """Return where a seed's claims of a notebook are kept; the name changes with what they depend on.

    That is code and the shipped weights, and not long.csv, whose rows no seed of a notebook changes.
    """
    folder = ROOT / ".seeds" / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    training = next(other for other in series() if other.stem.startswith("03"))  # whose weights the later ones load
    code = [bare(cell.source) for each in sorted({training, path}) for cell in code_cells(read(each))]
    code += [bare((ROOT / f"{room}.py").read_text(encoding="utf-8")) for room in ("helpers", "exact")]
    data = [file.read_bytes() for file in sorted((ROOT / "checkpoints").glob("*.pt")) if file.name != "my_vae.pt"]
    if any("explorer.save" in source for source in code):  # the size of the page is a claim
        data += [file.read_bytes() for file in sorted((ROOT / "explorer").glob("*.*"))]
    digest = hashlib.sha256(b"".join(["".join(code).encode(), *data])).hexdigest()
    return folder / f"{path.stem}.{digest[:12]}.json"


def bare(source: str) -> str:
    """Return code without what changes no number: comments, layout, docstrings, alternative texts, margins."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node) is not None:
            del node.body[0]
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "figures.show":
            node.keywords.clear()
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "claim":
            del node.args[2:]
            node.keywords.clear()
    return ast.unparse(tree)


def ranges(measured: dict[Path, list[dict]]) -> dict[str, tuple[float, float]]:
    """Return the lowest and the highest value of each claim over all seeds that were run, the recorded run among them.

    Where no seed was run for the code as it is, the recorded range stays.
    """
    spans = {name: (record["low"], record["high"]) for name, record in records().items()}
    for path, claims in measured.items():
        files = [seed_file(int(folder.name), path) for folder in (ROOT / ".seeds").glob("[0-9]*")]
        runs = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]
        print(f"{path.stem}: ranges from {len(runs)} seeds" if runs else f"{path.stem}: no seeds were run, ranges stay")
        for name in {claim["name"] for claim in claims} if runs else ():
            values = [claim["value"] for run in [*runs, claims] for claim in run if claim["name"] == name]
            spans[name] = min(values), max(values)
    return spans


# check


def check(paths: list[Path]) -> int:
    found = [f"{path.name}: {problem}" for path in paths for problem in problems(path)]
    if set(series()) <= set(paths):  # what only the whole series shows
        found += series_problems()
    print("\n".join([*found, f"{len(paths)} files, {len(found)} problems."]))
    return 1 if found else 0


def problems(path: Path):
    """Yield what is wrong with one notebook, or with README.md: one line each, with the cell's id."""
    if not path.is_file():
        yield "no such file"
        return
    try:
        if path.suffix == ".md":
            yield from readme_problems(path)
        else:
            notebook = read(path)
            yield from file_problems(path, notebook)
            yield from cell_problems(notebook.cells)
            yield from claim_problems(path, notebook)
            yield from number_problems(notebook)
        yield from link_problems(path)
    except ValueError as error:  # this notebook or one that it links to cannot be read
        yield str(error)


def readable(paths: list[Path]) -> dict[Path, nbformat.NotebookNode]:
    """Return those of the notebooks that can be read; `problems` reports the others."""
    found = {}
    for path in paths:
        with suppress(ValueError):
            found[path] = read(path)
    return found


def series_problems():
    """Yield what is wrong between the notebooks: names or alternative texts used twice, records that nothing prints."""
    names, pictures, notebooks = Counter(), {}, readable(series())
    for notebook in notebooks.values():
        for cell in code_cells(notebook):
            names.update(name for _, name, _ in claimed(cell))
            for alt, picture in zip(alternatives(cell), figures_of(cell)):
                pictures.setdefault(alt, set()).add(picture)
    yield from (f"the claim {name!r} is made {count} times" for name, count in names.items() if count > 1)
    alike = {alt: len(each) for alt, each in pictures.items() if alt and len(each) > 1}
    yield from (f"{count} different figures have the same text: {alt[:60]}..." for alt, count in alike.items())
    broken = {path.stem[:2] for path in set(series()) - set(notebooks)}
    lost = (name for name, record in records().items() if name not in names and record.get("notebook") not in broken)
    yield from (f"claims.json: {name!r} is recorded and nowhere printed" for name in lost)


def claimed(cell) -> list[tuple[str, str, str]]:
    """Return the mark, the name and the number of each claim that `cell` printed."""
    texts = [output.text for output in cell.get("outputs", []) if output.get("name") == "stdout"]
    return CLAIMED.findall("".join(texts))


def figures_of(cell) -> list[str]:
    return [output.data["image/png"] for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]


def alternatives(cell) -> list[str]:
    """Return the alternative text of each figure below `cell`, empty where it has none."""
    outputs = [output for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    return [output.metadata.get("image/png", {}).get("alt", "") for output in outputs]


def claim_problems(path: Path, notebook: nbformat.NotebookNode):
    known = records()
    for cell in code_cells(notebook):
        for mark, name, number in claimed(cell):
            where, record, value = f"cell {cell.get('id')}: the claim {name!r}", known.get(name), float_of(number)
            rounding = 0.5 * 10 ** -len(number.partition(".")[2]) if "." in number else 0  # `claim` compares before it
            if "nbval-ignore-output" in cell.metadata.get("tags", []):
                yield f"{where} stands where no output is compared"
            if mark != "\u2713" or record is None:
                yield f"{where} is not confirmed by claims.json: run --record"
            elif record["notebook"] != path.stem[:2]:
                yield f"{where} is recorded for notebook {record['notebook']}"
            elif abs(value - record["value"]) > record["tol"] + rounding + 1e-9:
                yield f"{where} is {number}, recorded as {record['value']} \u00b1 {record['tol']}"
            else:
                yield from (f"{where} {problem}" for problem in margin_problems(record))


def margin_problems(record: dict):
    """Yield what is wrong with a margin: the seeds pass it, it is wider than they ask, or too wide for an effect."""
    value, tol = record["value"], record["tol"]
    if record["effect"] and abs(value) < 3 * tol:
        yield f"is an effect of {value}, less than three times its margin {tol}"
    digit = 10 ** -len(printed(value, tol).partition(".")[2]) if tol else 0
    if record["low"] is None or record["high"] - record["low"] <= digit / 2:
        return  # no seed changes what is printed
    reach = max(value - record["low"], record["high"] - value)
    if reach > tol + digit / 2:
        yield f"has the margin {tol}, and its seeds lie up to {reach:.3g} away"
    elif tol > 1.5 * reach + digit:
        yield f"has the margin {tol}, and its seeds lie within {reach:.3g}"


def float_of(number: str) -> float:
    return float(number.replace(",", "").replace("\u2212", "-"))


def numerals(markdown: str) -> list[str]:
    """Return the numbers that a reader meets in prose: not those in code, formulas, links, or names of parts."""
    for pattern in NO_PROSE:
        markdown = re.sub(pattern, " ", markdown, flags=re.DOTALL)
    return re.findall(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?(?!\w)", markdown)


def stands_in(numeral: str, numbers: set[float]) -> bool:
    """Whether `numeral` is one of `numbers`, rounded to its digits, or one of them in per cent."""
    value, near = float_of(numeral), 0.5001 * 10 ** -len(numeral.partition(".")[2])
    known = (abs(number) for number in numbers if math.isfinite(number))
    return any(abs(number - value) <= near or abs(100 * number - value) <= 1e-9 for number in known)


def numbers_in(text: str) -> set[float]:
    found = re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?", text.replace("_", ""))
    return set(map(float_of, found))


def number_problems(notebook: nbformat.NotebookNode):
    """Yield the numbers in prose and alternative texts that no cell above them shows, nor the code they introduce."""
    shown, following = set(map(float, GIVEN)), [*notebook.cells[1:], None]
    for cell, after in zip(notebook.cells, following):
        where = f"cell {cell.get('id')}"
        if cell.cell_type == "markdown":
            introduced = numbers_in(after.source) if after and after.cell_type == "code" else set()
            missing = [numeral for numeral in numerals(cell.source) if not stands_in(numeral, shown | introduced)]
            if missing:
                yield f"{where}: no cell above shows {', '.join(missing)}"
            continue
        shown |= numbers_in(re.sub(r"figures\.show\(.*", "", cell.source, flags=re.DOTALL))
        shown |= set().union(*(numbers_in(output.get("text", "")) for output in cell.outputs))
        for alt in alternatives(cell):
            if len(alt) < 40 or re.match(r"(?i)(an? )?(figure|image|picture|plot) of\b", alt):
                yield f"{where}: a figure without an alternative text that says what is seen: {alt!r}"
            missing = [numeral for numeral in numerals(alt) if not stands_in(numeral, shown)]
            if missing:
                yield f"{where}: its alternative text has {', '.join(missing)}, which no cell up to it shows"


def readme_problems(path: Path):
    text = path.read_text(encoding="utf-8")
    numbers = {*GIVEN, *(record["value"] for record in records().values())}
    if (benchmark := ROOT / "tools" / "benchmark.json").is_file():
        numbers |= numbers_in(benchmark.read_text(encoding="utf-8"))
    found = [*numerals(text), *(number for alt in re.findall(r"!\[([^\]]*)\]", text) for number in numerals(alt))]
    missing = [numeral for numeral in found if not stands_in(numeral, numbers)]
    if missing:
        yield f"neither claims.json nor benchmark.json has {', '.join(missing)}"


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
    others = readable(sorted(path.parent.glob("*.ipynb"))).values()
    setups = [cells[0].source for cells in map(code_cells, others) if cells]
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
    paths = filter(Path.is_file, [*series(), ROOT / "README.md", ROOT / "CITATION.cff"])
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    found = [pattern.findall(text) for text in texts.values() for pattern in (BADGE, SETUP)]
    old = {name, *(groups[1] for match in found for groups in match)}
    link = re.compile(rf"(github\.com/)(?:{'|'.join(map(re.escape, old))})(?![\w-]|\.(?!git\b)\w)")
    books = [re.escape(book_of(each)) for each in old]
    book = re.compile(rf"(?:{'|'.join(books)})(?![\w.-])")
    differing = 0
    for path, text in texts.items():
        new = BADGE.sub(rf"\g<1>{name}\g<3>{ref}\g<5>", text)
        new = book.sub(book_of(name), link.sub(rf"\g<1>{name}", SETUP.sub(rf"\g<1>{name}", new)))
        if new == text:
            continue
        differing += 1
        print(f"{path.name}: {'names another repository' if only_report else 'rewritten'}")
        if not only_report:
            write(path, new.encode())
    print(f"{len(texts)} files, {differing} {'to rewrite' if only_report else 'rewritten'} for {name} at {ref}.")
    return 1 if only_report and differing else 0


def book_of(repository: str) -> str:
    """Return the address at which GitHub publishes the pages of a repository."""
    owner, name = repository.split("/")
    return f"https://{owner}.github.io/{name}"


def repository(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/(?!\.+$)[\w.-]{1,100}(?<!\.git)", text, re.ASCII):
        return text
    raise argparse.ArgumentTypeError(f"expected OWNER/NAME as on GitHub, without address or .git, received {text!r}")


def absolute(path: str) -> Path:
    return Path(path).resolve()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("run")
    command.add_argument("paths", nargs="*", type=absolute, metavar="NOTEBOOK")
    command.add_argument("--reference", action="store_true")
    command.add_argument("--record", action="store_true")
    command = commands.add_parser("seeds")
    command.add_argument("--count", type=int, default=10)
    command.add_argument("--jobs", type=int, default=1, help="seeds at a time; give each OMP_NUM_THREADS of its own")
    command = commands.add_parser("long")
    command.add_argument("path", type=Path, metavar="NOTEBOOK")
    command.add_argument("--count", type=int, default=5, help="seeds of each row")
    command.add_argument("--rows", nargs="+", default=[], help="only these")
    command = commands.add_parser("check")
    command.add_argument("paths", nargs="*", type=absolute, metavar="FILE")
    command = commands.add_parser("repo")
    command.add_argument("name", type=repository, metavar="OWNER/NAME")
    command.add_argument("--ref", default="main")
    command.add_argument("--check", action="store_true")
    given = parser.parse_args(arguments)
    if given.command == "run":
        return run(given.paths or series(), given.reference, given.record)
    if given.command == "seeds":
        return seeds(given.count, given.jobs)
    if given.command == "long":
        return long(given.path, given.count, given.rows)
    if given.command == "check":
        return check(given.paths or [*series(), ROOT / "README.md"])
    return repo(given.name, given.ref, given.check)


if __name__ == "__main__":
    sys.exit(main())
