"""A language model's GGUF file as a normal folder: ``python gguf_folder.py FILE.gguf FOLDER``.

transformers reads such files with the package ``gguf`` and brings their weights to 16 bits, but
then still marks the model as quantised and refuses to save it. Without the mark it is a model like
any other. What the file's quantisation lost stays lost.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

if len(sys.argv) != 3 or not Path(sys.argv[1]).is_file():
    sys.exit("usage: python gguf_folder.py FILE.gguf FOLDER, where FILE.gguf is there")
file, folder = Path(sys.argv[1]), Path(sys.argv[2])
source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
model.hf_quantizer = None
del model.config.quantization_config
model.save_pretrained(folder)
AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
print(f"{folder}: {type(model).__name__}, {model.num_parameters():,} parameters")
