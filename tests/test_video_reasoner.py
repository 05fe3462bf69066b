import shutil
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
)

from vidreason.fusion.fusion_core import FusionConfig
from vidreason.model import DecodingConfig, ReasonerConfig, VideoReasoner, build_reasoner
from vidreason.perception.perceiver import PerceiverConfig
from vidreason.perception.visual_tokens import collate_visual_tokens
from vidreason.reasoning.language_model import LanguageModelConfig, LoraSettings, causal_lm
from vidreason.reasoning.text_batch import collate_texts
from vidreason.reasoning.tokenization import IGNORE_INDEX, encode_example, encode_prompt

TEXTS = [("Why?", "It was pushed."), ("What is next, and why?", "No."), ("Go on", "x")]
PROMPTS = ["Why?", "What happens after the ball hits the wall?", "Describe the video."]
STRATEGIES = {
    "greedy": DecodingConfig(max_new_tokens=12),
    "beam": DecodingConfig(strategy="beam", num_beams=3, max_new_tokens=12),
    "nucleus": DecodingConfig(strategy="nucleus", max_new_tokens=12, top_p=0.95),
}


@pytest.fixture
def visual_tokens(make_visual_tokens):
    return [make_visual_tokens(4, 3), make_visual_tokens(2, 0, 1), make_visual_tokens(0, 0, 2)]


@pytest.fixture(params=["llama", "llama with lora", "gpt2", "gemma2"])
def any_reasoner(request, tmp_path, tiny_language_model_folder, tiny_tokenizer):
    """Language models with different parts behind the hidden states, one with adapters."""
    lora = LoraSettings(rank=4, alpha=8) if "lora" in request.param else None
    folder = tiny_language_model_folder
    size = len(tiny_tokenizer)
    if request.param in ("gpt2", "gemma2"):
        folder = str(tmp_path)
        tiny_tokenizer.save_pretrained(folder)
        torch.manual_seed(0)
        if request.param == "gpt2":
            config = GPT2Config(
                vocab_size=size,
                n_embd=32,
                n_layer=2,
                n_head=4,
                n_positions=256,
                initializer_range=0.2,
            )
            GPT2LMHeadModel(config).save_pretrained(folder)
        else:  # caps its logits behind the output layer, and scales its word embeddings
            config = Gemma2Config(
                vocab_size=size,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                head_dim=8,
                final_logit_softcapping=5.0,
                initializer_range=0.2,
            )
            Gemma2ForCausalLM(config).save_pretrained(folder)
    torch.manual_seed(2)  # one with which the videos get different answers
    reasoner = build_reasoner(
        ReasonerConfig(
            fusion=FusionConfig(num_queries=4, width=32, num_layers=1, num_heads=4),
            language_model=LanguageModelConfig(name_or_path=folder, dtype="float32"),
            lora=lora,
        ),
        visual_dim=24,
        perceiver=PerceiverConfig(objects_per_key_frame=5),
    )
    if lora is not None:
        with torch.no_grad():
            for name, parameter in reasoner.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1)
    return reasoner


def encoded(tokenizer, texts=TEXTS):
    return [encode_example(tokenizer, *text, max_tokens=200) for text in texts]


def full_logits(reasoner, visual, text):
    """Logits of all positions of one row through the whole model, less the video's first ones.

    The logits at t predict the text token at t.
    """
    embedded = causal_lm(reasoner.language_model).get_input_embeddings()(torch.tensor([text]))
    video = reasoner.fusion(visual)
    joined = torch.cat([video, embedded], dim=1)
    return reasoner.language_model(inputs_embeds=joined).logits[0, video.shape[1] - 1 :]


def expected_log_likelihoods(reasoner, videos, texts):
    """Score the targets of each row, one row at a time, from the logits of all of its positions."""
    rows = []
    for tokens, text in zip(videos, texts, strict=True):
        logits = full_logits(reasoner, collate_visual_tokens([tokens]), text.input_ids)
        labels = torch.tensor(text.labels)
        losses = cross_entropy(logits[:-1], labels, ignore_index=IGNORE_INDEX, reduction="none")
        rows.append(-losses[labels != IGNORE_INDEX])
    return rows


