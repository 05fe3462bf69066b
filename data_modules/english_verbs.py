"""Forms of English verbs, as far as sentences are made of annotations.

A closed list: a word that is not on it is no verb for this project, and what would need it is left
out. Words that are mostly nouns (hand, face, back, water, set) are not on it on purpose.
"""

from typing import Literal

VerbForm = Literal["base", "third", "past", "gerund"]
"""``walk``, ``walks``, ``walked``, ``walking``."""


def word_set(words: str) -> frozenset[str]:
    """A closed list of words, which blanks part."""
    return frozenset(words.split())


_IRREGULAR = {
    **{"beat": "beat", "begin": "began", "spit": "spat"},
    **{"bend": "bent", "bite": "bit", "blow": "blew", "break": "broke", "bring": "brought"},
    **{"build": "built", "buy": "bought", "catch": "caught", "come": "came", "cut": "cut"},
    **{"dig": "dug", "do": "did", "draw": "drew", "drink": "drank", "drive": "drove"},
    **{"eat": "ate", "fall": "fell", "feed": "fed", "feel": "felt", "fight": "fought"},
    **{"find": "found", "fly": "flew", "get": "got", "give": "gave", "go": "went"},
    **{"grow": "grew", "hang": "hung", "have": "had", "hear": "heard", "hide": "hid"},
    **{"hit": "hit", "hold": "held", "hurt": "hurt", "keep": "kept", "kneel": "knelt"},
    **{"know": "knew", "lay": "laid", "lead": "led", "lean": "leaned", "leave": "left"},
    **{"let": "let", "lie": "lay", "light": "lit", "lose": "lost", "make": "made"},
    **{"meet": "met", "pay": "paid", "put": "put", "read": "read", "ride": "rode"},
    **{"rise": "rose", "run": "ran", "say": "said", "see": "saw", "send": "sent"},
    **{"shake": "shook", "shine": "shone", "shoot": "shot", "show": "showed", "shut": "shut"},
    **{"sing": "sang", "sink": "sank", "sit": "sat", "sleep": "slept", "slide": "slid"},
    **{"speak": "spoke", "spin": "spun", "spread": "spread", "stand": "stood", "steal": "stole"},
    **{"stick": "stuck", "strike": "struck", "sweep": "swept", "swim": "swam", "swing": "swung"},
    **{"take": "took", "teach": "taught", "tear": "tore", "tell": "told", "think": "thought"},
    **{"throw": "threw", "wake": "woke", "wear": "wore", "win": "won", "write": "wrote"},
}
_REGULAR = word_set(
    """
act add adjust aim allow answer approach arrange arrive ask attach attack attract avoid balance
bark bathe blink block bounce bow brush bump burn bury call calm carry carve celebrate
change chase check cheer chew chop clap clasp clean clear climb collapse collect comfort compete
connect continue control cook cool cough count cover crawl cross cry cuddle cycle dance decorate
demonstrate direct disappear dismount dodge drag dress drip drop drum dry dunk encourage enjoy
ensure enter entertain examine exercise explain explore express fasten fill film finish fix flap
flip float fold follow gather gesture giggle grab greet grip groom guide help hop hug imitate
indicate insert inspect instruct interact introduce itch jerk jog join juggle jump kick kiss
knock land laugh lick lift like listen load look love lower maintain mix move munch need nibble
nod observe offer open operate organise overtake pack paddle pass pat paw peel perform pet pick
place play please plug point poke polish pose pour practice practise prepare press pretend prevent
protect prove pull push raise reach receive record release remove repair repeat rescue respond rest
retrieve retreat return roll rotate rub salute save scare scatter scoop scratch scream scroll
search seek separate serve share shave shift shout signal ski skip slap slip slow smell smile snap
sneeze sniff soothe sort splash spray sprinkle squat squeeze stabilise stabilize start stay
steer step stir stop stretch stroke stroll strum stumble suck support surf sway switch talk tap
taste tease thank tickle tie tighten tilt tip toss touch trip trim try tumble turn twirl twist
unwrap use wag wait walk want warm warn wash watch wave weigh wipe wish work wrap yawn
"""
)
_DOUBLED = word_set(
    "bat beg chop clap cut dig drag drip drop drum fit flap flip get grab grip hit hop hug jog let "
    "mop nod pat pet plan plug pop put rip rub run scrub shut sit skip slap slip snap spin spit "
    "split squat stir step stop strum swim tap tip trim trip wag win wrap begin unwrap put chat "
    "skid"
)
"""Base forms that double their last letter before ``ed`` and ``ing``."""
_VOWELS = "aeiou"
_GERUNDS = {"lie": "lying", "tie": "tying", "die": "dying", "ski": "skiing", "dye": "dyeing"}

BASES = frozenset([*_IRREGULAR, *_REGULAR])
"""Verbs of the list, in their base form."""


def third_person(base: str) -> str:
    """``walks`` of ``walk``; ``goes``, ``carries``, ``has``."""
    if base == "have":
        return "has"
    if base.endswith(("s", "x", "z", "ch", "sh", "o")):
        return f"{base}es"
    if base.endswith("y") and base[-2] not in _VOWELS:
        return f"{base[:-1]}ies"
    return f"{base}s"


def past(base: str) -> str:
    """``walked`` of ``walk``; ``went``, ``carried``, ``stopped``."""
    if base in _IRREGULAR:
        return _IRREGULAR[base]
    if base in _DOUBLED:
        return f"{base}{base[-1]}ed"
    if base.endswith("e"):
        return f"{base}d"
    if base.endswith("y") and base[-2] not in _VOWELS:
        return f"{base[:-1]}ied"
    return f"{base}ed"


def gerund(base: str) -> str:
    """``walking`` of ``walk``; ``sitting``, ``making``, ``lying``."""
    if base in _GERUNDS:
        return _GERUNDS[base]
    if base in _DOUBLED:
        return f"{base}{base[-1]}ing"
    if base.endswith("e") and not base.endswith(("ee", "oe")):
        return f"{base[:-1]}ing"
    return f"{base}ing"


_MAKERS = {"third": third_person, "past": past, "gerund": gerund}
_FORMS: dict[str, tuple[str, VerbForm]] = {}
for _name, _maker in _MAKERS.items():
    for _base in sorted(BASES):
        # Of two readings of one form the first is taken; the base form is always one (cut, put).
        _FORMS.setdefault(_maker(_base), (_base, _name))  # type: ignore[arg-type]
_FORMS |= {base: (base, "base") for base in BASES}


def verb_of(word: str) -> tuple[str, VerbForm] | None:
    """The base and the form of a word that is a form of a verb of the list; else None.

    ``cut`` and ``read`` are base forms; ``lay``, ``saw`` and ``felt`` too may be either.
    """
    return _FORMS.get(word.casefold())


def conjugated(base: str, form: VerbForm) -> str:
    """A form of a verb."""
    return base if form == "base" else _MAKERS[form](base)
