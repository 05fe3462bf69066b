"""Functions that the microworld's programs define before they use them: tracks, contacts, futures.

They are text, run in the sandbox over the functions of
:mod:`vidreason.baselines.viper.program_api` alone. Lengths are in percent of the frame, x from the
left and y from the bottom; times are in seconds of a video of six.
"""

import re

from vidreason.microworld.simulation import COLORS, SHAPES

_COLORS = "|".join(COLORS)
_SHAPES = "|".join(SHAPES)

# In percent of the frame a body's radius is 11 (RADIUS / ARENA): two that touch have 22 between
# their centres, and from 11 on between its centre and the edge all of a body is in sight.
_NOUNS = f"""\
def nouns(text):
    return [" ".join(pair) for pair in re.findall("({_COLORS}) ({_SHAPES})", text)]
"""
# Seconds, x and y in each frame in which the name is found; a frame shows the middle of its part of
# the six seconds.
_TRACK = """\
def track(video, name):
    seen = []
    for number, frame in enumerate(video.frame_iterator()):
        for part in frame.find(name)[:1]:
            x = 100 * part.horizontal_center / frame.width
            y = 100 * part.vertical_center / frame.height
            seen.append((6 * (number + 0.5) / video.num_frames, x, y))
    return seen
"""
_TRACKS = f"""\
def tracks(video):
    found = [(color, track(video, color + " object")) for color in "{" ".join(COLORS)}".split()]
    return {{color: seen for color, seen in found if len(seen) > 1}}
"""
_SHAPE = f"""\
def shape(video, name):
    parts = [part for frame in video.frame_iterator() for part in frame.find(name)[:1]]
    if not parts:
        return "circle"
    part = max(parts, key=lambda one: one.width * one.height)
    return part.best_text_match("{" ".join(SHAPES)}".split())
"""
_OBJECTS = """\
def objects(video):
    found = tracks(video)
    return {color + " " + shape(video, color + " object"): found[color] for color in found}
"""
# Percent of the frame a second, from the first and the last sight between two times.
_MOTION = """\
def motion(seen, start, end):
    part = [one for one in seen if start <= one[0] <= end]
    if len(part) < 2:
        return (0, 0)
    seconds = part[-1][0] - part[0][0]
    return ((part[-1][1] - part[0][1]) / seconds, (part[-1][2] - part[0][2]) / seconds)
"""
_SPEED = """\
def speed(seen, start, end):
    return math.hypot(*motion(seen, start, end))
"""
_WAY = """\
def way(x, y):
    if max(abs(x), abs(y)) < 3:
        return ""
    if abs(x) >= abs(y):
        return "right" if x > 0 else "left"
    return "up" if y > 0 else "down"
"""
_STARTED = """\
def started(seen):
    moved = [math.dist(one[1:], seen[0][1:]) for one in seen]
    if not seen or max(moved) < 4:
        return None
    still = [one[0] for one, far in zip(seen, moved) if far < 1.5]
    return still[-1] + 0.1
"""
_HALT = """\
def halt(seen):
    if not seen or seen[-1][0] < 5.5 or speed(seen, 5.2, 6) > 3:
        return None
    moving = [time for time, x, y in seen if math.dist((x, y), seen[-1][1:]) > 4]
    return moving[-1] + 0.2 if moving else None
"""
_EDGE = """\
def edge(x, y):
    return min((x, "left"), (100 - x, "right"), (100 - y, "top"), (y, "bottom"))
"""
_ENTRY = """\
def entry(seen):
    if not seen:
        return None
    gap, side = edge(*seen[0][1:])
    inside = [time for time, x, y in seen if edge(x, y)[0] > 10]
    if not inside or gap > (9.5 if seen[0][0] < 0.3 else 25):
        return None
    return (inside[0], side)
"""
_EXIT = """\
def exit(seen):
    if not seen or seen[-1][0] > 5.6:
        return None
    gap, side = edge(*seen[-1][1:])
    return (seen[-1][0] + 0.2, side) if gap < 16 else None
"""
# The first meets the second where they are near and have come nearer, come no nearer in the next
# frame, and one of them changes its motion; both motions together went from the first to the
# second, so that it is the one that touches.
_MEETS = """\
def meets(one, other):
    spots = {time: (x, y) for time, x, y in other}
    far = [(time, math.dist((x, y), spots[time])) for time, x, y in one if time in spots]
    for number in range(1, len(far)):
        time, gap = far[number]
        closing = far[number - 1][1] - gap > 1
        if gap < 28 and closing and (number + 1 == len(far) or far[number + 1][1] > gap - 1):
            turns = 0
            for seen in (one, other):
                before, after = motion(seen, time - 0.6, time), motion(seen, time, time + 0.6)
                turns = max(turns, math.dist(before, after))
            here = [spot for spot in one if spot[0] == time][0]
            line = (spots[time][0] - here[1], spots[time][1] - here[2])
            a, b = motion(one, time - 0.6, time), motion(other, time - 0.6, time)
            if turns > 6 and (a[0] + b[0]) * line[0] + (a[1] + b[1]) * line[1] > 0:
                return time
    return None
"""
_BLOCKED = """\
def blocked(video, seen):
    time = halt(seen)
    walls = [wall for frame in video.frame_iterator()[::5] for wall in frame.find("wall")[:1]]
    for wall in walls:
        scale = 100 / video.frame_from_index(0).width
        x, y = seen[-1][1:] if seen else (0, 0)
        across = max(scale * wall.left - x, x - scale * wall.right)
        if max(across, scale * wall.lower - y, y - scale * wall.upper) < 14:
            return time
    return None
"""
_HAPPENS = """\
def happens(video, text):
    names = nouns(text)
    seen = track(video, names[0])
    if "enters" in text or "leaves" in text:
        event = entry(seen) if "enters" in text else exit(seen)
        return event[0] if event and text.rstrip("?. ").endswith(event[1]) else None
    if "wall" in text:
        return blocked(video, seen)
    return meets(seen, track(video, names[1]))
"""
_SPAN = """\
def span(start, end):
    if start is None:
        return "0.0 to 6.0"
    return f"{max(start - 0.5, 0):.1f} to {min(end + 0.5, 6):.1f}"
"""
_PART = """\
def part(x, y):
    column = "left" if x < 33.3 else "" if x < 66.7 else "right"
    row = "bottom" if y < 33.3 else "" if y < 66.7 else "top"
    if row:
        return f"at the {row} {column}".strip()
    return f"on the {column}" if column else "in the middle"
"""
_SIDE = """\
def side_of(one, other):
    x, y = one[0] - other[0], one[1] - other[1]
    if abs(x) > abs(y):
        return "left" if x < 0 else "right"
    return "above" if y > 0 else "below"
"""
_AHEAD = """\
def ahead(seen):
    if not seen or seen[-1][0] < 5.4:
        return None
    x, y = motion(seen, 5.2, 6)
    if math.hypot(x, y) < 3:
        x, y = 0, 0
    return (seen[-1][1], seen[-1][2], x, y)
"""
# Straight on in steps of 1/20 s, up to the horizon of four seconds: whatever is reached first.
_FUTURE = """\
def future(video, found):
    now = {name: ahead(seen) for name, seen in found.items()}
    now = {name: state for name, state in now.items() if state}
    walls = video.frame_from_index(-1).find("wall")[:1]
    scale = 100 / video.frame_from_index(0).width
    coming = {}
    for name, (x, y, u, v) in now.items():
        gap, side = edge(x, y)
        if gap < 9.5 and edge(x + u / 5, y + v / 5)[0] > gap:
            coming[name] = side
    for step in range(1, 81):
        time = step / 20
        at = {n: (x + time * u, y + time * v, u, v) for n, (x, y, u, v) in now.items()}
        for name, (x, y, u, v) in at.items():
            if u or v:
                verb = "pushes" if "square" in name else "hits"
                for other in at:
                    if other != name:
                        line = (at[other][0] - x, at[other][1] - y)
                        if math.hypot(*line) < 22 and line[0] * u + line[1] * v > 0:
                            return (time, f"the {name} {verb} the {other}")
                for wall in walls:
                    across = max(scale * wall.left - x, x - scale * wall.right)
                    up = max(scale * wall.lower - y, y - scale * wall.upper)
                    if max(across, up) < 10:
                        return (time, f"the wall blocks the {name}")
                gap, side = edge(x, y)
                if name in coming and gap > 10.5:
                    noun = ("an " if name[0] == "o" else "a ") + name
                    return (time, f"{noun} enters from the {coming[name]}")
                if gap < -11:
                    return (time, f"the {name} leaves on the {side}")
    return (4, "nothing happens")
"""
_EVENTS = """\
def events(video, found):
    listed = []
    for name, seen in found.items():
        noun = ("an " if name[0] == "o" else "a ") + name
        event = entry(seen)
        if event:
            listed.append((event[0], f"{noun} enters from the {event[1]} and moves on"))
        event = exit(seen)
        if event:
            ending = "because nothing stops it"
            listed.append((event[0], f"the {name} leaves on the {event[1]} {ending}"))
        verb = "pushes" if "square" in name else "hits"
        touched = False
        for other in found:
            time = meets(seen, found[other]) if other != name else None
            if time is not None:
                goes = speed(found[other], time + 0.1, time + 0.9) > 3
                effect = "starts moving" if goes else "stays where it is"
                listed.append((time, f"the {name} {verb} the {other}, so the {other} {effect}"))
                touched = touched or abs(time - (halt(seen) or 9)) < 0.6
        time = None if touched else blocked(video, seen)
        if time is not None:
            listed.append((time, f"the wall blocks the {name}, so it stops"))
    return sorted(listed)
"""

FUNCTIONS = {
    match[1]: text
    for text in (
        *(_NOUNS, _TRACK, _TRACKS, _SHAPE, _OBJECTS, _MOTION, _SPEED, _WAY, _STARTED, _HALT, _EDGE),
        *(_ENTRY, _EXIT, _MEETS, _BLOCKED, _HAPPENS, _SPAN, _PART, _SIDE, _AHEAD, _FUTURE),
        _EVENTS,
    )
    if (match := re.match(r"def (\w+)", text))
}
"""Source of each function by its name, in an order in which none comes before what it calls."""


def with_functions(body: str) -> str:
    """Put the functions that a program calls, and those that these call, before it."""
    needed = ""
    # From the last one on: whoever calls a function has been seen before it.
    for name, text in reversed(FUNCTIONS.items()):
        if re.search(rf"\b{name}\(", needed + body):
            needed = text + needed
    modules = [name for name in ("math", "re") if f"{name}." in needed + body]
    imports = f"import {', '.join(modules)}\n" if modules else ""
    return imports + needed + body
