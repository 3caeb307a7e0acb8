"""Given captions of a validation split: how they are read out."""

from __future__ import annotations

import pytest
import torch

from attend.config.text import from_dict
from attend.data.batches import Batches
from attend.data.prepared import Prepared
from attend.encoder.features import ensure_store
from attend.evaluation.teacher_forced import TeacherForced, teacher_forced
from attend.model import Model
from attend.runs.processes import accelerator
from tests import halves


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
@pytest.mark.parametrize("decode", ["expected", "sample"])
def test_given_captions_are_read_out_in_the_precision_of_the_run_and_without_a_gradient(
    tmp_path, decode, precision, dtype
):
    """Also where the reader of the minibatches has gradients and no autocast, as the loop has."""
    data = halves.write(tmp_path, splits=(4, 6, 0))
    train = halves.SMALL["train"] | {"precision": precision}
    config = from_dict(halves.SMALL | {"data": str(data), "train": train})
    dataset = Prepared(str(data))
    model = Model.build(config, dataset.vocabulary)
    batches = Batches(dataset, ensure_store(dataset, model.encoder, torch.device("cpu")))
    given = TeacherForced(dataset, boxes=False)
    for batch, u in teacher_forced(model, batches, dataset.rows("val"), accelerator(), decode):
        given.add(batch, u)
        assert u.logits.dtype == dtype and not u.logits.requires_grad and not u.cost.requires_grad
    assert given.scores()["given"]["nll"] > 0
