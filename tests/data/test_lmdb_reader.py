"""LMDBs are opened once in a process, again in a forked one, and say which key is missing."""

from __future__ import annotations

import os
import pickle

import lmdb
import pytest
from basicsr.utils.file_client import FileClient

from rgt_arch.data import lmdb_reader
from rgt_arch.errors import UsageError, UserError


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "images.lmdb"
    with lmdb.open(str(path), map_size=1 << 20) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"baboon", b"png of baboon")
        transaction.put(b"img.v1", b"png of img.v1")
    return os.path.realpath(path)


def client(path):
    return FileClient("lmdb", db_paths=[path, path], client_keys=["lq", "gt"])


def test_one_path_serves_several_clients_and_keys(database):
    """Training and validation, LR and HR; under another name of the folder, too."""
    for path in (database, database, os.path.join(os.path.dirname(database), ".", "images.lmdb")):
        assert client(path).get("baboon", "gt") == b"png of baboon"


def test_forked_worker_opens_its_own_and_leaves_the_parents_alone(database):
    ours = client(database)
    assert ours.get("baboon", "lq") == b"png of baboon"
    inherited = lmdb_reader.open_lmdb(database)
    child = os.fork()
    if not child:
        try:
            same_bytes = ours.get("baboon", "gt") == client(database).get("baboon", "gt")
            os._exit(0 if same_bytes and lmdb_reader.open_lmdb(database) is not inherited else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert ours.get("baboon", "lq") == b"png of baboon"


def test_paths_are_resolved_once_and_hold_in_another_folder(database, monkeypatch):
    monkeypatch.chdir(os.path.dirname(database))
    ours = client("images.lmdb")
    monkeypatch.chdir("/")
    resolved = []
    monkeypatch.setattr(os.path, "realpath", lambda path: resolved.append(path) or path)
    assert ours.get("baboon", "lq") == b"png of baboon"
    assert resolved == []
    with pytest.raises(UserError, match=r"^images.lmdb: no key 'lenna'"):  # as the option file has it
        ours.get("lenna", "lq")


def test_client_can_be_sent_to_a_worker(database):
    assert pickle.loads(pickle.dumps(client(database))).get("baboon", "lq") == b"png of baboon"


def test_missing_key_names_key_and_lmdb(database):
    with pytest.raises(UserError, match=r"images.lmdb: no key 'lenna'; make the LMDB again"):
        client(database).get("lenna", "gt")


def test_key_cut_at_its_dot_is_explained(database):
    with pytest.raises(UserError, match=r"no key 'img'; it has 'img.v1', but BasicSR cuts names at the first dot"):
        client(database).get("img", "gt")


def test_folder_that_is_no_lmdb_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"empty.lmdb: cannot be opened as an LMDB"):
        client(str(tmp_path / "empty.lmdb"))


def test_truncated_lmdb_is_named_before_reading_it_kills_the_process(database):
    data = os.path.join(database, "data.mdb")
    os.truncate(data, os.path.getsize(data) - 1)
    with pytest.raises(UsageError, match=r"images.lmdb/data.mdb: is truncated: \d+ of \d+ bytes"):
        client(database)
