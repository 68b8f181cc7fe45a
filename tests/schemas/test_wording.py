from __future__ import annotations

import json
import pickle

import pytest

from emobeam.schemas.records import InputError, UsageError
from emobeam.schemas.wording import (
    counted,
    data_without_secrets,
    did_you_mean,
    from_cell,
    in_cell,
    noun,
    told,
    without_secrets,
)

SECRETS = {
    "https://ann:pa55@host/a.mp4": "https://ann:***@host/a.mp4",
    "simplecache::https://ann:p@55@host/a.mp4": "simplecache::https://ann:***@host/a.mp4",
    "https://ghp_abc@github.com/a.mp4": "https://***@github.com/a.mp4",
    "redis://:pa55@host/": "redis://:***@host/",
    "https://h/a.mp4?X-Amz-Expires=60&X-Amz-Signature=ab12": "https://h/a.mp4?X-Amz-Expires=60&X-Amz-Signature=***",
    "https://h/a b.mp4?id=3&token=ab.cd: can't be read": "https://h/a b.mp4?id=3&token=***: can't be read",
    "https://h/a?sv=1&hdnts=0123456789abcdef0123456789": "https://h/a?sv=1&hdnts=***",
    '["https://h/a?sig=x"]': '["https://h/a?sig=***"]',
    "Max retries exceeded with url: /a.mp4?sig=x": "Max retries exceeded with url: /a.mp4?sig=***",
}
NO_SECRETS = (
    "github://org:repo@main/a.mp4",
    "s3://bucket/a.mp4?versionId=0123456789abcdef0123456789abcdef",
    "abfs://container@account/a.mp4",
    "gs://bucket/day 1/a::b #ü.mp4",
    "mailbox ann@host: 3 left; seed=4",
    "https://host/a.mp4?id=3",
    "v1/run#session=2.mp4: can't be read",
    "day&code=7/0123456789abcdef?x=0123456789abcdef0123456789",
)


def test_one_and_many() -> None:
    assert [counted(n, "video") for n in (0, 1, 2, 1200)] == ["0 videos", "1 video", "2 videos", "1,200 videos"]
    assert [counted(n, "person", "people") for n in (1, 2)] == ["1 person", "2 people"]
    assert [noun(n, "means", "mean") for n in (1, 2)] == ["means", "mean"]


@pytest.mark.parametrize(("text", "shown"), SECRETS.items())
def test_secrets_of_addresses_are_left_out(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert without_secrets(shown) == shown
    assert without_secrets(f"{text}, {text}") == f"{shown}, {shown}"


@pytest.mark.parametrize("text", NO_SECRETS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_secrets_in_data_and_errors() -> None:
    text, shown = next(iter(SECRETS.items()))
    data = {"inputs": [text, (text,)], "n": 3, "none": None}
    assert data_without_secrets(data) == {"inputs": [shown, [shown]], "n": 3, "none": None}
    assert str(UsageError(f"{text}: no such file")) == f"{shown}: no such file"
    error = InputError(f"{text}: x", stage="open", reason="io", permanent=True)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.stage, again.reason, again.permanent) == (f"{shown}: x", "open", "io", True)


def test_what_steers_a_terminal_is_spelt_out() -> None:
    text = "a\x1b[2J\rb\x9b1m\u202egpj.\u2066x\x00\udce9"
    assert told(text) == "a\\u001b[2J\\u000db\\u009b1m\\u202egpj.\\u2066x\\u0000\\udce9"
    assert told("tabs\tand lines\n ünïcode 한 \u200d") == "tabs\tand lines\n ünïcode 한 \u200d"
    document = {"video": text, "uri": 'https://h/a?sig=x"y\\z', "more": "https://u:p\\@h"}
    assert json.loads(told(json.dumps(document, ensure_ascii=False)))["video"] == text, "JSON means what it meant"


def test_what_somebody_may_have_meant() -> None:
    known = ("train", "validation", "")
    assert did_you_mean("Validaton", known) == "; did you mean 'validation'?"
    assert did_you_mean("TRAIN", known) == "; did you mean 'train'?"
    assert did_you_mean("joy", known) == did_you_mean("", known) == ""


@pytest.mark.parametrize("text", ["=x", "'=x", "''=x", "-1a", "@a", "\t=", "'a", "a=b", "", "'"])
def test_texts_come_back_from_cells(text: str) -> None:
    assert from_cell(in_cell(text)) == text
    assert in_cell(text)[:1] not in {"=", "+", "-", "@", "\t", "\r"}
