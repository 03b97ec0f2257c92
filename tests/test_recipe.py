"""Recipes: what is accepted, what is refused and in which words, and what they build."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from mmvae.core.objectives import ELBO, ImportanceWeighted
from mmvae.core.schedules import Constant, Cyclical
from mmvae.modalities.image import Image
from mmvae.recipe import Recipe
from mmvae.recipe_files import copy_recipe, find_recipe, recipe_names

TABLES: dict[str, Any] = {"name": "small", "data": {"path": "digits"}, "modalities": {"image": {}}}


def test_an_annealing_that_the_training_cuts_short_is_told() -> None:
    def told(*changes: str) -> list[str]:
        return list(Recipe.load("image/digits", changes).cautions())

    assert told("train.steps=1000", "kl.kind=linear", "kl.warmup=1000") == []
    assert told("train.steps=100", "kl.kind=sigmoid", "kl.warmup=100") == []
    (line,) = told("train.steps=100", "kl.kind=linear", "kl.warmup=1000")
    assert line.startswith("the KL weight reaches only 0.099 of kl.weight in 100 steps: ")
    (line,) = told("train.steps=100", "train.pretrain=50", "kl.kind=linear", "kl.warmup=100")
    assert "only 0.49 of kl.weight in 50 steps: set train.steps higher, or lower kl.warmup" in line
    (line,) = told("train.steps=100", "kl.kind=cyclical", "kl.zero=0.5", "kl.rise=0.5")
    assert line.endswith("or lower kl.period")
    assert told("train.steps=100", "kl.kind=linear", "kl.warmup=1000", "kl.weight=0") == []


def test_other_data_are_not_described_as_the_recipes_own() -> None:
    assert Recipe.load("image/digits").about
    assert not Recipe.load("image/digits", ["data.path=pictures"]).about
    assert Recipe.load("image/digits", ["data.path=pictures", "about=mine"]).about == "mine"


def test_what_changes_nothing_of_a_constant_rate_is_told() -> None:
    (line,) = Recipe.load("text/names", ["latent.kind=fsq", "prior.kind=codes", "prior.fitted=codes"]).cautions()
    assert line == "objective.free_bits changes nothing: the rate of latent.kind = fsq is a constant"
    assert not list(Recipe.load("text/names").cautions())


def test_what_a_recipe_asked_of_a_kind_that_is_replaced_is_told() -> None:
    (line,) = Recipe.load("text/verses", ["latent.kind=flow"]).cautions()
    assert line == "latent.mean_scale of the recipe is left out: the kind that was set in its place has no such thing"
    assert not list(Recipe.load("text/verses", ["latent.mean_scale=0"]).cautions())
    again = Recipe.load("text/verses").model_dump()  # with what is there by default
    assert len(list(Recipe.load(again, ["latent.kind=flow", "objective.kind=importance"]).cautions())) == 1


def test_variation_without_varied_copies_is_told() -> None:
    (line,) = Recipe.load("image/digits", ["modalities.image.vary_flip=true"]).cautions()
    assert line == "modalities.image.vary_flip is of varied copies, of which there are none: set data.variants"
    assert not list(Recipe.load("image/digits", ["modalities.image.vary_flip=true", "data.variants=2"]).cautions())


def test_a_training_that_does_not_see_all_rows_is_told() -> None:
    recipe = Recipe.load("image/digits", ["train.steps=300", "train.batch_size=64"])
    assert not list(recipe.cautions(19_200))
    assert list(recipe.cautions(19_201)) == [
        "train.steps = 300: not all of 19,201 rows are seen; it takes 301 at least"
    ]


def load(*overrides: str, **tables: Any) -> Recipe:
    return Recipe.load({**TABLES, **tables}, overrides)


def refused(*overrides: str, **tables: Any) -> list[str]:
    """The lines with which a recipe is refused."""
    with pytest.raises(ValueError, match=r".") as caught:
        load(*overrides, **tables)
    return str(caught.value).splitlines()


def toml(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# -- shipped recipes --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_loads_and_builds_its_parts(name: str) -> None:
    recipe = Recipe.load(name)
    assert recipe.about
    assert recipe.build_latent().dim == recipe.build_prior().dim == recipe.latent["dim"]
    assert recipe.build_objective()
    assert 0 <= recipe.build_schedule()(0) <= 1
    assert all(recipe.modality(modality) for modality in recipe.modalities)


def test_recipes_of_every_modality_are_shipped() -> None:
    assert {name.split("/")[0] for name in recipe_names()} >= {"audio", "image", "text"}


def test_an_unknown_recipe_gets_the_nearest_name() -> None:
    with pytest.raises(FileNotFoundError, match=r"no recipe 'text/definition'.*did you mean 'text/definitions'"):
        find_recipe("text/definition")


def test_a_copied_recipe_loads_the_same_and_overwrites_nothing(tmp_path: Path) -> None:
    path = copy_recipe("text/definitions", tmp_path / "mine.toml")
    assert Recipe.load(path) == Recipe.load("text/definitions")
    with pytest.raises(FileExistsError, match="exists already"):
        copy_recipe("text/definitions", path)


# -- what a recipe holds ----------------------------------------------------------------------------


def test_defaults_are_filled_in() -> None:
    recipe = load()
    assert recipe.modalities["image"] == {
        **Image.Config().model_dump(mode="json"),
        "kind": "image",
        "column": None,
        "path": None,
        "weight": 1.0,
        "private": 0,
    }
    own = {"with_prior": True, "min_rate": 0.0, "mean_scale": 0.0}
    assert recipe.latent == {"kind": "gaussian", "dim": 32, **own}
    assert recipe.kl == {"kind": "constant", "weight": 1.0}


@pytest.mark.parametrize("mode", ["json", "python"])
def test_a_recipe_written_out_loads_unchanged(mode: str) -> None:
    for name in recipe_names():
        recipe = Recipe.load(name, ["modalities.other.kind=image", "modalities.other.size=[4, 5]"])
        assert Recipe.load(recipe.model_dump(mode=mode)) == recipe


def test_a_recipe_loads_the_same_from_a_file_and_from_a_dict(tmp_path: Path) -> None:
    path = toml(
        tmp_path / "a.toml",
        'name = "small"\n[data]\npath = "digits"\n[modalities.image]\n[kl]\nkind = "linear"\nwarmup = 5\n',
    )
    assert Recipe.load(path) == Recipe.load(str(path)) == load(kl={"kind": "linear", "warmup": 5})


def test_what_is_loaded_from_is_left_as_it_was() -> None:
    tables = copy.deepcopy(TABLES)
    Recipe.load(tables, ["data.seed=3", "modalities.image.mixture=4", "train.steps=9"])
    assert tables == TABLES


def test_a_path_is_taken_as_its_string() -> None:
    modalities = {"text": {"tokenizer": Path("runs") / "words"}, "image": {"path": Path("shapes")}}
    recipe = load(data={"path": Path("data") / "lines.txt", "pair": "key"}, modalities=modalities)
    assert recipe.data.path == str(Path("data") / "lines.txt")
    assert recipe.modalities["text"]["tokenizer"] == str(Path("runs") / "words")
    assert recipe.modalities["image"]["path"] == "shapes"
    assert Recipe.load(recipe) == recipe


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(load(), "name", "other")  # noqa: B010


def test_parts_are_built_with_their_settings() -> None:
    recipe = load(
        objective={"kind": "importance", "samples": 7},
        kl={"kind": "cyclical", "period": 10, "weight": 0.5},
        latent={"dim": 5},
        modalities={"picture": {"kind": "image", "mixture": 2}},
    )
    objective, schedule, modality = recipe.build_objective(), recipe.build_schedule(), recipe.modality("picture")
    assert isinstance(objective, ImportanceWeighted)
    assert objective.config.samples == 7
    assert isinstance(schedule, Cyclical)
    assert schedule.config.period == 10
    assert isinstance(modality, Image)
    assert modality.config.mixture == 2
    assert recipe.build_prior().dim == recipe.build_latent().dim == 5
    assert isinstance(load().build_objective(), ELBO)
    assert isinstance(load().build_schedule(), Constant)


@pytest.mark.parametrize(
    ("overrides", "fitted"),
    [
        ([], 10),
        (["latent.kind=deterministic"], 10),
        (["latent.kind=vq", "prior.kind=codes"], "codes"),
        (["latent.kind=sphere", "prior.kind=sphere"], 0),
        (["latent.kind=none", "prior.kind=none"], 0),
        (["prior.kind=flow"], 0),
        (["prior.fitted=3"], 3),
    ],
)
def test_a_prior_is_fitted_where_a_recipe_says_nothing(overrides: list[str], fitted: int | str) -> None:
    assert load(*overrides).prior["fitted"] == fitted


@pytest.mark.parametrize("name", recipe_names())
def test_each_shipped_recipe_learns_a_prior_or_fits_one(name: str) -> None:
    recipe = Recipe.load(name)
    assert recipe.prior["fitted"] or recipe.build_prior().learned


def test_prepared_settings_leave_out_those_of_networks() -> None:
    same = (load("modalities.image.widths=[4]"), load("modalities.image.mixture=3"), load("train.steps=5"))
    assert all(recipe.prepared("image") == load().prepared("image") for recipe in same)
    for override in ("modalities.image.size=8", "modalities.image.channels=3", "modalities.image.column=x"):
        assert load(override).prepared("image") != load().prepared("image")


# -- overrides --------------------------------------------------------------------------------------


def test_overrides_have_the_types_of_toml() -> None:
    recipe = load(
        "train.steps=200",
        "train.learning_rate=5e-4",
        "data.path=a b/c.txt",
        'data.config="no"',
        "modalities.image.size=[8, 9]",
        "modalities.image.channels=3",
        "kl.kind=linear",
        "about=x = y",
    )
    assert recipe.train.steps == 200
    assert recipe.train.learning_rate == 5e-4
    assert recipe.data.path == "a b/c.txt"
    assert recipe.data.config == "no"
    assert recipe.modalities["image"]["size"] == [8, 9]
    assert recipe.kl["kind"] == "linear"
    assert recipe.about == "x = y"


def test_a_word_where_a_number_belongs_is_refused() -> None:
    assert refused("train.steps=many") == [
        "recipe: train.steps: input should be a valid integer, unable to parse string as an integer, not 'many'"
    ]


@pytest.mark.parametrize("override", ["train.steps", "=5", "", "steps 5"])
def test_an_override_of_another_form_is_refused_with_an_example(override: str) -> None:
    assert "is not of the form table.key=value, such as train.steps=200" in refused(override)[0]


def test_an_override_below_what_is_no_table_is_refused() -> None:
    assert refused("name=x", "name.first=x") == ["'name.first=x': 'name' is not a table"]
    assert refused("name.first=x") == ["recipe: name: input should be a valid string, not {'first': 'x'}"]


def test_an_override_of_a_kind_leaves_the_other_kinds_settings_behind() -> None:
    recipe = Recipe.load("text/verses", ["kl.kind=cyclical", "kl.period=500"])
    assert recipe.kl["kind"] == "cyclical"
    assert "warmup" not in recipe.kl
    kept = Recipe.load("image/digits", ["latent.kind=correlated", "objective.kind=dip", "objective.free_bits=0.1"])
    assert kept.latent == {"kind": "correlated", "dim": 16}  # what both kinds know stays
    changes = ["objective.target_rate=6.5", "objective.kind=dip"]
    assert Recipe.load("image/digits", changes).objective["target_rate"] == 6.5


def test_overrides_apply_in_order() -> None:
    assert load("train.steps=5", "train.steps=6").train.steps == 6


# -- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("train.stepz=1", "train.stepz: unknown key; did you mean 'steps'?"),
        ("data.pth=x", "data.pth: unknown key; did you mean 'path'?"),
        ("latent.dims=1", "latent.dims: unknown key; did you mean 'dim'?"),
        ("kl.wieght=1", "kl.wieght: unknown key; did you mean 'weight'?"),
        ("objective.freebits=1", "objective.freebits: unknown key; did you mean 'free_bits'?"),
        ("modalities.image.sizes=1", "modalities.image.sizes: unknown key; did you mean 'size'?"),
        ("modalities.image.colum=x", "modalities.image.colum: unknown key; did you mean 'column'?"),
        ("trian.steps=1", "trian: unknown key; did you mean 'train'?"),
        ("image.size=1", "image: unknown key; did you mean 'modalities.image'?"),
    ],
)
def test_an_unknown_key_gets_the_nearest(override: str, line: str) -> None:
    assert refused(override) == [f"recipe: {line}"]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    lines = refused("data.pth=x", "train.stepz=1", "latnt.dim=2", "kl.wieght=3")
    expected = {"data.pth": "path", "train.stepz": "steps", "latnt": "latent", "kl.wieght": "weight"}
    assert sorted(lines) == sorted(
        f"recipe: {key}: unknown key; did you mean '{near}'?" for key, near in expected.items()
    )


@pytest.mark.parametrize(
    "override",
    ["train.learning_rate=nan", "kl.weight=nan", "kl.weight=inf", "objective.free_bits=nan", "data.validation=nan"],
)
def test_numbers_that_are_none_are_refused(override: str) -> None:
    (line,) = refused(override)
    assert line.startswith(f"recipe: {override.split('=')[0]}: input should be")


@pytest.mark.parametrize(
    "override",
    [
        "train.steps=0",
        "train.batch_size=-1",
        "train.ema=1",
        "data.validation=1.5",
        "data.max_rejected=-0.1",
        "latent.dim=0",
        "kl.weight=-1",
        "modalities.image.mixture=0",
        "modalities.image.size=0",
        "name=a/b",
    ],
)
def test_values_out_of_range_are_refused_by_key(override: str) -> None:
    assert all(line.startswith(f"recipe: {override.split('=')[0]}") for line in refused(override))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("modalities.image.kind=imag", "unknown modality 'imag': did you mean 'image'?"),
        ("latent.kind=gausian", "unknown posterior family 'gausian': did you mean 'gaussian'?"),
        ("prior.kind=standrad", "unknown prior 'standrad': did you mean 'standard'?"),
        ("objective.kind=elb", "unknown objective 'elb': did you mean 'elbo'?"),
        ("kl.kind=linaer", "unknown KL schedule 'linaer': did you mean 'linear'?"),
    ],
)
def test_an_unknown_part_gets_the_nearest(override: str, words: str) -> None:
    (line,) = refused(override)
    assert line.endswith(words)


def test_a_part_is_a_registered_name_and_never_a_path_to_code() -> None:
    for kind in ("mmvae.modalities.image:Image", "os:system", "os.system"):
        assert "unknown modality" in refused(modalities={"image": {"kind": kind}})[0]


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="data: missing") as caught:
        Recipe.load({"name": "x"})
    assert sorted(str(caught.value).splitlines()) == ["recipe: data: missing", "recipe: modalities: missing"]


@pytest.mark.parametrize(
    "tables",
    [
        {"data": "digits"},
        {"modalities": {}},
        {"modalities": {"a-b": {}}},
        {"kl": 3},
    ],
    ids=str,
)
def test_tables_of_another_shape_are_refused(tables: dict[str, Any]) -> None:
    assert all(line.startswith(f"recipe: {next(iter(tables))}") for line in refused(**tables))


def test_settings_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="hop = 300 must be at most half of fft = 512"):
        Recipe.load({**TABLES, "modalities": {"audio": {"hop": 300}}}).modality("audio")


@pytest.mark.parametrize("text", ["name = ", "name: small", "\x00", "[data\n"])
def test_a_file_that_is_no_toml_is_refused_by_name(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.toml: not a TOML file"):
        Recipe.load(toml(tmp_path / "a.toml", text))


def test_a_file_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(ValueError, match=r"a\.toml, line 1, byte 9: not UTF-8 text: save the file as UTF-8"):
        Recipe.load(tmp_path / "a.toml")


def test_a_date_where_a_name_belongs_is_refused(tmp_path: Path) -> None:
    path = toml(tmp_path / "a.toml", 'name = 2020-01-01\n[data]\npath = "digits"\n[modalities.image]\n')
    with pytest.raises(ValueError, match="name: input should be a valid string"):
        Recipe.load(path)


# -- extends ----------------------------------------------------------------------------------------


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A recipe to extend."""
    return toml(
        tmp_path / "base.toml",
        'name = "base"\n[data]\npath = "digits"\nseed = 4\n[modalities.image]\nmixture = 2\n'
        '[kl]\nkind = "cyclical"\nperiod = 7\n[train]\nsteps = 50\n',
    )


