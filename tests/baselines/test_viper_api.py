"""Programs of an honest language model: what each function of program synthesis does."""

import pytest
import torch
from viper_stubs import OPTIONS, StubModules, run

from vidreason.baselines.viper.program_api import ProgramApi
from vidreason.baselines.viper.sandbox import Call

FRAME = "ImagePatch(frame 0: 0, 0, 64, 32)"


def test_each_function_by_its_trace() -> None:
    """The program, its result and all of its calls, with what each has given."""
    wrong = {}
    for body, expected in {
        "return video.frame_from_index(1).left": ("0", [_frame(1)]),
        "return video.num_frames": ("4", []),
        "return video.trim(1, 3).frame_from_index(9).upper": (
            "32",
            [
                ("VideoSegment.trim", "VideoSegment(0, 4)", "1", "3", "VideoSegment(1, 3)"),
                ("VideoSegment.frame_from_index", "VideoSegment(1, 3)", "9", _patch(2)),
            ],
        ),
        "return video.trim(start=7).start": (
            "3",
            [("VideoSegment.trim", "VideoSegment(0, 4)", "start=7", "VideoSegment(3, 4)")],
        ),
        "return video.frame_from_index(-1).width": (
            "64",
            [("VideoSegment.frame_from_index", "VideoSegment(0, 4)", "-1", _patch(3))],
        ),
        "return len(VideoSegment(video, 1).frame_iterator())": (
            "3",
            [
                ("VideoSegment", "VideoSegment(0, 4)", "1", "VideoSegment(1, 4)"),
                (
                    "VideoSegment.frame_iterator",
                    "VideoSegment(1, 4)",
                    f"3 parts: {_patch(1)}, {_patch(2)}, {_patch(3)}",
                ),
            ],
        ),
        # Boxes of the detector: one outside of the frame, the last one cut at its borders.
        "return [p.lower for p in video.frame_from_index(0).find('ball')][1]": (
            "0",
            [
                _frame(0),
                (
                    "ImagePatch.find",
                    FRAME,
                    "'ball'",
                    "2 parts: ImagePatch(frame 0: 2, 24, 11, 31), "
                    "ImagePatch(frame 0: 0, 0, 30, 12)",
                ),
            ],
        ),
        "return video.frame_from_index(0).exists('nothing')": (
            "no",
            [_frame(0), ("ImagePatch.exists", FRAME, "'nothing'", "False")],
        ),
        "return video.frame_from_index(0).exists('ball')": (
            "yes",
            [_frame(0), ("ImagePatch.exists", FRAME, "'ball'", "True")],
        ),
        "return video.frame_from_index(0).verify_property('ball', 'red')": (
            "yes",
            [_frame(0), ("ImagePatch.verify_property", FRAME, "'ball'", "'red'", "True")],
        ),
        "return video.frame_from_index(0).best_text_match(possible_answers, prefix='a')": (
            "blue",
            [
                _frame(0),
                ("ImagePatch.best_text_match", FRAME, "['red', 'blue']", "prefix='a'", "'blue'"),
            ],
        ),
        "return video.frame_from_index(0).simple_query(query)": (
            "yes",
            [_frame(0), ("ImagePatch.simple_query", FRAME, "'Which colour?'", "'yes'")],
        ),
        "return video.frame_from_index(0).crop(3, 4, 99, 14).height": (
            "10",
            [
                _frame(0),
                (
                    "ImagePatch.crop",
                    FRAME,
                    "3",
                    "4",
                    "99",
                    "14",
                    "ImagePatch(frame 0: 3, 4, 64, 14)",
                ),
            ],
        ),
        # Rows 18 to 27 from the top; of an even number the median is the lower middle one.
        "return ImagePatch(video.frame_from_index(0), 3, 4, 9, 14).compute_depth()": (
            "22",
            [
                _frame(0),
                ("ImagePatch", FRAME, "3", "4", "9", "14", "ImagePatch(frame 0: 3, 4, 9, 14)"),
                ("ImagePatch.compute_depth", "ImagePatch(frame 0: 3, 4, 9, 14)", "22.0"),
            ],
        ),
        "return video.frame_from_index(0).overlaps_with(64, 0, 70, 9)": (
            "no",
            [_frame(0), ("ImagePatch.overlaps_with", FRAME, "64", "0", "70", "9", "False")],
        ),
        "return video.frame_from_index(0).llm_query('Why?', long_answer=False)": (
            "The answer is blue.",
            [
                _frame(0),
                (
                    "ImagePatch.llm_query",
                    *(FRAME, "'Why?'", "long_answer=False", "'The answer is blue.'"),
                ),
            ],
        ),
        "return video.select_answer({'n': 2.0}, query, possible_answers)": (
            "blue",
            [
                (
                    "VideoSegment.select_answer",
                    *("VideoSegment(0, 4)", "[['n', 2.0]]", "'Which colour?'", "['red', 'blue']"),
                    "'blue'",
                )
            ],
        ),
        "return best_image_match(video.frame_iterator(), ['a'], return_index=True)": (
            "3",
            [
                (
                    "VideoSegment.frame_iterator",
                    "VideoSegment(0, 4)",
                    f"4 parts: {_patch(0)}, {_patch(1)}, {_patch(2)}, {_patch(3)}",
                ),
                (
                    "best_image_match",
                    f"4 parts: {_patch(0)}, {_patch(1)}, {_patch(2)}, {_patch(3)}",
                    *("['a']", "return_index=True", "3"),
                ),
            ],
        ),
        "return bool_to_yesno(not video.num_frames)": (
            "no",
            [("bool_to_yesno", "False", "'no'")],
        ),
        "return coerce_to_numeric('about Three of 1,204')": (
            "1204",
            [("coerce_to_numeric", "'about Three of 1,204'", "1204.0")],
        ),
        "return coerce_to_numeric('Three dogs')": (
            "3",
            [("coerce_to_numeric", "'Three dogs'", "3.0")],
        ),
        "return llm_query('Why?')": (
            "The answer is blue.",
            [("llm_query", "'Why?'", "'The answer is blue.'")],
        ),
    }.items():
        outcome = run(body)
        calls = [Call(name, tuple(rest[:-1]), rest[-1]) for name, *rest in expected[1]]
        if outcome.result != expected[0] or outcome.calls != calls:
            wrong[body] = outcome
    assert not wrong, "\n".join(f"{body}: {outcome}" for body, outcome in wrong.items())


