"""Root, to whom file permissions do not apply, gives up that privilege."""

import ctypes
import os

CAPABILITY_VERSION_3 = 0x20080522


def obey_permissions() -> None:
    """Give up all capabilities of this process, if it is root's; the user stays the same."""
    if os.geteuid() == 0:
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
        nothing = (ctypes.c_uint32 * 6)()
        if ctypes.CDLL(None, use_errno=True).capset(header, nothing):
            raise OSError(ctypes.get_errno(), "capset")
