"""Two invented languages for pre-training, from the same vocal tracts: one with four tones, one with stress only.

The tonal one has the phones, syllables and tones of Mandarin, third-tone sandhi included; the other the phones,
consonant clusters, reduced vowels and pitch accents of English. Words are drawn once from a fixed seed and used by
Zipf's law; nothing means anything. Transcripts are the languages' own phones: `ma1 xiang4`, `STREH1-MAX0`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate

from icefall_ext.corpora.mini.articulation import Spoken
from icefall_ext.corpora.mini.dice import Dice

_WORDS = 800
_COMMA = (0.2, 0.45)  # s
Syllable = tuple[str, str, str, int]  # onset, nucleus, coda as spelled; tone or stress


def _table(text: str) -> dict[str, str]:
    """Spelling -> phones; vowels of a rime with their shares."""
    entries = (entry.split(maxsplit=1) for entry in text.split(","))
    return {spelling: phones.strip() for spelling, phones in entries}


_TONAL_ONSETS = {"": ""} | _table("""
    b p, p ph, m m, f f, d t, t th, n n, l l, g k, k kh, h x, j tc, q tch, x c, zh tr, ch trh, sh sr, r rz, z ts,
    c tsh, s s
""")
_TONAL_RIMES = _table("""
    a a, ai a:.6 i:.4, ao a:.6 u:.4, an a n, ang A N, ou o:.6 u:.4, en @ n, eng @ N, e o, u u, uo u:.3 O:.7,
    ui u:.25 e:.4 i:.35, un u:.5 @:.5 n, ong U N, uan u:.3 a:.7 n, i i, ia i:.3 a:.7, ie i:.3 E:.7,
    iao i:.2 a:.45 u:.35, iu i:.3 o:.35 u:.35, ian i:.3 E:.7 n, in i n, iang i:.3 A:.7 N, ing i N, v y,
    ve y:.35 E:.65, vn y n
""")
_PALATAL, _LABIAL = ("j", "q", "x"), ("b", "p", "m", "f")
_NEVER_PALATAL = ("zh", "ch", "sh", "r", "z", "c", "s", "g", "k", "h", "f")
_BUZZING = {**dict.fromkeys(("zh", "ch", "sh", "r"), "r="), **dict.fromkeys(("z", "c", "s"), "z=")}  # before -i
_TONES = {
    0: (2.6, 2.2, 1.8),
    1: (4.9, 4.9, 4.8),
    2: (2.8, 2.7, 3.2, 4.1, 4.9),
    3: (2.0, 1.4, 1.1, 1.2, 1.9),
    4: (5.0, 4.7, 3.5, 2.0, 1.1),
}
_LOW_THIRD = (2.0, 1.6, 1.3, 1.1, 1.0)  # before anything but another third tone

_STRESS_ONSETS = {"": ""} | _table("""
    P ph, T th, K kh, B b, D d, G g, F f, V v, S s, Z z, SH sh, CH tch, JH dj, HH h, M m, N n, L l, R r, W w, Y j,
    ST s t, SP s p, SK s k, STR s t r, PR ph r, TR th r, KR kh r, BL b l, KL kh l, FL f l, GR g r
""")
_STRESS_VOWELS = _table("""
    IY i, IH I, EH E, AE ae, AA A, AO O, UH U, UW u, AH V, ER r3, EY e:.6 i:.4, AY a:.6 i:.4, OW o:.5 u:.5,
    AW a:.6 u:.4
""")
_REDUCED = {"AX": "@", "IX": "I", "AXR": "r3"}
_STRESS_CODAS = {"": ""} | _table("""
    P p, T t, K k, S s, Z z, N n, M m, L l, D d, V v, F f, NG N, ST s t, NT n t, ND n d, KS k s, LD l d, NS n s
