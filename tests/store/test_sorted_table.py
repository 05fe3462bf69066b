"""Sorted tables: found is what was put in, whatever was merged in whichever blocks."""

import os
from hashlib import sha256

import numpy as np
import pytest

from vidreason.store import sorted_table
from vidreason.store.sorted_table import (
    DamagedTableError,
    check_table,
    merge_tables,
    open_table,
    table_of,
)

ROW = np.dtype([("number", "<u4"), ("name", "V3")])


def key(number: int) -> bytes:
    return sha256(str(number).encode()).digest()[:16]


def table(numbers):
    keys = np.frombuffer(b"".join(key(number) for number in numbers), np.uint8).reshape(-1, 16)
    rows = [(number, np.void(f"{number % 1000:03}".encode())) for number in numbers]
    return table_of(keys, np.array(rows, dtype=ROW))


def keep_all(source, rows):
    return np.ones(len(rows), dtype=np.bool_), rows


def write(path, tables, count):
    merge_tables(path, tables, keep_all, count=count, dtype=ROW, info={"a": [1]})


@pytest.mark.parametrize("block_rows", [7, 100, 10**6])
def test_merged_tables_hold_every_row_once_in_order(tmp_path, monkeypatch, block_rows):
    monkeypatch.setattr(sorted_table, "BLOCK_ROWS", block_rows)
    parts = [table(range(0, 300, 2)), table(range(1, 300, 2)), table([]), table(range(300, 310))]
    path = tmp_path / "a.table"
    write(path, parts, 310)
    for opened in (open_table(path), check_table(path)):
        assert opened.info == {"a": [1]}
        assert len(opened) == 310
        assert sorted(opened.rows["number"].tolist()) == list(range(310))
        for number in range(310):
            (row,) = opened.find(key(number))
            assert (row["number"], row["name"].tobytes()) == (number, f"{number:03}".encode())
        assert not list(opened.find(key(310)))
    assert [path.name for path in tmp_path.iterdir()] == ["a.table"]


def test_rows_of_one_key_are_found_in_the_order_of_their_tables(tmp_path):
    path = tmp_path / "a.table"
    write(path, [table([5, 6]), table([5]), table([4, 5])], 5)
    assert len(list(open_table(path).find(key(5)))) == 3


def test_keys_that_agree_in_their_first_half_are_told_apart(tmp_path):
    keys = np.zeros((3, 16), dtype=np.uint8)
    keys[:, 15] = [2, 0, 1]
    rows = np.array([(number, b"abc") for number in (2, 0, 1)], dtype=ROW)
    write(tmp_path / "a", [table_of(keys, rows)], 3)
    for number in range(3):
        (row,) = open_table(tmp_path / "a").find(bytes(15) + bytes([number]))
        assert row["number"] == number


@pytest.mark.parametrize("byte", [0, 15])
def test_keys_in_another_order_are_damage(tmp_path, monkeypatch, byte):
    keys = np.zeros((3, 16), dtype=np.uint8)
    rows = np.zeros(3, dtype=ROW)
    monkeypatch.setattr(np, "lexsort", lambda columns: np.arange(len(columns[0])))
    for name, numbers in (("right", [0, 1, 1]), ("wrong", [0, 2, 1])):
        keys[:, byte] = numbers
        write(tmp_path / name, [table_of(keys, rows)], 3)
    assert len(check_table(tmp_path / "right")) == 3
    with pytest.raises(DamagedTableError, match="not in order"):
        check_table(tmp_path / "wrong")


def test_translation_drops_and_changes_rows(tmp_path):
    def translate(source, rows):
        changed = rows.copy()
        changed["number"] += 1000 * source
        return rows["number"] % 2 == 0, changed

    path = tmp_path / "a"
    parts = [table(range(4)), table(range(4, 8))]
    merge_tables(path, parts, translate, count=4, dtype=ROW, info={})
    assert sorted(open_table(path).rows["number"].tolist()) == [0, 2, 1004, 1006]


def test_an_empty_table(tmp_path):
    write(tmp_path / "a", [], 0)
    assert len(check_table(tmp_path / "a")) == 0
    assert not list(open_table(tmp_path / "a").find(key(0)))


def test_a_cut_or_changed_table_is_an_error(tmp_path):
    path = tmp_path / "a"
    write(path, [table(range(3))], 3)
    whole = path.read_bytes()
    for kept in (*range(0, 64, 3), *range(64, len(whole), 11), len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(DamagedTableError):
            open_table(path)
    starts = whole.index(b"}") // 64 * 64 + 64
    for offset in range(starts, len(whole), 5):
        changed = bytearray(whole)
        changed[offset] ^= 255
        path.write_bytes(changed)
        if offset < starts + 24 or offset >= starts + 48:
            with pytest.raises(DamagedTableError):
                check_table(path)


def test_a_failed_write_leaves_the_old_table(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write(path, [table([1])], 1)

    def fail(*arguments):
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        write(path, [table([2])], 1)
    assert list(open_table(path).find(key(1)))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