def test_log_likelihoods_are_those_of_each_row_through_the_full_model(any_reasoner, visual_tokens):
    any_reasoner.eval()
    texts = encoded(any_reasoner.tokenizer)
    expected = expected_log_likelihoods(any_reasoner, visual_tokens, texts)
    actual = any_reasoner(collate_visual_tokens(visual_tokens), collate_texts(texts))
    torch.testing.assert_close(actual, torch.cat(expected), atol=1e-5, rtol=1e-5)


def test_the_loss_and_its_gradients_are_those_of_the_full_model(tiny_reasoner, visual_tokens):
    texts = encoded(tiny_reasoner.tokenizer)
    naive = -torch.cat(expected_log_likelihoods(tiny_reasoner, visual_tokens, texts)).sum()
    naive.backward()
    expected = {n: p.grad for n, p in tiny_reasoner.named_parameters() if p.grad is not None}
    tiny_reasoner.zero_grad()
    loss = -tiny_reasoner(collate_visual_tokens(visual_tokens), collate_texts(texts)).sum()
    loss.backward()
    torch.testing.assert_close(loss, naive, atol=1e-4, rtol=1e-6)
    # Through the frozen language model, gradients reach the whole fusion core, and nothing else.
    assert expected.keys() == {f"fusion.{n}" for n, _ in tiny_reasoner.fusion.named_parameters()}
    for name, parameter in tiny_reasoner.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], atol=1e-4, rtol=1e-4)
    assert tiny_reasoner.fusion.queries.grad.abs().max() > 1e-3


def test_only_what_predicts_a_target_reaches_the_output_layer(tiny_reasoner, visual_tokens):
    seen = []
    output_layer = causal_lm(tiny_reasoner.language_model).get_output_embeddings()
    output_layer.register_forward_hook(lambda m, i, o: seen.append(i[0].shape))
    text = collate_texts(encoded(tiny_reasoner.tokenizer))
    tiny_reasoner(collate_visual_tokens(visual_tokens), text)
    assert seen == [(1, len(text["target_ids"]), 32)]


def test_a_batch_without_targets_has_loss_zero_and_gradient_zero(tiny_reasoner, visual_tokens):
    texts = encoded(tiny_reasoner.tokenizer)
    texts = [text._replace(labels=[IGNORE_INDEX] * len(text.labels)) for text in texts]
    loss = -tiny_reasoner(collate_visual_tokens(visual_tokens), collate_texts(texts)).sum()
    loss.backward()
    assert loss.item() == 0
    assert all(not p.grad.any() for p in tiny_reasoner.fusion.parameters())


def test_likelihoods_do_not_depend_on_the_batch(tiny_reasoner, visual_tokens):
    tiny_reasoner.eval()
    texts = encoded(tiny_reasoner.tokenizer)
    with torch.no_grad():
        expected = expected_log_likelihoods(tiny_reasoner, visual_tokens, texts)
        sums, counts = tiny_reasoner.response_log_likelihoods(
            collate_visual_tokens(visual_tokens), range(len(texts)), texts
        )
    assert counts.tolist() == [len(response) + 1 for _, response in TEXTS]
    torch.testing.assert_close(
        sums, torch.stack([row.sum() for row in expected]).double(), atol=1e-4, rtol=1e-5
    )


@pytest.mark.parametrize("strategy", ["greedy", "beam"])
def test_a_batch_generates_what_single_calls_generate(any_reasoner, visual_tokens, strategy):
    decoding = STRATEGIES[strategy]
    together = any_reasoner.generate_ids(collate_visual_tokens(visual_tokens), PROMPTS, decoding)
    alone = [
        any_reasoner.generate_ids(collate_visual_tokens([tokens]), [prompt], decoding)[0]
        for tokens, prompt in zip(visual_tokens, PROMPTS, strict=True)
    ]
    assert together == alone
    assert len(set(map(tuple, together))) == 3


