"""Which parts of the core are not made for one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmvae.core.priors import priors

CODES = ("vq", "fsq", "gumbel")
POINTS = ("deterministic", "vq", "fsq")
OF_BATCHES = ("total-correlation", "dip", "mmd", "adversarial")  # objectives that compare the rows of a batch
# priors of a training, and the posterior families that they are made for; the others are for densities over all of R^D
MADE_FOR = {"codes": CODES, "sphere": ("sphere",), "ladder": ("ladder",)}


def usual_fit(latent: Mapping[str, Any], prior: Mapping[str, Any]) -> int | str:
    """What `prior.fitted` is where a recipe does not say it."""
    if latent["kind"] in CODES:
        return "codes"
    return 0 if latent["kind"] in ("none", "sphere") or priors.get(prior["kind"]).learned else 10


def constant_rate(latent: Mapping[str, Any]) -> bool:
    """Whether no weight of a posterior family changes its rate."""
    return latent["kind"] in ("none", *POINTS)


def check_together(latent: Mapping[str, Any], prior: Mapping[str, Any], objective: Mapping[str, Any]) -> None:
    """Raise ValueError, with what to change, for tables of a recipe whose parts do not go together."""
    kind, family = objective["kind"], latent["kind"]
    needed = next((prior_kind for prior_kind, families in MADE_FOR.items() if family in families), None)
    _refuse(
        (
            (family == "none") != (prior["kind"] == "none"),
            "latent.kind and prior.kind: a model without a latent has 'none' for both",
        ),
        (
            needed is not None and prior["kind"] != needed,
            f"prior.kind: latent.kind = {family} needs '{needed}'",
        ),
        (
            prior["kind"] in MADE_FOR and prior["kind"] != needed,
            f"latent.kind: prior.kind = {prior['kind']} needs {' or '.join(MADE_FOR.get(prior['kind'], ()))}",
        ),
        (
            family == "deterministic" and prior["kind"] != "standard",
            "prior.kind: the prior of points is fitted afterwards; set 'standard'",
        ),
        (
            prior["kind"] == "tree" and (family != "gaussian" or kind in ("importance", "hamiltonian")),
            "prior.kind: tree is made for latent.kind = gaussian, and objectives other than importance and hamiltonian",
        ),
        (
            family == "flow" and prior["kind"] == "vamp",
            "prior.kind: vamp scores each z under other posteriors, for which flows are too slow; set 'flow'",
        ),
        (
            family in POINTS and kind == "importance",
            "objective.kind: importance weighs draws of z, and points are not drawn",
        ),
        (
            family == "gumbel" and kind == "importance",
            "objective.kind: the density of a code has no derivative by it, which importance needs; set 'elbo'",
        ),
        (
            kind == "hamiltonian" and family in ("none", "sphere", *POINTS, *CODES),
            f"objective.kind: hamiltonian moves z by a derivative, and latent.kind = {family} has no way to follow it",
        ),
        (
            kind == "adversarial" and family == "none",
            "objective.kind: adversarial compares latents, and without a latent there is nothing to compare",
        ),
        (
            objective.get("against") == "shuffled" and family in ("sphere", "vq", "gumbel"),
            f"objective.against: of latent.kind = {family} no z has independent dimensions; set 'prior'",
        ),
        (
            latent["dim"] < 2 and (kind == "total-correlation" or objective.get("against") == "shuffled"),
            "latent.dim: one dimension alone tells nothing of others; set it to 2 or more",
        ),
        (
            prior["kind"] == "vamp" and bool(latent.get("mean_scale")),
            "latent.mean_scale: the rows of a VampPrior would be normalized by themselves; set it to 0",
        ),
        (
            kind == "alone" and (family not in ("gaussian", "mixture", "correlated") or bool(latent.get("mean_scale"))),
            "objective.kind: alone needs latent.kind = gaussian, mixture or correlated, and latent.mean_scale = 0",
        ),
        (kind == "rae" and family != "deterministic", "objective.kind: rae is made for latent.kind = deterministic"),
        (
            kind == "total-correlation" and family != "gaussian",
            "objective.kind: total-correlation is defined here for latent.kind = gaussian",
        ),
        (
            objective.get("of") == "z" and family != "gaussian",
            "objective.of: the covariance of z is known of latent.kind = gaussian; set 'means'",
        ),
        (
            family == "sphere" and latent["dim"] < 2,
            "latent.dim: a sphere has two dimensions at least; set it to 2 or more",
        ),
        (
            objective.get("encoder") == "dreg" and family in ("flow", "ladder", *CODES),
            f"objective.encoder: dreg is not made for latent.kind = {family}",
        ),
        (
            family == "mixture" and objective.get("groups", 1) > 1 and objective["encoder"] != "same",
            "objective.encoder: where the groups of draws are of a mixture's parts it is 'same'; or set "
            "objective.groups to 1",
        ),
        (
            priors.get(prior["kind"]).learned and bool(objective.get("target_rate")),
            "objective.target_rate: a prior that is learned would move to reach it; set it to 0",
        ),
        (
            latent["dim"] < 2 and (family == "flow" or "flow" in (prior["kind"], prior["fitted"])),
            "latent.dim: a flow couples dimensions; set it to 2 or more",
        ),
        (
            prior["fitted"] == "codes" and family not in CODES,
            f"prior.fitted: 'codes' needs latent.kind {' or '.join(CODES)}",
        ),
        (
            family in CODES and prior["fitted"] not in (0, "codes"),
            f"prior.fitted: of latent.kind = {family} it is 'codes' or 0",
        ),
        (
            family == "sphere" and prior["fitted"] != 0,
            "prior.fitted: what is fitted does not keep to a sphere; set it to 0",
        ),
        (
            family in (*CODES, "sphere") and bool(prior["sequence"]),
            f"prior.sequence: it is not made for latent.kind = {family}; set it to 0",
        ),
        *(
            (
                prior["kind"] == "none" and bool(prior[key]),
                f"prior.{key}: without a latent there is nothing to fit; set it to 0",
            )
            for key in ("fitted", "sequence")
        ),
    )


def check_modalities(objective: Mapping[str, Any], private: Mapping[str, int]) -> None:
    """Raise ValueError where an objective does not go with a recipe's modalities and their private dimensions."""
    _refuse(
        (
            objective["kind"] == "alone" and len(private) == 1,
            "objective.kind: alone is of several modalities; set 'elbo'",
        ),
        (
            len(private) == 1 and any(private.values()),
            "modalities.NAME.private: of one modality all dimensions are its own; set it to 0",
        ),
        (
            objective["kind"] == "alone" and any(private.values()),
            "objective.kind: alone would draw private dimensions to what other modalities say of them, nothing; set "
            "modalities.NAME.private to 0",
        ),
    )


def check_pairs(key: str | None, ordered: bool, complete: float, paths: Mapping[str, str | None]) -> None:
    """Raise ValueError where sets of their own, by modality, and the column that pairs them do not go together, or
    rows are to lose modalities that cannot."""
    apart = [name for name, path in paths.items() if path]
    _refuse(
        (
            bool(apart) and not key,
            f"data.pair: name the column that pairs the set of {' and '.join(apart)}",
        ),
        (bool(key) and not apart, "data.pair: there is nothing to pair; set modalities.NAME.path to a set of its own"),
        (len(apart) == len(paths), "data.path: one modality at least is of it; take the path from its table"),
        (complete < 1 and ordered, "data.complete: sequences are kept whole; set it to 1"),
        (complete < 1 and len(paths) == 1, "data.complete: of one modality every row is whole; set it to 1"),
        (bool(apart) and ordered, "data.pair: sequences are not paired; set data.sequences and data.pieces to false"),
    )


def _refuse(*cases: tuple[bool, str]) -> None:
    for refused, why in cases:
        if refused:
            raise ValueError(why)
