"""Files are whole or absent."""

from __future__ import annotations

from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from cryoscale.io.files import atomic_write, crc32c, load_npz, relative_files, save_npz, write_text


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")

    def fail() -> None:
        with atomic_write(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_checksum_and_length(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(5 << 20)
    (tmp_path / "a").write_bytes(data)
    assert crc32c(tmp_path / "a") == (len(data), google_crc32c.value(data))


def test_arrays_survive_and_pickles_do_not(tmp_path: Path) -> None:
    save_npz(tmp_path / "a.npz", x=np.arange(3), y=np.array(True))
    back = load_npz(tmp_path / "a.npz")
    assert (back["x"] == np.arange(3)).all()
    np.savez(tmp_path / "b.npz", x=np.array([object()]))
    with pytest.raises(ValueError, match="pickle"):
        load_npz(tmp_path / "b.npz")


def test_receipts_name_files_relative_to_the_folder(tmp_path: Path) -> None:
    assert relative_files(tmp_path, [str(tmp_path / "a" / "b")]) == ("a/b",)
