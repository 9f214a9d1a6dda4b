"""helpers, section claims: what is printed is what was measured, behind a mark that says whether the text holds."""

import json
import math
import re

import numpy as np
import pytest
import torch

import helpers

NATS = {"unit": "nats per image", "tol": 2.3}
SANITISED = re.compile(r"(?m)^(✓ .*: )-?[\d,]+(?:\.\d+)?(?= |$)", re.ASCII)  # what nbval does not compare


@pytest.fixture(autouse=True)
def claims(tmp_path, monkeypatch):
    """An empty claims.json, and no log."""
    monkeypatch.delenv("VAE_CLAIM_LOG", raising=False)
    monkeypatch.setattr(helpers, "CLAIMS", tmp_path / "claims.json")
    helpers.CLAIMS.write_text("{}", encoding="utf-8")
    return helpers.CLAIMS


@pytest.fixture
def record(claims):
    """A function that records one claim as `tools/notebooks.py run --record` does."""

    def write(name, value, unit="", tol=0, effect=False):
        asked = {"value": value, "unit": unit, "tol": tol, "effect": effect}
        known = json.loads(claims.read_text(encoding="utf-8"))
        text = json.dumps({**known, name: {"notebook": "03_training", **asked}}, ensure_ascii=False)
        claims.write_text(text, encoding="utf-8")

    return write


@pytest.fixture
def printed(capsys):
    """A function that makes a claim and returns the line that it printed."""

    def claim(*arguments, **options):
        helpers.claim(*arguments, **options)
        line, end = capsys.readouterr().out.split("\n")
        assert end == ""
        return line

    return claim


# the three marks


@pytest.mark.parametrize("value, shown", [(252.8, "252.8"), (251.0, "251.0"), (255.0999, "255.1"), (250.6, "250.6")])
def test_number_within_tol_of_the_record_is_printed_as_measured_behind_a_tick(record, printed, value, shown):
    record("test recon + kl", 252.8, **NATS)

    assert printed("test recon + kl", value, **NATS) == f"✓ test recon + kl: {shown} nats per image"


@pytest.mark.parametrize(
    "value, shown", [(255.2, "255.2"), (250.3, "250.3"), (-252.8, "-252.8"), (55_000.0, "55,000.0")]
)
def test_number_beyond_tol_is_printed_as_measured_with_what_the_text_was_written_for(record, printed, value, shown):
    record("loss", 252.8, **NATS)

    line = printed("loss", value, **NATS)

    assert line == f"✗ loss: {shown} nats per image (the text was written for 252.8 ± 2.3)"


@pytest.mark.parametrize("value, mark", [(13, "✓"), (7, "✓"), (13.001, "✗"), (6.999, "✗")])
def test_number_that_is_off_by_tol_itself_is_within_it(record, printed, value, mark):
    record("count", 10, tol=3)

    assert printed("count", value, tol=3).startswith(mark)


def test_the_last_bit_of_a_number_does_not_push_it_beyond_tol(record, printed):
    record("share", 0.3, tol=0.1)

    assert 0.4 - 0.3 > 0.1 and printed("share", 0.4, tol=0.1).startswith("✓")


@pytest.mark.filterwarnings("error")
def test_number_that_still_has_its_graph_is_taken_without_a_warning(printed):
    assert printed("loss", torch.tensor(1.5, requires_grad=True), tol=0.1) == "· loss: 1.50"


