"""Triton kernels for ``TritonOperations``; they run on CPUs, too, under ``TRITON_INTERPRET=1``."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: N803, N806 - constants of the compiler are in capitals, as Triton's own are

import triton
import triton.language as tl


@triton.jit
def _norm(v, at, inside, width, gamma, beta, alpha, eps, KIND: tl.constexpr):
    weight = tl.load(gamma + at, mask=inside, other=0.0).to(tl.float32)
    if KIND == 1:
        square = tl.sum(tl.where(inside, v * v, 0.0), axis=0) / width
        return v * tl.rsqrt(square + eps) * weight
    else:  # noqa: RET505 - Triton compiles both branches otherwise
        slope = tl.load(alpha).to(tl.float32)
        shift = tl.load(beta + at, mask=inside, other=0.0).to(tl.float32)
        return weight * (2 * tl.sigmoid(2 * slope * v) - 1) + shift


@triton.jit
def add_normalize(
    x,
    branch,
    added,
    normalized,
    local,
    gamma,
    beta,
    alpha,
    total,
    normed,
    width,
    tokens,
    memory,
    gate,
    scale,
    shift,
    eps,
    BRANCH: tl.constexpr,
    GATE: tl.constexpr,
    LOCAL: tl.constexpr,
    KIND: tl.constexpr,
    MODULATED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64)
    row = place // tokens
    at = tl.arange(0, BLOCK)
    inside = at < width
    v = tl.load(x + place * width + at, mask=inside, other=0.0).to(tl.float32)
    if BRANCH:
        b = tl.load(branch + place * width + at, mask=inside, other=0.0).to(tl.float32)
        if GATE:
            g = tl.load(added + (row * 6 + gate) * width + at, mask=inside, other=0.0)
            b = b * tl.sigmoid(1 - g.to(tl.float32))
        v += b
        if LOCAL:
            token = place % tokens
            heard = inside & (token >= memory)
            if LOCAL == 1:
                v += tl.load(local + at, mask=heard, other=0.0).to(tl.float32)
            else:
                own = row * (tokens - memory) + token - memory
                v += tl.load(local + own * width + at, mask=heard, other=0.0).to(tl.float32)
        rounded = v.to(total.dtype.element_ty)
        tl.store(total + place * width + at, rounded, mask=inside)
        v = rounded.to(tl.float32)
    if KIND:
        n = _norm(v, at, inside, width, gamma, beta, alpha, eps, KIND)
        if MODULATED:
            s = tl.load(normalized + (row * 6 + scale) * width + at, mask=inside, other=0.0)
            t = tl.load(normalized + (row * 6 + shift) * width + at, mask=inside, other=0.0)
            n = n * (1 + s.to(tl.float32)) + t.to(tl.float32)
        tl.store(normed + place * width + at, n.to(normed.dtype.element_ty), mask=inside)


@triton.jit
def _chosen(even, odd, at, is_odd):
    return tl.where(is_odd, tl.load(odd + at).to(tl.float32), tl.load(even + at).to(tl.float32))


@triton.jit
def _head_norm(
    part, at, square, is_odd, gamma, beta, alpha, gamma_odd, beta_odd, alpha_odd, eps,
    KIND: tl.constexpr,
):  # fmt: skip
    weight = _chosen(gamma, gamma_odd, at, is_odd)[None, :]
    if KIND == 1:
        return part * tl.rsqrt(square + eps)[:, None] * weight
    else:  # noqa: RET505
        slope = _chosen(alpha, alpha_odd, 0, is_odd)
        shift = _chosen(beta, beta_odd, at, is_odd)[None, :]
        return weight * (2 * tl.sigmoid(2 * slope * part) - 1) + shift


@triton.jit
def rotate(
    parts,
    cosines,
    sines,
    gamma,
    beta,
    alpha,
    gamma_odd,
    beta_odd,
    alpha_odd,
    eps,
    tokens,
    slots,
    heads,
    gap,
    KIND: tl.constexpr,
    ANGLES: tl.constexpr,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    REST: tl.constexpr,
):
    WIDTH: tl.constexpr = 2 * SIZE + REST
    place = tl.program_id(0).to(tl.int64)
    number = tl.program_id(1)
    is_odd = number % 2 == 1
    slot = number + tl.where(number >= 2, gap, 0)
    head = tl.arange(0, HEADS)[:, None]
    inside = head < heads
    at = tl.arange(0, SIZE)
    first_at = parts + ((place * slots + slot) * heads + head) * WIDTH + at[None, :]
    first = tl.load(first_at, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(first_at + SIZE, mask=inside, other=0.0).to(tl.float32)
    square = tl.sum(first * first, axis=1) + tl.sum(second * second, axis=1)
    if REST:
        rest_at = tl.arange(0, REST)
        rest_from = parts + ((place * slots + slot) * heads + head) * WIDTH
        rest_from += 2 * SIZE + rest_at[None, :]
        rest = tl.load(rest_from, mask=inside, other=0.0).to(tl.float32)
        square += tl.sum(rest * rest, axis=1)
    square = square / WIDTH
    first = _head_norm(first, at, square, is_odd, gamma, beta, alpha, gamma_odd, beta_odd,
                       alpha_odd, eps, KIND)  # fmt: skip
    second = _head_norm(second, at + SIZE, square, is_odd, gamma, beta, alpha, gamma_odd, beta_odd,
                        alpha_odd, eps, KIND)  # fmt: skip
    if ANGLES:
        position = place % tokens
        c = tl.load(cosines + position * SIZE + at)[None, :]
        s = tl.load(sines + position * SIZE + at)[None, :]
        turned = first * c - second * s
        second = second * c + first * s
        first = turned
    kind = parts.dtype.element_ty
    tl.store(first_at, first.to(kind), mask=inside)
    tl.store(first_at + SIZE, second.to(kind), mask=inside)
    if REST:
        rest = _head_norm(rest, rest_at + 2 * SIZE, square, is_odd, gamma, beta, alpha, gamma_odd,
                          beta_odd, alpha_odd, eps, KIND)  # fmt: skip
        tl.store(rest_from, rest.to(kind), mask=inside)


@triton.jit
def gated(x, out, width, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    kept = tl.load(x + place * 2 * width + at, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(x + (place * 2 + 1) * width + at, mask=inside, other=0.0).to(tl.float32)
    silenced = kept * gate * tl.sigmoid(gate)
    tl.store(out + place * width + at, silenced.to(out.dtype.element_ty), mask=inside)
