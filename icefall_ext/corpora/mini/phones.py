"""What each phone asks of the mouth: formant targets, closures, bursts, frication, aspiration, nasality.

Frequencies are a man's, in Hz; a speaker's tract scales them. Times are seconds at a usual rate.
"""

from __future__ import annotations

from dataclasses import dataclass

# F1, F2, F3
VOWELS: dict[str, tuple[float, float, float]] = {
    "i": (290, 2250, 2980),
    "e": (430, 2020, 2620),
    "E": (570, 1820, 2520),  # open e, the vowel of ian
    "a": (800, 1270, 2530),
    "O": (570, 880, 2480),  # open o, Tai-lo oo
    "o": (450, 1120, 2420),  # Tai-lo o, unrounded and central as in the south
    "u": (320, 760, 2320),
    "1": (330, 1480, 2400),  # Tai-lo ir
    "@": (490, 1420, 2480),
    "y": (290, 1920, 2230),
    "z=": (350, 1330, 2620),  # the vowel after z c s in Mandarin
    "r=": (370, 1580, 2020),  # the vowel after zh ch sh r
    "r3": (480, 1330, 1680),  # rhotic
    "I": (400, 1960, 2560),
    "U": (440, 1020, 2280),
    "V": (640, 1210, 2420),
    "A": (730, 1090, 2440),
    "ae": (690, 1720, 2430),
}

# centre, width, floor of the spectrum of noise made in the mouth
_LIPS, _TEETH, _RIDGE = (900, 1600, 0.05), (7000, 4500, 0.1), (4300, 1700, 0.03)
_SOFT, _SOFT_BACK = (2300, 600, 0.03), (1400, 500, 0.02)
_S, _C, _SH, _SR, _X = (6300, 1500, 0.01), (4300, 1200, 0.01), (3200, 1000, 0.02), (2700, 800, 0.02), (1500, 700, 0.03)


@dataclass(frozen=True)
class Consonant:
    """`follows` is how far F2 and F3 yield to the neighbouring vowel: 0 keeps the locus, 1 has none of its own."""

    locus: tuple[float, float, float]
    follows: float = 0.4
    closure: float = 0.0  # silent or murmured hold
    voiced: float = 0.0  # level of voicing during hold or noise
    noise: tuple[float, float, float] = _RIDGE
    back_noise: tuple[float, float, float] | None = None  # before u and o
    burst: float = 0.0  # level of the release
    hiss: float = 0.0  # level of frication
    hiss_s: float = 0.0
    aspiration_s: float = 0.0
    nasal_zero: float = 0.0  # Hz; 0 is oral

    @property
    def is_sonorant(self) -> bool:
        return self.voiced >= 0.4 and not self.hiss


def _stop(
    locus: tuple[float, float, float], follows: float, noise: tuple, back: tuple | None = None, **more
) -> Consonant:
    return Consonant(locus, follows, **{"closure": 0.065, "noise": noise, "back_noise": back, "burst": 1.0, **more})


_P, _T, _K = ((250, 750, 2150), 0.35), ((270, 1750, 2700), 0.25), ((270, 1900, 2350), 0.75)
_TS = ((280, 1650, 2600), 0.25)
_TC = ((280, 2050, 2800), 0.2)
_TR = ((300, 1650, 2050), 0.2)
_ASPIRATED = {"aspiration_s": 0.06}
_MURMUR = {"voiced": 0.16, "burst": 0.5, "closure": 0.06}

CONSONANTS: dict[str, Consonant] = {
    "p": _stop(*_P, _LIPS, burst=0.8),
    "t": _stop(*_T, _RIDGE),
    "k": _stop(*_K, _SOFT, _SOFT_BACK, aspiration_s=0.012, burst=1.2),
    "ph": _stop(*_P, _LIPS, burst=0.9, **_ASPIRATED),
    "th": _stop(*_T, _RIDGE, burst=1.2, **_ASPIRATED),
    "kh": _stop(*_K, _SOFT, _SOFT_BACK, burst=1.4, **_ASPIRATED),
    "b": _stop(*_P, _LIPS, **_MURMUR),
    "d": _stop(*_T, _RIDGE, **_MURMUR),
    "g": _stop(*_K, _SOFT, _SOFT_BACK, **_MURMUR),
    "ts": _stop(*_TS, _S, closure=0.045, hiss=0.9, hiss_s=0.05),
    "tsh": _stop(*_TS, _S, closure=0.045, hiss=1.0, hiss_s=0.08, aspiration_s=0.035),
    "dz": Consonant(_TS[0], _TS[1], 0.03, 0.25, _S, burst=0.3, hiss=0.45, hiss_s=0.05),
    "tc": _stop(*_TC, _C, closure=0.045, hiss=0.9, hiss_s=0.055),
    "tch": _stop(*_TC, _C, closure=0.045, hiss=1.0, hiss_s=0.085, aspiration_s=0.035),
    "dj": Consonant(_TC[0], _TC[1], 0.03, 0.25, _C, burst=0.3, hiss=0.45, hiss_s=0.05),
    "tr": _stop(*_TR, _SR, closure=0.045, hiss=0.9, hiss_s=0.05),
    "trh": _stop(*_TR, _SR, closure=0.045, hiss=1.0, hiss_s=0.08, aspiration_s=0.035),
    "s": Consonant(*_TS, noise=_S, hiss=1.0, hiss_s=0.11),
    "c": Consonant(*_TC, noise=_C, hiss=1.0, hiss_s=0.11),
    "sr": Consonant(*_TR, noise=_SR, hiss=1.0, hiss_s=0.11),
    "sh": Consonant((280, 1850, 2500), 0.2, noise=_SH, hiss=1.0, hiss_s=0.11),
    "z": Consonant(*_TS, voiced=0.35, noise=_S, hiss=0.45, hiss_s=0.07),
    "f": Consonant((280, 900, 2200), 0.5, noise=_TEETH, hiss=0.35, hiss_s=0.1),
    "v": Consonant((280, 900, 2200), 0.5, voiced=0.4, noise=_TEETH, hiss=0.15, hiss_s=0.06),
    "x": Consonant(*_K, noise=_X, hiss=0.5, hiss_s=0.09, aspiration_s=0.01),
    "h": Consonant((0, 0, 0), 1.0, aspiration_s=0.075),
    "r": Consonant((350, 1250, 1650), 0.15, closure=0.07, voiced=0.6),
    "rz": Consonant((330, 1550, 1950), 0.15, voiced=0.5, noise=_SR, hiss=0.2, hiss_s=0.075),
    "l": Consonant((350, 1250, 2750), 0.25, closure=0.055, voiced=0.5),
    "w": Consonant((320, 700, 2250), 0.1, closure=0.06, voiced=0.7),
    "j": Consonant((280, 2250, 2950), 0.1, closure=0.055, voiced=0.7),
    "m": Consonant((420, 1000, 2150), 0.15, closure=0.075, voiced=0.55, nasal_zero=620),
    "n": Consonant((420, 1450, 2500), 0.15, closure=0.07, voiced=0.55, nasal_zero=760),
    "N": Consonant((420, 1900, 2350), 0.45, closure=0.075, voiced=0.5, nasal_zero=900),
}
