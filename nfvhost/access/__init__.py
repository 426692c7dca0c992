"""The only doors to the outside: files, commands, the OVS database, time, udev."""
