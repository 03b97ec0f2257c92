"""Recipes: what is trained, on what, and how. TOML in, validated; overrides from the command line or Python."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator
from torch import nn

from mmvae.combinations import check_modalities, check_pairs, check_together
from mmvae.core.latents import Latent, latents
from mmvae.core.objectives import Objective, objectives
from mmvae.core.priors import Prior, priors
from mmvae.core.registry import Registry, Settings, nearest
from mmvae.core.schedules import Schedule, schedules
from mmvae.modalities.contract import Modality
from mmvae.modalities.registry import modalities as modality_registry
from mmvae.recipe_files import read_recipe, set_key

T = TypeVar("T")
TAKEN = {"config", "report", "kept", "training"}  # no modality's names: those of files and attributes beside it


class Data(Settings):
    """Where the observations come from and how they are split."""

    path: str = Field(description="a built-in set, a local file or folder, or a Hugging Face hub name")
    config: str | None = Field(None, description="configuration of a hub set, where it has several")
    validation: float = Field(0.1, ge=0, lt=1, description="share of the rows, where no validation split is declared")
    test: float = Field(0.1, ge=0, lt=1, description="share of the rows, where no test split is declared")
    seed: int = Field(0, ge=0, description="of the splits that are made")
    sequences: bool = Field(False, description="each cell is a list of observations, or each folder one, in order")
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
    weight: float = Field(1.0, gt=0, description="of its distortion in training, beside other modalities")
    private: int = Field(0, ge=0, description="dimensions of z that are of this modality alone")


class LatentTable(Settings):
    """The posterior family and the size of z."""

    kind: str = Field("gaussian", description="a registered posterior family")


class PriorTable(Settings):
    """The prior of training, and one fitted to the encoded training set afterwards."""

    kind: str = Field("standard", description="a registered prior")
    fitted: int | Literal["flow", "codes"] = Field(
        0,
        description="fitted after training: a mixture of so many full Gaussians, a flow, or one over codes; 0 for none",
    )
    sequence: int = Field(
        0, ge=0, description="GRU units of a prior over sequences of latents, fitted after training; 0 for none"
    )

    @field_validator("fitted", mode="before")
    @classmethod
    def _fitted(cls, value: Any) -> Any:
        if value not in ("flow", "codes") and (type(value) is not int or value < 0):
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
    learning_rate: float = Field(
        1e-3, gt=0, description="peak of AdamW's rate: up over 5 % of the steps, then a cosine"
    )
    weight_decay: float = Field(0.0, ge=0, description="AdamW's")
    clip: float = Field(5.0, gt=0, description="largest norm of the gradient, per row")
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the weights' moving average, which is what is saved")
    evaluate_every: int = Field(500, ge=1, description="steps between validations, previews and saves")
    patience: int = Field(0, ge=0, description="validations in a row without a better one that end it; 0: none do")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the hardware has it")
    threads: int | None = Field(None, ge=1, description="CPU threads of a process; by default the free cores")
    seed: int = Field(0, ge=0, lt=2**32, description="of initial weights, order and noise")


PARTS: dict[str, tuple[Registry[Any], type[Settings]]] = {
    "latent": (latents, LatentTable),
    "prior": (priors, PriorTable),
    "objective": (objectives, ObjectiveTable),
    "kl": (schedules, KLTable),
}


def _split(
    registry: Registry[T], table_type: type[Settings], table: Mapping[str, Any], where: str
) -> tuple[Any, type[T], Any]:
    """A table's own settings, the part that its `kind` names, and that part's validated Config."""
    own = {key: value for key, value in table.items() if key in table_type.model_fields}
    rest = {key: value for key, value in table.items() if key not in own}
    try:
        settings: Any = table_type(**own)
        part: Any = registry.get(settings.kind)
        return settings, part, part.Config(**rest)
    except ValidationError as error:
        known = [*table_type.model_fields, *(part.Config.model_fields if "part" in locals() else ())]
        raise ValueError("\n".join(_explain(error, known, where))) from None


class Recipe(Settings):
    """One model to train.

    `latent`, `prior`, `objective`, `kl` and each table of `modalities` name a registered part by `kind` and hold
    its settings; once validated they are plain data with every default filled in.
    """

    name: str = Field(pattern=r"^\w[\w.-]*$", description="of the folder under runs/")
    about: str = Field("", description="one line for lists of recipes")
    data: Data
    modalities: dict[str, dict[str, Any]] = Field(min_length=1)
    latent: dict[str, Any] = Field(default_factory=dict)
    prior: dict[str, Any] = Field(default_factory=dict)
    objective: dict[str, Any] = Field(default_factory=dict)
    kl: dict[str, Any] = Field(default_factory=dict)
    train: Train = Train()

    @field_validator("modalities")
    @classmethod
    def _modalities(cls, tables: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        full = {}
        for name, table in tables.items():
            if not name.isidentifier():
                raise ValueError(f"modalities.{name}: the name must be made of letters, digits and _")
            if name in TAKEN or hasattr(nn.ModuleDict, name):
                raise ValueError(f"modalities.{name}: the name is taken; call it otherwise, and say kind = ...")
            table = {"kind": name, **table}
            own, _, config = _split(modality_registry, ModalityTable, table, f"modalities.{name}.")
            full[name] = {**own.model_dump(), **config.model_dump(mode="json")}
        return full

    @field_validator(*PARTS)
    @classmethod
    def _parts(cls, table: dict[str, Any], info: Any) -> dict[str, Any]:
        registry, table_type = PARTS[info.field_name]
        own, _, config = _split(registry, table_type, table, f"{info.field_name}.")
        return {**own.model_dump(), **config.model_dump(mode="json")}

    @model_validator(mode="after")
    def _together(self) -> Recipe:
        check_together(self.latent, self.prior, self.objective)
        if self.data.pieces and self.data.sequences:
            raise ValueError("data.pieces: the pieces of a file are a sequence already: set data.sequences to false")
        private, paths = ({name: t[key] for name, t in self.modalities.items()} for key in ("private", "path"))
        check_modalities(self.objective, private)
        if any(private.values()):
            self.build_latent().attach(private)  # says where there is no room for them
        check_pairs(self.data.pair, self.data.ordered, self.data.complete, paths)
        if self.prior["sequence"] and not self.data.ordered:
            raise ValueError("prior.sequence: set data.sequences or data.pieces to true, where the data are sequences")
        return self

    @classmethod
    def load(cls, source: str | Path | Mapping[str, Any] | Recipe, overrides: Iterable[str] = ()) -> Recipe:
        """A validated recipe from a TOML file, a shipped one's name ("text/names"), a run's folder, a dict or a recipe.

        overrides: "table.key=value" as on the command line. Raises ValueError or FileNotFoundError: a line a fault.
        """
        if isinstance(source, Recipe):
            source = source.model_dump(mode="json")
        where = "recipe" if isinstance(source, Mapping) else str(source)
        tables = copy.deepcopy(dict(source)) if isinstance(source, Mapping) else reduce(_merged, read_recipe(source))
        changes: dict[str, Any] = {}
        for override in [overrides] if isinstance(overrides, str) else overrides:
            set_key(changes, override)
        try:
            return cls(**_merged(tables, changes))
        except ValidationError as error:
            raise ValueError("\n".join(f"{where}: {line}" for line in _explain(error, cls.model_fields))) from None

    def modality(self, name: str) -> Modality:
        """A new, unfitted modality of the recipe. Raises ValueError when its settings do not go together."""
        _, part, config = _split(modality_registry, ModalityTable, self.modalities[name], f"modalities.{name}.")
        return part(config)

    def column(self, name: str) -> str | None:
        """The column of the data set that a modality is read from, or None where the recipe leaves it open."""
        return self.modalities[name]["column"]

    def prepared(self, name: str) -> dict[str, Any]:
        """The settings of a modality that its prepared tensors depend on."""
        _, _, config = _split(modality_registry, ModalityTable, self.modalities[name], f"modalities.{name}.")
        fields = type(config).model_fields
        keep = {key for key, field in fields.items() if not (field.json_schema_extra or {}).get("network")}
        return {"kind": self.modalities[name]["kind"], "column": self.column(name), **config.model_dump(include=keep)}

    def build_latent(self) -> Latent:
        """A new posterior family."""
        _, part, config = _split(*PARTS["latent"], self.latent, "latent.")
        return part(config)

    def build_prior(self) -> Prior:
        """A new prior over the latent's dimensions."""
        _, part, config = _split(*PARTS["prior"], self.prior, "prior.")
        return part(config, self.latent["dim"])

    def build_objective(self) -> Objective:
        """A new objective."""
        _, part, config = _split(*PARTS["objective"], self.objective, "objective.")
        return part(config)

    def build_schedule(self) -> Schedule:
        """The KL schedule; `kl["weight"]` scales it."""
        _, part, config = _split(*PARTS["kl"], self.kl, "kl.")
        return part(config)


