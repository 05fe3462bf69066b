"""Which option an answer names, on the messy answers that language models give."""

import random

import pytest

from vidreason.evaluation.answers import parse_choice

OPTIONS = ("roll the handle", "tap their feet", "two", "twenty two dogs", "a person")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("B", 1),
        ("(B)", 1),
        ("B.", 1),
        ("B) tap their feet", 1),
        ("(B): tap their feet", 1),
        (" **C** ", 2),
        ("**C.** two", 2),
        ("B tap their feet", 1),
        ("A", 0),
        ("A. roll the handle", 0),
        ("(A) because they roll it", 0),
        ("A person does it", 4),
        ("A dog does it", None),
        ("The answer is B", 1),
        ("the answer is: (D).", 3),
        ("Answer: E", 4),
        ("Answer: A man", None),
        ("I would say option C.", 2),
        ("My choice is D, because of the dogs", 3),
        ("The answer is B. Option C is wrong.", 1),
        ("option B or option C", None),
        ("Roll the handle.", 0),
        ("They roll the handle twice", 0),
        ("TWENTY TWO   DOGS", 3),
        ("they tap their feet and roll the handle", None),
        ("twos", None),
        ("<think>A? B? The answer is A.</think> C", 2),
        ("Let me see: (A) is wrong. <answer>B</answer> So it is (A).", 1),
        ("Reasoning about (A) and (B). Final answer: D", 3),
        ("F", None),
        ("b", 1),
        ("", None),
        ("I do not know", None),
        ("**B**", 1),
        ("**Answer:** B", 1),
        ("The correct answer is **B**.", 1),
        ("A, B, C, D", None),
        (
            "A) roll the handle\nB) tap their feet\nC) two\nD) twenty two dogs\nE) a person\n"
            "Answer: C",
            2,
        ),
        ("<think> maybe B", None),
        ("Answer: A\nBecause they roll", 0),
        ("Answer: B\nBecause", 1),
        ("A. No wait, B", 1),
        ("A? No, B.", 1),
        ("\\boxed{B}", 1),
        ("$\\boxed{\\text{B}}$", 1),
        ('{"answer": "B", "why": "A is wrong"}', 1),
        ('```json\n{"answer": "C"}\n```', 2),
        ("Option B", 1),
        ("b)", 1),
        ("B: tap their feet", 1),
        ("None of the above", None),
        ("I cannot determine the answer.", None),
        ("A or B", None),
        ("A and B", None),
        ("A/B", None),
        ("B or maybe C", None),
        ("The answer is not B", None),
        ("The answer is not A but B", 1),
        ("It's not A, it's B", 1),
        ("\uff22", 1),
        ("\uff08\uff22\uff09", 1),
        ("\u7b54\u6848\uff1aB\u3002", 1),
        ("\u9009B", 1),
        ("B\u3001tap", 1),
        ("\u200bB\u200b", 1),
        ("### Answer\nB", 1),
        ("## Answer: **(B)** tap their feet", 1),
        ("Final answer\n\n**D**", 3),
        ("A is correct", 0),
        ("B is the right answer because A is wrong", 1),
        ("I'd go with C", 2),
        ("It is B", 1),
        ("I think it is B", 1),
        ("The answer is A.\n\nExplanation:\n- B is wrong\n- C is not shown", 0),
        ("F. something", None),
        ("The answer is F", None),
        ("N/A", None),
        ("Answer: A, B", None),
        ("B. roll the handle", None),
        ("The answer is tap their feet.", 1),
        ("Options: (A) roll the handle (B) tap their feet (C) two", None),
        ("A. roll the handle B. tap their feet C. two. Answer: B", 1),
        ("B<|im_end|>\n<|im_start|>user\nAnswer: C", 1),
        ("B\nUser: and now?\nAssistant: C", 1),
        ("<think>\n<think>\nx</think>\nB", 1),
        ("<think>a<think>b</think>c</think>B", 1),
        ("<think>a<think>b</think>C", None),
        ("reasoning A</think>\n\nB", 1),
        ("<answer>B", 1),
        ("<answer>A</answer> hm <answer>C</answer>", 2),
        ("<think>A</think>", None),
        ("They do not roll the handle.", None),
        ("Neither A nor B", None),
        ("The best answer would be (C).", 2),
        ("Ans: C", 2),  # codespell:ignore
        ("Correct option: (D)", 3),
        ("ANSWER: E", 4),
        ("The answer is option B", 1),
        ("(B", 1),
        ("'B'", 1),
        ("B!", 1),
        ("B because they tap", 1),
        ("A because they roll", 0),
        ("A is the answer", 0),
        ("A which shows", 0),
        ("So the answer is: A man", None),
        ("U.S.A.", None),
        ("I", None),
        ("E is right, D is not", 4),
        ("~~A~~ B", 1),
        ("Respuesta: B", 1),
        ("\u041e\u0442\u0432\u0435\u0442: B", 1),
        ("It can't be A. It can't be C. B", 1),
        ("If the answer is A, then they roll. It is D.", 3),
        ("Is it A? No. Is it B? Yes: B.", 1),
        ("Between A and B, I choose B", 1),
        ("A\nB", None),
        ("B\nB", 1),
        ("(A) and (C) can be ruled out. So (E).", 4),
        ("ABCD", None),
        ("C is correct, not A", 2),
        ("A B C D", None),
        ("The answer is A or B.", None),
        ("I would choose B, not C.", 1),
        ("A: roll the handle\nB: tap their feet\nC: two\n\nThe answer is: tap their feet", 1),
        ("Answer A. Answer B.", None),
        ("Answer B", 1),
        ("<B>", 1),
        ("[B]", 1),
        ("<b>B</b>", 1),
        ("The answer is B tapping", None),
        ("The answer is A man tapping", None),
        ("Answer: (A) roll the handle or (B) tap their feet", None),
        ("I don't think the answer is B", None),
        ("B, definitely.", 1),
        ("Definitely B", 1),
        ("Hmm, B.", 1),
        ("1. B", 1),
        ("- B", 1),
        ("> B", 1),
        ("B\n\nB) is right since A) is not.", 1),
        ("**Option C**: two", 2),
        ("Let's analyze:\n(A) Roll: no.\n(B) Tap: yes.\n(C) Two: no.\n\nTherefore, (B).", 1),
        ("Therefore the correct answer is (B) tap their feet", 1),
        ("The person in option A is shown, while option B is not.", 0),
        ("The correct answer is: \n\n**B. tap their feet**", 1),
        ("The answer is **A**\n\nSome note.", 0),
        ("The answer is A and B is wrong", 0),
        ("\U0001f171", 1),
        ("\u24b7", 1),
        ("Final Answer: The final answer is $\\boxed{B}$. I hope it is correct.", 1),
        ("#### B", 1),
        ("A is not correct. B is.", 1),
        ("Answer:\n\nA", 0),
        ("Answer:\n\na", 0),
        ("The answer is a.", 0),
        ("the answer is a man", None),
        ("I'm not sure, but B", 1),
        ("Not A", None),
        ("C?", 2),
        ("The answer is A? No.", None),
        ("a person", 4),
        ("A person.", 4),
        ("Answer: a person", 4),
        ("\\boxed{\\boxed{B}}", 1),
        ("\\boxed{}", None),
        ("\\boxed{B", 1),
        ("assistant: B", 1),
        (
            "<|channel|>analysis<|message|>A?<|end|><|start|>assistant<|channel|>final<|message|>B",
            1,
        ),
        ("The answer is B.\nThe answer is B.", 1),
        ("My final answer: D) twenty two dogs.", 3),
        ("It could be A or C, but the best is C.", 2),
        ("Both A and B are wrong; C", 2),
        ("Option 2", None),
        ("second", None),
        ("B C", None),
    ],
)
def test_parse_choice(text: str, expected: int | None) -> None:
    assert parse_choice(text, OPTIONS) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is (B) tap their feet. The other options (A), (C) are wrong.", 1),
        ("I would go with option (D).", 3),
        ("Based on the video, the person taps their feet. Therefore, the correct option is B.", 1),
        ("Answer: **C**. two", 2),
        ("**Answer: C**", 2),
        ("*C*", 2),
        ("`C`", 2),
        ("C\n\n**Explanation:** Option A shows the handle, B the feet.", 2),
        ("A.\n\nThe person rolls the handle (see option B for contrast).", 0),
        ("The correct answer is:\nB) tap their feet", 1),
        ("Correct answer: (B).", 1),
        ("the answer would be D", 3),
        ("I choose D.", 3),
        ("D is the best choice.", 3),
        ("D seems correct.", 3),
        ("D would be the best answer.", 3),
        ("It's D.", 3),
        ("That's option D.", 3),
        ("D it is.", 3),
        ("Must be D", 3),
        ("Let's see... A? no. B? no. C? yes! So C.", 2),
        ("A: no\nB: no\nC: yes\nAnswer C", 2),
        ("(A) incorrect\n(B) correct\n(C) incorrect", 1),
        ("Not B.", None),
        ("Anything but B", None),
        ("All of the above", None),
        ("Either A or B.", None),
        ("A & C", None),
        ("A+B", None),
        ("A and also D", None),
        ("Sorry, I can't answer that.", None),
        ("As an AI I cannot see the video", None),
        ("I", None),
        ("A", 0),
        ("a", 0),
        ("A man", None),
        ("A man and a woman roll", None),
        ("E", 4),
        ("G", None),
        ("Option G", None),
        ("\u7b54\u6848\u662f B", 1),
        ("\u6b63\u786e\u7b54\u6848\u662f\uff1aC", 2),
        ("\u6211\u9009\u62e9D", 3),
        ("\uff22\uff0etap", 1),
        ("\u3010B\u3011", 1),
        ("\xabB\xbb", 1),
        ("B\u3002", 1),
        ("R\xe9ponse : B", 1),
        ("Die richtige Antwort ist B.", 1),  # codespell:ignore
        ("La respuesta correcta es la B", 1),
        ("\u7b54\u3048\u306fB\u3067\u3059", 1),
        ("\uc815\ub2f5\uc740 B\uc785\ub2c8\ub2e4", 1),
        ("B<eos>", 1),
        ("<s>B</s>", 1),
        ("[/INST] B", 1),
        ("B</s><s>[INST] next [/INST] C", 1),
        ("B [END]", 1),
        ("B<|endoftext|>Human: hi", 1),
        ("ASSISTANT: B", 1),
        ('{"answer":"(B) tap their feet"}', 1),
        ('{"final_answer": "B"}', 1),
        ("{'answer': 'B'}", 1),
        ('{"answer": ["B"]}', 1),
        ('{"answer": ["A","B"]}', None),
        ('{"answer": null}', None),
        ('{"reasoning": "A is wrong", "answer": "E"}', 4),
        ("The answer is $B$.", 1),
        ("$$\\boxed{\\textbf{(B)}}$$", 1),
        ("\\[ \\boxed{B} \\]", 1),
        ("\\text{Answer: } B", 1),
        ("\\fbox{B}", 1),
        ("The final answer is: $\\boxed{C}$", 2),
        ("\\boxed{\\mathrm{B}}", 1),
        ("<answer>\nB\n</answer>", 1),
        ("<Answer>B</Answer>", 1),
        ("<answer>B. tap their feet</answer>", 1),
        ("<answer>A or B</answer>", None),
        ("<answer></answer>B", 1),
        ("<final>B</final>", 1),
        ("<thinking>A</thinking>B", 1),
        ("<THINK>A</THINK>\nB", 1),
        ("<think>A\n</think>\n\n<answer>C</answer>", 2),
        ("<think></think>B", 1),
        ("<think/>B", 1),
        ("<|begin_of_thought|>A<|end_of_thought|><|begin_of_solution|>B<|end_of_solution|>", 1),
        ("A B", None),
        ("A, then B", None),
        ("First A, then B", None),
        ("B > A", None),
        ("A) roll the handle", 0),
        ("a) roll the handle", 0),
        ("A)roll the handle", 0),
        ("The answer is A) roll the handle.", 0),
        ("E) a person", 4),
        ("I think the answer is E", 4),
        ("I'm confident it is (c).", 2),
        ("C.", 2),
        ('"C"', 2),
        ("C, because of two", 2),
        ("C - two", 2),
        ("C: two", 2),
        ("C \u2014 two", 2),
        ("My answer is A, no wait, it's B.", 1),
        ("A... actually C.", 2),
        ("A. Correction: C", 2),
        ("A. On second thought, C.", 2),
        ("B. Hmm, no, D.", 3),
        ("I first thought A, but it is C.", 2),
        ("A is wrong, so B", 1),
        ("The answer isn't A. The answer is B.", 1),
        ("not A, not B, but C", 2),
        ("The options are A, B, C, D and E.", None),
        ("Option A is a person, option B is a dog.", None),
        ("two", 2),
        ("Two.", 2),
        ("twenty two dogs and a person", None),
        ("Q: why?\nA: tap their feet", 1),
        ("A: B", None),
        ("Answer:", None),
        ("**", None),
        ("()", None),
        ("The answer is  .", None),
        ("Person A is next to person B", None),
        ("Option A is a person, and (C) is two.", None),
        ("B\nQ: and now?\nA: C", 1),
    ],
)
def test_more_habits_of_models(text: str, expected: int | None) -> None:
    assert parse_choice(text, OPTIONS) == expected


