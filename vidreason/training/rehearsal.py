"""Running real code without values, to know how much memory it would take.

Under a :class:`Rehearsal` tensors have shapes, number types and lifetimes, but no contents: a step
of an 8-billion-parameter model is rehearsed on any machine within seconds. Forward and backward
passes and the optimizer are those of training, so what they keep alive is what training keeps.
"""

import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import masking_utils
from typing_extensions import override


class Rehearsal(TorchDispatchMode):
    """A context in which new tensors have no contents, and their bytes are counted.

    Where code asks for a value, it gets the answer that usually costs most: every condition on a
    tensor holds, and every entry of a tensor counts as non-zero.

    All tensors are on a pretended CPU, whose attention and mixed precision keep what a GPU's do:
    fused attention keeps its inputs, its output and one number a row. Transformers looks whether
    several texts are packed into a row, and takes the answer for unknown where there are no
    contents: it would keep masks that no real step has. Here no padded row holds several.

    Attributes:
        live_bytes: Held by the tensors that are alive now.
        peak_bytes: The highest ``live_bytes`` since :meth:`reset_peak`.

    Args:
        all_nonzero: False lets no entry of a tensor count as non-zero.
    """

    def __init__(self, *, all_nonzero: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.all_nonzero = all_nonzero
        self.live_bytes = 0
        self.peak_bytes = 0
        self._fake = FakeTensorMode()
        self._storages: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __enter__(self) -> "Rehearsal":
        self._find_packed = masking_utils.find_packed_sequence_indices
        masking_utils.find_packed_sequence_indices = lambda position_ids: None
        self._fake.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)  # type: ignore[no-untyped-call]
        self._fake.__exit__(kind, error, traceback)
        masking_utils.find_packed_sequence_indices = self._find_packed

    def reset_peak(self) -> None:
        """Let the peak start from what is alive now."""
        self.peak_bytes = self.live_bytes

    def give_shapes(self, module: nn.Module) -> None:
        """Move a module from the meta device into the rehearsal, as it would be on a device.

        Args:
            module: Its parameters and buffers are replaced; shared ones stay shared.
        """
        moved: dict[int, Tensor] = {}
        for part in module.modules():
            for tensors in (part._parameters, part._buffers):
                for name, tensor in tensors.items():
                    if tensor is not None:
                        if id(tensor) not in moved:
                            moved[id(tensor)] = _like(tensor)
                        tensors[name] = moved[id(tensor)]  # type: ignore[assignment]

    @override
    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        aten = torch.ops.aten
        # Fake tensors have no values: where one is asked for, a condition holds and a number is 1.
        if func is aten._local_scalar_dense.default:
            return args[0].dtype == torch.bool or 1.0
        if func is aten.nonzero.default:
            outputs = self._nonzero(args[0])
        else:
            if func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
                args = (args[0], self._without_masks(args[1]), *args[2:])
            outputs = func(*args, **(kwargs or {}))
        # Views share a storage, which counts once.
        for output in tree_leaves(outputs):
            if isinstance(output, Tensor):
                self._count(output.untyped_storage())
        return outputs

    def _nonzero(self, tensor: Tensor) -> Tensor:
        """A row of indices for each entry, or no row."""
        rows = tensor.numel() if self.all_nonzero else 0
        return torch.empty(rows, tensor.dim(), dtype=torch.int64, device="cpu")

    def _without_masks(self, indices: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Indices in which each mask is replaced by the places of its non-zero entries."""
        expanded: list[Tensor | None] = []
        for index in indices:
            if index is not None and index.dtype == torch.bool:
                # an index tensor for each dimension of the mask
                expanded += self._nonzero(index).unbind(1)
            else:
                expanded.append(index)
        return expanded

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata  # the storage itself; Python may see it as several objects
        if key in self._storages:
            return
        size = storage.nbytes()

        def forget(_: object) -> None:
            del self._storages[key]
            self.live_bytes -= size

        # The storage itself tells when it is freed.
        self._storages[key] = weakref.ref(storage, forget)
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)


def _like(tensor: Tensor) -> Tensor:
    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty
