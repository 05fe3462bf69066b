"""Programs for the microworld's questions, by the form of a question's words.

A template knows the kind of a question and the names in it, and nothing of the video or the answer.
The programs that it gives are what the language model of
:mod:`vidreason.microworld.program_language_model` learns to write.
"""

import hashlib
import re
from collections.abc import Callable

from vidreason.baselines.viper.sandbox import ENTRY_POINT, PARAMETERS
from vidreason.microworld.program_functions import FUNCTIONS, with_functions
from vidreason.microworld.simulation import COLORS, SHAPES
from vidreason.reasoning.futures import event_time_question
from vidreason.reasoning.prompts import (
    CAUSAL_EXPLANATION_PROMPT,
    EVENT_REASONING_PROMPT,
    FUTURE_FRAMES_PROMPT,
    FUTURE_PREDICTION_PROMPT,
    grounding_prompt,
    yes_no_prompt,
)

_NOUN = rf"((?:{'|'.join(COLORS)}) (?:{'|'.join(SHAPES)}|object))"
_THE = rf"the {_NOUN}"
_TOUCH = r"(?:hit|push|pushed)"
_MARK = "QUESTION_GOES_HERE"

# `A`, `B` and `C` in a body are what a question names, in its order.
_CHOICES: dict[str, str] = {
    # NExT-QA: causes
    rf"why did {_THE} start moving": """\
seen = track(video, "A")
times = {}
for option in possible_answers:
    time = meets(track(video, nouns(option)[0]), seen)
    if time is not None:
        times[option] = time
return min(times, key=lambda option: times[option]) if times else possible_answers[0]
""",
    rf"why did {_THE} stop": """\
seen = track(video, "A")
best, late = "the wall blocked it", -1
for option in possible_answers:
    for name in nouns(option):
        time = meets(seen, track(video, name))
        if time is not None and time > late and abs(time - (halt(seen) or time)) < 1:
            best, late = option, time
return best
""",
    rf"how did {_THE} enter": """\
event = entry(track(video, "A"))
return "from the " + event[1] if event else "it was there from the start"
""",
    rf"how did {_THE} leave": """\
event = exit(track(video, "A"))
return "on the " + event[1] if event else "it did not leave"
""",
    rf"what happened to {_THE} after {_THE} {_TOUCH} it": """\
event = exit(track(video, "A"))
return "it left on the " + event[1] if event else "the wall blocked it"
""",
    rf"what entered (after|before) {_THE}": """\
for option in possible_answers:
    if entry(track(video, nouns(option)[0])):
        return option
return possible_answers[0]
""",
    rf"what did {_THE} do when {_THE} {_TOUCH} {_THE}": """\
seen = track(video, "A")
time = meets(track(video, "B"), track(video, "C")) or 3
heading = way(*motion(seen, time - 0.5, time + 0.3))
return "it was moving " + heading if heading else "it was resting"
""",
    "how many objects moved": """\
count = len([seen for seen in tracks(video).values() if started(seen)])
return "none one two three four five six".split()[count]
""",
    "how many objects are there": """\
return "none one two three four five six".split()[len(tracks(video))]
""",
    rf"where was {_THE} at the (start|end)": """\
seen = track(video, "A")
if not seen:
    return possible_answers[0] if possible_answers else "in the middle"
return part(*seen[FIRST_OR_LAST][1:])
""",
    rf"what did {_THE} {_TOUCH}": """\
seen = track(video, "A")
for option in possible_answers:
    if meets(seen, track(video, nouns(option)[0])) is not None:
        return option
return possible_answers[0]
""",
    # ActivityNet-QA
    rf"what became of {_THE}": """\
seen = track(video, "A")
if exit(seen):
    return "it left"
if speed(seen, 5.2, 6) > 3:
    return "it kept moving"
return "it stopped" if started(seen) else "it never moved"
""",
    rf"on which side of {_THE} was {_THE} at the start": """\
other, one = track(video, "A"), track(video, "B")
return side_of(one[0][1:], other[0][1:]) if one and other else "left"
""",
    "what entered first": """\
entries = {}
for color, seen in tracks(video).items():
    event = entry(seen)
    if event:
        entries[color] = event[0]
if not entries:
    return "nothing"
color = min(entries, key=lambda one: entries[one])
return color + " " + shape(video, color + " object")
""",
    rf"did {_THE} {_TOUCH} {_THE}": """\
return bool_to_yesno(meets(track(video, "A"), track(video, "B")) is not None)
""",
    rf"did {_THE} move": """\
return bool_to_yesno(started(track(video, "A")) is not None)
""",
    rf"which way was {_THE} moving at the end": """\
return way(*motion(track(video, "A"), 5.2, 6)) or "it rested"
""",
    rf"what color was the object that {_TOUCH} {_THE}": """\
seen = track(video, "A")
for color, other in tracks(video).items():
    if color not in "A" and meets(other, seen) is not None:
        return color
return "red"
""",
    rf"what shape was {_THE}": """\
return shape(video, "A")
""",
    rf"where did {_THE} come from": """\
event = entry(track(video, "A"))
return event[1] if event else "left"
""",
    "how many objects left": """\
count = len([seen for seen in tracks(video).values() if exit(seen)])
return "none one two three four five six".split()[count]
""",
    rf"where will {_THE} leave next": """\
event = future(video, {"A": track(video, "A")})
return event[1].split()[-1] if "leaves" in event[1] else "nowhere"
""",
    re.escape(event_time_question(_MARK)).replace(_MARK, "(.*)"): """\
found = {name: track(video, name) for name in nouns("A")}
if "enters" in "A":
    for x, y, u, v in [ahead(seen) for seen in found.values() if ahead(seen)]:
        gap, side = edge(x, y)
        rate = u if side == "left" else -u if side == "right" else v if side == "bottom" else -v
        return f"{min(max(round(2 * (11 - gap) / max(rate, 1)) / 2, 0.5), 1.5):.1f}"
return f"{min(max(round(2 * future(video, found)[0]) / 2, 0.5), 1.5):.1f}"
""",
    # Test of Time
    r"which of the two happens (first|last)": """\
times = [happens(video, option) for option in possible_answers]
if None in times:
    return possible_answers[0]
return possible_answers[times.index(FIRST_OR_LAST(times))]
""",
    r"how long does it take from this: (.*) to this: (.*)": """\
start, end = happens(video, "A"), happens(video, "B")
seconds = 2 if start is None or end is None else min(max(round(end - start), 1), 3)
return ["about one second", "about two seconds", "about three seconds"][seconds - 1]
""",
    r"when in the video does this happen: (.*)": """\
time = happens(video, "A")
if time is None:
    return possible_answers[0]
third = min(int(time / 2), 2)
return "in the " + ["first", "second", "last"][third] + " third"
""",
    # VCR: what the answer says is one of the options.
    rf"(?:Boxes .*: .*; .* )?Where is \[{_NOUN}\d+\] seen from \[{_NOUN}\d+\]\?": """\
one, other = track(video, "A"), track(video, "B")
if not one or not other:
    return possible_answers[0]
side = side_of(one[0][1:], other[0][1:])
return [option for option in possible_answers if side in option][0]
""",
    rf"(?:Boxes .*: .*; .* )?Where is \[{_NOUN}\d+\] seen from \[{_NOUN}\d+\]\?"
    r" The answer is: .*\. Why\?": """\
one, other = track(video, "A"), track(video, "B")
if not one or not other:
    return possible_answers[0]
here, there = part(*one[0][1:]), part(*other[0][1:])
return max(possible_answers, key=lambda option: 2 * (f" is {here} and" in option)
           + option.endswith(f" is {there}."))
""",
}
_CLEVRER: dict[str, str] = {
    yes_no_prompt(rf"what will happen if {_THE} is removed", "(.*)"): """\
seen, names = track(video, "A"), nouns("B")
touched = [meets(seen, track(video, name)) is not None for name in names]
held = [meets(track(video, name), seen) is not None for name in names]
if happens(video, "B") is not None:
    return bool_to_yesno(not any(touched) and not any(held))
return bool_to_yesno(any(held) and "enters" not in "B")
""",
    yes_no_prompt(
        r"which of the following is responsible for this: (.*)", rf"the presence of {_THE}"
    ): """\
seen = track(video, "B")
return bool_to_yesno(any(meets(seen, track(video, name)) is not None for name in nouns("A")))
""",
    yes_no_prompt("what will happen next", "(.*)"): """\
names = nouns("A")
event = future(video, {name: track(video, name) for name in names})
if "enters" in "A":
    seen = track(video, names[0])
    inside = edge(*seen[-1][1:]) if seen else (50, "")
    return bool_to_yesno(inside[0] < 10 and "A".endswith(inside[1]))
return bool_to_yesno(event[1] == "A")
""",
}
_CAUSAL = {
    rf"(?:{re.escape(EVENT_REASONING_PROMPT)}|{re.escape(CAUSAL_EXPLANATION_PROMPT)})": """\
listed = events(video, objects(video))
return chr(10).join([f"{n + 1}. {text}" for n, (_, text) in enumerate(listed)]) or "nothing moves"
""",
    re.escape(FUTURE_PREDICTION_PROMPT): """\
event = future(video, objects(video))
return f"1. {event[1]}" + chr(10) + "Confidence: 0.6"
""",
    re.escape(FUTURE_FRAMES_PROMPT): """\
listed = events(video, objects(video))
event = listed[0][1] if listed else "nothing happens"
for ending in (" and moves on", " because", ", so"):
    event = event.split(ending)[0]
return f"1. {event}" + chr(10) + "Confidence: 0.6"
""",
}
_GROUNDED: dict[str, str] = {
    rf"why did {_THE} start moving": """\
time = started(track(video, "A"))
return span(time, time)
""",
    rf"why did {_THE} stop": """\
time = halt(track(video, "A"))
return span(time, time)
""",
    rf"how did {_THE} enter": """\
event = entry(track(video, "A"))
return span(event[0], event[0]) if event else span(0, 0)
""",
    rf"how did {_THE} leave": """\
event = exit(track(video, "A"))
return span(event[0], event[0]) if event else span(6, 6)
""",
    rf"what happened to {_THE} after {_THE} {_TOUCH} it": """\
seen = track(video, "A")
event = exit(seen)
return span(meets(track(video, "B"), seen), event[0] if event else halt(seen) or 6)
""",
    rf"what entered (after|before) {_THE}": """\
entries = [entry(seen) for seen in tracks(video).values()]
entries = sorted([event[0] for event in entries if event])
time = entries[FIRST_OR_LAST] if entries else None
return span(time, time)
""",
    rf"what did {_THE} do when {_THE} {_TOUCH} {_THE}": """\
time = meets(track(video, "B"), track(video, "C"))
return span(time, time)
""",
}


