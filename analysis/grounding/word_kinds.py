"""The kind of each word of a caption: function word, noun, verb, adjective or another.

Function words are a closed class, so they are a list. All else asks the tagger of TextBlob, whose lexicon and rules
come in its wheel: no download. It was made for newspapers; three rules mend what it takes for a noun or a verb in
captions, and docs/saccades.md says how often the kinds are right.

Source: De Smedt and Daelemans (2012), Pattern for Python (its tagger, after Brill, 1992).
"""

from collections.abc import Sequence
from functools import lru_cache

KINDS = ("noun", "adjective", "verb", "function", "other")
LISTED = (
    # articles and other determiners
    "a an the this that these those some any each every another other both all no its his her their our my your",
    # prepositions and particles
    "about above across after against along among amongst around as at before behind below beneath beside between",
    "beyond by down during for from in inside into near of off on onto out outside over past through throughout to",
    "toward towards under underneath up upon while with within without",
    # conjunctions, pronouns and the possessive's ending
    "and or but nor so than if it he she they them him himself herself itself themselves who which what where there 's",
    # auxiliaries and negation
    "is are was were be been being am has have had do does did can could will would may might must not n't",
)
FUNCTION = frozenset(word for words in LISTED for word in words.split())
"""Words that say how others hang together and that nothing in a picture looks like."""
TAGS = {"NN": "noun", "VB": "verb", "JJ": "adjective"}
"""The first two letters of the Penn Treebank's tags -> kinds."""
ARTICLES = frozenset(["a", "an", "the"])


def word_kinds(words: Sequence[str]) -> list[str]:
    """One of KINDS for each word, read in its caption. Numbers, adverbs and words of no known class are ``other``."""
    if not words:
        return []
    tags = _tagged(" ".join(words))
    if len(tags) != len(words):  # a word that the tagger splits: every word is then read on its own
        tags = tuple(next(iter(_tagged(word)), "") for word in words)
    found = zip(words, _mended(words, tags), strict=True)
    return ["function" if word in FUNCTION else TAGS.get(tag[:2], "other") for word, tag in found]


@lru_cache(maxsize=65536)
def _tagged(caption: str) -> tuple[str, ...]:
    from textblob.en import tag

    return tuple(tagged for _, tagged in tag(caption, tokenize=False))


def _mended(words: Sequence[str], tags: Sequence[str]) -> list[str]:
    """The tags, with three rules for what follows an article and its adjectives.

    A verb there is a participle before a noun (a crowded airplane) and else a noun (the black cross), unless it ends
    in -ing; and a noun followed by one more with -s is the subject of a verb (a dog jumps).
    """
    mended, opened, noun = [], False, ""  # within article and adjectives; the noun that has just ended them
    for word, tag, following in zip(words, tags, [*tags[1:], ""], strict=True):
        if opened and tag[:2] == "VB":
            participle = following[:2] == "NN" and tag in ("VBN", "VBD", "VBG")
            tag = "JJ" if participle else tag if tag == "VBG" else "NN"
        elif noun in ("NN", "NNP") and tag == "NNS":
            tag = "VBZ"
        mended.append(tag)
        noun = tag if opened and tag[:2] == "NN" else ""
        opened = word in ARTICLES or (opened and tag[:2] in ("JJ", "CC"))
    return mended