""")


def tonal_sentence(rate: float, dice: Dice) -> tuple[list[Spoken], str]:
    words = _sentence_of(_tonal_words(), dice)
    syllables = [syllable for word, _ in words for syllable in word]
    spoken: list[Spoken] = []
    pauses = _pauses(words, rate, dice)
    for place, (onset, rime, _, tone) in enumerate(syllables):
        following = syllables[place + 1][3] if place + 1 < len(syllables) else None
        contour = _TONES[tone]
        if tone == 3 and following is not None:
            contour = _TONES[2] if following == 3 else _LOW_THIRD
        last = following is None or pauses[place + 1] > 0
        factor = 0.6 if tone == 0 else 1.3 if last else 1.0
        spoken.append(_say_tonal(onset, rime, tone, contour, factor, rate, dice, pauses[place]))
    return spoken, " ".join("".join(f"{onset}{rime}{tone}" for onset, rime, _, tone in word) for word, _ in words)


def tonal_word(onset: str, rime: str, tone: int, rate: float, dice: Dice) -> Spoken:
    """A syllable of the tonal language by itself, the third tone in full."""
    return _say_tonal(onset, rime, tone, _TONES[tone], 1.3, rate, dice, 0.0)


def _say_tonal(
    onset: str, rime: str, tone: int, contour: tuple[float, ...], factor: float, rate: float, dice: Dice, pause: float
) -> Spoken:
    vowels, coda = _split(_BUZZING[onset] if rime == "i" and onset in _BUZZING else _TONAL_RIMES[rime])
    seconds = 0.21 * rate * dice.bell(1.0, 0.09) * factor
    return Spoken(
        tuple(_TONAL_ONSETS[onset].split()),
        vowels,
        coda,
        max(seconds, 0.06),
        contour,
        loudness=dice.between(0.85, 1.1) * (0.7 if tone == 0 else 1.0),
        onset_scale=rate * dice.between(0.85, 1.15),
        pause_s=pause,
    )


def stress_sentence(rate: float, dice: Dice) -> tuple[list[Spoken], str]:
    words = _sentence_of(_stress_words(), dice)
    syllables = [syllable for word, _ in words for syllable in word]
    spoken: list[Spoken] = []
    pauses = _pauses(words, rate, dice)
    for place, (onset, vowel, coda, stress) in enumerate(syllables):
        last = place + 1 == len(syllables) or pauses[place + 1] > 0
        accent = 3.0 + (1.6 if stress and dice.happens(0.7) else 0.4 if stress else -0.3)
        contour = (accent - 0.3, accent, accent - 0.3) if not last else (accent, accent - 0.8, 1.3)
        vowels, _ = _split({**_STRESS_VOWELS, **_REDUCED}[vowel])
        seconds = (0.19 if stress else 0.09) * rate * dice.bell(1.0, 0.12) * (1.4 if last else 1.0)
        spoken.append(
            Spoken(
                tuple(_STRESS_ONSETS[onset].split()),
                vowels,
                tuple(_STRESS_CODAS[coda].split()),
                max(seconds, 0.05),
                contour,
                loudness=dice.between(0.9, 1.1) * (1.0 if stress else 0.6),
                onset_scale=rate * (0.95 if stress else 0.75) * dice.between(0.85, 1.15),
                pause_s=pauses[place],
            )
        )
    return spoken, " ".join("-".join(f"{o}{v}{stress}{c}" for o, v, c, stress in word) for word, _ in words)


LANGUAGES: dict[str, Callable[[float, Dice], tuple[list[Spoken], str]]] = {
    "tonal": tonal_sentence,
    "nontonal": stress_sentence,
}


def _split(phones: str) -> tuple[tuple[tuple[str, float], ...], tuple[str, ...]]:
    """`i:.3 a:.7 n` -> vowels with their shares, coda."""
    vowels, coda = [], []
    for phone in phones.split():
        name, colon, share = phone.partition(":")
        if colon or not vowels:
            vowels.append((name, float(share or 1)))
        else:
            coda.append(name)
    return tuple(vowels), tuple(coda)


def _sentence_of(words: list[tuple[Syllable, ...]], dice: Dice) -> list[tuple[tuple[Syllable, ...], bool]]:
    """Words, and whether a pause comes before each."""
    weights = list(accumulate(1 / (rank + 3) for rank in range(len(words))))
    count = 5 + dice.below(6)
    chosen = []
    for place in range(count):
        drawn = dice.between(0, weights[-1])
        word = next(word for word, weight in zip(words, weights) if drawn <= weight)
        chosen.append((word, 2 < place < count - 1 and dice.happens(0.12)))
    return chosen


def _pauses(words: list[tuple[tuple[Syllable, ...], bool]], rate: float, dice: Dice) -> list[float]:
    """Seconds of silence before every syllable."""
    pauses = []
    for word, pause in words:
        pauses += [dice.between(*_COMMA) * rate if pause else 0.0] + [0.0] * (len(word) - 1)
    return pauses


@lru_cache(maxsize=1)
def _tonal_words() -> list[tuple[Syllable, ...]]:
    dice, words = Dice("words of the tonal language"), []
    for _ in range(_WORDS):
        syllables = [_tonal_syllable(dice) for _ in range(1 + dice.happens(0.6))]
        if len(syllables) == 2 and dice.happens(0.1):
            syllables[1] = (*syllables[1][:3], 0)
        words.append(tuple(syllables))
    return words


def _tonal_syllable(dice: Dice) -> Syllable:
    while True:
        onset, rime = dice.pick(list(_TONAL_ONSETS)), dice.pick(list(_TONAL_RIMES))
        if _goes_together(onset, rime):
            return onset, rime, "", 1 + dice.below(4)


def _goes_together(onset: str, rime: str) -> bool:
    if rime == "i" and onset in _BUZZING:
        return True
    if rime[0] == "v":
        return onset in (*_PALATAL, "n", "l")
    if rime[0] == "i":
        return onset not in _NEVER_PALATAL
    if rime[0] == "u" and onset in _LABIAL:
        return rime == "u"
    return onset not in _PALATAL


@lru_cache(maxsize=1)
def _stress_words() -> list[tuple[Syllable, ...]]:
    dice, words = Dice("words of the stress language"), []
    onsets, vowels, codas, reduced = map(list, (_STRESS_ONSETS, _STRESS_VOWELS, _STRESS_CODAS, _REDUCED))
    for _ in range(_WORDS):
        count = 1 + dice.below(3)
        stressed = dice.below(min(count, 2))
        words.append(
            tuple(
                (dice.pick(onsets), dice.pick(vowels), dice.pick(codas), 1)
                if place == stressed
                else (dice.pick(onsets[:22]), dice.pick(reduced), dice.pick(codas[:9]), 0)
                for place in range(count)
            )
        )
    return words
