"""The built-in text set: whole numbers spelled out in English and in Spanish. No file, no network, one right answer."""

import random

LIMIT = 1_000_000_000  # exclusive

_EN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_EN_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()

_ES = (
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete "
    "dieciocho diecinueve veinte veintiuno veintidós veintitrés veinticuatro veinticinco veintiséis veintisiete "
    "veintiocho veintinueve"
).split()
_ES_TENS = "cero diez veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa".split()
_ES_HUNDREDS = (
    "cero ciento doscientos trescientos cuatrocientos quinientos seiscientos setecientos ochocientos novecientos"
).split()


def _check(n: int) -> None:
    if not 0 <= n < LIMIT:
        raise ValueError(f"{n} is not in 0 to {LIMIT - 1}")


def english(n: int) -> str:
    """1,234 is "one thousand two hundred thirty-four". ValueError outside 0 to 999,999,999."""
    _check(n)
    if n == 0:
        return _EN[0]
    millions, thousands, rest = n // 10**6, n // 1000 % 1000, n % 1000
    parts = [_english_below_1000(millions), "million"] if millions else []
    parts += [_english_below_1000(thousands), "thousand"] if thousands else []
    parts += [_english_below_1000(rest)] if rest else []
    return " ".join(parts)


def _english_below_1000(n: int) -> str:
    parts = [_EN[n // 100], "hundred"] if n >= 100 else []
    n %= 100
    if n >= 20:
        parts.append(_EN_TENS[n // 10] + (f"-{_EN[n % 10]}" if n % 10 else ""))
    elif n:
        parts.append(_EN[n])
    return " ".join(parts)


def spanish(n: int) -> str:
    """1.234 is "mil doscientos treinta y cuatro". ValueError outside 0 to 999,999,999.

    Before mil and millones, uno loses its o (veintiún mil); one thousand is mil, one million un millón.
    """
    _check(n)
    if n == 0:
        return _ES[0]
    millions, thousands, rest = n // 10**6, n // 1000 % 1000, n % 1000
    parts = []
    if millions:
        parts += ["un", "millón"] if millions == 1 else [_shortened(_spanish_below_1000(millions)), "millones"]
    if thousands:
        parts += ["mil"] if thousands == 1 else [_shortened(_spanish_below_1000(thousands)), "mil"]
    parts += [_spanish_below_1000(rest)] if rest else []
    return " ".join(parts)


def _spanish_below_1000(n: int) -> str:
    if n == 100:
        return "cien"
    parts = [_ES_HUNDREDS[n // 100]] if n > 100 else []
    n %= 100
    if n >= 30:
        parts.append(_ES_TENS[n // 10] + (f" y {_ES[n % 10]}" if n % 10 else ""))
    elif n:
        parts.append(_ES[n])
    return " ".join(parts)


def _shortened(words: str) -> str:
    """Apocope of uno before a noun: veintiuno to veintiún, treinta y uno to treinta y un."""
    if words.endswith("veintiuno"):
        return words.removesuffix("veintiuno") + "veintiún"
    return words.removesuffix("o") if words.endswith("uno") else words


SPELL = {"en": english, "es": spanish}


def sample(size: int, limit: int, seed: int) -> list[int]:
    """`size` distinct numbers below `limit`, the same for the same seed. ValueError where there are not so many.

    Half of them are drawn evenly, half by their count of digits first, so that short numbers are met too.
    """
    if not 0 < limit <= LIMIT:
        raise ValueError(f"limit ({limit}) must be in 1 to {LIMIT}")
    if size > limit:
        raise ValueError(f"there are no {size} distinct numbers below {limit}")
    draw = random.Random(seed)
    digits = range(1, len(str(limit - 1)) + 1)
    found: dict[int, None] = {}  # in the order they came
    for _ in range(size // 2):
        found[draw.randrange(min(limit, 10 ** draw.choice(digits)))] = None
    while len(found) < size:
        found[draw.randrange(limit)] = None
    numbers = list(found)
    draw.shuffle(numbers)
    return numbers
