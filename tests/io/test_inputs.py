"""F5 to F7: what is not a regular file, or not the same file for long."""

from __future__ import annotations

import os
import pickle
import threading
import types

import pytest

from cryoscale.io.inputs import InputError, identity_of, open_regular, printable, read_exactly, wait_stable
from cryoscale.io.source import open_source
from tests.io.corpus import mrc


def code_of(path):
    with pytest.raises(InputError) as caught:
        open_source(path)
    return caught.value.code


def test_fifo_never_hangs(tmp_path):
    os.mkfifo(tmp_path / "a.mrc")
    assert code_of(tmp_path / "a.mrc") == "not-a-file"


def test_folder_device_and_missing(tmp_path):
    assert code_of(tmp_path) == "not-a-file"
    assert code_of("/dev/zero") == "not-a-file"
    assert code_of(tmp_path / "none.mrc") == "unreadable"
    assert code_of("a\0b.mrc") == "unreadable"


def test_links(tmp_path):
    (tmp_path / "a.mrc").write_bytes(mrc())
    (tmp_path / "good.mrc").symlink_to("a.mrc")
    (tmp_path / "dangling.mrc").symlink_to("none")
    (tmp_path / "loop.mrc").symlink_to("loop.mrc")
    assert open_source(tmp_path / "good.mrc").shape == (8, 12, 16)
    assert code_of(tmp_path / "dangling.mrc") == "unreadable"
    assert code_of(tmp_path / "loop.mrc") == "unreadable"


@pytest.mark.parametrize(
    "name", ["café.mrc", "断層.mrc", "a\nb.mrc", "-a.mrc", "a b.mrc", "$(touch x).mrc", b"\xff.mrc"]
)
def test_odd_names_open(tmp_path, name):
    path = os.path.join(tmp_path, os.fsdecode(name))  # noqa: PTH118 - bytes that are not UTF-8
    with open(path, "wb") as stream:  # noqa: PTH123
        stream.write(mrc())
    assert open_source(path).shape == (8, 12, 16)
    with open(path, "wb"):  # noqa: PTH123
        pass
    with pytest.raises(InputError) as caught:
        open_source(path)
    assert str(caught.value).isprintable()


def test_printable_escapes():
    assert printable("a\x1b\n\udcff断") == "a\\x1b\\n\\udcff断"


def test_short_read_is_an_error(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    descriptor, identity = open_regular(tmp_path / "a")
    assert identity.size == 3
    assert bytes(read_exactly(descriptor, 2, 1, "a")) == b"bc"
    with pytest.raises(InputError) as caught:
        read_exactly(descriptor, 3, 1, "a")
    os.close(descriptor)
    assert caught.value.code == "truncated"


def test_file_being_written_is_noticed(tmp_path):
    path = tmp_path / "a.mrc"
    path.write_bytes(b"a")
    assert wait_stable(path, 0.0) == identity_of(path)
    writer = threading.Timer(0.05, path.write_bytes, [b"ab"])
    writer.start()
    with pytest.raises(InputError) as caught:
        wait_stable(path, 0.5)
    writer.join()
    assert caught.value.code == "changed"
    assert pickle.loads(pickle.dumps(caught.value)).code == "changed"


@pytest.mark.parametrize(
    ("changed_ago", "moved_ago", "waited"),
    [(100.0, 100.0, []), (100.0, 12.0, [18.0]), (12.0, 100.0, [18.0]), (-3600.0, 100.0, [30.0]), (30.0, 40.0, [])],
)
def test_only_what_is_missing_is_waited_for(tmp_path, monkeypatch, changed_ago, moved_ago, waited):
    """Times of change of content (mtime) and of name (ctime); a clock in the future counts as now."""
    path, slept = tmp_path / "a.mrc", []
    path.write_bytes(b"a")
    plain, now = os.stat, 1_800_000_000.0

    def told(name, **options):
        found = plain(name, **options)
        if str(name) != str(path):
            return found
        return types.SimpleNamespace(st_mtime=now - changed_ago, st_ctime=now - moved_ago, st_mode=found.st_mode)

    monkeypatch.setattr("cryoscale.io.inputs.time", types.SimpleNamespace(time=lambda: now, sleep=slept.append))
    monkeypatch.setattr("cryoscale.io.inputs.os.stat", told)
    assert wait_stable(path, 30.0) == identity_of(path)
    assert slept == waited


def test_what_changes_while_it_is_watched_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.mrc"
    path.write_bytes(b"a")
    monkeypatch.setattr("cryoscale.io.inputs.time.sleep", lambda _: path.write_bytes(b"ab"))
    with pytest.raises(InputError) as caught:
        wait_stable(path, 30.0)
    assert caught.value.code == "changed"
