"""Logs that other programs append to stay small, and lose nothing that is written meanwhile."""

from __future__ import annotations

import stat

from argilla_setup.log_files import rotate


def test_a_log_is_rotated_under_its_writer(tmp_path):
    log = tmp_path / "redis.log"
    with log.open("ab", buffering=0) as writer:
        for round_ in range(6):
            writer.write(f"round {round_}\n".encode() * 10)
            assert rotate(log, limit=50, keep=3)
            assert log.read_bytes() == b""
        writer.write(b"the newest\n")
    assert not rotate(log, limit=50, keep=3)
    assert log.read_text() == "the newest\n"
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["redis.log", "redis.log.1", "redis.log.2", "redis.log.3"]
    assert [(tmp_path / name).read_text()[:7] for name in kept[1:]] == ["round 5", "round 4", "round 3"]
    assert all(stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600 for name in kept[1:])


def test_a_log_that_is_not_there(tmp_path):
    assert not rotate(tmp_path / "none.log")
