"""The package as a whole: what it exports, what starting it costs, and the rules of the house, read from the source."""

import ast
import dataclasses
import importlib.metadata
import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import brainseg_keras

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "brainseg_keras"
SOURCES = sorted(PACKAGE.rglob("*.py"))
# Loading any of these would make `brainseg --help` slow.
HEAVY = ["keras", "tensorflow", "jax", "torch", "numpy", "pandas", "scipy", "h5py", "cv2", "matplotlib", "sklearn"]
DATA_SUFFIXES = (".tif", ".tiff", ".nii", ".nii.gz", ".dcm", ".h5", ".hdf5", ".npy", ".npz")
# The only rooms that may import TensorFlow: files, or folders of the same name.
TENSORFLOW_ROOMS = ("data/pipeline", "training", "monitoring", "export", "inference/explanation")
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@pytest.fixture(params=SOURCES, ids=relative)
def source(request):
    return request.param


@pytest.fixture(scope="module")
def tracked():
    """Paths of the files that git tracks."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout: tracked files are unknown")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip(f"git ls-files failed: {listing.stderr.strip()}")
    return [ROOT / name for name in listing.stdout.split("\0") if name]


# ---- starting it


def test_import_loads_nothing_heavy():
    done = run_python(
        "import sys, brainseg_keras, brainseg_keras.cli\nprint(*sorted(set(sys.argv[1:]) & set(sys.modules)))",
        *HEAVY,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_command_line_answers_without_loading_a_framework(flag):
    done = run_python(
        "import sys\n"
        "from brainseg_keras.cli import main\n"
        "heavy, sys.argv = sys.argv[2:], ['brainseg', sys.argv[1]]\n"
        "try:\n"
        "    code = main()\n"
        "except SystemExit as end:\n"
        "    code = end.code\n"
        "print(*sorted(set(heavy) & set(sys.modules)), file=sys.stderr)\n"
        "sys.exit(code)",
        flag,
        *HEAVY,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == []
    expected = "train" if flag == "--help" else brainseg_keras.__version__
    assert expected in done.stdout


def test_version_is_that_of_the_installed_package():
    assert brainseg_keras.__version__ == importlib.metadata.version("brainseg_keras")


def test_entry_point_is_the_command_line():
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="brainseg")
    assert entry.value == "brainseg_keras.cli:main"
    assert callable(entry.load())


# ---- public names


def test_public_names_are_unique_and_listed_by_dir():
    assert len(set(brainseg_keras.__all__)) == len(brainseg_keras.__all__)
    assert set(brainseg_keras.__all__) - {"__version__"} <= set(dir(brainseg_keras))


@pytest.mark.parametrize("name", brainseg_keras.__all__)
def test_public_name_resolves_and_is_documented(name):
    public = getattr(brainseg_keras, name)
    if name == "__version__":
        return
    text = inspect.getdoc(public) or ""
    assert text.strip(), f"{name} has no docstring"
    if not callable(public):
        return
    summary = text.splitlines()[0]
    assert summary.endswith("."), f"{name}: the first line is not a sentence: {summary!r}"
    missing = [section for section in needed_sections(public) if not re.search(section_line(section), text, re.M)]
    assert not missing, f"{name}: the docstring lacks {missing}"
    assert ">>>" in text.split("Example:")[1], f"{name}: its Example is no >>> session"
    # Only the text before the Example counts: there, an argument may be used without a word about it.
    described = text.split("Example:")[0]
    if reference := re.search(section_line("Args") + r" as `(\w+)`", text, re.M):
        described += inspect.getdoc(getattr(brainseg_keras, reference[1]))
    silent = [argument for argument in parameters(public) if not re.search(rf"\b{argument}\b", described)]
    assert not silent, f"{name}: the docstring does not mention {silent}"


def section_line(section: str) -> str:
    # Also "Args, Returns: as `conv_block`."
    return rf"^(?:\w+, )*{section}(?:, \w+)*:"


def parameters(public: object) -> list[str]:
    """Names of the arguments that the docstring must describe."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = [p.name for p in inspect.signature(public).parameters.values() if p.kind not in kinds]
    # The fields of a configuration carry their text with them, for the command line to show.
    fields = dataclasses.fields(public) if dataclasses.is_dataclass(public) else ()
    return [name for name in names if name not in {f.name for f in fields if f.metadata.get("help")}]


def needed_sections(public: object) -> list[str]:
    sections = ["Args"] if parameters(public) else []
    returns = inspect.signature(public).return_annotation
    said = (inspect.getdoc(public) or "").startswith("Return ")
    if inspect.isfunction(public) and returns not in (None, "None", inspect.Signature.empty) and not said:
        sections.append("Returns")
    return [*sections, "Example"]


# ---- rules of the house


def test_file_length(source):
    lines = len(source.read_text(encoding="utf-8").splitlines())
    assert lines <= 350, f"{relative(source)} has {lines} lines: make it a folder of the same name"


def test_function_length(source):
    long = []
    for node in ast.walk(parse(source)):
        if isinstance(node, FUNCTION):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            if lines > 60:
                long.append(f"{node.name} has {lines} lines")
    assert not long, f"{relative(source)}: {long}"


