"""F5 to F7: what is not a regular file, or not the same file for long."""

from __future__ import annotations

import errno
import os
import pickle
import threading
import time
import types

import pytest

from cryoscale.errors import TransientError
from cryoscale.io.inputs import (
    InputError,
    identity_of,
    open_regular,
    printable,
    read_exactly,
    wait_folder_stable,
    wait_stable,
)
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


def stated(found, **changed):
    names = ("st_mode", "st_size", "st_mtime", "st_ctime")
    return types.SimpleNamespace(**{name: getattr(found, name) for name in names} | changed)


def store(folder, ago):
    (folder / "0/c/0").mkdir(parents=True)
    files = [folder / "zarr.json", folder / "0/zarr.json", folder / "0/c/0/0", folder / "0/c/0/1"]
    for file in files:
        file.write_bytes(b"a")
    now = time.time()
    everything = [*files, *(parent for parent in files[-1].parents if parent == folder or folder in parent.parents)]
    for path in everything:
        os.utime(path, (now - ago, now - ago))
    return files


@pytest.mark.parametrize(
    "change",
    [
        lambda files: files[2].write_bytes(b"b"),
        lambda files: files[3].unlink(),
        lambda files: files[3].with_name("2").write_bytes(b"c"),
        lambda files: files[3].replace(files[3].with_name("3")),
        lambda files: files[0].write_bytes(b"ab"),
    ],
)
def test_a_folder_that_is_written_to_is_refused(tmp_path, monkeypatch, change):
    files, slept = store(tmp_path / "a.zarr", 0.0), []
    monkeypatch.setattr("cryoscale.io.inputs.time.sleep", slept.append)
    wait_folder_stable(tmp_path / "a.zarr", 30.0)
    assert 25.0 < slept.pop() <= 30.0
    monkeypatch.setattr("cryoscale.io.inputs.time.sleep", lambda _: change(files))
    with pytest.raises(InputError) as caught:
        wait_folder_stable(tmp_path / "a.zarr", 30.0)
    assert caught.value.code == "changed" and str(tmp_path / "a.zarr") in str(caught.value)


def test_a_folder_at_rest_is_not_waited_for(tmp_path, monkeypatch):
    files, slept = store(tmp_path / "a.zarr", 100.0), []
    monkeypatch.setattr("cryoscale.io.inputs.time.sleep", slept.append)
    plain, later = os.lstat, {}

    def told(path):
        # Nothing can set a ctime back: all is looked at as if 100 s later, but for what is said otherwise.
        found = plain(path)
        ctime = found.st_ctime - later.get(str(path), 100.0)
        return stated(found, st_ctime=ctime)

    monkeypatch.setattr("cryoscale.io.inputs.os.lstat", told)
    wait_folder_stable(tmp_path / "a.zarr", 30.0)
    assert slept == []
    later[str(files[2])] = 10.0
    wait_folder_stable(tmp_path / "a.zarr", 30.0)
    assert len(slept) == 1 and 18.0 < slept[0] <= 20.0


def test_what_goes_while_a_folder_is_listed_is_a_change(tmp_path, monkeypatch):
    store(tmp_path / "a.zarr", 100.0)
    slept, plain = [], os.lstat

    def told(path):
        if str(path).endswith("c/0/1"):
            raise FileNotFoundError(2, "gone", str(path))
        found = plain(path)
        return stated(found, st_ctime=found.st_mtime)

    monkeypatch.setattr("cryoscale.io.inputs.time.sleep", slept.append)
    monkeypatch.setattr("cryoscale.io.inputs.os.lstat", told)
    wait_folder_stable(tmp_path / "a.zarr", 30.0)
    assert slept == [30.0]


@pytest.mark.parametrize(("number", "error"), [(errno.EACCES, InputError), (errno.ESTALE, TransientError)])
def test_a_folder_that_cannot_be_looked_into(tmp_path, monkeypatch, number, error):
    files = store(tmp_path / "a.zarr", 0.0)

    def told(path):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("cryoscale.io.inputs.os.lstat", told)
    with pytest.raises(error, match=str(files[0].parent)):
        wait_folder_stable(tmp_path / "a.zarr", 30.0)