FORMS = (
    *("X", "(X)", "X.", "X)", "x)", "**X**", "[X]", "'X'", "X!", "Option X", "Answer: X", "X\nwhy"),
    *(
        "Answer: X\nBecause it is so.",
        "The answer is X",
        "The answer is (x).",
        "answer: x",
        "#### X",
    ),
    *("X because it is so", "X is correct", "X, definitely", "Hm, X.", "No wait, X", "So X"),
    *("The correct answer is **X**.", "\\boxed{X}", "<answer>X</answer>", '{"answer": "X"}'),
    *(
        "<think>Y or Z</think> X",
        "Y. No wait, X",
        "It is not Y, it is X",
        "Y is wrong. X is right.",
    ),
    *("I choose X, not Y.", "Final answer\n\n**X**", "X, since Y is not shown", "It must be X"),
    *("(X) the text of it", "X: so it is", "X - so it is", "Let me see.\nX"),
)
NAMELESS = (
    *("X or Y", "X, Y, Z", "X/Y", "X and Y", "not X", "Neither X nor Y", "X\nY", "<think>X"),
    *("The answer is not X", "If it is X, then", "X-ray", "XX", "I do not know", "X man", "x man"),
)


def test_all_letters_are_treated_alike() -> None:
    options = tuple(f"text number {number}" for number in range(9))  # up to the letter I
    for first in range(9):
        second, third = (first + 4) % 9, (first + 7) % 9
        for form in (*FORMS, *NAMELESS):
            letters = {"X": first, "Y": second, "Z": third, "x": first}
            text = "".join(
                chr(ord("a" if sign == "x" else "A") + letters[sign])
                if sign in letters and form[max(at - 5, 0) : at + 4].find("text") < 0
                else sign
                for at, sign in enumerate(form)
            )
            expected = None if form in NAMELESS else first
            assert parse_choice(text, options) == expected, text


