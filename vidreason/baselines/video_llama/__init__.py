"""Video-LLaMA, its vision-language branch."""
