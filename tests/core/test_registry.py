"""The registry: names to classes, imported when first asked for; one broken plugin harms nobody else."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest
from pydantic import ValidationError

from mmvae.core import registry as module
from mmvae.core.registry import Registry, Settings, nearest


class Part:
    """What the registry below holds."""


class Sine(Part):
    """A part."""


@pytest.fixture
def waves(monkeypatch: pytest.MonkeyPatch) -> Registry[Part]:
    """A registry with a built-in part and two installed ones, of which one is broken."""
    installed = [
        EntryPoint("saw", f"{__name__}:Sine", "waves"),
        EntryPoint("broken", "a_module_that_is_not_there:Thing", "waves"),
    ]
    monkeypatch.setattr(module, "entry_points", lambda group: installed if group == "waves" else [])
    return Registry("wave", {"sine": f"{__name__}:Sine"}, group="waves")


def test_parts_are_found_built_in_installed_and_registered(waves: Registry[Part]) -> None:
    @waves.register("square")
    class Square(Part):
        """A part."""

    assert waves.names() == ["broken", "saw", "sine", "square"]
    assert waves.get("square") is Square
    assert waves.get("sine").__name__ == waves.get("saw").__name__ == "Sine"
    assert waves.origin("sine") == "built in"
    assert waves.origin("square").startswith("this process")


def test_a_broken_plugin_is_named_when_asked_for_and_harms_nobody_else(waves: Registry[Part]) -> None:
    assert waves.get("sine")
    with pytest.raises(ValueError, match=r"the wave 'broken' .* could not be loaded: ModuleNotFoundError"):
        waves.get("broken")


def test_an_unknown_name_gets_the_nearest(waves: Registry[Part]) -> None:
    with pytest.raises(ValueError, match="unknown wave 'sin': did you mean 'sine'"):
        waves.get("sin")
    with pytest.raises(ValueError, match="known: broken, saw, sine"):
        waves.get("xylophone")


def test_a_taken_name_is_refused(waves: Registry[Part]) -> None:
    with pytest.raises(ValueError, match="exists already"):
        waves.register("sine")(Part)
    waves.register("mine")(Sine)
    with pytest.raises(ValueError, match="exists already"):
        waves.register("mine")(Part)


def test_a_class_may_be_registered_again_as_notebooks_do(waves: Registry[Part]) -> None:
    for _ in range(2):
        waves.register("mine")(Sine)
    assert waves.get("mine") is Sine


def test_a_registry_without_a_group_looks_at_no_package() -> None:
    assert Registry("wave", {"sine": "x:y"}).names() == ["sine"]


def test_nearest_says_so_where_nothing_is_known() -> None:
    assert nearest("a", []) == "known: none"


def test_settings_refuse_unknown_keys_and_numbers_that_are_none_and_changes() -> None:
    class Table(Settings):
        """A table."""

        rate: float = 1.0

    for wrong in ({"rat": 1.0}, {"rate": float("nan")}, {"rate": float("inf")}):
        with pytest.raises(ValidationError):
            Table(**wrong)
    with pytest.raises(ValidationError):
        setattr(Table(), "rate", 2.0)  # noqa: B010