def test_echoed_options_are_no_answer() -> None:
    for before, after in (("", "."), ("(", ")"), ("", ")"), ("", ":"), ("**", ".**"), ("[", "]")):
        for gap in ("\n", " ", "\n\n"):
            echo = gap.join(
                f"{before}{letter}{after} {option}"
                for letter, option in zip("ABCDE", OPTIONS, strict=True)
            )
            assert parse_choice(echo, OPTIONS) is None
            assert parse_choice(f"What happens?\n{echo}", OPTIONS) is None
            for number, letter in enumerate("ABCDE"):
                assert parse_choice(f"{echo}\nAnswer: {letter}", OPTIONS) == number
                assert parse_choice(f"{echo}\n\n{letter}", OPTIONS) == number
                assert parse_choice(f"{echo}\nThe answer is {OPTIONS[number]}.", OPTIONS) == number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes", "yes"),
        ("no.", "no"),
        ("**Yes**", "yes"),
        ("Yes, he falls. There is no indication that he was pushed.", "yes"),
        ("No. Yes would need a ball.", "no"),
        ("No, there is not. The answer would be yes if he fell.", "no"),
        ("Answer: no", "no"),
        ("The answer is yes, no doubt.", "yes"),
        ("Yes the man falls", "yes"),
        ("No one falls", "no"),
        ("Yes, no one falls", "yes"),
        ("Yes. No wait, no.", "no"),
        ("No. Actually, yes.", "yes"),
        ("I think so, yes.", "yes"),
        ("(A)", "yes"),
        ("B. no", "no"),
        ("(B) yes", None),
        ("yes or no", None),
        ("Yes and no.", None),
        ("yes/no", None),
        ("Yes, no.", None),
        ("not yes", None),
        ("No idea.", None),
        ("I am not sure", None),
        ("There is no indication", None),
        ("<think>yes", None),
        ("", None),
    ],
)
def test_a_leading_yes_or_no_decides(text: str, expected: str | None) -> None:
    for options in (("yes", "no"), ("Yes", "No")):
        index = parse_choice(text, options)
        assert (None if index is None else options[index].lower()) == expected


