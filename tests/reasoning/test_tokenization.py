import copy

import pytest

from vidreason.reasoning.prompts import (
    CAUSAL_EXPLANATION_PROMPT,
    EVENT_REASONING_PROMPT,
    FUTURE_PREDICTION_PROMPT,
    multiple_choice_prompt,
    open_ended_prompt,
)
from vidreason.reasoning.tokenization import (
    IGNORE_INDEX,
    encode_example,
    encode_prompt,
    end_of_turn_id,
)

LLAMA_3_TEMPLATE = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|user|>' + message['role'] + '\n\n'+ message['content'] | trim + "
    "'<|end_of_turn|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
    "{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|user|>assistant\n\n' }}{% endif %}"
)
NEW_LINE_AFTER_TURN = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end_of_turn|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def with_template(tokenizer, template):
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    return changed


@pytest.mark.parametrize("template", [None, LLAMA_3_TEMPLATE, NEW_LINE_AFTER_TURN, "own"])
@pytest.mark.parametrize("response", ["Because it was pushed.", " padded \n", "é", "1", ""])
def test_training_and_generation_see_the_same_prompt(tiny_tokenizer, template, response):
    tokenizer = with_template(
        tiny_tokenizer, tiny_tokenizer.chat_template if template == "own" else template
    )
    prompt = "Why did the ball stop?"
    prompt_ids = encode_prompt(tokenizer, prompt)
    encoded = encode_example(tokenizer, prompt, response, max_tokens=200)
    assert encoded.input_ids[: len(prompt_ids)] == prompt_ids
    assert encoded.labels[: len(prompt_ids)] == [IGNORE_INDEX] * len(prompt_ids)
    target = encoded.labels[len(prompt_ids) :]
    assert target == encoded.input_ids[len(prompt_ids) :]
    # The response, then the end of the turn, then nothing: no new line that templates add.
    assert tokenizer.decode(target[:-1]).strip() == response.strip()
    assert target[-1] == tokenizer.convert_tokens_to_ids("<|end_of_turn|>")
    assert target.count(target[-1]) == 1


@pytest.mark.parametrize("template", [None, LLAMA_3_TEMPLATE, "own"])
def test_there_is_one_bos(tiny_tokenizer, template):
    tokenizer = with_template(
        tiny_tokenizer, tiny_tokenizer.chat_template if template == "own" else template
    )
    assert tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id  # it adds one if it may
    ids = encode_example(tokenizer, "Why?", "So.", max_tokens=100).input_ids
    assert [i for i, token in enumerate(ids) if token == tokenizer.bos_token_id] == [0]


def test_the_plain_template_is_as_documented(tiny_tokenizer):
    tokenizer = with_template(tiny_tokenizer, None)
    prompt = tokenizer.decode(encode_prompt(tokenizer, "Why?"))
    assert prompt == "<|begin|>User: Why?\nAssistant:"
    encoded = encode_example(tokenizer, "Why?", "So.", max_tokens=100)
    assert tokenizer.decode(encoded.input_ids) == (
        "<|begin|>User: Why?\nAssistant: So.<|end_of_turn|>"
    )


def test_a_long_response_is_cut_and_not_taught_to_stop(tiny_tokenizer):
    num_prompt = len(encode_prompt(tiny_tokenizer, "Why?"))
    encoded = encode_example(tiny_tokenizer, "Why?", "abcdef", max_tokens=num_prompt + 4)
    assert tiny_tokenizer.decode(encoded.labels[num_prompt:]) == "abcd"
    exact = encode_example(tiny_tokenizer, "Why?", "abcdef", max_tokens=num_prompt + 7)
    assert tiny_tokenizer.decode(exact.labels[num_prompt:]) == "abcdef<|end_of_turn|>"


def test_a_prompt_without_room_for_a_response_is_refused(tiny_tokenizer):
    num_prompt = len(encode_prompt(tiny_tokenizer, "Why?"))
    with pytest.raises(ValueError, match=rf"max_tokens is {num_prompt}, .* {num_prompt} tokens"):
        encode_example(tiny_tokenizer, "Why?", "So.", max_tokens=num_prompt)


def test_a_template_without_an_end_of_turn_is_refused(tiny_tokenizer):
    tokenizer = with_template(
        tiny_tokenizer, "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    )
    with pytest.raises(ValueError, match="no special token"):
        end_of_turn_id(tokenizer)


def test_a_template_that_rewrites_the_prompt_is_refused(tiny_tokenizer):
    tokenizer = with_template(
        tiny_tokenizer,
        "{% if add_generation_prompt %}now {% endif %}{% for m in messages %}{{ m['content'] }}"
        "{{ eos_token }}{% endfor %}",
    )
    with pytest.raises(ValueError, match="does not begin with"):
        encode_example(tokenizer, "Why?", "So.", max_tokens=100)


def test_a_date_in_the_template_does_not_change_the_prompt(tiny_tokenizer):
    tokenizer = with_template(
        tiny_tokenizer,
        "{% if not date_string is defined %}{{ strftime_now('%d %b %Y') }}{% endif %}"
        "{{ date_string }}{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}",
    )
    assert tokenizer.decode(encode_prompt(tokenizer, "Why?")).startswith("26 Jul 2024Why?")


def test_the_papers_prompts_are_word_for_word():
    assert EVENT_REASONING_PROMPT == (
        "The provided visual information depicts a sequence of events. Analyze the causal "
        "relationships between these events and provide a step-by-step explanation for the final "
        "outcome."
    )
    assert FUTURE_PREDICTION_PROMPT == (
        "Based on the events observed in the video, predict the three most likely subsequent "
        "events. For each prediction, provide a brief justification and a confidence score from 0 "
        "to 1."
    )
    assert CAUSAL_EXPLANATION_PROMPT == (
        "Based on the visual evidence, provide a step-by-step causal explanation for the final "
        "outcome in this video."
    )


def test_question_prompts():
    assert multiple_choice_prompt("why? ", ["he fell", "she fell"]) == (
        "why?\n(A) he fell\n(B) she fell\nAnswer with the text of the right option."
    )
    assert open_ended_prompt("what is it? ") == "what is it? Answer briefly."
    with pytest.raises(ValueError, match="2 to 26 options, found 1"):
        multiple_choice_prompt("why?", ["he fell"])