def extended(base: Path, text: str) -> Recipe:
    return Recipe.load(toml(base.parent / "mine.toml", f'extends = "base"\n{text}'))


def test_an_extended_recipe_is_merged_table_by_table(base: Path) -> None:
    recipe = extended(base, 'name = "mine"\n[data]\npath = "emoji"\n[train]\nbatch_size = 3\n')
    assert recipe.name == "mine"
    assert (recipe.data.path, recipe.data.seed) == ("emoji", 4)
    assert (recipe.train.steps, recipe.train.batch_size) == (50, 3)
    assert recipe.modalities["image"]["mixture"] == 2
    assert recipe.kl["period"] == 7


def test_a_table_of_another_kind_keeps_what_is_not_the_kinds_own(base: Path) -> None:
    assert extended(base, '[kl]\nkind = "linear"\n').kl == {"kind": "linear", "weight": 1.0, "warmup": 1000}
    assert extended(base, "[kl]\nweight = 2.0\n").kl["period"] == 7
    again = extended(base, '[kl]\nkind = "cyclical"\n[latent]\nkind = "gaussian"\n[modalities.image]\nkind = "image"\n')
    assert again.kl["period"] == 7
    assert again.modalities["image"]["mixture"] == 2


def test_the_final_weight_is_kept_when_the_schedule_changes(tmp_path: Path) -> None:
    toml(tmp_path / "a.toml", 'name = "a"\n[data]\npath = "digits"\n[modalities.image]\n[kl]\nweight = 4.0\n')
    kl = Recipe.load(toml(tmp_path / "b.toml", 'extends = "a"\n[kl]\nkind = "linear"\n')).kl
    assert kl == {"kind": "linear", "weight": 4.0, "warmup": 1000}


