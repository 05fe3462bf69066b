"""Tiny tokenizers and chat templates in the style of released models.

The templates are written anew after the models' published formats, with the tokenizers' own special
tokens. Each tokenizer works as its model's does (byte-level, SentencePiece with a blank in front,
tokens that swallow white space, added tokens that are not special), on a vocabulary of few words.
"""

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
LLAMA_3_1 = (
    "{{- bos_token }}\n{%- if not date_string is defined %}\n"
    "    {%- if strftime_now is defined %}\n"
    "        {%- set date_string = strftime_now('%d %b %Y') %}\n    {%- else %}\n"
    "        {%- set date_string = '26 Jul 2024' %}\n    {%- endif %}\n{%- endif %}\n"
    "{%- if messages[0]['role'] == 'system' %}\n"
    "    {%- set system_message = messages[0]['content']|trim %}\n"
    "    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system_message = '' %}\n"
    "{%- endif %}\n{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}\n"
    "{{- 'Today Date: ' + date_string + '\\n\\n' }}\n{{- system_message }}\n{{- '<|eot_id|>' }}\n"
    "{%- for message in messages %}\n"
    "    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
    " + message['content'] | trim + '<|eot_id|>' }}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n"
)
CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nSYSTEM<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN_3 = (
    "{%- if messages[0].role == 'system' %}"
    "{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- set ns = namespace(last=messages|length - 1) %}"
    "{%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}"
    "{%- if message.role == 'user' and not(message.content.startswith('<tool_response>') and "
    "message.content.endswith('</tool_response>')) and ns.last == messages|length - 1 %}"
    "{%- set ns.last = index %}{%- endif %}{%- endfor %}"
    "{%- for message in messages %}"
    "{%- if message.role == 'user' %}"
    "{{- '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- elif message.role == 'assistant' %}"
    "{%- set content = message.content %}{%- set thoughts = '' %}"
    "{%- if '</think>' in content %}"
    "{%- set thoughts = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1] %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
    "{%- if loop.index0 > ns.last and (loop.last or thoughts) %}"
    "{{- '<|im_start|>assistant\\n<think>\\n' + thoughts.strip('\\n') + '\\n</think>\\n\\n'"
    " + content.lstrip('\\n') }}"
    "{%- else %}{{- '<|im_start|>assistant\\n' + content }}{%- endif %}"
    "{{- '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (system if loop.first else '') + m['content'].strip() }}"
    "{{ ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST]"
    "{{ m['content'] }}[/INST]{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
PHI_3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
FALCON = (
    "{% for m in messages %}{{ '\n' if not loop.first else '' }}"
    "{{ (m['role'] | capitalize) + ': ' + m['content'].strip().replace('\n\n', '\n') }}"
    "{{ eos_token if m['role'] == 'assistant' else '' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\nAssistant:' }}{% endif %}"
)
R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<|User|>{{ m['content'] }}"
    "{% else %}{% set content = m['content'] %}{% if '</think>' in content %}"
    "{% set content = content.split('</think>')[-1] %}{% endif %}"
    "<|Assistant|>{{ content + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
)
UNSEPARATED = (
    "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    "{{ '' if add_generation_prompt else eos_token }}"
)
"""Contents stand side by side."""

_TEXT = "why did the ball fall it was pushed user assistant system Answer briefly end start of turn"


def _special(*names, **options):
    return [AddedToken(name, special=True, **options) for name in names]


def _plain(*names, **options):
    return [AddedToken(name, special=False, **options) for name in names]


def _byte_level(tokens, normalizer=None):
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\p{L}+| ?[^\s\p{L}]+|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([_TEXT] * 9, trainer)
    tokenizer.add_tokens(tokens)
    return tokenizer


def _sentence_piece(tokens, blank_in_front):
    """BPE over characters, unknown ones in bytes; control tokens are in the vocabulary itself."""
    names = [token.content for token in tokens]
    pieces = [*names, *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["\u2581", *sorted({*_TEXT.replace(" ", "")} | {*"<>|/[]()_:.,?~\n"})]
    merges = [("\u2581", letter) for letter in "abdefitpwsu"] + [("t", "h"), ("\u2581", "\u2581")]
    merges += [("<", "/"), ("s", ">"), ("\u2581t", "h"), ("\u2581th", "e"), ("a", "l")]
    pieces += ["".join(pair) for pair in merges]
    model = models.BPE(
        vocab={piece: index for index, piece in enumerate(dict.fromkeys(pieces))},
        merges=merges,
        unk_token="<unk>",
        byte_fallback=True,
        fuse_unk=True,
    )
    tokenizer = Tokenizer(model)
    blanks = normalizers.Replace(" ", "\u2581")
    in_front = [normalizers.Prepend("\u2581")] if blank_in_front == "each" else []
    if blank_in_front == "first":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = normalizers.Sequence([*in_front, blanks])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_tokens(tokens)
    return tokenizer


def _unigram(tokens):
    """Looks for pieces in any text, control tokens' names among them."""
    names = [token.content for token in tokens]
    pieces = [*((name, 0.0) for name in names), ("\u2581", -2.0)]
    pieces += [(f"\u2581{word}", -3.0) for word in _TEXT.split()[:6]]
    pieces += [(letter, -9.0) for letter in sorted({*_TEXT} | {*"<>|/[]()_:.,?~\nUA"})]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=names.index("<unk>")))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.add_tokens(tokens)
    return tokenizer


