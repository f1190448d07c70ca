"""The queue of event lines on disk."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.deadline import eventually
from worker.spool import Spool, Spooled


def drained(spool: Spool) -> list[Spooled]:
    lines = []
    while (batch := spool.take(max_lines=3, linger_s=0.0)) is not None:
        lines += batch
    return lines


@given(st.lists(st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")), max_size=5), max_size=10))
def test_lines_come_out_once_in_order_and_numbered_from_one(blocks: list[list[bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder) / "spool", max_bytes=10_000)
        taken: list[Spooled] = []
        for block in blocks:
            spool.append(block)
            if spool.backlog > 4:
                taken += spool.take(max_lines=2, linger_s=0.0) or []
        spool.end()
        taken += drained(spool)
        spool.close()
    lines = [line for block in blocks for line in block]
    assert taken == [Spooled(eseq=number, text=line) for number, line in enumerate(lines, 1)]


def test_the_file_starts_over_when_all_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    spool = Spool(path, max_bytes=1000)
    for _ in range(100):
        spool.append([b"x" * 90])
        assert spool.take(max_lines=10, linger_s=0.0) is not None
        assert path.stat().st_size == 0
    spool.close()


def test_a_writer_too_far_ahead_waits_and_loses_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", max_bytes=100)

    def write() -> None:
        for number in range(200):
            spool.append([b"%d" % number])
        spool.end()

    writer = threading.Thread(target=write)
    writer.start()
    eventually(lambda: spool.backlog > 20, within_s=10, what="a full spool")
    assert writer.is_alive()
    assert [line.text for line in drained(spool)] == [b"%d" % number for number in range(200)]
    writer.join()
    spool.close()


def test_closing_frees_a_writer_that_waits(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", max_bytes=1)
    spool.append([b"one"])
    writer = threading.Thread(target=spool.append, args=([b"two"],))
    writer.start()
    spool.close()
    writer.join(10)
    assert not writer.is_alive()
    assert spool.take(max_lines=1, linger_s=0.0) is None


def test_an_urgent_line_ends_the_lingering(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", max_bytes=100)
    spool.append([b"sealed"], urgent=True)
    assert spool.take(max_lines=10, linger_s=3600.0) == [Spooled(eseq=1, text=b"sealed")]
    spool.close()


def test_a_writer_is_not_silent_while_its_lines_wait(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", max_bytes=100)
    assert spool.silent_s > 0.0
    spool.append([b"line"])
    assert spool.silent_s == 0.0
    spool.close()


def test_a_full_disk_is_told_and_ends_the_queue_after_what_it_holds() -> None:
    spool = Spool(Path("/dev/full"), max_bytes=100)
    spool.append([b"one"])
    spool.append([b"two"])
    assert isinstance(spool.trouble, OSError)
    assert spool.take(max_lines=9, linger_s=0.0) is None
    spool.close()
