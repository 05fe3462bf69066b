"""The prompt for the teacher (section 4.1.2), and the form in which answers are asked for."""

import hashlib

TEACHER_PROMPT = (
    "Observe the following video clip. First, provide a step-by-step causal explanation of the "
    "events. Second, predict what is most likely to happen immediately after the clip ends."
)
"""Section 4.1.2, word for word."""

PROMPT_VERSION = 1
"""To be raised whenever anything that a teacher is told changes but the configured prompt."""


def prompt_hash(prompt: str, answer_form: str) -> str:
    """Return the SHA-256 of all that a teacher is told beside the pictures.

    Args:
        prompt: The task.
        answer_form: The instruction how to answer, and the schema where one is sent.
    """
    content = f"{PROMPT_VERSION}\0{prompt}\0{answer_form}"
    return hashlib.sha256(content.encode()).hexdigest()
