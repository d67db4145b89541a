"""Measuring layers and models on the machine at hand: ``wattir measure`` and `wattir.measure`.

cases         the built-in list of layers; layer_list reads a user's own
meter         an energy counter, polled: nvml (NVIDIA), rapl (Intel, AMD), zeus (others); meters picks one
torch_bench   runs layers (torch_layers) in a metered window, models runs whole ones; simulated runs nothing
run           one case after the other into a sheet, going on where an earlier run ended
"""