def test_programs_for_the_official_prompt_have_some_of_numpy() -> None:
    """As numpy itself has it, on plain numbers."""
    numbers = [3, 1, 4, 1, 5.5]
    results = {
        f"np.round(np.percentile({numbers}, 90))": "5",
        f"np.round(np.mean({numbers}), 1)": "2.9",
        f"np.median({numbers})": "3",
        f"np.sum({numbers}) + np.max({numbers}) - np.min({numbers})": "19",
        f"[np.argmax({numbers}), np.argmin({numbers})][1]": "1",
        "np.abs(-2)": "2",
        "np.mean([True, False])": "0.5",
    }
    assert {value: run(f"return {value}").result for value in results} == results
    for wrong in ("np.mean([])", "np.mean(['a'])", "np.ndarray", "np.load('x')", "np.mean(video)"):
        failure = run(f"return {wrong}").failure
        assert failure is not None, wrong
        assert failure.kind == "error", wrong


def test_a_program_may_catch_what_it_has_done_wrong() -> None:
    for call, message in {
        "frame.crop(9, 4, 3, 14)": "ValueError left 9, lower 4, right 3, upper 14 is no part of a "
        "frame of 64 x 32 pixels",
        "frame.find()": "TypeError ImagePatch.find: missing a required argument: 'object_name'",
        "frame.find(3)": "ValueError object_name is not a text with a word: int",
        "frame.best_text_match([])": "ValueError option_list is not a list of 1 to 100 items",
        "VideoSegment(frame)": "ValueError video is no video: ImagePatch",
        "distance(frame, 3)": "ValueError patch_b is no ImagePatch: int",
        "bool_to_yesno(1)": "ValueError bool_answer is no truth value: int",
        "coerce_to_numeric('some')": "ValueError string has no number",
        "video.trim('a')": "ValueError start is not a number of pixels or frames: str",
        "no_such_function()": "NameError 'no_such_function' is not there",
    }.items():
        body = f"""
frame = video.frame_from_index(0)
try:
    {call}
except Exception as error:
    return type(error).__name__ + ' ' + str(error)
"""
        assert run(body).result == message


