"""The processors that a process may use, told by cgroup files of our own making."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.cpu import available_cpus

AFFINITY = len(os.sched_getaffinity(0))


def write_v1(root: Path, quota: str, period: str) -> None:
    (root / "cpu").mkdir()
    (root / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (root / "cpu" / "cpu.cfs_period_us").write_text(period)


# (quota, period) in microseconds -> whole processors, before the affinity caps them.
QUOTAS = [
    ("100000", "100000", 1),
    ("50000", "100000", 1),
    ("1000", "100000", 1),
    ("150000", "100000", 2),
    ("100001", "100000", 2),
    ("200000", "100000", 2),
    ("100000", "50000", 2),
]


@pytest.mark.parametrize(("quota", "period", "cpus"), QUOTAS)
def test_a_v2_quota_is_rounded_up_and_capped_by_the_affinity(
    tmp_path: Path, quota: str, period: str, cpus: int
) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota} {period}\n")
    assert available_cpus(tmp_path) == min(cpus, AFFINITY)


@pytest.mark.parametrize(("quota", "period", "cpus"), QUOTAS)
def test_a_v1_quota_is_rounded_up_and_capped_by_the_affinity(
    tmp_path: Path, quota: str, period: str, cpus: int
) -> None:
    write_v1(tmp_path, f"{quota}\n", f"{period}\n")
    assert available_cpus(tmp_path) == min(cpus, AFFINITY)


@pytest.mark.parametrize(
    "content",
    ["max 100000\n", "999900000 100000\n", "", "max", "many few\n", "1 2 3\n", "100000 0\n"],
)
def test_no_v2_limit_and_no_sense_leave_the_affinity(tmp_path: Path, content: str) -> None:
    (tmp_path / "cpu.max").write_text(content)
    assert available_cpus(tmp_path) == AFFINITY


@pytest.mark.parametrize(
    ("quota", "period"), [("-1", "100000"), ("", "100000"), ("x", "y"), ("100000", "0")]
)
def test_no_v1_limit_and_no_sense_leave_the_affinity(
    tmp_path: Path, quota: str, period: str
) -> None:
    write_v1(tmp_path, quota, period)
    assert available_cpus(tmp_path) == AFFINITY


def test_without_cgroup_files_the_affinity_counts(tmp_path: Path) -> None:
    assert available_cpus(tmp_path / "missing") == AFFINITY


def test_bytes_that_are_no_text_leave_the_affinity(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_bytes(b"\xff\xfe 100000")
    assert available_cpus(tmp_path) == AFFINITY


def test_a_v2_limit_goes_before_a_v1_limit(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    write_v1(tmp_path, "200000", "100000")
    assert available_cpus(tmp_path) == 1


def test_a_hybrid_host_falls_back_to_its_v1_limit(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000\n")
    write_v1(tmp_path, "100000", "100000")
    assert available_cpus(tmp_path) == 1


def test_this_machine_has_at_least_one_processor() -> None:
    assert 1 <= available_cpus() <= AFFINITY
