"""A package, so that another of this name among those installed (torch-fidelity brings one) is not taken for it."""
