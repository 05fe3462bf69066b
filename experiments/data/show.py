"""``experiments.data show``: training rows as the model gets them, on an HTML page.

Frames, with the masks of the objects where the store has the video's tokens; the text with its
markup, token by token; and which tokens are targets of the loss. What training leaves out is not
shown.
"""

import html
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from data_modules.corpora import CorpusConfig
from data_modules.corpus_index import open_trainable
from data_modules.prompt_lengths import PromptLimit
from experiments.data.config import DataCommandConfig
from experiments.fit.run import token_source
from vidreason.evaluation.page.elements import write_page
from vidreason.evaluation.page.pictures import StoredPictures
from vidreason.example import Example, spread_examples
from vidreason.reasoning.language_model import load_tokenizer
from vidreason.reasoning.tokenization import IGNORE_INDEX, EncodedText, encode_example
from vidreason.video.reader import VideoReadError

PAGE_FILE = "training_rows.html"
_STYLE = """
.row { border-top: 1px solid var(--rule); padding: 16px 0; }
body { overflow-wrap: anywhere; }
.frames { display: flex; flex-wrap: wrap; gap: 6px; }
.frames img { width: 128px; height: auto; display: block; }
.tokens { font-family: ui-monospace, monospace; font-size: .875rem; line-height: 1.9;
  overflow-wrap: anywhere; white-space: pre-wrap; margin: 12px 0 0; }
.tokens span { border-bottom: 2px solid var(--rule); margin-right: 1px; }
.tokens .target { border-color: var(--right); background: color-mix(in srgb, var(--right) 14%,
  transparent); }
"""


def show(config: DataCommandConfig) -> None:
    """Write the page, and say where it is.

    Raises:
        ValueError: ``data.train`` is empty, a corpus or the tokenizer cannot be read, or nothing of
            a corpus can be trained on.
    """
    if not config.data.train:
        raise ValueError("data.train is empty: list the corpora whose rows are to be shown")
    tokenizer = load_tokenizer(config.reasoner.language_model)
    data = config.data
    limit = PromptLimit(
        tokenizer, data.max_text_tokens, data.long_prompts, config.reasoner.system_prompt
    )
    sections = [
        "<h1>Training rows</h1>",
        "<p>As the model gets them: underlined one by one are the tokens, green those that it is "
        "taught to say. Video embeddings stand before the first token.</p>",
    ]
    number = 0
    for corpus in data.train:
        # As fit opens a corpus, so that what it leaves out is not shown either.
        examples = list(open_trainable([corpus], limit, data.max_malformed_fraction, data.loss_on))
        chosen = spread_examples(examples, config.data_check.shown_rows)
        sections += _corpus(corpus, len(examples), chosen, config, tokenizer)
        number += len(chosen)
    path = Path(config.run_dir) / PAGE_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_page(path, "Training rows", sections, style=_STYLE)
    print(f"show: {number} rows of {len(data.train)} corpora are in {path}")


def _corpus(
    corpus: CorpusConfig,
    num_examples: int,
    chosen: Sequence[Example],
    config: DataCommandConfig,
    tokenizer: PreTrainedTokenizerBase,
) -> list[str]:
    title = f"{corpus.reader}, {corpus.split}: {num_examples:,} rows, weight {corpus.weight:g}"
    pictures = StoredPictures.of_examples(chosen, token_source(config))
    rows = []
    for example in chosen:
        # The tokens of a training step, markup and cuts included.
        text = encode_example(
            tokenizer,
            example.prompt,
            example.response,
            config.data.max_text_tokens,
            config.reasoner.system_prompt,
            example.earlier_turns,
        )
        shown = f"{_heading(example)}{_frames(pictures, example)}{_tokens(tokenizer, text)}"
        rows.append(f'<div class="row">{shown}</div>')
    return [
        f"<h2>{html.escape(title)}</h2>",
        f"<p class=muted>{html.escape(corpus.root)}</p>",
        *rows,
    ]


def _heading(example: Example) -> str:
    span = ""
    if example.start_seconds is not None or example.end_seconds is not None:
        end = "the end" if example.end_seconds is None else f"{example.end_seconds:.1f} s"
        span = f", {example.start_seconds or 0:.1f} s to {end}"
    return (
        f"<h3>{html.escape(example.id)}</h3><p class=muted>{html.escape(example.media + span)}</p>"
    )


def _frames(pictures: StoredPictures, example: Example) -> str:
    span = pictures.span(example.id)
    # The pictures are of these very examples.
    assert span is not None
    try:
        frames = pictures.frames(span)
    except VideoReadError as error:
        # One video that cannot be read leaves the page its other rows.
        return f"<p>{html.escape(str(error))}</p>"
    shown = "".join(
        f'<figure><img src="{frame.data_uri}" alt="frame at {frame.seconds:.1f} s">'
        f"<figcaption>{frame.seconds:.1f} s</figcaption></figure>"
        for frame in frames
    )
    return f'<div class="frames">{shown}</div>'


def _tokens(tokenizer: PreTrainedTokenizerBase, text: EncodedText) -> str:
    """The text, a span a token; targets are marked."""
    spans = []
    for token, label in zip(text.input_ids, text.labels, strict=True):
        kind = "" if label == IGNORE_INDEX else ' class="target"'
        # Token by token: each part of a letter that takes several is shown as a replacement mark.
        spans.append(f"<span{kind}>{html.escape(str(tokenizer.decode([token])))}</span>")
    targets = sum(label != IGNORE_INDEX for label in text.labels)
    counts = f"{len(text.input_ids)} tokens, {targets} of them targets"
    return f'<p class="tokens">{"".join(spans)}</p><p class=muted>{counts}</p>'
