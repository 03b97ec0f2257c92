"""The tables of a recipe, and what each may hold beside the settings of the part that it names."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, field_validator

from mmvae.core.registry import Settings


class Data(Settings):
    """Where the observations come from and how they are split."""

    path: str = Field(description="a built-in set, a local file or folder, or a Hugging Face hub name")
    config: str | None = Field(None, description="configuration of a hub set, where it has several")
    validation: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share of the rows, but 20 at least, or a tenth of few, where no validation split is declared",
    )
    test: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="share of the rows, but 20 at least, or a tenth of few, where no test split is declared",
    )
    seed: int = Field(0, ge=0, description="of the splits that are made")
    group: str | None = Field(None, description="column whose rows of one value stay in one split, such as a speaker")
    sequences: bool = Field(
        False,
        description="each cell is a list of observations in order, or each folder, or each text up to a blank line",
    )
    pieces: bool = Field(False, description="long files give all their windows, in order, in place of the first")
    variants: int = Field(0, ge=0, description="changed versions of each training row, to train on beside it")
    pair: str | None = Field(None, description="column whose equal values pair the rows of several sets")
    complete: float = Field(
        1.0, ge=0, le=1, description="share of the training rows with all their modalities; the others keep one"
    )
    limit: int | None = Field(None, ge=1, description="use at most this many rows of each split")
    max_rejected: float = Field(0.05, ge=0, le=1, description="stop when a larger share of the rows is unreadable")

    @property
    def ordered(self) -> bool:
        """Whether observations follow one another."""
        return self.sequences or self.pieces


class ModalityTable(Settings):
    """What every modality's table may hold beside the settings of its kind."""

    kind: str = Field(description="a registered modality; by default the table's name")
    column: str | None = Field(
        None, description="of the data set; by default the one of the table's name, or the only one"
    )
    path: str | None = Field(None, description="a data set of its own, whose rows data.pair pairs with the others")
    weight: float | Literal["size"] = Field(
        1.0,
        description="of its distortion in training, above 0; 'size': the most numbers of a modality's row over its own",
    )
    private: int = Field(0, ge=0, description="dimensions of z that are of this modality alone")

    @field_validator("weight", mode="before")
    @classmethod
    def _weight(cls, value: Any) -> Any:
        if value != "size" and not (type(value) in (int, float) and 0 < value < math.inf):
            raise ValueError(f"a number above 0, or 'size', not {value!r}")
        return value


class LatentTable(Settings):
    """The posterior family and the size of z."""

    kind: str = Field("gaussian", description="a registered posterior family")


class PriorTable(Settings):
    """The prior of training, and one fitted to the encoded training set afterwards."""

    kind: str = Field("standard", description="a registered prior")
    fitted: int | Literal["flow", "codes"] | None = Field(
        None,
        description="fitted after training: a mixture of so many full Gaussians, a flow, or one over codes; 0 for "
        "none; by default 10, of codes 'codes', and none beside a learned prior, of spheres and without a latent",
    )
    sequence: int = Field(
        0, ge=0, description="GRU units of a prior over sequences of latents, fitted after training; 0 for none"
    )

    @field_validator("fitted", mode="before")
    @classmethod
    def _fitted(cls, value: Any) -> Any:
        if value not in (None, "flow", "codes") and (type(value) is not int or value < 0):
            raise ValueError(f"a number of Gaussians, from 0, or 'flow' or 'codes', not {value!r}")
        return value


class ObjectiveTable(Settings):
    """What is minimised."""

    kind: str = Field("elbo", description="a registered objective")


class KLTable(Settings):
    """The weight of the rate, and how it gets there."""

    kind: str = Field("constant", description="a registered schedule")
    weight: float = Field(1.0, ge=0, description="final KL weight; both terms are sums in nats, so 1 is the ELBO")


class Train(Settings):
    """The training loop."""

    steps: int = Field(2000, ge=1, description="optimizer steps")
    pretrain: int = Field(
        0, ge=0, description="steps at KL weight 0 first, after which the decoders begin anew (Li et al. 2019)"
    )
    batch_size: int = Field(64, ge=1, description="rows in a step, over all processes; their mean where lengths differ")
    start: str | None = Field(None, description="folder of a trained model: begin with its weights and statistics")
    learning_rate: float = Field(1e-3, gt=0, description="AdamW's, after a rise over 5 % of the steps")
    fall: float = Field(0.0, ge=0, le=1, description="share of the steps, the last, in which the learning rate falls")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's, of all weights but vectors, such as biases")
    clip: float = Field(2.0, gt=1, description="times its usual norm, the longest a gradient may be")
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the weights' moving average, which is what is saved")
    evaluate_every: int = Field(500, ge=1, description="steps between validations, previews and saves")
    patience: int = Field(
        0,
        ge=0,
        description="validations in a row without a better one, after which the rate falls, or it ends; 0: none do",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the hardware computes faster in it"
    )
    threads: int | None = Field(None, ge=1, description="CPU threads of a process; by default the free cores")
    seed: int = Field(0, ge=0, lt=2**32, description="of initial weights, order and noise")
