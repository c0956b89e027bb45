"""Eigenvalues, trace and spectral density of the Hessian and of the Gauss-Newton matrix."""
