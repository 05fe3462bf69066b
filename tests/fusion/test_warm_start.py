import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2QFormerModel,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
)

from vidreason.fusion.config import FUSION_FILE
from vidreason.fusion.fusion_core import FusionConfig, FusionCore
from vidreason.fusion.warm_start import warm_start
from vidreason.perception.visual_tokens import collate_visual_tokens

WIDTH, HEADS, QUERIES, VISUAL_DIM, OUTPUT_DIM = 32, 4, 5, 24, 40
KINDS = ("weight", "bias")


def fusion_core(num_layers, num_queries=QUERIES, seed=0, output_dim=OUTPUT_DIM, **sizes):
    config = FusionConfig(
        **{"num_queries": num_queries, "width": WIDTH, "num_heads": HEADS, **sizes},
        num_layers=num_layers,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return FusionCore(config, VISUAL_DIM, output_dim, output_scale=0.1)


def qformer_sizes(**changes):
    return {
        "vocab_size": 30,
        "hidden_size": WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": HEADS,
        "intermediate_size": 4 * WIDTH,
        "encoder_hidden_size": WIDTH,
        "max_position_embeddings": 16,
        **changes,
    }


def draw(module):
    """Give all parameters values, also the norms, which begin as ones and zeros."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.normal_(std=0.2)
    return module.eval()


@pytest.fixture(params=["blip2", "instructblip"])
def released(request, tmp_path):
    """A folder of the real classes at a small size, and the Q-Former in it."""
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    text = {
        "model_type": "opt",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "ffn_dim": 16,
        "vocab_size": 40,
        "word_embed_proj_dim": 16,
        "max_position_embeddings": 32,
    }
    config_class, model_class = {
        "blip2": (Blip2Config, Blip2ForConditionalGeneration),
        "instructblip": (InstructBlipConfig, InstructBlipForConditionalGeneration),
    }[request.param]
    config = config_class(
        vision_config=vision,
        qformer_config=qformer_sizes(),
        text_config=text,
        num_query_tokens=QUERIES,
    )
    model = draw(model_class(config))
    folder = tmp_path / request.param
    model.save_pretrained(folder, max_shard_size="100KB")
    return folder, model


def lavis_name(name):
    name = name.replace("attention.attention.", "attention.self.")
    name = re.sub(r"^layernorm\.", "embeddings.LayerNorm.", name)
    return f"Qformer.bert.{name}"


@pytest.fixture
def lavis(tmp_path):
    """A file in the layout of LAVIS' ``blip2_pretrained.pth``, with the other parts it has."""
    qformer = draw(Blip2QFormerModel(Blip2QFormerConfig(**qformer_sizes())))
    state = {lavis_name(name): value for name, value in qformer.state_dict().items()}
    with torch.random.fork_rng():
        torch.manual_seed(8)
        state["query_tokens"] = torch.randn(1, QUERIES, WIDTH)
        state["Qformer.bert.embeddings.word_embeddings.weight"] = torch.randn(30, WIDTH)
        state["Qformer.bert.encoder.layer.0.output.dense.weight"] = torch.randn(WIDTH, 4 * WIDTH)
    state["Qformer.cls.predictions.bias"] = torch.zeros(30)
    state["visual_encoder.blocks.0.norm1.weight"] = torch.ones(8)
    state["ln_vision.weight"] = torch.ones(8)
    path = tmp_path / "blip2_pretrained.pth"
    torch.save({"model": state}, path)
    return path, qformer, state


def expected_values(qformer, query_tokens, num_blocks):
    """The promises of the module's docstring, written out a second time."""
    state = qformer.state_dict()
    embedding_norm = "layernorm" if "layernorm.weight" in state else "embeddings.layernorm"
    standard = torch.nn.functional.layer_norm(query_tokens[0], (WIDTH,))
    values = {"queries": standard}
    for kind in KINDS:
        for n in range(num_blocks):
            block, layer = f"blocks.{n}", f"encoder.layer.{n}"
            before = f"encoder.layer.{n - 1}.output_query.LayerNorm" if n else embedding_norm
            pairs = {
                f"{block}.self_attention_norm": before,
                f"{block}.self_attention.output": f"{layer}.attention.output.dense",
                f"{block}.mlp.0": f"{layer}.intermediate_query.dense",
                f"{block}.mlp.2": f"{layer}.output_query.dense",
                f"{block}.mlp_norm": f"{layer}.attention.output.LayerNorm",
            }
            for name in ("query", "key", "value"):
                pairs[f"{block}.self_attention.{name}"] = f"{layer}.attention.attention.{name}"
            if n % 2 == 0:
                pairs[f"{block}.mlp_norm"] = f"{layer}.crossattention.output.LayerNorm"
                pairs[f"{block}.cross_attention_norm"] = f"{layer}.attention.output.LayerNorm"
                pairs[f"{block}.cross_attention.output"] = f"{layer}.crossattention.output.dense"
                for name in ("query", "key", "value"):
                    pairs[f"{block}.cross_attention.{name}"] = (
                        f"{layer}.crossattention.attention.{name}"
                    )
            values |= {
                f"{parameter}.{kind}": state[f"{key}.{kind}"] for parameter, key in pairs.items()
            }
        last = f"encoder.layer.{num_blocks - 1}.output_query.LayerNorm"
        values[f"output_norm.{kind}"] = state[f"{last}.{kind}"]
    return values


def check(fusion, before, report, values):
    """``values`` have landed, the report names exactly them, nothing else has changed."""
    after = fusion.state_dict()
    assert set(report.used) == set(values)
    for name, value in values.items():
        torch.testing.assert_close(after[name], value, atol=0, rtol=0)
    assert set(report.left) == set(after) - set(values)
    for name in report.left:
        assert torch.equal(after[name], before[name]), name


@pytest.mark.parametrize("num_blocks", [3, 4])
def test_a_released_model_lands_where_the_report_says(released, num_blocks):
    folder, model = released
    fusion = fusion_core(num_blocks)
    before = {name: value.clone() for name, value in fusion.state_dict().items()}
    report = warm_start(fusion, str(folder))
    values = expected_values(model.qformer, model.query_tokens.detach(), num_blocks)
    check(fusion, before, report, values)
    # Every key of the file is either used or accounted for.
    counted = sum(int(key.rpartition("(")[2].rstrip(")")) for key in report.unused)
    in_file = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(report.used.values())) + counted == len(in_file)
    assert any(name.startswith("language_projection") for name in report.unused)


