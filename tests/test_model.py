"""A model read from its run folder: what it needs beside the checkpoint, and checkpoints that are none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from attend import config
from attend.config.text import from_dict, to_dict
from attend.data.prepared import Prepared
from attend.encoder.encoder import Encoder
from attend.model import Model
from attend.runs.checkpoint import KIND, read_checkpoint, write_checkpoint
from attend.runs.files import write_json
from attend.runs.folder import RunFolder
from tests import halves


def a_run(folder: Path, encoder: dict) -> Model:
    """The folder of a run with a checkpoint whose numbers all differ from those that training starts with."""
    made = halves.write(folder / "data", splits=(2, 1, 1))
    wanted = from_dict(halves.SMALL | {"data": str(made), "encoder": halves.SMALL["encoder"] | encoder})
    shutil.copy(made / "vocabulary.json", folder)
    write_json(folder / "config.json", to_dict(wanted))
    model = Model.build(wanted, Prepared(made).vocabulary)
    for tensor in model.tensors().values():
        tensor += 1
    write_checkpoint(folder / "checkpoint/best.safetensors", model.tensors(), model.identity())
    return model


@pytest.fixture()
def weights(tmp_path):
    """A file of weights for the encoder."""
    path = tmp_path / "w.safetensors"
    save_file(Encoder(config.Encoder(**halves.SMALL["encoder"]), seed=3).backbone.state_dict(), path)
    return path


def test_a_tuned_run_needs_no_weights_but_its_own(tmp_path, weights):
    trained = a_run(tmp_path, {"weights": str(weights), "tune_blocks": 1})
    weights.unlink()
    model = Model.read(RunFolder(tmp_path))
    assert model.config == trained.config
    assert all(torch.equal(tensor, model.tensors()[name]) for name, tensor in trained.tensors().items())


def test_features_that_are_normalised_forget_their_scale(tmp_path):
    """Each location has mean 0 and deviation 1, by hand and whatever its scale; features as they are stay so."""
    plain, layered = (a_run(tmp_path / name, {"normalise": name}) for name in ("none", "layer"))
    stored = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0)).half()
    found = layered.features(stored)
    deviation = (stored.float().var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    by_hand = (stored.float() - stored.float().mean(-1, keepdim=True)) / deviation
    assert found.dtype == torch.float32 and torch.allclose(found, by_hand, atol=1e-5)
    assert torch.allclose(layered.features(4 * stored + 1), found, atol=5e-3)
    assert torch.equal(plain.features(stored), stored.float())


def test_a_frozen_run_needs_the_weights_it_was_trained_on(tmp_path, weights):
    a_run(tmp_path, {"weights": str(weights)})
    Model.read(RunFolder(tmp_path))
    weights.unlink()
    with pytest.raises(ValueError, match=r"w\.safetensors' is no file"):
        Model.read(RunFolder(tmp_path))


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({}, "is a safetensors file but no checkpoint of attend"),
        ({"kind": KIND}, "does not say what it was trained with: restore it or train again"),
        ({"kind": KIND, "state": "{}"}, "does not say what it was trained with: restore it or train again"),
        ({"kind": KIND, "state": '{"vocabulary": "x"}'}, "does not say what it was trained with"),
        ({"kind": KIND, "state": "[]"}, "does not say what it was trained with"),
        ({"kind": KIND, "state": "{"}, "does not say what it was trained with: restore it or train again"),
    ],
)
def test_a_checkpoint_without_a_sound_header_is_refused(tmp_path, about, said):
    path = tmp_path / "best.safetensors"
    save_file({"a": torch.ones(2)}, path, metadata=about)
    with pytest.raises(ValueError, match=f"{path} {said}"):
        read_checkpoint(path)


def test_a_checkpoint_of_a_run_that_was_lost_while_it_was_written_is_not_put_in_place(tmp_path):
    """A process may be frozen between its look at the lease and the end of its write."""
    path = tmp_path / "last.safetensors"
    write_checkpoint(path, {"a": torch.zeros(2)}, {"step": 1})
    before = path.read_bytes()

    def lost():
        assert list(tmp_path.glob("*.partial")), "asked before all was written"
        raise RuntimeError("taken over")

    with pytest.raises(RuntimeError, match="taken over"):
        write_checkpoint(path, {"a": torch.ones(2)}, {"step": 2}, lost)
    assert path.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == [path.name]