@pytest.mark.parametrize("name", ["type", "values", "train", "training", "config", "kept"])
def test_names_that_something_else_has_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"modalities\.{name}: the name is taken"):
        Recipe.load({"name": "a", "data": {"path": "digits"}, "modalities": {name: {"kind": "image"}}})


def test_a_shipped_recipe_may_be_extended(tmp_path: Path) -> None:
    recipe = Recipe.load(toml(tmp_path / "a.toml", 'extends = "text/definitions"\n[train]\nsteps = 3\n'))
    shipped = Recipe.load("text/definitions")
    assert recipe == shipped.model_copy(update={"train": shipped.train.model_copy(update={"steps": 3})})


def test_a_circle_of_extensions_is_refused(tmp_path: Path) -> None:
    toml(tmp_path / "a.toml", 'extends = "b"\n')
    toml(tmp_path / "b.toml", 'extends = "a"\n')
    with pytest.raises(ValueError, match=r"a\.toml: extends itself"):
        Recipe.load(tmp_path / "a.toml")


def test_a_table_that_is_none_is_named(base: Path) -> None:
    with pytest.raises(ValueError, match=r"mine\.toml: data: input should be"):
        Recipe.load(toml(base.parent / "mine.toml", 'extends = "base"\ndata = 5\n'))


