"""What can be known without reaching out: pure functions on frozen values.

Read in the order of the data: reference, descriptor, platform, manifest, select.
"""
