"""Losses over a large vocabulary without keeping its logits: of the next token, and of a teacher's distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rostok.swarm.matrix import Matrix

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK = 640  # rows whose logits exist at one time: 60 MB at 49k words in bf16
_BLOCK = 16   # rows whose logits exist in fp32: 3 MB at 49k words; 16 take 11 ms for 556 rows, 32 take 15
_LEAST = 1e-38  # a token less likely than that counts as 87 nats; NaN stays NaN


def next_token_loss(hidden: Tensor, targets: Tensor, head: Matrix) -> tuple[Tensor, Tensor]:
    """Mean loss of these rows, and its gradient with respect to `hidden`, both computed in one go.

    The gradient of a row's loss is (soft-max - one-hot) · head, so it is formed where the soft-max lies, and nothing of
    the size of the vocabulary outlives its chunk. The soft-max is taken in fp32, the products in the dtype of `hidden`.

    Args:
        hidden: (rows, width), the outputs of the final norm.
        targets: (rows,), the token that follows each row.
        head: (vocabulary, width).

    Returns:
        The loss in nats a token (0-dimensional, fp32), and its gradient, of the shape and dtype of `hidden`.
    """
    import torch

    count = len(targets)
    gradient = torch.empty_like(hidden)
    total = torch.zeros((), dtype=torch.float32)
    chunks = -(-count // _CHUNK)
    size = -(-count // chunks)  # equal chunks: a short last one would run at half the speed
    for at in range(0, count, size):
        logits = head.forward(hidden[at : at + size])
        wanted = targets[at : at + size, None]
        for top in range(0, len(logits), _BLOCK):
            part, which = logits[top : top + _BLOCK], wanted[top : top + _BLOCK]
            shares = torch.softmax(part.float(), dim=-1)
            total -= shares.gather(1, which).clamp_min(_LEAST).log().sum()
            shares.scatter_add_(1, which, torch.full(which.shape, -1.0))
            part.copy_(shares)
        gradient[at : at + size] = head.backward(logits)
    return total / count, gradient.mul_(1.0 / count)


def distillation_loss(hidden: Tensor, taught: Tensor, targets: Tensor, head: Matrix,
                      weight: float = 1.0) -> tuple[Tensor, Tensor]:
    """Mean over these rows of weight · KL(teacher || student) + (1 - weight) · next-token loss, and its gradient.

    The loss of prompt distillation (2412.14964) and Cartridges (2506.06266). The teacher's distribution is not kept but
    computed again from its final hidden states, by the same head and in the same chunk as the student's. The gradient with
    respect to the student's logits is its soft-max less weight · teacher's and (1 - weight) · one-hot.

    Args:
        hidden: (rows, width), the student's outputs of the final norm.
        taught: (rows, width), the teacher's.
        targets: (rows,), the token that follows each row.
        head: (vocabulary, width).
        weight: share of the loss that is distillation.

    Returns:
        The loss in nats a token (0-dimensional, fp32), and its gradient, of the shape and dtype of `hidden`.
    """
    import torch

    count = len(targets)
    gradient = torch.empty_like(hidden)
    total = torch.zeros((), dtype=torch.float32)
    chunks = -(-count // (_CHUNK // 2))  # two sets of logits at one time
    size = -(-count // chunks)
    for at in range(0, count, size):
        logits, wanted = head.forward(hidden[at : at + size]), targets[at : at + size, None]
        teacher = head.forward(taught[at : at + size])
        for top in range(0, len(logits), _BLOCK):
            part, which = logits[top : top + _BLOCK], wanted[top : top + _BLOCK]
            student = torch.log_softmax(part.float(), dim=-1)
            known = torch.log_softmax(teacher[top : top + _BLOCK].float(), dim=-1)
            total -= (1.0 - weight) * student.gather(1, which).sum()
            shares = known.exp()
            total += weight * torch.dot(shares.view(-1), known.sub_(student).view(-1))
            difference = student.exp_().sub_(shares, alpha=weight)
            difference.scatter_add_(1, which, torch.full(which.shape, weight - 1.0))
            part.copy_(difference)
        gradient[at : at + size] = head.backward(logits)
    return total / count, gradient.mul_(1.0 / count)
