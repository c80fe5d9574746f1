"""The lab's guests: small, fast to start, and able to tell what happened to them."""

from twinship_lab.guests.accel import acceleration
from twinship_lab.guests.create import GuestSpec, NewDisk, create_guest
from twinship_lab.guests.micro import Load, MicroGuest, build
from twinship_lab.guests.rom import RomLoad
from twinship_lab.guests.xml import FileDisk, Firmware, micro_domain

__all__ = [
    "FileDisk",
    "Firmware",
    "GuestSpec",
    "Load",
    "MicroGuest",
    "NewDisk",
    "RomLoad",
    "acceleration",
    "build",
    "create_guest",
    "micro_domain",
]
