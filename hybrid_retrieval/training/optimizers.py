"""AdamW for dense and row-sparse gradients, gradient clipping for both, and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR

from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.models.encoder import Backbone
from hybrid_retrieval.models.kernels import lazy_tables
from hybrid_retrieval.values import NotNegative, Part, Positive, Range, Share, check


class RowSparseAdamW(torch.optim.AdamW):
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) that also takes row-sparse gradients.

    In a parameter group with ``lazy`` (the default), a row is updated in the steps in which it has a gradient, and only then:
    its moments, its weight decay and its bias correction (by the row's own count of updates) stand still in between. When
    every row has a gradient in every step this is AdamW itself. Without ``lazy`` it is AdamW itself always: rows without a
    gradient have one of 0.
    """

    def __init__(self, params: Any, lr: float, lazy: bool = True, **rest: Any) -> None:
        """
        Args:
            lazy: what a parameter group does that does not say.
            rest: see `torch.optim.AdamW`.
        """
        super().__init__(params, lr, fused=True, **rest)
        for group in self.param_groups:
            group.setdefault("lazy", lazy)
        self._dense: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        spread: list[tuple[Tensor, Tensor]] = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    gradient = parameter.grad.coalesce()
                    if group["lazy"]:
                        self._update_rows(parameter, gradient, group)
                        parameter.grad = None
                    else:
                        spread.append((parameter, gradient.indices()[0]))
                        parameter.grad = self._spread(parameter, gradient)
        super().step()
        for parameter, rows in spread:
            self._dense[parameter].index_fill_(0, rows, 0)
            parameter.grad = None
        return loss

    def _spread(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        """The gradient as a dense one, in a buffer that is zero elsewhere and is kept for the next step."""
        if parameter not in self._dense:
            self._dense[parameter] = torch.zeros_like(parameter)
        return self._dense[parameter].index_copy_(0, gradient.indices()[0], gradient.values())

    def _update_rows(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
            state["row_steps"] = torch.zeros(len(parameter), dtype=parameter.dtype, device=parameter.device)
        state["step"] += 1
        rows, values = gradient.indices()[0], gradient.values()
        beta1, beta2 = group["betas"]
        steps = state["row_steps"][rows] + 1
        mean = state["exp_avg"].index_select(0, rows).lerp_(values, 1 - beta1)
        square = state["exp_avg_sq"].index_select(0, rows).mul_(beta2).addcmul_(values, values, value=1 - beta2)
        for name, changed in (("row_steps", steps), ("exp_avg", mean), ("exp_avg_sq", square)):
            state[name].index_copy_(0, rows, changed)
        correction1, correction2 = (1 - beta**steps for beta in (beta1, beta2))
        denominator = square.sqrt_().div_(correction2.sqrt()[:, None]).add_(group["eps"])
        update = mean.div_(denominator).mul_((group["lr"] / correction1)[:, None])
        kept = parameter.index_select(0, rows).mul_(1 - group["lr"] * group["weight_decay"])
        parameter.index_copy_(0, rows, kept.sub_(update))


def clip_gradients(parameters: Iterable[Tensor], largest: float) -> Tensor:
    """Scale gradients, row-sparse and sharded ones too, so that their global L2 norm is at most `largest`; the norm before.

    With sharded gradients a collective operation.
    """
    gradients, shards = [], []
    for parameter in parameters:
        if isinstance(parameter.grad, DTensor):
            shards.append(parameter.grad.to_local())
        elif parameter.grad is not None:
            if parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()
            gradients.append(parameter.grad.values() if parameter.grad.is_sparse else parameter.grad)
    if not gradients and not shards:
        return torch.zeros(())
    norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
    if shards:
        square = torch.stack([torch.linalg.vector_norm(shard) for shard in shards]).square().sum()
        dist.all_reduce(square)
        norms.append(square.sqrt())
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    torch._foreach_mul_([*gradients, *shards], (largest / (norm + 1e-6)).clamp(max=1.0))
    return norm


@dataclass(frozen=True)
class AdamW:
    """Config: AdamW with warm-up and decay; no weight decay on biases, norms and scalars."""

    lr: Positive
    """Peak learning rate."""
    weight_decay: NotNegative = 0.01
    betas: list[Annotated[float, Range(0, 1, below=True)]] = field(default_factory=lambda: [0.9, 0.999])
    eps: Positive = 1e-8
    warmup: Share = 0.1
    """Share of the steps in which the rate rises from 0."""
    schedule: str = "linear"
    """After the warm-up: linear or cosine to 0, or constant."""
    layer_decay: Part = 1.0
    """The rate of a layer as a share of that of the layer above it (as in ELECTRA, arXiv 2003.10555, appendix A)."""

    def __post_init__(self) -> None:
        check(type(self), vars(self), "optimizer")
        if len(self.betas) != 2:
            raise InputError(f"optimizer.betas={self.betas}; expected two numbers")
        choice("optimizer.schedule", self.schedule, SCHEDULES)

    def configure(self, module: nn.Module, max_steps: int) -> tuple[RowSparseAdamW, LambdaLR]:
        """The optimizer of a module's trainable parameters, and its schedule (stepped once a step).

        The parameters of each child of the module are in groups of their own: an encoder may be sharded, its loss is not.
        """
        above, lazy = self._layers_above(module), lazy_tables(module)
        members: dict[tuple[int, float, bool, str], list[Tensor]] = {}
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                decay = 0.0 if parameter.ndim < 2 else self.weight_decay
                child = name.partition(".")[0]
                members.setdefault((above.get(parameter, 0), decay, name in lazy, child), []).append(parameter)
        groups = [
            {"params": parameters, "lr": self.lr * self.layer_decay**layers, "weight_decay": decay, "lazy": lazy}
            for (layers, decay, lazy, _), parameters in sorted(members.items(), key=lambda item: item[0][0])
        ]
        betas = (self.betas[0], self.betas[1])
        optimizer = RowSparseAdamW(groups, self.lr, betas=betas, eps=self.eps)
        return optimizer, LambdaLR(optimizer, lambda step: self.factor(step, max_steps))

    def _layers_above(self, module: nn.Module) -> dict[Tensor, int]:
        """The number of layers above each parameter that is not trained at the peak rate."""
        if self.layer_decay == 1:
            return {}
        backbones = [part for part in module.modules() if isinstance(part, Backbone)]
        return {parameter: above for part in backbones for parameter, above in part.layers_above().items()}

    def factor(self, step: int, max_steps: int) -> float:
        """The learning rate at a step, as a share of its peak."""
        rising = round(self.warmup * max_steps)
        if step < rising:
            return (step + 1) / rising
        return SCHEDULES[self.schedule]((step - rising) / max(1, max_steps - rising))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": lambda progress: max(0.0, 1 - progress),
    "cosine": lambda progress: (1 + math.cos(math.pi * min(1.0, progress))) / 2,
    "constant": lambda progress: 1.0,  # noqa: ARG005
}
