"""Recipes: what is trained, on what, and how. TOML in, validated; overrides from the command line or Python."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator
from torch import nn

from mmvae.combinations import OF_BATCHES, check_modalities, check_pairs, check_together, constant_rate, usual_fit
from mmvae.core.latents import Latent, latents
from mmvae.core.objectives import Objective, objectives
from mmvae.core.priors import Prior, priors
from mmvae.core.registry import Registry, Settings, nearest
from mmvae.core.schedules import Schedule, schedules
from mmvae.modalities.contract import Modality
from mmvae.modalities.registry import modalities as modality_registry
from mmvae.recipe_files import read_recipe, set_key
from mmvae.tables import Data, KLTable, LatentTable, ModalityTable, ObjectiveTable, PriorTable, Train
from mmvae.words import counted

T = TypeVar("T")
TAKEN = {"config", "report", "kept", "training"}  # no modality's names: those of files and attributes beside it


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
    settings: Any = _validated(table_type, own, table_type.model_fields, where)
    part: Any = registry.get(settings.kind)
    return settings, part, _validated(part.Config, rest, [*table_type.model_fields, *part.Config.model_fields], where)


def _validated(model: type[Settings], values: Mapping[str, Any], known: Iterable[str], where: str) -> Settings:
    try:
        return model(**values)
    except ValidationError as error:
        raise ValueError("\n".join(_explain(error, list(known), where))) from None


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
    _dropped: tuple[str, ...] = PrivateAttr(())

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
        if self.prior["fitted"] is None:
            self.prior["fitted"] = usual_fit(self.latent, self.prior)
        check_together(self.latent, self.prior, self.objective)
        if self.data.pieces and self.data.sequences:
            raise ValueError("data.pieces: the pieces of a file are a sequence already: set data.sequences to false")
        private, paths = ({name: t[key] for name, t in self.modalities.items()} for key in ("private", "path"))
        check_modalities(self.objective, private)
        if any(private.values()):
            self.build_latent().attach(private)  # says where there is no room for them
        if self.train.batch_size < 2 and self.objective["kind"] in OF_BATCHES:
            raise ValueError(
                f"train.batch_size: objective.kind = {self.objective['kind']} compares rows of a batch; set it above 1"
            )
        check_pairs(self.data.pair, self.data.ordered, self.data.complete, paths)
        if 0 < self.train.pretrain >= self.train.steps:
            raise ValueError(
                f"train.pretrain: {counted(self.train.pretrain, 'step')} at KL weight 0 leave none of train.steps = "
                f"{self.train.steps} to train on"
            )
        if self.prior["sequence"] and not self.data.ordered:
            raise ValueError("prior.sequence: set data.sequences or data.pieces to true, where the data are sequences")
        if self.prior["sequence"] and self.data.variants:
            raise ValueError(
                "data.variants: what follows what is learned of rows as they are; set it or prior.sequence to 0"
            )
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
        merged = _merged(tables, changes)
        try:
            recipe = cls(**merged)
        except ValidationError as error:
            raise ValueError("\n".join(f"{where}: {line}" for line in _explain(error, cls.model_fields))) from None
        recipe._dropped = tuple(_dropped(tables, merged))
        return recipe

    def modality(self, name: str) -> Modality:
        """A new, unfitted modality of the recipe. Raises ValueError when its settings do not go together."""
        _, part, config = _split(modality_registry, ModalityTable, self.modalities[name], f"modalities.{name}.")
        return part(config)

    def column(self, name: str) -> str | None:
        """The column of the data set that a modality is read from, or None where the recipe leaves it open."""
        return self.modalities[name]["column"]

    def prepared(self, name: str) -> dict[str, Any]:
        """The settings of a modality that its prepared tensors depend on."""
        keep = self._keys(name, {"network"})
        return {key: self.modalities[name][key] for key in ("kind", "column", *sorted(keep))}

    def settled(self, name: str) -> set[str]:
        """The keys of a modality that a trained model keeps: its weights, or its tensors, are made for them."""
        return {"kind", "weight", "private", *self._keys(name, {"network", "bound"})}

    def _keys(self, name: str, marks: set[str]) -> set[str]:
        """The keys of a modality's own settings whose fields have none of the marks."""
        fields = modality_registry.get(self.modalities[name]["kind"]).Config.model_fields
        extras = {key: field.json_schema_extra for key, field in fields.items()}
        return {key for key, extra in extras.items() if not (isinstance(extra, dict) and marks & extra.keys())}

    def weights(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """The modalities' weights in training, given how many numbers a row has of each."""
        most = max(numbers.values())
        given = {name: self.modalities[name]["weight"] for name in numbers}
        return {name: most / numbers[name] if weight == "size" else weight for name, weight in given.items()}

    def build_latent(self) -> Latent:
        """A new posterior family."""
        return self._built("latent")

    def build_prior(self) -> Prior:
        """A new prior over the latent's dimensions."""
        return self._built("prior", self.latent["dim"])

    def build_objective(self) -> Objective:
        """A new objective."""
        return self._built("objective")

    def build_schedule(self) -> Schedule:
        """The KL schedule; `kl["weight"]` scales it."""
        return self._built("kl")

    def _built(self, table: str, *more: Any) -> Any:
        _, part, config = _split(*PARTS[table], getattr(self, table), f"{table}.")
        return part(config, *more)

    def cautions(self, rows: int | None = None) -> Iterator[str]:
        """What its settings together, and so many rows to train on, may not be meant to do, a sentence each."""
        if rows and self.train.steps * self.train.batch_size < rows:
            least = math.ceil(rows / self.train.batch_size)
            yield f"train.steps = {self.train.steps:,}: not all of {rows:,} rows are seen; it takes {least:,} at least"
        for key in self._dropped:
            yield f"{key} of the recipe is left out: the kind that was set in its place has no such thing"
        for name, table in self.modalities.items():
            fields = modality_registry.get(table["kind"]).Config.model_fields
            changed = [key for key in fields if key.startswith("vary_") and table[key] != fields[key].default]
            if changed and not self.data.variants:
                yield f"modalities.{name}.{changed[0]} is of varied copies, of which there are none: set data.variants"
        for key in ("free_bits", "target_rate"):
            if constant_rate(self.latent) and self.objective.get(key):
                yield f"objective.{key} changes nothing: the rate of latent.kind = {self.latent['kind']} is a constant"
        schedule, steps = self.build_schedule(), self.train.steps - self.train.pretrain
        if (
            self.kl["weight"]
            and not constant_rate(self.latent)
            and (most := max(map(schedule, range(steps)))) < REACHED
        ):
            keys = " or ".join(f"kl.{key}" for key in ("warmup", "period") if key in self.kl)
            yield (
                f"the KL weight reaches only {most:.2g} of kl.weight in {counted(steps, 'step')}: "
                f"set train.steps higher{keys and ', or lower '}{keys}"
            )


REACHED = 0.9  # of the final KL weight: a schedule that a training does not cut short comes so far
KIND = re.compile(r"constrained-|\w+\[")  # pydantic's names of what a value may be: tuple[constrained-int, ...]


def _explain(error: ValidationError, known: Iterable[str], where: str = "") -> Iterator[str]:
    """One line for each error: the key, what was wrong, and the nearest of the known keys where it is unknown."""
    faults = error.errors()
    keys = [where + ".".join(str(part) for part in item["loc"] if not KIND.match(str(part))) for item in faults]
    for index, (key, item) in enumerate(zip(keys, faults, strict=True)):
        if key in keys[:index] or any(other.startswith(f"{key}.") for other in keys):
            continue  # said with the first of its kind; what is wrong with a part of it says more
        if item["type"] == "extra_forbidden":
            table = {"data": Data, "train": Train}.get(str(item["loc"][0])) if item["loc"][1:] else None
            of = f"did you mean 'modalities.{key}'?" if key in modality_registry.names() else ""
            yield f"{key}: unknown key; {of or nearest(str(item['loc'][-1]), table.model_fields if table else known)}"
        elif item["type"] == "value_error":
            text = str(item["ctx"]["error"])
            said = not item["loc"] or text.startswith(f"{item['loc'][0]}.")  # the text names the key itself
            yield from text.splitlines() if said else [f"{key}: {text}"]
        elif item["type"] == "missing":
            yield f"{key}: missing"
        elif item["type"] == "too_short":
            yield f"{key}: it needs {item['ctx']['min_length']} or more, not {item['input']!r}"
        else:
            each = [other["msg"] for other, its in zip(faults, keys, strict=True) if its == key]  # of kinds it may have
            message = ", or ".join(text[0].lower() + text[1:] for text in each)
            if key == "name" and "pattern" in item["type"]:
                message = "a name begins with a letter or digit, and goes on with these, _, . or -"
            elif item["type"] == "tuple_type":
                message = "input should be a list"
            yield f"{key}: {message}, not {item['input']!r}"


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """The tables of a recipe laid over those of the one it extends, key by key."""
    merged = {**under, **over}
    data = over.get("data")
    if isinstance(data, dict) and "path" in data and "about" not in over:
        merged["about"] = ""  # it was of other data
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


def _dropped(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """The settings of posterior and objective, other than by default, that went with the kind that they were of."""
    for name in ("latent", "objective"):
        table, (registry, table_type) = before.get(name, {}), PARTS[name]
        gone = table.keys() - after.get(name, {}).keys()
        if gone:
            fields = registry.get(table.get("kind", table_type.model_fields["kind"].default)).Config.model_fields
            yield from (f"{name}.{key}" for key in sorted(gone) if key in fields and table[key] != fields[key].default)


def _table(under: Any, over: Any, registry: Registry[Any], table_type: type[Settings], kind: str) -> Any:
    """Of a table whose kind another one replaces, only what the new kind knows as well is kept."""
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    before = under.get("kind", kind)
    if (new := over.get("kind", before)) != before and new in registry.names():
        known = {*table_type.model_fields, *registry.get(new).Config.model_fields}
        under = {key: value for key, value in under.items() if key in known}
    return {**under, **over}