def test_a_lavis_file_lands_there_too(lavis):
    path, qformer, state = lavis
    fusion = fusion_core(4)
    before = {name: value.clone() for name, value in fusion.state_dict().items()}
    report = warm_start(fusion, str(path))
    check(fusion, before, report, expected_values(qformer, state["query_tokens"], 4))
    others = {name.split(" ")[0].split(".")[0] for name in report.unused}
    assert others == {"Qformer", "ln_vision", "visual_encoder"}
    assert "blocks.*.cross_attention.query" in report.summary()


def test_the_first_self_attention_sees_what_it_was_trained_on(lavis):
    """Layer 0 up to its first residual is the Q-Former's own: queries, norm and attention."""
    path, qformer, state = lavis
    fusion = fusion_core(4)
    warm_start(fusion, str(path))
    with torch.no_grad():
        normed = qformer.layernorm(state["query_tokens"])
        attention = qformer.encoder.layer[0].attention
        expected = attention.output.dense(attention.attention(normed)[0])
        block = fusion.blocks[0]
        actual = block.self_attention(*[block.self_attention_norm(fusion.queries[None])] * 2)
    # Measured 7e-7 on values up to 0.8: the two norms have epsilons of 1e-12 and 1e-5.
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


def test_cross_attention_to_another_width_is_left_whole(tmp_path):
    qformer = draw(Blip2QFormerModel(Blip2QFormerConfig(**qformer_sizes(encoder_hidden_size=48))))
    path = tmp_path / "qformer.safetensors"
    save_file(qformer.state_dict(), path)
    fusion = fusion_core(6)
    before = {name: value.clone() for name, value in fusion.state_dict().items()}
    report = warm_start(fusion, str(path))
    values = expected_values(qformer, torch.zeros(1, QUERIES, WIDTH), 4)
    values = {
        name: value
        for name, value in values.items()
        # A Q-Former by itself has no queries; blocks 4 and 5 follow its last layer.
        if "cross_attention" not in name and not name.startswith(("queries", "output_norm"))
    }
    check(fusion, before, report, values)
    assert "encoder.layer.*.crossattention.attention.key (4)" in report.unused
    assert "encoder.layer.*.output_query.LayerNorm (2)" in report.unused