def test_greedy_generation_equals_running_the_model_again_for_each_token(
    tiny_reasoner, visual_tokens
):
    tiny_reasoner.eval()
    tokenizer, decoding = tiny_reasoner.tokenizer, STRATEGIES["greedy"]
    visual = collate_visual_tokens(visual_tokens[:1])
    ids = encode_prompt(tokenizer, PROMPTS[0])
    num_prompt = len(ids)
    for _ in range(decoding.max_new_tokens):
        with torch.no_grad():
            token = int(full_logits(tiny_reasoner, visual, ids)[-1].argmax())
        if token in tiny_reasoner.stop_ids:
            break
        ids.append(token)
    assert tiny_reasoner.generate_ids(visual, PROMPTS[:1], decoding) == [ids[num_prompt:]]


def test_the_video_changes_the_answer(tiny_reasoner, visual_tokens):
    prompts = [PROMPTS[1]] * 2
    seen = collate_visual_tokens([visual_tokens[0], visual_tokens[0].without_tokens()])
    first, blind = tiny_reasoner.generate_ids(seen, prompts, STRATEGIES["greedy"])
    assert first != blind


def test_nucleus_sampling_follows_its_seed_and_leaves_the_global_one(tiny_reasoner, visual_tokens):
    visual = collate_visual_tokens(visual_tokens)
    decoding = STRATEGIES["nucleus"]
    state = torch.get_rng_state()
    first = tiny_reasoner.generate_ids(visual, PROMPTS, decoding)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert tiny_reasoner.generate_ids(visual, PROMPTS, decoding) == first
    other = DecodingConfig(strategy="nucleus", max_new_tokens=12, top_p=0.95, seed=1)
    assert tiny_reasoner.generate_ids(visual, PROMPTS, other) != first
    # A nucleus of the likeliest token alone is greedy search.
    narrow = DecodingConfig(strategy="nucleus", max_new_tokens=12, top_p=1e-6)
    greedy = tiny_reasoner.generate_ids(visual, PROMPTS, STRATEGIES["greedy"])
    assert tiny_reasoner.generate_ids(visual, PROMPTS, narrow) == greedy


def test_a_model_folders_generation_config_has_no_say(
    tiny_reasoner, tiny_language_model_folder, tmp_path, visual_tokens
):
    folder = tmp_path / "model"
    shutil.copytree(tiny_language_model_folder, folder)
    GenerationConfig(
        do_sample=True,
        temperature=0.3,
        top_k=3,
        repetition_penalty=3.0,
        max_new_tokens=2,
        min_new_tokens=1,
        num_beams=2,
        eos_token_id=7,
    ).save_pretrained(folder)
    config = tiny_reasoner.config
    other = build_reasoner(
        ReasonerConfig(
            fusion=config.fusion,
            language_model=LanguageModelConfig(name_or_path=str(folder), dtype="float32"),
        ),
        visual_dim=24,
    )
    other.fusion.load_state_dict(tiny_reasoner.fusion.state_dict())
    visual = collate_visual_tokens(visual_tokens)
    for decoding in STRATEGIES.values():
        expected = tiny_reasoner.generate_ids(visual, PROMPTS, decoding)
        assert other.generate_ids(visual, PROMPTS, decoding) == expected


def test_an_answer_ends_at_the_end_of_turn(tiny_reasoner, visual_tokens, monkeypatch):
    # The model is made to say "Hi", end its turn, and go on.
    tokenizer = tiny_reasoner.tokenizer
    script = [*tokenizer("Hi ", add_special_tokens=False)["input_ids"], tiny_reasoner.stop_ids[0]]
    model = causal_lm(tiny_reasoner.language_model)
    steps = iter([*script, *script])
    forward = model.forward

    def scripted(*args, **kwargs):
        output = forward(*args, **kwargs)
        output.logits = torch.zeros_like(output.logits)
        output.logits[..., next(steps)] = 1.0
        return output

    monkeypatch.setattr(model, "forward", scripted)
    answers = tiny_reasoner.generate(
        collate_visual_tokens(visual_tokens), PROMPTS, STRATEGIES["greedy"]
    )
    assert answers == ["Hi"] * 3


def test_generating_leaves_the_modes_as_they_were(tiny_reasoner, visual_tokens):
    tiny_reasoner.train()
    before = [module.training for module in tiny_reasoner.modules()]
    assert any(before)
    assert not all(before)
    tiny_reasoner.generate(collate_visual_tokens(visual_tokens), PROMPTS, STRATEGIES["greedy"])
    assert [module.training for module in tiny_reasoner.modules()] == before
    with pytest.raises(ValueError, match="1 prompts for 3 videos"):
        tiny_reasoner.generate(
            collate_visual_tokens(visual_tokens), PROMPTS[:1], STRATEGIES["greedy"]
        )


