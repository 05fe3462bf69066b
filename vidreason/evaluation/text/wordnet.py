"""WordNet's own database files: base forms of words, and the tree of what is a kind of what.

Any folder of the files ``index.*``, ``data.*`` and ``*.exc`` (wndb(5WN)) will do: Princeton's
``dict``, ``/usr/share/wordnet`` of the Debian package wordnet-base, or NLTK's
``corpora/wordnet``. The published numbers are of WordNet 3.0. Files are mapped, not read: opening
takes no time.
"""

import mmap
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

NOUN, VERB, ADJECTIVE, ADVERB = "n", "v", "a", "r"
PARTS_OF_SPEECH = (NOUN, VERB, ADJECTIVE, ADVERB)
_FILES = {NOUN: "noun", VERB: "verb", ADJECTIVE: "adj", ADVERB: "adv"}
_HYPERNYM_POINTERS = ("@", "@i")
# Endings that inflected words have instead of those of base forms (morphy(7WN)).
_ENDINGS: dict[str, tuple[tuple[str, str], ...]] = {
    NOUN: (
        ("s", ""),
        ("ses", "s"),
        ("ves", "f"),
        ("xes", "x"),
        ("zes", "z"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("men", "man"),
        ("ies", "y"),
    ),
    VERB: (
        ("s", ""),
        ("ies", "y"),
        ("es", "e"),
        ("es", ""),
        ("ed", "e"),
        ("ed", ""),
        ("ing", "e"),
        ("ing", ""),
    ),
    ADJECTIVE: (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    ADVERB: (),
}


class Synset(NamedTuple):
    """One meaning: its part of speech and its place in that part's data file."""

    part_of_speech: str
    offset: int


class WordNet:
    """Look-ups in a folder of WordNet's database files.

    Args:
        folder: Holds ``index.noun``, ``data.noun``, ``noun.exc`` and those of ``verb``, ``adj`` and
            ``adv``.

    Raises:
        ValueError: A file is missing; the message says where to get them.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        names = [
            name
            for part in _FILES.values()
            for name in (f"index.{part}", f"data.{part}", f"{part}.exc")
        ]
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise ValueError(
                f"no WordNet in {str(folder)!r}: {', '.join(missing[:3])} missing. Pass a folder "
                "of WordNet 3.0's database files: install wordnet-base on Debian or Ubuntu "
                "(/usr/share/wordnet), or unpack WNdb-3.0 of wordnet.princeton.edu (dict)"
            )
        self._folder = folder
        self._index = {part: _map_file(folder / f"index.{_FILES[part]}") for part in _FILES}
        self._data = {part: _map_file(folder / f"data.{_FILES[part]}") for part in _FILES}
        # Caches that go with this object: those of a method would keep it alive.
        self.synsets = lru_cache(maxsize=100_000)(self._synsets)
        self.hypernyms = lru_cache(maxsize=100_000)(self._hypernyms)

    def base_forms(self, word: str, part_of_speech: str) -> list[str]:
        """Forms of ``word`` that WordNet has as this part of speech, the word itself first.

        Morphy's rules: exceptions if the word is one, else endings, applied until one fits.
        """
        exceptions = self._exceptions[part_of_speech]
        if word in exceptions:
            return self._known([word, *exceptions[word]], part_of_speech)
        forms = _replace_endings([word], part_of_speech)
        known = self._known([word, *forms], part_of_speech)
        while forms and not known:
            forms = _replace_endings(forms, part_of_speech)
            known = self._known(forms, part_of_speech)
        return known

    def _synsets(self, word: str) -> tuple[Synset, ...]:
        """All meanings of a word in any inflection: of nouns, verbs, adjectives, then adverbs.

        Those of one form are in WordNet's order, the most frequent first.
        """
        return tuple(
            Synset(part, offset)
            for part in PARTS_OF_SPEECH
            for form in self.base_forms(word.lower(), part)
            for offset in self._offsets(form, part)
        )

    def _hypernyms(self, synset: Synset) -> tuple[Synset, ...]:
        """Synsets that ``synset`` is a kind or an instance of, one step up."""
        fields = self._data_fields(synset)
        start = 4 + 2 * int(fields[3], 16)  # the words and their numbers come before the pointers
        pointers = range(start + 1, start + 1 + 4 * int(fields[start]), 4)
        return tuple(
            Synset(fields[at + 2], int(fields[at + 1]))
            for at in pointers
            if fields[at] in _HYPERNYM_POINTERS
        )

    def name(self, synset: Synset) -> str:
        """NLTK's name of a meaning, such as ``dog.n.01``, by which it orders meanings."""
        fields = self._data_fields(synset)
        # Without the marker that an adjective may have, such as "(p)".
        lemma = fields[4].split("(")[0].lower()
        number = self._offsets(lemma, synset.part_of_speech).index(synset.offset) + 1
        return f"{lemma}.{fields[2]}.{number:02d}"

    @cached_property
    def _exceptions(self) -> dict[str, dict[str, list[str]]]:
        tables: dict[str, dict[str, list[str]]] = {}
        for part, name in _FILES.items():
            lines = (self._folder / f"{name}.exc").read_text(encoding="utf-8").splitlines()
            tables[part] = {form: bases for form, *bases in map(str.split, filter(None, lines))}
        return tables

    def _known(self, forms: list[str], part_of_speech: str) -> list[str]:
        return [form for form in dict.fromkeys(forms) if self._offsets(form, part_of_speech)]

    def _data_fields(self, synset: Synset) -> list[str]:
        data = self._data[synset.part_of_speech]
        line = data[synset.offset : data.find(b"\n", synset.offset)]
        fields = line.split(b"|")[0].decode("utf-8").split()
        if not fields or fields[0] != f"{synset.offset:08d}":
            raise ValueError(
                f"{self._folder}/data.{_FILES[synset.part_of_speech]} has no entry at byte "
                f"{synset.offset}; its files do not belong together, or line ends were changed"
            )
        return fields

    def _offsets(self, lemma: str, part_of_speech: str) -> list[int]:
        line = _find_line(self._index[part_of_speech], lemma.replace(" ", "_").encode("utf-8"))
        if not line:
            return []
        # Lemma, part of speech, number of meanings, ..., and at the end their offsets.
        fields = line.decode("utf-8").split()
        return [int(offset) for offset in fields[-int(fields[2]) :]]


def _map_file(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _replace_endings(forms: list[str], part_of_speech: str) -> list[str]:
    return [
        form.removesuffix(ending) + base
        for form in forms
        for ending, base in _ENDINGS[part_of_speech]
        if form.endswith(ending)
    ]


def _find_line(index: mmap.mmap, lemma: bytes) -> bytes:
    """The line of a sorted index file that begins with ``lemma``; empty if there is none.

    The licence at the head of each file begins with spaces, which sort before all lemmas.
    """
    if not lemma or b"\n" in lemma:
        return b""
    low, high = 0, len(index)
    while low < high:
        middle = (low + high) // 2
        # The whole line that the middle is in.
        start = index.rfind(b"\n", low, middle) + 1 or low
        end = index.find(b"\n", start)
        line = index[start : len(index) if end < 0 else end]
        key = line.split(b" ", 1)[0]
        if key == lemma:
            return line
        if key < lemma:
            low = start + len(line) + 1
        else:
            high = start
    return b""
