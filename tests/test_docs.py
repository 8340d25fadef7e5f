"""What the documentation says of the package, held to the package."""

import ast
import importlib
import json
import re
import textwrap
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

import drifa_cli
import drifa_keras
from drifa_keras.models import preset_class, presets

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), REPOSITORY / "README.md"]


def rows_of(page):
    """The cells of the tables of a page, without the backticks."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    return [
        [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("|")
    ]


def parts_that_a_part_imports(part):
    root = REPOSITORY / "drifa_keras"
    files = (root / part).rglob("*.py") if (root / part).is_dir() else [root / part]
    names = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    inside = {name.split(".")[1] for name in names if name.startswith("drifa_keras.")}
    return inside - {part.removesuffix(".py"), "__version__"}


def test_parts_import_what_the_architecture_allows():
    allowed = {
        row[0]: set(re.findall(r"\w+", row[1])) for row in rows_of("architecture.md")
    }
    found = {
        path.name: parts_that_a_part_imports(path.name)
        for path in (REPOSITORY / "drifa_keras").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").is_file())
        and path.name != "__init__.py"
    }
    for name, imports in found.items():
        part = name.removesuffix(".py")
        assert part in allowed, f"docs/architecture.md does not name {part}"
        assert imports <= allowed[part], f"{part} imports {imports - allowed[part]}"
    # The table itself has no circle.
    done = set()
    while ready := {p for p, on in allowed.items() if p not in done and on <= done}:
        done |= ready
    assert done >= {name.removesuffix(".py") for name in found}


def test_every_preset_is_described():
    rows = {row[0]: row[1] for row in rows_of("models.md")}
    for name in presets():
        assert rows[name] == preset_class(name).__name__


def test_what_was_measured_of_presets_is_shown(monkeypatch, capsys):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    stored = REPOSITORY / "benchmarks" / "results" / "presets.json"
    found = json.loads(stored.read_text(encoding="utf-8"))
    importlib.import_module("table").report(found)
    printed = {line.strip() for line in capsys.readouterr().out.splitlines()}
    shown = (DOCS / "performance.md").read_text(encoding="utf-8").splitlines()
    names = {f"| {row['preset']} | {row['backend']} |" for row in found["networks"]}
    rows = [line for line in shown if any(line.startswith(name) for name in names)]
    assert len(rows) > 20
    assert not [row for row in rows if row not in printed]


def test_every_command_is_described():
    described = {
        " ".join(re.findall(r"[a-z]+", row[0])[1:]) for row in rows_of("cli.md")
    }

    def commands(group, before):
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from commands(command, f"{before}{name} ")
            else:
                yield before + name

    for name in commands(get_command(drifa_cli.app), ""):
        assert any(line.startswith(name) for line in described), name


def test_every_part_has_its_page():
    text = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    for name in drifa_keras.__all__:
        if name.islower() and name not in ("__version__", "predict"):
            assert f"- {name}: api/{name}.md" in text
            page = (DOCS / "api" / f"{name}.md").read_text(encoding="utf-8")
            assert f"::: drifa_keras.{name}\n" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_of_a_page_compiles(page):
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^( *```python\n.*?)```", text, re.S | re.M):
        code = textwrap.dedent(block).partition("\n")[2]
        compile(code, page.name, "exec")


def test_links_of_the_readme_lead_somewhere():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if ":" not in link]
    assert links
    for link in links:
        assert (REPOSITORY / link).exists(), link


def test_configuration_of_a_page_is_valid():
    from drifa_keras.configs import parse_config

    for page in (DOCS / "train.md", REPOSITORY / "README.md"):
        (block,) = re.findall(r"```yaml\n(.*?)```", page.read_text("utf-8"), re.S)
        parse_config(yaml.safe_load(block))
