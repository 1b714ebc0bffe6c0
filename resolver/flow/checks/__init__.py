"""WHAT `doctor` LOOKS AT: one module per subject, one function per check; see `flow.doctor`."""
