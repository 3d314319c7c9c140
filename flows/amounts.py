"""Times and shares as people type them."""

import re

from tasks.contract.errors import OptionWrong


def hours(field: str, text: str) -> float:
    """`24h`, `30m` or `2d` as hours.

    Raises:
        OptionWrong: it is none of these, or more than a year.

    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", text)
    number = float(found[1]) * {"m": 1 / 60, "h": 1, "d": 24}[found[2]] if found else 0.0
    if found is None or number > 8760:
        raise OptionWrong(field, text, "say it as 30m, 24h or 7d, up to a year")
    return number


def share(field: str, text: str) -> float:
    """`95%` or `0.95` as a number.

    Raises:
        OptionWrong: it is neither, or no share.

    """
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise OptionWrong(field, text, "say it as 95%, or 0.95")
    return number
