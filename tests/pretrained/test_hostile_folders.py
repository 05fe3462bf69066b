"""Reasoner folders from anywhere: one line that names file and field, and nothing large is built.

All mutations run in this process under a limit of address space, so that what allocates by a number
in a file fails here instead of taking the machine's memory.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from process_memory import limited_memory
from safetensors.torch import load_file, save_file

from vidreason.model import VideoReasoner
from vidreason.pretrained.folder_files import check_files
from vidreason.reasoning.packed_attention import PACKED

MERGED = "language_model/config.json"
HEADROOM_BYTES = 6 * 2**30
"""Above what the process has mapped by then; a wrong size in these files asks for far more."""


@pytest.fixture(scope="module", autouse=True)
def _limited_memory() -> Iterator[None]:
    with limited_memory(HEADROOM_BYTES):
        yield


def put(values: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split("/")
    for key in parents:
        values = values[key]
    values[last] = value


def json_change(name: str, path: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        values = json.loads((folder / name).read_text())
        put(values, path, value)
        (folder / name).write_text(json.dumps(values))

    return change


def text_change(name: str, content: str | bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return change


def normalizer(*steps: dict[str, Any]) -> Callable[[Path], None]:
    value = {"type": "Sequence", "normalizers": list(steps)}
    return json_change("language_model/tokenizer.json", "normalizer", value)


def replace(text: str, content: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: text}, "content": content}


def template(text: str) -> Callable[[Path], None]:
    return text_change("language_model/chat_template.jinja", text)


def link(name: str, target: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return change


def pipe(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return change


def adapters(key: str, shape: tuple[int, ...]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "language_model/adapter_model.safetensors"
        save_file(load_file(path) | {key: torch.zeros(shape)}, path, metadata={"format": "pt"})

    return change


def integer_adapter(folder: Path) -> None:
    path = folder / "language_model/adapter_model.safetensors"
    tensors = load_file(path)
    key = min(tensors)
    save_file(tensors | {key: tensors[key].to(torch.int8)}, path, metadata={"format": "pt"})


CONFIG = "config.json"
TRAINED: dict[str, tuple[Callable[[Path], None], str]] = {
    "interpolation": (
        json_change(CONFIG, "reasoner/language_model/revision", "${oc.env:HOME}"),
        r"config\.json: reasoner\.language_model\.revision holds .*oc\.env",
    ),
    "escaped interpolation": (
        json_change(CONFIG, "reasoner/fusion/warm_start", "\\${oc.decode:x}"),
        r"config\.json: reasoner\.fusion\.warm_start holds",
    ),
    "interpolated key": (
        json_change(CONFIG, "frozen_parts/${x}", {"source": "a", "sha256": "b"}),
        r"config\.json: frozen_parts\.\$\{x\} holds",
    ),
    "still missing": (
        json_change(CONFIG, "reasoner/language_model/revision", "???"),
        r"revision is \?\?\?",
    ),
    "layers": (json_change(CONFIG, "reasoner/fusion/num_layers", 10**7), "fusion.num_layers is"),
    "width": (json_change(CONFIG, "reasoner/fusion/width", 2**40), "fusion.width is"),
    "queries": (json_change(CONFIG, "reasoner/fusion/num_queries", 2**40), "num_queries is"),
    "more layers": (json_change(CONFIG, "reasoner/fusion/num_layers", 9), "do not fit FusionCore"),
    "visual_dim": (json_change(CONFIG, "visual_dim", 48), "do not fit FusionCore"),
    "visual_dim 0": (json_change(CONFIG, "visual_dim", 0), "visual_dim is 0; it is from 1 to"),
    "visual_dim large": (json_change(CONFIG, "visual_dim", 10**12), "visual_dim is 1000000000000"),
    "visual_dim text": (
        json_change(CONFIG, "visual_dim", "24"),
        "visual_dim: Value '24' of type 'str' is incompatible with type hint 'int'",
    ),
    "visual_dim true": (
        json_change(CONFIG, "visual_dim", True),
        "visual_dim: Value 'True' of type 'bool' is incompatible with type hint 'int'",
    ),
    "visual_dim real": (
        json_change(CONFIG, "visual_dim", 24.0),
        r"visual_dim: Value '24\.0' of type 'float' is incompatible with type hint 'int'",
    ),
    "name a number": (
        json_change(CONFIG, "reasoner/language_model/revision", 5),
        r"config\.json: reasoner\.language_model\.revision: Value '5' of type 'int' is",
    ),
    "section a list": (
        json_change(CONFIG, "reasoner/fusion", [1]),
        r"reasoner\.fusion: expected a section, with the keys .*; found a list",
    ),
    "perceiver null": (
        json_change(CONFIG, "perceiver", None),
        r"config\.json: perceiver: field 'perceiver' is not Optional; nothing is given",
    ),
    "encoder layers": (
        json_change(CONFIG, "perceiver/video_encoder/num_layers", 10**7),
        "video_encoder.num_layers is 10000000; it must be from 1 to 512",
    ),
    "segmenter layers": (
        json_change(CONFIG, "perceiver/segmenter/encoder_layers", 10**7),
        "segmenter.encoder_layers is 10000000",
    ),
    "clips": (json_change(CONFIG, "perceiver/sampling/num_clips", 10**9), "sampling.num_clips is"),
    "rank": (json_change(CONFIG, "reasoner/lora/rank", 10**9), "r is 1000000000 by the folder's"),
    "targets that hang": (
        json_change(CONFIG, "reasoner/lora/target_modules", "(([a-z.]+)+)+!"),
        "lora.target_modules is .*exponential time",
    ),
    "targets of nothing": (
        json_change(CONFIG, "reasoner/lora/target_modules", "nothing"),
        "for which peft finds no layer",
    ),
    "targets no pattern": (
        json_change(CONFIG, "reasoner/lora/target_modules", "(" * 9),
        "which is no regular expression",
    ),
    "repeated key": (text_change(CONFIG, '{"form": "trained", "form": "merged"}'), "'form'.*twice"),
    "deep": (text_change(CONFIG, '{"a":' + "[" * 10**5 + "]" * 10**5 + "}"), "nested too deeply"),
    "deep within bounds": (
        json_change(CONFIG, "surplus", json.loads("[" * 50 + "]" * 50)),
        r"config\.json",
    ),
    "digits": (
        text_change(CONFIG, '{"visual_dim": ' + "9" * 5000 + "}"),
        "a number of 5,000 digits",
    ),
    "not a number": (text_change(CONFIG, '{"visual_dim": NaN}'), "NaN, which is no number in JSON"),
    "not UTF-8": (text_change(CONFIG, b'{"form": "\xff"}'), r"config\.json is damaged.*utf-8"),
    "large": (text_change(CONFIG, " " * 2**23), r"config\.json is damaged: it has 8,388,608 bytes"),
    "unknown part": (
        json_change(CONFIG, "frozen_parts/other", {"source": "a", "sha256": "b"}),
        "frozen_parts has 'other'",
    ),
    "part out of the package": (
        json_change(CONFIG, "frozen_parts/language_model/source", "vidreason:../../etc/passwd"),
        "leads out of where it is looked for",
    ),
    "absolute part in the package": (
        json_change(CONFIG, "frozen_parts/language_model/source", "vidreason:/etc/passwd"),
        "leads out of where it is looked for",
    ),
    "part upwards": (
        json_change(CONFIG, "frozen_parts/language_model/source", "../../weights"),
        "leads out of where it is looked for",
    ),
    "part of another content": (
        json_change(CONFIG, "frozen_parts/language_model/source", "/etc/passwd"),
        "is not the one that it was trained with",
    ),
    "weights out of the folder": (link("fusion.safetensors", "/etc/passwd"), "out of the folder"),
    "link to nothing": (link("fusion.safetensors", "nowhere"), "leads to no file"),
    "link to itself": (link("fusion.safetensors", "fusion.safetensors"), "leads to no file"),
    "pipe": (
        pipe("language_model/tokenizer.json"),
        "tokenizer.json is neither a file nor a folder",
    ),
    "pipe of weights": (pipe("fusion.safetensors"), "fusion.safetensors is neither a file"),
    "other weights pipe": (pipe("x.safetensors"), "x.safetensors is neither a file nor a folder"),
    "decoding": (json_change("generation_config.json", "num_beams", "many"), "generation_config"),
    "decoding of code": (
        json_change("generation_config.json", "custom_generate", "org/repo"),
        r"generation_config\.json: custom_generate has no counterpart",
    ),
    "decoding too long": (
        json_change("generation_config.json", "max_new_tokens", 10**30),
        r"generation_config\.json: max_new_tokens: expected a whole number",
    ),
    "growth": (
        normalizer(*[replace("a", "aa")] * 30),
        r"tokenizer\.json: normalizer\.normalizers\[6\].*may make a text 128 times as long",
    ),
    "growth at once": (normalizer(replace("a", "a" * 10**6)), "may make a text 1,000,000 times"),
    "growth by a pattern": (normalizer(*[replace("", "ab", "Regex")] * 9), "times as long"),
    "prepends": (
        normalizer(*[{"type": "Prepend", "prepend": "x" * 999}] * 3),
        "times as long",
    ),
    "many steps": (normalizer(*[{"type": "NFC"}] * 999), "has 1000 steps"),
    "slow pattern": (
        json_change(
            "language_model/tokenizer.json",
            "pre_tokenizer",
            {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"},
        ),
        r"tokenizer\.json: pre_tokenizer\.pattern\.Regex cannot be used: a repeated group",
    ),
    "growing decoder": (
        json_change("language_model/tokenizer.json", "decoder", replace("a", "b" * 10**6)),
        r"tokenizer\.json: decoder",
    ),
    "normalizer a list": (
        json_change("language_model/tokenizer.json", "normalizer", [1]),
        r"tokenizer\.json: normalizer: expected an object",
    ),
    "tokenizer of nothing": (
        json_change("language_model/tokenizer.json", "model", None),
        r"language_model' is a folder and could not be loaded",
    ),
    "unknown tokenizer": (
        json_change("language_model/tokenizer.json", "model/type", "Magic"),
        r"language_model' is a folder and could not be loaded",
    ),
    "tokenizer cut off": (
        text_change("language_model/tokenizer.json", '{"model": '),
        r"tokenizer\.json is damaged",
    ),
    "tokenizer class": (
        json_change("language_model/tokenizer_config.json", "tokenizer_class", 7),
        r"language_model' is a folder and could not be loaded",
    ),
    "template a number": (
        json_change("language_model/tokenizer_config.json", "chat_template", 7),
        r"tokenizer_config\.json: chat_template is of type int",
    ),
    "template large": (template("x" * 2**19), r"chat_template\.jinja: expected a file of at most"),
    "template that loops": (
        template("{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}"),
        "the chat template of .* fails .*more than 100,000 passes",
    ),
    "template that grows": (template("{{ 'a' * 10**10 }}"), "the chat template of .* fails"),
    "template no template": (template("{% for %}"), "the chat template of .*TemplateSyntaxError"),
    "adapter kind": (
        json_change("language_model/adapter_config.json", "peft_type", "X"),
        r"adapter_config\.json cannot be read",
    ),
    "adapter deep": (
        text_change("language_model/adapter_config.json", '{"a":' + "[" * 10**5),
        r"adapter_config\.json is damaged",
    ),
    "adapter integers": (integer_adapter, "holds numbers of type int8, which are no weights"),
    "adapter base": (
        adapters("base_model.model.extra.lora_A.weight", (4, 8)),
        "do not fit the language model's adapters",
    ),
}
MERGED_CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "layers": (
        json_change(MERGED, "num_hidden_layers", 10**7),
        r"config\.json: num_hidden_layers is 10,000,000, but the weights beside it are 21 tensors",
    ),
    "vocabulary": (json_change(MERGED, "vocab_size", 2**36), "its sizes come to"),
    "hidden size": (json_change(MERGED, "hidden_size", 2**24), r"config\.json|could not be loaded"),
    "integer": (json_change(MERGED, "vocab_size", 10**30), "vocab_size is 10.*no size of a model"),
    "intermediate size": (json_change(MERGED, "intermediate_size", 2**34), "its sizes come to"),
    "negative": (json_change(MERGED, "hidden_size", -32), r"could not be loaded"),
    "no heads": (json_change(MERGED, "num_attention_heads", 0), "num_attention_heads is 0;"),
    "heads as text": (json_change(MERGED, "num_attention_heads", "4"), r"could not be loaded"),
    "another size": (json_change(MERGED, "vocab_size", 99), r"its weights do not fit its config"),
    "model type": (json_change(MERGED, "model_type", "magic"), r"could not be loaded"),
    "no model type": (json_change(MERGED, "model_type", None), r"could not be loaded"),
    "activation": (json_change(MERGED, "hidden_act", "boom"), r"could not be loaded"),
    "rope": (json_change(MERGED, "rope_parameters", {"rope_type": "x"}), r"could not be loaded"),
    "quantised": (
        json_change(MERGED, "quantization_config", {"quant_method": "gptq", "bits": 4}),
        r"could not be loaded|do not fit",
    ),
    "shard elsewhere": (
        text_change(
            "language_model/model.safetensors.index.json",
            json.dumps({"weight_map": {"model.norm.weight": "../../../etc/passwd"}}),
        ),
        "which is no file of this folder",
    ),
    "shards of nothing": (
        text_change("language_model/model.safetensors.index.json", '{"weight_map": 5}'),
        "are not an index of shards",
    ),
    "header": (
        text_change("language_model/model.safetensors", (2**63).to_bytes(8, "little") + b"{}" * 9),
        "truncated or damaged",
    ),
}


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        VideoReasoner.from_pretrained(folder)
    assert len(str(caught.value).splitlines()) == 1
    assert str(folder) in str(caught.value) or "lora" in str(caught.value)


@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_folder_that_cannot_be_used_is_one_line(tmp_path, folders, name):
    change, message = TRAINED[name]
    folder = Path(shutil.copytree(folders["trained"], tmp_path / "reasoner"))
    change(folder)
    refused(folder, message)


@pytest.mark.parametrize("name", MERGED_CHANGES)
def test_a_merged_folder_that_cannot_be_used_is_one_line(tmp_path, folders, name):
    change, message = MERGED_CHANGES[name]
    folder = Path(shutil.copytree(folders["merged"], tmp_path / "reasoner"))
    change(folder)
    refused(folder, message)


@pytest.mark.parametrize(
    "values",
    [
        {"attn_implementation": "org/repo"},
        {"_attn_implementation": "kernels-community/flash-attn"},
        {"_attn_implementation_internal": "org/repo", "experts_implementation": "org/repo"},
        {"auto_map": {"AutoConfig": "evil.py--Config", "AutoModelForCausalLM": "evil.Model"}},
    ],
    ids=lambda values: next(iter(values)),
)
def test_a_folder_names_no_code(tmp_path, folders, values):
    folder = Path(shutil.copytree(folders["merged"], tmp_path / "reasoner"))
    path = folder / MERGED
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    (folder / "language_model" / "evil.py").write_text("raise SystemExit('was run')")
    reasoner = VideoReasoner.from_pretrained(folder)
    assert reasoner.language_model.config._attn_implementation == PACKED  # our own


def test_links_of_the_hubs_cache_are_within_its_repository(tmp_path):
    repository = tmp_path / "models--a--b"
    (repository / "blobs").mkdir(parents=True)
    (repository / "blobs" / "1234").write_text("{}")
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to("../../blobs/1234")
    check_files(snapshot)
    (snapshot / "fusion.safetensors").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match=r"fusion\.safetensors is a link to '/etc/passwd'"):
        check_files(snapshot)