def test_an_extension_of_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no recipe 'nowhere'"):
        Recipe.load(toml(tmp_path / "a.toml", 'extends = "nowhere"\n'))


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["latent.kind=deterministic", "prior.kind=flow"], "prior.kind: the prior of points is fitted afterwards"),
        (["latent.kind=deterministic", "objective.kind=importance"], "points are not drawn"),
        (["objective.kind=rae"], "rae is made for latent.kind = deterministic"),
        (
            ["objective.kind=hamiltonian", "latent.kind=vq", "prior.kind=codes", "prior.fitted=codes"],
            "latent.kind = vq has no way",
        ),
        (["objective.kind=total-correlation", "latent.kind=correlated"], "total-correlation is defined here for"),
        (
            ["objective.kind=dip", "objective.of=z", "latent.kind=flow"],
            "objective.of: the covariance of z is known of latent.kind = gaussian",
        ),
        (["objective.kind=importance", "objective.encoder=dreg", "latent.kind=flow"], "dreg is not made for"),
        (
            ["objective.kind=importance", "objective.encoder=dreg", "objective.groups=2", "latent.kind=mixture"],
            "of a mixture's parts it is 'same'",
        ),
        (["objective.target_rate=5", "prior.kind=mixture"], "a prior that is learned would move to reach it"),
        (["latent.dim=1", "prior.fitted=flow"], "latent.dim: a flow couples dimensions"),
        (["latent.kind=sphere", "prior.kind=sphere", "latent.dim=1"], "latent.dim: a sphere has two dimensions"),
        (["latent.kind=ladder", "prior.kind=ladder", "latent.upper=400"], "latent.upper = 400 must be below"),
        (["latent.kind=vq", "prior.kind=codes", "latent.codes=7"], "latent.codes = 7 must divide latent.dim"),
        (
            ["objective.kind=importance", "objective.encoder=dreg", "objective.elbo=0.5"],
            "objective.encoder = dreg is a gradient of the bound alone",
        ),
        (["kl.kind=cyclical", "kl.zero=0.9", "kl.rise=0.5"], "kl.zero + kl.rise = 1.4"),
        (["objective.kind=dip", "train.batch_size=1"], "objective.kind = dip compares rows of a batch"),
        (["objective.kind=total-correlation", "latent.dim=1"], "latent.dim: one dimension alone tells nothing"),
        (["latent.min_rate=400", "latent.dim=1"], "latent.min_rate: at most 5 nats for each dimension"),
        (
            ["objective.kind=adversarial", "objective.against=shuffled", "latent.kind=sphere", "prior.kind=sphere"],
            "objective.against: of latent.kind = sphere no z has independent dimensions",
        ),
        (["latent.kind=vq"], "prior.kind: latent.kind = vq needs 'codes'"),
        (
            ["latent.kind=gumbel", "prior.kind=codes", "prior.fitted=0", "objective.kind=importance"],
            "objective.kind: the density of a code has no derivative by it",
        ),
        (["prior.kind=vamp", "latent.mean_scale=0.5"], "latent.mean_scale: the rows of a VampPrior"),
        (["data.complete=0.5", "data.sequences=true"], "data.complete: sequences are kept whole"),
        (["modalities.image.widths=[]"], "modalities.image.widths: it needs 1 or more, not []"),
        (["modalities.image.widths=[0]"], "modalities.image.widths.0: input should be greater than 0, not 0"),
        (["modalities.image.widths=8"], "modalities.image.widths: input should be a list, not 8"),
        (["modalities.text.weight=0"], "modalities.text.weight: a number above 0, or 'size', not 0"),
        (["modalities.text.weight=much"], "modalities.text.weight: a number above 0, or 'size', not 'much'"),
        (["data.complete=0.5"], "data.complete: of one modality every row is whole"),
        (["data.pair=label"], "data.pair: there is nothing to pair"),
        (["modalities.text.path=words.csv"], "data.pair: name the column that pairs the set of text"),
        (["modalities.image.path=digits", "data.pair=label"], "data.path: one modality at least is of it"),
        (
            ["latent.kind=vq", "prior.kind=codes", "prior.fitted=3"],
            "prior.fitted: of latent.kind = vq it is 'codes' or 0",
        ),
        (["prior.kind=codes"], "latent.kind: prior.kind = codes needs vq or fsq or gumbel"),
        (["prior.fitted=codes"], "prior.fitted: 'codes' needs latent.kind vq or fsq or gumbel"),
        (["latent.kind=sphere", "prior.kind=sphere", "prior.fitted=3"], "what is fitted does not keep to a sphere"),
        (["latent.kind=ladder"], "prior.kind: latent.kind = ladder needs 'ladder'"),
        (["latent.kind=flow", "prior.kind=vamp"], "prior.kind: vamp scores each z under other posteriors"),
        (["latent.kind=none"], "a model without a latent has 'none' for both"),
    ],
)
def test_parts_that_are_not_made_for_one_another_are_refused(overrides: list[str], line: str) -> None:
    (said,) = refused(*overrides)
    assert line in said


@pytest.mark.parametrize(
    ("recipe", "overrides", "said"),
    [
        ("image/digits", ["modalities.image.private=4"], "of one modality all dimensions are its own"),
        ("joint/emoji", ["modalities.image.private=70"], r"70 private dimensions leave none of latent\.dim"),
        (
            "joint/emoji",
            ["modalities.image.private=2", "latent.kind=deterministic"],
            "only latent.kind 'gaussian' and 'mixture'",
        ),
        ("image/digits", ["objective.kind=alone"], "alone is of several modalities"),
        ("joint/emoji", ["objective.kind=alone", "latent.kind=flow"], "alone needs latent.kind"),
        ("joint/emoji", ["objective.kind=alone", "latent.mean_scale=0.5"], "latent.mean_scale = 0"),
        ("joint/emoji", ["objective.kind=alone", "modalities.image.private=2"], "private dimensions"),
    ],
)
def test_what_modalities_have_alone_is_checked_with_the_recipe(recipe: str, overrides: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Recipe.load(recipe, overrides)