def test_a_leading_text_decides_too() -> None:
    options = ("forward", "backward")
    assert parse_choice("Forward. It never moves backward again.", options) == 0
    assert parse_choice("It moves forward, then backward", options) is None
    assert parse_choice("Forward. Backward.", options) is None
    assert parse_choice("Forward or backward", options) is None


def test_options_with_one_text_are_named_by_it_as_the_first() -> None:
    options = ("sad", "happy", "happy")
    assert parse_choice("happy", options) == 1
    assert parse_choice("They are happy", options) == 1
    assert parse_choice("(C) happy", options) == 2
    assert parse_choice("B or C", options) == 1


def test_options_that_are_letters_or_signs() -> None:
    assert parse_choice("a", ("b", "a")) == 1
    assert parse_choice("A", ("b", "a")) == 0
    assert parse_choice("?", ("!", "?")) == 1
    assert parse_choice("-1", ("1", "-1")) == 1
    assert parse_choice("it is 1.5", ("1", "5", "1.5")) == 2
    assert parse_choice("None of the above", ("x", "none of the above")) == 1


def test_the_number_of_options_is_checked() -> None:
    for number in (0, 27):
        with pytest.raises(ValueError, match=f"1 to 26 options, found {number}"):
            parse_choice("A", ["x"] * number)


