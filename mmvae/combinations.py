"""Which parts of the core are not made for one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmvae.core.priors import priors


def check_together(latent: Mapping[str, Any], prior: Mapping[str, Any], objective: Mapping[str, Any]) -> None:
    """Raise ValueError, with what to change, for tables of a recipe whose parts do not go together."""
    kind, points, flow = objective["kind"], latent["kind"] == "deterministic", latent["kind"] == "flow"
    of_gaussians = kind == "total-correlation" or objective.get("of") == "z"
    for refused, why in (
        (
            points and prior["kind"] != "standard",
            "prior.kind: the prior of points is fitted afterwards; set 'standard'",
        ),
        (points and kind == "importance", "objective.kind: importance weighs draws of z, and points are not drawn"),
        (kind == "rae" and not points, "objective.kind: rae is made for latent.kind = deterministic"),
        (
            of_gaussians and latent["kind"] not in ("gaussian", "none"),
            f"objective.kind: {kind} is defined here for latent.kind = gaussian",
        ),
        (flow and objective.get("encoder") == "dreg", "objective.encoder: dreg is not made for latent.kind = flow"),
        (
            priors.get(prior["kind"]).learned and bool(objective.get("target_rate")),
            "objective.target_rate: a prior that is learned would move to reach it; set it to 0",
        ),
        (
            latent["dim"] < 2 and (flow or "flow" in (prior["kind"], prior["fitted"])),
            "latent.dim: a flow couples dimensions; set it to 2 or more",
        ),
    ):
        if refused:
            raise ValueError(why)
