"""The fit of device files to measurements: ``wattir fit``.

run          the two ways to fit: known devices to measured sets (`plans`), one device to a user's own rows (`own_plan`)
datasets_*   one measured set each, as `Rows`: what every kernel asks for, and the seconds and joules measured
model        the very formula of `wattir.roofline`, compiled, over many rows
solve        robust least squares in log space for the coefficients of one device
cross_validate   the same with groups of rows left out whole: the error that the file states
write        the fitted tables into the device's TOML file
"""