def write_program(question: str) -> str | None:
    """Return the program for a question of the microworld; None for any other question.

    Args:
        question: As :func:`vidreason.baselines.questions.bare_question` gives it.
    """
    text = " ".join(question.split())
    for matched, body in _FORMS:
        if match := matched(text):
            return with_functions(_function(_filled(body, match)))
    return None


def templates_digest() -> str:
    """Return a digest of all that :func:`write_program` writes programs of."""
    text = repr((list(FUNCTIONS.values()), _CHOICES, _CLEVRER, _CAUSAL, _GROUNDED))
    return hashlib.sha256(text.encode()).hexdigest()


def _filled(body: str, match: re.Match[str]) -> str:
    """Put the names of a question into a body."""
    named = [group for group in match.groups() if group not in _RANKS]
    rank = next((group for group in match.groups() if group in _RANKS), "")
    for letter, name in zip("ABC", named, strict=False):
        # With its quotes: a letter alone may be a part of any word.
        body = body.replace(f'"{letter}"', f'"{name}"')
    # A function where it is called, an index where it is not.
    return body.replace("FIRST_OR_LAST(", f"{'min' if rank == 'first' else 'max'}(").replace(
        "FIRST_OR_LAST", "0" if rank in ("start", "first", "before") else "-1"
    )


_RANKS = ("first", "last", "start", "end", "before", "after")


def _function(body: str) -> str:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"def {ENTRY_POINT}({PARAMETERS}):\n{lines}"


def _form(pattern: str) -> Callable[[str], re.Match[str] | None]:
    # Single spaces, as write_program() leaves them in a question.
    return re.compile(" ".join(pattern.split())).fullmatch


def _grounding_form(pattern: str) -> Callable[[str], re.Match[str] | None]:
    # The prompt around the pattern is a text: only that is escaped.
    before, _, after = grounding_prompt(_MARK).partition(_MARK)
    return _form(
        re.escape(" ".join(before.split()) + " ")
        + pattern
        + re.escape(" " + " ".join(after.split()))
    )


_FORMS = [
    *((_form(pattern), body) for pattern, body in {**_CHOICES, **_CAUSAL}.items()),
    *(
        # The yes-no prompt has the patterns inside and is not escaped: only its question mark is.
        (_form(pattern.replace("? Answer", r"\? Answer")), body)
        for pattern, body in _CLEVRER.items()
    ),
    *((_grounding_form(pattern), body) for pattern, body in _GROUNDED.items()),
]
