"""Turning functions, arguments, values and exceptions into bytes and back.

The parts are in the modules below; what is named here is the field's usual face of serialization, for scripts and
plug-ins that use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowlib.serialize.facade import deserialize as deserialize
    from flowlib.serialize.facade import pack_apply_message as pack_apply_message
    from flowlib.serialize.facade import pack_buffers as pack_buffers
    from flowlib.serialize.facade import pack_res_spec_apply_message as pack_res_spec_apply_message
    from flowlib.serialize.facade import register_method_for_code as register_method_for_code
    from flowlib.serialize.facade import register_method_for_data as register_method_for_data
    from flowlib.serialize.facade import serialize as serialize
    from flowlib.serialize.facade import unpack_apply_message as unpack_apply_message
    from flowlib.serialize.facade import unpack_buffers as unpack_buffers
    from flowlib.serialize.facade import unpack_res_spec_apply_message as unpack_res_spec_apply_message
    from flowlib.serialize.importable import send_by_value as send_by_value

_FACADE = (
    "deserialize",
    "pack_apply_message",
    "pack_buffers",
    "pack_res_spec_apply_message",
    "register_method_for_code",
    "register_method_for_data",
    "serialize",
    "unpack_apply_message",
    "unpack_buffers",
    "unpack_res_spec_apply_message",
)

__all__ = [
    "deserialize",
    "pack_apply_message",
    "pack_buffers",
    "pack_res_spec_apply_message",
    "register_method_for_code",
    "register_method_for_data",
    "send_by_value",
    "serialize",
    "unpack_apply_message",
    "unpack_buffers",
    "unpack_res_spec_apply_message",
]


def __getattr__(name: str) -> Any:
    if name in _FACADE:
        from flowlib.serialize import facade

        return getattr(facade, name)
    if name == "send_by_value":
        from flowlib.serialize.importable import send_by_value

        return send_by_value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