def test_distances_are_gaps_or_minus_the_shared_part() -> None:
    api = ProgramApi(torch.zeros(1, 3, 40, 40, dtype=torch.uint8), StubModules())
    whole = api.frame(0)
    one = whole.crop(0, 0, 10, 10)
    assert api.distance(one, whole.crop(13, 14, 20, 20)) == 5.0  # 3 across, 4 up
    assert api.distance(one, whole.crop(10, 0, 20, 10)) == 0.0
    assert api.distance(one, whole.crop(5, 0, 15, 10)) == pytest.approx(-50 / 150)
    assert api.distance(one, one) == -1.0


def test_parts_are_seen_with_a_margin_and_from_the_bottom() -> None:
    """Coordinates of a part of a part are those of the frame."""
    pixels = torch.arange(32 * 64).view(1, 1, 32, 64).expand(1, 3, -1, -1).to(torch.uint8)
    api = ProgramApi(pixels, StubModules())
    part = api.frame(0).crop(10, 20, 20, 30)
    # A margin of 64 / 64 = 1 pixel; 20 to 30 from the bottom are rows 2 to 12.
    assert torch.equal(part.pixels, pixels[0, :, 1:13, 9:21])
    corner = part.crop(0, 0, 4, 4)
    assert torch.equal(corner.pixels, pixels[0, :, 27:32, 0:5])
    # The detector's box (2, 1, 10.5, 7.2) of the part, whose window begins at (9, 1).
    first = part.find("ball")[0]
    assert (first.left, first.lower, first.right, first.upper) == (11, 23, 20, 30)
    assert (first.horizontal_center, first.vertical_center) == (15.5, 26.5)


def test_the_language_model_is_shown_what_was_collected() -> None:
    modules = StubModules()
    info = "{'seen': True, 'where': ['left', 2], 'n': 1.5, 'part': video, 'note': 'a\\nb'}"
    outcome = run(f"return video.select_answer({info}, query, possible_answers)", modules)
    assert outcome.result == "blue"
    assert modules.prompts == [
        "Collected from a video:\n- seen: yes\n- where: left, 2\n- n: 1.5\n- part: unknown\n"
        "- note: a b\nQuestion: Which colour?\nPossible answers:\n- red\n- blue\n"
        "Reply with the most likely one of the possible answers, word for word."
    ]
    # Without options, and a reply that names none of them, the reply is the answer.
    assert run("return video.select_answer('x', query)").result == "The answer is blue."
    other = run("return video.select_answer('x', query, ['a cat', 'a dog'])")
    assert other.result == "The answer is blue."


def test_results_are_texts_truth_values_or_numbers() -> None:
    results = {"'red'": "red", "True": "yes", "3 < 2": "no", "7": "7", "2.50": "2.5", "-1": "-1"}
    assert {value: run(f"return {value}").result for value in results} == results
    assert OPTIONS == ["red", "blue"]  # a program has its own copy


def test_programs_are_alike_from_run_to_run() -> None:
    """Chance, clock and the order of sets are the same each time; nothing is left of the last."""
    body = "import random, datetime\n"
    body += "s = {'a', 'b', 'c', query}\nreturn f'{random.random()} {datetime.datetime.now()} {s}'"
    assert run(body).result == run(body).result
    whole = "seen = 1\ndef execute_command(video, possible_answers, query):\n    return seen"
    assert run(whole, whole=True).result == "1"
    failure = run("return seen").failure
    assert failure is not None
    assert failure.reason.startswith("NameError: name 'seen' is not defined")


def _patch(frame: int) -> str:
    return f"ImagePatch(frame {frame}: 0, 0, 64, 32)"


def _frame(index: int) -> tuple[str, ...]:
    """The call for a frame."""
    return ("VideoSegment.frame_from_index", "VideoSegment(0, 4)", str(index), _patch(index))
