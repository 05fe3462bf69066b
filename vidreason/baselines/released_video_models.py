"""Facts about released video language models, by their repository on the Hugging Face Hub.

Training corpora are those that a published source names; most authors publish no complete list, so
an empty one says that nothing is known, not that nothing was seen.
"""

from dataclasses import replace

from vidreason.baselines.system import Facts

_DEVIATIONS = (
    "shown the middle frames of equal parts of the video, not the frames of its own sampling",
    "asked in this framework's prompts, greedily unless decoding says otherwise",
)

RELEASED_VIDEO_MODELS = {
    "Qwen/Qwen2.5-VL-7B-Instruct": Facts(
        fidelity="generic",
        source="https://huggingface.co/Qwen/Qwen2.5-VL-7B-Instruct",
        licence="apache-2.0",
    ),
    "Qwen/Qwen3-VL-8B-Instruct": Facts(
        fidelity="generic",
        source="https://huggingface.co/Qwen/Qwen3-VL-8B-Instruct",
        licence="apache-2.0",
    ),
    "OpenGVLab/InternVL3-8B-hf": Facts(
        fidelity="generic", source="https://huggingface.co/OpenGVLab/InternVL3-8B-hf"
    ),
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": Facts(
        fidelity="generic",
        source="https://huggingface.co/llava-hf/llava-onevision-qwen2-7b-ov-hf",
        # LLaVA-NeXT:scripts/train/README.md, quoted in LLaVA-VL/LLaVA-NeXT#190.
        trained_on=("NExT-QA", "ActivityNet", "Charades", "YouCook2", "Ego4D"),
        licence="apache-2.0",
    ),
    "lkhl/VideoLLaMA3-7B-Image-HF": Facts(
        fidelity="generic",
        source="https://huggingface.co/lkhl/VideoLLaMA3-7B-Image-HF",
        deviations=(
            "the checkpoint before the last two stages of training, on videos: the only one in the "
            "form of transformers; DAMO-NLP-SG/VideoLLaMA3-7B brings code of its own",
        ),
        licence="apache-2.0",
    ),
    "llava-hf/LLaVA-NeXT-Video-7B-hf": Facts(
        fidelity="generic",
        source="https://huggingface.co/llava-hf/LLaVA-NeXT-Video-7B-hf",
        # The card of lmms-lab/LLaVA-NeXT-Video-7B@d7c8254; its videos are ActivityNet's.
        trained_on=("Video-ChatGPT's instructions (videos of ActivityNet)",),
        licence="llama2",
    ),
    "LanguageBind/Video-LLaVA-7B-hf": Facts(
        fidelity="generic",
        source="https://huggingface.co/LanguageBind/Video-LLaVA-7B-hf",
        # Video-LLaVA (arXiv 2311.10122), section 4.1: 100K video instructions of Video-ChatGPT.
        trained_on=("Video-ChatGPT's instructions (videos of ActivityNet)",),
        licence="apache-2.0",
    ),
    "Qwen/Qwen3.5-27B": Facts(fidelity="generic", source="https://huggingface.co/Qwen/Qwen3.5-27B"),
    "google/gemma-4-12B-it": Facts(
        fidelity="generic", source="https://huggingface.co/google/gemma-4-12B-it"
    ),
    "allenai/Molmo2-8B": Facts(
        fidelity="generic", source="https://huggingface.co/allenai/Molmo2-8B"
    ),
}
"""Models with a preset in ``experiments/configs/baselines``."""

_NEXT_QA_FAMILIES = ("LLaVA-Video-", "LLaVA-NeXT-Video-32B")
"""Parts of names of models that were trained on NExT-QA (LLaVA-VL/LLaVA-NeXT#110)."""


def facts_of(name: str) -> Facts:
    """Return the facts about a model.

    Args:
        name: A repository on the Hub, or a folder: a download that is called after its repository
            has seen what that has seen, and of others nothing is known.
    """
    facts = RELEASED_VIDEO_MODELS.get(name)
    if facts is None:
        seen = [
            *("NExT-QA" for part in _NEXT_QA_FAMILIES if part in name),
            *(
                corpus
                for repository, known in RELEASED_VIDEO_MODELS.items()
                if repository.partition("/")[2] in name
                for corpus in known.trained_on
            ),
        ]
        facts = Facts(fidelity="generic", source=name, trained_on=tuple(dict.fromkeys(seen)))
    return replace(facts, deviations=(*_DEVIATIONS, *facts.deviations))
