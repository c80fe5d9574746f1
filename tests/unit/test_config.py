"""What ``config.toml`` may say, and what becomes of anything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinship.config import LIMITS, configured, user_config
from twinship.model.errors import UsageError


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert configured(tmp_path).limits == LIMITS


def test_a_named_limit_is_set_and_the_others_stay(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[limits]\nin = 7\n")
    assert configured(tmp_path).limits == {**LIMITS, "in": 7}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("[limits]\nmoves = 1\n", "unknown limits: moves"),
        ("[limits]\nin = 0\n", "whole number from 1"),
        ("[limits]\nin = true\n", "whole number from 1"),
        ("[limits]\nin = '2'\n", "whole number from 1"),
        ("limits = 3\n", "is a table"),
        ("[limit]\nin = 1\n", "unknown: limit"),
        ("[limits", "Expected"),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path: Path, text: str, cause: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(UsageError) as refused:
        configured(tmp_path)
    assert refused.value.code == "CONFIG"
    assert cause in refused.value.cause


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot use"):
        configured(tmp_path)


def test_the_state_directory_is_where_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINSHIP_STATE_DIR", str(tmp_path))
    assert user_config().state == tmp_path
