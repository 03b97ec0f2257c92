"""The model card: a README beside the weights that says what a model is, how it was made and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import mmvae
from mmvae.evaluation.bounds import Measured
from mmvae.recipe import Recipe

SHOWN = {  # how a contact sheet appears in Markdown, by its suffix
    ".png": lambda path: f"![samples](previews/{path.name})\n",
    ".txt": lambda path: f"```text\n{path.read_text(encoding='utf-8')}```\n",
}


def write_card(folder: Path, recipe: Recipe, terms: Measured, rows: Mapping[str, int], steps: int) -> None:
    """Write README.md. terms: of the validation split; rows: of each split; steps: that were taken."""
    kinds = ", ".join(f"{name} ({table['kind']})" for name, table in recipe.modalities.items())
    start = f", begun with {recipe.train.start}" if recipe.train.start else ""
    table = "\n".join(f"| {name.replace('/', ', ')} | {value:,.2f} |" for name, value in terms.figures().items())
    last = max((path.name.split("-")[0] for path in folder.glob("previews/*-samples-*")), default="")
    samples = [path for path in sorted(folder.glob(f"previews/{last}-samples-*")) if path.suffix in SHOWN]
    (folder / "README.md").write_text(
        f"""# {recipe.name}

{recipe.about or "A variational autoencoder"}. Made by mmvae {mmvae.__version__}.

{"".join(SHOWN[path.suffix](path) for path in samples)}
These are samples, not chosen. For more, beside this folder:

    mmvae generate {folder.name} -n 16

or in Python, where {", ".join(f"`samples[{name!r}]`" for name in recipe.modalities)} holds them:

```python
import mmvae

samples = mmvae.VAE.load("{folder.name}").generate(16, seed=0)
```

| | |
|---|---|
| modalities | {kinds} |
| data | {recipe.data.path}: {", ".join(f"{split} {count:,} rows" for split, count in rows.items())} |
| latent | {recipe.latent["dim"]} dimensions, {recipe.latent["kind"]} posterior, {recipe.prior["kind"]} prior |
| objective | {recipe.objective["kind"]}, KL weight {recipe.kl["weight"]:g} ({recipe.kl["kind"]}) |
| training | {steps:,} steps of {recipe.train.batch_size} rows, seed {recipe.train.seed}{start} |

On the validation split, at KL weight 1, in nats a row:

| | |
|---|---|
{table}

The whole recipe is in config.json. `mmvae evaluate {folder.name}` measures more, on the test split.
""",
        encoding="utf-8",
    )
