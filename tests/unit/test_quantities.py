"""Sizes, rates and times as people write and read them."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinship.cli.quantities import Duration, Memory, Rate, Size, seconds, size


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("50MB/s", 50_000_000),
        ("1GiB/s", 2**30),
        ("1.5 MiB/s", 3 * 2**19),
        ("100", 100),
        ("8K", 8192),
        (" 7kB/s ", 7000),
    ],
)
def test_rates_are_read(text: str, rate: int) -> None:
    assert Rate().convert(text, None, None) == rate


@pytest.mark.parametrize(
    "text", ["", "fast", "0", "0MB/s", "0.2", "-5MB/s", "5 parsecs", "5mb/s", "1e9", "5MB/h", "∞"]
)
def test_what_is_no_rate_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match="50MB/s"):
        Rate().convert(text, None, None)


@given(st.text(max_size=12))
def test_no_text_can_mean_an_unlimited_rate(text: str) -> None:
    try:
        assert Rate().convert(text, None, None) >= 1
    except click.BadParameter:
        return


@pytest.mark.parametrize(("text", "count"), [("2GiB", 2**31), ("500MB", 5 * 10**8), ("0", 0)])
def test_sizes_are_read(text: str, count: int) -> None:
    assert Size().convert(text, None, None) == count


@pytest.mark.parametrize("text", ["0", "1KiB", "", "lots"])
def test_a_vm_without_memory_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Memory().convert(text, None, None)


@pytest.mark.parametrize("text", ["", "big", "-1", "2 GiB/s"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Size().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "time_s"),
    [("500ms", 0.5), ("2s", 2.0), ("1min", 60.0), ("1.5 h", 5400.0), ("30", 30.0)],
)
def test_times_are_read(text: str, time_s: float) -> None:
    assert Duration().convert(text, None, None) == pytest.approx(time_s)


@pytest.mark.parametrize("text", ["", "soon", "-1s", "5 days", "ms", "1min30s"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="500ms"):
        Duration().convert(text, None, None)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**30, "1.0 GiB"), (2**42, "4096.0 GiB")],
)
def test_sizes_are_written(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0.236, "0.24 s"),
        (12.4, "12 s"),
        (119.4, "119 s"),
        (119.7, "2 min 0 s"),
        (179.7, "3 min 0 s"),
        (190, "3 min 10 s"),
    ],
)
def test_times_are_written(count: float, text: str) -> None:
    assert seconds(count) == text
