"""Which class an operator or a kernel belongs to, by its name."""

from __future__ import annotations

from collections.abc import Sequence

from benchbox.schema import OperatorClass

# Whole names of aten operators, in-place and backward variants by their stem.
_WHOLE: dict[OperatorClass, str] = {
    "matmul": "mm addmm bmm baddbmm matmul linear mv addmv dot einsum _scaled_mm mkldnn_linear "
    "scaled_dot_product_attention",
    "activation": "relu clamp_min threshold gelu silu sigmoid tanh leaky_relu elu celu selu hardtanh "
    "hardswish hardsigmoid mish softplus glu log_sigmoid prelu softmax _softmax dropout native_dropout "
    "bernoulli",
    "loss": "cross_entropy_loss log_softmax _log_softmax nll_loss nll_loss_nd nll_loss2d mse_loss l1_loss "
    "smooth_l1_loss huber_loss binary_cross_entropy binary_cross_entropy_with_logits kl_div",
    "copy": "copy to _to_copy contiguous clone cat stack pin_memory",
}
_BY_NAME = {name: operator_class for operator_class, names in _WHOLE.items() for name in names.split()}
# Parts of names, looked for in this order: what a whole name does not tell.
_PARTS: tuple[tuple[OperatorClass, tuple[str, ...]], ...] = (
    (
        "communication",
        ("c10d", "nccl", "gloo", "record_param_comms", "allreduce", "all_reduce", "all_gather"),
    ),
    ("communication", ("allgather", "reduce_scatter", "broadcast_", "AllReduce", "ReduceScatter")),
    ("optimizer", ("Optimizer.", "_fused_adam", "_fused_sgd", "_foreach_", "_amp_", "FusedOptimizer")),
    ("optimizer", ("multi_tensor_apply", "multi_tensor_adam")),
    ("convolution", ("conv", "Conv", "implicit_gemm", "winograd", "wgrad", "dgrad", "fprop")),
    ("pooling", ("pool", "Pool")),
    ("matmul", ("_scaled_dot_product", "_flash_attention", "_efficient_attention", "flash_fwd", "flash_bwd")),
    ("matmul", ("gemm", "Gemm", "gemv", "cutlass", "mkldnn_linear")),
    ("normalization", ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "bn_")),
    ("loss", ("nll_loss", "log_softmax", "LogSoftMax", "cross_entropy")),
    ("copy", ("Memcpy", "Memset", "CatArray", "direct_copy")),
    ("activation", ("threshold", "softmax", "relu", "gelu", "dropout")),
)
_SUFFIXES = ("_backward_data", "_backward", "_forward", "_")


def classify(name: str) -> OperatorClass | None:
    """The class of ``aten::addmm``, ``Optimizer.step#Adam.step`` or a kernel; ``None`` if none is known."""
    stem = name.removeprefix("aten::")
    for suffix in _SUFFIXES:
        stem = stem.removesuffix(suffix)
    if stem in _BY_NAME:
        return _BY_NAME[stem]
    if name.startswith(("autograd::", "torch::autograd::")) or "linalg_vector_norm" in name:
        return None
    return next((c for c, parts in _PARTS if _has_any(name, parts)), None)


def _has_any(name: str, parts: Sequence[str]) -> bool:
    return any(part in name for part in parts)
