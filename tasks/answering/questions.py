"""What kind of answer a question asks for, by its words: a few rules for English and Chinese, else none in particular.

Rules in order; the first that holds decides. A question of another language has the type `other`, and answers of that
type are not restricted by anything but their rows' being `other` as well.
"""

from __future__ import annotations

import re
import unicodedata

TYPES = ("yes/no", "count", "colour", "where", "when", "who", "how", "what", "other")
"""All types that the rules know."""

_VERBS = "is|are|was|were|am|do|does|did|has|have|had|can|could|will|would|should|must|may|isn't|aren't|doesn't|don't"
_RULES = (
    ("count", r"^(and |so )?how (many|much|any)\b|\bnumber of\b|多少|几[个只头条张辆位座本]|有几"),
    ("colour", r"^\W*(what|which|of what|in what)( is| are|'s)?( the)? (colou?rs?|solor)\b|颜色|什么色"),
    ("where", r"^where\b|哪里|哪儿|在哪|什么地方"),
    ("when", r"^(when\b|what time)|什么时候|几点|何时"),
    ("who", r"^(who|whose|whom)\b|谁"),
    ("yes/no", rf"^({_VERBS})\b|[吗嘛]\W*$|是否|是不是|有没有|能不能"),
    ("how", r"^(how|why)\b|为什么|怎么|怎样"),
    ("what", r"^\W*(in |on |at |of |from |to |with |under |behind )?(what|which|what's|whats|waht)\b|什么|哪"),
)
_COMPILED = tuple((name, re.compile(rule)) for name, rule in _RULES)


def question_type(question: str, declared: str | None = None) -> str:
    """The type of a question: what the data declares, else one of `TYPES`.

    >>> [question_type(one) for one in ("How many cups?", "is it red?", "what color is it", "这是什么?", "¿Qué es?")]
    ['count', 'yes/no', 'colour', 'what', 'other']
    """
    if declared:
        return declared
    text = unicodedata.normalize("NFKC", question).casefold().strip()
    return next((name for name, rule in _COMPILED if rule.search(text)), "other")
