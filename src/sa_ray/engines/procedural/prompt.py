"""Read a prompt: the sounds it names, their tempo, pitch and key."""

import re
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Final

from sa_ray.engines.procedural.vocabulary import BUNDLES, MODIFIERS, SOUNDS, Modifier

MAX_LAYERS: Final = 6
"""Most sounds mixed, the first that the prompt names; bounds the cost of a clip."""

_LONGEST_PHRASE = 3
_NEGATIONS = frozenset({"no", "without"})
# For text with single spaces only: runs of them would take quadratic time.
_TEMPO = re.compile(r"\b(\d{2,3}(?:\.\d+)?) ?-? ?bpm\b")
_KEY = re.compile(r"\b([a-g])(?: ?(#|sharp|flat|b))? (major|minor)\b")
_TONICS: Final = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_SHIFTS: Final = {"": 0, "#": 1, "sharp": 1, "b": -1, "flat": -1}

_NAMED: Final = dict(
    chain(
        ((word, (name,)) for name, sound in SOUNDS.items() for word in sound.words.split(", ")),
        BUNDLES.items(),
    )
)
_BENT: Final = {word: modifier for modifier in MODIFIERS for word in modifier.words.split(", ")}


@dataclass(frozen=True, slots=True)
class Key:
    """``tonic``: semitones above C, 0 to 11."""

    tonic: int
    minor: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """Sounds to render, and their qualities; ``sounds`` is empty if no word was understood."""

    sounds: tuple[str, ...]
    bpm: float | None
    key: Key | None
    pace: float
    pitch: float
    intensity: float
    muffled: bool


def read(prompt: str, negative_prompt: str | None = None) -> Plan:
    """Turn ``prompt`` into a plan, without the sounds that ``negative_prompt`` names."""
    text = " ".join(prompt.lower().split())
    words = _words(text)
    wanted, unwanted = _sounds(words)
    unwanted |= set(_sounds(_words((negative_prompt or "").lower()))[0])
    bends = [_BENT[word] for word in dict.fromkeys(words) if word in _BENT]
    return Plan(
        sounds=tuple(name for name in wanted if name not in unwanted)[:MAX_LAYERS],
        bpm=_tempo(text),
        key=_key(text),
        muffled=any(bend.muffled for bend in bends),
        **_factors(bends),
    )


def _factors(bends: list[Modifier]) -> dict[str, float]:
    return {
        "pace": _bounded(prod(bend.pace for bend in bends)),
        "pitch": _bounded(prod(bend.pitch for bend in bends)),
        "intensity": _bounded(prod(bend.intensity for bend in bends)),
    }


def _bounded(factor: float) -> float:
    return min(max(factor, 0.4), 2.5)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text)


def _sounds(words: list[str]) -> tuple[list[str], set[str]]:
    """Return the names of the sounds asked for, in order, and of those after "no" or "without"."""
    wanted: dict[str, None] = {}
    unwanted: set[str] = set()
    at = 0
    while at < len(words):
        names, length = _longest_match(words, at)
        if at and words[at - 1] in _NEGATIONS:
            unwanted.update(names)
        else:
            wanted.update(dict.fromkeys(names))
        at += length
    return list(wanted), unwanted


def _longest_match(words: list[str], at: int) -> tuple[tuple[str, ...], int]:
    for length in range(min(_LONGEST_PHRASE, len(words) - at), 0, -1):
        phrase = " ".join(words[at : at + length])
        # "waves", "glasses": the table holds the singular.
        for form in (phrase, phrase.removesuffix("s"), phrase.removesuffix("es")):
            if form in _NAMED:
                return _NAMED[form], length
    return (), 1


def _tempo(text: str) -> float | None:
    found = _TEMPO.search(text)
    return min(max(float(found[1]), 30.0), 300.0) if found else None


def _key(text: str) -> Key | None:
    found = _KEY.search(text)
    if not found:
        return None
    return Key((_TONICS[found[1]] + _SHIFTS[found[2] or ""]) % 12, found[3] == "minor")
