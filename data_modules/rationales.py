"""Questions and their right answers as sentences: why, how, and what happened before or after.

Questions of NExT-QA and its relatives were typed in a hurry: ``why did the girl hold a bowl``,
``to play``. A sentence is made only where each of its parts is known: the question's auxiliary, the
verb of a closed list (:mod:`data_modules.english_verbs`), and a form of the answer that can follow.
Everything else is left out with its cause; a wrong sentence teaches more than none.
"""

import re
from typing import NamedTuple

from data_modules.english_verbs import VerbForm, conjugated, past, verb_of, word_set
from data_modules.plain_sentences import plain_sentence

NO_QUESTION = "its question asks neither why nor how, nor what is done before or after"
NO_CLAUSE = "its question has no subject and verb that are known"
NO_ANSWER = "its answer cannot follow its question in a sentence"

_DETERMINERS = word_set(
    "the a an his her their its this these those some both all one two three four five six many "
    "most another each every no my our"
)
_PRONOUNS = {"he", "she", "it", "they", "people", "everyone", "someone", "children", "men", "women"}
_PREPOSITIONS = word_set(
    "in on at with of from to into onto over under behind near beside by for around through across "
    "towards toward against along off out up down away back between before after about"
)
# Behind one of these a word is taken for a noun, although the list of verbs has it: "the walk".
_PRE_VERBAL = _DETERMINERS | _PREPOSITIONS | {"and", "or", "s", "a", "very", "not"}
_CLAUSE_ENDS = word_set(
    "while and before after when as by for to or start stop keep when until from during so that if "
    "because without of like"
)
_ING_NOUNS = word_set(
    "building ceiling railing clothing painting ring thing something string king wing morning "
    "evening wedding nothing anything everything during swimming fencing skiing skating boxing "
    "viewing changing evening earring stocking bring sling spring being interesting"
)
_JOINTS = {"after", "before", "when", "while", "as", "if", "because", "until", "once"}
_RELATIVE = {"who", "which", "that", "whose", "what", "where", "how", "why"}
_ADJECTIVES = word_set(
    "excited happy tired curious interested sleepy hungry thirsty cold hot warm wet dirty bored "
    "scared afraid sad angry playful surprised nervous shy proud busy ready lost injured sick "
    "friendly distracted amused exhausted unhappy uncomfortable heavy too funny careful old young "
    "small short strong weak cute dizzy dangerous slippery angry upset"
)
_HE = {"man", "boy", "guy", "gentleman", "male", "father", "groom"}
_SHE = {"woman", "lady", "girl", "mother", "bride", "female"}
_IT = {"dog", "cat", "puppy", "kitten", "bird", "horse", "animal", "monkey", "car", "train"}
_PLURALS = {"men", "women", "people", "children", "ladies", "babies", "they"}
_INVOLUNTARY = word_set(
    "lose fall slip feel hear see like love enjoy want need know trip stumble bump hurt think "
    "win miss itch trust"
)
"""No purpose: nobody falls in order to."""
_REASONS = ("because", "due to", "so that", "so as", "in order", "since", "for ", "as ")
_NO_MEANS = {"feel", "react", "respond", "look", "behave", "change", "know", "do", "be"}
# Single things, which the annotators often write without an article.
_COUNT_NOUNS = word_set(
    "man boy girl lady woman baby child kid toddler dog cat puppy ball toy camera cameraman "
    "bicycle car table chair sofa floor ground nose mouth cup bottle box book phone guitar piano "
    "wall horse bird pool microphone rope stick bag hat snow grass slide swing cushion carpet bowl "
    "spoon plate cake screen window fence leash pole ring drum tricycle"
)
_SIZES = {"red", "blue", "green", "yellow", "white", "black", "brown", "big", "small", "other"}
_NEGATED = re.compile(r"\b(do|does|did|is|are|was|were|has|could|would|should|won|don) n? ?t\b")
_POSSESSIVE = re.compile(r"\b([A-Za-z]{2,}) s\b")


class _Clause(NamedTuple):
    """A statement, such as ``the boys are in the pool`` in its parts."""

    subject: str
    predicate: str
    auxiliary: str
    verb: str
    """Base form."""

    @property
    def text(self) -> str:
        return f"{self.subject} {self.predicate}"


