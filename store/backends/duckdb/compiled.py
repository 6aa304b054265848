"""The one way kernels are compiled here: without the GIL, cached on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])


def compiled(function: _Kernel) -> _Kernel:
    """Compile at the first call with its types."""
    return cast(_Kernel, njit(cache=True, nogil=True)(function))
