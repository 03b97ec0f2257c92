"""The house: import directions, sizes, words, docstrings and start-up, so that it stays readable."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import mmvae
from mmvae.core.likelihoods import TokenNetwork

PACKAGE = Path(mmvae.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = sorted(
    module.name for module in pkgutil.walk_packages([str(PACKAGE)], "mmvae.") if not module.name.endswith("__main__")
)
MODALITIES = ("image", "text", "audio")
by_file = pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES])


@pytest.fixture(scope="module")
def directions() -> ModuleType:
    """tools/check_imports.py."""
    spec = importlib.util.spec_from_file_location("check_imports", ROOT / "tools" / "check_imports.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_imports_point_down(directions: ModuleType) -> None:
    assert directions.faults(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("core/vae.py", "from mmvae.modalities.contract import Modality", "core imports modalities.contract"),
        ("core/vae.py", "def f():\n    import mmvae.recipe", "core imports recipe"),
        ("data/store.py", "from mmvae import generation", "data imports generation"),
        ("testing.py", "from mmvae.recipe import Recipe", "testing imports recipe"),
        ("recipe.py", "from mmvae.modalities.text import Text", "imports the modality file modalities.text"),
        ("modalities/text.py", "from mmvae.modalities.image import Image", "imports the modality file"),
        ("data/store.py", "from . import splits", "a relative import"),
        ("upstairs.py", "from mmvae.core.vae import Network", "upstairs has no layer"),
    ],
)
def test_an_import_that_points_up_is_found(
    directions: ModuleType, tmp_path: Path, file: str, line: str, message: str
) -> None:
    package = tmp_path / "mmvae"
    rooms = ("core/vae.py", "modalities/contract.py", "modalities/text.py", "modalities/image.py", "data/store.py")
    for name in (*rooms, "recipe.py", "generation.py", file):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("")
    assert directions.faults(package) == []
    (package / file).write_text(line)
    (problem,) = directions.faults(package)
    assert message in problem
    assert problem.startswith(str(package / file))


def test_the_script_exits_with_1_where_an_import_points_up(tmp_path: Path) -> None:
    package = tmp_path / "mmvae"
    (package / "core").mkdir(parents=True)
    (package / "recipe.py").write_text("")
    (package / "core" / "vae.py").write_text("import mmvae.recipe\n")
    command = [sys.executable, str(ROOT / "tools" / "check_imports.py"), str(package)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "vae.py:1:" in ran.stderr


@by_file
def test_no_file_is_longer_than_300_lines(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 300


def strings(tree: ast.AST) -> set[str]:
    """All string literals of a file."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


@pytest.mark.parametrize("file", sorted((PACKAGE / "core").glob("*.py")), ids=lambda file: file.name)
def test_the_core_names_no_modality(file: Path) -> None:
    assert strings(ast.parse(file.read_text(encoding="utf-8"))).isdisjoint(MODALITIES)


# what a part of the core may lean on; every other file of it is one or a few parts
GROUND = {
    "experts",
    "functions",
    "latents",
    "likelihoods",
    "noise",
    "normalization",
    "objectives",
    "priors",
    "processes",
    "registry",
    "schedules",
    "trees",
    "vae",
}


@pytest.mark.parametrize("file", sorted((PACKAGE / "core").glob("*.py")), ids=lambda file: file.name)
def test_no_part_of_the_core_imports_another(file: Path) -> None:
    """A posterior family, prior or objective is its own file and a line in a registry, which names it by a string."""
    found = set(re.findall(r"^ *(?:from|import) mmvae\.(\S+)", file.read_text(encoding="utf-8"), re.MULTILINE))
    assert {name.removeprefix("core.") for name in found} <= GROUND


@by_file
def test_nothing_asks_which_modality_it_has(file: Path) -> None:
    """No isinstance or issubclass of a modality's class, and no comparison of a kind with a modality's name."""
    if file.parent.name == "modalities" and file.stem in MODALITIES:
        return
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.startswith("is"):
            named = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            assert named.isdisjoint({"Image", "Text", "Audio"}), f"line {node.lineno}"
        if isinstance(node, ast.Compare) and "kind" in ast.unparse(node.left):
            assert strings(node).isdisjoint(MODALITIES), f"line {node.lineno}"


@by_file
def test_a_file_opens_with_one_line_that_says_what_it_is(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    if file.name == "__init__.py" and not text:
        return
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":", '"'))


@pytest.mark.parametrize("name", MODULES)
def test_all_that_is_public_says_what_it_is(name: str) -> None:
    module = importlib.import_module(name)
    mute = []
    for label, thing in vars(module).items():
        if label.startswith("_") or getattr(thing, "__module__", None) != name:
            continue
        if inspect.isfunction(thing) and not thing.__doc__:
            mute.append(label)
        elif inspect.isclass(thing):
            if not thing.__doc__:
                mute.append(label)
            # a method may have its description from the class or protocol that declares it
            methods = {key: value for key, value in vars(thing).items() if not key.startswith("_")}
            mute += [
                f"{label}.{key}"
                for key, value in methods.items()
                if (inspect.isfunction(value) or isinstance(value, (classmethod, staticmethod, property)))
                and not inspect.getdoc(getattr(thing, key))
                and not getattr(TokenNetwork, key, None)
            ]
    assert mute == []


def test_importing_mmvae_loads_no_heavy_library() -> None:
    heavy = ("torch", "transformers", "datasets", "numpy", "pydantic", "librosa", "rich", "typer")
    code = f"import sys, mmvae, mmvae.core; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_training_and_generating_load_no_library_that_they_do_not_use() -> None:
    code = (
        "import sys, mmvae.training, mmvae.generation;"
        "print([name for name in ('transformers', 'datasets', 'librosa', 'tensorboard') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_public_names_are_where_the_package_says() -> None:
    for name in mmvae.__all__:
        assert getattr(mmvae, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = mmvae.nonsense
    assert set(dir(mmvae)) == set(mmvae.__all__)
