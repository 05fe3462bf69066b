"""Video-LLaMA, its vision-language branch."""

from vidreason.baselines.video_llama.system import VideoLlama

__all__ = ["VideoLlama"]
