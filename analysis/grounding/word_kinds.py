"""The kind of each word of a caption: function word, noun, verb, adjective or other.

Function words are a closed class, so they are a list. TextBlob tags all other words; its lexicon and rules are part of
its wheel, so nothing is downloaded. It was made for newspapers. Three rules correct its nouns and verbs in captions,
and docs/saccades.md reports the accuracy.

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
"""Words with a grammatical role, which name nothing in a picture."""
TAGS = {"NN": "noun", "VB": "verb", "JJ": "adjective"}
"""The first two letters of the Penn Treebank's tags -> kinds."""
ARTICLES = frozenset(["a", "an", "the"])


def word_kinds(words: Sequence[str]) -> list[str]:
    """One of KINDS for each word of a caption. Numbers, adverbs and words of unknown class are ``other``."""
    if not words:
        return []
    tags = _tagged(" ".join(words))
    if len(tags) != len(words):  # the tagger split a word, so every word is tagged on its own
        tags = tuple(next(iter(_tagged(word)), "") for word in words)
    pairs = zip(words, _corrected(words, tags), strict=True)
    return ["function" if word in FUNCTION else TAGS.get(tag[:2], "other") for word, tag in pairs]


@lru_cache(maxsize=65536)
def _tagged(caption: str) -> tuple[str, ...]:
    from textblob.en import tag

    return tuple(tagged for _, tagged in tag(caption, tokenize=False))


def _corrected(words: Sequence[str], tags: Sequence[str]) -> list[str]:
    """The tags after three corrections of the word that follows an article and its adjectives.

    A verb there is a participle if a noun follows (a crowded airplane), else a noun (the black cross), unless it ends
    in -ing. A plural noun after a singular noun there is a verb (a dog jumps).
    """
    corrected, opened, noun = [], False, ""  # after an article and its adjectives; the noun after them
    for word, tag, following in zip(words, tags, [*tags[1:], ""], strict=True):
        if opened and tag[:2] == "VB":
            participle = following[:2] == "NN" and tag in ("VBN", "VBD", "VBG")
            tag = "JJ" if participle else tag if tag == "VBG" else "NN"
        elif noun in ("NN", "NNP") and tag == "NNS":
            tag = "VBZ"
        corrected.append(tag)
        noun = tag if opened and tag[:2] == "NN" else ""
        opened = word in ARTICLES or (opened and tag[:2] in ("JJ", "CC"))
    return corrected
