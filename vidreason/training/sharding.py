"""The reasoner cut over the processes of a run (FSDP2), or compiled: both go block by block.

No process has a copy of the frozen weights: transformers builds the language model on the meta
device and maps its files into memory (:mod:`vidreason.reasoning.language_model`), and of each unit
that is cut here a process copies its own part to its device; the file's pages are the system's, one
set for all processes of a machine. What trains is drawn as on one device, from the same seed.
"""

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from vidreason.model import VideoReasoner
from vidreason.reasoning.language_model import causal_lm


def blocks(module: nn.Module) -> list[nn.Module]:
    """Return the members of the outermost stacks in ``module``: fusion blocks, decoder layers."""
    outermost: list[nn.Module] = []
    for child in module.children():
        outermost += child if isinstance(child, nn.ModuleList) else blocks(child)
    return outermost


def compile_blocks(reasoner: VideoReasoner) -> None:
    """Let ``torch.compile`` make kernels of each block, for lengths that differ from step to step.

    Names of parameters stay as they are. What lies around the blocks picks target positions by
    their values, which no kernel can be made of beforehand.
    """
    for block in blocks(reasoner):
        block.compile(dynamic=True)


def shard_units(reasoner: VideoReasoner) -> list[nn.Module]:
    """Return the units that are gathered at once: blocks, word embeddings, output layer.

    Tied embeddings are left to the root, which stays gathered through a step with the little that
    is in no unit.
    """
    units = blocks(reasoner)
    model = causal_lm(reasoner.language_model)
    embeddings = model.get_input_embeddings()
    output_layer = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if output_layer is not None and output_layer.weight is not embeddings.weight:
        units += [embeddings, output_layer]
    return units


def shard(reasoner: VideoReasoner, mesh: DeviceMesh) -> None:
    """Cut all parameters over the processes of ``mesh``, frozen and trained ones side by side.

    Parameters keep their number types: autocast, which Lightning's ``bf16-mixed`` is, rounds where
    it does so on one device. Gradients are summed over the processes in float32.
    """
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    # The root last: it takes all that is in no unit.
    for unit in [*shard_units(reasoner), reasoner]:
        fully_shard(unit, mesh=mesh, mp_policy=policy)
