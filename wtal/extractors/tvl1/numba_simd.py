"""Sixteen parallel float32 for compiled kernels: loads, stores, arithmetic, and no order left to the compiler.

Inside numba's kernels a `Floats16` is LLVM's `<16 x float>`: one AVX-512 register, two of AVX, four of SSE or NEON.
Nothing is contracted or reordered, so a kernel returns the same bits on every processor with IEEE arithmetic. LLVM does
not vectorize loops over many arrays by itself, as it cannot rule out that they overlap.

Arrays are one-dimensional, float32 and contiguous; indices are not checked.
"""

import hashlib
import operator
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

Function = TypeVar("Function", bound=Callable[..., Any])
Vector = Any
"""A `Floats16`, for readers and type checkers: they exist only in kernels."""

LANES = 16
FLUSHES = platform.machine().lower() in ("x86_64", "amd64")
"""True if `flush_denormals` has any effect."""

SOURCES = tuple(Path(__file__).with_name(f"numba_{name}.py") for name in ("engine", "median", "simd"))
"""Files whose code is compiled into each other's kernels."""
SOURCES_DIGEST = hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()
"""Hex SHA-256 of `SOURCES`, part of the names of cached kernels."""

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INT = ir.IntType(32)
_FLUSH_BITS = 0x8040  # bits of MXCSR: flush denormal results to zero, treat denormal operands as zero


def kernel(function: Function) -> Function:
    """Compile on the first call, cache the machine code on disk, and run without the interpreter's lock.

    If no folder is writable, it is compiled in each process.
    """
    return _compiled(function)


def part(function: Function) -> Function:
    """Mark a piece of a kernel that is compiled into its callers."""
    return _compiled(function, forceinline=True)


def _compiled(function: Function, **options: Any) -> Function:
    options = {"nogil": True, "error_model": "numpy", **options}
    # numba looks up machine code by this name, as long as the function's own file is unchanged. Code compiled into it
    # from the other files must count as well.
    function.__qualname__ += f"_{SOURCES_DIGEST[:12]}"
    try:
        compiled: Function = njit(cache=True, **options)(function)
    except RuntimeError:
        compiled = njit(**options)(function)
    return compiled


def _builtin(function: Callable[..., Any]) -> Any:
    """Declare an intrinsic that LLVM does in one or a few instructions."""
    return intrinsic(function)


def _literal_builtin(function: Callable[..., Any]) -> Any:
    """Declare the same, with numbers in the call that are known when it is compiled."""
    return intrinsic(prefer_literal=True)(function)


class _Floats16(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Floats16")


FLOATS16 = _Floats16()


@register_model(_Floats16)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS)  # type: ignore[no-untyped-call]


@_builtin
def load(typing: Any, array: Any, index: Any) -> Any:
    """Load sixteen values of the array from index on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_address(context, builder, signature, arguments), align=4)

    return FLOATS16(array, index), generate


@_builtin
def store(typing: Any, array: Any, index: Any, values: Any) -> Any:
    """Store sixteen values into the array, from index on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _address(context, builder, signature, arguments), align=4)
        return context.get_dummy_value()

    return types.void(array, index, FLOATS16), generate


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    index = context.cast(builder, arguments[1], signature.args[1], types.intp)
    return builder.bitcast(builder.gep(array.data, [index]), _FLOATS.as_pointer())


@_builtin
def fill(typing: Any, value: Any) -> Any:
    """Repeat one float32 sixteen times."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        single = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), arguments[0], _INT(0))
        zeros = ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES)
        return builder.shuffle_vector(single, single, zeros)

    return FLOATS16(types.float32), generate


@_builtin
def lane(typing: Any, values: Any, number: Any) -> Any:
    """Return the value at a constant number among sixteen."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.extract_element(
            arguments[0], context.cast(builder, arguments[1], signature.args[1], types.int32)
        )

    return types.float32(FLOATS16, number), generate


@_literal_builtin
def fold(typing: Any, values: Any, width: Any) -> Any:
    """Fold sixteen values by a literal power of two: lane i sums the lanes i, i + width, i + 2 width, ..."""
    stop = width.literal_value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, distance = arguments[0], LANES // 2
        while distance >= stop:
            order = [(number + distance) % LANES for number in range(LANES)]
            moved = builder.shuffle_vector(total, total, ir.Constant(ir.VectorType(_INT, LANES), order))
            total, distance = builder.fadd(total, moved), distance // 2
        return total

    return FLOATS16(FLOATS16, width), generate


def _binary(build: Callable[[Any, Any, Any], Any]) -> Any:
    @_builtin
    def operation(typing: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return build(builder, *arguments)

        return FLOATS16(FLOATS16, FLOATS16), generate

    return operation


least = _binary(lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b))
most = _binary(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))


@_builtin
def root(typing: Any, values: Any) -> Any:
    """Return square roots, correctly rounded."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_FLOATS, [_FLOATS])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.sqrt.v{LANES}f32")
        return builder.call(function, arguments)

    return FLOATS16(FLOATS16), generate


def _operator(symbol: Callable[[Any, Any], Any], build: Callable[[Any, Any, Any], Any]) -> None:
    operation = _binary(build)

    @overload(symbol)
    def choose(left: Any, right: Any) -> Any:
        def apply(left: Any, right: Any) -> Any:
            return operation(left, right)

        return apply if isinstance(left, _Floats16) and isinstance(right, _Floats16) else None


_operator(operator.add, lambda builder, a, b: builder.fadd(a, b))
_operator(operator.sub, lambda builder, a, b: builder.fsub(a, b))
_operator(operator.mul, lambda builder, a, b: builder.fmul(a, b))
_operator(operator.truediv, lambda builder, a, b: builder.fdiv(a, b))


@_builtin
def flush_denormals(typing: Any) -> Any:
    """Flush numbers below 1e-38 to zero on this thread from now on; return the state before, for `restore`.

    Without effect on processors other than x86, where denormals cost no time.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if not FLUSHES:
            return _INT(0)
        before = _control(builder, "llvm.x86.sse.stmxcsr", None)
        _control(builder, "llvm.x86.sse.ldmxcsr", builder.or_(before, _INT(_FLUSH_BITS)))
        return before

    return types.int32(), generate


@_builtin
def restore(typing: Any, before: Any) -> Any:
    """Undo `flush_denormals`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if FLUSHES:
            _control(builder, "llvm.x86.sse.ldmxcsr", arguments[0])
        return context.get_dummy_value()

    return types.void(types.int32), generate


def _control(builder: Any, name: str, value: Any) -> Any:
    """Write the control word, or read it if the value is None."""
    slot = cgutils.alloca_once(builder, _INT)
    if value is not None:
        builder.store(value, slot)
    pointer = ir.PointerType(ir.IntType(8))
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), [pointer]), name)
    builder.call(function, [builder.bitcast(slot, pointer)])
    return builder.load(slot)