def test_gradient_checkpointing_gives_the_same_gradients(
    tiny_reasoner, tiny_language_model_folder, visual_tokens
):
    config = ReasonerConfig(
        fusion=tiny_reasoner.config.fusion,
        language_model=LanguageModelConfig(
            name_or_path=tiny_language_model_folder, dtype="float32", gradient_checkpointing=True
        ),
    )
    other = build_reasoner(config, visual_dim=24)
    other.fusion.load_state_dict(tiny_reasoner.fusion.state_dict())
    visual = collate_visual_tokens(visual_tokens)
    text = collate_texts(encoded(tiny_reasoner.tokenizer))
    calls = []
    layer = other.language_model.model.layers[0].mlp
    layer.register_forward_pre_hook(lambda *_: calls.append(1))
    for reasoner in (tiny_reasoner, other):
        reasoner.train()
        reasoner(visual, text).mean().backward()
    assert len(calls) == 2  # once forward, once again in the backward pass
    for first, second in zip(
        tiny_reasoner.fusion.parameters(), other.fusion.parameters(), strict=True
    ):
        torch.testing.assert_close(first.grad, second.grad)


@pytest.mark.parametrize("form", ["trained", "merged"])
@pytest.mark.parametrize("strategy", ["greedy", "nucleus"])
def test_a_saved_reasoner_answers_alike(any_reasoner, visual_tokens, tmp_path, strategy, form):
    visual = collate_visual_tokens(visual_tokens)
    expected = any_reasoner.generate_ids(visual, PROMPTS, STRATEGIES[strategy])
    any_reasoner.save_pretrained(tmp_path / "reasoner", form)
    loaded = VideoReasoner.from_pretrained(tmp_path / "reasoner")
    assert loaded.visual_dim == 24
    assert not any(module.training for module in loaded.modules())
    assert loaded.generate_ids(visual, PROMPTS, STRATEGIES[strategy]) == expected
    assert any_reasoner.generate_ids(visual, PROMPTS, STRATEGIES[strategy]) == expected


@pytest.mark.slow
def test_the_papers_configuration_builds_on_the_meta_device():
    folder = Path(__file__).parent / "assets" / "llama-3-8b-instruct"
    config = ReasonerConfig(
        language_model=LanguageModelConfig(name_or_path=str(folder)), lora=LoraSettings()
    )
    reasoner = build_reasoner(config, visual_dim=768, device="meta")
    assert {p.device.type for p in reasoner.parameters()} == {"meta"}
    assert reasoner.fusion.output_projection.out_features == 4096
    with pytest.raises(ValueError, match="no tokenizer"):
        _ = reasoner.tokenizer


def test_a_bfloat16_language_model_trains_float32_parts(
    tiny_language_model_folder, visual_tokens, tmp_path
):
    config = ReasonerConfig(
        fusion=FusionConfig(num_queries=4, width=32, num_layers=1, num_heads=4),
        language_model=LanguageModelConfig(name_or_path=tiny_language_model_folder),
        lora=LoraSettings(rank=4, alpha=8),
    )
    reasoner = build_reasoner(config, visual_dim=24, perceiver=PerceiverConfig())
    visual = collate_visual_tokens(visual_tokens)
    log_likelihoods = reasoner(visual, collate_texts(encoded(reasoner.tokenizer)))
    assert log_likelihoods.dtype == torch.float32
    log_likelihoods.mean().backward()
    gradients = {p.grad.dtype for p in reasoner.parameters() if p.grad is not None}
    assert gradients == {torch.float32}
    expected = reasoner.generate_ids(visual, PROMPTS, STRATEGIES["greedy"])
    reasoner.save_pretrained(tmp_path / "reasoner")
    loaded = VideoReasoner.from_pretrained(tmp_path / "reasoner")
    assert loaded.language_model.dtype == torch.bfloat16
    assert loaded.fusion.queries.dtype == torch.float32
    assert loaded.generate_ids(visual, PROMPTS, STRATEGIES["greedy"]) == expected
