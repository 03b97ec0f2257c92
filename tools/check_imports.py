"""Hold the import directions of mmvae: a room may import the rooms below it, and its own files.

    python tools/check_imports.py [PACKAGE]

prints each line that breaks them and exits with status 1 if there are any. Imports inside functions count too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

LAYERS = (  # from the bottom; rooms of one layer do not import one another
    {"core", "distances", "hardware", "launch", "words"},
    {"combinations", "modalities", "recipe_files", "tables"},
    {"recipe", "testing"},
    {"data", "gallery", "optimizing", "progress"},
    {"checkpoint", "inputs", "samples"},
    {"composing", "inferring"},
    {"generation", "info", "resume"},
    {"evaluation", "pretraining", "starting", "previews", "reproducing", "resynthesizing", "traversing"},
    {"card", "fitting"},
    {"training"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
HEIGHT = {room: height for height, layer in enumerate(LAYERS) for room in layer}
# what others may import of modalities: never a modality's own file
SHARED = {
    "contract",
    "hearing",
    "inception",
    "networks",
    "phase",
    "pixels",
    "recurrent",
    "registry",
    "representation",
    "sounds",
    "spectra",
    "waveforms",
}


def imported(tree: ast.AST, package: Path) -> Iterator[tuple[int, str]]:
    """Line numbers and dotted names below the package of all its modules that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            names = [f"{package.name}.."]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first, _, below = name.partition(".")
            if first == package.name and below:
                yield node.lineno, below


def is_module(package: Path, room: str) -> bool:
    """Whether `room` is a file or folder of the package, rather than a name in its __init__."""
    return (package / f"{room}.py").is_file() or (package / room).is_dir()


def fault(package: Path, file: Path, target: str) -> str | None:
    """What is wrong with a file's import of `target`, a dotted name below the package; None if nothing."""
    inside = file.relative_to(package).with_suffix("").parts
    ours, theirs, *rest = inside[0], *target.split(".")
    if not theirs:
        return "a relative import: write it in full"
    if not is_module(package, theirs) or ours == "__init__":
        return None
    unknown = next((room for room in (ours, theirs) if room not in HEIGHT), None)
    if unknown:
        return f"{unknown} has no layer: add it to LAYERS in {Path(__file__).name}"
    if theirs == "modalities" and rest and rest[0] not in SHARED and inside[1:2] != (rest[0],):
        return f"imports the modality file {target}: only the registry names it, as text"
    if ours != theirs and HEIGHT[theirs] >= HEIGHT[ours]:
        return f"{ours} imports {target}, which is not below it"
    return None


def faults(package: Path) -> list[str]:
    """All imports of a package that break the directions, as "file:line: what"."""
    found = []
    for file in sorted(package.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
        lines = {(line, what) for line, target in imported(tree, package) if (what := fault(package, file, target))}
        found += [f"{file}:{line}: {what}" for line, what in sorted(lines)]
    return found


if __name__ == "__main__":
    problems = faults(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "mmvae").resolve())
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    sys.exit(bool(problems))