def test_another_number_of_queries_leaves_the_queries(lavis):
    path, _, _ = lavis
    fusion = fusion_core(4, num_queries=3)
    report = warm_start(fusion, str(path))
    assert "queries" in report.left
    assert "query_tokens (1)" in report.unused


def test_training_goes_on_from_a_warm_start(lavis, make_visual_tokens, tmp_path):
    path, _, _ = lavis
    fusion = fusion_core(6)
    report = warm_start(fusion, str(path))
    visual = collate_visual_tokens([make_visual_tokens(3, 2), make_visual_tokens(0, 0)])
    optimizer = torch.optim.AdamW(fusion.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        loss = (fusion(visual) - 0.05).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in fusion.parameters())
    assert losses[-1] < 0.7 * losses[0]
    report.write(tmp_path / "warm_start.json")
    written = json.loads((tmp_path / "warm_start.json").read_text())
    assert written["used"] == report.used
    assert written["left"] == report.left


@pytest.mark.parametrize(
    ("change", "sizes", "message"),
    [
        ("nothing", {"width": 64, "num_heads": 1}, r"32 wide, fusion\.width is 64; set .*=32"),
        ("no queries' branch", {}, "holds no Q-Former: expected keys like"),
        ("a missing bias", {}, r"incomplete; missing 1 tensors, first \['layer\.2\.attention"),
        ("half a layer", {}, r"incomplete; missing 10 tensors, first \['layer\.1\.attention"),
        ("no norm", {}, r"missing 2 tensors, first \['embedding_norm"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(lavis, tmp_path, change, sizes, message):
    _, _, state = lavis
    layer = "Qformer.bert.encoder.layer"
    if change == "no queries' branch":
        state = {name: value for name, value in state.items() if "_query." not in name}
    elif change == "a missing bias":
        del state[f"{layer}.2.attention.output.dense.bias"]
    elif change == "half a layer":
        state = {n: v for n, v in state.items() if not n.startswith(f"{layer}.1.attention")}
    elif change == "no norm":
        state = {n: v for n, v in state.items() if "embeddings.LayerNorm" not in n}
    torch.save({"model": state}, tmp_path / "changed.pth")
    fusion = fusion_core(4, **sizes)
    before = {name: value.clone() for name, value in fusion.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        warm_start(fusion, str(tmp_path / "changed.pth"))
    assert all(torch.equal(value, before[name]) for name, value in fusion.state_dict().items())


def test_other_heads_are_refused(released, tmp_path):
    folder, _ = released
    with pytest.raises(ValueError, match=r"has 4 heads, fusion\.num_heads is 2; set"):
        warm_start(fusion_core(4, num_heads=2), str(folder))
    # A file does not say; BERT's heads, and those of all released files, are 64 wide.
    config = Blip2QFormerConfig(
        **qformer_sizes(hidden_size=128, intermediate_size=512, num_hidden_layers=1)
    )
    torch.save(Blip2QFormerModel(config).state_dict(), tmp_path / "qformer.pth")
    with pytest.raises(ValueError, match=r"has 2 heads, fusion\.num_heads is 4"):
        warm_start(fusion_core(1, width=128), str(tmp_path / "qformer.pth"))


def test_a_missing_or_damaged_file_is_named(released, tmp_path):
    folder, _ = released
    fusion = fusion_core(4)
    with pytest.raises(ValueError, match="there is no file"):
        warm_start(fusion, str(tmp_path / "absent.pth"))
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    shard = folder / index["query_tokens"]
    assert "query_tokens" in load_file(shard)
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(ValueError, match="truncated or damaged"):
        warm_start(fusion, str(folder))


def test_a_fusion_core_of_the_same_sizes_is_taken_over_whole(tmp_path):
    path = str(tmp_path / "fusion_core.safetensors")
    other = fusion_core(2, seed=1)
    save_file(other.state_dict(), path)
    fusion = fusion_core(2)
    report = warm_start(fusion, path)
    assert not report.left
    assert not report.unused
    for name, value in other.state_dict().items():
        assert torch.equal(fusion.state_dict()[name], value)

    for sizes in ({"num_layers": 3}, {"num_queries": 6}, {"token_positions": "none"}):
        changed = fusion_core(**{"num_layers": 2, **sizes})
        before = {name: value.clone() for name, value in changed.state_dict().items()}
        with pytest.raises(ValueError, match=r"holds another fusion core: \d+ tensors differ"):
            warm_start(changed, path)
        assert all(torch.equal(before[name], v) for name, v in changed.state_dict().items())


def test_a_fusion_core_starts_all_but_the_projection_to_another_width(tmp_path):
    path = str(tmp_path / "fusion_core.safetensors")
    other = fusion_core(2, seed=1, output_dim=56)
    save_file(other.state_dict(), path)
    fusion = fusion_core(2)
    before = {name: value.clone() for name, value in fusion.state_dict().items()}
    report = warm_start(fusion, path)
    values = {n: v for n, v in other.state_dict().items() if not n.startswith("output_projection")}
    check(fusion, before, report, values)
    assert report.left == ["output_projection.weight", "output_projection.bias"]
    assert report.projection_widths == (56, OUTPUT_DIM)
    line = "only the output projection is new: the file's makes embeddings of width 56, this"
    assert line in report.summary()
    assert report.unused == ["output_projection (2)"]

    # Another difference beside the projection is another fusion core, as before.
    changed = fusion_core(2, num_queries=6)
    with pytest.raises(ValueError, match="holds another fusion core: 3 tensors differ"):
        warm_start(changed, path)
    state = other.state_dict()
    bias = {"output_projection.bias": torch.zeros(OUTPUT_DIM)}
    save_file(state | bias, path)  # the weight of one width, the bias of another
    with pytest.raises(ValueError, match=r"1 tensors differ, first output_projection\.weight"):
        warm_start(fusion, path)


def test_a_reasoner_folder_starts_a_fusion_core(tmp_path):
    folder = tmp_path / "reasoner"
    folder.mkdir()
    other = fusion_core(2, seed=1)
    save_file(other.state_dict(), folder / FUSION_FILE)
    (folder / "config.json").write_text(json.dumps({"reasoner": {"fusion": {"num_heads": HEADS}}}))
    fusion = fusion_core(2)
    report = warm_start(fusion, str(folder))
    assert report.path == str(folder)
    assert not report.left
    assert all(torch.equal(fusion.state_dict()[n], v) for n, v in other.state_dict().items())
    # As many weights in other heads are another function.
    with pytest.raises(ValueError, match=r"has 4 heads, fusion\.num_heads is 2; set fusion\.num"):
        warm_start(fusion_core(2, num_heads=2), str(folder))
    for damage in ("[]", "{}", '{"reasoner": 3}', '{"reasoner": {"fusion": {"num_heads": "4"}}}'):
        (folder / "config.json").write_text(damage)
        with pytest.raises(ValueError, match=r"config\.json is damaged|has \S+ heads"):
            warm_start(fusion, str(folder))


def test_mean_pooling_has_nothing_to_start():
    with pytest.raises(ValueError, match=r"fusion\.warm_start is 'a\.pth', but fusion\.kind"):
        FusionConfig(kind="mean_pool", warm_start="a.pth")
