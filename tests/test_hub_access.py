"""Names of the Hub where it does not answer: what is cached, or one quick, clear error."""

import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from loopback import Loopback, http

from data_modules.corpora import CorpusConfig
from data_modules.corpus_index import open_corpora
from vidreason import hub_access
from vidreason.hub_access import hub_or_cache
from vidreason.reasoning.language_model import load_tokenizer
from vidreason.reasoning.reasoner_config import LanguageModelConfig


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No answer of another test is remembered, and nobody waits for a further try."""

    def refuse(seconds: float) -> None:
        raise AssertionError(f"a client waits for {seconds} s to try again")

    monkeypatch.setattr(time, "sleep", refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub_access._why_silent.cache_clear()
    yield
    hub_access._why_silent.cache_clear()


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address of the Hub at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    return address


def test_a_hub_that_answers_is_asked_once(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    for status in (200, 404, 503):  # it is there, whatever it thinks of the question
        hub_access._why_silent.cache_clear()
        monkeypatch.setattr(constants, "ENDPOINT", loopback.script(http(status)))
        for _ in range(3):
            with hub_or_cache() as why:
                assert (why, constants.HF_HUB_OFFLINE) == ("", False)
        assert [request.method for request in loopback.requests] == ["HEAD"]


def test_a_silent_hub_leaves_the_cache_alone(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def use() -> None:
        with hub_or_cache() as why:
            assert why.startswith(f"no answer from {closed}: ")
            assert constants.HF_HUB_OFFLINE
            raise KeyError

    with pytest.raises(KeyError):
        use()
    assert not constants.HF_HUB_OFFLINE
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with hub_or_cache() as why:
        assert why == "HF_HUB_OFFLINE is set"
    assert constants.HF_HUB_OFFLINE


@pytest.mark.parametrize("offline", [False, True])
def test_what_is_not_cached_is_one_error_that_says_why(
    closed: str, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    why = "HF_HUB_OFFLINE is set" if offline else f"no answer from {closed}"
    for root in ("nobody/nothing", "hf://datasets/nobody/nothing", "nothing_here"):
        with pytest.raises(ValueError, match="is no folder here") as caught:
            open_corpora([CorpusConfig(reader="huggingface", root=root)])
        assert f"root is {root!r}" in str(caught.value)
        assert why in str(caught.value)
        assert "connect this machine, or name a folder" in str(caught.value)
    with pytest.raises(ValueError, match="'nobody/nothing' is no folder here") as caught:
        load_tokenizer(LanguageModelConfig(name_or_path="nobody/nothing"))
    assert why in str(caught.value)


def test_what_is_cached_is_read_without_a_network(
    closed: str,
    tmp_path: Path,
    tiny_language_model_folder: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commit = "0" * 40
    repository = tmp_path / "models--someone--tiny"
    shutil.copytree(tiny_language_model_folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    tokenizer = load_tokenizer(LanguageModelConfig(name_or_path="someone/tiny"))
    assert tokenizer.decode(tokenizer("seen before", add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("reader", ["llava", "nextqa", "huggingface"])
def test_an_address_is_no_root_of_files_that_are_read_here(reader: str) -> None:
    for root in ("https://nowhere.invalid/data", "s3://bucket/data", "hf://models/a/b"):
        with pytest.raises(ValueError, match=r"an address, but this reader takes .*folder of this"):
            CorpusConfig(reader=reader, root=root)
    assert CorpusConfig(reader="webdataset", root="s3://bucket/data").root == "s3://bucket/data"
