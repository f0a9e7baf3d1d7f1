"""Assay: one DVC pipeline that trains, calibrates, stacks and ships classifiers."""

import os

__version__ = "0.1.0"

# How OpenMP's threads wait for one another. By default they spin for milliseconds at the end of every loop, which takes
# the core from a thread that has work as soon as anything else runs: beside one busy process a training took nine times
# as long. The policy is the standard's own, for every runtime; GNU's alone is allowed a few microseconds, which it also
# takes by itself once it knows of more threads than cores. A runtime reads this when it is loaded, with torch, faiss or
# sklearn: so it stands here, before any of them. Results do not depend on it. Your own setting counts,
# and where you name a policy, nothing is added to it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
