"""Options are found at the fields of configs, and configs are made of their values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import pytest

from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.options import Option, Section, from_options, options_of, values_of
from emobeam.schemas.predict_config import PredictConfig


@dataclass(frozen=True)
class Lens:
    kind: Annotated[str, Option("Which.", Section.VIDEOS, name="lens", unset="auto", choices=("auto", "long"))] = "long"
    revision: int = 3


@dataclass(frozen=True)
class Flash:
    power: Annotated[float, Option("How bright.", Section.FACES, name="flash", metavar="W", unset=None)]


@dataclass(frozen=True)
class Camera:
    place: Annotated[str, Option("Where.", metavar="DIR")]
    lens: Lens = field(default_factory=Lens)
    flash: Flash | None = None
    rate: Annotated[float, Option("How often.", Section.VIDEOS, word_for_zero="native")] = 25.0
    films: Annotated[tuple[str, ...], Option("Which films.", Section.CROPS, flag="--film")] = ()
    sharp: Annotated[bool, Option("Blurred.", flag="--blurred")] = True


def test_options_stand_at_fields_in_the_order_of_their_sections() -> None:
    found = {option.name: option for option in options_of(Camera)}
    assert list(found) == ["place", "sharp", "lens", "rate", "films", "flash"]
    assert [option.flag for option in found.values()] == [
        *("--place", "--blurred", "--lens", "--rate", "--film", "--flash")
    ]
    assert [option.kind for option in found.values()] == [str, bool, str, float, tuple, float]
    assert [name for name, option in found.items() if option.required] == ["place"]
    assert {name: option.unset for name, option in found.items()} == {
        "place": None,
        "sharp": True,
        "lens": "auto",
        "rate": 25.0,
        "films": (),
        "flash": None,
    }
    assert found["lens"].default == "long"
    assert found["lens"].path == ("lens", "kind")
    assert found["lens"].of(Camera("here", lens=Lens("wide"))) == "wide"
    assert [option.name for option in options_of(Camera, without=("flash", "lens"))] == [
        *("place", "sharp", "rate", "films")
    ]


def test_values_are_written_as_on_the_command_line() -> None:
    found = {option.name: option for option in options_of(Camera)}
    assert found["rate"].written(0.0) == "native"
    assert found["rate"].written(12.0) == "12"
    assert found["films"].written(("a", "b")) == "a,b"
    assert found["lens"].written("long") == "long"


def test_a_config_is_made_of_the_values_of_its_options() -> None:
    made = from_options(Camera, {"place": "there", "lens": "wide", "films": ("x",), "rate": None, "stranger": 1})
    assert made == Camera("there", lens=Lens("wide"), films=("x",))
    assert values_of(Lens, {}) == {}
    assert from_options(Camera, {"place": "there", "sharp": False, "flash": 5.0}) == Camera("there", sharp=False)
    assert from_options(Flash, {"flash": 5.0}) == Flash(5.0)


def test_one_name_is_one_option() -> None:
    @dataclass(frozen=True)
    class Other:
        lens: Annotated[str, Option("Another.")] = ""

    with pytest.raises(ValueError, match=r"Other\.lens: another option is called lens"):
        options_of(Camera, Other)


@pytest.mark.parametrize("config", [ExtractConfig, PredictConfig])
def test_a_default_is_a_value_that_may_be_written(config: type) -> None:
    made = config()
    assert from_options(config, {}) == made
    for option in options_of(config):
        value, told = option.of(made), option.option
        if not isinstance(option.unset, type(None)) and told.choices:
            assert option.unset in told.choices
        if told.least is not None and told.most is not None:
            assert told.least <= value <= told.most
        assert from_options(config, {option.name: value}) == made