def test_no_assert_and_no_swallowed_exception(source):
    found = []
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.Assert):
            found.append(f"line {node.lineno}: assert; raise ValueError with a cure")
        if isinstance(node, ast.ExceptHandler):
            catch_all = node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException")
            if catch_all and all(isinstance(statement, ast.Pass) for statement in node.body):
                found.append(f"line {node.lineno}: every exception is swallowed")
    assert not found, f"{relative(source)}: {found}"


def test_tensorflow_stays_in_its_rooms(source):
    inside = source.relative_to(PACKAGE).with_suffix("").as_posix()
    if any(inside == room or inside.startswith(f"{room}/") for room in TENSORFLOW_ROOMS):
        return
    modules = set()
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.Import):
            modules.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules.add((node.module or "").split(".")[0])
    assert "tensorflow" not in modules, f"{relative(source)} imports tensorflow; allowed: {TENSORFLOW_ROOMS}"


#: Which room may import which: a row only from rows above it, and in the first four rows none from another.
ROWS = (
    {"errors"},
    {"ranges", "cache", "files", "information", "registry", "shapes", "_version", "_registration"},
    {"html", "terminal", "visualization", "folds", "parts", "cluster"},
    {"models", "losses", "metrics", "data", "evaluation"},
    {"calibration"},
    {"postprocessing", "expectation"},
    {"spec"},
    {"inference"},
    {"training", "monitoring", "reports"},
    {"export", "app", "cli"},
    {"__main__"},
)


def test_imports_go_one_way(source):
    room = source.relative_to(PACKAGE).with_suffix("").parts[0]
    if room == "__init__":
        return
    row = next(number for number, rooms in enumerate(ROWS) if room in rooms)
    wrong = set()
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("brainseg_keras"):
            parts = node.module.split(".")
            for other in [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]:
                index = next((number for number, rooms in enumerate(ROWS) if other in rooms), 0)
                if other != room and (index > row or (index == row and row < 4)):
                    wrong.add(other)
    assert not wrong, f"{relative(source)} imports {sorted(wrong)}, which stand beside or below it"


def test_no_modules_import_each_other():
    """Nor in a longer circle, nor by an import within a function: each file can be read with those above it alone."""
    files = {module_name(path): path for path in SOURCES}
    imports = {name: set(imported(parse(path), files)) - {name} for name, path in files.items()}
    while free := [name for name, others in imports.items() if not others & imports.keys()]:
        for name in free:
            del imports[name]
    # What only leads to a circle goes too; what is left imports each other.
    while ends := imports.keys() - set().union(*imports.values()):
        for name in ends:
            del imports[name]
    assert not imports, {name: sorted(others & imports.keys()) for name, others in imports.items()}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(node: ast.AST, files: dict[str, Path]) -> Iterator[str]:
    """The modules of the package that are imported anywhere below a node, those that only types need among them."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names if alias.name in files)
        elif isinstance(child, ast.ImportFrom) and child.module in files:
            for alias in child.names:
                inside = f"{child.module}.{alias.name}"
                yield inside if inside in files else child.module
        else:
            yield from imported(child, files)


def test_a_circle_would_be_noticed():
    files = dict.fromkeys(["p", "p.a", "p.b"], ROOT)
    code = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from p.b import Type
def function():
    from p import a, name
    import p.b
"""
    assert list(imported(ast.parse(code), files)) == ["p.b", "p.a", "p", "p.b"]


def test_public_functions_are_annotated(source):
    bare = [missing for function in public_functions(parse(source)) for missing in missing_annotations(function)]
    assert not bare, f"{relative(source)}: {bare}"


def public_functions(module: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions of the module and methods of its classes, private names left out."""
    classes = [node for node in module.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    nodes = [*module.body, *(member for node in classes for member in node.body)]
    found = [node for node in nodes if isinstance(node, FUNCTION)]
    return [node for node in found if not node.name.startswith("_") or node.name == "__init__"]


def missing_annotations(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    named = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    named += [extra for extra in (function.args.vararg, function.args.kwarg) if extra is not None]
    bare = [a.arg for a in named if a.annotation is None and a.arg not in ("self", "cls")]
    if function.returns is None and function.name != "__init__":
        bare.append("return")
    return [f"{function.name}({argument})" for argument in bare]


def test_every_folder_of_code_is_a_package():
    bare = {relative(path.parent) for path in SOURCES if not (path.parent / "__init__.py").is_file()}
    assert not bare, f"without __init__.py these are left out of the wheel: {sorted(bare)}"


def test_examples_say_how_to_run_them():
    scripts = sorted((ROOT / "examples").glob("*.py"))
    assert scripts, "examples/ holds no script"
    silent = [name for name in scripts if f"python {relative(name)}" not in (ast.get_docstring(parse(name)) or "")]
    assert not silent, f"these lack their command in the docstring: {[relative(name) for name in silent]}"


# ---- the repository and the wheel


def test_no_large_file_is_tracked(tracked):
    sizes = {relative(path): path.stat().st_size for path in tracked if path.is_file()}
    assert not {name: size for name, size in sizes.items() if size > 12 * 2**20}


def test_no_patient_file_is_tracked(tracked):
    files = [path for path in tracked if not path.name.endswith(".weights.h5")]
    assert not [relative(path) for path in files if path.name.lower().endswith(DATA_SUFFIXES)]


def test_license_is_whole():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "APPENDIX: How to apply the Apache License to your work." in text
    assert len(text.split()) == 1581