_LLAMA_3_TOKENS = _special(
    *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<|eot_id|>", "<|reserved_special_token_0|>", "<|python_tag|>"),
)
_CHATML_TOKENS = _special("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_QWEN_TOKENS = [
    *_CHATML_TOKENS,
    *_special("<|vision_start|>", "<|video_pad|>"),
    *_plain("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
    *_plain("<think>", "</think>"),
]
_LLAMA_2_TOKENS = _special("<unk>", "<s>", "</s>")
_GEMMA_TOKENS = [
    *_special("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
    *_plain("\n\n", "\n\n\n", "\u2581\u2581", "<table>", normalized=False),
]
_LLAMA_3_NAMES = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
_CHATML_NAMES = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
_SENTENCE_PIECE_NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_PHI_3_TOKENS = [
    *_special("<unk>", "<s>"),
    *_special("</s>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", rstrip=True),
]
_BRACKETS = AddedToken("<|eot|>", special=True, normalized=True)

FAMILIES = {
    # name: tokenizer, chat template, named tokens
    "llama-3": (lambda: _byte_level(_LLAMA_3_TOKENS), LLAMA_3, _LLAMA_3_NAMES),
    "llama-3.1": (lambda: _byte_level(_LLAMA_3_TOKENS), LLAMA_3_1, _LLAMA_3_NAMES),
    "qwen2.5": (
        lambda: _byte_level(_QWEN_TOKENS, normalizers.NFC()),
        CHATML.replace("SYSTEM", "You are Qwen."),
        _CHATML_NAMES,
    ),
    "qwen3": (lambda: _byte_level(_QWEN_TOKENS, normalizers.NFC()), QWEN_3, _CHATML_NAMES),
    "smollm2": (
        lambda: _byte_level(_CHATML_TOKENS),
        CHATML.replace("SYSTEM", "You are SmolLM."),
        {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"},
    ),
    "gemma": (
        lambda: _sentence_piece(_GEMMA_TOKENS, None),
        GEMMA,
        {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"},
    ),
    "llama-2": (
        lambda: _sentence_piece(_LLAMA_2_TOKENS, "first"),
        LLAMA_2,
        _SENTENCE_PIECE_NAMES,
    ),
    "llama-2-legacy": (
        lambda: _sentence_piece(_LLAMA_2_TOKENS, "each"),
        LLAMA_2,
        _SENTENCE_PIECE_NAMES,
    ),
    "mistral": (
        lambda: _sentence_piece([*_LLAMA_2_TOKENS, *_special("[INST]", "[/INST]")], "first"),
        MISTRAL,
        _SENTENCE_PIECE_NAMES,
    ),
    "phi-3": (
        lambda: _sentence_piece(_PHI_3_TOKENS, "first"),
        PHI_3,
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    ),
    "falcon": (
        lambda: _byte_level(_special("<|endoftext|>")),
        FALCON,
        {"eos_token": "<|endoftext|>"},
    ),
    "r1": (
        lambda: _byte_level(
            [
                *_special("<|bos|>", "<|eos|>", "<|User|>", "<|Assistant|>"),
                *_plain("<think>", "</think>"),
            ]
        ),
        R1,
        {"bos_token": "<|bos|>", "eos_token": "<|eos|>"},
    ),
    "unigram": (
        lambda: _unigram([*_LLAMA_2_TOKENS, *_special("<|User|>")]),
        None,
        _SENTENCE_PIECE_NAMES,
    ),
    "plain": (
        lambda: _byte_level(_special("<|endoftext|>")),
        None,
        dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<|endoftext|>"),
    ),
    "plain-without-bos": (
        lambda: _byte_level(_special("</s>")),
        None,
        {"eos_token": "</s>", "pad_token": "</s>"},
    ),
    # Full-width brackets become plain ones before the tokenizer looks for its token.
    "normalised": (
        lambda: _byte_level([_BRACKETS], normalizers.NFKC()),
        UNSEPARATED,
        {"eos_token": "<|eot|>"},
    ),
}


def family_tokenizer(name):
    build, template, names = FAMILIES[name]
    return PreTrainedTokenizerFast(
        tokenizer_object=build(),
        chat_template=template,
        clean_up_tokenization_spaces=False,
        **names,
    )
