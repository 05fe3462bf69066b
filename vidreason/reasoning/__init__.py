"""Section 3.3: prompts, tokenization, the language model, and parsing of predictions."""