PIECES = (
    *(
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "\\boxed{",
        "{",
        "}",
        "[",
        "(",
        ")",
        "\\",
        "\n",
    ),
    *(
        "A",
        "A ",
        "A. ",
        "B or ",
        "a.",
        "1",
        "1 to ",
        "not ",
        "no, ",
        "yes ",
        "the answer is ",
        "**",
    ),
    *(
        "`",
        "_",
        "~~",
        "# ",
        "$",
        '"answer":"',
        "two ",
        "roll the ",
        "wait, ",
        "\u200b",
        "<|im_end|>",
    ),
)


@pytest.mark.timeout(120)  # a square of the length takes hours
def test_endless_answers_take_time_by_their_length() -> None:
    for piece in PIECES[::3]:
        parse_choice(piece * (100_000 // len(piece)), OPTIONS[1:3])


def test_the_ends_of_an_endless_answer_are_read() -> None:
    loop = "the dog and " * 50_000
    assert parse_choice(f"The answer is B. {loop}", OPTIONS) == 1
    assert parse_choice(f"{loop}\nThe answer is B.", OPTIONS) == 1
    assert parse_choice(loop, OPTIONS) is None
    assert parse_choice("B" * 100_000, OPTIONS) is None


def test_nothing_raises() -> None:
    generator = random.Random(0)
    for _ in range(100):
        text = "".join(generator.choices(PIECES, k=12))
        for options in (OPTIONS, ("yes", "no"), ("happy", "happy")):
            index = parse_choice(text, options)
            assert index is None or 0 <= index < len(options)
