"""Cache of replies: a request is sent once, damage is found on reading, other files are refused."""

import sqlite3
from contextlib import closing

import pytest

from vidreason.endpoints.cache import ReplyCache
from vidreason.endpoints.replies import ChatReply

REQUEST = {"messages": [{"role": "user", "content": "Why?"}]}


class Model:
    """Counts its requests."""

    def __init__(self, text="fine", problem=""):
        self.reply = ChatReply(text=text, problem=problem)
        self.num_sent = 0

    def __call__(self):
        self.num_sent += 1
        return self.reply


def test_a_reply_is_kept_with_its_problem(tmp_path):
    path, model = tmp_path / "new" / "cache.sqlite", Model("a\x00b\u2028", "cut")
    assert ReplyCache(path).reply("m", REQUEST, model) == model.reply
    assert ReplyCache(path).reply("m", REQUEST, model) == model.reply
    assert model.num_sent == 1
    ReplyCache(path).reply("m", {**REQUEST, "seed": 1}, model)
    ReplyCache(path).reply("another", REQUEST, model)
    assert model.num_sent == 3


def test_what_raises_is_not_kept(tmp_path):
    def fail():
        raise RuntimeError("out of budget")

    cache, model = ReplyCache(tmp_path / "cache"), Model()
    with pytest.raises(RuntimeError, match="out of budget"):
        cache.reply("m", REQUEST, fail)
    assert cache.reply("m", REQUEST, model).text == "fine"


def test_a_damaged_text_is_told_from_a_reply(tmp_path):
    cache, model = ReplyCache(tmp_path / "cache"), Model()
    cache.reply("m", REQUEST, model)
    with closing(sqlite3.connect(tmp_path / "cache")) as connection, connection:
        connection.execute("UPDATE outputs SET output = CAST(x'ff' AS TEXT)")
    with pytest.raises(ValueError, match=r"cannot be used as a cache .*move the file away"):
        cache.reply("m", REQUEST, model)


def test_another_file_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "cache"
    path.write_bytes(b"not a database, but somebody's notes " * 100)
    with pytest.raises(ValueError, match=r"cannot be used as a cache of replies .*not a database"):
        ReplyCache(path)
    assert path.read_bytes().startswith(b"not a database")
    with pytest.raises(ValueError, match="cannot be used as a cache"):
        ReplyCache(tmp_path)
    with pytest.raises(ValueError, match="cannot be used as a cache"):
        ReplyCache(path / "below" / "a file")