def _explain(error: ValidationError, known: Iterable[str], where: str = "") -> Iterator[str]:
    """One line for each error: the key, what was wrong, and the nearest of the known keys where it is unknown."""
    for item in error.errors():
        key = where + ".".join(map(str, item["loc"]))
        if item["type"] == "extra_forbidden":
            table = {"data": Data, "train": Train}.get(str(item["loc"][0])) if item["loc"][1:] else None
            yield f"{key}: unknown key; {nearest(str(item['loc'][-1]), table.model_fields if table else known)}"
        elif item["type"] == "value_error":
            text = str(item["ctx"]["error"])
            said = not item["loc"] or text.startswith(f"{item['loc'][0]}.")  # the text names the key itself
            yield from text.splitlines() if said else [f"{key}: {text}"]
        elif item["type"] == "missing":
            yield f"{key}: missing"
        else:
            message = item["msg"][0].lower() + item["msg"][1:]
            if key == "name" and "pattern" in item["type"]:
                message = "a name begins with a letter or digit, and goes on with these, _, . or -"
            yield f"{key}: {message}, not {item['input']!r}"


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """The tables of a recipe laid over those of the one it extends, key by key."""
    merged = {**under, **over}
    for key in under.keys() & over.keys():
        below, above = under[key], over[key]
        if not (isinstance(below, dict) and isinstance(above, dict)):
            continue
        if key in PARTS:
            merged[key] = _table(below, above, *PARTS[key], PARTS[key][1].model_fields["kind"].default)
        elif key == "modalities":
            tables = {name: (below.get(name, {}), above.get(name, {})) for name in {**below, **above}}
            merged[key] = {name: _table(*pair, modality_registry, ModalityTable, name) for name, pair in tables.items()}
        else:
            merged[key] = {**below, **above}
    return merged


def _table(under: Any, over: Any, registry: Registry[Any], table_type: type[Settings], kind: str) -> Any:
    """Of a table whose kind another one replaces, only what the new kind knows as well is kept."""
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    before = under.get("kind", kind)
    if (new := over.get("kind", before)) != before and new in registry.names():
        known = {*table_type.model_fields, *registry.get(new).Config.model_fields}
        under = {key: value for key, value in under.items() if key in known}
    return {**under, **over}
