"""Verbs and objects of plain English sentences, by rules and a short list of verbs.

No tagger and no dictionary: verbs are the inflected forms of a list of some 480 verbs that say what
happens in videos, and further words in *-ing*; a word of the list is a noun after an article, a
possessive, a number or, but in *-ing*, a verb ("pours water"). Objects are the last words of runs
of other content words. Both make mistakes, such as an adjective taken for an object; but they make
the same ones in a teacher's texts and in the annotations that these are compared with.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

MAX_WORD_CHARS = 30
"""Longer ones are no words."""

_TOKEN = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d+|\S")
_VOWELS = "aeiou"


def _listed(text: str) -> list[str]:
    return text.split()


_VERBS = _listed("""
accelerate add adjust aim align allow answer appear apply approach arrange arrive ask assemble
attach attempt attract avoid bake balance bat bathe beat become begin bend bite blend block blow
boil bounce bow braid brake break bring brush build bump burn burst bury button buy call carry
carve cast catch cause change charge chase check chew chop clap clean clear climb clip close
coil collapse collect collide comb combine come compress connect contain continue control cook
cool cover crack crash crawl create cross crouch crumple crush cry cut dance deflect deform
detach dial dig dip direct disappear discard dispense display divide dive draw dress drift drill
drink drip drive drop dry dump dust eat emerge empty enter erase erupt examine exchange exit
expand explain extend extract fail fall fasten feed fell fetch fill film finish fit fix flap
flatten flick flip float flow fly fold follow force freeze fry gather gaze get give glance glide
glue go grab grasp grate grind grip groom grow guide hammer hang happen harvest heat help hide
hit hold hop hug increase indicate ingest insert inspect install interact iron jerk jog join
juggle jump keep kick kiss knead kneel knit knock label know land laugh launch lay lead lean
leap leave let lie lift light listen load lock look loosen lose lower make mark marinate mash
match measure melt mix mop mount move mow nail need nod notice nudge observe obstruct open
operate order pack paddle paint park part pass paste pat pause peel perform pet pick pierce pin
pinch place plan plane plant play plug point poke polish pop pose position pour pray prepare
press prevent proceed produce propel protect prove prune pull pump punch push put raise reach
read rearrange rebound receive record reduce reel release remain remove repair repeat replace
reposition respond rest retract retrieve return reveal reverse ride ring rinse rip rise roll
rotate row rub run sand save saw say scatter scoop scrape scratch screw scrub seal season secure
see seem seize select sell send separate serve set sew shake shape sharpen shatter shave shift
shoot shop shout show shred shut sing sink sit skate skip slap sleep slice slide slip slow smash
smell smile smoke smooth snap sneeze soak solder sort speak spill spin splash split spray spread
sprinkle squat squeeze stab stabilize stack stand stare start stay steal steer step stick stir
stop store straighten strain stretch strike strip strum submerge support swallow sway sweep swim
swing switch take talk tap taste teach tear tell test think throw tie tighten tilt tip topple
toss touch trace train trap transfer travel trigger trim trip try tuck tug tumble turn twist
type unfold unlock unpack unscrew unplug untie unwrap use vanish vibrate view visit wait wake
walk want wash watch water wave weave weigh wet whip whisk win wind wipe withdraw work wrap
wring write yank yawn zip
""")
# Past forms that are not regular; those of prefixed verbs are listed as well.
_IRREGULAR = _listed("""
beat:beaten become:became begin:began,begun bend:bent bite:bit,bitten blow:blew,blown
break:broke,broken bring:brought build:built buy:bought catch:caught come:came cut: dig:dug
draw:drew,drawn drink:drank,drunk drive:drove,driven eat:ate,eaten fall:fell,fallen feed:fed
fly:flew,flown freeze:froze,frozen get:got,gotten give:gave,given go:went,gone,goes grind:ground
grow:grew,grown hang:hung hide:hid,hidden hit: hold:held keep:kept kneel:knelt know:knew,known
lay:laid lead:led leap:leapt leave:left let: lie:lay,lain,lying light:lit lose:lost make:made
put: ride:rode,ridden ring:rang,rung rise:rose,risen run:ran say:said,says see:saw,seen
sell:sold send:sent set: sew:sewn shake:shook,shaken shoot:shot show:shown shut: sing:sang,sung
sink:sank,sunk sit:sat sleep:slept slide:slid speak:spoke,spoken spin:spun split: spread:
stand:stood steal:stole,stolen stick:stuck strike:struck,stricken sweep:swept swim:swam,swum
swing:swung take:took,taken teach:taught tear:tore,torn tell:told think:thought
throw:threw,thrown wake:woke,woken weave:wove,woven win:won wind:wound
withdraw:withdrew,withdrawn wring:wrung write:wrote,written tie:tying untie:untying
""")
# The only readings of these that count here; their lists would say two things.
_READINGS = {"fell": "fall", "saw": "see", "lay": "lay", "wound": "wind", "ground": "", "left": ""}
_DOUBLED = frozenset(
    _listed("""
    bat begin chop clap clip cut dig dip drip drop flap flip get grab grip hit hop hug jog knit
    let mop nod pat pet pin plan plug pop put rip rub run scrub set shop shred shut sit skip slap
    slip snap spin split squat stab stir stop strip strum swim tap tip trap trim trip tug whip win
    wrap unwrap zip unplug
    """)
)

_FUNCTION_WORDS = frozenset(
    _listed("""
    a about above across after again against all almost along already also although always am among
    an and another any anyone anything are around as at away back be because been before behind
    being below beneath beside between beyond both but by c can could d did do does doing done down
    due during each either else enough ever every few for forward from had has have having he hence
    her here hers him himself his how however i if immediately in indeed inside instead into is it
    its itself just later less likely ll m many may me might more most much must my near nearly
    neither next no nobody nor not nothing now o of off often on once one only onto or other others
    our out outside over own per perhaps quite rather re s same several shall she should since so
    some someone something somewhat somewhere soon still such t than that the their them themselves
    then there therefore these they this those though through throughout thus to together too toward
    towards under unsure until up upon upwards us usually ve very was we were when where whether
    which while who whom whose why will with within without would x y yes yet you your zero
    """)
)
_BEFORE_NOUNS = frozenset(
    _listed("""
    a an the this that these those his her its their my your our another each every some any no one
    two three four five six seven eight nine ten both of with
    """)
)
_ADJECTIVES = frozenset(
    _listed("""
    able additional apparent available bad bare better big black blue bright brown clear close
    closed cold curved dark deep different dirty double downward dry dual eight empty entire fast
    final first five flat four free fresh front full further good gray great green grey half happy
    hard heavy high hot initial inner large last left light little long loose low lower main
    metallic middle narrow near new nine old open orange outer pink possible previous purple quick
    ready red right rough round same second seven sharp short silver similar simple single six slow
    small smooth soft solid steady still straight strong sudden ten thick thin third three tight
    tiny top two upper various visible warm wet white whole wide wooden wrong yellow young
    """)
)
# Words in -ing, and further forms, that are no actions.
_NOUNS_IN_ING = frozenset(
    _listed("""
    anything awning building ceiling clothing crossing during earring earrings evening everything
    feeling flooring king lighting lightning meaning morning nothing offspring opening painting
    parking plumbing pudding railing ring roofing seasoning setting shilling sibling something
    spring sterling stocking string swing thing tubing upbringing wing wiring
    """)
)
_IRREGULAR_NOUNS = {
    "men": "man", "women": "woman", "children": "child", "people": "person", "persons": "person",
    "feet": "foot", "teeth": "tooth", "mice": "mouse", "geese": "goose", "knives": "knife",
    "leaves": "leaf", "loaves": "loaf", "halves": "half", "shelves": "shelf", "wolves": "wolf",
    "lives": "life", "wives": "wife", "calves": "calf", "scarves": "scarf", "potatoes": "potato",
    "tomatoes": "tomato", "dice": "die", "clothes": "clothes", "scissors": "scissors",
    "pliers": "pliers", "glasses": "glasses", "trousers": "trousers", "series": "series",
    "lens": "lens", "gas": "gas", "canvas": "canvas", "dishes": "dish", "shoes": "shoe",
    "tongs": "tongs", "tennis": "tennis", "chess": "chess", "movies": "movie", "cookies": "cookie",
}  # fmt: skip


def tokens(text: str) -> list[str]:
    """Words in small letters, numbers, and other signs one by one."""
    return [token for token in _TOKEN.findall(text.lower()) if len(token) <= MAX_WORD_CHARS]


def words(text: str) -> list[str]:
    """Words and numbers of a text, in small letters."""
    return [token for token in tokens(text) if token[0].isalnum()]


def verbs_and_objects(text: str) -> tuple[list[str], list[str]]:
    """The verbs and the objects of a text as dictionary forms, in its order; see the module."""
    verbs: list[str] = []
    objects: list[str] = []
    last = ""  # of the run of content words that is being read
    before, verb = "", ""
    for token in [*tokens(text), "."]:  # the full stop ends the last run
        # After a verb stands a noun, unless it ends in -ing: "pours water", "starts pouring".
        follows_verb = verb != "" and not token.endswith("ing")
        verb = "" if follows_verb else _verb(token, before)
        if verb or not token[0].isalpha() or token in _FUNCTION_WORDS or "'" in token:
            if last:
                objects.append(singular(last))
            last = ""
            if verb:
                verbs.append(verb)
        # Adjectives and adverbs are no objects, wherever they stand in a run.
        elif token not in _ADJECTIVES and not token.endswith("ly"):
            last = token
        before = token
    return verbs, objects


def _verb(token: str, before: str) -> str:
    """The verb that a word is a form of, after the word ``before``; empty for none."""
    is_noun = before in _BEFORE_NOUNS or before in _ADJECTIVES
    if is_noun or token in _FUNCTION_WORDS:
        return ""
    return _FORMS.get(token, "") or _unlisted_verb(token)


@lru_cache(4096)
def _unlisted_verb(token: str) -> str:
    """The stem of a word in -ing that may be a verb."""
    stem = token[:-3]
    is_verb = (
        token.endswith("ing") and len(stem) > 2 and any(sign in _VOWELS + "y" for sign in stem)
    )
    if not is_verb or token in _NOUNS_IN_ING:
        return ""
    # "stirring" comes from "stir", "rolling" from "roll".
    if stem[-1] == stem[-2] and stem[-1] not in "lsz" + _VOWELS:
        return stem[:-1]
    return stem


@lru_cache(4096)
def singular(noun: str) -> str:
    """The singular of a noun, by rules."""
    if noun in _IRREGULAR_NOUNS:
        return _IRREGULAR_NOUNS[noun]
    # "berries" becomes "berry", but "pies" does not become "py".
    if noun.endswith("ies") and len(noun) > 4:
        return f"{noun[:-3]}y"
    if noun.endswith(("ses", "xes", "zes", "ches", "shes")) and len(noun) > 4:
        # "vases" loses an s, "boxes" loses es.
        return noun[:-1] if noun.endswith(("uses", "ases", "oses", "aches")) else noun[:-2]
    if noun.endswith("s") and not noun.endswith(("ss", "us", "is")) and len(noun) > 3:
        return noun[:-1]
    return noun


def _forms_of(verb: str) -> Iterator[str]:
    """The forms of a verb, as if it were regular."""
    yield verb
    ends_in_y = verb.endswith("y") and verb[-2] not in _VOWELS
    if ends_in_y:
        yield from (f"{verb[:-1]}ies", f"{verb[:-1]}ied", f"{verb}ing")
        return
    yield f"{verb}es" if verb.endswith(("s", "x", "z", "ch", "sh", "o")) else f"{verb}s"
    stem = verb + verb[-1] if verb in _DOUBLED else verb
    if verb.endswith("e") and not verb.endswith("ee"):
        yield from (f"{verb}d", f"{verb[:-1]}ing")
    elif verb.endswith("ee"):
        yield from (f"{verb}d", f"{verb}ing")
    else:
        yield from (f"{stem}ed", f"{stem}ing")


def _all_forms() -> dict[str, str]:
    """From each form to its verb; of two verbs that share a form, the one that is listed first."""
    forms: dict[str, str] = {}
    for verb in _VERBS:
        for form in _forms_of(verb):
            forms.setdefault(form, verb)
    for line in _IRREGULAR:
        verb, _, past = line.partition(":")
        for form in filter(None, past.split(",")):
            forms.setdefault(form, verb)
    for form, verb in _READINGS.items():
        forms[form] = verb
    return forms


_FORMS = _all_forms()
