"""The documents: their code runs, their links lead somewhere, and the reference is whole and up to date.

So that they run in seconds, trainings take two steps on a thousand rows: `train.steps=2` and `data.limit=1000` are
added to the overrides of each `mmvae train` command and each call of `mmvae.train`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import mmvae
import mmvae.training
from mmvae import cli
from mmvae.core.registry import Settings
from mmvae.modalities.registry import modalities
from mmvae.recipe import PARTS, Recipe
from mmvae.recipe_files import recipe_names
from mmvae.tables import Data, ModalityTable, Train

ROOT = Path(mmvae.__file__).parents[1]
WITH_CODE = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*WITH_CODE, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "tests" / "plugin" / "README.md"]
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHORT = ["train.steps=2", "data.limit=1000"]
NOT_RUN = {  # commands with such a word
    "make": "it runs this test",
    "pip": "the package is installed already",
    "tensorboard": "a server, which would not end",
    "--nproc": "tests/test_training.py runs it, for 20 seconds",
}


def path_id(path: Path) -> str:
    """A file as it is called from the repository's root."""
    return str(path.relative_to(ROOT))


def run_python(code: str, line: int, file: Path, module: ModuleType) -> None:
    """Execute a block in a module, so that errors point to the document's lines."""
    exec(compile("\n" * line + code, str(file), "exec", dont_inherit=True), vars(module))


def run_commands(code: str) -> None:
    """Run each command of a block in a process of its own."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words or NOT_RUN.keys() & set(words):
            continue
        assert words[0] == "mmvae", f"{line}: run it here, or say in NOT_RUN why not"
        words += SHORT if words[1] == "train" else []
        ran = subprocess.run(
            [sys.executable, "-m", *words],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert ran.returncode == 0, f"{line}\n{ran.stderr}"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("file", WITH_CODE, ids=path_id)
def test_code_blocks_run(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, in one folder and one namespace a document."""
    full = mmvae.training.train

    def short(recipe: Any, overrides: Any = (), *rest: Any, **named: Any) -> mmvae.VAE:
        return full(recipe, [*overrides, *SHORT], *rest, **named)

    module = ModuleType(f"blocks_of_{file.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(mmvae.training, "train", short)
    monkeypatch.chdir(tmp_path)
    text = file.read_text(encoding="utf-8")
    for block in FENCE.finditer(text):
        language, code = block.groups()
        if language == "python":
            run_python(code, text[: block.start(2)].count("\n"), file, module)
        elif language == "sh":
            run_commands(code)


def prose(file: Path) -> str:
    """A document without its code."""
    return re.sub(r"`[^`\n]+`", "", FENCE.sub("", file.read_text(encoding="utf-8")))


def anchors(file: Path) -> set[str]:
    """The fragments that a link into a document can have."""
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", file.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("file", PAGES, ids=path_id)
def test_links_lead_somewhere(file: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(file)):
        if "://" in link:
            continue
        name, _, fragment = link.partition("#")
        target = (file.parent / name).resolve() if name else file
        assert target.exists(), link
        assert not fragment or fragment in anchors(target), link


def test_the_readme_lists_every_shipped_recipe() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in recipe_names() if f"| `{name}` |" not in readme] == []


def test_the_reference_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "tools" / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.reference() == REFERENCE, "run tools/make_reference.py"


def section(head: str) -> str:
    """A section of the reference, its parts included; empty where there is none."""
    _, _, rest = REFERENCE.partition(f"\n### `{head}")
    return re.split(r"\n###? ", rest)[0]


def commands(command: Any, path: str = "mmvae") -> Iterator[tuple[str, Any]]:
    """All commands with their names in full."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, below in command.commands.items():
        yield from commands(below, f"{path} {name}")


def test_the_reference_has_every_command_and_option() -> None:
    found = list(commands(typer.main.get_command(cli.app)))
    assert len(found) > 10
    for path, command in found:
        assert section(path), path
        names = {name for option in command.params for name in option.opts if name.startswith("-")} - {"--help"}
        assert [name for name in names if f"`{name}`" not in section(path)] == [], path


def undescribed(settings: type[Settings], text: str) -> list[str]:
    """The keys of a table of a recipe that are not in a text, or have no description."""
    return [
        name for name, field in settings.model_fields.items() if f"| `{name}` |" not in text or not field.description
    ]


def test_the_reference_has_every_part_and_key() -> None:
    registries = {"modalities.NAME": (modalities, ModalityTable), **PARTS}
    for table, (registry, settings) in registries.items():
        text = section(f"[{table}]")
        assert undescribed(settings, text) == [], table
        for name in registry.names():
            if registry.origin(name) == "built in":
                _, _, part = text.partition(f'#### `kind = "{name}"`')
                assert part, f"{table}: {name}"
                assert undescribed(registry.get(name).Config, part) == [], name
    assert undescribed(Data, section("[data]")) == undescribed(Train, section("[train]")) == []
    tables = {"data", "modalities", "train", *PARTS}
    assert [key for key in Recipe.model_fields if key not in tables and f"| `{key}` |" not in REFERENCE] == []


def test_the_reference_has_every_public_name() -> None:
    names = [name for name in mmvae.__all__ if not name.startswith("__")]
    assert [name for name in names if not section(f"mmvae.{name}")] == []
