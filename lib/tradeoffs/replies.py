"""What a reply to the game means: one of the three numbers, a refusal, or nothing to be counted."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

CHOICES = ("1", "2", "3")
CATEGORIES = (*CHOICES, "refusal", "ambiguous", "error")
DENOMINATORS = {"choices": CHOICES, "all": CATEGORIES}


class Reply(NamedTuple):
    """What a subject answered, and how its answer ended.

    `finish_reason` is that of OpenAI's chat interface: "stop", "length" if the answer was cut off,
    "content_filter". `usage` are the tokens of the whole request; if that brought several replies,
    the first of them carries it. `model` is the name that the server gave.
    """

    text: str
    finish_reason: str = "stop"
    usage: dict[str, int] | None = None
    model: str = ""


def parse(reply: Reply) -> str:
    """One of `CATEGORIES`: the number that was chosen, or why none can be counted.

    As in Section 2 of the paper: a reply with one of the digits 1, 2, 3 is that choice, however
    often it says so ("2.", "**2**", "Option 2", "２"); a reply without any is a refusal. That holds
    for a refusal that names one number, too: read some replies. The rest the paper judged by hand:

    - several different digits, or a number that is chosen in letters ("two", "I choose two"):
      "ambiguous", never silently a choice;
    - a digit inside another number (10, 3.5, 23, 3%, "1 to 10", "2 out of 10", H2O) is no choice;
    - what stands before the end of a thought, `</think>`, is not part of the answer;
    - the same digit three times with nothing but commas and spaces between, "3, 3, 3": a model that
      is caught in a loop, "error";
    - cut off by the limit of tokens ("length"): without a digit, or in the middle of a thought, it
      is our limit that has failed, "error"; with a digit it is a choice if it opens with it, and
      otherwise "ambiguous", as the rest of the reasoning is not known;
    - no text: neither a choice nor a refusal was seen, as all tokens may have gone into hidden
      reasoning, so "error";
    - what the server itself marks as refused or filtered ("content_filter"): "refusal".
    """
    text = unicodedata.normalize("NFKC", reply.text)
    text = _THOUGHTS.sub("", text).strip()
    if reply.finish_reason == "content_filter":
        return "refusal"
    if not text or _UNFINISHED_THOUGHT.search(text) or _LOOP.search(text):
        return "error"
    cut = reply.finish_reason == "length"
    found = _choices_in(text)
    if not found:
        if _WORD.search(text):
            return "ambiguous"
        return "error" if cut else "refusal"
    opens = re.match(rf"[\W_]*{found[0]}", text)
    if len(set(found)) > 1 or (cut and not opens):
        return "ambiguous"
    return found[0]


def tally(categories: Iterable[str]) -> Integer[np.ndarray, " 6"]:
    """How many replies fall into each of `CATEGORIES`."""
    places = [CATEGORIES.index(category) for category in categories]
    return np.bincount(np.array(places, np.int64), minlength=len(CATEGORIES))


def valid_replies(
    tallies: Integer[np.ndarray, "*batch 6"], denominator: str
) -> Integer[np.ndarray, "*batch"]:
    """Of how many replies the share of 3 is taken.

    Of the choices ("choices"), as the paper did; or of all replies ("all"), as if whoever did not
    choose would not have chosen 3.

    Raises ValueError for another `denominator`.
    """
    if denominator not in DENOMINATORS:
        known = ", ".join(map(repr, DENOMINATORS))
        raise ValueError(f"denominator={denominator!r} is not known: use one of {known}")
    places = [CATEGORIES.index(category) for category in DENOMINATORS[denominator]]
    return tallies[..., places].sum(-1)


_THOUGHTS = re.compile(r".*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_UNFINISHED_THOUGHT = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_LOOP = re.compile(
    r"(?<![A-Za-z0-9]) ([1-3]) (?: [\W_]+ \1 ){2,} (?![A-Za-z0-9])"  # 3, 3, 3
    r"| \A ([1-3]) \2{2,} [\W_]* \Z",  # 333
    re.VERBOSE,
)
_WORD = re.compile(
    r"(?:\A|\b(?:choose|pick|select|option|number|answer(?: is)?))[\W_]*\b(?:one|two|three)[\W_]*\Z"
    r"|\b(?:choose|pick|select|option|number)[ ](?:one|two|three)\b(?! of)",
    re.IGNORECASE,
)
# numbers and what joins them into one: 3.5, 1,000, 2:30, 1/10, 1-10, 1 to 10, 2 out of 10. The
# group is atomic, or "3.5%" would be read as 3. Only Latin letters touch: "选择3" is a choice.
_NUMBERS = re.compile(
    r"""(?<![A-Za-z0-9])
    (?> [0-9]+ (?: (?: [.,:] | [ ]*[/⁄–—-][ ]* | [ ]+ (?:to | (?:out[ ])?of) [ ]+ ) [0-9]+ )* )
    (?! [A-Za-z0-9] | [ ]?% )""",
    re.VERBOSE,
)


def _choices_in(text: str) -> list[str]:
    """The digits 1, 2, 3 of a text that are not part of another number, in order."""
    text = re.sub(r"between ([0-9]+) and ([0-9]+)", r"\1-\2", text, flags=re.IGNORECASE)
    found = []
    for match in _NUMBERS.finditer(text):
        parts = re.findall("[0-9]+", match[0])
        if "." not in match[0] and set(parts) <= set(CHOICES):  # "1,2,3" and "1-3" name options
            found += parts
    return found