def rationale(question: str, answer: str) -> tuple[str, str]:
    """A question and its right answer as one sentence, or the empty text and the cause.

    ``why did the boy bend down``, ``pick up ball`` becomes ``The boy bent down to pick up the
    ball.``; ``how``, by what means; ``what did he do after ...`` the order of two events.
    """
    words = _mended(question).split()
    kind = words[0].casefold() if words else ""
    if kind == "what":
        sentence, cause = _order(words, _mended(answer))
    elif kind in ("why", "how") and len(words) > 3:
        sentence, cause = _reason(kind, words[1:], _mended(answer))
    else:
        return "", NO_QUESTION
    return plain_sentence(sentence) if sentence else ("", cause)


def event_after(question: str, answer: str) -> str:
    """The answer to what was done after something, such as ``The boy picked it up``.

    Empty where the question asks for something else, or no sentence can be made of it.
    """
    words = _mended(question).split()
    if [word.casefold() for word in words[:1]] != ["what"]:
        return ""
    sentence, _ = _order(words, _mended(answer))
    joint, _, action = sentence.rpartition(", ")
    return plain_sentence(action)[0] if joint.startswith("after ") else ""


def _mended(text: str) -> str:
    """A text with its apostrophes, without a question mark."""
    text = " ".join(text.replace("\u2019", "'").split()).rstrip(" ?.!")
    text = _NEGATED.sub(lambda match: f"{match[1].removesuffix('n')}n't", text)
    return _POSSESSIVE.sub(lambda match: f"{match[1]}'s", text)


def _reason(kind: str, words: list[str], answer: str) -> tuple[str, str]:
    clause = _clause(words)
    if clause is None or (kind == "how" and clause.verb in _NO_MEANS):
        return "", NO_CLAUSE
    tail = _why_tail(clause, answer) if kind == "why" else _how_tail(answer)
    return (f"{clause.text} {tail}", "") if tail else ("", NO_ANSWER)


def _order(words: list[str], answer: str) -> tuple[str, str]:
    """The order of two events: ``what did X do after Y`` and an action."""
    lowered = [word.casefold() for word in words]
    joints = [index for index, word in enumerate(lowered) if word in ("after", "before")]
    if len(joints) != 1 or len(words) < 6 or lowered[1] not in ("did", "does", "do"):
        return "", NO_QUESTION
    # "what did | the boy do | after | he fell"
    joint = joints[0]
    subject, event = words[2:joint], words[joint + 1 :]
    # What X does right after; what X does to Y after is another question.
    while subject and subject[-1].casefold() in ("right", "just", "immediately"):
        subject = subject[:-1]
    if not subject or subject[-1].casefold() != "do":
        return "", NO_QUESTION
    subject = subject[:-1]
    if not _is_noun_phrase(subject) or not event or _RELATIVE & set(lowered[1:]):
        return "", NO_CLAUSE
    event_text, form = _event(event, _form(lowered[1], subject))
    if not event_text:
        return "", NO_CLAUSE
    action = _with_verb(answer, form)
    if action is None:
        return "", NO_ANSWER
    name = " ".join(subject)
    return f"{words[joint].casefold()} {event_text}, {name} {action}", ""


def _event(words: list[str], form: VerbForm) -> tuple[str, VerbForm]:
    """``he walked away`` or ``walking away``, and the form of verbs that goes with it.

    The text is empty where it has no verb that is known.
    """
    first = verb_of(words[0])
    if first is not None and first[1] == "gerund":
        return " ".join(words), form
    if words[0].casefold() not in _DETERMINERS | _PRONOUNS:
        return "", form
    for index in range(1, len(words)):
        verb = verb_of(words[index])
        if verb is None or words[index - 1].casefold() in _PRE_VERBAL:
            continue
        # One tense for both events.
        if verb[1] == "third" and form == "past":
            return " ".join([*words[:index], past(verb[0]), *words[index + 1 :]]), form
        if verb[1] in ("past", "third"):
            return " ".join(words), "past" if verb[1] == "past" else form
    return "", form


