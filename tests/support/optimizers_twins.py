"""Obviously right twins: each update rule in float64 NumPy, in its paper's own terms.

A twin is a generator ``twin(w, gradients, rates, **hyperparameters)`` for one parameter array:
it yields the array after each step. Gradients are given, so that arrays do not interact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

Array = np.ndarray
Path = Iterator[Array]


def sgd(w: Array, gradients: Array, rates: Array) -> Path:
    for g, eta in zip(gradients, rates, strict=True):
        w = w - eta * g
        yield w


def momentum(w: Array, gradients: Array, rates: Array, momentum: float) -> Path:
    v = 0.0
    for g, eta in zip(gradients, rates, strict=True):
        v = momentum * v + g
        w = w - eta * v
        yield w


def nesterov(w: Array, gradients: Array, rates: Array, momentum: float) -> Path:
    v = 0.0
    for g, eta in zip(gradients, rates, strict=True):
        v = momentum * v + g
        w = w - eta * (momentum * v + g)
        yield w


def corrected_momentum(w: Array, gradients: Array, rates: Array, momentum: float) -> Path:
    v, previous = 0.0, rates[0]
    for g, eta in zip(gradients, rates, strict=True):
        v = momentum * (eta / previous) * v + eta * g
        w, previous = w - v, eta
        yield w


def cs231n_momentum(x: Array, gradients: Array, rates: Array, momentum: float) -> Path:
    v = 0.0
    for dx, rate in zip(gradients, rates, strict=True):
        v = momentum * v - rate * dx
        x = x + v
        yield x


def cs231n_nesterov(x: Array, gradients: Array, rates: Array, momentum: float) -> Path:
    v = 0.0
    for dx, rate in zip(gradients, rates, strict=True):
        v_prev = v
        v = momentum * v - rate * dx
        x = x + (-momentum * v_prev + (1 + momentum) * v)
        yield x


def rmsprop(
    w: Array, gradients: Array, rates: Array, decay: float, momentum: float, epsilon: float
) -> Path:
    v, m = np.ones_like(w), np.zeros_like(w)
    for g, eta in zip(gradients, rates, strict=True):
        v = decay * v + (1 - decay) * g**2
        m = momentum * m + eta * g / np.sqrt(v + epsilon)
        w = w - m
        yield w


def cs231n_adagrad(x: Array, gradients: Array, rates: Array, epsilon: float) -> Path:
    cache = np.zeros_like(x)
    for dx, rate in zip(gradients, rates, strict=True):
        cache = cache + dx**2
        x = x - rate * dx / (np.sqrt(cache) + epsilon)
        yield x


def cs231n_rmsprop(x: Array, gradients: Array, rates: Array, decay: float, epsilon: float) -> Path:
    cache = np.zeros_like(x)
    for dx, rate in zip(gradients, rates, strict=True):
        cache = decay * cache + (1 - decay) * dx**2
        x = x - rate * dx / (np.sqrt(cache) + epsilon)
        yield x


def _moments(gradients: Array, beta1: float, beta2: float) -> Iterator[tuple]:
    """(t, g, m, v) of Adam, t = 1 at the first step."""
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        yield t, g, m, v


def adam(
    w: Array, gradients: Array, rates: Array, beta1: float, beta2: float, epsilon: float
) -> Path:
    for t, _, m, v in _moments(gradients, beta1, beta2):
        b = np.sqrt(1 - beta2**t) / (1 - beta1**t)
        w = w - rates[t - 1] * m / (np.sqrt(v) + epsilon) * b
        yield w


def nadam(
    w: Array, gradients: Array, rates: Array, beta1: float, beta2: float, epsilon: float
) -> Path:
    for t, g, m, v in _moments(gradients, beta1, beta2):
        b = np.sqrt(1 - beta2**t) / (1 - beta1**t)
        w = w - rates[t - 1] * (beta1 * m + (1 - beta1) * g) / (np.sqrt(v) + epsilon) * b
        yield w


def adam_uncorrected(
    x: Array, gradients: Array, rates: Array, beta1: float, beta2: float, epsilon: float
) -> Path:
    for t, _, m, v in _moments(gradients, beta1, beta2):
        x = x - rates[t - 1] * m / (np.sqrt(v) + epsilon)
        yield x


def adamw(
    w: Array,
    gradients: Array,
    rates: Array,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float = 0.0,
) -> Path:
    for t, _, m, v in _moments(gradients, beta1, beta2):
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        w = w - rates[t - 1] * (m_hat / (np.sqrt(v_hat) + epsilon) + weight_decay * w)
        yield w


def nadamw(
    w: Array,
    gradients: Array,
    rates: Array,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float = 0.0,
) -> Path:
    for t, g, m, v in _moments(gradients, beta1, beta2):
        numerator = beta1 * m / (1 - beta1 ** (t + 1)) + (1 - beta1) * g / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        w = w - rates[t - 1] * (numerator / (np.sqrt(v_hat) + epsilon) + weight_decay * w)
        yield w


def lamb(
    w: Array,
    gradients: Array,
    rates: Array,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
) -> Path:
    for t, _, m, v in _moments(gradients, beta1, beta2):
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        u = m_hat / (np.sqrt(v_hat) + epsilon) + weight_decay * w
        w = w - rates[t - 1] * np.linalg.norm(w.ravel()) / np.linalg.norm(u.ravel()) * u
        yield w


def lars(
    w: Array,
    gradients: Array,
    rates: Array,
    momentum: float,
    weight_decay: float,
    trust_coefficient: float,
) -> Path:
    v = 0.0
    for g, gamma in zip(gradients, rates, strict=True):
        w_norm, g_norm = np.linalg.norm(w.ravel()), np.linalg.norm(g.ravel())
        local_rate = trust_coefficient * w_norm / (g_norm + weight_decay * w_norm)
        v = momentum * v + gamma * local_rate * (g + weight_decay * w)
        w = w - v
        yield w


def lion(
    w: Array, gradients: Array, rates: Array, beta1: float, beta2: float, weight_decay: float
) -> Path:
    m = np.zeros_like(w)
    for g, eta in zip(gradients, rates, strict=True):
        c = beta1 * m + (1 - beta1) * g
        w = w - eta * (np.sign(c) + weight_decay * w)
        m = beta2 * m + (1 - beta2) * g
        yield w


def adafactor(w: Array, gradients: Array, rates: Array, decay_exponent: float) -> Path:
    order = np.argsort(w.shape)
    rows, columns = (int(order[-1]), int(order[-2])) if w.ndim >= 2 else (0, 0)
    r = c = v = 0.0
    for t, g in enumerate(gradients, start=1):
        rho, square = 1 - t**-decay_exponent, g**2 + 1e-30
        if w.ndim >= 2:
            r = rho * r + (1 - rho) * square.mean(axis=columns, keepdims=True)
            c = rho * c + (1 - rho) * square.mean(axis=rows, keepdims=True)
            v = r * c / r.mean(axis=rows, keepdims=True)
        else:
            v = rho * v + (1 - rho) * square
        u = g / np.sqrt(v)
        u = u / max(1.0, np.sqrt(np.mean(u**2)))
        w = w - rates[t - 1] * max(1e-3, np.sqrt(np.mean(w**2))) * u
        yield w


def muon(
    w: Array,
    gradients: Array,
    rates: Array,
    momentum: float,
    weight_decay: float,
    adam_learning_rate_factor: float,
) -> Path:
    if w.ndim < 2:
        rates = adam_learning_rate_factor * rates
        yield from adamw(w, gradients, rates, 0.9, 0.95, 1e-10, weight_decay)
        return
    buffer = np.zeros_like(w)
    outputs = w.shape[-1]
    inputs = w.size // outputs
    for g, eta in zip(gradients, rates, strict=True):
        buffer = momentum * buffer + (1 - momentum) * g
        x = (momentum * buffer + (1 - momentum) * g).reshape(inputs, outputs)
        left, singular, right = np.linalg.svd(x, full_matrices=False)
        singular = singular / (np.linalg.norm(x) or 1.0)
        for _ in range(5):
            singular = 3.4445 * singular - 4.7750 * singular**3 + 2.0315 * singular**5
        direction = ((left * singular) @ right).reshape(w.shape)
        w = w - eta * (np.sqrt(max(1.0, outputs / inputs)) * direction + weight_decay * w)
        yield w


def _root(matrix: Array, epsilon: float) -> Array:
    """Inverse fourth root, by eigenvalues, of the matrix and its ridge."""
    values, vectors = np.linalg.eigh(
        matrix + epsilon * np.linalg.norm(matrix) * np.eye(len(matrix))
    )
    return vectors @ np.diag(values**-0.25) @ vectors.T


def shampoo(w: Array, gradients: Array, rates: Array, momentum: float, epsilon: float) -> Path:
    v, h, left, right = np.zeros_like(w), 0.0, 0.0, 0.0
    for g, eta in zip(gradients, rates, strict=True):
        if w.ndim < 2:
            h = h + g**2
            direction = g / np.sqrt(h + epsilon * np.max(h))
        else:
            matrix = g.reshape(-1, w.shape[-1])
            left, right = left + matrix @ matrix.T, right + matrix.T @ matrix
            direction = (_root(left, epsilon) @ matrix @ _root(right, epsilon)).reshape(w.shape)
        v = momentum * v + direction
        w = w - eta * v
        yield w


def soap(
    w: Array,
    gradients: Array,
    rates: Array,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    refresh_steps: float,
) -> Path:
    if w.ndim < 2:
        yield from adamw(w, gradients, rates, beta1, beta2, epsilon, weight_decay)
        return
    m, v, rows, columns = 0.0, 0.0, *w.reshape(-1, w.shape[-1]).shape
    left, right, q_left, q_right = 0.0, 0.0, np.eye(rows), np.eye(columns)
    for k, (g, eta) in enumerate(zip(gradients, rates, strict=True)):
        g = g.reshape(rows, columns)
        if k > 0:
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * (q_left.T @ g @ q_right) ** 2
            turned = q_left.T @ m @ q_right / (1 - beta1**k)
            step = q_left @ (turned / (np.sqrt(v / (1 - beta2**k)) + epsilon)) @ q_right.T
            w = w - eta * (step.reshape(w.shape) + weight_decay * w)
        left = beta2 * left + (1 - beta2) * g @ g.T
        right = beta2 * right + (1 - beta2) * g.T @ g
        for _ in range(10 if k == 0 else int(k % refresh_steps == 0)):
            q_left, q_right = _power_step(left, q_left), _power_step(right, q_right)
        yield w


def _power_step(matrix: Array, basis: Array) -> Array:
    """QR of the ridged matrix times its basis."""
    size = len(matrix)
    ridge = 1e-4 * np.linalg.norm(matrix) * np.diag(np.arange(1, size + 1)) / size
    return np.linalg.qr((matrix + ridge) @ basis)[0]


def schedule_free_sgd(
    y: Array, gradients: Array, rates: Array, beta: float, weight_decay: float
) -> Path:
    yield from _schedule_free(y, rates, beta, weight_decay, iter(gradients))


def schedule_free_adamw(
    y: Array,
    gradients: Array,
    rates: Array,
    beta: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
) -> Path:
    moments = _moments(gradients, 0.0, beta2)
    directions = (g / (np.sqrt(v / (1 - beta2**t)) + epsilon) for t, g, _, v in moments)
    yield from _schedule_free(y, rates, beta, weight_decay, directions)


def _schedule_free(
    y: Array, rates: Array, beta: float, weight_decay: float, directions: Iterator[Array]
) -> Path:
    x = z = y
    total = largest = 0.0
    for eta, direction in zip(rates, directions, strict=True):
        z = z - eta * (direction + weight_decay * y)
        largest = max(largest, eta)
        total += largest**2
        c = largest**2 / total
        x = (1 - c) * x + c * z
        y = (1 - beta) * z + beta * x
        yield y


TWINS: dict[str, Callable[..., Path]] = {
    rule.__name__: rule
    for rule in (
        sgd, momentum, nesterov, corrected_momentum, cs231n_momentum, cs231n_nesterov, rmsprop,
        cs231n_adagrad, cs231n_rmsprop, adam, nadam, adam_uncorrected, adamw, nadamw, lamb, lars,
        lion, adafactor, muon, shampoo, soap, schedule_free_sgd, schedule_free_adamw,
    )
} | {"optax_adam": adamw, "optax_nadam": nadamw}  # fmt: skip
