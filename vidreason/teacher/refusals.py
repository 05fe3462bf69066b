"""Refusals: a text in which a model says that it does not answer, in place of the answer."""

import re

_MAX_CHARS = 400
"""A refusal comes first; the rest explains it."""

# Verbs of answering. "I can't open the jar" is a narration, "I can't describe the video" is not.
_ANSWER = (
    r"(?:help|assist|identif(?:y|ies)|provide|determine|view|watch|anal[yi][sz]e|process|describe|"
    r"access|comply|fulfil+|answer|predict|generate|continue|discuss|interpret|respond|share|"
    r"offer|recogni[sz]e|comment|give (?:you|a|an|any)|make (?:a|any) predictions?|"
    r"do (?:that|this)|(?:directly )?(?:see|view) (?:the |this |that |any |your )?"
    r"(?:videos?|clips?|images?|pictures?|frames?|attachments?|content))"
)
_CANNOT = (
    r"(?:can(?:no|')?t|can not|could(?:n't| not)|won't|will not|must decline|decline|refuse|"
    r"(?:am|'m|are|'re) (?:not able|unable|not allowed|not permitted)|do(?:n't| not) "
    r"(?:have the (?:ability|capability|capacity|means)|feel comfortable))"
)
_ADVERB = r"(?: (?:really|currently|actually|directly|unfortunately|also|simply))?"
_REFUSAL = re.compile(
    # An apology.
    r"(?:(?:i'm|i am|we're|we are) (?:very |so |really |truly |deeply )?sorry"
    r"(?:,? but\b|[.!,]? (?:i|we|there|the video|this)\b)"
    r"|sorry,? (?:but )?(?:i|we)\b"
    r"|(?:i|we) apologi[sz]e\b|(?:my )?apologies\b"
    r"|as an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    # Somebody who cannot, or does not want to, answer.
    rf"|(?:unfortunately,? |regrettably,? |however,? )?(?:i|we){_ADVERB} ?{_CANNOT}{_ADVERB}"
    rf" (?:to |in )?(?:reliably |accurately |directly )?{_ANSWER}\b"
    # No access, no way, or nothing to look at.
    r"|(?:unfortunately,? )?(?:i|we) (?:do not|don't) (?:have|see) (?:direct |any |an? |the )?"
    r"(?:access|video|clip|image|frame|picture)"
    rf"|(?:unfortunately,? )?(?:unable|not able) to {_ANSWER}\b"
    r"|(?:unfortunately,? )?it(?: is|'s) (?:not possible|impossible) (?:for me )?to "
    r"(?:determine|predict|identify|tell|say|know|describe|provide|anal[yi][sz]e)\b"
    r"|(?:unfortunately,? )?(?:there (?:is|was|are|were) no|no) "
    r"(?:video|clip|image|frame|picture|visual content)s? "
    r"(?:is |was |has been |have been |are |were )?"
    r"(?:provided|attached|available|included|visible|shared|supplied|given)"
    # A request instead of an answer.
    r"|(?:please|could you(?: please)?|can you(?: please)?) (?:provide|upload|share|attach|send)\b"
    # A curt refusal.
    r"|(?:i )?cannot (?:comply|assist|help|fulfil+)\b"
    # A word for nothing, alone.
    r"|(?:n/?a|none|null|unknown|not applicable)[.!]?$)",
    re.IGNORECASE,
)
# Marks of lists and quotes, and a label such as "Answer:".
_BEFORE = re.compile(r"[\s*_#>-]{0,20}(?:(?:answer|response|assistant|note)\s{0,4}:\s{0,4})?", re.I)
_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "\uff07": "'"})


def is_refusal(text: str) -> bool:
    """Return whether a text begins with a refusal, or says nothing at all.

    Only the beginning counts, and only what is said of answering: "The man cannot open the door"
    and "I cannot open the jar" are none. English only: a refusal in another language is no answer
    of the form either.
    """
    # Twice as many, because blanks are joined: no pattern runs over a long text.
    beginning = " ".join(text[: 2 * _MAX_CHARS].split())[:_MAX_CHARS].translate(_APOSTROPHES)
    if not beginning:
        return not text.strip()
    start = _BEFORE.match(beginning)
    return _REFUSAL.match(beginning, start.end() if start else 0) is not None
