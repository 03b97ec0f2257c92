"""The guard against posterior collapse: says in plain words when the latent is not used, and what mends it."""

from __future__ import annotations

from collections.abc import Mapping

from mmvae.core.priors import priors
from mmvae.evaluation.bounds import ALONE
from mmvae.recipe import Recipe

EARLY = 200  # steps before which no latent is used yet
EACH = "set objective.subsets = 'each', with which every modality is also read alone, or "
LEAST = 0.1  # nats of mutual information, and share of the units, below which a latent says nothing


def collapse(rate: float, use: Mapping[str, float], recipe: Recipe, step: int = EARLY) -> str | None:
    """A warning when the latent of a model is not used, else None.

    rate: KL(q(z|x) || p(z)) in nats a row. use: what `bounds.latent_use` measured on the same rows.
    step: of training, by default one at which a latent is in use.
    """
    dim, information = recipe.latent["dim"], use.get("mutual information")
    if information is None or step < EARLY or recipe.latent["kind"] == "none" or not recipe.kl["weight"]:
        return None
    if information > LEAST and use["active units"] > LEAST * dim:
        unheard = [name.removeprefix(ALONE) for name, alone in use.items() if name.startswith(ALONE) and alone < LEAST]
        each = EACH if recipe.objective.get("subsets") == "joint" else ""
        why = f"z says nothing of it alone, so that nothing can be made of it; {each}raise its weight in modalities"
        return f"{' and '.join(unheard)}: {why}" if unheard else None
    objective = recipe.objective
    if recipe.latent["kind"] in ("vq", "fsq"):
        mend = "lower train.learning_rate, for codes have no KL weight"
    # a learned prior has no target, and before a weight above 1 none is reached
    elif recipe.kl["weight"] > 1 or "target_rate" not in objective or priors.get(recipe.prior["kind"]).learned:
        mend = f"lower kl.weight (now {recipe.kl['weight']:g})"
    elif objective["target_rate"]:
        mend = f"raise objective.target_rate (now {objective['target_rate']:g})"
    elif objective["free_bits"]:
        mend = f"raise objective.free_bits (now {objective['free_bits']:g}), or set objective.target_rate=8"
    else:
        mend = "set objective.target_rate=8, with which z carries 8 nats"
    return (
        f"the posterior has collapsed: z tells {max(information, 0):.2f} nats about a row, the rate is {rate:.2f} and "
        f"{use['active units']:.0f} of {dim} units are active, so samples do not depend on z; {mend}, and begin again"
    )
