"""Strides of views, as torch keeps them: whether a reshape or `contiguous` copies depends on them.

Strides are ints, for free dims at a sample value: only their pattern is asked for.
"""

from __future__ import annotations

from math import prod

Strides = tuple[int, ...]
Shape = tuple[int, ...]


def row_major(shape: Shape) -> Strides:
    """Strides of a contiguous tensor."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def is_contiguous(shape: Shape, strides: Strides) -> bool:
    """Whether the elements lie in row-major order without gaps; axes of one element do not matter."""
    if 0 in shape:
        return True
    expected = row_major(shape)
    return all(size == 1 or have == want for size, have, want in zip(shape, strides, expected, strict=True))


def is_dense(shape: Shape, strides: Strides) -> bool:
    """Whether the elements fill their memory in some order of the axes."""
    wide = sorted((stride, size) for size, stride in zip(shape, strides, strict=True) if size != 1)
    expected = 1
    for stride, size in wide:
        if stride != expected:
            return False
        expected *= size
    return True


def reshaped(shape: Shape, strides: Strides, target: Shape) -> Strides | None:
    """Strides of a reshape without a copy; None where it must copy.

    Runs of axes that are contiguous among themselves are matched with runs of the target's axes from the right.
    """
    if 0 in shape:
        return row_major(target)
    chunks = _chunks(shape, strides)
    found: list[int] = []
    chunk, left, step = len(chunks) - 1, chunks[-1][0] if chunks else 1, chunks[-1][1] if chunks else 1
    for size in reversed(target):
        while left == 1 and size != 1 and chunk > 0:
            chunk -= 1
            left, step = chunks[chunk]
        if left % size:
            return None
        found.append(step)
        left, step = left // size, step * size
    return tuple(reversed(found))


def _chunks(shape: Shape, strides: Strides) -> list[tuple[int, int]]:
    """Maximal runs of axes that behave as one: (elements, innermost stride) from left to right."""
    chunks: list[tuple[int, int]] = []
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size == 1:
            continue
        if chunks and stride == chunks[-1][1] * chunks[-1][0]:
            chunks[-1] = (chunks[-1][0] * size, chunks[-1][1])
        else:
            chunks.append((size, stride))
    return chunks[::-1]
