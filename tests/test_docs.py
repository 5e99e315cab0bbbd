"""The documents keep up with the code: commands parse, links lead somewhere, examples run."""

import doctest
import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml

import brainseg_keras

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted({*ROOT.glob("*.md"), *ROOT.glob("[!.]*/*.md"), *ROOT.glob("docs/**/*.md")})
SHELL = ("bash", "sh", "shell", "console")
SOURCES = sorted((ROOT / "brainseg_keras").rglob("*.py"))
MODULES = sorted(
    {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SOURCES if ">>>" in path.read_text()}
)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def code_blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block."""
    return re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def first_block(heading: str) -> tuple[str, str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {re.escape(heading)}\s*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"README.md has no section '## {heading}'"
    blocks = code_blocks(section[1])
    assert blocks, f"README.md has no code block under '## {heading}'"
    return blocks[0]


def commands(block: str) -> list[list[str]]:
    """Words of each command of a shell block, prompts, assignments and redirections taken off."""
    found = []
    for line in block.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars="&|;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("&|;"):
                if words:
                    found.append(words)
                words = []
            elif words or not re.fullmatch(r"\w+=.*", word):
                words.append(word)
    redirections = [next((i for i, word in enumerate(words) if set(word) <= set("<>&")), None) for words in found]
    return [words[:end] for words, end in zip(found, redirections, strict=True)]


def documented_commands() -> list:
    cases = []
    for path in DOCUMENTS:
        for language, block in code_blocks(path.read_text(encoding="utf-8")):
            if language in SHELL:
                lines = [words for words in commands(block) if words[0] == "brainseg"]
                cases += [pytest.param(words, id=f"{relative(path)}: {' '.join(words)}") for words in lines]
    return cases


def complaint(words: list[str]) -> str:
    """What the real command line has against these words; nothing is run. Empty if they parse."""
    from typer.main import get_command

    from brainseg_keras.cli import app

    command, name, rest = get_command(app), "brainseg", list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        if name not in command.commands:
            return f"no command {name!r}; there are {sorted(command.commands)}"
        command = command.commands[name]
    try:
        command.make_context(name, rest)
    except Exception as error:
        # --help and --version end by an exit with code 0. A file of an example need not exist here.
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        if getattr(error, "exit_code", 1) and "does not exist" not in message:
            return f"{type(error).__name__}: {message}"
    return ""


def test_shell_lines_are_read_as_a_shell_would():
    block = (
        "$ A=1 brainseg train --data 'a b' \\\n  -o run > log && brainseg models  # all\ncd x; ls | brainseg doctor\n"
    )
    assert commands(block) == [
        ["brainseg", "train", "--data", "a b", "-o", "run"],
        ["brainseg", "models"],
        ["cd", "x"],
        ["ls"],
        ["brainseg", "doctor"],
    ]


@pytest.mark.parametrize(("heading", "expected"), [("Quick start", "brainseg"), ("Tests", "python -m pytest")])
def test_readme_blocks_install_and_run(heading, expected):
    language, block = first_block(heading)
    assert language in SHELL
    words = commands(block)
    assert words[0][:2] == ["pip", "install"], (
        "the first block must install the package: it is pasted into a fresh clone"
    )
    assert expected in block


@pytest.mark.parametrize("words", documented_commands())
def test_documented_command_parses(words):
    assert complaint(words[1:]) == ""


def test_wrong_commands_would_be_noticed():
    assert complaint(["trane"])
    assert complaint(["train", "--no-such-flag"])


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_relative_links_lead_to_files(path):
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "", text)
    targets = re.findall(r"\]\(<?([^)\s>]+)", text) + re.findall(r"<img[^>]+src=\"([^\"]+)\"", text)
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert not [target for target in local if not (path.parent / target.split("#")[0]).exists()]
    places = [target.split("#") for target in local if "#" in target]
    assert not [
        f"{file}#{anchor}" for file, anchor in places if anchor not in anchors(path.parent / file if file else path)
    ]


def anchors(path: Path) -> set[str]:
    """What links may name of a document: its headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def test_citation_is_complete():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "type", "title", "authors", "version", "license", "references"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == "Apache-2.0"
    assert citation["version"] == brainseg_keras.__version__
    for reference in citation["references"]:
        assert {"type", "title", "authors", "year"} <= set(reference)
        assert "doi" in reference or "identifiers" in reference, f"{reference['title']} cannot be found by a reader"
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    papers = "1505.04597 1802.06955 1804.03999 1711.10684 j.bspc.2024.107220 1708.02002 1906.03720 2206.01653"
    assert not [paper for paper in papers.split() if paper not in text]


def test_changelog_names_this_version():
    assert brainseg_keras.__version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name.removesuffix(".__init__") for name in MODULES])
def test_examples_in_docstrings_run(name, tmp_path, monkeypatch):
    # Examples that write a file write it here.
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0, f"{name} has >>> outside its docstrings"
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples of {name} failed; see the output above"
