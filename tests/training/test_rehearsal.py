"""A rehearsal counts the bytes that real tensors take, and answers what code asks of them."""

import copy
import weakref

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaForCausalLM

from vidreason.training.rehearsal import Rehearsal

SIZES = {"vocab_size": 256, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3}


class CountRealBytes(TorchDispatchMode):
    """Counts what lives in real tensors that operations give."""

    def __init__(self):
        super().__init__()
        self.live, self.peak, self.seen = 0, 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        outputs = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(outputs):
            if isinstance(tensor, torch.Tensor):
                self.count(tensor.untyped_storage())
        return outputs

    def count(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key in self.seen:
            return

        def forget(_):
            del self.seen[key]
            self.live -= size

        self.seen[key] = weakref.ref(storage, forget)
        self.live += size
        self.peak = max(self.peak, self.live)


def llama():
    model = LlamaForCausalLM(
        LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **SIZES)
    ).requires_grad_(False)
    model.model.layers[0].mlp.requires_grad_(True)
    return model


def step(model, optimizer, *, padded=True, device="cpu"):
    embeddings = torch.zeros(4, 40, 64, device=device, requires_grad=True)
    mask = None
    if padded:
        mask = torch.ones(4, 40, dtype=torch.int64, device=device)
        mask[0, -1] = 0
    logits = model(inputs_embeds=embeddings, attention_mask=mask, use_cache=False).logits
    targets = torch.zeros(160, dtype=torch.int64, device=device)
    loss = cross_entropy(logits.flatten(0, 1), targets, reduction="sum")
    del logits
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def adamw(model):
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])


# With a mask attention repeats keys and values for each head, and keeps the mask; without, neither.
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.slow
def test_it_counts_what_real_tensors_take(padded):
    model = llama()
    meta = copy.deepcopy(model).to("meta")
    with Rehearsal() as rehearsal:
        rehearsal.give_shapes(meta)
        weights = rehearsal.live_bytes
        assert weights == sum(t.nbytes for t in [*model.parameters(), *model.buffers()])
        optimizer = adamw(meta)
        for _ in range(2):
            step(meta, optimizer, padded=padded)
        trained = sum(p.nbytes for p in meta.parameters() if p.requires_grad)
        assert 0 <= rehearsal.live_bytes - weights - 2 * trained < 100  # the two means, and steps
    optimizer = adamw(model)
    with CountRealBytes() as real:
        for tensor in (*model.parameters(), *model.buffers()):
            real.count(tensor.untyped_storage())
        for _ in range(2):
            step(model, optimizer, padded=padded)
    assert rehearsal.peak_bytes == pytest.approx(real.peak, rel=0.03)


def test_mixed_precision_keeps_less():
    peaks = []
    for enabled in (False, True):
        with torch.device("meta"):
            layers = torch.nn.Sequential(*[torch.nn.Linear(64, 64) for _ in range(4)])
        with Rehearsal() as rehearsal:
            rehearsal.give_shapes(layers)
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                kept = layers(torch.empty(1000, 64))
            peaks.append(rehearsal.live_bytes)
            assert kept.dtype == (torch.bfloat16 if enabled else torch.float32)
    assert peaks[1] < 0.8 * peaks[0]


def test_values_that_are_asked_for_are_those_that_cost_most():
    with Rehearsal():
        labels = torch.empty(3, 5, dtype=torch.int64)
        assert (labels != 0).all()
        rows, columns = (labels != 0).nonzero(as_tuple=True)
        assert rows.shape == columns.shape == (15,)
        assert labels[labels != 0].shape == (15,)
        labels[labels == 7] = 0
    with Rehearsal(all_nonzero=False):
        labels = torch.empty(3, 5, dtype=torch.int64)
        assert labels[labels != 0].shape == (0,)


def test_shared_parameters_stay_shared():
    with torch.device("meta"):
        config = LlamaConfig(num_attention_heads=4, tie_word_embeddings=True, **SIZES)
        model = LlamaForCausalLM(config)
    with Rehearsal() as rehearsal:
        rehearsal.give_shapes(model)
        assert model.lm_head.weight is model.model.embed_tokens.weight
        expected = sum(t.nbytes for t in [*model.parameters(), *model.buffers()])
        assert rehearsal.live_bytes == expected


@pytest.mark.gpu
def test_a_gpu_takes_what_was_rehearsed():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    torch.manual_seed(0)
    sizes = SIZES | {"hidden_size": 64, "num_hidden_layers": 24, "intermediate_size": 4096}
    model = LlamaForCausalLM(LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **sizes))
    meta = copy.deepcopy(model).to("meta")
    with Rehearsal() as rehearsal:
        rehearsal.give_shapes(meta)
        optimizer = adamw(meta)
        for group in optimizer.param_groups:
            group["foreach"] = True  # torch's choice on a GPU
        for _ in range(2):
            step(meta, optimizer)
    # Libraries take their working memory, up to 32 MB, at the first product of each thread.
    side = torch.ones(64, 64, device="cuda", requires_grad=True)
    (side @ side).sum().backward()
    del side
    before = torch.cuda.memory_allocated()
    model = model.cuda()
    torch.cuda.reset_peak_memory_stats()
    optimizer = adamw(model)
    for _ in range(2):
        step(model, optimizer, device="cuda")
    measured = torch.cuda.max_memory_allocated() - before
    assert measured > 100e6
    assert rehearsal.peak_bytes == pytest.approx(measured, rel=0.15)