def _clause(words: list[str]) -> _Clause | None:
    """The statement of a question without its first word: ``did the boy jump``."""
    auxiliary, rest = words[0].casefold(), words[1:]
    if len(rest) < 2 or rest[0].casefold() not in _DETERMINERS | _PRONOUNS:
        return None
    if _RELATIVE & {word.casefold() for word in rest}:
        return None
    if auxiliary in ("did", "does", "do"):
        return _verb_clause(auxiliary, rest)
    if auxiliary in ("is", "are", "was", "were"):
        return _ing_clause(auxiliary, rest)
    return None


def _verb_clause(auxiliary: str, words: list[str]) -> _Clause | None:
    # No verb within the subject: a pronoun is one word, anything else has a word before its noun.
    first = 1 if words[0].casefold() in _PRONOUNS else 2
    verbs = [
        index
        for index in range(first, len(words))
        if (verb := verb_of(words[index]))
        and verb[1] != "gerund"
        and words[index - 1].casefold() not in _PRE_VERBAL
    ]
    if not verbs:
        return None
    index = verbs[0]
    if index + 1 in verbs and words[index].casefold() not in ("help", "let", "keep", "start"):
        return None  # one of the two is a noun
    if not _is_noun_phrase(words[:index]):
        return None
    known = verb_of(words[index])
    assert known is not None
    # An adverb before the verb is no part of the subject: the boy repeatedly jumped.
    end = index - 1 if index > 2 and words[index - 1].endswith("ly") else index
    subject = words[:end]
    form = _form(auxiliary, subject)
    predicate = " ".join([*words[end:index], conjugated(known[0], form), *words[index + 1 :]])
    return _Clause(" ".join(subject), predicate, auxiliary, known[0])


def _form(auxiliary: str, subject: list[str]) -> VerbForm:
    """The form of the verb that an auxiliary stood for; ``why do the lady bend`` is a slip."""
    is_one = subject[-1].casefold() in _HE | _SHE | _IT
    if auxiliary == "did":
        return "past"
    is_several = subject[-1].casefold() in _PLURALS
    return "third" if is_one or (auxiliary == "does" and not is_several) else "base"


def _ing_clause(auxiliary: str, words: list[str]) -> _Clause | None:
    indices = [
        index
        for index in range(1, len(words))
        if words[index].casefold().endswith("ing")
        and words[index].casefold() not in _ING_NOUNS
        and words[index - 1].casefold() not in _PRE_VERBAL - {"down", "up", "back", "away"}
    ]
    if not indices or (indices[0] == 1 and words[0].casefold() not in _PRONOUNS):
        return None
    index = indices[0]
    if len(indices) > 1:
        between = {word.casefold() for word in words[index + 1 : indices[1]]}
        # The man standing on the left holding a cup: which of the two is he doing?
        if not between & _CLAUSE_ENDS:
            return None
    if not _is_noun_phrase(words[:index]) or words[index - 1].casefold() in _PREPOSITIONS:
        return None
    predicate = " ".join([auxiliary, *words[index:]])
    verb = verb_of(words[index])
    return _Clause(" ".join(words[:index]), predicate, auxiliary, verb[0] if verb else "be")


def _is_noun_phrase(words: list[str]) -> bool:
    first, last = words[0].casefold(), words[-1].casefold()
    if len(words) == 1:
        return first in _PRONOUNS
    if _JOINTS & {word.casefold() for word in words}:
        return False
    return first in _DETERMINERS | _PRONOUNS and last not in _PRE_VERBAL


def _why_tail(clause: _Clause, answer: str) -> str | None:
    words = answer.split()
    if not words:
        return None
    lowered = answer.casefold()
    # Answers that are a clause of reason already, or a purpose: "to get warm".
    if lowered.startswith(_REASONS) or (words[0].casefold() == "to" and len(words) > 1):
        verb = verb_of(words[1]) if words[0].casefold() == "to" else ("", "base")
        return _with_articles(answer) if verb and verb[1] == "base" else None
    pronoun, is_plural = _pronoun(clause)
    # The form of "be" in the tense of the question's auxiliary verb.
    be = {"does": "is", "do": "are", "did": "were" if is_plural else "was"}.get(
        clause.auxiliary, clause.auxiliary
    )
    if words[0].casefold() in _ADJECTIVES and (len(words) == 1 or words[1] in ("to", "of", "by")):
        return f"because {pronoun} {be} {_with_articles(answer)}"
    # A clause with a subject of its own.
    if words[0].casefold() in ("he", "she", "it", "they", "the", "there", "his", "her", "their"):
        return f"because {_with_articles(answer)}" if _has_finite_verb(words) else None
    verb = verb_of(words[0])
    if verb is None:
        return None
    base, form = verb
    # "because he is running": a verb without a subject gets the pronoun, in the form that the tense
    # asks for.
    if form == "gerund":
        return f"because {pronoun} {be} {_with_articles(answer)}"
    if form == "base" and base not in _INVOLUNTARY:
        return f"to {_with_articles(answer)}"
    if form == "third" and is_plural:
        return None
    wanted: VerbForm = "past" if clause.auxiliary in ("did", "was", "were") else "third"
    if wanted == "third" and is_plural:
        wanted = "base"
    return f"because {pronoun} {_with_verb(answer, wanted)}"


def _how_tail(answer: str) -> str | None:
    words = answer.split()
    if not words:
        return None
    first = words[0].casefold()
    verb = verb_of(first)
    if first in ("by", "with", "using") and len(words) > 1:
        return _with_articles(answer)
    if verb is None:
        return None
    return f"by {_with_verb(answer, 'gerund')}"


def _with_verb(answer: str, form: VerbForm) -> str | None:
    """An action with its verb, and those that ``and`` joins to it, in another form."""
    words = answer.split()
    verb = verb_of(words[0]) if words else None
    if verb is None:
        return None
    changed = [conjugated(verb[0], form), *words[1:]]
    for index in range(1, len(words) - 1):
        joined = verb_of(words[index + 1]) if words[index].casefold() == "and" else None
        if joined is not None and joined[1] == verb[1]:
            changed[index + 1] = conjugated(joined[0], form)
    return _with_articles(" ".join(changed))


def _with_articles(answer: str) -> str:
    """An answer with ``the`` before single things that have no article: ``play with kid``."""
    words = answer.split()
    result: list[str] = []
    for index, word in enumerate(words):
        start = index
        if start and words[start - 1].casefold() in _SIZES:
            start -= 1
        before = words[start - 1].casefold() if start else ""
        name = word.casefold().removesuffix("'s")
        follows = before in _PREPOSITIONS - {"by", "of"} or verb_of(before) is not None
        is_infinitive = before == "to" and verb_of(name) is not None
        if name in _COUNT_NOUNS and follows and not is_infinitive and start:
            # In front of an adjective of colour or size, too: the red ball.
            result.insert(len(result) - (index - start), "the")
        result.append(word)
    return " ".join(result)


def _has_finite_verb(words: list[str]) -> bool:
    """Return whether a clause has a verb that agrees with a subject before it."""
    finite = {"is", "are", "was", "were", "has", "have", "had", "can", "could", "will", "wants"}
    return any(
        word.casefold() in finite
        or ((verb := verb_of(word)) is not None and verb[1] in ("third", "past"))
        for word in words[1:]
    )


def _pronoun(clause: _Clause) -> tuple[str, bool]:
    """The word that stands for the subject, and whether it is several."""
    words = [word.casefold() for word in clause.subject.split()]
    # The head stands before the first preposition.
    head_end = next((n for n, word in enumerate(words) if n and word in _PREPOSITIONS), len(words))
    head = words[head_end - 1]
    is_plural = (
        clause.auxiliary in ("do", "are", "were")
        or head in _PLURALS
        or words[0] in ("two", "three", "four", "both", "these", "those", "all", "some")
        or (head.endswith("s") and not head.endswith("ss") and clause.auxiliary == "did")
        or "and" in words
    )
    if is_plural:
        return "they", True
    if head in ("he", "she", "it"):
        return head, False
    for pronoun, heads in (("he", _HE), ("she", _SHE), ("it", _IT)):
        if head in heads:
            return pronoun, False
    return " ".join(clause.subject.split()[:head_end]), False
