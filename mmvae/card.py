"""The model card: a README beside the weights that says what a model is, how it was made and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import mmvae
from mmvae.evaluation.bounds import Terms
from mmvae.recipe import Recipe


def write_card(folder: Path, recipe: Recipe, terms: Terms, rows: Mapping[str, int]) -> None:
    """Write README.md. terms: of the validation split; rows: of each split."""
    kinds = ", ".join(f"{name} ({table['kind']})" for name, table in recipe.modalities.items())
    figures = {"-ELBO": terms.negative_elbo, "rate": terms.rate}
    figures |= {f"distortion, {name}": value for name, value in terms.distortion.items()}
    table = "\n".join(f"| {name} | {value:,.2f} |" for name, value in figures.items())
    previews = "\n".join(f"![{path.stem}](previews/{path.name})" for path in sorted(folder.glob("previews/*.png"))[-3:])
    (folder / "README.md").write_text(
        f"""# {recipe.name}

{recipe.about or "A variational autoencoder."} Made by mmvae {mmvae.__version__}.

    mmvae generate {folder.name}

```python
import mmvae
mmvae.VAE.load("{folder.name}").generate(16, seed=0)
```

| | |
|---|---|
| modalities | {kinds} |
| data | {recipe.data.path}: {", ".join(f"{split} {count:,} rows" for split, count in rows.items())} |
| latent | {recipe.latent["dim"]} dimensions, {recipe.latent["kind"]} posterior, {recipe.prior["kind"]} prior |
| objective | {recipe.objective["kind"]}, KL weight {recipe.kl["weight"]:g} ({recipe.kl["kind"]}) |
| training | {recipe.train.steps:,} steps of {recipe.train.batch_size} rows, seed {recipe.train.seed} |

On the validation split, at KL weight 1, in nats a row:

| | |
|---|---|
{table}

{previews}

The whole recipe is in config.json; `mmvae evaluate {folder.name}` measures the test split.
""",
        encoding="utf-8",
    )