@pytest.mark.parametrize("value, shown", [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")])
def test_number_that_is_none_is_printed_behind_a_cross_and_raises_nothing(record, printed, value, shown):
    record("loss", 252.8, **NATS)

    assert printed("loss", value, **NATS).startswith(f"✗ loss: {shown} nats per image (")


CHANGES = {"unit": {"unit": "bits per image"}, "tol": {"tol": 2.4}, "wider": {"tol": 23}, "effect": {"effect": True}}


@pytest.mark.parametrize("change", CHANGES)
def test_same_number_with_another_unit_margin_or_kind_is_behind_a_cross(record, printed, change):
    record("loss", 252.8, **NATS)

    line = printed("loss", 252.8, **{**NATS, **CHANGES[change]})

    assert line.startswith("✗ loss: 25") and line.endswith("(the text was written for 252.8 ± 2.3)")


def test_effect_that_is_recorded_as_one_is_behind_a_tick(record, printed):
    record("gap", 1.5, tol=0.4, effect=True)

    assert printed("gap", 1.2, tol=0.4, effect=True) == "✓ gap: 1.20"
    assert printed("gap", 1.2, tol=0.4).startswith("✗")


def test_integer_without_tol_holds_for_the_very_number_only(record, printed):
    record("images", 55_000)

    assert printed("images", 55_000) == "✓ images: 55,000"
    assert printed("images", 55_001) == "✗ images: 55,001 (the text was written for 55,000 ± 0)"


def test_number_without_a_record_is_behind_a_dot(record, printed):
    record("another", 1)

    assert printed("mine", 252.84, **NATS) == "· mine: 252.8 nats per image"


def test_without_claims_json_every_number_is_behind_a_dot(claims, printed):
    claims.unlink()

    assert printed("mine", 252.84, **NATS) == "· mine: 252.8 nats per image"


def test_records_are_those_beside_the_notebooks_and_read_as_utf8(record, printed, monkeypatch):
    record("Anteil β", 3, unit="σ²")

    assert printed("Anteil β", 3, unit="σ²") == "✓ Anteil β: 3 σ²"
    monkeypatch.undo()
    assert helpers.CLAIMS == helpers.storage.ROOT / "notebooks" / "claims.json"


# the digits

DIGITS = [  # value, tol, what is printed: one digit more than the first of tol
    (252.84, 2.3, "252.8"),
    (252.84, 9.99, "252.8"),
    (252.84, 0.5, "252.84"),
    (252.84, 0.1, "252.84"),
    (0.12345, 0.04, "0.123"),
    (0.000123456, 1e-6, "0.0001235"),
    (1e-9, 1e-4, "0.00000"),
    (252.84, 10, "253"),
    (252.84, 99, "253"),
    (12_345.6, 1_500, "12,346"),
    (1e21, 1e20, "1,000,000,000,000,000,000,000"),
    (-1_234.56, 0.2, "-1,234.56"),
    (5.0, 0.2, "5.00"),
    (5, 0.2, "5"),
    (55_000, 0, "55,000"),
    (-3, 0, "-3"),
]


@pytest.mark.parametrize("value, tol, shown", DIGITS)
def test_tol_sets_the_digits_that_are_printed_and_integers_are_whole(printed, value, tol, shown):
    assert printed("a", value, tol=tol) == f"· a: {shown}"


@pytest.mark.parametrize("count", [7, torch.tensor(7), np.int64(7), (torch.arange(9) > 1).sum()])
def test_a_count_is_whole_whatever_its_tol(record, printed, count):
    record("islands", 9, tol=2.5)

    assert printed("islands", count, tol=2.5) == "✓ islands: 7"
    assert printed("islands", 2, tol=2.5) == "✗ islands: 2 (the text was written for 9 ± 2.5)"


MINUS_ZERO = [(-0.04, 1, "0.0"), (-0.0, 0, "0"), (-0.4, 10, "0"), (-1e-9, 0.1, "0.00")]


@pytest.mark.parametrize("value, tol, shown", MINUS_ZERO)
def test_nothing_is_printed_as_minus_zero(printed, value, tol, shown):
    assert printed("a", value, tol=tol) == f"· a: {shown}"


@pytest.mark.parametrize("value, tol, shown", DIGITS)
def test_number_behind_a_tick_is_what_nbval_leaves_out(record, printed, value, tol, shown):
    record("share: all", value, "nats 1", tol)

    line = printed("share: all", value, "nats 1", tol)

    assert line == f"✓ share: all: {shown} nats 1" and line.removeprefix("✓").isascii()
    assert SANITISED.sub(r"\1#", line) == "✓ share: all: # nats 1"


@pytest.mark.parametrize("value", [0.5, 252.8, -1e-9, math.nan, math.inf])
def test_number_that_is_no_integer_is_refused_without_tol(printed, value):
    with pytest.raises(ValueError) as caught:
        printed("a", value)

    expected = f"value: expected an integer where tol is 0, received {value:g}; say how far a rerun may land"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    "value", [torch.tensor(252.84), torch.tensor([252.84]).double(), np.float32(252.84), np.float64(252.84)]
)
def test_tensors_and_numpys_numbers_are_numbers(record, printed, value):
    record("loss", 252.8, **NATS)

    assert printed("loss", value, **NATS) == "✓ loss: 252.8 nats per image"


@pytest.mark.parametrize("value", [torch.tensor(7), np.int64(7), np.uint8(7), True + 6, 7.0])
def test_integers_of_every_kind_are_whole(record, printed, value):
    record("count", 7)

    assert printed("count", value) == "✓ count: 7"


# the log


def test_log_gets_one_line_for_each_claim_with_the_number_as_measured(record, printed, tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_CLAIM_LOG", str(tmp_path / "log"))
    record("Verlust", 0, **NATS)

    printed("Verlust", torch.tensor(252.84).double(), **NATS)
    printed("gap", 1.25, tol=0.4, effect=True)

    assert [json.loads(line) for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines()] == [
        {"name": "Verlust", "value": pytest.approx(252.84), "unit": "nats per image", "tol": 2.3, "effect": False},
        {"name": "gap", "value": 1.25, "unit": "", "tol": 0.4, "effect": True},
    ]


def test_without_the_variable_nothing_is_written(printed, tmp_path):
    printed("a", 1)

    assert [path.name for path in tmp_path.iterdir()] == ["claims.json"]


# long rows

ROWS = """row,value,seed,seconds,date,processor,commit
thirty epochs,251.9,0,152,2025-11-20,"EPYC, 2 cores",d5308b3
sixteen dimensions,228.25,0,99,2025-11-20,"EPYC, 2 cores",d5308b3
thirty epochs,251.5,2,148,2025-11-20,"EPYC, 2 cores",d5308b3
"""


@pytest.fixture
def long(tmp_path, monkeypatch):
    monkeypatch.setattr(helpers, "LONG", tmp_path / "long.csv")
    helpers.LONG.write_text(ROWS, encoding="utf-8")


def test_long_row_gives_its_values_by_seed(long):
    assert helpers.long_row("thirty epochs") == {0: 251.9, 2: 251.5}
    assert helpers.long_row("sixteen dimensions") == {0: 228.25}


def test_long_row_that_is_not_there_is_refused(long):
    with pytest.raises(ValueError, match="there is no row 'thirty'"):
        helpers.long_row("thirty")


def test_long_rows_lie_beside_the_notebooks():
    assert helpers.LONG == helpers.storage.ROOT / "notebooks" / "long.csv"
